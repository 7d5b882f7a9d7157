//! The verbs of networks themselves.

use super::DEFAULT;
use super::define::{self, Facts};
use crate::record::{Record, Status};
use crate::request::{NetworkRequest, RemoveOptions};
use crate::view::{Container, NetworkInfo, NetworkMember, NetworkView, State};
use crate::{Engine, time};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network};
use tare_model::{Error, Kind, Result};
use tare_network::Host;
use tare_store::Store;

/// What to do with the containers of a network that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkRemoval {
    /// The network stays as long as there are any.
    IfUnused,
    /// They are removed first, by force.
    WithContainers,
}

impl Engine {
    /// The default network of this root; defined at the first question, its subnets chosen once.
    pub(crate) fn default_network(&self) -> Result<Network> {
        if let Some(network) = self.bridge.get() {
            return Ok(network.clone());
        }
        let network = match self.store.network(DEFAULT) {
            Err(e) if e.kind() == Kind::NotFound => {
                let (facts, device) = (self.facts_for(None, None)?, self.site().bridge);
                self.store.ensure_network(DEFAULT, |networks, prefix| {
                    define::define_default(&device, &facts, networks, self.prefix(prefix))
                })?
            }
            other => other?,
        };
        Ok(self.bridge.get_or_init(|| network).clone())
    }

    /// Defines a network. Durable. Nothing is made in the kernel before its first container starts.
    ///
    /// # Errors
    /// `Kind::AlreadyExists`; `Kind::Invalid` for contradictions; `Kind::InUse` naming the route, network or device that is
    /// in the way; `Kind::Exhausted` if no subnet is free; `Kind::NotFound` for a device that the host does not have.
    pub fn network_create(&self, request: &NetworkRequest) -> Result<Network> {
        define::check_name(&request.name)?;
        if request.name == self.site().bridge {
            return Err(Error::new(Kind::Invalid, "name network", &request.name)
                .because("the default network has this name, too"));
        }
        let parent = request.parent.as_deref().or_else(|| request.options.get("parent").map(String::as_str));
        let named = "com.docker.network.bridge.name";
        let device = request.device.as_deref().or_else(|| request.options.get(named).map(String::as_str));
        let facts = self.facts_for(device, parent)?;
        self.store.create_network(|networks, prefix| {
            if networks.iter().any(|n| n.name == request.name) {
                return Err(Error::new(Kind::AlreadyExists, "create network", &request.name)
                    .because("a network of this name exists")
                    .hint(format!("`tare network inspect {}` shows it", request.name)));
            }
            define::define(request, &facts, networks, self.prefix(prefix))
        })
    }

    fn facts_for(&self, device: Option<&str>, parent: Option<&str>) -> Result<Facts> {
        let mut host = Host::open()?;
        let mut mtu = |name: Option<&str>| name.map_or(Ok(None), |n| host.device_mtu(n));
        let (device, parent) = (mtu(device)?, mtu(parent)?);
        Ok(Facts {
            id: Store::new_id()?,
            now: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            occupied: host.occupied(None)?,
            // What a bridge lets through and its port to the outside does not is lost.
            mtu: parent.map_or_else(|| host.default_mtu(), Ok)?,
            candidates: self.candidates(),
            device_exists: device.is_some(),
            parent_exists: parent.is_some(),
        })
    }

    /// What IPv4 subnets are cut from: the administrator's pools, or our own.
    fn candidates(&self) -> Vec<IpNet> {
        let pools: Vec<IpNet> = self.config.network.pools.iter().copied().filter(|p| p.is_ipv4()).collect();
        if pools.is_empty() {
            return tare_network::subnet_candidates(&self.config.root);
        }
        pools.into_iter().flat_map(|pool| define::cut(pool, define::V4_BITS)).collect()
    }

    /// What IPv6 subnets are cut from.
    fn prefix(&self, own: IpNet) -> IpNet {
        self.config.network.pools.iter().copied().find(|p| p.is_ipv6()).unwrap_or(own)
    }

