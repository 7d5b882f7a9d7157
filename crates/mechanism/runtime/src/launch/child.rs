//! The child between clone and gate. It ends by executing or exiting; it never returns.

use super::become_process::Become;
use super::gate::{self, Gate};
use super::handles::Prepared;
use super::hook::{self, ContainerState, Status};
use super::identity::die_with_parent;
use super::join::Joined;
use super::status::{Reporter, Said};
use super::step::Stage;
use super::streams::replace_stdio;
use super::trace::{Mark, Trace};
use super::{Stdio, clocks, maps};
use crate::defence::{Defence, stands};
use crate::plan::{LaunchPlan, MountPlan, Step};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use std::convert::Infallible;
use tare_kernel::process::{self, Namespaces};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Kind, Result};

/// What the child was given by its parent, through memory.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) plan: &'a LaunchPlan,
    pub(super) prepared: &'a Prepared,
    pub(super) stdio: Option<&'a Stdio>,
    pub(super) attach: &'a [OwnedFd],
    /// What it has to join itself.
    pub(super) joined: &'a [Joined],
    pub(super) become_: &'a Become,
    pub(super) gate: &'a Gate,
    pub(super) state: Option<&'a ContainerState>,
    pub(super) trace: &'a Trace,
}

pub(super) fn run(inputs: &Inputs<'_>, status: OwnedFd, parent_end: i32) -> Infallible {
    inputs.trace.point(Mark::Born);
    tare_kernel::heap::keep_everything();
    // The copy of the parent's end must go, or the end of the parent would never be seen.
    drop(process::adopt(parent_end));
    process::forget_environment();
    let pid = match before_gate(inputs, Reporter(status.as_fd())) {
        Ok(pid) => pid,
        Err(e) => give_up(Reporter(status.as_fd()), e),
    };
    let Some(starter) = gate::wait(status, inputs.gate) else { process::exit_now(1) };
    inputs.trace.point(Mark::GateHeard);
    // From here on the status is whoever's who has opened the gate.
    let reporter = Reporter(starter.as_fd());
    let result = inputs.become_.run(reporter, inputs.trace, || start_hooks(inputs, pid));
    match result {
        Ok(never) => match never {},
        Err(e) => give_up(reporter, e),
    }
}

pub(super) fn give_up(reporter: Reporter<'_>, error: Error) -> ! {
    reporter.error(error);
    process::exit_now(1)
}

