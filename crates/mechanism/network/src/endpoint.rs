//! A container's end of a network, as data: what is to be made, and what was.

use crate::site::link_name;
use crate::{IpvlanMode, LentDevice, MacvlanMode, PortMapping, Rate, Site};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_model::address::{IpNet, MacAddress};
use tare_model::network::{Driver, Network, Route, Subnet};
use tare_model::{Error, Kind, Result};

/// What [`Host::connect`](crate::Host::connect) brings about in the host and in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// The network's id.
    pub network: String,
    /// What joins the container to the network.
    pub kind: EndpointKind,
    /// The nftables table with the port maps.
    pub table: String,
    /// Name of the host's end of a veth pair; see [`link_name`]. A device of another kind has it for a moment inside.
    pub link: String,
    /// Name of the container's end, `eth0`.
    pub interface: String,
    /// The container's addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Next hops of the default routes, at most one of each family; none for no default route. The unspecified address
    /// stands for the device itself.
    pub gateways: Vec<IpAddr>,
    /// The default routes' metric: of several, the lowest wins. 0 for the kernel's choice.
    pub metric: u32,
    /// Further routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Hardware address of the container's end; `None` for the kernel's choice.
    pub mac: Option<MacAddress>,
    /// Largest packet, in bytes; 0 for that of the device below.
    pub mtu: u32,
    /// Published ports, as [`reserve_ports`](crate::reserve_ports) returned them: no host port is 0.
    pub ports: Vec<PortMapping>,
    /// How fast it may be.
    #[serde(default)]
    pub rate: Rate,
    /// For `Phys`, what [`Host::lend`](crate::Host::lend) read: recorded by the caller before it connects, as nobody may
    /// live to do so after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<LentDevice>,
}

/// What joins a container to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// A veth pair whose other end is a port of a bridge.
    Bridge {
        /// The bridge device.
        bridge: String,
        /// The port does not talk to other such ports.
        isolated_port: bool,
    },
    /// A device of its own on a device of the host, with its own hardware address.
    Macvlan {
        /// The host's device.
        parent: String,
        /// Who reaches whom.
        mode: MacvlanMode,
    },
    /// A device of its own on a device of the host, with that one's hardware address.
    Ipvlan {
        /// The host's device.
        parent: String,
        /// At which layer the host's device decides.
        mode: IpvlanMode,
    },
    /// A device of the host itself.
    Phys {
        /// Its name on the host.
        device: String,
    },
}

impl EndpointPlan {
    /// The usual endpoint in `network`: `eth0` with `addresses`, each of one of its subnets, default routes through the
    /// network's gateways of these families, a hardware address that follows from the first of them, a host's end named
    /// from the random `token`, no ports, no limits. Callers change what is to be otherwise.
    ///
    /// # Errors
    /// `Kind::Invalid` for an address that no subnet has, and for a network without bridge or parent device.
    pub fn of(site: &Site, network: &Network, token: u64, addresses: &[IpAddr]) -> Result<EndpointPlan> {
        let invalid = || Error::new(Kind::Invalid, "plan endpoint", &network.name);
        let mut nets = Vec::new();
        let mut gateways: Vec<IpAddr> = Vec::new();
        for address in addresses {
            let subnet = network
                .subnets
                .iter()
                .find(|s| s.net.contains(*address))
                .ok_or_else(|| invalid().because(format_args!("{address} belongs to none of its subnets")))?;
            nets.extend(IpNet::new(*address, subnet.net.prefix()));
            gateways.extend(EndpointPlan::way_out(network, subnet));
        }
        let kind = kind(network)?;
        // Of the other kinds the device below decides.
        let own_mac = match kind {
            EndpointKind::Bridge { .. } => true,
            EndpointKind::Macvlan { mode, .. } => mode != MacvlanMode::Passthru,
            EndpointKind::Ipvlan { .. } | EndpointKind::Phys { .. } => false,
        };
        Ok(EndpointPlan {
            network: network.id.clone(),
            kind,
            table: site.table.clone(),
            link: link_name(token),
            interface: "eth0".to_owned(),
            mac: addresses.first().filter(|_| own_mac).map(|a| MacAddress::of(*a)),
            addresses: nets,
            gateways,
            metric: 0,
            routes: network.routes.clone(),
            mtu: network.mtu.unwrap_or(0),
            ports: Vec::new(),
            rate: Rate::default(),
            lent: None,
        })
    }

    /// Where the default route of containers on this subnet of `network` leads, if it leads anywhere: the gateway, or the
    /// unspecified address for the device itself.
    pub fn way_out(network: &Network, subnet: &Subnet) -> Option<IpAddr> {
        // The other side of such a device is the host's device, which answers for no address.
        let direct = matches!(kind(network), Ok(EndpointKind::Ipvlan { mode, .. }) if mode.routes());
        let any = if subnet.net.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let way = if direct { Some(any) } else { subnet.gateway };
        way.filter(|_| !network.internal)
    }

    /// What is there once the plan is applied.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            network: self.network.clone(),
            kind: self.kind.clone(),
            table: self.table.clone(),
            link: self.link.clone(),
            interface: self.interface.clone(),
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
            metric: self.metric,
            mac: self.mac,
            mtu: self.mtu,
            ports: self.ports.clone(),
            rate: self.rate,
            lent: self.lent.clone(),
        }
    }
}

fn kind(network: &Network) -> Result<EndpointKind> {
    let below = |device: &Option<String>| {
        device.clone().ok_or_else(|| {
            Error::new(Kind::Invalid, "plan endpoint", &network.name)
                .because("it has neither a bridge nor a parent device")
        })
    };
    let mode = network.mode.as_deref();
    Ok(match network.driver {
        Driver::Bridge => EndpointKind::Bridge { bridge: below(&network.device)?, isolated_port: !network.icc },
        Driver::Macvlan => EndpointKind::Macvlan {
            parent: below(&network.parent)?,
            mode: mode.map(str::parse).transpose()?.unwrap_or_default(),
        },
        Driver::Ipvlan => EndpointKind::Ipvlan {
            parent: below(&network.parent)?,
            mode: mode.map(str::parse).transpose()?.unwrap_or_default(),
        },
        Driver::Phys => EndpointKind::Phys { device: below(&network.parent)? },
    })
}

/// What was connected: enough to describe it and, from any process, to take it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// What joins the container to the network.
    pub kind: EndpointKind,
    /// The nftables table with the port maps.
    pub table: String,
    /// Name of the host's end of a veth pair.
    pub link: String,
    /// Name of the container's end.
    pub interface: String,
    /// The container's addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Next hops of the default routes.
    pub gateways: Vec<IpAddr>,
    /// The default routes' metric.
    pub metric: u32,
    /// Hardware address of the container's end.
    pub mac: Option<MacAddress>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The ports that are published.
    pub ports: Vec<PortMapping>,
    /// How fast it may be.
    #[serde(default)]
    pub rate: Rate,
    /// A device of the host's: what it was before, to be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<LentDevice>,
}

impl Endpoint {
    /// The address of IPv4, if it has one.
    pub fn v4(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.is_ipv4())
    }

    /// The address of IPv6, if it has one.
    pub fn v6(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.is_ipv6())
    }
}
