//! What follows from all networks of a container together: where its default routes lead, and through which network its
//! published ports are reached.

use crate::record::Lease;
use crate::request::Attachment;
use crate::supervise::control::Shape;
use std::net::IpAddr;
use tare_model::network::{Driver, Network};

/// A place in a network.
pub(crate) type Place<'a> = (&'a Attachment, &'a Network, &'a Lease);

/// The default routes lead through the network with the highest priority that has a way out, the first among equals; each
/// family's for itself. Ports are reached through the first bridge that is not internal.
pub(crate) fn shape(places: &[Place<'_>]) -> Shape {
    let gateway = |(_, network, lease): &Place<'_>, six: bool| -> Option<IpAddr> {
        let has = if six { lease.v6.is_some() } else { lease.v4.is_some() };
        let subnet = if six { network.v6() } else { network.v4() };
        subnet?.gateway.filter(|_| has && !network.internal)
    };
    let best = |six: bool| {
        let with = places.iter().filter_map(|p| Some((p.0.gw_priority, p.1.id.clone(), gateway(p, six)?)));
        // Of equal ones `max_by_key` gives the last.
        let best = with.rev().max_by_key(|(priority, ..)| *priority);
        best.map(|(_, id, gateway)| (id, gateway))
    };
    let carries = |(_, network, _): &&Place<'_>| network.driver == Driver::Bridge && !network.internal;
    Shape {
        routes: [false, true].into_iter().filter_map(best).collect(),
        carrier: places.iter().find(carries).map(|(_, network, _)| network.id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(id: &str, subnets: &[&str]) -> Network {
        let mut network: Network =
            serde_json::from_str(&format!(r#"{{"name":"{id}","id":"{id}","driver":"bridge","created":1}}"#)).unwrap();
        for net in subnets {
            let net: tare_model::address::IpNet = net.parse().unwrap();
            let gateway: IpAddr = if net.is_ipv6() { "fd00::1".parse().unwrap() } else { "10.0.0.1".parse().unwrap() };
            let text = format!(r#"{{"net":"{net}","gateway":"{gateway}"}}"#);
            network.subnets.push(serde_json::from_str(&text).unwrap());
        }
        network
    }

    fn lease(id: &str) -> Lease {
        Lease {
            network: id.to_owned(),
            v4: Some([10, 0, 0, 2].into()),
            v6: Some("fd00::2".parse().unwrap()),
            mac: None,
        }
    }

    fn routes(places: &[(i32, &Network)]) -> Vec<String> {
        let leases: Vec<_> = places.iter().map(|(_, n)| lease(&n.id)).collect();
        let wishes: Vec<_> =
            places.iter().map(|(p, _)| Attachment { gw_priority: *p, ..Attachment::default() }).collect();
        let all: Vec<Place<'_>> = places.iter().zip(&wishes).zip(&leases).map(|(((_, n), w), l)| (w, *n, l)).collect();
        let shape = shape(&all);
        let carrier = shape.carrier.map(|c| format!("ports {c}"));
        shape.routes.iter().map(|(id, gateway)| format!("{id} {gateway}")).chain(carrier).collect()
    }

    #[test]
    fn the_highest_priority_leads_out_and_the_first_among_equals() {
        let (a, b) = (network("a", &["10.0.0.0/24"]), network("b", &["10.0.0.0/24", "fd00::/64"]));
        // The first network has no IPv6, so that family's route is the other's.
        assert_eq!(routes(&[(0, &a), (0, &b)]), ["a 10.0.0.1", "b fd00::1", "ports a"]);
        assert_eq!(routes(&[(0, &a), (1, &b)]), ["b 10.0.0.1", "b fd00::1", "ports a"]);
        assert_eq!(routes(&[(-1, &a)]), ["a 10.0.0.1", "ports a"]);
        assert!(routes(&[]).is_empty());
    }

    #[test]
    fn internal_networks_lead_nowhere_and_carry_no_ports() {
        let mut inner = network("a", &["10.0.0.0/24"]);
        inner.internal = true;
        let mut lan = network("b", &["10.0.0.0/24"]);
        lan.driver = Driver::Macvlan;
        assert_eq!(routes(&[(9, &inner), (0, &lan)]), ["b 10.0.0.1"]);
        assert!(routes(&[(9, &inner)]).is_empty());
    }
}
