//! What is said at a start when somebody else's firewall keeps containers from what they are for.

use crate::record::Status;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_network::{Endpoint, EndpointKind, Fate, Firewalls, Packet, Place, Transport, refusing_forward_chains};

/// One sentence for each chain of another's that drops what a container sends to outside, or what comes to its published
/// ports. Costs one question where no forwarding chain drops what it does not know, which is usual.
pub(crate) fn warnings(status: &Status, table: &str) -> Vec<String> {
    match refusing_forward_chains() {
        Ok(chains) if chains.iter().all(|c| c.table == table) => return Vec::new(),
        // A warning that cannot be had is no reason not to start.
        Err(_) => return Vec::new(),
        Ok(_) => {}
    }
    let Ok(firewalls) = Firewalls::read() else { return Vec::new() };
    let mut out = Vec::new();
    for endpoint in &status.endpoints {
        let EndpointKind::Bridge { bridge, .. } = &endpoint.kind else { continue };
        for packet in packets(endpoint, bridge) {
            let drops = |j: &tare_network::Judgement| j.fate == Fate::Drops && j.chain.table != table;
            let Some(judgement) = firewalls.judge(Place::Forward, &packet).into_iter().find(drops) else { continue };
            let (what, rule) = if packet.translated {
                ("connections to published ports", format!("-o {bridge}"))
            } else {
                ("what containers send to outside", format!("-i {bridge}"))
            };
            let how = if judgement.chain.is_firewallds() {
                format!("with `firewall-cmd --zone=trusted --change-interface={bridge}`")
            } else {
                format!("for iptables with `iptables -I FORWARD {rule} -j ACCEPT`")
            };
            let text = format!(
                "{} drops {what} ({}): let it pass there, {how}; `tare port explain` says more",
                judgement.chain, judgement.by
            );
            if !out.contains(&text) {
                out.push(text);
            }
        }
    }
    out
}

/// The first packets of connections that are to be expected.
fn packets(endpoint: &Endpoint, bridge: &str) -> Vec<Packet> {
    let mut out = Vec::new();
    for own in [endpoint.v4(), endpoint.v6()].into_iter().flatten().map(|net| net.address()) {
        let somebody: IpAddr = match own {
            IpAddr::V4(_) => Ipv4Addr::new(203, 0, 113, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        if endpoint.gateways.iter().any(|g| g.is_ipv4() == own.is_ipv4()) {
            out.push(Packet {
                arriving: Some(bridge.to_owned()),
                leaving: None,
                source: Some(own),
                destination: somebody,
                transport: Transport::Tcp,
                port: 443,
                translated: false,
            });
        }
        out.extend(endpoint.ports.first().map(|port| Packet {
            arriving: None,
            leaving: Some(bridge.to_owned()),
            source: None,
            destination: own,
            transport: port.transport,
            port: port.container_port,
            translated: true,
        }));
    }
    out
}
