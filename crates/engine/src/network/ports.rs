//! Published ports: from what was asked for to what is taken of the host's.

use super::Shape;
use crate::Engine;
use crate::record::{Lease, Record};
use crate::request::{NetworkMode, PortRequest, Transport};
use crate::view::Port;
use std::net::IpAddr;
use tare_model::network::Network;
use tare_model::{Error, Kind, Result};
use tare_network::{PortMapping, PortWish, Reservation};

impl Engine {
    /// Takes the host's ports for a container, or says who has them.
    ///
    /// # Errors
    /// `Kind::InUse` naming the holder; `Kind::Invalid` where nothing can be published.
    pub(crate) fn reserve_ports(&self, record: &Record) -> Result<Reservation> {
        let requests = requests(record)?;
        if requests.is_empty() {
            return Ok(Reservation { ports: Vec::new(), sockets: Vec::new() });
        }
        let places = self.places_of(record)?;
        let shape = Shape::of(&places.iter().map(|(p, _)| (&p.attachment, &p.network)).collect::<Vec<_>>());
        let carrier = shape.carrier.map(|i| &places[i]);
        let (place, lease) = carrier.ok_or_else(|| unreachable_from_outside(record.name()))?;
        let wishes = wishes(&requests, &place.network, lease, &self.config.network.publish)?;
        tare_network::reserve_ports(&wishes).map_err(|e| self.name_publisher(e, &wishes))
    }

    /// Its supervisor holds the socket: the container's name says more than a process of tare's.
    pub(crate) fn name_publisher<W: Into<PortWish> + Copy>(&self, e: Error, wanted: &[W]) -> Error {
        if e.kind() != Kind::InUse {
            return e;
        }
        let overlap = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified()),
        };
        let same = |w: PortWish, p: &Port| {
            let this_port = w.host_ports.is_some_and(|(first, last)| first == p.host_port && last == first);
            this_port && w.transport == p.transport && overlap(p.host_ip, w.host_ip)
        };
        let has = |p: &Port| wanted.iter().any(|w| same((*w).into(), p));
        let running = self.containers(false).unwrap_or_default();
        match running.into_iter().find(|c| c.ports.iter().any(has)) {
            Some(holder) => e.because(format!("container {} has published the host's port", holder.name)),
            None => e,
        }
    }
}

fn unreachable_from_outside(name: &str) -> Error {
    Error::new(Kind::Invalid, "publish ports", name)
        .because("the container is in no network with a bridge that is reached from outside")
        .hint("connect it to one, too: --network bridge, or one that is not internal")
}

/// Refuses ports that can never be published. What depends on the networks is seen at the start.
pub(crate) fn check(network: &NetworkMode, ports: &[PortRequest], places: &[super::Place]) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let why = match network {
        NetworkMode::Bridge => {
            let places: Vec<_> = places.iter().map(|p| (&p.attachment, &p.network)).collect();
            return match Shape::of(&places).carrier {
                Some(_) => Ok(()),
                None => Err(unreachable_from_outside("")),
            };
        }
        NetworkMode::Host => "it has the host's network stack: its ports are the host's",
        NetworkMode::None => "it has no network",
        NetworkMode::Container(_) => "publish them with the container whose network stack it shares",
        NetworkMode::Path(_) => "whoever made its network namespace decides what reaches it",
    };
    Err(Error::new(Kind::Invalid, "publish ports", "").because(why))
}

/// The ports asked for, and with `publish_all` those that are exposed beside.
pub(crate) fn requests(record: &Record) -> Result<Vec<PortRequest>> {
    let mut requests = record.request.ports.clone();
    if record.request.publish_all && record.request.network == NetworkMode::Bridge {
        let exposed = record.defaults.exposed_ports.keys().chain(&record.request.expose);
        for (container_port, transport) in exposed.map(|text| exposed_port(text)).collect::<Result<Vec<_>>>()? {
            let same = |r: &PortRequest| r.container_port == container_port && r.transport == transport;
            if !requests.iter().any(same) {
                requests.push(PortRequest { host_ip: None, host_ports: None, container_port, transport });
            }
        }
    }
    Ok(requests)
}

/// `80`, `80/udp`.
fn exposed_port(text: &str) -> Result<(u16, Transport)> {
    let (port, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || Error::new(Kind::Invalid, "publish port", format!("{text:?}")).because("it is no port/protocol");
    Ok((port.parse().map_err(|_| bad())?, transport.parse().map_err(|_| bad())?))
}

/// What is asked of the host: each request, at the addresses that go for it where it names none. The network's own choice
/// goes before the host's general one. `lease`: the container's addresses in the network that carries its ports.
///
/// # Errors
/// `Kind::Invalid` for an address of a family of which the container has none.
pub(crate) fn wishes(
    requests: &[PortRequest],
    carrier: &Network,
    lease: &Lease,
    general: &[IpAddr],
) -> Result<Vec<PortWish>> {
    let own = carrier.publish_address.map(|a| vec![a]);
    let addresses = own.as_deref().unwrap_or(general);
    // Packets are not translated from one family to the other; what comes to ::1 the supervisor itself carries to
    // whatever address there is.
    let leads = |ip: &IpAddr, transport: Transport| match ip {
        IpAddr::V4(_) => lease.v4.is_some(),
        IpAddr::V6(ip) => lease.v6.is_some() || ip.is_loopback() && transport != Transport::Sctp,
    };
    let mut out = Vec::new();
    for PortRequest { host_ip, host_ports, container_port, transport } in requests.iter().cloned() {
        let wanted = match host_ip {
            Some(ip) => vec![ip],
            // Where both families are configured, those that the container has.
            None if addresses.iter().any(|a| leads(a, transport)) => {
                addresses.iter().copied().filter(|a| leads(a, transport)).collect()
            }
            None => addresses.to_vec(),
        };
        if let Some(ip) = wanted.iter().find(|ip| !leads(ip, transport)) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(Error::new(Kind::Invalid, "publish port at", ip)
                .because(format!("the container has no address of {family} in network {}", carrier.name))
                .hint(format!("connect it to a network with {family}, or publish at an address of the other family")));
        }
        let at = |host_ip| PortWish { host_ip, host_ports, container_port, transport };
        if wanted.is_empty() {
            out.push(at(None));
        }
        out.extend(wanted.into_iter().map(|ip| at(Some(ip))));
    }
    Ok(out)
}

