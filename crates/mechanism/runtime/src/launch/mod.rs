//! One clone, from a plan to a running process.
//!
//! ```text
//! parent                                   child (PID 1 of the new namespaces)
//! prepare: open bind sources, devpts
//! spawn:   clone3 ------------------------> write "0" to each v1 `tasks`, unshare cgroup
//! (network, through /proc/PID/ns/net)       join namespaces given by path
//!                                           steps: root, mounts, devices, masks …
//!          <-------------------- {"ready"}  at the gate
//! release: "go" --------------------------> identity, seccomp, parent-death signal, execve
//!          <--------------- end of file     the socket is close-on-exec: the program runs
//!          <------------ {"error": …}       or it does not, and this says why
//! ```
//!
//! The status socket carries one JSON object a line. Whoever holds a [`Launch`] is the child's parent; dropping it
//! before [`Launch::release`] closes the socket, and the child, finding nobody, exits. Nothing here waits for the
//! child's end: that is the supervisor's.

mod become_process;
mod child;
mod diagnose;
mod exec;
mod handles;
mod home;
mod identity;
mod label;
mod listener;
mod resolve;
mod status;
mod step;

pub use exec::{ExecPlan, exec};
pub use handles::{
    CgroupHandles, CgroupMount, Prepared, Terminal, cgroup_mounts, clone_mount, kernel_words, null_device, prepare,
};
pub use identity::raise_ceilings;
pub use listener::Listener;
pub use resolve::{in_root, mkdir_in_root};

use crate::plan::LaunchPlan;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::DumpableBehavior;
use status::Channel;
use std::convert::Infallible;
use tare_kernel::process::{Child, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Result};

/// What the process gets as descriptors 0, 1 and 2; ignored when it has a terminal.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A child on its way: it performs its steps and then waits at the gate.
#[derive(Debug)]
pub struct Launch {
    child: Child,
    channel: Channel,
    /// What could not be had as asked, in words.
    pub warnings: Vec<String>,
}

impl Launch {
    /// The child's id in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    /// The child's descriptor.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Where the notify descriptor of the plan's filter goes: to be said before [`Launch::release`].
    pub fn set_listener(&mut self, listener: Listener) {
        self.channel.listener = Some(listener);
    }

    /// Waits until the child stands at the gate.
    ///
    /// # Errors
    /// What the child reports: the step that failed and why.
    pub fn wait_ready(&mut self) -> Result<()> {
        self.channel.wait_ready(&mut self.warnings)
    }

    /// Opens the gate and waits until the program runs.
    ///
    /// # Errors
    /// As [`Launch::wait_ready`], and `Kind::CommandNotFound` or `Kind::CommandNotExecutable` with what is wrong.
    pub fn release(mut self) -> Result<Running> {
        if let Err(e) = self.channel.release(&mut self.warnings) {
            // Mostly it has ended by itself. It has not when only its notify descriptor could not be delivered.
            let _ = tare_kernel::process::pidfd_signal(self.child.pidfd.as_fd(), 9);
            return Err(e);
        }
        Ok(Running { pid: self.child.pid.as_raw_nonzero().get(), pidfd: self.child.pidfd, warnings: self.warnings })
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    /// Its id in the caller's PID namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// What could not be had as asked, in words.
    pub warnings: Vec<String>,
}

/// Clones the child. The caller must have one thread, and is the child's parent from now on.
///
/// # Errors
/// If a namespace to join cannot be opened, or the clone fails.
pub fn spawn(plan: &LaunchPlan, prepared: Prepared, stdio: Option<Stdio>, cgroup: CgroupHandles) -> Result<Launch> {
    let (channel, child_end) = status::pair()?;
    let become_ = become_process::Become::new(&plan.process)?;
    let joined = plan
        .join
        .iter()
        .map(|(kind, path)| {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
                .map_err(|e| Error::io("open namespace", path.display(), e))?;
            Ok((*kind, fd))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut create = Namespaces::NONE;
    for kind in &plan.create {
        // The cgroup namespace is made by the child, once it stands in its groups: its root would be wrong otherwise.
        if *kind != NamespaceKind::Cgroup {
            create = create.with(bit(*kind));
        }
    }
    // A PID namespace is entered by being born in it.
    let own_pid_ns = match joined.iter().find(|(k, _)| *k == NamespaceKind::Pid) {
        Some((_, fd)) => {
            let own = open_own_pid_ns()?;
            tare_kernel::process::setns(fd.as_fd(), Namespaces::PID).during("join pid namespace", "")?;
            Some(own)
        }
        None => None,
    };
    let unified = cgroup.unified.as_ref().map(AsFd::as_fd);
    let parent_end = channel.raw();
    let child = clone_hidden(create, unified, || {
        let inputs = child::Inputs {
            plan,
            prepared: &prepared,
            stdio: stdio.as_ref(),
            attach: &cgroup.attach,
            joined: &joined,
            become_: &become_,
        };
        child::run(&inputs, child_end.as_fd(), parent_end)
    });
    if let Some(own) = own_pid_ns {
        tare_kernel::process::setns(own.as_fd(), Namespaces::PID).during("return to own pid namespace", "")?;
    }
    let child = child.during("clone", "the container's first process")?;
    Ok(Launch { child, channel, warnings: Vec::new() })
}

/// Clones a child that nobody may look into while it still is tare, with tare's memory and descriptors: not even in its
/// first moment, since a container may be able to see it from its birth on. Executing ends that.
fn clone_hidden(
    create: Namespaces,
    unified: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> std::io::Result<Child> {
    let was = rustix::process::dumpable_behavior()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let cloned = tare_kernel::process::clone(create, unified, child);
    if was == DumpableBehavior::Dumpable {
        rustix::process::set_dumpable_behavior(was)?;
    }
    cloned
}

fn open_own_pid_ns() -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/ns/pid", flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::io("open", "/proc/self/ns/pid", e))
}

pub(crate) fn bit(kind: NamespaceKind) -> Namespaces {
    match kind {
        NamespaceKind::Pid => Namespaces::PID,
        NamespaceKind::Network => Namespaces::NETWORK,
        NamespaceKind::Mount => Namespaces::MOUNT,
        NamespaceKind::Ipc => Namespaces::IPC,
        NamespaceKind::Uts => Namespaces::UTS,
        NamespaceKind::User => Namespaces::USER,
        NamespaceKind::Cgroup => Namespaces::CGROUP,
        NamespaceKind::Time => Namespaces::TIME,
    }
}
