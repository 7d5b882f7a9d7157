//! What every verb gets: where state lies, and how to reach the engine.

use crate::environment;
use std::path::PathBuf;
use tare_engine::{Config, Engine};
use tare_model::{Error, Kind, Result};

/// The global options, understood.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Where images, containers and volumes lie.
    pub(crate) root: PathBuf,
    /// Where what runs lies.
    pub(crate) run: PathBuf,
    /// The verb as typed, for messages: `run`, `volume ls`.
    pub(crate) verb: String,
}

impl Context {
    /// Opens the engine.
    ///
    /// # Errors
    /// `Kind::Denied` without root; what opening the store fails with.
    pub(crate) fn engine(&self) -> Result<Engine> {
        self.need_root()?;
        Engine::open(Config { root: self.root.clone(), run: self.run.clone(), fault: environment::get("TARE_FAULT") })
    }

    /// One clear sentence instead of the first EPERM on the way.
    ///
    /// # Errors
    /// `Kind::Denied` without root.
    pub(crate) fn need_root(&self) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Error::new(Kind::Denied, "tare needs root for now", "").because(format!("try sudo tare {}", self.verb)))
    }
}
