//! Addresses leased to containers.
use crate::Store;
use std::net::IpAddr;
use tare_model::Result;

/// A subnet, as `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// An address in it.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A wish for one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRequest {
    /// The network's name.
    pub network: String,
    /// Where addresses come from.
    pub pool: Cidr,
    /// Never handed out (gateway, …). The pool's first and, in IPv4, last address never are either.
    pub exclude: Vec<IpAddr>,
    /// This one and no other.
    pub wanted: Option<IpAddr>,
}

/// A leased or quarantined address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// The network's name.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The container that has it, or had it if quarantined.
    pub container: String,
    /// Freed by its container but maybe still on a device: not handed out.
    pub quarantined: bool,
}

impl Store {
    /// Leases one more address for a container.
    ///
    /// # Errors
    /// `Kind::Exhausted`; `Kind::InUse` if the wanted one is taken; `Kind::NotFound`.
    pub fn lease_address(&self, container: &str, request: &AddressRequest) -> Result<IpAddr> { todo!() }
    /// Frees all addresses that this container has or had, quarantined or not: its devices are gone.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn release_addresses(&self, container: &str) -> Result<()> { todo!() }
    /// Frees one address.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn release_address(&self, network: &str, address: IpAddr) -> Result<()> { todo!() }
    /// All leased and quarantined addresses of a network, or of all.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn addresses(&self, network: Option<&str>) -> Result<Vec<AddressRow>> { todo!() }
    /// The addresses of one container.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn container_addresses(&self, container: &str) -> Result<Vec<AddressRow>> { todo!() }
}
