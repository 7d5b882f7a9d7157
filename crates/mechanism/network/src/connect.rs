//! Connecting a container's network namespace, and taking it off again.

use crate::channel::Channel;
use crate::host::{Host, missing};
use crate::nft::Element;
use crate::route::{Device, LOOPBACK, Link};
use crate::{Endpoint, EndpointKind, EndpointPlan, PortMapping};
use rustix::fd::BorrowedFd;
use tare_kernel::netlink::Protocol;
use tare_model::{Context as _, Error, Kind, Result};

/// There while the module br_netfilter is loaded; per network namespace.
const BRIDGE_CALLS_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

impl Host {
    /// Connects the namespace `netns` and publishes the ports. On failure everything is taken back.
    ///
    /// The first packet after this goes through: nothing is left to be negotiated, detected or waited for. The bridge
    /// must be there ([`Host::ensure_bridge`]). Runs on the thread that opened this handle, which visits `netns` for the
    /// length of one system call.
    pub fn connect(&mut self, plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<Endpoint> {
        let EndpointKind::Bridge { bridge, .. } = &plan.kind else {
            return Err(Error::new(Kind::Unsupported, "connect to network", &plan.network));
        };
        let index = self.bridge_index(bridge)?;
        let mut batch = self.route.batch();
        batch.add_veth(plan, index, netns);
        self.route.transact(&batch).during("connect to network", bridge)?;
        // From here on there is something to take back.
        let rest = configure_inside(plan, netns).and_then(|()| self.open_port(plan, index));
        if let Err(e) = rest {
            // The error that made this necessary is the one to tell.
            drop(self.delete_link(&plan.link));
            return Err(e.during("connect to network", bridge));
        }
        Ok(plan.endpoint())
    }

    fn open_port(&mut self, plan: &EndpointPlan, bridge: u32) -> Result<()> {
        self.publish(&plan.endpoint(), &plan.ports)?;
        let port = self.route.link(&plan.link)?.ok_or_else(|| missing(&plan.link))?.index;
        // The bridge has a carrier only once its first port has one.
        self.route.settle(&[port, bridge])
    }

    /// Publishes ports of a connected container, all or none: they are reserved by the caller.
    pub fn publish(&mut self, endpoint: &Endpoint, ports: &[PortMapping]) -> Result<()> {
        let elements = Element::of(ports, &endpoint.addresses);
        if elements.is_empty() {
            return Ok(());
        }
        self.nft.add_elements(&endpoint.table, &elements)?;
        // With br_netfilter a packet to a published port of its own sender is translated while it is still bridged,
        // and would have to leave through the port that it came from.
        if bridged_packets_are_filtered() {
            let port = self.route.link(&endpoint.link)?.ok_or_else(|| missing(&endpoint.link))?.index;
            let mut batch = self.route.batch();
            batch.set_hairpin(port, &endpoint.link);
            self.route.transact(&batch)?;
        }
        Ok(())
    }

    /// Publishes again what of an endpoint's ports others have withdrawn; how many they were. The table must be there
    /// ([`Host::ensure_bridge`]). Fine to repeat.
    pub fn restore(&mut self, endpoint: &Endpoint) -> Result<usize> {
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

    /// Withdraws published ports. Fine to repeat, and when others now hold these ports: elements that lead elsewhere
    /// are left alone.
    pub fn unpublish(&mut self, endpoint: &Endpoint, ports: &[PortMapping]) -> Result<()> {
        let elements = Element::of(ports, &endpoint.addresses);
        if elements.is_empty() { Ok(()) } else { self.nft.delete_elements(&endpoint.table, &elements) }
    }

    /// Withdraws the published ports and, where the container goes on living, takes its device away: `netns` is its
    /// namespace then. With `None` the devices die with the container's namespace.
    pub fn disconnect(&mut self, endpoint: &Endpoint, netns: Option<BorrowedFd<'_>>) -> Result<()> {
        let ports = self.unpublish(endpoint, &endpoint.ports);
        let device = if netns.is_some() { self.delete_link(&endpoint.link) } else { Ok(()) };
        ports.and(device)
    }
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
    plan.addresses.iter().for_each(|address| batch.add_address(index, name, *address));
    batch.set_up(index, name);
    plan.gateways.iter().for_each(|gateway| batch.add_default_route(index, name, *gateway, plan.metric));
    inside.transact(&batch)?;
    inside.settle(&[index])
}

fn bridged_packets_are_filtered() -> bool {
    std::fs::read(BRIDGE_CALLS_IPTABLES).is_ok_and(|value| value.first() == Some(&b'1'))
}
