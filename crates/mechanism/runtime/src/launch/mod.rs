//! One clone, from a plan to a running process.
//!
//! ```text
//! parent                                   child (PID 1 of the new namespaces)
//! prepare: open sources, devpts
//! spawn:   clone3 ------------------------> "0" into each v1 `tasks`, unshare cgroup
//!          id maps; "m" ------------------> join namespaces by path, time, become root of a user namespace
//! (network, through /proc/PID/ns/net)       steps: root, mounts, devices, masks …
//!          <------------------------ "h"    with hooks: before the change of the root
//!          prestart, createRuntime; "h" --> createContainer; the rest of the steps
//!          <------------------------ "r"    at the gate
//! release: "g" ---------------------------> startContainer; identity, seccomp, parent-death signal, execve
//!          <--------------- end of file     the socket is close-on-exec: the program runs
//!          <----------------- "e" {…}       or it does not, and this says why
//! ```
//!
//! docs/design/launch.md draws each variant: a gate at a socket, whose starter is another process; user namespaces and
//! namespaces by path, which take an intermediate process; exec. Whoever holds a [`Launch`] is the child's parent;
//! dropping it before [`Launch::release`] or [`Launch::leave`] closes the channel, and the child, finding nobody, exits.
//! Nothing here waits for the child's end: that is the supervisor's, or the caller's.

mod become_process;
mod bind;
mod cgroup_view;
mod child;
mod clocks;
mod copy_up;
mod device;
mod diagnose;
mod entered;
mod exec;
mod filesystem;
mod gate;
mod group_mount;
mod handles;
mod home;
pub mod hook;
mod identity;
mod idmap;
mod join;
mod label;
mod listener;
mod maps;
#[cfg(test)]
mod mount_tests;
mod mounting;
mod paths;
mod protect;
mod resolve;
mod root;
mod status;
mod step;
mod streams;
mod terminal;
mod trace;

pub use bind::open_root;
pub use exec::{ExecPlan, exec};
pub use filesystem::kernel_words;
pub use gate::{Gate, bind_gate, open_gate};
pub use group_mount::{CgroupMount, cgroup_mounts};
pub use handles::{CgroupHandles, Prepared, Terminal, clone_mount, null_device, prepare};
pub use identity::raise_ceilings;
pub use idmap::{id_map_namespace, map_ids_with};
pub use join::foreign_namespaces;
pub use listener::{Listener, UNDELIVERED};
pub use protect::{Protection, check_preserved, let_go_of_executable, protect_executable, reexecute_protected};
pub use resolve::{in_root, mkdir_in_root};
pub use status::{Said, parse};
pub use terminal::{open_terminal_in, plain_newlines, set_size};
pub use trace::{Actor, Form, Mark, Point, Span, Trace, Waterfall};

use crate::defence::{Defence, stands};
use crate::plan::LaunchPlan;
use hook::ContainerState;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, waitid};
use status::Channel;
use std::convert::Infallible;
use tare_kernel::process::{Child, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Error, Result};

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
    /// To be moved in at the rendezvous.
    net_devices: Vec<crate::net_device::Device>,
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
        self.wait_ready_with(|| Ok(()))
    }

    /// As [`Launch::wait_ready`]; `hooks` is run while the child stands before the change of its root, everything
    /// mounted: the place of prestart and createRuntime. Not called for a plan without hooks.
    ///
    /// # Errors
    /// As [`Launch::wait_ready`], and what `hooks` returns; the child has ended then.
    pub fn wait_ready_with(&mut self, hooks: impl FnOnce() -> Result<()>) -> Result<()> {
        let pid = self.pid();
        let devices = std::mem::take(&mut self.net_devices);
        let ready = self.channel.wait_ready(pid, &mut self.warnings, || {
            crate::net_device::move_all_to_process(&devices, pid)?;
            hooks()
        });
        ready.inspect_err(|_| self.end())
    }

    /// Opens the gate and waits until the program runs.
    ///
    /// # Errors
    /// As [`Launch::wait_ready`], and `Kind::CommandNotFound` or `Kind::CommandNotExecutable` with what is wrong.
    pub fn release(mut self) -> Result<Running> {
        let pid = self.pid();
        if let Err(e) = self.channel.release(pid, &mut self.warnings) {
            self.end();
            return Err(e);
        }
        Ok(self.into_running())
    }

    /// Ends a child that has failed, and reaps it: nobody else will, and as long as it is there, so is whatever it joined.
    fn end(&self) {
        // Mostly it has ended by itself. It has not when a hook failed or its notify descriptor could not be delivered.
        let _ = tare_kernel::process::pidfd_signal(self.child.pidfd.as_fd(), 9);
        let reap = || waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
        while matches!(reap(), Err(rustix::io::Errno::INTR)) {}
    }

    /// Leaves the child waiting at its socket ([`Gate::Socket`]), where [`open_gate`] finds it. Only after
    /// [`Launch::wait_ready`]: before, it would take the creator for dead.
    pub fn leave(self) -> Running {
        self.into_running()
    }

    fn into_running(self) -> Running {
        Running { pid: self.child.pid.as_raw_nonzero().get(), pidfd: self.child.pidfd, warnings: self.warnings }
    }
}

