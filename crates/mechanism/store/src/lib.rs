//! What tare keeps on disk: blobs, layers, images, containers, addresses, networks, volumes.
#![allow(unused_variables, dead_code, missing_debug_implementations, reason = "signatures published ahead of their bodies")]

pub mod archive;
pub mod layer;
mod address;
mod blob;
mod check;
mod container;
mod db;
mod image;
mod layers;
mod lease;
mod network;
mod progress;
mod tree;
mod usage;
mod volume;

pub use address::{AddressRequest, AddressRow, Cidr};
pub use blob::BlobWriter;
pub use check::{Collected, Finding};
pub use container::{ContainerRow, NewContainer, Reserved};
pub use db::Durability;
pub use image::{Image, ImageLayer, NewImage, Removed};
pub use layers::LayerDraft;
pub use lease::Lease;
pub use network::NetworkRow;
pub use progress::{Event, Progress, Silent};
pub use tree::{NewLayer, Tree, TreeEntry, TreeNode};
pub use usage::{Usage, UsageItem};
pub use volume::{VolumeRow, VolumeSpec, Prune};

use std::path::Path;
use tare_model::Result;

/// One root directory. Cheap to clone; may be used from several threads.
#[derive(Clone)]
pub struct Store(std::sync::Arc<()>);

impl Store {
    /// Opens the store at `root`, making it if it is not there. Touches no table before the first question.
    ///
    /// # Errors
    /// `Kind::Unsupported` if a newer tare has written the store.
    pub fn open(root: &Path) -> Result<Store> { todo!() }
    /// The root directory.
    pub fn root(&self) -> &Path { todo!() }
}
