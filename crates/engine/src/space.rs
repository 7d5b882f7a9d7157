//! Disk space: what takes how much, and giving back what nobody needs.

use crate::Engine;
use crate::images::is_starter;
use crate::request::RemoveOptions;
use crate::starter::STARTER;
use crate::view::{Container, State};
use tare_model::{Digest, Kind, Reference, Result};
use tare_store::{Collected, Image, Progress, Usage, UsageItem, Verified};

/// What takes how much, with what runs.
#[derive(Debug, Clone)]
pub struct DiskUsage {
    /// As the store counts.
    pub store: Usage,
    /// The containers as one line: those that run are used.
    pub containers: UsageItem,
    /// Each container as it is, in the order of the store's; `None` for one that cannot be described.
    pub views: Vec<Option<Container>>,
}

/// Which images nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unneeded {
    /// Those without a name.
    Nameless,
    /// Those of no container.
    Unused,
}

/// What pruning took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Names that images had.
    pub untagged: Vec<Reference>,
    /// Ids of images, and diff IDs of layers.
    pub deleted: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
}

impl Engine {
    /// Counts the space that everything below the root takes.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn usage(&self) -> Result<DiskUsage> {
        let store = self.store.usage()?;
        let mut containers = UsageItem { count: store.containers.len(), ..UsageItem::default() };
        let mut views = Vec::new();
        for usage in &store.containers {
            let view = self.observe(&usage.row).ok();
            let active = view.as_ref().is_some_and(|c| matches!(c.state, State::Running | State::Paused));
            containers.active += usize::from(active);
            containers.bytes += usage.bytes;
            containers.reclaimable += if active { 0 } else { usage.bytes };
            views.push(view);
        }
        Ok(DiskUsage { store, containers, views })
    }

    /// Removes the containers that do not run and for which `wanted` holds.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn container_prune(&self, wanted: &dyn Fn(&Container) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for container in self.containers(true)? {
            if matches!(container.state, State::Running | State::Paused) || !wanted(&container) {
                continue;
            }
            let bytes = self.store.container_bytes(&container.id);
            match self.remove(&container.id, RemoveOptions { force: false, volumes: false }) {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.containers.push(container.id);
                }
                // It was started just now, or somebody was faster.
                Err(e) if matches!(e.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(pruned)
    }

    /// Removes the images that no container was made from and for which `wanted` holds.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn image_prune(&self, which: Unneeded, wanted: &dyn Fn(&Image) -> bool) -> Result<Pruned> {
        let candidate = |image: &Image| (which == Unneeded::Unused || image.names.is_empty()) && wanted(image);
        let mut pruned = Pruned::default();
        let mounted: Vec<Digest> = self.mounted_images()?.into_iter().map(|m| m.id).collect();
        for id in self.store.image_ids()? {
            // Somebody looks at its files.
            if mounted.contains(&id) {
                continue;
            }
            // One whose configuration is damaged has no names to go by; `system check` tells of it.
            if !self.store.image(&id.to_string()).is_ok_and(|image| candidate(&image)) {
                continue;
            }
            let Some(removed) = self.store.remove_unused_image(&id)? else { continue };
            self.let_go_of_layers()?;
            pruned.untagged.extend(removed.untagged);
            pruned.deleted.extend(removed.deleted);
            pruned.bytes += removed.bytes;
        }
        Ok(pruned)
    }

    /// Proves every byte of images on disk; all images without names. `set_aside`: what is damaged is moved out of its place, so
    /// that nothing new stands on it and the next pull brings it anew.
    ///
    /// # Errors
    /// `Kind::NotFound`; state that cannot be read. What is damaged is no error.
    pub fn verify_images(&self, names: &[String], set_aside: bool, progress: &dyn Progress) -> Result<Verified> {
        let ids = if names.is_empty() {
            self.store.image_ids()?
        } else {
            let id = |name: &String| match self.store.image_id(name) {
                Err(e) if e.kind() == Kind::NotFound && is_starter(name) => self.store.image_id(STARTER),
                other => other,
            };
            names.iter().map(id).collect::<Result<Vec<_>>>()?
        };
        let verified = self.store.verify(&ids, set_aside, progress)?;
        if !verified.set_aside.is_empty() {
            self.let_go_of_layers()?;
        }
        Ok(verified)
    }

    /// Removes whatever no image, container or living process refers to.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub fn collect(&self) -> Result<Collected> {
        let collected = self.store.gc()?;
        // Also of those whose remover was killed.
        self.let_go_of_layers()?;
        Ok(collected)
    }
}
