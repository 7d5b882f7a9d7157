//! Connecting a container's network namespace, and taking it off again.
//!
//! ```text
//! host's socket     veth pair with its other end in the namespace, or macvlan, ipvlan, or a device moved there
//!                   its number inside
//! socket inside     loopback up, device up, addresses, routes
//! host's socket     limits of rate; published ports; carrier of port and bridge
//! ```

use crate::address::{NewRoute, link_local};
use crate::channel::{Batch, Channel};
use crate::device::{Device, LOOPBACK, Link, NewPair, PortBehaviour};
use crate::element::Element;
use crate::host::{Host, missing};
use crate::macvlan::Shared;
use crate::phys::Inside;
use crate::settle::Settled;
use crate::{Endpoint, EndpointKind, EndpointPlan, LentDevice, PortMapping, macvlan, phys, sysctl, traffic};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use tare_kernel::netlink::{Protocol, in_network_namespace};
use tare_model::address::IpNet;
use tare_model::{Context as _, Error, Kind, Result};

/// There while the module br_netfilter is loaded; per network namespace.
const BRIDGE_CALLS: [&str; 2] =
    ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];
const IFLA_IFNAME: u16 = 3;
/// How long a lent device may take to come back after its namespace's end.
const RETURN_PATIENCE: Duration = Duration::from_millis(500);

/// The device that was made, as both sides know it.
struct Made {
    /// Its number inside, where the making has told it.
    inside: Option<u32>,
    /// The port, and the number of the bridge.
    port: Option<(Link, u32)>,
    lent: Option<LentDevice>,
}

impl Host {
    /// Connects the namespace `netns` and publishes the ports. On failure everything is taken back.
    ///
    /// The first packet after this goes through: nothing is left to be negotiated, detected or waited for. The bridge
    /// must be there ([`Host::ensure_bridge`]). The namespace may be new or that of a running container. Runs on the
    /// thread that opened this handle, which visits `netns` for the length of some system calls.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the bridge or parent device; [`Kind::AlreadyExists`] if the namespace has a device of
    /// this name; [`Kind::Invalid`] for a name that no device may have.
    pub fn connect(&mut self, plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<Endpoint> {
        check_interface(&plan.interface)?;
        traffic::check(plan)?;
        let usable = usable(plan);
        let plan = usable.as_ref().unwrap_or(plan);
        let told = |e: Error| e.during("connect to network", plan.below());
        let made = self.make(plan, netns).map_err(|e| told(self.explain(plan, e)))?;
        // From here on there is something to take back.
        let endpoint = Endpoint { lent: made.lent.clone(), ..plan.endpoint() };
        match self.configure(plan, &made, netns) {
            Ok(addresses) => Ok(Endpoint { addresses, ..endpoint }),
            Err(e) => {
                // The error that made this necessary is the one to tell.
                drop(self.disconnect(&endpoint, Some(netns)));
                Err(told(e))
            }
        }
    }

    /// The device in the namespace.
    fn make(&mut self, plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<Made> {
        let mut batch = self.route.batch();
        match &plan.kind {
            EndpointKind::Bridge { bridge, isolated_port } => {
                let bridge = self.bridge_link(bridge)?;
                let mtu = if plan.mtu == 0 { bridge.mtu } else { plan.mtu };
                batch.add_veth(&NewPair {
                    link: &plan.link,
                    master: bridge.index,
                    interface: &plan.interface,
                    mac: plan.mac,
                    netns,
                    mtu,
                });
                let hairpin = !plan.ports.is_empty() && bridged_packets_are_filtered();
                let behaviour = PortBehaviour { hairpin, isolated: *isolated_port };
                if !behaviour.is_usual() {
                    batch.set_port(Device::Name(&plan.link), &plan.link, behaviour);
                }
                batch.get_link(Device::Name(&plan.link), &[]);
                let answers = self.route.transact(&batch).inspect_err(|e| {
                    // The pair may have been made, and the port refused.
                    if e.kind() != Kind::AlreadyExists {
                        drop(self.delete_link(&plan.link));
                    }
                })?;
                let port = answers.messages().find_map(|m| Link::parse(&m)).ok_or_else(|| missing(&plan.link))?;
                Ok(Made { inside: Some(port.peer), port: Some((port, bridge.index)), lent: None })
            }
            EndpointKind::Macvlan { parent, mode } => {
                batch.add_macvlan(&self.shared(plan, parent)?, *mode, netns);
                self.route.transact(&batch).map_err(|e| macvlan::explain(e, "macvlan", parent))?;
                Ok(Made { inside: Some(name_inside(plan, netns)?), port: None, lent: None })
            }
            EndpointKind::Ipvlan { parent, mode } => {
                batch.add_ipvlan(&self.shared(plan, parent)?, *mode, netns);
                self.route.transact(&batch).map_err(|e| macvlan::explain(e, "ipvlan", parent))?;
                Ok(Made { inside: Some(name_inside(plan, netns)?), port: None, lent: None })
            }
            EndpointKind::Phys { device } => {
                let lent = match &plan.lent {
                    Some(lent) => lent.clone(),
                    None => self.lend(device)?,
                };
                let inside = Inside { interface: &plan.interface, mac: plan.mac, mtu: plan.mtu };
                let index = phys::move_in(&mut self.route, &lent, inside, netns)?;
                let lent = LentDevice { index_inside: Some(index), ..lent };
                Ok(Made { inside: Some(index), port: None, lent: Some(lent) })
            }
        }
    }

    /// What the kernel's refusal of a device means.
    fn explain(&mut self, plan: &EndpointPlan, e: Error) -> Error {
        match e.errno().map(Errno::from_raw_os_error) {
            Some(Errno::EXIST) if !self.link_exists(&plan.link).unwrap_or(false) => e
                .because(format_args!("the container has a device \"{}\" already", plan.interface))
                .hint("choose another name for the interface"),
            Some(Errno::XFULL) => e
                .with_kind(Kind::Exhausted)
                .because("the bridge has 1023 ports, which is the most that it can have")
                .hint("create another network for further containers"),
            _ => e,
        }
    }

    /// What a device on `parent` is to be.
    fn shared<'a>(&mut self, plan: &'a EndpointPlan, parent: &str) -> Result<Shared<'a>> {
        let found = self.route.link(parent)?.ok_or_else(|| macvlan::no_parent(parent))?;
        if !found.up {
            return Err(macvlan::parent_down(parent));
        }
        Ok(Shared { parent: found.index, name: &plan.link, mac: plan.mac, mtu: plan.mtu })
    }

