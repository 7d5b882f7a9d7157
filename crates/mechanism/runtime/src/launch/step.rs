//! Each step of the plan, done in the child.

use super::handles::{Prepared, clone_tree, new_filesystem};
use super::resolve::{in_root, in_root_with, mkdir_in_root, mount_point, split};
use super::status::Reporter;
use crate::plan::{Enter, MountPlan, RootPlace, Source, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use std::collections::BTreeMap;
use tare_kernel::mount::{Attributes, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY};
use tare_model::runtime_spec::LinuxDevice;
use tare_model::{Context, Error, Kind, Result};

/// What earlier steps left for later ones.
pub(super) struct Stage<'a> {
    prepared: &'a Prepared,
    reporter: Reporter<'a>,
    /// The new root, once entered.
    root: Option<OwnedFd>,
    /// The host's root directory, until let go.
    host: Option<OwnedFd>,
    /// The proc mount made here: the only way by which parameters are written.
    proc: Option<OwnedFd>,
    /// How many mount steps are done.
    mounted: usize,
}

impl<'a> Stage<'a> {
    pub(super) fn new(prepared: &'a Prepared, reporter: Reporter<'a>) -> Self {
        Stage { prepared, reporter, root: None, host: None, proc: None, mounted: 0 }
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
            Step::Devices(devices) => {
                devices.iter().try_for_each(|d| self.device(d)).and_then(|()| self.device_links())
            }
            Step::Console => self.console(),
            Step::DetachHost => self.detach_host(),
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
            Step::RootPropagation { flag, recursive } => {
                let attributes = Attributes { propagation: *flag, ..Default::default() };
                tare_kernel::mount::set_attributes(self.root()?, c"", attributes, *recursive)
                    .during("set propagation of", "/")
            }
        }
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
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

    fn mount(&mut self, plan: &MountPlan) -> Result<()> {
        let ready = self.prepared.mounts.get(self.mounted).and_then(Option::as_ref);
        self.mounted += 1;
        match (&plan.source, ready) {
            (Source::Cgroup, _) => self.mount_cgroups(plan),
            (_, Some(tree)) => {
                let directory = is_directory(tree)?;
                self.place(tree, &plan.target, directory, ResolveFlags::empty())
            }
            (Source::Filesystem { kind, name, options }, None) => {
                let tree = new_filesystem(kind, name, options, plan.set)?;
                // What is written below /proc and /sys must be the kernel's, never a link of the image's choice.
                let proc_or_sys = matches!(kind.as_str(), "proc" | "sysfs");
                let more = if proc_or_sys { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
                self.place(&tree, &plan.target, true, more)?;
                if let Some((propagation, recursive)) = plan.propagation {
                    let attributes = Attributes { propagation, ..Default::default() };
                    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, recursive)
                        .during("set propagation of", &plan.target)?;
                }
                if kind == "proc" {
                    self.proc = Some(tree);
                }
                Ok(())
            }
            (Source::Bind(bind), None) => {
                Err(Error::new(Kind::Invalid, "mount", &plan.target).because(format!("{:?} was not opened", bind.path)))
            }
        }
    }

