//! Layers and images made from entries in memory: the starter image, tests.
use crate::{Image, ImageLayer, Lease, Store};
use std::fs::File;
use tare_model::image::{Compression, ImageConfig};
use tare_model::{Reference, Result};

/// Entries of a layer, in the order given.
pub type Tree = Vec<TreeEntry>;

/// One entry.
#[derive(Debug)]
pub struct TreeEntry {
    /// Relative path, `/` between components.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub node: TreeNode,
}

/// What an entry is.
#[derive(Debug)]
pub enum TreeNode {
    /// A directory.
    Dir,
    /// A regular file with this content.
    Bytes(Vec<u8>),
    /// A regular file with the content of this one, read from its start.
    File(File),
    /// A symbolic link.
    Symlink(String),
}

/// A layer that is now in the store, held by the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// As images list it.
    pub layer: ImageLayer,
    /// Bytes of its regular files.
    pub size: u64,
}

impl Store {
    /// Unpacks a tar stream (any compression, detected) as a layer and keeps its blob: as it came if compressed,
    /// else compressed with `compress`. One pass.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid` for malformed streams.
    pub fn add_layer(&self, lease: &Lease, tar: &mut dyn std::io::Read, compress: Compression) -> Result<NewLayer> { todo!() }
    /// A layer from entries; the same entries give the same digest.
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn layer_from_tree(&self, lease: &Lease, tree: Tree, compress: Compression) -> Result<NewLayer> { todo!() }
    /// A one-layer image from entries: the starter image. Deterministic.
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn image_from_tree(&self, tree: Tree, config: ImageConfig, name: &Reference) -> Result<Image> { todo!() }
}
