//! The host's network stack: one handle over the netlink sockets, and the verbs.

use crate::address::{Route, link_local};
use crate::channel::Channel;
use crate::device::{Device, LOOPBACK, Link};
use crate::nft::Depth;
use crate::settle::Settled;
use crate::site::aside_name;
use crate::sysctl::{self, Families};
use crate::{BridgePlan, BridgeRemoval, BridgeReport, Counters, Occupied, Policy, macvlan};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::net::IpAddr;
use std::slice::from_ref;
use tare_kernel::netlink::Protocol;
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};

const DEFAULT_MTU: u32 = 1500;
/// Noted on a bridge whose parent device was set up for it. The device itself knows best: the note goes with it.
const PARENT_WAS_DOWN: &str = "tare: the parent device was down";

/// The network namespace of the thread that opened it, through netlink.
///
/// Sysctls are read and written through /proc of the calling thread, so it is used by the thread that opened it.
#[derive(Debug)]
pub struct Host {
    pub(crate) route: Channel,
    pub(crate) nft: Channel,
    /// The bridges seen, so that one run asks for each once.
    bridges: Vec<KnownBridge>,
}

/// A bridge that is there.
#[derive(Debug, Clone)]
pub(crate) struct KnownBridge {
    name: String,
    pub(crate) index: u32,
    pub(crate) mtu: u32,
}

impl KnownBridge {
    fn of(link: Link) -> KnownBridge {
        KnownBridge { name: link.name, index: link.index, mtu: link.mtu }
    }
}

impl Host {
    /// Opens the netlink sockets in the calling thread's network namespace.
    pub fn open() -> Result<Host> {
        let route = Channel::open(Protocol::Route, None)?;
        let nft = Channel::open(Protocol::Netfilter, None)?;
        Ok(Host { route, nft, bridges: Vec::new() })
    }