    /// All networks by name, the default one among them even if nobody has used it yet.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.default_network()?;
        self.store.networks()
    }

    /// Names of the containers of each network, by its id; networks without containers are left out.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn network_users(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.store.containers()? {
            for network in row.networks {
                users.entry(network).or_default().push(row.name.clone());
            }
        }
        users.values_mut().for_each(|names| names.sort());
        Ok(users)
    }

    /// A network and the containers that have a place in it. By name, id or beginning of an id; for the default one also
    /// `default` and its device's name.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub fn network(&self, name: &str) -> Result<NetworkInfo> {
        let network = self.network_named(name)?;
        let mut containers = Vec::new();
        for row in self.store.network_users(&network.id)? {
            // What vanishes meanwhile is left out.
            let Ok(view) = self.observe(&row) else { continue };
            let running = matches!(view.state, State::Running | State::Paused);
            let Container { id, name, networks, .. } = view;
            let place = networks.into_iter().find(|n| n.id == network.id);
            containers.extend(place.map(|place| NetworkMember { id, name, running, place }));
        }
        let nanos = u32::try_from(network.created.rem_euclid(1_000_000_000)).unwrap_or(0);
        Ok(NetworkInfo {
            created_at: time::rfc3339(network.created.div_euclid(1_000_000_000), nanos),
            is_default: network.name == DEFAULT,
            containers,
            network,
        })
    }

    /// Whether there is a network of this name or id.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn network_exists(&self, name: &str) -> Result<bool> {
        match self.network_named(name) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a network. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` for the default one; `Kind::InUse` naming its containers.
    pub fn network_remove(&self, name: &str, removal: NetworkRemoval) -> Result<()> {
        let network = self.network_named(name)?;
        if network.name == DEFAULT {
            return Err(Error::new(Kind::Invalid, "remove network", name)
                .because("it is the default network, which containers have that name none"));
        }
        loop {
            if removal == NetworkRemoval::WithContainers {
                for user in self.store.network_users(&network.id)? {
                    let options = RemoveOptions { force: true, volumes: false };
                    match self.remove(&user.id, options) {
                        Err(e) if e.kind() == Kind::NotFound => {}
                        other => other?,
                    }
                }
            }
            match self.store.remove_network(&network.id) {
                // One has come meanwhile, or is one that is removed at its end.
                Err(e) if e.kind() == Kind::InUse && removal == NetworkRemoval::WithContainers => {}
                other => break other?,
            }
        }
        self.sweep_network(&network)
    }

    /// Removes what is left of a network that nobody can start a container in any more.
    fn sweep_network(&self, network: &Network) -> Result<()> {
        let swept = match network.driver {
            // Its last container's supervisor may be about to do this after a while.
            Driver::Bridge => self.release_bridge(&network.id, &self.bridge_plan(network)?, None),
            Driver::Macvlan | Driver::Ipvlan | Driver::Phys => Ok(()),
        };
        let _ = std::fs::remove_dir_all(self.network_dir(&network.id));
        swept
    }

    /// Removes the networks that no container has a place in, the default one apart, if `wanted` says so; their names.
    /// Durable.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn network_prune(&self, wanted: &dyn Fn(&Network) -> bool) -> Result<Vec<String>> {
        let users = self.network_users()?;
        let mut gone = Vec::new();
        for network in self.store.networks()? {
            if network.name == DEFAULT || users.contains_key(&network.id) || !wanted(&network) {
                continue;
            }
            match self.store.remove_network(&network.id) {
                Ok(()) => {
                    self.sweep_network(&network)?;
                    gone.push(network.name);
                }
                // Somebody has come, or was faster.
                Err(e) if matches!(e.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(gone)
    }

    /// A container's places, as callers are told: as they are if it runs, as they will be otherwise.
    pub(crate) fn network_views(&self, record: &Record, status: Option<&Status>) -> Result<Vec<NetworkView>> {
        let mut views = Vec::new();
        for (i, lease) in record.leases.iter().enumerate() {
            let network = match self.definition(&lease.network) {
                // It is of no use to nobody that the rest cannot be told, either.
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            let attachment = record.request.attachments.get(i).cloned().unwrap_or_default();
            let addresses: Vec<IpAddr> = lease.v4.map(IpAddr::V4).into_iter().chain(lease.v6.map(IpAddr::V6)).collect();
            let with_prefix = |a: &IpAddr| {
                let subnet = network.subnets.iter().find(|s| s.net.contains(*a))?;
                IpNet::new(*a, subnet.net.prefix())
            };
            let mut view = NetworkView {
                name: network.name.clone(),
                id: network.id.clone(),
                interface: attachment.interface.clone().unwrap_or_default(),
                link: None,
                addresses: addresses.iter().filter_map(with_prefix).collect(),
                gateways: Vec::new(),
                mac: lease.mac,
                aliases: attachment.aliases.clone(),
            };
            if let Some(endpoint) = status.and_then(|s| s.endpoints.iter().find(|e| e.network == network.id)) {
                view.interface.clone_from(&endpoint.interface);
                view.link = (network.driver == Driver::Bridge).then(|| endpoint.link.clone());
                view.addresses.clone_from(&endpoint.addresses);
                view.gateways.clone_from(&endpoint.gateways);
                view.mac = endpoint.mac.or(view.mac);
            }
            views.push(view);
        }
        Ok(views)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::engine;

    fn named(name: &str) -> NetworkRequest {
        NetworkRequest { name: name.to_owned(), ..NetworkRequest::default() }
    }

    #[test]
    fn networks_are_made_listed_found_and_removed() {
        let (_dir, engine) = engine();
        let back = engine.network_create(&named("back")).unwrap();
        let names: Vec<_> = engine.networks().unwrap().into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["back", "bridge"]);
        let default = engine.network("default").unwrap();
        for name in ["bridge", "", &engine.site().bridge, &default.network.id] {
            assert_eq!(engine.network(name).unwrap(), default, "{name}");
        }
        assert!(default.is_default && default.network.v4().is_some() && default.network.v6().is_some());
        assert_ne!(default.network.v6().unwrap().net, back.v6().unwrap().net);
        let again = engine.network_create(&named("back")).unwrap_err();
        assert_eq!(
            (again.kind(), again.first_hint()),
            (Kind::AlreadyExists, Some("`tare network inspect back` shows it"))
        );
        let taken = NetworkRequest { subnets: vec![back.v4().unwrap().net], ..named("front") };
        let e = engine.network_create(&taken).unwrap_err();
        assert!(e.to_string().contains("network back has"), "{e}");
        assert!(engine.network_exists("back").unwrap() && !engine.network_exists("front").unwrap());
        let e = engine.network_remove("bridge", NetworkRemoval::WithContainers).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        engine.network_remove(&back.id[..12], NetworkRemoval::IfUnused).unwrap();
        assert_eq!(engine.network_remove("back", NetworkRemoval::IfUnused).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn pruning_takes_what_nobody_uses_and_is_wanted() {
        let (_dir, engine) = engine();
        engine.default_network().unwrap();
        let mut labelled = named("old");
        labelled.labels.insert("keep".into(), "no".into());
        engine.network_create(&labelled).unwrap();
        engine.network_create(&named("new")).unwrap();
        let gone = engine.network_prune(&|n| n.labels.contains_key("keep")).unwrap();
        assert_eq!(gone, ["old"]);
        assert_eq!(engine.network_prune(&|_| true).unwrap(), ["new"]);
        assert_eq!(engine.networks().unwrap().len(), 1, "the default network stays");
    }

    #[test]
    fn the_administrators_pools_are_what_subnets_are_cut_from() {
        let (_dir, mut engine) = engine();
        engine.config.network.pools = ["10.201.0.0/19", "fd77::/60"].map(|p| p.parse().unwrap()).into();
        let nets = |name: &str| {
            let network = engine.network_create(&named(name))?;
            Ok::<_, Error>(network.subnets.iter().map(|s| s.net.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(nets("a").unwrap(), ["10.201.0.0/20", "fd77::/64"]);
        assert_eq!(nets("b").unwrap(), ["10.201.16.0/20", "fd77:0:0:1::/64"]);
        assert_eq!(nets("c").unwrap_err().kind(), Kind::Exhausted);
    }
}
