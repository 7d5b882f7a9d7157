//! The bridge of a network: its name, the host's addresses on it, and what may pass.

use crate::{Policy, Site};
use serde::{Deserialize, Serialize};
use tare_model::address::{IpNet, MacAddress};
use tare_model::network::Network;
use tare_model::{Error, Kind, Result};

/// What must be there before a container can be connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePlan {
    /// Name of the bridge device.
    pub bridge: String,
    /// The nftables table of the root.
    pub table: String,
    /// The host's addresses on it, each with the prefix length of its subnet: the containers' gateways.
    pub addresses: Vec<IpNet>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The bridge's hardware address: that of its lowest port otherwise, which comes and goes.
    pub mac: MacAddress,
    /// A device of the host that becomes a port of the bridge.
    pub parent: Option<String>,
    /// What may pass.
    pub policy: Policy,
}

impl BridgePlan {
    /// The bridge of `network`. `mtu` counts where the network's definition has none.
    ///
    /// # Errors
    /// `Kind::Invalid` for a network without a bridge or without an address of the host on it.
    pub fn of(site: &Site, network: &Network, mtu: u32) -> Result<BridgePlan> {
        let invalid = |why: &str| Error::new(Kind::Invalid, "plan network", &network.name).because(why);
        let bridge = network.device.clone().ok_or_else(|| invalid("it has no bridge"))?;
        let gateways = network.subnets.iter().filter_map(|s| IpNet::new(s.gateway?, s.net.prefix()));
        let addresses: Vec<IpNet> = gateways.collect();
        let first = addresses.first().ok_or_else(|| invalid("the host has no address in it"))?;
        Ok(BridgePlan {
            mac: MacAddress::of(first.address()),
            table: site.table.clone(),
            mtu: network.mtu.unwrap_or(mtu),
            parent: network.parent.clone(),
            policy: Policy::of(network, &bridge),
            addresses,
            bridge,
        })
    }
}

/// What [`Host::ensure_bridge`](crate::Host::ensure_bridge) found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeReport {
    /// The bridge was made now.
    pub bridge_created: bool,
    /// Rules were written now: they were missing, or from another version or definition.
    pub rules_written: bool,
    /// Settings of the host that were changed so that packets pass between its devices. They stay: others may have
    /// come to rely on them.
    pub settings: Vec<Setting>,
}

/// A kernel setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name as sysctl(8) takes it, `net.ipv4.ip_forward`; a dot in a device's name is written as a slash.
    pub name: String,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub now: String,
}

/// What [`Host::set_bridge_aside_if_unused`](crate::Host::set_bridge_aside_if_unused) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeRemoval {
    /// Bridge and rules are gone, or were not there; of the bridge something may be left to be deleted.
    Removed,
    /// A device is still connected; nothing was changed.
    Used,
}