/// The ports in force, as callers are told.
pub(crate) fn port_views(ports: &[PortMapping]) -> Vec<Port> {
    ports
        .iter()
        .map(|p| Port {
            host_ip: p.host_ip,
            host_port: p.host_port,
            container_port: p.container_port,
            transport: p.transport,
        })
        .collect()
}

/// A port in force, as the mechanism takes it.
pub(crate) fn port_mapping(port: &Port) -> PortMapping {
    PortMapping {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        transport: port.transport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    fn request(host_ip: Option<&str>, container_port: u16) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortRequest { host_ip, host_ports: None, container_port, transport: Transport::Tcp }
    }

    #[test]
    fn a_port_without_an_address_goes_where_the_network_or_the_host_says() {
        let requests = [request(None, 80), request(Some("192.0.2.1"), 81)];
        let on = |network: &Network, general: &[&str]| {
            let general: Vec<IpAddr> = general.iter().map(|a| a.parse().unwrap()).collect();
            let wishes = wishes(&requests, network, &lease(true), &general).unwrap();
            wishes.iter().map(|w| w.host_ip.map_or("*".to_owned(), |ip| ip.to_string())).collect::<Vec<_>>()
        };
        let plain = network("a", &["10.1.0.0/24"]);
        let own = Network { publish_address: Some("10.9.9.9".parse().unwrap()), ..plain.clone() };
        let everywhere = Network { publish_address: Some("::".parse().unwrap()), ..plain.clone() };
        assert_eq!(on(&plain, &[]), ["*", "192.0.2.1"]);
        assert_eq!(on(&plain, &["127.0.0.1", "::1"]), ["127.0.0.1", "::1", "192.0.2.1"]);
        assert_eq!(on(&own, &["127.0.0.1"]), ["10.9.9.9", "192.0.2.1"]);
        assert_eq!(
            on(&everywhere, &["127.0.0.1"]),
            ["::", "192.0.2.1"],
            "a network may say so against the general rule"
        );
    }

    fn lease(v6: bool) -> Lease {
        let v6 = v6.then(|| "fd00::2".parse().unwrap());
        Lease { network: String::new(), v4: Some([10, 1, 0, 2].into()), v6, mac: None }
    }

    #[test]
    fn an_address_of_a_family_that_the_container_lacks_is_refused_unless_it_is_carried() {
        let plain = network("plain", &["10.1.0.0/24"]);
        let at = |ip: Option<&str>, general: &[&str]| {
            let general: Vec<IpAddr> = general.iter().map(|a| a.parse().unwrap()).collect();
            let wishes = wishes(&[request(ip, 80)], &plain, &lease(false), &general)?;
            Ok(wishes.iter().map(|w| w.host_ip.map_or("*".to_owned(), |ip| ip.to_string())).collect::<Vec<_>>())
        };
        let good = |ip, general: &[&str]| at(ip, general).unwrap();
        assert_eq!(good(None, &[]), ["*"]);
        assert_eq!(good(Some("::1"), &[]), ["::1"]);
        assert_eq!(good(None, &["127.0.0.1", "::1", "2001:db8::1"]), ["127.0.0.1", "::1"]);
        for (ip, general) in [(Some("2001:db8::1"), &[][..]), (Some("::"), &[]), (None, &["2001:db8::1"])] {
            let e: Error = at(ip, general).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            assert!(e.to_string().contains("no address of IPv6 in network plain"), "{e}");
            assert!(e.first_hint().unwrap().contains("a network with IPv6"));
        }
    }

    #[test]
    fn exposed_ports_are_read() {
        assert_eq!(exposed_port("80").unwrap(), (80, Transport::Tcp));
        assert_eq!(exposed_port("53/udp").unwrap(), (53, Transport::Udp));
        for bad in ["", "x/tcp", "80/quic", "99999/tcp"] {
            assert_eq!(exposed_port(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn ports_need_a_network_that_is_reached_from_outside() {
        let ports = [request(None, 80)];
        let place = |network: Network| super::super::Place { attachment: Default::default(), network };
        let internal = Network { internal: true, ..network("a", &["10.1.0.0/24"]) };
        let check = |mode: &NetworkMode, network: Network| check(mode, &ports, &[place(network)]);
        check(&NetworkMode::Bridge, network("a", &["10.1.0.0/24"])).unwrap();
        let e = check(&NetworkMode::Bridge, internal.clone()).unwrap_err();
        assert!(e.first_hint().unwrap().contains("--network bridge"), "{e:?}");
        for mode in [NetworkMode::Host, NetworkMode::None, NetworkMode::Container("x".into())] {
            assert_eq!(check(&mode, internal.clone()).unwrap_err().kind(), Kind::Invalid);
        }
    }
}
