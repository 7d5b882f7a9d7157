//! Containers' rows: id, name, what they use.
use crate::{AddressRequest, Durability, Store};
use std::net::IpAddr;
use std::path::PathBuf;
use tare_model::{Digest, Result};

/// What [`Store::reserve_container`] needs.
#[derive(Debug, Clone)]
pub struct NewContainer<'a> {
    /// 64 lower-case hexadecimal digits.
    pub id: &'a str,
    /// A name, or one is made up.
    pub name: Option<&'a str>,
    /// The image's id.
    pub image: Option<Digest>,
    /// Layers that it stands on, bottom first: kept as long as the container is.
    pub layers: &'a [Digest],
    /// Unix nanoseconds.
    pub created: i64,
    /// One per network and family.
    pub addresses: &'a [AddressRequest],
    /// Names of existing volumes.
    pub volumes: &'a [String],
    /// `Durable` for create, `Lazy` for `run --rm`.
    pub durability: Durability,
}

/// What a container got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Its name.
    pub name: String,
    /// In the order of the requests.
    pub addresses: Vec<IpAddr>,
    /// Its directory, made.
    pub dir: PathBuf,
}

/// A container's row. The rest is in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image's id.
    pub image: Option<Digest>,
    /// Unix nanoseconds.
    pub created: i64,
}

impl Store {
    /// A fresh container id: 64 random hexadecimal digits.
    pub fn new_id() -> String { todo!() }
    /// Reserves id, name, addresses, volumes and layers and makes the directory, all or nothing.
    ///
    /// # Errors
    /// `Kind::AlreadyExists` naming the holder of the name; `Kind::NotFound` for a volume or layer;
    /// `Kind::Exhausted` without a free address.
    pub fn reserve_container(&self, new: &NewContainer<'_>) -> Result<Reserved> { todo!() }
    /// Finds a container by id, name, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub fn container(&self, name_or_id: &str) -> Result<ContainerRow> { todo!() }
    /// All containers, newest first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn containers(&self) -> Result<Vec<ContainerRow>> { todo!() }
    /// Gives a container (its full id) another name. Durable.
    ///
    /// # Errors
    /// `Kind::AlreadyExists`, `Kind::NotFound`, `Kind::Invalid`.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> { todo!() }
    /// Forgets a container: name, layers and volumes are free; its addresses go into quarantine until
    /// [`Store::release_addresses`]. No error if it is not there. Its directory stays.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn release_container(&self, id: &str, durability: Durability) -> Result<()> { todo!() }
    /// Removes a container's directory (renamed away first, so never half there).
    ///
    /// # Errors
    /// System calls that fail.
    pub fn remove_container_dir(&self, id: &str) -> Result<()> { todo!() }
    /// `<root>/containers/<id>`.
    pub fn container_dir(&self, id: &str) -> PathBuf { todo!() }
    /// The layers that a container stands on, bottom first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn container_layers(&self, id: &str) -> Result<Vec<Digest>> { todo!() }
    /// The volumes that a container uses.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn container_volumes(&self, id: &str) -> Result<Vec<String>> { todo!() }
}
