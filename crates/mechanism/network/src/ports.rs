//! Ports of the host that lead to containers: reserved by a bound socket each, so that a conflict shows at once.

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tare_model::Result;

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; `None` for all of them.
    pub host_ip: Option<Ipv4Addr>,
    /// The host's port; 0 asks for a free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
}

/// Ports that are ours as long as the sockets are open.
#[derive(Debug)]
pub struct Reservation {
    /// What was asked for, in order, with the free ports filled in.
    pub ports: Vec<PortMapping>,
    /// One bound socket per port. It never listens: should our rules be flushed, a client is refused, not left hanging.
    pub sockets: Vec<OwnedFd>,
}

/// Reserves the host's side of `wanted`, all or nothing; to be called in the host's network namespace.
///
/// Whoever keeps the container alive keeps the sockets. Fails with `InUse`, naming the holder where it can be found,
/// and with `Invalid` when the host has no such address.
pub fn reserve_ports(wanted: &[PortMapping]) -> Result<Reservation> {
    let _ = wanted;
    todo!()
}
