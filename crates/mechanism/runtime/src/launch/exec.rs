//! A further process in a running container: join its namespaces and groups, then become the program.
//!
//! From its birth in the container's PID namespace on, the process can be seen from inside. It is hidden (not dumpable),
//! but not from one who may trace others (CAP_SYS_PTRACE). Hence an intermediate, which nobody inside can see, joins
//! everything else and closes all descriptors, and then clones the process as the caller's child: already at its birth
//! its root is the container's, and nothing of the host is open in it. The container is not asked whether it has such a
//! one: its first process can give the capability up, or move to a user namespace of its own, while others keep it.

use super::become_process::Become;
use super::child::{give_up, join_cgroups};
use super::status::{self, Reporter, Said};
use super::streams::replace_stdio;
use super::trace::{Actor, Mark, Trace};
use super::{CgroupHandles, Launch, Stdio, join};
use crate::defence::{Defence, stands};
use crate::plan::ProcessPlan;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::convert::Infallible;
use tare_kernel::process::{self, Child, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Kind, Result};

/// What to run, and which of the container's namespaces differ from ours.
#[derive(Debug, Clone)]
pub struct ExecPlan {
    /// The process.
    pub process: ProcessPlan,
    /// Namespaces to join; those shared with the caller are left out (joining one's own user namespace fails).
    pub namespaces: Vec<NamespaceKind>,
}

/// Clones a process into the namespaces of `target`, the container's first process.
///
/// `terminal`: the slave side of a terminal of the container's devpts, instead of `stdio`. `trace`: where the steps of all
/// who take part are recorded.
///
/// # Errors
/// If a namespace cannot be joined; from [`Launch::release`], if the program cannot be executed.
pub fn exec(
    plan: &ExecPlan,
    target: BorrowedFd<'_>,
    stdio: Option<Stdio>,
    terminal: Option<OwnedFd>,
    cgroup: CgroupHandles,
    trace: &Trace,
) -> Result<Launch> {
    let (in_between, in_child) = (trace.by(Actor::Intermediate), trace.by(Actor::Child));
    let (channel, child_end) = status::pair(false)?;
    let become_ = Become::new(&plan.process)?;
    let joins_pid = plan.namespaces.contains(&NamespaceKind::Pid);
    let rest = plan
        .namespaces
        .iter()
        .filter(|k| **k != NamespaceKind::Pid)
        .fold(Namespaces::NONE, |set, kind| set.with(super::bit(*kind)));
    let chroot =
        if rest.contains(Namespaces::MOUNT) || !stands(Defence::OldRoot) { None } else { Some(root_of(target)?) };
    let joining = Joining { target, rest, chroot, stdio: stdio.as_ref(), terminal: terminal.as_ref() };
    let parent_end = channel.raw();
    let unified = cgroup.unified.as_ref().map(AsFd::as_fd);
    let status = child_end.as_fd();
    trace.point(Mark::PrepareClone);
    // The groups of v1 are joined by the process itself, which their limits let in whatever they are; a clone they may not.
    let run = |first: &dyn Fn() -> Result<()>| {
        begin(&become_, Reporter(status), &in_child, terminal.is_some(), || {
            join_cgroups(&cgroup.attach)?;
            in_child.point(Mark::JoinCgroups);
            first()
        })
    };
    let join = |trace: &Trace| {
        process::reset_signals();
        become_.bind_first()?;
        joining.enter()?;
        joining.set_stdio()?;
        trace.point(Mark::JoinContainer);
        Ok(())
    };
    let through = joins_pid && stands(Defence::BornInside);
    let child = if through {
        let prepare = |socket: BorrowedFd<'_>| {
            in_between.point(Mark::Born);
            drop(process::adopt(parent_end));
            process::forget_environment();
            process::setns(target, Namespaces::PID).during("join", "the container's pid namespace")?;
            join(&in_between)?;
            if !stands(Defence::Descriptors) {
                return Ok(());
            }
            let keep: Vec<_> = [status, socket].into_iter().chain(cgroup.attach.iter().map(AsFd::as_fd)).collect();
            process::close_all_but(3 + plan.process.preserve_fds, &keep).during("close", "descriptors")?;
            in_between.point(Mark::AtGate);
            Ok(())
        };
        join::through_intermediate(unified, prepare, Namespaces::NONE, None, || run(&|| Ok(())))?
    } else {
        let child = || {
            drop(process::adopt(parent_end));
            run(&|| join(&in_child))
        };
        clone_into_pid_namespace(target, joins_pid, unified, child)?
    };
    trace.point(if through { Mark::CloneThrough } else { Mark::Clone });
    let launch = Launch { child, channel, net_devices: Vec::new(), warnings: Vec::new() };
    if rest.contains(Namespaces::USER) {
        super::identity::raise_ceilings(launch.pid(), &plan.process.rlimits)?;
    }
    Ok(launch)
}

