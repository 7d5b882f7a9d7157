//! What the global options mean, for every verb.

use crate::log::Log;
use crate::out;
use std::path::PathBuf;
use tare_model::Result;
use tare_runtime::cgroup::Manager;
use tare_runtime::launch::{self, Form, Mark, Protection, Trace};

/// The global options.
#[derive(Debug)]
pub(crate) struct Context {
    /// The directory of the state directories.
    pub(crate) root: PathBuf,
    /// Where errors and warnings go.
    pub(crate) log: Log,
    /// `cgroupsPath` is `slice:prefix:name`, and systemd makes the group.
    pub(crate) systemd_cgroup: bool,
    /// `--rootless`; absent: to be found out.
    pub(crate) rootless: Option<bool>,
    /// Where the steps of a start are recorded.
    pub(crate) trace: Trace,
    /// `--trace-setup`: how they are written.
    pub(crate) trace_form: Option<Form>,
}

impl Context {
    /// For a verb that puts a process of this program into a container, before anything else: see
    /// [`launch::protect_executable`].
    pub(crate) fn protect(&self) -> Result<()> {
        match launch::protect_executable(&self.trace)? {
            Protection::ReadOnly(_) => {}
            Protection::None(why) => self.log.debug(&why.to_string()),
        }
        self.trace.point(Mark::Arguments);
        Ok(())
    }

    /// Writes the steps of a start to standard error, if that was asked for: once the verb has done what it is for.
    pub(crate) fn show_trace(&self) {
        if let Some(form) = self.trace_form {
            out::note(self.trace.waterfall().written(form));
        }
    }

    /// Who makes groups.
    pub(crate) fn manager(&self) -> Manager {
        if self.systemd_cgroup { Manager::Systemd } else { Manager::Cgroupfs }
    }

    /// Whether to do without what only root may do. Looked up only when something was refused.
    pub(crate) fn is_rootless(&self) -> bool {
        let in_user_namespace = || {
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            map.split_whitespace().ne(["0", "0", "4294967295"])
        };
        self.rootless.unwrap_or_else(|| !rustix::process::geteuid().is_root() || in_user_namespace())
    }
}
