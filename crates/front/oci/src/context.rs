//! What the global options mean, for every verb.

use crate::log::Log;
use std::path::PathBuf;

/// The global options.
#[derive(Debug)]
pub(crate) struct Context {
    /// The directory of the state directories.
    pub(crate) root: PathBuf,
    /// Where errors and warnings go.
    pub(crate) log: Log,
    /// `cgroupsPath` is `slice:prefix:name`, and systemd makes the group.
    pub(crate) systemd_cgroup: bool,
    /// Whether to do without what needs root: given, or found out.
    pub(crate) rootless: bool,
}
