//! Networks of containers that run: restored after others took parts of them away.

mod change;
mod networks;
mod ports;
mod target;

pub use networks::Force;

use crate::Engine;
use crate::supervise::control::{Done, Request};
use crate::view::{Container, State};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tare_model::{Error, Kind, Result};
use tare_network::{EndpointKind, Host};

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
            Ok(_) => Err(target::strange(id)),
            Err(e) if e.kind() == Kind::State => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Makes anew what is missing in the kernel of one container's networks; how much that was.
    pub(crate) fn restore_networks(&self, id: &str) -> Result<usize> {
        let status = self.dirs(id).status()?.unwrap_or_default();
        if status.endpoints.is_empty() {
            return Ok(0);
        }
        // Nobody may remove a bridge meanwhile. And of hundreds that see the same flush one after another looks, so that
        // all but the first find the common part as it should be.
        let bridged = status.endpoints.iter().filter(|e| matches!(e.kind, EndpointKind::Bridge { .. }));
        let shared = FlockOperation::LockShared;
        let _kept = bridged.map(|e| self.bridge_lock(&e.network, shared)).collect::<Result<Vec<_>>>()?;
        let _turn = self.restore_lock()?;
        let mut host = Host::open()?;
        let mut missing = 0;
        for bridge in &status.bridges {
            let report = host.ensure_bridge(bridge)?;
            missing += usize::from(report.bridge_created) + usize::from(report.rules_written);
        }
        if let Some(first) = status.bridges.first() {
            let policies: Vec<_> = status.bridges.iter().map(|b| b.policy.clone()).collect();
            missing += usize::from(host.restore_rules(&first.table, &policies)?);
        }
        for endpoint in &status.endpoints {
            missing += host.restore(endpoint)?;
        }
        Ok(missing)
    }

    fn restore_lock(&self) -> Result<OwnedFd> {
        let path = self.config.run.join("restore.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| Error::io("open", path.display(), e))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("lock", path.display(), e)),
            }
        }
    }
}

fn not_running(operation: &'static str, container: &Container) -> Error {
    Error::new(Kind::State, operation, &container.name)
        .because(format!("it is not running ({})", container.state.as_str()))
        .hint(format!("tare start {}", container.name))
}
