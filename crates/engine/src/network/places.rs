//! A container's places in networks: what was asked for, checked, and the addresses that it gets.

use super::{DEFAULT, define};
use crate::Engine;
use crate::record::{Lease, Record};
use crate::request::{Attachment, NetworkMode, RunRequest};
use std::net::IpAddr;
use tare_model::address::MacAddress;
use tare_model::network::{Driver, Network};
use tare_model::{Error, Kind, Result};
use tare_store::AddressRequest;

/// Longest name that can be resolved (RFC 1035).
const NAME_LENGTH: usize = 253;

/// A place in a network: how it was asked for, and in which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) attachment: Attachment,
    pub(crate) network: Network,
}

impl Engine {
    /// A network by whatever it may be called: name, id, beginning of an id; for the default one also `default`, its
    /// device's name, and nothing.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub(crate) fn network_named(&self, name: &str) -> Result<Network> {
        if self.is_default_name(name) { self.default_network() } else { self.store.network(name) }
    }

    fn is_default_name(&self, name: &str) -> bool {
        name.is_empty() || name == DEFAULT || name == "default" || name == self.site().bridge
    }

    /// The networks that a request names, in order, with what is asked for in each. None without a stack of its own.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` for what a network cannot give.
    pub(crate) fn places(&self, request: &RunRequest) -> Result<Vec<Place>> {
        if request.network != NetworkMode::Bridge {
            return match request.attachments.first() {
                Some(a) => Err(Error::new(Kind::Invalid, "connect to network", &a.network)
                    .because("the container has no network stack of its own, so it cannot be connected to networks")),
                None => Ok(Vec::new()),
            };
        }
        let default = [Attachment::default()];
        let attachments = if request.attachments.is_empty() { &default[..] } else { &request.attachments[..] };
        let mut places: Vec<Place> = Vec::new();
        for attachment in attachments {
            let mut network = self.network_named(&attachment.network)?;
            if without_ipv6(request) {
                network.subnets.retain(|s| s.net.is_ipv4());
            }
            if places.iter().any(|p| p.network.id == network.id) {
                return Err(Error::new(Kind::Invalid, "connect to network", &network.name).because("it is named twice"));
            }
            check(attachment, &network)?;
            let same = |p: &Place| p.attachment.interface.is_some() && p.attachment.interface == attachment.interface;
            if let Some(name) = attachment.interface.as_ref().filter(|_| places.iter().any(same)) {
                return Err(Error::new(Kind::Invalid, "name device", name).because("two networks shall have it"));
            }
            // By its name from now on: that does not change as long as the network is there.
            let attachment = Attachment { network: network.name.clone(), ..attachment.clone() };
            places.push(Place { attachment, network });
        }
        Ok(places)
    }

    /// The places that a container has, with their networks as they are defined.
    ///
    /// # Errors
    /// `Kind::Corrupt` if a network is not there: the store keeps those that are in use.
    pub(crate) fn places_of(&self, record: &Record) -> Result<Vec<(Place, Lease)>> {
        let mut out = Vec::new();
        for (i, lease) in record.leases.iter().enumerate() {
            let attachment = record.request.attachments.get(i).cloned().unwrap_or_default();
            out.push((Place { attachment, network: self.definition(&lease.network)? }, lease.clone()));
        }
        Ok(out)
    }

    /// The definition of a network (its id) in which a container has a place.
    pub(crate) fn definition(&self, id: &str) -> Result<Network> {
        if let Some(network) = self.bridge.get().filter(|n| n.id == id) {
            return Ok(network.clone());
        }
        // A panic while it was held leaves a list that is whole.
        let mut known = self.definitions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(network) = known.iter().find(|n| n.id == id) {
            return Ok(network.clone());
        }
        let network = self.store.network(id)?;
        known.push(network.clone());
        Ok(network)
    }

    /// Gives a container a place in one more network: in the store only, durably. Undone by
    /// [`tare_store::Store::leave_network`].
    ///
    /// # Errors
    /// `Kind::Invalid` for what the network cannot give; `Kind::InUse` for an address that is taken.
    pub(crate) fn join(&self, record: &Record, network: &Network, attachment: &Attachment) -> Result<Lease> {
        check(attachment, network)?;
        let place = Place { attachment: attachment.clone(), network: network.clone() };
        let addresses = self.store.join_network(&record.id, &network.id, &address_requests(&place))?;
        Ok(lease_of(&place, &addresses))
    }
}

