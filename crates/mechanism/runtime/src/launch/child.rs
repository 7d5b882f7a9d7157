//! The child between clone and gate. It ends by executing or exiting; it never returns.

use super::become_process::Become;
use super::handles::Prepared;
use super::identity::die_with_parent;
use super::status::Reporter;
use super::step::Stage;
use super::{Stdio, bit};
use crate::plan::LaunchPlan;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::convert::Infallible;
use tare_kernel::process::{self, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Result};

/// What the child was given by its parent, through memory.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) plan: &'a LaunchPlan,
    pub(super) prepared: &'a Prepared,
    pub(super) stdio: Option<&'a Stdio>,
    pub(super) attach: &'a [OwnedFd],
    pub(super) joined: &'a [(NamespaceKind, OwnedFd)],
    pub(super) become_: &'a Become,
}

pub(super) fn run(inputs: &Inputs<'_>, status: BorrowedFd<'_>, parent_end: i32) -> Infallible {
    let reporter = Reporter(status);
    // The copy of the parent's end must go, or the end of the parent would never be seen.
    drop(process::adopt(parent_end));
    let result = before_gate(inputs, reporter).and_then(|()| {
        inputs.become_.settle(reporter)?;
        reporter.ready();
        if !reporter.wait_go() {
            process::exit_now(1);
        }
        inputs.become_.run(reporter)
    });
    match result {
        Ok(never) => match never {},
        Err(e) => reporter.error(e),
    }
    process::exit_now(1)
}

fn before_gate(inputs: &Inputs<'_>, reporter: Reporter<'_>) -> Result<()> {
    // Until the last step sets it again: a parent killed in between takes the half-made container with it.
    die_with_parent()?;
    process::reset_signals();
    join_cgroups(inputs.attach)?;
    if inputs.plan.create.contains(&NamespaceKind::Cgroup) {
        process::unshare(Namespaces::CGROUP).during("unshare", "cgroup namespace")?;
    }
    for (kind, fd) in inputs.joined {
        if *kind != NamespaceKind::Pid {
            process::setns(fd.as_fd(), bit(*kind)).map_err(|e| Error::io("join namespace", format!("{kind:?}"), e))?;
        }
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut stage = Stage::new(inputs.prepared, reporter);
    for step in &inputs.plan.steps {
        stage.perform(step)?;
    }
    set_stdio(inputs)
}

/// A single-threaded process that moves itself does not wait for the RCU grace period that a move from outside costs.
pub(super) fn join_cgroups(tasks: &[OwnedFd]) -> Result<()> {
    for fd in tasks {
        rustix::io::write(fd, b"0").map_err(|e| Error::io("join", "cgroup", e))?;
    }
    Ok(())
}

fn set_stdio(inputs: &Inputs<'_>) -> Result<()> {
    rustix::process::setsid().map_err(|e| Error::io("start", "session", e))?;
    let fail = |e| Error::io("set", "standard streams", e);
    match (&inputs.prepared.terminal, inputs.stdio) {
        (Some(terminal), _) => {
            rustix::process::ioctl_tiocsctty(&terminal.slave)
                .map_err(|e| Error::io("set", "controlling terminal", e))?;
            replace_stdio(terminal.slave.as_fd(), terminal.slave.as_fd(), terminal.slave.as_fd()).map_err(fail)
        }
        (None, Some(s)) => replace_stdio(s.stdin.as_fd(), s.stdout.as_fd(), s.stderr.as_fd()).map_err(fail),
        (None, None) => Ok(()),
    }
}

pub(super) fn replace_stdio(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}