/// The root directory of a process.
fn root_of(target: BorrowedFd<'_>) -> Result<OwnedFd> {
    let gone = || Error::new(Kind::State, "join", "the container's root").because("its first process has ended");
    let info = format!("/proc/self/fdinfo/{}", target.as_raw_fd());
    let info = std::fs::read_to_string(&info).map_err(|e| Error::io("read", info, e))?;
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).map(str::trim).ok_or_else(gone)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
        .map_err(|e| Error::io("open", "the container's root", e))?;
    // Alive still, so the number was its own all the while.
    process::pidfd_signal(target, 0).map_err(|_| gone())?;
    Ok(root)
}

/// Clones as the caller is, but for the PID namespace, which applies to the children of whoever joins it.
fn clone_into_pid_namespace(
    target: BorrowedFd<'_>,
    joins_pid: bool,
    unified: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> Result<Child> {
    let own = if joins_pid { Some(super::open_own_pid_ns()?) } else { None };
    if joins_pid {
        process::setns(target, Namespaces::PID).during("join", "the container's pid namespace")?;
    }
    let child = super::clone_hidden(Namespaces::NONE, unified, child);
    if let Some(own) = own {
        process::setns(own.as_fd(), Namespaces::PID).during("return to", "own pid namespace")?;
    }
    child.during("clone", "a process in the container")
}

/// What the process does that will be the program.
fn begin(
    become_: &Become,
    reporter: Reporter<'_>,
    trace: &Trace,
    has_terminal: bool,
    first: impl FnOnce() -> Result<()>,
) -> Infallible {
    trace.point(Mark::Born);
    tare_kernel::heap::keep_everything();
    let result = first().and_then(|()| {
        rustix::process::setsid().map_err(|e| Error::io("start", "session", e))?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
                .map_err(|e| Error::io("set", "controlling terminal", e))?;
        }
        become_.settle(reporter)?;
        trace.point(Mark::Settle);
        reporter.say(Said::Ready);
        if !reporter.wait_go() {
            process::exit_now(1);
        }
        trace.point(Mark::GateHeard);
        become_.run(reporter, trace, || Ok(()))
    });
    match result {
        Ok(never) => match never {},
        Err(e) => give_up(reporter, e),
    }
}

/// What is joined, and with which streams.
struct Joining<'a> {
    target: BorrowedFd<'a>,
    /// But for the PID namespace.
    rest: Namespaces,
    /// The container's root, where no mount namespace brings it along.
    chroot: Option<OwnedFd>,
    stdio: Option<&'a Stdio>,
    terminal: Option<&'a OwnedFd>,
}

impl Joining<'_> {
    fn enter(&self) -> Result<()> {
        if !self.rest.is_empty() {
            process::setns(self.target, self.rest).during("join", "the container's namespaces")?;
        }
        if let Some(root) = &self.chroot {
            let fail = |e| Error::io("join", "the container's root", e);
            rustix::process::fchdir(root).map_err(fail)?;
            rustix::process::chroot(".").map_err(fail)?;
        }
        if self.rest.contains(Namespaces::USER) { super::maps::assume_root(None) } else { Ok(()) }
    }

    fn set_stdio(&self) -> Result<()> {
        let streams = match (self.terminal, self.stdio) {
            (Some(slave), _) => [slave.as_fd(); 3],
            (None, Some(s)) => [s.stdin.as_fd(), s.stdout.as_fd(), s.stderr.as_fd()],
            (None, None) => return Ok(()),
        };
        let [stdin, stdout, stderr] = streams;
        replace_stdio(stdin, stdout, stderr).map_err(|e| Error::io("set", "standard streams", e))
    }
}
