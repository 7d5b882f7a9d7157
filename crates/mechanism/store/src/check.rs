//! Consistency and garbage.
use crate::Store;
use tare_model::Result;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it concerns: `image sha256:…`, `blob …`, `container …`.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// Whether [`Store::gc`] puts it right.
    pub collectable: bool,
}

/// What [`Store::gc`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Leases of dead processes.
    pub leases: usize,
    /// Directories of containers and volumes without a row.
    pub directories: usize,
    /// Bytes freed, as far as known.
    pub bytes: u64,
}

impl Store {
    /// Removes whatever no image, container, volume or living lease refers to.
    ///
    /// # Errors
    /// State that cannot be read or written; files that cannot be removed are tried past and reported as one error.
    pub fn gc(&self) -> Result<Collected> { todo!() }
    /// Lists inconsistencies; with `deep` reads every blob again.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn check(&self, deep: bool) -> Result<Vec<Finding>> { todo!() }
}
