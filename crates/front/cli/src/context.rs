//! What every verb gets: where state lies, and how to reach the engine.

use crate::environment;
use crate::settings::{self, Settings};
use std::path::PathBuf;
use tare_engine::{Config, Engine, Mark, Protection, Snapshotter, Trace};
use tare_model::{Error, Kind, Result};

/// The global options, understood.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Where images, containers and volumes lie.
    pub(crate) root: PathBuf,
    /// Where what runs lies.
    pub(crate) run: PathBuf,
    /// What new layers are unpacked as, if it was said on the command line or in the environment.
    pub(crate) snapshotter: Option<Snapshotter>,
    /// This program's file, if it was executed anew to protect it.
    pub(crate) executable: Option<PathBuf>,
    /// Where the steps of a start are recorded.
    pub(crate) trace: Trace,
    /// The verb as typed, for messages: `run`, `volume ls`.
    pub(crate) verb: String,
}

impl Context {
    /// For a verb that puts a process of this program into a container: executes it anew, once, so that nobody inside can
    /// write its file. Where that cannot be, the engine says what else cannot.
    ///
    /// # Errors
    /// Without a /proc.
    pub(crate) fn protect(&mut self) -> Result<()> {
        if let Protection::ReadOnly(path) = tare_engine::protect_executable(&self.trace)? {
            self.executable = path;
        }
        self.trace.point(Mark::Arguments);
        Ok(())
    }

    /// Opens the engine, for what needs none of the configuration file's settings: a mistake in it keeps nobody from
    /// stopping a container.
    ///
    /// # Errors
    /// `Kind::Denied` without root; what opening the store fails with.
    pub(crate) fn engine(&self) -> Result<Engine> {
        self.open(Settings::default())
    }

    /// Opens the engine with the configuration file's settings.
    ///
    /// # Errors
    /// As [`Context::engine`]; `Kind::Invalid` if the file cannot be understood.
    pub(crate) fn engine_with_settings(&self) -> Result<Engine> {
        self.need_root()?;
        self.open(settings::read()?)
    }

    /// The same for what may be told by a flag whether the blobs of layers are kept.
    ///
    /// # Errors
    /// As [`Context::engine_with_settings`].
    pub(crate) fn engine_keeping(&self, keep_blobs: Option<bool>) -> Result<Engine> {
        self.need_root()?;
        let mut settings = settings::read()?;
        settings.store.keep_blobs = keep_blobs.or(settings.store.keep_blobs);
        self.open(settings)
    }

    fn open(&self, settings: Settings) -> Result<Engine> {
        self.need_root()?;
        let engine = Engine::open(Config {
            root: self.root.clone(),
            run: self.run.clone(),
            executable: self.executable.clone(),
            fault: environment::get("TARE_FAULT"),
            snapshotter: self.snapshotter.or(settings.store.snapshotter.map(|s| s.0)).unwrap_or_default(),
            network: settings.network.defaults(),
        })?;
        engine.store().limit(settings.limits.limits());
        if let Some(keep) = settings.store.keep_blobs {
            engine.store().keep_blobs(keep);
        }
        Ok(engine.traced(self.trace.clone()))
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
