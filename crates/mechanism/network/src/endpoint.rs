//! A container's end of a network: the veth pair, its address, its published ports.

use crate::{Instance, PortMapping, instance::base32};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tare_model::address::{IpNet, MacAddress};

/// What [`Host::connect`](crate::Host::connect) brings about in the host and in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// The bridge to connect to.
    pub bridge: String,
    /// The nftables table with the port maps.
    pub table: String,
    /// Name of the host's end. Never used twice: the old one disappears some 15 ms after its namespace.
    pub link: String,
    /// Name of the container's end, `eth0`.
    pub interface: String,
    /// The container's address with the prefix length of the subnet.
    pub address: IpNet,
    /// Next hop of the default route; `None` for no default route.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of the container's end.
    pub mac: MacAddress,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Published ports, as [`reserve_ports`](crate::reserve_ports) returned them: no host port is 0.
    pub ports: Vec<PortMapping>,
}

impl EndpointPlan {
    /// The usual endpoint: `eth0` at `address` on `instance`'s bridge, a host's end named from the random `token`.
    pub fn new(instance: &Instance, token: u64, address: Ipv4Addr, ports: Vec<PortMapping>) -> Self {
        EndpointPlan {
            bridge: instance.bridge.clone(),
            table: instance.table.clone(),
            link: format!("tv{}", base32(token, 12)),
            interface: "eth0".to_owned(),
            address: IpNet::new(address.into(), instance.subnet.prefix()).unwrap_or(instance.subnet),
            gateway: Some(instance.gateway),
            mac: MacAddress::of(address.into()),
            mtu: instance.mtu,
            ports,
        }
    }

    /// What is there once the plan is applied.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            table: self.table.clone(),
            link: self.link.clone(),
            interface: self.interface.clone(),
            address: self.address,
            gateway: self.gateway,
            mac: self.mac,
            ports: self.ports.clone(),
        }
    }
}

/// What was connected: enough to describe it and, from any process, to take it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The nftables table with the port maps.
    pub table: String,
    /// Name of the host's end.
    pub link: String,
    /// Name of the container's end.
    pub interface: String,
    /// The container's address with the prefix length of the subnet.
    pub address: IpNet,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of the container's end.
    pub mac: MacAddress,
    /// The ports that are published.
    pub ports: Vec<PortMapping>,
}
