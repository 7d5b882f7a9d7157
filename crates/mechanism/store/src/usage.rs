//! How much space what takes.

use crate::lease::digests_in;
use crate::rows::References;
use crate::{Image, Store};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use tare_model::{Digest, Result};

/// One line of `system df`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageItem {
    /// How many there are.
    pub count: usize,
    /// How many are used.
    pub active: usize,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that pruning everything unused would free.
    pub reclaimable: u64,
}

/// Disk usage of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images: the files of their layers, each layer once.
    pub images: UsageItem,
    /// Blobs kept for push and save: bytes on disk.
    pub blobs: UsageItem,
    /// Containers' directories: bytes on disk. The store does not know which run, so none counts as reclaimable.
    pub containers: UsageItem,
    /// Volumes: bytes on disk.
    pub volumes: UsageItem,
}

impl Store {
    /// Counts the space that everything takes; walks containers and volumes.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let containers = self.containers()?;
        let images = self.images()?;
        let used: HashSet<_> = containers.iter().filter_map(|c| c.image).collect();
        let mut usage = Usage { images: self.images_usage(&images, &used)?, ..Usage::default() };
        let refs = self.read(References::read)?;
        let kept: HashSet<Digest> = images.iter().filter(|i| used.contains(&i.id)).flat_map(blobs_of).collect();
        for digest in digests_in(&self.root().join("blobs/sha256"))? {
            let size = std::fs::metadata(self.blob_path(&digest)).map_or(0, |m| m.blocks() * 512);
            usage.blobs.count += 1;
            usage.blobs.active += usize::from(refs.blobs.contains(&digest));
            usage.blobs.bytes += size;
            usage.blobs.reclaimable += if kept.contains(&digest) { 0 } else { size };
        }
        for container in &containers {
            usage.containers.count += 1;
            usage.containers.bytes += disk_bytes(&self.container_dir(&container.id), &mut HashSet::new());
        }
        for volume in self.volumes()? {
            let bytes = disk_bytes(&volume.path, &mut HashSet::new());
            let active = containers.iter().any(|c| c.volumes.contains(&volume.name));
            usage.volumes.count += 1;
            usage.volumes.active += usize::from(active);
            usage.volumes.bytes += bytes;
            usage.volumes.reclaimable += if active { 0 } else { bytes };
        }
        Ok(usage)
    }

    fn images_usage(&self, images: &[Image], used: &HashSet<Digest>) -> Result<UsageItem> {
        let mut item = UsageItem::default();
        // Each layer once: its size, and whether an image in use has it.
        let mut layers: BTreeMap<Digest, (u64, bool)> = BTreeMap::new();
        for image in images {
            item.count += 1;
            let active = used.contains(&image.id);
            item.active += usize::from(active);
            for (diff_id, size) in image.diff_ids().into_iter().zip(self.layer_sizes(image)?) {
                let layer = layers.entry(diff_id).or_insert((size, false));
                layer.1 |= active;
            }
        }
        item.bytes = layers.values().map(|(size, _)| size).sum();
        item.reclaimable = layers.values().filter(|(_, active)| !active).map(|(size, _)| size).sum();
        Ok(item)
    }

    /// Bytes on disk of one container's directory, the init layer and logs included.
    pub fn container_bytes(&self, id: &str) -> u64 {
        disk_bytes(&self.container_dir(id), &mut HashSet::new())
    }
}

fn blobs_of(image: &Image) -> Vec<Digest> {
    image.layers.iter().map(|l| l.blob.digest).chain([image.id, image.manifest.digest]).collect()
}

/// What `du` says: blocks of everything below, files with several names once. What vanishes meanwhile is passed over,
/// and other file systems (a running container's mounts) are not entered.
fn disk_bytes(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let Ok(top) = std::fs::symlink_metadata(path) else { return 0 };
    let mut total = 0;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.dev() != top.dev() || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert((meta.dev(), meta.ino()))) {
            continue;
        }
        total += meta.blocks() * 512;
        if meta.is_dir()
            && let Ok(entries) = std::fs::read_dir(&path)
        {
            left.extend(entries.flatten().map(|e| e.path()));
        }
    }
    total
}