    /// Moves a detached mount to a path inside the root.
    fn place(&self, tree: &OwnedFd, target: &str, directory: bool, more: ResolveFlags) -> Result<()> {
        let point = mount_point(self.root()?, target, directory, more)?;
        // Whoever names a file of /proc means it. A link of the image's that leads there would have its own files taken
        // for the kernel's (CVE-2019-19921).
        let in_proc = target == "/proc" || target.starts_with("/proc/");
        if !in_proc && rustix::fs::fstatfs(&point).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC) {
            return Err(Error::new(Kind::Denied, "mount", target).because("the path leads into /proc"));
        }
        attach(tree, point.as_fd(), "").map_err(|e| match e {
            Errno::NOTDIR => {
                Error::io("mount", target, e).because("a file cannot be mounted on a directory, or the other way round")
            }
            e => Error::io("mount", target, e),
        })
    }

    fn mount_cgroups(&self, plan: &MountPlan) -> Result<()> {
        let set = |tree: &OwnedFd, bits| {
            let attributes = Attributes { set: bits, propagation: PRIVATE, ..Default::default() };
            tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false).during("mount", &plan.target)
        };
        let groups = &self.prepared.cgroup_mounts;
        if let [only] = groups.as_slice()
            && only.name.is_empty()
        {
            set(&only.tree, plan.set)?;
            return self.place(&only.tree, &plan.target, true, ResolveFlags::NO_SYMLINKS);
        }
        let options = ["mode=755".to_owned()];
        let base = new_filesystem("tmpfs", "cgroup", &options, NOSUID | NODEV | NOEXEC)?;
        self.place(&base, &plan.target, true, ResolveFlags::NO_SYMLINKS)?;
        let fail = |e| Error::io("mount", &plan.target, e);
        for group in groups {
            set(&group.tree, plan.set)?;
            rustix::fs::mkdirat(&base, group.name.as_str(), Mode::from_raw_mode(0o755)).map_err(fail)?;
            let point = in_root(&base, &group.name, OFlags::PATH).map_err(fail)?;
            attach(&group.tree, point.as_fd(), "").map_err(fail)?;
            for link in &group.links {
                rustix::fs::symlinkat(group.name.as_str(), &base, link.as_str()).map_err(fail)?;
            }
        }
        if plan.set & RDONLY != 0 { set(&base, RDONLY) } else { Ok(()) }
    }

    fn device(&self, d: &LinuxDevice) -> Result<()> {
        let fail = |e| Error::io("make device", &d.path, e);
        let kind = match d.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            other => {
                return Err(Error::new(Kind::Invalid, "make device", &d.path)
                    .because(format!("type {other:?} is none of c, b, u, p")));
            }
        };
        let (dir, name) = split(&d.path);
        let parent = mkdir_in_root(self.root()?, dir)?;
        let number = |n: i64| u32::try_from(n).map_err(|_| Error::new(Kind::Invalid, "make device", &d.path));
        let (major, minor) = if kind == FileType::Fifo { (0, 0) } else { (number(d.major)?, number(d.minor)?) };
        // The umask is 0 here: the mode is what was asked for.
        let mode = Mode::from_raw_mode(d.file_mode.unwrap_or(0o666) & 0o7777);
        match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(major, minor)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        if d.uid.unwrap_or(0) != 0 || d.gid.unwrap_or(0) != 0 {
            let (uid, gid) = (Uid::from_raw(d.uid.unwrap_or(0)), Gid::from_raw(d.gid.unwrap_or(0)));
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map_err(fail)?;
        }
        Ok(())
    }

    fn device_links(&self) -> Result<()> {
        let dev = mkdir_in_root(self.root()?, "/dev")?;
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("core", "/proc/kcore"),
            ("ptmx", "pts/ptmx"),
        ] {
            match rustix::fs::symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::io("make link", format!("/dev/{name}"), e)),
            }
        }
        Ok(())
    }

    fn console(&self) -> Result<()> {
        let Some(terminal) = &self.prepared.terminal else { return Ok(()) };
        let tree = clone_tree(&terminal.slave, "", false).map_err(|e| Error::io("bind", "/dev/console", e))?;
        self.place(&tree, "/dev/console", false, ResolveFlags::NO_SYMLINKS)
    }

    fn sysctls(&self, sysctls: &BTreeMap<String, String>) -> Result<()> {
        let Some(proc) = &self.proc else {
            return Err(Error::new(Kind::Invalid, "set sysctl", "").because("the container has no proc mount"));
        };
        for (key, value) in sysctls {
            // As sysctl(8): dots separate, unless slashes do, which leaves dots for names of devices.
            let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
            let more = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let file = in_root_with(proc, &format!("sys/{path}"), OFlags::WRONLY, more).map_err(|e| {
                let error = Error::io("set sysctl", key, e);
                if e == Errno::NOENT { error.hint("this kernel has no such parameter") } else { error }
            })?;
            rustix::io::write(file, value.as_bytes())
                .map_err(|e| Error::io("set sysctl", format!("{key}={value}"), e))?;
        }
        Ok(())
    }

    fn readonly_path(&self, path: &str) -> Result<()> {
        let fail = |e: Errno| Error::io("make read-only", path, e);
        let point = match in_root(self.root()?, path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        let tree = clone_tree(&point, "", true).map_err(fail)?;
        let attributes = Attributes { set: RDONLY, propagation: PRIVATE, ..Default::default() };
        tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, true).during("make read-only", path)?;
        attach(&tree, point.as_fd(), "").map_err(fail)
    }

    /// Files are covered by this container's own null device, directories by one empty read-only directory.
    fn masked_paths(&self, paths: &[String]) -> Result<()> {
        let null = in_root_with(self.root()?, "/dev/null", OFlags::PATH, ResolveFlags::NO_SYMLINKS)
            .map_err(|e| Error::io("open", "/dev/null", e))?;
        let device = rustix::fs::fstat(&null).map_err(|e| Error::io("look at", "/dev/null", e))?;
        if device.st_rdev != rustix::fs::makedev(1, 3)
            || FileType::from_raw_mode(device.st_mode) != FileType::CharacterDevice
        {
            return Err(Error::new(Kind::Denied, "mask paths", "").because("/dev/null is not the null device"));
        }
        let mut empty = None;
        for path in paths {
            let fail = |e: Errno| Error::io("mask", path, e);
            let point = match in_root(self.root()?, path, OFlags::PATH) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(fail(e)),
            };
            let tree = if is_directory(&point)? {
                let source = match empty.take() {
                    Some(fd) => fd,
                    None => new_filesystem("tmpfs", "tmpfs", &["nr_blocks=1".into(), "nr_inodes=1".into()], RDONLY)?,
                };
                let copy = clone_tree(&source, "", false);
                empty = Some(source);
                match copy {
                    Ok(tree) => tree,
                    // Kernels before 6.15 do not copy a detached mount: the source itself is used up.
                    Err(Errno::INVAL) => empty.take().expect("it was put there just before"),
                    Err(e) => return Err(fail(e)),
                }
            } else {
                clone_tree(&null, "", false).map_err(fail)?
            };
            attach(&tree, point.as_fd(), "").map_err(fail)?;
        }
        Ok(())
    }
}

fn isolate() -> Result<()> {
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tare_kernel::mount::cwd(), c"/", attributes, true).during("isolate", "mounts")
}

fn attach(tree: &OwnedFd, to: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(tree, "", to, path, flags)
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::io("look at", "mount", e))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
