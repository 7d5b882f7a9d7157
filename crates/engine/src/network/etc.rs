//! The container's own /etc files, and whom its names come from.

use super::Place;
use crate::Engine;
use crate::record::{self, NamedNetwork, Naming, Record};
use crate::request::{Dns, HostAddress, NetworkMode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tare_model::network::{Driver, Network};
use tare_model::{Context, Error, Kind, Result};
use tare_network::{HostsEntry, NameServers, ResolvConf};

impl Engine {
    /// Where the three files of /etc lie: a container in another's network has that one's.
    pub(crate) fn etc_files(&self, record: &Record) -> Result<PathBuf> {
        let mut dir = self.dirs(&record.id).state;
        let mut network = record.request.network.clone();
        // Names may have been given anew since, even in a circle.
        for _ in 0..16 {
            let NetworkMode::Container(name) = network else { break };
            let (row, owner) = self.find(&name)?;
            dir = self.dirs(&row.id).state;
            network = owner.request.network;
        }
        Ok(dir)
    }

    /// Of whom names are answered inside; `None` if of nobody, and the container asks the host's servers itself.
    pub(crate) fn naming(&self, record: &Record) -> Result<Option<Naming>> {
        let places: Vec<Place> = self.places_of(record)?.into_iter().map(|(place, _)| place).collect();
        let networks: Vec<NamedNetwork> = places.iter().map(|p| NamedNetwork::of(&p.network)).collect();
        if !networks.iter().any(|n| n.names) {
            return Ok(None);
        }
        let of_networks = places.iter().map(|p| &p.network.servers);
        let known =
            [&record.request.dns.servers].into_iter().chain(of_networks).chain([&self.config.network.dns.servers]);
        let servers = known.into_iter().find(|s| !s.is_empty()).cloned().unwrap_or_default();
        Ok(Some(Naming { networks, servers }))
    }

    /// The container's own /etc files, written into a directory of it. Not the run directory: whoever is root inside can
    /// make them as large as he likes, and what is below /run is the whole host's memory.
    pub(crate) fn write_etc(&self, record: &Record, naming: Option<&Naming>, dir: &Path) -> Result<()> {
        let host_text = |path: &str| crate::record::read_or_empty(Path::new(path));
        let resolv = resolv_conf(record, &self.config.network.dns, naming.is_some(), &host_text);
        let hosts = if record.request.network == NetworkMode::Host {
            let added = self.added_hosts(record)?;
            added
                .iter()
                .fold(host_text("/etc/hosts"), |text, e| format!("{text}{}\t{}\n", e.address, e.names.join(" ")))
        } else {
            let own = record.leases.iter().flat_map(|l| [l.v4.map(IpAddr::V4), l.v6.map(IpAddr::V6)]);
            let own: Vec<IpAddr> = own.flatten().collect();
            tare_network::hosts_file(&own, &[&record.hostname], &self.added_hosts(record)?)
        };
        let hostname = tare_network::hostname_file(&record.hostname);
        for (name, text) in [("resolv.conf", resolv), ("hosts", hosts), ("hostname", hostname)] {
            record::write_file(dir, name, text.as_bytes(), record::Durable::No)?;
            // For every user of the container, whatever the caller's umask.
            let path = dir.join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
                .during("set mode of", path.display())?;
        }
        Ok(())
    }

    /// The lines of /etc/hosts that were asked for.
    fn added_hosts(&self, record: &Record) -> Result<Vec<HostsEntry>> {
        let mut entries = Vec::new();
        for host in &record.request.hosts {
            let addresses = match &host.address {
                HostAddress::Ip(ip) => vec![*ip],
                HostAddress::Gateway => self.gateway_of(record, &host.name)?,
                HostAddress::Container(name) => self.linked(record, name)?,
            };
            entries.extend(addresses.into_iter().map(|address| HostsEntry { address, names: vec![host.name.clone()] }));
        }
        Ok(entries)
    }

    /// The host as the container reaches it.
    fn gateway_of(&self, record: &Record, name: &str) -> Result<Vec<IpAddr>> {
        if record.request.network == NetworkMode::Host {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let networks: Vec<Network> = self.places_of(record)?.into_iter().map(|(place, _)| place.network).collect();
        let found = gateway(&networks);
        if found.is_empty() {
            return Err(Error::new(Kind::Invalid, "add host", name)
                .because("the container is on no network on which the host has an address (host-gateway)")
                .hint("give an address in place of host-gateway"));
        }
        Ok(found)
    }

    /// Another container's addresses on the networks that both are on.
    fn linked(&self, record: &Record, name: &str) -> Result<Vec<IpAddr>> {
        let (row, other) = self.find(name)?;
        let shared = other.leases.iter().filter(|l| record.leases.iter().any(|own| own.network == l.network));
        let addresses: Vec<IpAddr> =
            shared.flat_map(|l| [l.v4.map(IpAddr::V4), l.v6.map(IpAddr::V6)]).flatten().collect();
        if addresses.is_empty() {
            return Err(Error::new(Kind::Invalid, "link to container", &row.name)
                .because("there is no network that both containers are on")
                .hint(format!("tare network connect NETWORK {}", row.name)));
        }
        Ok(addresses)
    }
}

fn resolv_conf(record: &Record, defaults: &Dns, own: bool, host_text: &dyn Fn(&str) -> String) -> String {
    let (asked, network) = (&record.request.dns, &record.request.network);
    // On the host's network the host's settings are meant, but for what this container was told.
    let defaults = if *network == NetworkMode::Host { &Dns::default() } else { defaults };
    let given =
        |asked: &'_ [String], default: &'_ [String]| if asked.is_empty() { default.to_vec() } else { asked.to_vec() };
    let servers = if asked.servers.is_empty() { &defaults.servers } else { &asked.servers };
    let servers = match network {
        _ if own => NameServers::Own,
        _ if !servers.is_empty() => NameServers::Given(servers),
        NetworkMode::Host => NameServers::Host,
        _ => NameServers::Reachable,
    };
    let mut host = host_text("/etc/resolv.conf");
    if servers == NameServers::Reachable && tare_network::lists_stub_only(&host) {
        let behind = host_text(tare_network::STUB_RESOLVER_UPSTREAMS);
        host = if behind.is_empty() { host } else { behind };
    }
    let (search, options) = (given(&asked.search, &defaults.search), given(&asked.options, &defaults.options));
    ResolvConf { servers, search: &search, options: &options }.text(&host)
}

/// The host's addresses on the first network where it has some, IPv4 first.
fn gateway(networks: &[Network]) -> Vec<IpAddr> {
    let of = |n: &Network| n.subnets.iter().filter_map(|s| s.gateway).collect::<Vec<_>>();
    let bridges = networks.iter().filter(|n| n.driver == Driver::Bridge);
    let mut found = bridges.map(of).find(|gateways| !gateways.is_empty()).unwrap_or_default();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}