    fn configure(&mut self, plan: &EndpointPlan, made: &Made, netns: BorrowedFd<'_>) -> Result<Vec<IpNet>> {
        let addresses = configure_inside(plan, made, netns)?;
        let Some((port, bridge)) = &made.port else { return Ok(addresses) };
        traffic::limit(&mut self.route, &plan.link, port.index, port.mtu, plan.rate)?;
        if !plan.ports.is_empty() {
            self.nft.add_elements(&plan.table, &Element::of(&plan.ports, &addresses))?;
            self.nft.forget_flows(&plan.ports)?;
        }
        // The bridge has a carrier only once its first port has one. Its own addresses may be new as well.
        let gateways: Vec<Ipv6Addr> = plan.gateways.iter().filter_map(v6).collect();
        self.route.settle(Settled { devices: &[port.index, *bridge], wired: &[], addresses: &gateways })?;
        Ok(addresses)
    }

    /// Publishes ports of a connected container, all or none: they are reserved by the caller.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the rules are not there ([`Host::ensure_bridge`]).
    pub fn publish(&mut self, endpoint: &Endpoint, ports: &[PortMapping]) -> Result<()> {
        let elements = Element::of(ports, &endpoint.addresses);
        if elements.is_empty() {
            return Ok(());
        }
        self.nft.add_elements(&endpoint.table, &elements)?;
        self.nft.forget_flows(ports)?;
        if matches!(endpoint.kind, EndpointKind::Bridge { .. }) && bridged_packets_are_filtered() {
            let mut batch = self.route.batch();
            let behaviour = PortBehaviour { hairpin: true, isolated: false };
            batch.set_port(Device::Name(&endpoint.link), &endpoint.link, behaviour);
            self.route.transact(&batch)?;
        }
        Ok(())
    }

    /// Publishes again what of an endpoint's ports others have withdrawn, and puts its device back on the bridge; how many
    /// things were missing. Bridge and table must be there ([`Host::ensure_bridge`]). Fine to repeat.
    pub fn restore(&mut self, endpoint: &Endpoint) -> Result<usize> {
        let port = usize::from(self.restore_port(endpoint)?);
        self.restore_published(endpoint).map(|missing| port + missing)
    }

    /// The host's end of a veth pair: a port of the bridge, which treats it as it should. One that somebody has made a port
    /// of something else stays there. Whether something was missing.
    fn restore_port(&mut self, endpoint: &Endpoint) -> Result<bool> {
        let EndpointKind::Bridge { bridge, isolated_port } = &endpoint.kind else { return Ok(false) };
        let bridge = self.bridge_link(bridge)?.index;
        // Whoever is inside may have deleted the pair.
        let Some(port) = self.route.link(&endpoint.link)? else { return Ok(false) };
        if port.master != 0 && port.master != bridge {
            return Ok(false);
        }
        let hairpin = !endpoint.ports.is_empty() && bridged_packets_are_filtered();
        let wanted = PortBehaviour { hairpin, isolated: *isolated_port };
        let attached = port.master == bridge && port.up;
        if attached && port.behaviour.unwrap_or_default().includes(wanted) {
            return Ok(false);
        }
        let mut batch = self.route.batch();
        if !attached {
            batch.enslave(port.index, &port.name, bridge);
        }
        if !wanted.is_usual() {
            batch.set_port(Device::Index(port.index), &port.name, wanted);
        }
        self.route.transact(&batch)?;
        self.route.settle(Settled { devices: &[], wired: &[port.index, bridge], addresses: &[] })?;
        Ok(true)
    }

