//! How much space what takes.
use crate::Store;
use tare_model::Result;

/// One line of `system df`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageItem {
    /// How many there are.
    pub count: usize,
    /// How many are used.
    pub active: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that pruning would free.
    pub reclaimable: u64,
}

/// Disk usage of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images: unpacked layers.
    pub images: UsageItem,
    /// Blobs kept for push and save.
    pub blobs: UsageItem,
    /// Containers' directories.
    pub containers: UsageItem,
    /// Volumes.
    pub volumes: UsageItem,
}

impl Store {
    /// Counts the space that everything takes; walks containers and volumes.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn usage(&self) -> Result<Usage> { todo!() }
}
