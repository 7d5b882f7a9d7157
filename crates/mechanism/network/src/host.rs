//! The host's network stack: one handle over the netlink sockets, and the verbs.

use crate::channel::Channel;
use crate::nft::Element;
use crate::route::{Device, LOOPBACK, Link};
use crate::{BridgePlan, BridgeRemoval, BridgeReport, Counters, Endpoint, EndpointPlan, Instance, Occupied};
use rustix::fd::BorrowedFd;
use tare_kernel::netlink::Protocol;
use tare_model::{Context as _, Error, Kind, Result};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// There while the module br_netfilter is loaded; per network namespace.
const BRIDGE_CALLS_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const DEFAULT_MTU: u32 = 1500;

/// The network namespace of the thread that opened it, through netlink.
///
/// Sysctls are read and written through /proc of the calling thread, so it is used by the thread that opened it.
#[derive(Debug)]
pub struct Host {
    pub(crate) route: Channel,
    nft: Channel,
    /// The bridge last seen, so that one run asks for it once.
    bridge: Option<(String, u32)>,
}

impl Host {
    /// Opens the netlink sockets in the calling thread's network namespace.
    pub fn open() -> Result<Host> {
        let route = Channel::open(Protocol::Route, None)?;
        let nft = Channel::open(Protocol::Netfilter, None)?;
        Ok(Host { route, nft, bridge: None })
    }

    /// Networks that the host has a route to, or an address in; `except` names a device that does not count.
    pub fn occupied(&mut self, except: Option<&str>) -> Result<Vec<Occupied>> {
        let links = self.route.links(None)?;
        let named = self.route.routes()?.into_iter().filter_map(|route| {
            let device = links.iter().find(|link| link.index == route.device).map(|link| link.name.clone());
            // A route through a device that is no more, or not yet, in the list: a bridge that comes or goes just now.
            (route.device == 0 || device.is_some())
                .then(|| Occupied { network: route.network, device: device.unwrap_or_default() })
        });
        Ok(named.filter(|o| Some(o.device.as_str()) != except).collect())
    }

    /// The MTU of the device with the default route, or 1500.
    pub fn default_mtu(&mut self) -> Result<u32> {
        let routes = self.route.routes()?;
        let best = routes.iter().filter(|r| r.network.prefix() == 0 && r.device != 0).min_by_key(|r| r.metric);
        let Some(best) = best else { return Ok(DEFAULT_MTU) };
        let mut batch = self.route.batch();
        batch.get_link(Device::Index(best.device), &[rustix::io::Errno::NODEV]);
        let link = self.route.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
        Ok(link.map_or(DEFAULT_MTU, |link| link.mtu))
    }

    /// Makes bridge, address and table where missing; harmless when many processes do it at once.
    ///
    /// The caller's lock need only keep it and [`Host::connect`] apart from [`Host::remove_bridge_if_unused`]. A subnet
    /// that overlaps a route of another device is refused with [`Kind::InUse`] before anything is made.
    pub fn ensure_bridge(&mut self, plan: &BridgePlan) -> Result<BridgeReport> {
        let mut report = BridgeReport::default();
        let there = self.route.link(&plan.bridge)?;
        let index = match there {
            // Setting it up is the last step: what is up is whole.
            Some(link) if link.up => link.index,
            _ => {
                report.bridge_created = there.is_none();
                self.create_bridge(plan)?
            }
        };
        self.bridge = Some((plan.bridge.clone(), index));
        if !self.nft.has_ruleset(&plan.rules)? {
            self.nft.write_ruleset(&plan.rules)?;
            report.table_written = true;
        }
        // Last, when our own rules already decide what passes to the containers.
        report.forwarding_enabled = enable_forwarding()?;
        Ok(report)
    }

    fn create_bridge(&mut self, plan: &BridgePlan) -> Result<u32> {
        let ours = plan.address.network();
        let taken = self.occupied(Some(&plan.bridge))?;
        if let Some(other) = taken.iter().find(|o| o.network.prefix() > 0 && o.network.overlaps(ours)) {
            return Err(Error::new(Kind::InUse, "create network", format_args!("{ours}"))
                .because(format_args!("the host routes {} through device \"{}\"", other.network, other.device))
                .hint("choose another subnet, or remove that route"));
        }
        let mut batch = self.route.batch();
        batch.add_bridge(&plan.bridge, plan.mac, plan.mtu);
        batch.get_link(Device::Name(&plan.bridge), &[]);
        let found = self.route.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
        let index = found.map(|link| link.index).ok_or_else(|| missing(&plan.bridge))?;
        let mut batch = self.route.batch();
        batch.no_link_local(index, &plan.bridge);
        batch.route_localnet(index, &plan.bridge);
        batch.add_address(index, &plan.bridge, plan.address);
        batch.set_up(index, &plan.bridge);
        self.route.transact(&batch)?;
        Ok(index)
    }

