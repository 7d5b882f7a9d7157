//! Networks of containers that run: restored after others took parts of them away.

use crate::Engine;
use crate::attach::Attachment;
use crate::supervise::control::{Done, Request};
use crate::view::{Container, State};
use rustix::fs::FlockOperation;
use std::time::Duration;
use tare_model::{Error, Kind, Result};
use tare_network::Host;

/// How long a supervisor may take to answer. It acts within milliseconds, but 300 of them may be at it at once.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes anew whatever of the networks of running containers is missing in the kernel: bridges, rules, published ports.
    /// `names`: which containers; none for all that run. How many things were missing.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::State` for a named container that does not run; what the kernel refuses: the first of it,
    /// once all containers were tried.
    pub fn network_reload(&self, names: &[String]) -> Result<usize> {
        let mut containers = Vec::new();
        for name in names {
            let container = self.container(name)?;
            if !matches!(container.state, State::Running | State::Paused) {
                return Err(not_running("reload networks of container", &container));
            }
            containers.push(container);
        }
        if names.is_empty() {
            containers = self.containers(false)?;
        }
        let results = containers.iter().map(|c| self.reload_one(&c.id)).collect::<Vec<_>>();
        results.into_iter().sum()
    }

    fn reload_one(&self, id: &str) -> Result<usize> {
        match self.ask(id, &Request::Restore) {
            Ok(Done::Restored(count)) => Ok(count),
            // It hangs, is stopped, or is of another version: everything that it would do can be done from here.
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unsupported) => self.restore_networks(id),
            Err(e) if e.kind() == Kind::State => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Asks the supervisor of a running container.
    pub(crate) fn ask(&self, id: &str, request: &Request) -> Result<Done> {
        let connection = Attachment::connect(&self.run_dir(id).join("attach"), 0)?;
        connection.ask(request, ANSWER_PATIENCE)
    }

    /// Makes anew what is missing in the kernel of one container's networks; how much that was.
    pub(crate) fn restore_networks(&self, id: &str) -> Result<usize> {
        let status = self.dirs(id).status()?.unwrap_or_default();
        let Some(endpoint) = status.endpoints.first() else { return Ok(0) };
        // Nobody may remove the bridge meanwhile.
        let _lock = self.network_lock(FlockOperation::LockShared)?;
        let mut host = Host::open()?;
        let report =
            host.ensure_bridge(&tare_network::BridgePlan::of(&self.site(), &self.default_network()?, 1500)?)?;
        Ok(usize::from(report.rules_written) + host.restore(endpoint)?)
    }
}

fn not_running(operation: &'static str, container: &Container) -> Error {
    Error::new(Kind::State, operation, &container.name)
        .because(format!("it is not running ({})", container.state.as_str()))
        .hint(format!("tare start {}", container.name))
}
