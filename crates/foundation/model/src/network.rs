//! Networks as they are defined: what `network create` decided.

use crate::address::{AddressRange, IpNet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A network's definition, kept as JSON in the store. It says nothing of whether its devices are there just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name; `bridge` for the default one.
    pub name: String,
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// What joins its containers.
    pub driver: Driver,
    /// The bridge's name on the host; `None` for the other drivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// At most one of each family, IPv4 first; none for addresses that others give.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// The host's device: a port of the bridge, what a macvlan or ipvlan stands on, or the one that is moved (phys).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// For macvlan `bridge`, `private`, `vepa` or `passthru`; for ipvlan `l2`, `l3` or `l3s`. `None`: the first of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Nothing goes in or out but to the host's own address on the bridge; no default route.
    #[serde(default)]
    pub internal: bool,
    /// Not even reached through published ports of, or by, other networks' containers.
    #[serde(default)]
    pub isolate: bool,
    /// Whether containers of this network reach each other.
    #[serde(default = "yes")]
    pub icc: bool,
    /// Whether packets leave under the host's address.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// Whether names of its containers are answered.
    #[serde(default = "yes")]
    pub dns: bool,
    /// Resolvers of its containers that name none; none for the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Routes that its containers get beside the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Largest packet in bytes; `None` for that of the host's default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Where ports are published that name no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_address: Option<IpAddr>,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options of the driver as they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Unix nanoseconds.
    pub created: i64,
}

fn yes() -> bool {
    true
}

impl Network {
    /// A network with nothing out of the usual, and no subnets yet.
    pub fn new(name: &str, id: &str, driver: Driver) -> Network {
        Network {
            name: name.to_owned(),
            id: id.to_owned(),
            driver,
            device: None,
            subnets: Vec::new(),
            parent: None,
            mode: None,
            internal: false,
            isolate: false,
            icc: true,
            masquerade: true,
            dns: true,
            servers: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            publish_address: None,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            created: 0,
        }
    }

    /// The subnet of IPv4, if it has one.
    pub fn v4(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.is_ipv4())
    }

    /// The subnet of IPv6, if it has one.
    pub fn v6(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.is_ipv6())
    }
}

/// What joins the containers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge on the host, with the host as router.
    Bridge,
    /// Devices of their own on one of the host's, each with its hardware address.
    Macvlan,
    /// Devices of their own on one of the host's that share its hardware address.
    Ipvlan,
    /// One of the host's devices itself, given to one container.
    Phys,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Phys => "phys",
        })
    }
}

/// A route to a network behind another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop, in one of the network's subnets.
    pub gateway: IpAddr,
    /// Among routes to the same destination the lowest wins; `None` for the kernel's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// Where addresses of one family come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The network; its host part is zero.
    pub net: IpNet,
    /// The next hop of the default route: with a bridge the host's address on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The part from which addresses are chosen; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<AddressRange>,
    /// Addresses that are never given to a container.
    #[serde(default)]
    pub reserved: Vec<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_needs_little_and_survives_json() {
        let least = r#"{"name":"a","id":"00","driver":"macvlan","created":7}"#;
        let mut network: Network = serde_json::from_str(least).unwrap();
        assert!(network.icc && network.masquerade && network.dns && !network.internal && !network.isolate);
        assert_eq!((network.driver, network.driver.to_string().as_str()), (Driver::Macvlan, "macvlan"));
        let subnet =
            |text: &str| Subnet { net: text.parse().unwrap(), gateway: None, range: None, reserved: Vec::new() };
        assert_eq!(Network { created: 7, ..Network::new("a", "00", Driver::Macvlan) }, network);
        network.subnets = vec![subnet("fd00::/64"), subnet("10.0.0.0/24")];
        assert!(network.v4().unwrap().net.is_ipv4() && network.v6().unwrap().net.is_ipv6());
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }
}