/// Whether a container's own settings switch IPv6 off, as many do.
fn without_ipv6(request: &RunRequest) -> bool {
    let off =
        |device: &str| request.sysctls.get(&format!("net.ipv6.conf.{device}.disable_ipv6")).is_some_and(|v| v == "1");
    off("all") || off("default")
}

/// Refuses what a network cannot give.
pub(crate) fn check(attachment: &Attachment, network: &Network) -> Result<()> {
    let name = &network.name;
    let refuse = |operation, object: &dyn std::fmt::Display, why: String| {
        Err(Error::new(Kind::Invalid, operation, object).because(why))
    };
    let ips = [attachment.ip.map(IpAddr::V4), attachment.ip6.map(IpAddr::V6)];
    for ip in ips.into_iter().flatten() {
        let subnet = if ip.is_ipv4() { network.v4() } else { network.v6() };
        match subnet {
            None => return refuse("use address", &ip, format!("network {name} has no addresses of this family")),
            Some(s) if !s.net.contains(ip) => {
                return refuse("use address", &ip, format!("network {name} has {}", s.net));
            }
            Some(_) => {}
        }
    }
    if let Some(mac) = attachment.mac
        && matches!(network.driver, Driver::Ipvlan | Driver::Phys)
    {
        let driver = network.driver;
        return refuse("use hardware address", &mac, format!("with the driver {driver} the host's device decides it"));
    }
    if let Some(interface) = &attachment.interface {
        define::check_device_name(interface)?;
        if interface == "lo" {
            return refuse("name device", interface, "it is the loopback device's name".to_owned());
        }
    }
    for alias in &attachment.aliases {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if alias.is_empty() || alias.len() > NAME_LENGTH || !alias.bytes().all(allowed) {
            let why = format!("names are made of letters, digits, _, . and -, and have 1 to {NAME_LENGTH} of them");
            return refuse("use alias", &format!("{alias:?}"), why);
        }
    }
    for address in &attachment.link_local {
        let fits = match address {
            IpAddr::V4(a) => a.is_link_local(),
            IpAddr::V6(a) => a.is_unicast_link_local(),
        };
        if !fits {
            return refuse("use address", address, "it is not of 169.254.0.0/16 or fe80::/10".to_owned());
        }
    }
    Ok(())
}

/// What the store is asked for: one address of each family that the network has.
pub(crate) fn address_requests(place: &Place) -> Vec<AddressRequest> {
    let wanted = |v4: bool| match v4 {
        true => place.attachment.ip.map(IpAddr::V4),
        false => place.attachment.ip6.map(IpAddr::V6),
    };
    let request = |s: &tare_model::network::Subnet| AddressRequest {
        network: place.network.id.clone(),
        pool: s.net,
        range: s.range,
        exclude: s.reserved.iter().copied().chain(s.gateway).collect(),
        wanted: wanted(s.net.is_ipv4()),
    };
    place.network.subnets.iter().map(request).collect()
}