/// What the child is given besides its plan and its mounts.
#[derive(Debug, Default)]
pub struct Equipment {
    /// Its standard streams; `None` leaves it the caller's. Ignored with a terminal.
    pub stdio: Option<Stdio>,
    /// Its groups.
    pub cgroup: CgroupHandles,
    /// Who may start it.
    pub gate: Gate,
    /// What hooks in the child are told; needed only with such hooks.
    pub state: Option<ContainerState>,
    /// Where its steps are recorded; those of the clone as of whoever this is.
    pub trace: Trace,
}

/// A program that runs, or a child that was left waiting.
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
/// If a namespace to join cannot be opened or is another than was said, or the clone fails.
pub fn spawn(plan: &LaunchPlan, prepared: Prepared, equipment: Equipment) -> Result<Launch> {
    let Equipment { stdio, cgroup, gate, state, trace } = equipment;
    let in_child = trace.by(Actor::Child);
    let (channel, child_end) = status::pair(plan.has_rendezvous())?;
    let become_ = become_process::Become::new(&plan.process)?;
    let joined = join::open(&plan.namespaces)?;
    // The cgroup namespace is made by the child, once it stands in its groups: its root would be wrong otherwise. The time
    // namespace, too: its offsets would be fixed.
    let create = plan.namespaces.create.iter().fold(Namespaces::NONE, |set, kind| set.with(bit(*kind)));
    let create = create.without(Namespaces::CGROUP.with(Namespaces::TIME));
    let through = plan.namespaces.has(NamespaceKind::User) && !joined.is_empty();
    let unified = cgroup.unified.as_ref().map(AsFd::as_fd);
    let parent_end = channel.raw();
    trace.point(Mark::PrepareClone);
    let run = || {
        let inputs = child::Inputs {
            plan,
            prepared: &prepared,
            stdio: stdio.as_ref(),
            attach: &cgroup.attach,
            joined: if through { &[] } else { &joined },
            become_: &become_,
            gate: &gate,
            state: state.as_ref(),
            trace: &in_child,
        };
        child::run(&inputs, child_end, parent_end)
    };
    let child = if through {
        join::clone_through(&joined, create, unified, &trace, run)?
    } else {
        join::clone_directly(&joined, create, unified, run)?
    };
    trace.point(if through { Mark::CloneThrough } else { Mark::Clone });
    let net_devices = plan.net_devices.clone();
    let launch = Launch { child, channel, net_devices, warnings: Vec::new() };
    if plan.namespaces.has(NamespaceKind::User) {
        settle_user_namespace(plan, &launch).inspect_err(|_| launch.end())?;
        trace.point(Mark::IdMaps);
    }
    Ok(launch)
}

/// What only the parent can do for a child in a user namespace.
fn settle_user_namespace(plan: &LaunchPlan, launch: &Launch) -> Result<()> {
    let pid = launch.pid();
    identity::raise_ceilings(pid, &plan.process.rlimits)?;
    match &plan.namespaces.ids {
        _ if plan.namespaces.creates(NamespaceKind::User) => map_ids(plan, launch),
        Some(maps) => maps::compare(pid, maps),
        None => Ok(()),
    }
}

/// What only the parent can do for a child in a new user namespace.
fn map_ids(plan: &LaunchPlan, launch: &Launch) -> Result<()> {
    if let Some(maps) = &plan.namespaces.ids {
        maps::write(launch.pid(), maps)?;
    }
    for step in &plan.steps {
        if let crate::plan::Step::OomScoreAdj(adj) = step {
            // The child's own try says what is wrong, if anything is.
            let _ = maps::write_file(launch.pid(), "oom_score_adj", &adj.to_string());
        }
    }
    launch.channel.mapped()
}

/// Clones a child that nobody may look into while it still is tare, with tare's memory and descriptors: not even in its
/// first moment, since a container may be able to see it from its birth on. Executing ends that.
fn clone_hidden(
    create: Namespaces,
    unified: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> std::io::Result<Child> {
    if !stands(Defence::Hidden) {
        return tare_kernel::process::clone(create, unified, child);
    }
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

#[cfg(test)]
mod kernel_tests;
