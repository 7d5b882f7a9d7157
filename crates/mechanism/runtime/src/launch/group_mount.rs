//! The groups of a container as detached mounts, opened on the host before the clone.

use super::filesystem::clone_tree;
use crate::cgroup::{self, CgroupPlan, Layout, Version};
use crate::defence::{self, Defence};
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use tare_model::{Error, Result};

/// The name of the directory of cgroup2 where v1 is, too.
pub(super) const UNIFIED: &str = "unified";

/// One hierarchy's group, to be shown inside.
#[derive(Debug)]
pub struct CgroupMount {
    /// Name below /sys/fs/cgroup; empty for a lone cgroup2, which is mounted on it.
    pub name: String,
    /// Names of co-mounted controllers, as links to `name`.
    pub links: Vec<String>,
    /// A detached mount of the group.
    pub tree: OwnedFd,
}

/// What /sys/fs/cgroup shows inside: this group of every hierarchy, each under the name by which programs look for it.
///
/// # Errors
/// As open_tree(2).
pub fn cgroup_mounts(layout: &Layout, plan: &CgroupPlan) -> Result<Vec<CgroupMount>> {
    let lone = layout.mode() == cgroup::Mode::V2;
    let mut out = Vec::new();
    for h in &layout.hierarchies {
        let (name, links) = match (h.version, &h.name) {
            (Version::V2, _) if lone => (String::new(), Vec::new()),
            (Version::V2, _) => (UNIFIED.to_owned(), Vec::new()),
            (Version::V1, Some(name)) => (name.clone(), Vec::new()),
            (Version::V1, None) if h.controllers.len() > 1 => (h.controllers.join(","), h.controllers.clone()),
            (Version::V1, None) => (h.controllers.join(","), Vec::new()),
        };
        // The container's own group, whether it has a cgroup namespace or not: what a hierarchy's root has besides
        // (release_agent) is never below it.
        let own = defence::stands(Defence::ReleaseAgent) && defence::stands(Defence::CgroupMount);
        let group = if own { h.beneath(plan.path.trim_matches('/')) } else { String::new() };
        let path = h.mount_point.join(group);
        let Some(text) = path.to_str() else { continue };
        let tree = clone_tree(CWD, text, false).map_err(|e| Error::io("open cgroup", text, e))?;
        out.push(CgroupMount { name, links, tree });
    }
    Ok(out)
}
