//! Unpacked layers and their rows.
use crate::{Image, Store};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use tare_model::{Digest, Result};

/// A layer being unpacked: a directory that nobody else sees until [`LayerDraft::publish`].
pub struct LayerDraft(());

impl LayerDraft {
    /// The root of the layer's tree, to unpack into.
    pub fn fd(&self) -> BorrowedFd<'_> { todo!() }
    /// Its path, for messages and mounts.
    pub fn path(&self) -> &Path { todo!() }
    /// Gives the layer its name; held by the lease from then on. `size`: bytes of its regular files.
    /// If another process published the same layer meanwhile, that one stays and this draft is discarded.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn publish(self, diff_id: Digest, size: u64) -> Result<()> { todo!() }
}

impl Store {
    /// Whether the layer is unpacked and whole. Hold it with a lease first if it matters that it stays.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool> { todo!() }
    /// The root of a layer's tree: `<root>/layers/<hex>/fs`.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf { todo!() }
    /// The directories of an image for overlayfs, top first.
    pub fn lowers(&self, image: &Image) -> Vec<PathBuf> { todo!() }
    /// The same from diff IDs, bottom first as images list them.
    pub fn lowers_of(&self, diff_ids: &[Digest]) -> Vec<PathBuf> { todo!() }
    /// Bytes of each layer unpacked, bottom first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>> { todo!() }
}
