//! `port explain`: who reaches a container's port, and which element, rule or setting decides it.
//!
//! What is said is what the kernel has now: the host's addresses, our maps' elements, the settings that let packets pass,
//! and the rules of other firewalls, read and judged by [`tare_network`]. Nothing is sent.

mod listening;
mod view;
mod warning;
mod ways;

pub use view::{Origin, PortExplanation, Program, Reason, Verdict, Way};

pub(crate) use warning::warnings;

use crate::Engine;
use crate::network::port_mapping;
use crate::record::read_or_empty;
use crate::record::{Record, Status};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use tare_model::{Error, Kind, Result};
use tare_network::Place as Hook;
use tare_network::{Fate, Firewalls, Host, Packet, PortMapping, Transport};
use ways::{Facts, Place, Probe, ways};

const EXPLAIN: &str = "explain port";
const FORWARDING: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

impl Engine {
    /// Says who reaches ports of a running container. `port`: one port of the container, published or not; absent for all
    /// that are published.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::State` if it does not run; `Kind::Invalid` without a network stack of its own.
    pub fn port_explain(&self, container: &str, port: Option<(u16, Transport)>) -> Result<Vec<PortExplanation>> {
        let (row, record) = self.find(container)?;
        let found = self.observe(&row)?;
        let stopped = || {
            Error::new(Kind::State, EXPLAIN, &row.name)
                .because(format!("the container is not running ({})", found.state.as_str()))
                .hint(format!("tare start {}", row.name))
        };
        found.pid.ok_or_else(stopped)?;
        let status = self.dirs(&row.id).status()?.ok_or_else(stopped)?;
        if status.endpoints.is_empty() {
            return Err(Error::new(Kind::Invalid, EXPLAIN, &row.name)
                .because("the container is in no network of its own: its ports are those of the stack that it shares")
                .hint("`ss -lnp` on this host lists who waits where"));
        }
        let mut asked: Vec<(u16, Transport)> = status
            .ports
            .iter()
            .filter(|p| port.is_none_or(|asked| asked == (p.container_port, p.transport)))
            .map(|p| (p.container_port, p.transport))
            .collect();
        asked.sort_by_key(|(number, transport)| (*number, transport.as_str()));
        asked.dedup();
        if asked.is_empty() {
            asked.extend(port);
        }
        asked.into_iter().map(|(number, transport)| self.explain(&record, &status, number, transport)).collect()
    }

    fn explain(&self, record: &Record, status: &Status, port: u16, transport: Transport) -> Result<PortExplanation> {
        let mut host = Host::open()?;
        let networks = self.store.networks()?;
        let published: Vec<PortMapping> = status
            .ports
            .iter()
            .filter(|p| p.container_port == port && p.transport == transport)
            .map(port_mapping)
            .collect();
        let carrier = status.endpoints.iter().find(|e| !e.ports.is_empty());
        let targets: Vec<IpAddr> =
            carrier.iter().flat_map(|e| [e.v4(), e.v6()]).flatten().map(|net| net.address()).collect();
        let mut present = Vec::new();
        if let Some(endpoint) = carrier {
            let missing = host.missing(endpoint)?;
            let all = published.iter().flat_map(|p| targets.iter().map(move |t| (*p, *t)));
            present.extend(all.filter(|pair| !missing.contains(pair)));
        }
        let places = status
            .endpoints
            .iter()
            .filter_map(|e| {
                let network = networks.iter().find(|n| n.id == e.network)?.clone();
                Some(Place { network, addresses: e.addresses.clone() })
            })
            .collect::<Vec<_>>();
        let ours = |device: &str| networks.iter().any(|n| n.device.as_deref() == Some(device));
        let addresses: Vec<_> = host.own_addresses()?.into_iter().filter(|(device, _)| !ours(device)).collect();
        let firewalls = Firewalls::read()?;
        let table = self.site().table;
        let facts = Facts {
            places: &places,
            targets: &targets,
            container_port: port,
            transport,
            published: &published,
            present: &present,
            host: &addresses,
            forwards: FORWARDING.map(|path| read_or_empty(Path::new(path)).trim_end() == "1"),
            other_networks: networks.len() > places.len(),
            judge: &|probe: &Probe| judge(&firewalls, &table, probe),
        };
        Ok(PortExplanation {
            id: record.id.clone(),
            container: record.name().to_owned(),
            container_port: port,
            transport,
            published: crate::network::port_views(&published),
            program: program(status.pid, port, transport),
            ways: ways(&facts),
        })
    }
}

/// What the filters of others do with a packet on its way. Ours (`table`) are told in words of their own.
fn judge(firewalls: &Firewalls, table: &str, probe: &Probe) -> Vec<Reason> {
    let v4 = probe.destination.is_ipv4();
    let local: IpAddr = if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let packet = Packet {
        arriving: probe.from.clone(),
        leaving: probe.to.clone(),
        // Whoever it is: what is said of particular senders is told.
        source: probe.from.is_none().then_some(local),
        destination: probe.destination.ip(),
        transport: probe.transport,
        port: probe.destination.port(),
        translated: probe.translated,
    };
    let hook = if probe.from.is_some() { Hook::Forward } else { Hook::Output };
    let all = [hook, Hook::Postrouting].into_iter().flat_map(|hook| firewalls.judge(hook, &packet));
    let others = all.filter(|j| j.chain.table != table && j.fate != Fate::Passes);
    others
        .map(|j| Reason {
            owner: j.chain.firewall.clone(),
            rule: j.by.clone(),
            effect: match j.fate {
                Fate::Drops => format!("{} drops it", j.chain),
                _ => format!("{} may drop it: that depends on who asks, or on what cannot be seen from here", j.chain),
            },
            verdict: if j.fate == Fate::Drops { Verdict::Closed } else { Verdict::Depends },
        })
        .collect()
}

/// Who waits inside.
fn program(pid: i32, port: u16, transport: Transport) -> Program {
    // The kernel lists no SCTP sockets in this way.
    if transport == Transport::Sctp {
        return Program::Unknown;
    }
    match listening::addresses(pid, transport.as_str(), port) {
        None => Program::Unknown,
        Some(found) if found.is_empty() => Program::Nobody,
        Some(found) if found.iter().any(IpAddr::is_unspecified) => Program::Everywhere,
        Some(found) => Program::At(found),
    }
}
