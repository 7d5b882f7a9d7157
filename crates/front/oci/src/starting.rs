//! `start`: the created container's process hears "go".
//!
//! ```text
//! gate            created
//! gate.passing    a start is at work, or was killed: created if somebody listens there, else running
//! neither         running
//! ```
//!
//! The process stops listening by becoming the program, so that at each moment the kernel tells which of the two it is.

use crate::context::Context;
use crate::state::{Container, GATE, PASSING, State, Status};
use crate::{hooks, removal};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;
use tare_model::{Error, Kind, Result};
use tare_runtime::launch::{self, Listener, Mark, hook};

/// Starts a container whose lock the caller holds.
pub(crate) fn start(context: &Context, container: &Container) -> Result<()> {
    let id = &container.state.id;
    let refuse = |why: &str| Err(Error::new(Kind::State, "start", id).because(why));
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return refuse("cannot start a container that has stopped"),
        Status::Creating => return refuse("cannot start a container that is being created"),
        Status::Running => return refuse("cannot start an already running container"),
        Status::Paused => return refuse("cannot start a container that is paused"),
    }
    match renameat(&container.dir, GATE, &container.dir, PASSING) {
        // A start that was killed has renamed it.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(Error::io("start", id, e)),
    }
    let listener = listener(&container.state);
    context.trace.point(Mark::Handover);
    let passed = listener.and_then(|listener| launch::open_gate(container.dir.as_fd(), PASSING, listener));
    context.trace.point(Mark::GateOpened);
    // Refused before it heard of the start, it waits for the next.
    let _ = match &passed {
        Err(_) if container.status()? == Status::Created => renameat(&container.dir, PASSING, &container.dir, GATE),
        _ => unlinkat(&container.dir, PASSING, AtFlags::empty()),
    };
    let passed = passed.inspect_err(|e| {
        // The program runs with a filter that nobody answers.
        if e.operation() == launch::UNDELIVERED
            && let Some(process) = container.process()
        {
            let _ = removal::kill_and_wait(&process);
        }
    });
    for warning in passed? {
        context.log.warn(&warning);
    }
    started(container)?;
    context.trace.point(Mark::Poststart);
    Ok(())
}

/// The connection to whoever answers the calls that the filter asks about.
pub(crate) fn listener(state: &State) -> Result<Option<Listener>> {
    let Some(agent) = &state.agent else { return Ok(None) };
    let document: serde_json::Value =
        serde_json::from_str(&hooks::told(state).json(hook::Status::Created, Some(state.pid)))
            .map_err(|e| Error::new(Kind::Invalid, "describe", &state.id).because(e))?;
    Listener::connect(&agent.path, agent.metadata.as_deref(), state.pid, document).map(Some)
}

/// What is left to be done once the program runs.
pub(crate) fn started(container: &Container) -> Result<()> {
    hooks::poststart(&container.state).inspect_err(|_| {
        // The failure of the hook is what is reported; whoever deletes the container tries again to end it.
        if let Some(process) = container.process() {
            let _ = removal::kill_and_wait(&process);
        }
    })
}