/// What the store gave, in the order of [`address_requests`].
pub(crate) fn lease_of(place: &Place, addresses: &[IpAddr]) -> Lease {
    let v4 = addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
    let v6 = addresses.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None });
    let own = matches!(place.network.driver, Driver::Bridge | Driver::Macvlan);
    let derived = addresses.first().filter(|_| own).map(|a| MacAddress::of(*a));
    Lease { network: place.network.id.clone(), v4, v6, mac: place.attachment.mac.or(derived) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    fn attachment(change: impl FnOnce(&mut Attachment)) -> Attachment {
        let mut attachment = Attachment::default();
        change(&mut attachment);
        attachment
    }

    #[test]
    fn what_a_network_cannot_give_is_refused() {
        let back = network("back", &["10.5.0.0/24"]);
        let why = |network: &Network, change: fn(&mut Attachment)| {
            let e = check(&attachment(change), network).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            e.to_string()
        };
        assert_eq!(
            why(&back, |a| a.ip = Some([10, 6, 0, 1].into())),
            "use address 10.6.0.1: network back has 10.5.0.0/24"
        );
        assert_eq!(
            why(&back, |a| a.ip6 = Some("fd00::5".parse().unwrap())),
            "use address fd00::5: network back has no addresses of this family"
        );
        assert!(why(&back, |a| a.aliases = vec!["a b".into()]).contains("use alias \"a b\""));
        assert!(why(&back, |a| a.aliases = vec![String::new()]).contains("use alias"));
        assert!(why(&back, |a| a.interface = Some("lo".into())).contains("loopback"));
        assert!(why(&back, |a| a.interface = Some("much-too-long-a-name".into())).contains("1 to 15"));
        assert!(why(&back, |a| a.link_local = vec!["10.0.0.1".parse().unwrap()]).contains("169.254"));
        let lent = Network { driver: Driver::Phys, ..back.clone() };
        assert!(
            why(&lent, |a| a.mac = Some("02:00:00:00:00:01".parse().unwrap())).contains("the host's device decides")
        );
        check(&attachment(|a| a.ip = Some([10, 5, 0, 9].into())), &back).unwrap();
    }

    #[test]
    fn a_container_that_switches_ipv6_off_gets_none_of_it() {
        let (_dir, engine) = crate::network::testing::engine();
        let mut request = RunRequest::default();
        let families = |request: &RunRequest| address_requests(&engine.places(request).unwrap()[0]).len();
        assert_eq!(families(&request), 2);
        request.sysctls.insert("net.ipv6.conf.all.disable_ipv6".into(), "0".into());
        assert_eq!(families(&request), 2);
        request.sysctls.insert("net.ipv6.conf.default.disable_ipv6".into(), "1".into());
        assert_eq!(families(&request), 1);
        let lease = Lease {
            network: engine.default_network().unwrap().id,
            v4: Some([10, 0, 0, 2].into()),
            v6: None,
            mac: None,
        };
        request.attachments.push(Attachment::default());
        let v4 = engine.default_network().unwrap().v4().unwrap().net.nth(7).unwrap();
        let mut record = crate::network::testing::record(&"a".repeat(64), request);
        let IpAddr::V4(v4) = v4 else { unreachable!() };
        record.leases.push(Lease { v4: Some(v4), ..lease });
        let plans = engine.plan_networks(&record, &[]).unwrap();
        assert_eq!((plans.endpoints[0].addresses.len(), plans.endpoints[0].gateways.len()), (1, 1));
    }

    #[test]
    fn networks_are_named_once_and_only_with_a_stack_of_ones_own() {
        let (_dir, engine) = crate::network::testing::engine();
        let twice = RunRequest {
            attachments: vec![Attachment::default(), Attachment { network: "default".into(), ..Attachment::default() }],
            ..RunRequest::default()
        };
        assert!(engine.places(&twice).unwrap_err().to_string().ends_with("bridge: it is named twice"));
        let host = RunRequest {
            network: NetworkMode::Host,
            attachments: vec![Attachment::default()],
            ..RunRequest::default()
        };
        assert_eq!(engine.places(&host).unwrap_err().kind(), Kind::Invalid);
        let missing = RunRequest {
            attachments: vec![Attachment { network: "nowhere".into(), ..Attachment::default() }],
            ..RunRequest::default()
        };
        assert_eq!(engine.places(&missing).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn addresses_of_each_family_are_asked_for_and_become_a_lease() {
        let mut net = network("back", &["10.5.0.0/24", "fd00:5::/64"]);
        net.subnets[0].reserved.push("10.5.0.7".parse().unwrap());
        net.subnets[0].range = Some("10.5.0.128/25".parse().unwrap());
        let place = Place { attachment: attachment(|a| a.ip6 = Some("fd00:5::9".parse().unwrap())), network: net };
        let requests = address_requests(&place);
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].exclude, ["10.5.0.7".parse::<IpAddr>().unwrap(), "10.5.0.1".parse().unwrap()]);
        assert_eq!((requests[0].range, requests[0].wanted), (place.network.subnets[0].range, None));
        assert_eq!(requests[1].wanted, Some("fd00:5::9".parse().unwrap()));
        let lease = lease_of(&place, &["10.5.0.128".parse().unwrap(), "fd00:5::9".parse().unwrap()]);
        assert_eq!((lease.v4, lease.v6), (Some([10, 5, 0, 128].into()), Some("fd00:5::9".parse().unwrap())));
        assert_eq!(lease.mac, Some(MacAddress::of([10, 5, 0, 128].into())));
        let ipvlan = Place { network: Network { driver: Driver::Ipvlan, ..place.network.clone() }, ..place };
        assert_eq!(lease_of(&ipvlan, &["10.5.0.128".parse().unwrap()]).mac, None);
    }
}
