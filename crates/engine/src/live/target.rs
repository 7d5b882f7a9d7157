//! A container whose networks or ports are about to be changed, whether it runs or not.

use super::change::Change;
use crate::Engine;
use crate::attach::Attachment as Connection;
use crate::record::{Dirs, Durable, Record, Status, write_json};
use crate::request::NetworkMode;
use crate::supervise::control::{Done, Request};
use crate::view::State;
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

/// How long a start or a teardown that is under way may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a supervisor may take to answer. It acts within milliseconds, but 300 of them may be at it at once.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The right to change a container, and how it was found.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) change: Change,
    pub(crate) dirs: Dirs,
    pub(crate) record: Record,
    /// What it has in the kernel, if it runs.
    pub(crate) status: Option<Status>,
    /// Nobody can start it meanwhile, if it does not run.
    lock: Option<OwnedFd>,
}

impl Engine {
    /// Takes a container whose description is to be changed: nobody else changes, starts or stops it meanwhile. Brings to its end what somebody else left half done.
    pub(crate) fn target(&self, container: &str, operation: &'static str) -> Result<Target> {
        let row = self.store.container(container)?;
        let dirs = self.dirs(&row.id);
        let change = Change::begin(&dirs).or_else(|e| {
            // It was removed just now.
            self.store.container(&row.id)?;
            Err(e)
        })?;
        let end = Instant::now() + PATIENCE;
        let (status, lock) = loop {
            let state = self.observe(&row)?.state;
            if matches!(state, State::Running | State::Paused)
                && let Some(status) = dirs.status()?
            {
                break (Some(status), None);
            }
            if let Some(lock) = dirs.try_lock()? {
                break (None, Some(lock));
            }
            if Instant::now() >= end {
                return Err(
                    Error::new(Kind::State, operation, container).because("it is being started or stopped just now")
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut target = Target { record: dirs.record()?, change, dirs, status, lock };
        target.record.request.name = Some(row.name);
        if target.change.unfinished {
            if target.lock.is_some() {
                target.dirs.remove_asides();
            }
            target.change.half_done();
            self.end_change(&mut target)?;
            target.change.whole();
        }
        Ok(target)
    }

    /// Brings a change to its end whose maker was killed. Costs one system call where there is none.
    pub(crate) fn end_left_change(&self, dirs: &Dirs, id: &str) {
        if let Ok(Some(mut change)) = Change::left_behind(dirs) {
            change.half_done();
            drop(change);
            // What cannot be ended now is tried again by the next one to look.
            let _ = self.target(id, "look at container");
        }
    }

    /// Asks the supervisor of a running container.
    pub(super) fn ask(&self, id: &str, request: &Request) -> Result<Done> {
        let connection = Connection::connect(&self.run_dir(id).join("attach"), 0)?;
        connection.ask(request, ANSWER_PATIENCE)
    }
}

impl Target {
    /// Networks of its own are all that can be changed.
    pub(super) fn require_own_stack(&self, operation: &'static str) -> Result<()> {
        let why = match &self.record.request.network {
            NetworkMode::Bridge => return Ok(()),
            NetworkMode::Host => "it has the host's network stack".to_owned(),
            NetworkMode::None => "it was made without any network".to_owned(),
            NetworkMode::Container(name) => format!("it has the network stack of container {name}"),
            NetworkMode::Path(path) => format!("it has the network stack at {}", path.display()),
        };
        Err(Error::new(Kind::Invalid, operation, self.record.name())
            .because(why)
            .hint("make it anew with --network NETWORK"))
    }

    /// Writes the changed description. Durable.
    pub(crate) fn write_record(&self) -> Result<()> {
        write_json(&self.dirs.state, "config.json", &self.record, Durable::Yes)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Made by taking the lock.
        if self.lock.is_some() {
            let _ = self.dirs.remove_run();
        }
    }
}

pub(super) fn strange(container: &str) -> Error {
    Error::new(Kind::Unsupported, "change container", container)
        .because("its supervisor gave an answer to another question")
        .hint("it was started by another version of tare: restart the container")
}
