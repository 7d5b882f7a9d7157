//! Where everything lies, and the engine itself.

use crate::held::HeldLayers;
use crate::record::Dirs;
use crate::request::Dns;
use crate::snapshotter::{self, Snapshotter};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::Layout;
use tare_runtime::launch::{Mark, Trace};
use tare_store::{Form, Store};

/// Where one engine keeps its things. Two configurations with different roots share nothing.
#[derive(Debug, Clone)]
pub struct Config {
    /// Durable state: absolute.
    pub root: PathBuf,
    /// State of this boot: absolute.
    pub run: PathBuf,
    /// This program's file on the host, where /proc/self/exe does not say it: see
    /// [`tare_runtime::launch::protect_executable`].
    pub executable: Option<PathBuf>,
    /// For tests of what happens then: fail, or be killed, at a named step. `name` or `name:kill`.
    pub fault: Option<String>,
    /// What new layers are unpacked as.
    pub snapshotter: Snapshotter,
    /// What networks and containers have that were told nothing else.
    pub network: NetworkDefaults,
}

/// Settings of networks; what is empty is tare's own choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// Where ports are published that name no address, on networks that name none; empty: everywhere.
    pub publish: Vec<IpAddr>,
    /// What subnets of both families are cut from.
    pub pools: Vec<IpNet>,
    /// Resolver of containers that name none, on networks that name none.
    pub dns: Dns,
}

/// The engine: every verb is a method.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) instance: String,
    /// Read at the first question, and not again: hierarchies stay mounted where they are.
    layout: OnceLock<Layout>,
    /// Where layers are mounted for others, too, if this process has mounted some.
    pub(crate) layers: OnceLock<HeldLayers>,
    /// Where the steps of a start are recorded.
    pub(crate) trace: Trace,
    pub(crate) bridge: OnceLock<tare_model::network::Network>,
    /// Definitions that were read: they do not change.
    pub(crate) definitions: Mutex<Vec<tare_model::network::Network>>,
}

impl Engine {
    /// Opens the engine; nothing is made or started by that.
    ///
    /// # Errors
    /// `Kind::Invalid` if a path is not absolute.
    pub fn open(config: Config) -> Result<Engine> {
        if !config.run.is_absolute() {
            return Err(Error::new(Kind::Invalid, "open engine", config.run.display())
                .because("the run directory must be an absolute path"));
        }
        let store = Store::open(&config.root)?;
        let (asked, root, run) = (config.snapshotter, config.root.clone(), config.run.clone());
        store.unpack_as(Box::new(move || snapshotter::choose(asked, &root, &run).map(|choice| choice.form)));
        let instance = tare_network::Site::of(&config.root).table;
        let trace = Trace::off();
        Ok(Engine {
            config,
            store,
            instance,
            layout: OnceLock::new(),
            layers: OnceLock::new(),
            trace,
            bridge: OnceLock::new(),
            definitions: Mutex::default(),
        })
    }

    /// What new layers are unpacked as, and why.
    pub(crate) fn snapshotter(&self) -> (&'static str, String) {
        let config = &self.config;
        match snapshotter::choose(config.snapshotter, &config.root, &config.run) {
            Ok(choice) => (if choice.form == Form::Image { "erofs" } else { "overlay" }, choice.why),
            Err(e) => ("none", e.to_string()),
        }
    }

    /// Has the steps of each start, run and exec recorded.
    #[must_use]
    pub fn traced(self, trace: Trace) -> Engine {
        trace.point(Mark::Engine);
        Engine { trace, ..self }
    }

    /// Images, volumes and the rest of what lies on disk.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The name under which this root's bridge, firewall table and cgroups stand in the kernel.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn layout(&self) -> Result<&Layout> {
        if let Some(layout) = self.layout.get() {
            return Ok(layout);
        }
        let layout = Layout::read()?;
        Ok(self.layout.get_or_init(|| layout))
    }

    pub(crate) fn dirs(&self, id: &str) -> Dirs {
        Dirs { state: self.store.container_dir(id), run: self.run_dir(id) }
    }

    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.config.run.join("containers").join(id)
    }

    /// The container's cgroup, below each hierarchy's mount.
    pub(crate) fn cgroup_path(&self, id: &str) -> String {
        format!("/{}/{id}", self.instance)
    }

    /// A place where a test can make a start fail, or the process die.
    pub(crate) fn fault(&self, step: &'static str) -> Result<()> {
        let Some(asked) = &self.config.fault else { return Ok(()) };
        let (name, how) = asked.split_once(':').unwrap_or((asked, "fail"));
        if name != step {
            return Ok(());
        }
        if how == "kill" {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Err(Error::new(Kind::System, "inject fault", step).because("asked for by a test"))
    }
}