/// Everything up to the gate. What comes back is this process's id as the runtime sees it, if it was told.
fn before_gate(inputs: &Inputs<'_>, reporter: Reporter<'_>) -> Result<Option<i32>> {
    let (plan, trace) = (inputs.plan, inputs.trace);
    // Until the last step sets it again: a parent killed in between takes the half-made container with it.
    die_with_parent()?;
    process::reset_signals();
    join_cgroups(inputs.attach)?;
    trace.point(Mark::JoinCgroups);
    if plan.namespaces.creates(NamespaceKind::Cgroup) {
        process::unshare(Namespaces::CGROUP).during("unshare", "cgroup namespace")?;
    }
    // The PID namespace it was born in.
    inputs.joined.iter().filter(|j| j.kind != NamespaceKind::Pid).try_for_each(Joined::enter)?;
    if plan.namespaces.creates(NamespaceKind::Time) {
        clocks::enter_new(&plan.namespaces.time_offsets)?;
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    trace.point(Mark::Namespaces);
    let mut stage = Stage::new(inputs.prepared, reporter, plan.namespaces.has(NamespaceKind::User));
    let (early, rest) =
        plan.steps.split_at(plan.steps.iter().take_while(|s| matches!(s, Step::OomScoreAdj(_))).count());
    // Files of its own in /proc belong to whoever made it: written before the user changes.
    for step in early {
        stage.perform(step)?;
        trace.point(label(step).0);
    }
    if plan.namespaces.has(NamespaceKind::User) {
        enter_user(inputs, reporter)?;
        trace.point(Mark::UserNamespace);
    }
    let mut pid = None;
    for step in rest {
        match step {
            Step::Rendezvous => match reporter.rendezvous() {
                Some(own) => pid = Some(own),
                None => process::exit_now(1),
            },
            Step::ContainerHooks(hooks) => run_hooks(inputs, "createContainer", hooks, Status::Creating, pid)?,
            step => stage.perform(step)?,
        }
        let (mark, object) = label(step);
        trace.point_of(mark, object);
    }
    set_stdio(inputs)?;
    inputs.become_.settle(reporter)?;
    trace.point(Mark::Settle);
    // What it owns is closed by it, before everything else is closed by number.
    drop(stage);
    stand_at_gate(inputs, reporter)?;
    trace.point(Mark::AtGate);
    reporter.say(Said::Ready);
    Ok(pid)
}

fn enter_user(inputs: &Inputs<'_>, reporter: Reporter<'_>) -> Result<()> {
    let made = inputs.plan.namespaces.creates(NamespaceKind::User);
    if made && !reporter.wait_mapped() {
        process::exit_now(1);
    }
    maps::assume_root(inputs.plan.namespaces.ids.as_ref().filter(|_| made))?;
    // Changing the user has cleared it.
    die_with_parent()
}

/// Who will outlive its creator keeps nothing of it: neither its end as its own, nor what it was handed for the steps,
/// such as mounts that nobody could unmount.
fn stand_at_gate(inputs: &Inputs<'_>, reporter: Reporter<'_>) -> Result<()> {
    let Gate::Socket(listener) = inputs.gate else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(None).map_err(|e| Error::io("clear", "parent-death signal", e))?;
    if !stands(Defence::Descriptors) {
        return Ok(());
    }
    let keep = [reporter.0, listener.as_fd()];
    process::close_all_but(3 + inputs.plan.process.preserve_fds, &keep).during("close", "descriptors")
}

fn start_hooks(inputs: &Inputs<'_>, pid: Option<i32>) -> Result<()> {
    if inputs.plan.start_hooks.is_empty() {
        return Ok(());
    }
    run_hooks(inputs, "startContainer", &inputs.plan.start_hooks, Status::Created, pid)?;
    inputs.trace.point(Mark::StartHooks);
    Ok(())
}

fn run_hooks(
    inputs: &Inputs<'_>,
    point: &str,
    hooks: &[tare_model::runtime_spec::Hook],
    status: Status,
    pid: Option<i32>,
) -> Result<()> {
    let Some(state) = inputs.state else {
        return Err(Error::new(Kind::Invalid, "run hook", point).because("the container's state was not handed over"));
    };
    hook::run_all(point, hooks, &state.json(status, pid))
}

/// A single-threaded process that moves itself does not wait for the RCU grace period that a move from outside costs.
pub(super) fn join_cgroups(tasks: &[OwnedFd]) -> Result<()> {
    for fd in tasks {
        rustix::io::write(fd, b"0").map_err(|e| {
            let name = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
            Error::io("join", name.map_or_else(|_| "cgroup".to_owned(), |n| n.to_string_lossy().into_owned()), e)
        })?;
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

/// What a trace calls a step: its kind, and what it is done to.
fn label(step: &Step) -> (Mark, &str) {
    match step {
        Step::OomScoreAdj(_) => (Mark::OomScoreAdj, ""),
        Step::IsolateMounts => (Mark::IsolateMounts, ""),
        Step::AttachRoot(_) => (Mark::AttachRoot, ""),
        Step::Rendezvous => (Mark::Rendezvous, ""),
        Step::ContainerHooks(_) => (Mark::ContainerHooks, ""),
        Step::EnterRoot(_) => (Mark::EnterRoot, ""),
        Step::Mount(MountPlan { target, .. }) => (Mark::Mount, target),
        Step::Devices(_) => (Mark::Devices, ""),
        Step::Console => (Mark::Console, ""),
        Step::DetachHost => (Mark::DetachHost, ""),
        Step::WorkingDirectory(path) => (Mark::WorkingDirectory, path),
        Step::Hostname(_) => (Mark::Hostname, ""),
        Step::Domainname(_) => (Mark::Domainname, ""),
        Step::Sysctls(_) => (Mark::Sysctls, ""),
        Step::ReadonlyPaths(_) => (Mark::ReadonlyPaths, ""),
        Step::MaskedPaths(_) => (Mark::MaskedPaths, ""),
        Step::ReadonlyRoot => (Mark::ReadonlyRoot, ""),
        Step::RootPropagation { .. } => (Mark::RootPropagation, ""),
        Step::PropagationBelowRoot { .. } => (Mark::PropagationBelowRoot, ""),
        Step::Loopback => (Mark::Loopback, ""),
        Step::SealMounts => (Mark::SealMounts, ""),
    }
}
