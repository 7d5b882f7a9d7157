//! The bridge of a network with its address and its nftables table.

use crate::{Instance, Ruleset};
use serde::{Deserialize, Serialize};
use tare_model::address::{IpNet, MacAddress};

/// What must be there before a container can be connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePlan {
    /// Name of the bridge device.
    pub bridge: String,
    /// The gateway's address with the prefix length of the subnet.
    pub address: IpNet,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The bridge's hardware address: that of its lowest port otherwise, which comes and goes.
    pub mac: MacAddress,
    /// The nftables table.
    pub rules: Ruleset,
}

/// What [`Host::ensure_bridge`](crate::Host::ensure_bridge) found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeReport {
    /// The bridge was made now.
    pub bridge_created: bool,
    /// The table was written now: it was missing, or from another version or subnet.
    pub table_written: bool,
    /// `net.ipv4.ip_forward` was 0 and is 1 now. It stays: others may have come to rely on it.
    pub forwarding_enabled: bool,
}

/// What [`Host::remove_bridge_if_unused`](crate::Host::remove_bridge_if_unused) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeRemoval {
    /// Bridge and table are gone, or were not there.
    Removed,
    /// A device is still connected; nothing was changed.
    Used,
}

impl Instance {
    /// What [`Host::ensure_bridge`](crate::Host::ensure_bridge) brings about.
    pub fn bridge_plan(&self) -> BridgePlan {
        BridgePlan {
            bridge: self.bridge.clone(),
            address: IpNet::new(self.gateway.into(), self.subnet.prefix()).unwrap_or(self.subnet),
            mtu: self.mtu,
            mac: MacAddress::of(self.gateway.into()),
            rules: Ruleset::of(self),
        }
    }
}