    /// Networks of both families that the host has a route to, or an address in; `except` names a device that does not
    /// count. What every IPv6 device has by itself (fe80::/10) is left out.
    pub fn occupied(&mut self, except: Option<&str>) -> Result<Vec<Occupied>> {
        let links = self.route.links(None)?;
        let own = |net: IpNet| matches!(net.address(), IpAddr::V6(a) if a.is_unicast_link_local() || a.is_multicast());
        let routes = self.route.routes()?.into_iter().filter(|route| !own(route.network));
        let named = routes.filter_map(|route| {
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
        let best = routes
            .iter()
            .filter(|r| r.network.prefix() == 0 && r.device != 0)
            .min_by_key(|r| (r.network.is_ipv6(), r.metric));
        let Some(best) = best else { return Ok(DEFAULT_MTU) };
        let mut batch = self.route.batch();
        batch.get_link(Device::Index(best.device), &[Errno::NODEV]);
        let link = self.route.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
        Ok(link.map_or(DEFAULT_MTU, |link| link.mtu))
    }

    /// Makes bridge, addresses and rules where missing; harmless when many processes do it at once.
    ///
    /// The caller's lock need only keep it and [`Host::connect`] apart from [`Host::set_bridge_aside_if_unused`].
    ///
    /// # Errors
    /// [`Kind::InUse`] before anything is made, for a subnet that overlaps a route of another device, and for a parent that
    /// has addresses or belongs to another device; [`Kind::NotFound`] without the parent.
    pub fn ensure_bridge(&mut self, plan: &BridgePlan) -> Result<BridgeReport> {
        let mut report = BridgeReport::default();
        let v6 = plan.addresses.iter().any(|net| net.is_ipv6()) && sysctl::has_ipv6();
        let addresses: Vec<IpNet> = plan.addresses.iter().copied().filter(|net| v6 || net.is_ipv4()).collect();
        let mut batch = self.route.batch();
        batch.get_link(Device::Name(&plan.bridge), &[Errno::NODEV]);
        addresses.iter().for_each(|net| batch.ask_route(net.address()));
        let answers = self.route.transact(&batch)?;
        let there = answers.messages().find_map(|m| Link::parse(&m));
        let local = answers.messages().filter_map(|m| Route::parse(&m)).filter(|route| route.local).count();
        let parent = match &plan.parent {
            Some(parent) => self.free_parent(parent, there.as_ref().map_or(0, |link| link.index))?,
            None => None,
        };
        let bridge = match there {
            // Setting it up is the last step: what is up is whole, unless somebody has taken its addresses since.
            Some(link) if link.up && local == addresses.len() => KnownBridge::of(link),
            there => {
                report.bridge_created = there.is_none();
                self.create_bridge(plan, &addresses)?
            }
        };
        if let Some(parent) = parent {
            self.add_parent(&parent, &bridge)?;
        }
        self.bridges.retain(|known| known.name != bridge.name);
        self.bridges.push(bridge);
        report.rules_written = self.nft.ensure_rules(&plan.table, from_ref(&plan.policy), Depth::Fingerprint)?;
        // Last, when our own rules already decide what passes to the containers.
        let families = Families {
            v4: !plan.policy.internal && addresses.iter().any(|net| net.is_ipv4()),
            v6: !plan.policy.internal && v6,
        };
        report.settings = sysctl::enable_forwarding(&mut self.route, families)?;
        Ok(report)
    }

    /// A bridge that must be there.
    pub(crate) fn bridge_link(&mut self, name: &str) -> Result<KnownBridge> {
        if let Some(known) = self.bridges.iter().find(|known| known.name == name) {
            return Ok(known.clone());
        }
        self.route.link(name)?.map(KnownBridge::of).ok_or_else(|| missing(name))
    }

    fn create_bridge(&mut self, plan: &BridgePlan, addresses: &[IpNet]) -> Result<KnownBridge> {
        let name = plan.bridge.as_str();
        self.refuse_conflict(plan, addresses)?;
        let mut batch = self.route.batch();
        batch.add_bridge(name, plan.mac, plan.mtu);
        batch.get_link(Device::Name(name), &[]);
        let found = self.route.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
        let bridge = found.map(KnownBridge::of).ok_or_else(|| missing(name))?;
        let v6 = addresses.iter().any(|net| net.is_ipv6());
        sysctl::prepare_bridge(name, v6)?;
        let mut batch = self.route.batch();
        batch.no_link_local(bridge.index, name);
        if addresses.iter().any(|net| net.is_ipv4()) {
            batch.route_localnet(bridge.index, name);
        }
        let local = Some(link_local(plan.mac)).filter(|_| v6);
        addresses.iter().copied().chain(local).for_each(|net| batch.add_address(bridge.index, name, net));
        batch.set_up(bridge.index, name);
        self.route.transact(&batch)?;
        Ok(bridge)
    }

    /// Refuses addresses that overlap a route through another device than the bridge and its parent: whoever puts a device
    /// on a bridge wants the network that is there.
    fn refuse_conflict(&mut self, plan: &BridgePlan, addresses: &[IpNet]) -> Result<()> {
        let taken = self.occupied(Some(&plan.bridge))?;
        // A device that is down keeps the route to its own address.
        let aside = aside_name(&plan.bridge);
        let conflict = |net: &IpNet| {
            let other =
                |o: &&Occupied| o.network.prefix() > 0 && Some(&o.device) != plan.parent.as_ref() && o.device != aside;
            taken.iter().filter(other).find(|o| o.network.overlaps(*net))
        };
        let Some((net, other)) = addresses.iter().find_map(|net| Some((net.network(), conflict(net)?))) else {
            return Ok(());
        };
        Err(Error::new(Kind::InUse, "create network", net)
            .because(format_args!("the host routes {} through device \"{}\"", other.network, other.device))
            .hint("choose another subnet, or remove that route"))
    }

    /// The host's device `parent`, if it is to become a port of the bridge with the number `bridge`; `None` if it is one.
    ///
    /// A port's own addresses do not work any more, so a device that has some is refused: tare does not cut the host off.
    fn free_parent(&mut self, parent: &str, bridge: u32) -> Result<Option<Link>> {
        let link = self.route.link(parent)?.ok_or_else(|| macvlan::no_parent(parent))?;
        let refused = |why: String| Error::new(Kind::InUse, "use parent device", parent).because(why);
        if link.master != 0 && link.master == bridge {
            return Ok(Some(link).filter(|link| !link.up));
        }
        if link.master != 0 {
            let other = self.route.links(None)?.into_iter().find(|l| l.index == link.master);
            let other = other.map_or_else(|| "another device".to_owned(), |l| format!("\"{}\"", l.name));
            return Err(refused(format!("it is a port of {other}")).hint(format!("ip link set {parent} nomaster")));
        }
        if let Some(held) = self.route.addresses(link.index)?.into_iter().find(|held| held.global) {
            return Err(refused(format!("it has the address {}, which would not work any more", held.address))
                .hint("give the network that subnet and the address as its gateway, and take it off the device"));
        }
        Ok(Some(link))
    }

    fn add_parent(&mut self, parent: &Link, bridge: &KnownBridge) -> Result<()> {
        let mut batch = self.route.batch();
        if !parent.up && parent.master == 0 {
            batch.note(bridge.index, &bridge.name, PARENT_WAS_DOWN);
        }
        batch.enslave(parent.index, &parent.name, bridge.index);
        self.route.transact(&batch).map_err(|e| match e.errno().map(Errno::from_raw_os_error) {
            Some(Errno::OPNOTSUPP | Errno::INVAL) => {
                e.hint("wireless and loopback devices cannot be ports of a bridge")
            }
            Some(Errno::BUSY) => e.with_kind(Kind::InUse).hint("macvlan or ipvlan devices stand on it"),
            _ => e,
        })?;
        self.route.settle(Settled { devices: &[], wired: &[parent.index], addresses: &[] })
    }

    /// Removes a network's rules and its bridge's name, addresses and routes, unless a device is connected, its `parent`
    /// apart; with the last network's rules the table. What is left of the bridge is for [`Host::delete_aside`], which
    /// takes its time: from here on the network can be made anew.
    ///
    /// The caller keeps away whoever would connect to this network meanwhile. A container's device is connected until
    /// some 15 ms after its namespace's end.
    pub fn set_bridge_aside_if_unused(
        &mut self,
        table: &str,
        bridge: &str,
        parent: Option<&str>,
    ) -> Result<BridgeRemoval> {
        let Some(found) = self.route.link(bridge)? else {
            return self.nft.remove_network(table, bridge).map(|_| BridgeRemoval::Removed);
        };
        let ports = self.route.links(Some(found.index))?;
        if ports.iter().any(|port| Some(port.name.as_str()) != parent) {
            return Ok(BridgeRemoval::Used);
        }
        self.bridges.retain(|known| known.name != bridge);
        let rules = self.nft.remove_network(table, bridge).map(drop);
        let aside = aside_name(bridge);
        let mut batch = self.route.batch();
        // Of one that was killed between the two.
        batch.delete_link(&aside);
        batch.set_aside(found.index, bridge, &aside);
        for port in &ports {
            if found.note.as_deref() == Some(PARENT_WAS_DOWN) {
                batch.set_down(port.index, &port.name);
            }
            batch.release(port.index, &port.name);
        }
        let link = self.route.transact(&batch).map(drop);
        rules.and(link).map(|()| BridgeRemoval::Removed)
    }

    /// Deletes what [`Host::set_bridge_aside_if_unused`] has left; fine if there is nothing. Blocks for some 60 ms.
    pub fn delete_aside(&mut self, bridge: &str) -> Result<()> {
        self.delete_link(&aside_name(bridge))
    }

    /// Looks closely at the rules of these networks of one root and writes what is missing of them: after others deleted
    /// something. Whether there was.
    pub fn restore_rules(&mut self, table: &str, networks: &[Policy]) -> Result<bool> {
        self.nft.ensure_rules(table, networks, Depth::Rules)
    }

    /// The MTU of a device; `None` if there is none of this name.
    pub fn device_mtu(&mut self, name: &str) -> Result<Option<u32>> {
        Ok(self.route.link(name)?.map(|link| link.mtu))
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
