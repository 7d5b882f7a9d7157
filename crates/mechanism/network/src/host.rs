//! The host's network stack: one handle over the netlink sockets, and the verbs.

use crate::channel::Channel;
use crate::route::{Device, LOOPBACK, Link};
use crate::{BridgePlan, BridgeRemoval, BridgeReport, Counters, Occupied, Setting};
use rustix::fd::BorrowedFd;
use tare_kernel::netlink::Protocol;
use tare_model::address::IpNet;
use tare_model::{Context as _, Error, Kind, Result};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const DEFAULT_MTU: u32 = 1500;

/// The network namespace of the thread that opened it, through netlink.
///
/// Sysctls are read and written through /proc of the calling thread, so it is used by the thread that opened it.
#[derive(Debug)]
pub struct Host {
    pub(crate) route: Channel,
    pub(crate) nft: Channel,
    /// The bridges seen, so that one run asks for each once.
    bridges: Vec<(String, u32)>,
}

impl Host {
    /// Opens the netlink sockets in the calling thread's network namespace.
    pub fn open() -> Result<Host> {
        let route = Channel::open(Protocol::Route, None)?;
        let nft = Channel::open(Protocol::Netfilter, None)?;
        Ok(Host { route, nft, bridges: Vec::new() })
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
        self.remember_bridge(&plan.bridge, index);
        report.rules_written = self.nft.ensure_rules(&plan.table, &plan.policy)?;
        // Last, when our own rules already decide what passes to the containers.
        report.settings = enable_forwarding()?;
        Ok(report)
    }

    fn remember_bridge(&mut self, name: &str, index: u32) {
        self.bridges.retain(|(known, _)| known != name);
        self.bridges.push((name.to_owned(), index));
    }

    /// The number of a bridge that must be there.
    pub(crate) fn bridge_index(&mut self, name: &str) -> Result<u32> {
        if let Some((_, index)) = self.bridges.iter().find(|(known, _)| known == name) {
            return Ok(*index);
        }
        Ok(self.route.link(name)?.ok_or_else(|| missing(name))?.index)
    }

    fn create_bridge(&mut self, plan: &BridgePlan) -> Result<u32> {
        let taken = self.occupied(Some(&plan.bridge))?;
        let ours: Vec<_> = plan.addresses.iter().map(|address| address.network()).collect();
        let conflict = |net: &IpNet| taken.iter().find(|o| o.network.prefix() > 0 && o.network.overlaps(*net));
        if let Some((net, other)) = ours.iter().find_map(|net| Some((net, conflict(net)?))) {
            return Err(Error::new(Kind::InUse, "create network", net)
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
        plan.addresses.iter().for_each(|address| batch.add_address(index, &plan.bridge, *address));
        batch.set_up(index, &plan.bridge);
        self.route.transact(&batch)?;
        Ok(index)
    }

    /// Removes a network's bridge and rules unless a device is connected, its `parent` apart; with the last network's
    /// rules the table.
    ///
    /// A container's device is connected until some 15 ms after its namespace's end. Blocks for some 60 ms where it
    /// removes something.
    pub fn remove_bridge_if_unused(
        &mut self,
        table: &str,
        bridge: &str,
        parent: Option<&str>,
    ) -> Result<BridgeRemoval> {
        let found = self.route.link(bridge)?;
        if let Some(found) = &found
            && self.route.links(Some(found.index))?.iter().any(|port| Some(port.name.as_str()) != parent)
        {
            return Ok(BridgeRemoval::Used);
        }
        self.bridges.retain(|(known, _)| known != bridge);
        let rules = self.nft.remove_rules(table, bridge);
        let link = if found.is_some() { self.delete_link(bridge) } else { Ok(()) };
        rules.and(link).map(|()| BridgeRemoval::Removed)
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

pub(crate) fn missing(device: &str) -> Error {
    Error::new(Kind::NotFound, "find device", device)
}

/// Lets packets pass between the host's devices; what was changed for that.
fn enable_forwarding() -> Result<Vec<Setting>> {
    let now = std::fs::read(IP_FORWARD).during("read", IP_FORWARD)?;
    if now.first() != Some(&b'0') {
        return Ok(Vec::new());
    }
    std::fs::write(IP_FORWARD, "1")
        .during("enable forwarding", IP_FORWARD)
        .map_err(|e| e.hint("set net.ipv4.ip_forward = 1, without which containers reach nothing but this host"))?;
    Ok(vec![Setting { name: "net.ipv4.ip_forward".into(), before: "0".into(), now: "1".into() }])
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