    fn restore_published(&mut self, endpoint: &Endpoint) -> Result<usize> {
        let elements = Element::of(&endpoint.ports, &endpoint.addresses);
        if elements.is_empty() {
            return Ok(0);
        }
        let missing = self.nft.missing_elements(&endpoint.table, &elements)?;
        if !missing.is_empty() {
            self.nft.add_elements(&endpoint.table, &missing)?;
        }
        Ok(missing.len())
    }

    /// Which of an endpoint's ports are not published any more, each with the address that it should lead to.
    pub fn missing(&mut self, endpoint: &Endpoint) -> Result<Vec<(PortMapping, IpAddr)>> {
        let elements = Element::of(&endpoint.ports, &endpoint.addresses);
        let missing = self.nft.missing_elements(&endpoint.table, &elements)?;
        Ok(missing.into_iter().map(|element| (element.port, element.target)).collect())
    }

    /// Withdraws published ports. Fine to repeat, and when others now hold these ports: elements that lead elsewhere
    /// are left alone.
    pub fn unpublish(&mut self, endpoint: &Endpoint, ports: &[PortMapping]) -> Result<()> {
        let elements = Element::of(ports, &endpoint.addresses);
        if elements.is_empty() {
            return Ok(());
        }
        self.nft.delete_elements(&endpoint.table, &elements)?;
        self.nft.forget_flows(ports).map(drop)
    }

    /// Takes a container off a network: withdraws its ports and what limited it, gives a lent device back. Goes on past
    /// failures and returns the first. Fine to repeat.
    ///
    /// With `netns`, the namespace of a container that goes on living, its device is taken away, which blocks for 10 to 60
    /// ms; with `None` the devices die with the namespace, and a lent one is waited for.
    pub fn disconnect(&mut self, endpoint: &Endpoint, netns: Option<BorrowedFd<'_>>) -> Result<()> {
        let ports = self.unpublish(endpoint, &endpoint.ports);
        let device = match (&endpoint.kind, netns) {
            (EndpointKind::Bridge { .. }, Some(_)) => self.delete_link(&endpoint.link),
            (EndpointKind::Macvlan { .. } | EndpointKind::Ipvlan { .. }, Some(netns)) => {
                remove_inside(&endpoint.interface, netns)
            }
            (EndpointKind::Phys { .. }, _) => match &endpoint.lent {
                Some(lent) => self.give_back(lent, &endpoint.interface, netns, RETURN_PATIENCE).map(drop),
                None => Ok(()),
            },
            (_, None) => Ok(()),
        };
        let limit = self.remove_limit(&endpoint.link, endpoint.rate);
        ports.and(device).and(limit)
    }
}

/// The plan as far as this kernel can follow it: without IPv6 in the kernel, without IPv6. `None` for all of it.
fn usable(plan: &EndpointPlan) -> Option<EndpointPlan> {
    if plan.addresses.iter().all(|net| net.is_ipv4()) || sysctl::has_ipv6() {
        return None;
    }
    let mut usable = plan.clone();
    usable.addresses.retain(|net| net.is_ipv4());
    usable.gateways.retain(IpAddr::is_ipv4);
    usable.routes.retain(|route| route.destination.is_ipv4());
    Some(usable)
}

