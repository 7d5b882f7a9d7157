//! One network's part of the rules, before they are rules.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::network::Network;

/// What may pass in and out of one bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The bridge device: packets are told apart by it.
    pub bridge: String,
    /// From where its containers speak; host parts are zero. None: any source is taken for a container's own.
    pub subnets: Vec<IpNet>,
    /// The host's own addresses on the bridge: no container speaks from them.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// A device of the host's is a port of the bridge: machines behind it speak under addresses of their own.
    #[serde(default)]
    pub parent: bool,
    /// Nothing in or out but to the host's own address on the bridge.
    pub internal: bool,
    /// Not reached through published ports by containers of other networks, nor reaching theirs.
    pub isolate: bool,
    /// Whether its containers reach each other.
    pub icc: bool,
    /// Whether packets leave under the host's address.
    pub masquerade: bool,
}

impl Policy {
    /// The policy of `network` on its bridge.
    pub fn of(network: &Network, bridge: &str) -> Policy {
        Policy {
            bridge: bridge.to_owned(),
            subnets: network.subnets.iter().map(|subnet| subnet.net).collect(),
            gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
            parent: network.parent.is_some(),
            internal: network.internal,
            isolate: network.isolate,
            icc: network.icc,
            masquerade: network.masquerade,
        }
    }
}
