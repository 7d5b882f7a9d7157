//! A further process in a running container: join its namespaces and groups, then become the program.
//!
//! From its birth in the container's PID namespace on, the process can be seen from inside. It is hidden (not dumpable),
//! but not from one who may trace others (CAP_SYS_PTRACE). Where the container could have such, an intermediate, which
//! nobody inside can see, joins everything else and closes all descriptors, and then clones the process as the caller's
//! child: already at its birth its root is the container's, and nothing of the host is open in it.

use super::become_process::Become;
use super::child::{give_up, join_cgroups};
use super::status::{self, Reporter, Said};
use super::streams::replace_stdio;
use super::{CgroupHandles, Launch, Stdio, join};
use crate::defence::{Defence, stands};
use crate::plan::ProcessPlan;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::convert::Infallible;
use tare_kernel::process::{self, Child, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Result};

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
/// `terminal`: the slave side of a terminal of the container's devpts, instead of `stdio`.
///
/// # Errors
/// If a namespace cannot be joined; from [`Launch::release`], if the program cannot be executed.
pub fn exec(
    plan: &ExecPlan,
    target: BorrowedFd<'_>,
    stdio: Option<Stdio>,
    terminal: Option<OwnedFd>,
    cgroup: CgroupHandles,
) -> Result<Launch> {
    let (channel, child_end) = status::pair(false)?;
    let become_ = Become::new(&plan.process)?;
    let joins_pid = plan.namespaces.contains(&NamespaceKind::Pid);
    let rest = plan
        .namespaces
        .iter()
        .filter(|k| **k != NamespaceKind::Pid)
        .fold(Namespaces::NONE, |set, kind| set.with(super::bit(*kind)));
    let joining = Joining { target, rest, attach: &cgroup.attach, stdio: stdio.as_ref(), terminal: terminal.as_ref() };
    let parent_end = channel.raw();
    let unified = cgroup.unified.as_ref().map(AsFd::as_fd);
    let status = child_end.as_fd();
    // In a user namespace of its own nobody can look into the child. Elsewhere whoever may trace can.
    let watched = || joins_pid && !rest.contains(Namespaces::USER) && may_trace(target);
    let child = if stands(Defence::BornInside) && watched() {
        let keep = 3 + plan.process.preserve_fds;
        let prepare = |socket: BorrowedFd<'_>| {
            drop(process::adopt(parent_end));
            process::forget_environment();
            become_.bind_first()?;
            process::setns(target, Namespaces::PID).during("join", "the container's pid namespace")?;
            joining.enter()?;
            joining.set_stdio()?;
            process::close_all_but(keep, &[status, socket]).during("close", "descriptors")
        };
        let child = || begin(&become_, Reporter(status), terminal.is_some(), || Ok(()));
        join::through_intermediate(unified, prepare, Namespaces::NONE, None, child)?
    } else {
        let child = || {
            drop(process::adopt(parent_end));
            begin(&become_, Reporter(status), terminal.is_some(), || {
                become_.bind_first()?;
                joining.enter()?;
                joining.set_stdio()
            })
        };
        clone_into_pid_namespace(target, joins_pid, unified, child)?
    };
    let launch = Launch { child, channel, net_devices: Vec::new(), warnings: Vec::new() };
    if rest.contains(Namespaces::USER) {
        super::identity::raise_ceilings(launch.pid(), &plan.process.rlimits)?;
    }
    Ok(launch)
}

/// Whether a process of the container may trace others beyond its own: its first one has the capability, or could get
/// it. What cannot be found out is taken for yes.
fn may_trace(target: BorrowedFd<'_>) -> bool {
    const SYS_PTRACE: u64 = 1 << 19;
    let field = |path: String, name: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned())
    };
    let bounding = || {
        let pid = field(format!("/proc/self/fdinfo/{}", target.as_raw_fd()), "Pid:")?;
        u64::from_str_radix(&field(format!("/proc/{pid}/status"), "CapBnd:")?, 16).ok()
    };
    bounding().is_none_or(|mask| mask & SYS_PTRACE != 0)
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
    has_terminal: bool,
    first: impl FnOnce() -> Result<()>,
) -> Infallible {
    tare_kernel::heap::keep_everything();
    let result = first().and_then(|()| {
        rustix::process::setsid().map_err(|e| Error::io("start", "session", e))?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
                .map_err(|e| Error::io("set", "controlling terminal", e))?;
        }
        become_.settle(reporter)?;
        reporter.say(Said::Ready);
        if !reporter.wait_go() {
            process::exit_now(1);
        }
        become_.run(reporter, || Ok(()))
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
    attach: &'a [OwnedFd],
    stdio: Option<&'a Stdio>,
    terminal: Option<&'a OwnedFd>,
}

impl Joining<'_> {
    fn enter(&self) -> Result<()> {
        process::reset_signals();
        join_cgroups(self.attach)?;
        if self.rest.is_empty() {
            return Ok(());
        }
        process::setns(self.target, self.rest).during("join", "the container's namespaces")?;
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
