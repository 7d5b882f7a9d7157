//! Networks' rows.
use crate::{Cidr, Store};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_model::Result;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// `bridge`, …
    pub driver: String,
    /// Where its addresses come from.
    pub subnet: Option<Cidr>,
    /// The host's address in it.
    pub gateway: Option<IpAddr>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// Unix nanoseconds.
    pub created: i64,
}

impl Store {
    /// Finds a network.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn network(&self, name: &str) -> Result<NetworkRow> { todo!() }
    /// All networks by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkRow>> { todo!() }
    /// Records a network unless one of that name is there; returns the one that is there afterwards.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn put_network_if_absent(&self, network: &NetworkRow) -> Result<NetworkRow> { todo!() }
    /// Forgets a network.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container that has an address in it.
    pub fn remove_network(&self, name: &str) -> Result<()> { todo!() }
}