    /// Connects the namespace `netns` and publishes the ports. On failure everything is taken back.
    ///
    /// The first packet after this goes through: nothing is left to be negotiated, detected or waited for. The bridge
    /// must be there ([`Host::ensure_bridge`]). Runs on the thread that opened this handle, which visits `netns` for the
    /// length of one system call.
    pub fn connect(&mut self, plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<Endpoint> {
        let bridge = match &self.bridge {
            Some((name, index)) if *name == plan.bridge => *index,
            _ => self.route.link(&plan.bridge)?.ok_or_else(|| missing(&plan.bridge))?.index,
        };
        let mut batch = self.route.batch();
        batch.add_veth(plan, bridge, netns);
        self.route.transact(&batch).during("connect to network", &plan.bridge)?;
        // From here on there is something to take back.
        let rest = configure_inside(plan, netns).and_then(|()| self.publish(plan, bridge));
        if let Err(e) = rest {
            // The error that made this necessary is the one to tell.
            drop(self.delete_link(&plan.link));
            return Err(e.during("connect to network", &plan.bridge));
        }
        Ok(plan.endpoint())
    }

    fn publish(&mut self, plan: &EndpointPlan, bridge: u32) -> Result<()> {
        if !plan.ports.is_empty() {
            self.nft.add_elements(&plan.table, &elements(&plan.ports, v4(plan.address.address())))?;
        }
        let port = self.route.link(&plan.link)?.ok_or_else(|| missing(&plan.link))?.index;
        // With br_netfilter a packet to a published port of its own sender is translated while it is still bridged,
        // and would have to leave through the port that it came from.
        if !plan.ports.is_empty() && bridged_packets_are_filtered() {
            let mut batch = self.route.batch();
            batch.set_hairpin(port, &plan.link);
            self.route.transact(&batch)?;
        }
        // The bridge has a carrier only once its first port has one.
        self.route.settle(&[port, bridge])
    }

    /// Withdraws the published ports; the devices die with the container's namespace.
    ///
    /// Fine to repeat, and when others now hold these ports: elements that lead elsewhere are left alone.
    pub fn disconnect(&mut self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        self.nft.delete_elements(&endpoint.table, &elements(&endpoint.ports, v4(endpoint.address.address())))
    }

    /// Publishes again what of an endpoint's ports others have withdrawn; how many they were. The table must be there
    /// ([`Host::ensure_bridge`]). Fine to repeat.
    pub fn restore(&mut self, endpoint: &Endpoint) -> Result<usize> {
        if endpoint.ports.is_empty() {
            return Ok(0);
        }
        let missing =
            self.nft.missing_elements(&endpoint.table, &elements(&endpoint.ports, v4(endpoint.address.address())))?;
        if !missing.is_empty() {
            self.nft.add_elements(&endpoint.table, &missing)?;
        }
        Ok(missing.len())
    }

    /// Removes bridge and table unless a device is connected.
    ///
    /// A container's device is connected until some 15 ms after its namespace's end. Blocks for some 60 ms where it
    /// removes something.
    pub fn remove_bridge_if_unused(&mut self, instance: &Instance) -> Result<BridgeRemoval> {
        let bridge = self.route.link(&instance.bridge)?;
        if let Some(bridge) = &bridge
            && !self.route.links(Some(bridge.index))?.is_empty()
        {
            return Ok(BridgeRemoval::Used);
        }
        self.bridge = None;
        let table = self.nft.delete_table(&instance.table);
        let link = if bridge.is_some() { self.delete_link(&instance.bridge) } else { Ok(()) };
        table.and(link).map(|()| BridgeRemoval::Removed)
    }

    /// Whether a device of this name exists.
    pub fn link_exists(&mut self, name: &str) -> Result<bool> {
        Ok(self.route.link(name)?.is_some())
    }

    /// Deletes a device; fine if there is none. Blocks for 10 to 60 ms: for recovery, not for the usual teardown.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let mut batch = self.route.batch();
        batch.delete_link(name);
        self.route.transact(&batch).map(drop)
    }
}

fn missing(device: &str) -> Error {
    Error::new(Kind::NotFound, "find device", device)
}

fn v4(address: std::net::IpAddr) -> std::net::Ipv4Addr {
    if let std::net::IpAddr::V4(v4) = address { v4 } else { std::net::Ipv4Addr::UNSPECIFIED }
}

fn elements(ports: &[crate::PortMapping], target: std::net::Ipv4Addr) -> Vec<Element> {
    ports.iter().map(|port| Element { port: *port, target }).collect()
}

/// Loopback up, address, up, default route: in this order, as a route needs an address to be reached from.
fn configure_inside(plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<()> {
    let name = plan.interface.as_str();
    let mut inside = Channel::open(Protocol::Route, Some(netns))?;
    let mut batch = inside.batch();
    batch.set_up(LOOPBACK, "lo");
    batch.get_link(Device::Name(name), &[]);
    let found = inside.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
    let index = found.map(|link| link.index).ok_or_else(|| missing(name))?;
    let mut batch = inside.batch();
    batch.no_link_local(index, name);
    batch.add_address(index, name, plan.address);
    batch.set_up(index, name);
    if let Some(gateway) = plan.gateway {
        batch.add_default_route(index, name, gateway);
    }
    inside.transact(&batch)?;
    inside.settle(&[index])
}

/// Whether it was off before.
fn enable_forwarding() -> Result<bool> {
    let now = std::fs::read(IP_FORWARD).during("read", IP_FORWARD)?;
    if now.first() != Some(&b'0') {
        return Ok(false);
    }
    std::fs::write(IP_FORWARD, "1")
        .during("enable forwarding", IP_FORWARD)
        .map_err(|e| e.hint("set net.ipv4.ip_forward = 1, without which containers reach nothing but this host"))?;
    Ok(true)
}

fn bridged_packets_are_filtered() -> bool {
    std::fs::read(BRIDGE_CALLS_IPTABLES).is_ok_and(|value| value.first() == Some(&b'1'))
}

/// Sets the loopback device of `netns` up: all that network `none` has.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    let mut inside = Channel::open(Protocol::Route, Some(netns))?;
    let mut batch = inside.batch();
    batch.set_up(LOOPBACK, "lo");
    inside.transact(&batch).map(drop)
}

/// The counters of the devices in `netns`, loopback excluded.
pub fn counters(netns: BorrowedFd<'_>) -> Result<Vec<Counters>> {
    let links = Channel::open(Protocol::Route, Some(netns))?.links(None)?;
    Ok(links.into_iter().filter(|link| !link.loopback).filter_map(|link| link.counters).collect())
}
