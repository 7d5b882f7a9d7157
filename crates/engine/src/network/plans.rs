//! From places to what the kernel is to be given.

use super::options;
use super::{Place, Shape};
use crate::Engine;
use crate::record::{Lease, Record};
use crate::request::Attachment;
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Error, Result};
use tare_network::{BridgePlan, EndpointPlan, PortMapping, Site};

/// The MTU of a bridge whose definition has none: from before definitions had it.
const MTU: u32 = 1500;
/// Bits of the networks that are valid on one link only.
const LINK_LOCAL: (u8, u8) = (16, 64);

/// All that a start brings about in networks, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans {
    /// The bridges that the endpoints stand on.
    pub(crate) bridges: Vec<BridgePlan>,
    /// One for each place.
    pub(crate) endpoints: Vec<EndpointPlan>,
}

impl Engine {
    /// What this root's networks are called in the kernel.
    pub(crate) fn site(&self) -> Site {
        Site::of(&self.config.root)
    }

    /// The bridge of a network, and what may pass there.
    ///
    /// # Errors
    /// `Kind::Invalid` for a network without a bridge.
    pub(crate) fn bridge_plan(&self, network: &Network) -> Result<BridgePlan> {
        BridgePlan::of(&self.site(), network, MTU)
    }

    /// Plans one endpoint, without default routes and published ports: which network has these follows from all of them.
    /// `taken`: names of devices that are there already.
    ///
    /// # Errors
    /// `Kind::Invalid` for an address that the network does not have.
    pub(crate) fn plan_endpoint(
        &self,
        record: &Record,
        network: &Network,
        attachment: &Attachment,
        lease: &Lease,
        taken: &[&str],
    ) -> Result<EndpointPlan> {
        let addresses: Vec<IpAddr> = lease.v4.map(IpAddr::V4).into_iter().chain(lease.v6.map(IpAddr::V6)).collect();
        let mut plan = EndpointPlan::of(&self.site(), network, random()?, &addresses)?;
        plan.interface = interface(network, attachment, taken);
        plan.mac = lease.mac.or(plan.mac);
        plan.rate = record.request.net_rate;
        plan.gateways.clear();
        let link_local = |a: &IpAddr| IpNet::new(*a, if a.is_ipv4() { LINK_LOCAL.0 } else { LINK_LOCAL.1 });
        plan.addresses.extend(attachment.link_local.iter().filter_map(link_local));
        Ok(plan)
    }

    /// Plans everything that a start of a container brings about in its networks.
    ///
    /// # Errors
    /// A network that is not there any more; addresses that it does not have.
    pub(crate) fn plan_networks(&self, record: &Record, ports: &[PortMapping]) -> Result<Plans> {
        let places = self.places_of(record)?;
        let shape = Shape::of(&places.iter().map(|(p, _)| (&p.attachment, &p.network)).collect::<Vec<_>>());
        let mut plans = Plans::default();
        for (i, (Place { attachment, network }, lease)) in places.iter().enumerate() {
            // What others were promised by name is not taken by those who take what is free.
            let promised = places[i + 1..].iter().filter_map(|(p, _)| p.attachment.interface.as_deref());
            let taken: Vec<&str> = plans.endpoints.iter().map(|p| p.interface.as_str()).chain(promised).collect();
            let mut plan = self.plan_endpoint(record, network, attachment, lease, &taken)?;
            // It may have been made without one of the network's families.
            let has = |v4: bool| if v4 { lease.v4.is_some() } else { lease.v6.is_some() };
            let leads = |s: &&Subnet| has(s.net.is_ipv4()) && shape.leads_out(i, s.net.is_ipv4());
            plan.gateways =
                network.subnets.iter().filter(leads).filter_map(|s| EndpointPlan::way_out(network, s)).collect();
            if shape.carrier == Some(i) {
                plan.ports = ports.to_vec();
            }
            if network.driver == Driver::Bridge {
                plans.bridges.push(self.bridge_plan(network)?);
            }
            plans.endpoints.push(plan);
        }
        Ok(plans)
    }
}

/// The device's name inside: the one that was asked for, or the first that is free.
fn interface(network: &Network, attachment: &Attachment, taken: &[&str]) -> String {
    if let Some(name) = &attachment.interface {
        return name.clone();
    }
    let prefix = options::interface_prefix(&network.options);
    let mut names = (0..).map(|n: u32| format!("{prefix}{n}"));
    names.find(|name| !taken.contains(&name.as_str())).unwrap_or_default()
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("read", "random bytes", e))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    #[test]
    fn devices_take_the_first_free_name_of_their_networks_kind() {
        let plain = network("a", &["10.1.0.0/24"]);
        let mut other = network("b", &["10.2.0.0/24"]);
        other.options.insert("interface_prefix".into(), "lan".into());
        let free = Attachment::default();
        let named = Attachment { interface: Some("wan".into()), ..Attachment::default() };
        assert_eq!(interface(&plain, &free, &[]), "eth0");
        assert_eq!(interface(&plain, &free, &["eth0", "eth2"]), "eth1");
        assert_eq!(interface(&other, &free, &["eth0"]), "lan0");
        assert_eq!(interface(&plain, &named, &["eth0"]), "wan");
    }
}
