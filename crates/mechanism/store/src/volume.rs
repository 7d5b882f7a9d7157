//! Volumes.
use crate::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tare_model::Result;

/// What to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// A name; `None` makes an anonymous volume with a random one.
    pub name: Option<String>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its name.
    pub name: String,
    /// Made without a name.
    pub anonymous: bool,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// Unix nanoseconds.
    pub created: i64,
    /// `<root>/volumes/<name>/_data`.
    pub path: PathBuf,
}

/// Which unused volumes to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Only anonymous ones (docker's default).
    Anonymous,
    /// Named ones too.
    All,
}

impl Store {
    /// Makes a volume; returns the present one if the name exists. Durable. The flag says whether it was made now.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed name.
    pub fn volume_create(&self, spec: &VolumeSpec) -> Result<(VolumeRow, bool)> { todo!() }
    /// Finds a volume.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn volume(&self, name: &str) -> Result<VolumeRow> { todo!() }
    /// All volumes by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeRow>> { todo!() }
    /// Removes a volume and its content. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container.
    pub fn volume_remove(&self, name: &str) -> Result<()> { todo!() }
    /// Removes volumes that no container uses and that `keep` does not hold back; returns what went.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn volume_prune(&self, which: Prune, keep: &dyn Fn(&VolumeRow) -> bool) -> Result<Vec<VolumeRow>> { todo!() }
    /// The ids of containers that use a volume.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>> { todo!() }
}