/// Loopback up, device up, addresses, routes: in this order, as a route needs an address to be reached from. Returns the
/// addresses that are in force.
fn configure_inside(plan: &EndpointPlan, made: &Made, netns: BorrowedFd<'_>) -> Result<Vec<IpNet>> {
    let name = plan.interface.as_str();
    let own = matches!(plan.kind, EndpointKind::Phys { .. }) && plan.addresses.is_empty();
    let open = || -> Result<Channel> {
        // A lent device that keeps what it had on the host also goes on listening.
        if !own {
            sysctl::refuse_advertisements(name)?;
        }
        Channel::open(Protocol::Route, None)
    };
    let mut inside = in_network_namespace(netns, open).during("visit", "the container's network namespace")??;
    let index = match made.inside {
        Some(index) => index,
        None => inside.link(name)?.ok_or_else(|| missing(name))?.index,
    };
    let mut batch = inside.batch();
    batch.set_up(LOOPBACK, "lo");
    if let (true, Some(lent)) = (own, &made.lent) {
        inside.transact(&batch)?;
        phys::keep_own(&mut inside, lent, index, name)?;
        return Ok(Vec::new());
    }
    batch.no_link_local(index, name);
    batch.set_up(index, name);
    batch.add_family(plan, index, Family::V4);
    inside.transact(&batch)?;
    let mut addresses = plan.addresses.clone();
    if addresses.iter().any(|net| net.is_ipv6()) {
        let mut batch = inside.batch();
        batch.add_family(plan, index, Family::V6);
        if let Err(e) = inside.transact(&batch) {
            let disabled = in_network_namespace(netns, || sysctl::ipv6_is_disabled(name));
            if !disabled.during("visit", "the container's network namespace")? {
                return Err(e);
            }
            // Its own settings, made while it starts, say that it wants none.
            addresses.retain(|net| net.is_ipv4());
        }
    }
    let pending: Vec<Ipv6Addr> = addresses.iter().filter_map(|net| v6(&net.address())).collect();
    let both = [index];
    let (devices, wired) = if made.port.is_some() { (&both[..], &[][..]) } else { (&[][..], &both[..]) };
    inside.settle(Settled { devices, wired, addresses: &pending })?;
    Ok(addresses)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }
}

impl Batch {
    /// The plan's addresses and routes of one family.
    fn add_family(&mut self, plan: &EndpointPlan, index: u32, family: Family) {
        let name = plan.interface.as_str();
        // Every IPv6 device has a link-local address (RFC 4291, 2.1).
        let local = plan.mac.filter(|_| family == Family::V6).map(link_local);
        let own = plan.addresses.iter().copied().filter(|net| family.has(net.address()));
        own.chain(local).for_each(|net| self.add_address(index, name, net));
        for gateway in plan.gateways.iter().filter(|gateway| family.has(**gateway)) {
            self.add_route(index, name, NewRoute::default(*gateway, plan.metric));
        }
        for route in plan.routes.iter().filter(|route| family.has(route.gateway)) {
            let metric = route.metric.unwrap_or(0);
            let new = NewRoute { destination: route.destination, gateway: Some(route.gateway), metric };
            self.add_route(index, name, new);
        }
    }
}

fn v6(address: &IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(v6) = address { Some(*v6) } else { None }
}

/// Gives a device that was made with the plan's random name the one that it shall have inside; its number there.
fn name_inside(plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<u32> {
    let mut inside = Channel::open(Protocol::Route, Some(netns))?;
    let index = inside.link(&plan.link)?.ok_or_else(|| missing(&plan.link))?.index;
    let mut batch = inside.batch();
    batch.change_device(index, (0, 0), "create device", &plan.interface, |a| a.string(IFLA_IFNAME, &plan.interface));
    match inside.transact(&batch) {
        Ok(_) => Ok(index),
        Err(e) => {
            // The error that made this necessary is the one to tell.
            drop(remove_inside(&plan.link, netns));
            Err(e)
        }
    }
}

/// Removes a device from a namespace; fine if it is not there.
fn remove_inside(interface: &str, netns: BorrowedFd<'_>) -> Result<()> {
    let mut inside = Channel::open(Protocol::Route, Some(netns))?;
    let mut batch = inside.batch();
    batch.delete_link(interface);
    inside.transact(&batch).map(drop)
}

/// With br_netfilter a packet to a published port of its own sender is translated while it is still bridged, and has to
/// leave through the port that it came from.
fn bridged_packets_are_filtered() -> bool {
    BRIDGE_CALLS.iter().any(|path| std::fs::read(path).is_ok_and(|value| value.first() == Some(&b'1')))
}

/// Whether a device may have this name: at most 15 bytes, no character that ends a name elsewhere or is a pattern.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn check_interface(name: &str) -> Result<()> {
    let refused = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    // The kernel's directories of settings have two names of their own; `lo` is there already.
    let taken = ["", ".", "..", "all", "default", "lo"].contains(&name);
    if taken || name.len() > 15 || name.chars().any(refused) {
        return Err(Error::new(Kind::Invalid, "name interface", format_args!("\"{name}\""))
            .because("no device can have this name")
            .hint("use at most 15 letters, digits, dots, dashes and underscores"));
    }
    Ok(())
}

impl EndpointPlan {
    /// The device of the host that it stands on, for errors.
    fn below(&self) -> &str {
        match &self.kind {
            EndpointKind::Bridge { bridge: device, .. }
            | EndpointKind::Macvlan { parent: device, .. }
            | EndpointKind::Ipvlan { parent: device, .. }
            | EndpointKind::Phys { device } => device,
        }
    }
}
