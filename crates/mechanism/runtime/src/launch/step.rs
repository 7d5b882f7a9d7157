//! Each step of the plan, done in the child.

use super::handles::Prepared;
use super::resolve::mkdir_in_root;
use super::status::Reporter;
use crate::defence::{Defence, stands};
use crate::plan::{Enter, RootPlace, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_kernel::mount::{Attributes, PRIVATE, RDONLY};
use tare_model::{Context, Error, Kind, Result};

/// What earlier steps left for later ones.
pub(super) struct Stage<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) reporter: Reporter<'a>,
    /// Whether the container has a user namespace that is not the caller's.
    pub(super) in_user_namespace: bool,
    /// The new root, once entered.
    root: Option<OwnedFd>,
    /// The host's root directory, until let go.
    host: Option<OwnedFd>,
    /// A proc mount made here through which parameters can be written: the only way.
    pub(super) proc: Option<OwnedFd>,
    /// How many mount steps are done.
    pub(super) mounted: usize,
    /// Mounts that become read-only once everything below them is made.
    pub(super) to_seal: Vec<OwnedFd>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(prepared: &'a Prepared, reporter: Reporter<'a>, in_user_namespace: bool) -> Self {
        let (root, host, proc) = (None, None, None);
        Stage { prepared, reporter, in_user_namespace, root, host, proc, mounted: 0, to_seal: Vec::new() }
    }

    pub(super) fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::OomScoreAdj(adj) => self.oom_score_adj(*adj),
            Step::IsolateMounts => isolate(),
            Step::AttachRoot(at) => self.attach_root(at),
            // Done by the child itself: see super::child.
            Step::Rendezvous | Step::ContainerHooks(_) => Ok(()),
            Step::EnterRoot(how) => self.enter_root(*how),
            Step::Mount(plan) => self.mount(plan),
            Step::Devices(devices) => self.devices(devices),
            Step::Console => self.console(),
            Step::SealMounts => self.seal_mounts(),
            Step::DetachHost if stands(Defence::OldRoot) => self.detach_host(),
            Step::DetachHost => Ok(()),
            // Whoever trusts the path does not look for it either.
            Step::WorkingDirectory(_) if !stands(Defence::WorkingDirectory) => Ok(()),
            Step::WorkingDirectory(path) => {
                mkdir_in_root(self.root()?, path).map(drop).during("make working directory", path)
            }
            Step::Hostname(name) => {
                rustix::system::sethostname(name.as_bytes()).map_err(|e| Error::io("set host name", name, e))
            }
            Step::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).map_err(|e| Error::io("set domain name", name, e))
            }
            Step::Sysctls(sysctls) => self.sysctls(sysctls),
            Step::ReadonlyPaths(paths) => paths.iter().try_for_each(|p| self.readonly_path(p)),
            Step::MaskedPaths(paths) => self.masked_paths(paths),
            Step::ReadonlyRoot => {
                let attributes = Attributes { set: RDONLY, ..Default::default() };
                tare_kernel::mount::set_attributes(self.root()?, c"", attributes, false).during("make read-only", "/")
            }
            Step::Loopback => crate::net_device::loopback_up(),
            Step::PropagationBelowRoot { flag } => {
                let set = |propagation, recursive| {
                    let attributes = Attributes { propagation, ..Default::default() };
                    tare_kernel::mount::set_attributes(self.root()?, c"", attributes, recursive)
                        .during("set propagation below", "/")
                };
                // The root itself has its turn when it is entered: pivot_root(2) takes no shared one.
                set(*flag, true).and_then(|()| set(PRIVATE, false))
            }
            Step::RootPropagation { flag, recursive } => {
                let attributes = Attributes { propagation: *flag, ..Default::default() };
                tare_kernel::mount::set_attributes(self.root()?, c"", attributes, *recursive)
                    .during("set propagation of", "/")
            }
        }
    }

    pub(super) fn root(&self) -> Result<BorrowedFd<'_>> {
        let missing = || Error::new(Kind::Invalid, "start container", "").because("a step came before the root");
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    }

    fn oom_score_adj(&self, adj: i32) -> Result<()> {
        let path = "/proc/self/oom_score_adj";
        let write = |value: i32| {
            let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(file, value.to_string().as_bytes())
        };
        match write(adj) {
            Ok(_) => Ok(()),
            // Lowering it needs CAP_SYS_RESOURCE, which root may lack: the lowest that is allowed is what it has.
            Err(Errno::ACCESS | Errno::PERM) => {
                self.reporter.warn(format!("oom-score-adj {adj} was not set: lowering it needs CAP_SYS_RESOURCE"));
                Ok(())
            }
            Err(e) => Err(Error::io("set oom-score-adj", adj, e)),
        }
    }

    /// From here on, paths inside are resolved beneath the root.
    fn attach_root(&mut self, at: &RootPlace) -> Result<()> {
        let root = &self.prepared.root;
        super::root::attach(root, at)?;
        self.root = Some(root.try_clone().during("open", "root filesystem")?);
        Ok(())
    }

    fn enter_root(&mut self, how: Enter) -> Result<()> {
        self.host = super::root::enter(&self.prepared.root, how)?;
        Ok(())
    }

    fn detach_host(&mut self) -> Result<()> {
        self.host.take().map_or(Ok(()), |host| super::root::detach_host(&host))
    }
}

fn isolate() -> Result<()> {
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tare_kernel::mount::cwd(), c"/", attributes, true)
        .during("isolate", "mounts")?;
    super::protect::stow_away();
    Ok(())
}
