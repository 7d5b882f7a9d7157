//! A group that exists: opening it, joining it, and who is in it.

use super::convert::Weights;
use super::files;
use super::layout::{Hierarchy, Layout, Version};
use super::plan::relative;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use tare_model::{Error, Kind, Result};

/// A group in all hierarchies in which it exists, by open directories: it stays the same group when its path is reused.
#[derive(Debug)]
pub struct Group {
    pub(super) path: String,
    pub(super) members: Vec<Member>,
    pub(super) weights: Weights,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) hierarchy: Hierarchy,
    /// Beneath the mount point, without a leading slash.
    pub(super) path: String,
    pub(super) dir: OwnedFd,
}

impl Group {
    /// Opens the group `path`.
    ///
    /// # Errors
    /// NotFound when no hierarchy has it.
    pub fn open(layout: &Layout, path: &str) -> Result<Group> {
        let path = relative(path)?;
        let mut members = Vec::with_capacity(layout.hierarchies.len());
        for hierarchy in &layout.hierarchies {
            let top = files::open_top(&hierarchy.mount_point)?;
            let path = hierarchy.beneath(&path);
            if let Some(dir) = files::open_dir(&top, &path)? {
                members.push(Member { hierarchy: hierarchy.clone(), path, dir });
            }
        }
        if members.is_empty() {
            return Err(Error::new(Kind::NotFound, "open cgroup", format!("/{path}")));
        }
        Ok(Group { path, members, weights: Weights::default() })
    }

    /// Its path, relative to what the mounts show.
    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// The processes in it and in the groups below, ascending, as seen from the caller's PID namespace.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut all = BTreeSet::new();
        for m in [self.unified(), self.v1_for_tasks()].into_iter().flatten() {
            all.extend(files::recursive(m.dir.as_fd())?);
        }
        Ok(all.into_iter().collect())
    }

    /// The member that has `controller`.
    pub(super) fn with(&self, controller: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.hierarchy.controllers.iter().any(|c| c == controller))
    }

    pub(super) fn unified(&self) -> Option<&Member> {
        self.members.iter().find(|m| m.hierarchy.version == Version::V2)
    }

    /// A v1 hierarchy that tells who is in the group: any would do, the freezer's can also hold them.
    pub(super) fn v1_for_tasks(&self) -> Option<&Member> {
        let v1 = |m: &&Member| m.hierarchy.version == Version::V1;
        self.with("freezer").filter(v1).or_else(|| self.members.iter().find(v1))
    }

    #[cfg(test)]
    pub(super) fn layout_has_v1(&self, controller: &str) -> bool {
        self.with(controller).is_some_and(|m| !m.is_v2())
    }
}
