//! What a caller wants of networks: for a container, and of a network itself.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use tare_model::address::{AddressRange, IpNet, MacAddress};
use tare_model::network::{Driver, Route};
use tare_network::Transport;

/// Whose network stack a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// One of its own, connected to the networks in [`RunRequest::attachments`](super::RunRequest::attachments); none
    /// there: to the default network.
    #[default]
    Bridge,
    /// The host's own stack.
    Host,
    /// A stack of its own with nothing but loopback.
    None,
    /// Another container's stack.
    Container(String),
    /// The stack of the network namespace that is bound or linked at this absolute path.
    Path(PathBuf),
}

/// A container's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network: name, id or beginning of an id; empty for the default one.
    pub network: String,
    /// Further names of the container there. Its name and short id always are names of it.
    pub aliases: Vec<String>,
    /// This address and no other.
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address and no other.
    pub ip6: Option<Ipv6Addr>,
    /// Hardware address; one that belongs to the IP address where absent.
    pub mac: Option<MacAddress>,
    /// Name of the device inside; the first free of `eth0`, `eth1`, … where absent.
    pub interface: Option<String>,
    /// The network with the highest number has the default route; the first one among equals.
    pub gw_priority: i32,
    /// Further addresses of the device, valid on its link only (169.254.0.0/16, fe80::/64).
    pub link_local: Vec<IpAddr>,
}

/// What a container's resolver is told; what is empty is the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers to which questions for names outside are forwarded.
    pub servers: Vec<IpAddr>,
    /// Search domains; a single `.` for none.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

/// One more name in a container's /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Where it points.
    pub address: HostAddress,
}

/// Where an added host's name points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAddress {
    /// To this address.
    Ip(IpAddr),
    /// To the host, as the container reaches it (`host-gateway`).
    Gateway,
    /// To another container, named by name or id: its address on a network that both are on, looked up at each start.
    Container(String),
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// Host address; where absent, the network's own choice ([`tare_model::network::Network::publish_address`]), or all
    /// addresses of both families.
    pub host_ip: Option<IpAddr>,
    /// A free host port of this range, ends included, or this port if both are the same; any free one where absent.
    #[serde(default, alias = "host_port", deserialize_with = "port_or_range")]
    pub host_ports: Option<(u16, u16)>,
    /// Port inside.
    pub container_port: u16,
    /// The protocol.
    #[serde(alias = "protocol")]
    pub transport: Transport,
}

/// Containers made by the first version have `"host_port": 80`.
fn port_or_range<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(u16, u16)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Range((u16, u16)),
        Port(u16),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::Range(range) => range,
        Either::Port(port) => (port, port),
    }))
}

/// A network that shall be made. What is absent is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// How containers are connected.
    pub driver: Driver,
    /// At most one subnet of each family for most drivers; chosen where absent.
    pub subnets: Vec<IpNet>,
    /// The next hop of the default route (for a bridge, the host's own address), each in one of the subnets.
    pub gateways: Vec<IpAddr>,
    /// The part of a subnet from which addresses are handed out unasked, each in one of the subnets.
    pub ranges: Vec<AddressRange>,
    /// Addresses of other machines, never handed out, with what they are for.
    pub reserved: BTreeMap<String, IpAddr>,
    /// Whether containers get IPv4 addresses; absent: as the driver has it.
    pub ipv4: Option<bool>,
    /// Whether containers get IPv6 addresses; absent: as the driver has it.
    pub ipv6: Option<bool>,
    /// Nothing in or out but to the host's own address.
    pub internal: bool,
    /// Containers find each other by name.
    pub dns: bool,
    /// Resolvers of its containers that name none.
    pub servers: Vec<IpAddr>,
    /// Routes that its containers get beside the default one.
    pub routes: Vec<Route>,
    /// The device of the host that it stands on; as the option `parent`.
    pub parent: Option<String>,
    /// Name of the bridge device; made up where absent.
    pub device: Option<String>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// `-o`: docker's `com.docker.network.…` keys or podman's short ones.
    pub options: BTreeMap<String, String>,
}

impl Default for NetworkRequest {
    fn default() -> Self {
        NetworkRequest {
            name: String::new(),
            driver: Driver::Bridge,
            subnets: Vec::new(),
            gateways: Vec::new(),
            ranges: Vec::new(),
            reserved: BTreeMap::new(),
            ipv4: None,
            ipv6: None,
            internal: false,
            dns: true,
            servers: Vec::new(),
            routes: Vec::new(),
            parent: None,
            device: None,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }
}
