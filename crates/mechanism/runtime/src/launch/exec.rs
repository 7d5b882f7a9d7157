//! A further process in a running container: join its namespaces and groups, then become the program.

use super::become_process::Become;
use super::child::{give_up, join_cgroups};
use super::status::{self, Reporter, Said};
use super::streams::replace_stdio;
use super::{CgroupHandles, Launch, Stdio};
use crate::plan::ProcessPlan;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use tare_kernel::process::{self, Namespaces};
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
    // A PID namespace applies to the children of whoever joins it.
    let joins_pid = plan.namespaces.contains(&NamespaceKind::Pid);
    let own = if joins_pid { Some(super::open_own_pid_ns()?) } else { None };
    if joins_pid {
        process::setns(target, Namespaces::PID).during("join", "the container's pid namespace")?;
    }
    let rest = plan
        .namespaces
        .iter()
        .filter(|k| **k != NamespaceKind::Pid)
        .fold(Namespaces::NONE, |set, kind| set.with(super::bit(*kind)));
    let parent_end = channel.raw();
    let unified = cgroup.unified.as_ref().map(AsFd::as_fd);
    let child = super::clone_hidden(Namespaces::NONE, unified, || {
        let reporter = Reporter(child_end.as_fd());
        drop(process::adopt(parent_end));
        let result = become_
            .bind_first()
            .and_then(|()| enter(target, rest, &cgroup.attach, stdio.as_ref(), terminal.as_ref()))
            .and_then(|()| {
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
    });
    if let Some(own) = own {
        process::setns(own.as_fd(), Namespaces::PID).during("return to", "own pid namespace")?;
    }
    let child = child.during("clone", "a process in the container")?;
    let launch = Launch { child, channel, net_devices: Vec::new(), warnings: Vec::new() };
    if rest.contains(Namespaces::USER) {
        super::identity::raise_ceilings(launch.pid(), &plan.process.rlimits)?;
    }
    Ok(launch)
}

fn enter(
    target: BorrowedFd<'_>,
    namespaces: Namespaces,
    attach: &[OwnedFd],
    stdio: Option<&Stdio>,
    terminal: Option<&OwnedFd>,
) -> Result<()> {
    process::reset_signals();
    join_cgroups(attach)?;
    if !namespaces.is_empty() {
        process::setns(target, namespaces).during("join", "the container's namespaces")?;
        if namespaces.contains(Namespaces::USER) {
            super::maps::assume_root(None)?;
        }
    }
    rustix::process::setsid().map_err(|e| Error::io("start", "session", e))?;
    let fail = |e| Error::io("set", "standard streams", e);
    match (terminal, stdio) {
        (Some(slave), _) => {
            rustix::process::ioctl_tiocsctty(slave).map_err(|e| Error::io("set", "controlling terminal", e))?;
            replace_stdio(slave.as_fd(), slave.as_fd(), slave.as_fd()).map_err(fail)
        }
        (None, Some(s)) => replace_stdio(s.stdin.as_fd(), s.stdout.as_fd(), s.stderr.as_fd()).map_err(fail),
        (None, None) => Ok(()),
    }
}
