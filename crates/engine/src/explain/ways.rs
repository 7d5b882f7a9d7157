//! Who reaches a port: from facts that were gathered before to ways, without asking anybody.

use super::view::{Origin, Reason, Verdict, Way};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network};
use tare_network::{PortMapping, Transport};

/// What decides about one port of one container.
pub(super) struct Facts<'a> {
    /// The container's networks, with its addresses there.
    pub(super) places: &'a [Place],
    /// Which of the places' addresses published ports lead to: at most one of each family.
    pub(super) targets: &'a [IpAddr],
    pub(super) container_port: u16,
    pub(super) transport: Transport,
    /// Where it is published.
    pub(super) published: &'a [PortMapping],
    /// Those elements of them that are in the kernel's maps: mapping and target.
    pub(super) present: &'a [(PortMapping, IpAddr)],
    /// The host's addresses with their devices, without loopback and the bridges of this root.
    pub(super) host: &'a [(String, IpAddr)],
    /// Whether the host passes packets on, of IPv4 and of IPv6.
    pub(super) forwards: [bool; 2],
    /// Whether other networks of this root exist.
    pub(super) other_networks: bool,
    /// What other firewalls say of a packet.
    pub(super) judge: &'a dyn Fn(&Probe) -> Vec<Reason>,
}

/// A container's place in one network.
pub(super) struct Place {
    pub(super) network: Network,
    pub(super) addresses: Vec<IpNet>,
}

/// A packet, as other firewalls see it: after translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// The device through which it came in; `None` for the host's own.
    pub(super) from: Option<String>,
    /// The device through which it leaves.
    pub(super) to: Option<String>,
    pub(super) destination: SocketAddr,
    pub(super) transport: Transport,
    /// It came through a published port.
    pub(super) translated: bool,
}

const HERE: &str = "tare";

pub(super) fn ways(facts: &Facts<'_>) -> Vec<Way> {
    let mut ways = Vec::new();
    for mapping in facts.published {
        facts.add_from_host(mapping, &mut ways);
    }
    facts.add_from_host_directly(&mut ways);
    for mapping in facts.published {
        facts.add_from_outside(mapping, &mut ways);
    }
    if facts.published.is_empty() {
        facts.add_from_outside_directly(&mut ways);
    }
    facts.add_from_neighbours(&mut ways);
    facts.add_from_other_networks(&mut ways);
    ways
}

impl Facts<'_> {
    fn add_from_host(&self, mapping: &PortMapping, ways: &mut Vec<Way>) {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let own = loopback.into_iter().chain(self.host.iter().map(|(_, address)| *address));
        for address in own.filter(|a| takes(mapping, *a)) {
            let reasons = if address == loopback[1] {
                vec![self.relayed(mapping)]
            } else {
                self.translated(mapping, address, None)
            };
            ways.push(way(Origin::Host, SocketAddr::new(address, mapping.host_port), reasons));
        }
    }

    /// IPv6 knows no way from ::1 to another device, so the supervisor carries over what is sent there.
    fn relayed(&self, mapping: &PortMapping) -> Reason {
        if mapping.transport == Transport::Sctp {
            return ours(Verdict::Closed, "", "nothing passes SCTP on from ::1");
        }
        if self.targets.is_empty() {
            return ours(Verdict::Closed, "", "the container is in no network to which a published port could lead");
        }
        ours(Verdict::Open, "", "the container's supervisor waits there and passes on what comes")
    }

    /// What the map says about a packet to this address of the host, and everybody it meets after that. `device`: the one
    /// through which it came in, if it comes from outside.
    fn translated(&self, mapping: &PortMapping, address: IpAddr, device: Option<&str>) -> Vec<Reason> {
        let Some(target) = self.targets.iter().find(|t| t.is_ipv4() == address.is_ipv4()) else {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            return vec![ours(Verdict::Closed, "", format!("the container has no {family} address to lead to"))];
        };
        let chain = if device.is_some() { "prerouting" } else { "output" };
        let element = element(mapping, *target);
        if !self.present.contains(&(*mapping, *target)) {
            let effect = format!("the element is missing in chain {chain}'s map: `tare network reload` restores it");
            return vec![ours(Verdict::Closed, element, effect)];
        }
        let to = SocketAddr::new(*target, mapping.container_port);
        let mut reasons = vec![ours(Verdict::Open, element, format!("chain {chain} leads it to {to}"))];
        if device.is_some() {
            reasons.push(self.passed_on(address));
            reasons.push(ours(Verdict::Open, "ct status dnat accept", "chain forward lets published ports pass"));
        } else if address == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let effect = "chain postrouting gives it the host's address on the network";
            reasons.push(ours(Verdict::Open, "ip saddr 127.0.0.0/8 masquerade", effect));
        }
        let to_device = self.bridge_of(*target);
        reasons.extend((self.judge)(&Probe {
            from: device.map(str::to_owned),
            to: to_device,
            destination: to,
            transport: mapping.transport,
            translated: true,
        }));
        reasons
    }

    fn passed_on(&self, address: IpAddr) -> Reason {
        let (on, name) = if address.is_ipv4() {
            (self.forwards[0], "net.ipv4.ip_forward")
        } else {
            (self.forwards[1], "net.ipv6.conf.all.forwarding")
        };
        let reason = |verdict, value: u8, effect: &str| Reason {
            owner: "the kernel".to_owned(),
            rule: format!("{name} = {value}"),
            effect: effect.to_owned(),
            verdict,
        };
        if on {
            reason(Verdict::Open, 1, "this host passes packets on")
        } else {
            reason(Verdict::Closed, 0, "this host passes no packets on")
        }
    }

    fn bridge_of(&self, target: IpAddr) -> Option<String> {
        let place = self.places.iter().find(|p| p.addresses.iter().any(|a| a.address() == target))?;
        place.network.device.clone()
    }

    fn own_addresses(&self) -> impl Iterator<Item = (&Network, SocketAddr)> {
        let port = self.container_port;
        self.places.iter().flat_map(move |place| {
            place.addresses.iter().map(move |a| (&place.network, SocketAddr::new(a.address(), port)))
        })
    }

    /// The host is itself in every bridge's network.
    fn add_from_host_directly(&self, ways: &mut Vec<Way>) {
        for (network, to) in self.own_addresses() {
            let reasons = match network.driver {
                Driver::Bridge => {
                    let mut reasons = vec![ours(Verdict::Open, "", "this host has an address in the network")];
                    let probe = Probe {
                        from: None,
                        to: network.device.clone(),
                        destination: to,
                        transport: self.transport,
                        translated: false,
                    };
                    reasons.extend((self.judge)(&probe));
                    reasons
                }
                Driver::Macvlan | Driver::Ipvlan => vec![kernel(
                    Verdict::Closed,
                    format!("{} devices are not reached from the host that they stand on", network.driver),
                )],
                Driver::Phys => vec![kernel(
                    Verdict::Depends,
                    "the device is the container's own: what it is plugged into decides".to_owned(),
                )],
            };
            ways.push(way(Origin::Host, to, reasons));
        }
    }

    fn add_from_outside(&self, mapping: &PortMapping, ways: &mut Vec<Way>) {
        for (device, address) in self.host.iter().filter(|(_, a)| takes(mapping, *a)) {
            let reasons = self.translated(mapping, *address, Some(device));
            let to = SocketAddr::new(*address, mapping.host_port);
            ways.push(way(Origin::Outside { device: device.clone() }, to, reasons));
        }
        if let Some(only) = mapping.host_ip.filter(IpAddr::is_loopback) {
            let rule = if only.is_ipv4() { "iifname != \"lo\" ip daddr 127.0.0.0/8 accept" } else { "" };
            let effect =
                "it is published for this host alone: what comes from others to that address is not translated";
            let origin = Origin::Outside { device: "any device".to_owned() };
            ways.push(way(origin, SocketAddr::new(only, mapping.host_port), vec![ours(Verdict::Closed, rule, effect)]));
        }
    }

    fn add_from_outside_directly(&self, ways: &mut Vec<Way>) {
        let anybody = || Origin::Outside { device: "any device".to_owned() };
        for (network, to) in self.own_addresses() {
            let reason = match network.driver {
                Driver::Bridge if network.internal => {
                    ours(Verdict::Closed, "drop", "the network is internal: chain forward lets nothing in")
                }
                Driver::Bridge => ours(
                    Verdict::Closed,
                    "drop",
                    "chain forward lets nothing in but published ports, even from those who have a route to it",
                ),
                _ => kernel(
                    Verdict::Open,
                    format!("{} devices stand in the outer network: no rule of this host decides", network.driver),
                ),
            };
            ways.push(way(anybody(), to, vec![reason]));
        }
    }

    fn add_from_neighbours(&self, ways: &mut Vec<Way>) {
        for (network, to) in self.own_addresses() {
            let from = Origin::Neighbours { network: network.name.clone() };
            let reason = match network.driver {
                Driver::Bridge if !network.icc => ours(
                    Verdict::Closed,
                    "bridge port flag isolated",
                    "containers of this network do not reach each other (icc is off)",
                ),
                Driver::Bridge => ours(Verdict::Open, "", "containers of one network reach each other's ports"),
                Driver::Macvlan if network.mode.as_deref() == Some("private") => {
                    kernel(Verdict::Closed, "macvlan devices of mode private do not reach each other".to_owned())
                }
                _ => kernel(Verdict::Open, "they stand in the same outer network".to_owned()),
            };
            ways.push(way(from, to, vec![reason]));
        }
    }

    /// Through the host's published port, as everybody from outside; or not at all.
    fn add_from_other_networks(&self, ways: &mut Vec<Way>) {
        if !self.other_networks {
            return;
        }
        let isolated = self
            .targets
            .iter()
            .any(|t| self.places.iter().any(|p| p.network.isolate && p.addresses.iter().any(|a| a.address() == *t)));
        for mapping in self.published {
            let Some((_, address)) = self.host.iter().find(|(_, a)| takes(mapping, *a)) else { continue };
            let to = SocketAddr::new(*address, mapping.host_port);
            let reasons = if isolated {
                vec![ours(
                    Verdict::Closed,
                    "drop",
                    "the network is isolated: other networks' containers do not even reach its published ports",
                )]
            } else {
                self.translated(mapping, *address, Some("a bridge of tare"))
            };
            ways.push(way(Origin::OtherNetworks, to, reasons));
        }
        for (network, to) in self.own_addresses().filter(|(n, _)| n.driver == Driver::Bridge) {
            let effect = format!("chain forward keeps network {} apart from the others", network.name);
            ways.push(way(Origin::OtherNetworks, to, vec![ours(Verdict::Closed, "drop", effect)]));
        }
    }
}

/// Whether a port is published at this address of the host.
fn takes(mapping: &PortMapping, address: IpAddr) -> bool {
    match mapping.host_ip {
        None => true,
        Some(only) => only == address,
    }
}

/// A map's element as nft prints it.
fn element(mapping: &PortMapping, target: IpAddr) -> String {
    let six = if target.is_ipv6() { "6" } else { "" };
    let (map, at) = match mapping.host_ip {
        Some(ip) => ("_at", format!("{ip} . ")),
        None => ("", String::new()),
    };
    format!(
        "map published{six}{map}: {} . {at}{} : {target} . {}",
        mapping.transport, mapping.host_port, mapping.container_port
    )
}

fn way(from: Origin, to: SocketAddr, reasons: Vec<Reason>) -> Way {
    let is = |v: Verdict| reasons.iter().any(|r| r.verdict == v);
    let verdict = match () {
        () if is(Verdict::Closed) => Verdict::Closed,
        () if is(Verdict::Depends) => Verdict::Depends,
        () => Verdict::Open,
    };
    Way { from, to, verdict, reasons }
}

fn ours(verdict: Verdict, rule: impl Into<String>, effect: impl Into<String>) -> Reason {
    Reason { owner: HERE.to_owned(), rule: rule.into(), effect: effect.into(), verdict }
}

fn kernel(verdict: Verdict, effect: String) -> Reason {
    Reason { owner: "the kernel".to_owned(), rule: String::new(), effect, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, change: impl FnOnce(&mut Network)) -> Network {
        let mut network = Network::new(name, name, Driver::Bridge);
        network.device = Some(format!("tn-{name}"));
        change(&mut network);
        network
    }

    struct Case {
        places: Vec<Place>,
        published: Vec<PortMapping>,
        missing: bool,
        forwards: [bool; 2],
        drops: bool,
    }

    fn usual(host_ip: Option<IpAddr>) -> Case {
        let addresses = ["10.1.0.2/24", "fd00::2/64"].map(|a| a.parse().unwrap()).to_vec();
        Case {
            places: vec![Place { network: network("a", |_| {}), addresses }],
            published: vec![PortMapping { host_ip, host_port: 8080, container_port: 80, transport: Transport::Tcp }],
            missing: false,
            forwards: [true, true],
            drops: false,
        }
    }

    /// `who to: verdict`, one for each way.
    fn said(case: &Case) -> Vec<String> {
        let targets: Vec<IpAddr> = case.places.iter().flat_map(|p| &p.addresses).map(|net| net.address()).collect();
        let present: Vec<_> = case.published.iter().flat_map(|p| targets.iter().map(move |t| (*p, *t))).collect();
        let drop = Reason {
            owner: "table ip filter".into(),
            rule: "policy drop".into(),
            effect: "drops it".into(),
            verdict: Verdict::Closed,
        };
        let judge = |probe: &Probe| if case.drops && probe.from.is_some() { vec![drop.clone()] } else { Vec::new() };
        let facts = Facts {
            places: &case.places,
            targets: &targets,
            container_port: 80,
            transport: Transport::Tcp,
            published: &case.published,
            present: if case.missing { &[] } else { &present },
            host: &[("up0".into(), "192.0.2.1".parse().unwrap()), ("up0".into(), "2001:db8::1".parse().unwrap())],
            forwards: case.forwards,
            other_networks: true,
            judge: &judge,
        };
        ways(&facts).iter().map(|w| format!("{} {}: {}", w.from, w.to, w.verdict.as_str())).collect()
    }

    #[test]
    fn a_port_on_every_address_is_reached_by_everybody() {
        let all = said(&usual(None));
        assert_eq!(
            all,
            [
                "this host 127.0.0.1:8080: open",
                "this host [::1]:8080: open",
                "this host 192.0.2.1:8080: open",
                "this host [2001:db8::1]:8080: open",
                "this host 10.1.0.2:80: open",
                "this host [fd00::2]:80: open",
                "outside, through up0 192.0.2.1:8080: open",
                "outside, through up0 [2001:db8::1]:8080: open",
                "containers in network a 10.1.0.2:80: open",
                "containers in network a [fd00::2]:80: open",
                "containers in other networks 192.0.2.1:8080: open",
                "containers in other networks 10.1.0.2:80: closed",
                "containers in other networks [fd00::2]:80: closed",
            ]
        );
    }

    #[test]
    fn a_port_on_loopback_is_the_hosts_alone() {
        let all = said(&usual(Some(Ipv4Addr::LOCALHOST.into())));
        assert!(all.contains(&"this host 127.0.0.1:8080: open".to_owned()), "{all:?}");
        assert!(all.contains(&"outside, through any device 127.0.0.1:8080: closed".to_owned()), "{all:?}");
        assert!(!all.iter().any(|w| w.contains("192.0.2.1") || w.contains("[::1]")), "{all:?}");
    }

    #[test]
    fn whatever_is_in_the_way_closes_the_ways_that_it_is_in() {
        let outside = |case: &Case| {
            let all = said(case);
            let of = |start: &str| all.iter().filter(|w| w.starts_with(start)).cloned().collect::<Vec<_>>();
            let ends =
                |of: Vec<String>| of.iter().map(|w| w.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
            (ends(of("outside")), ends(of("this host")))
        };
        let open = |n: usize| vec!["open".to_owned(); n];
        let mut case = usual(None);
        case.forwards = [true, false];
        assert_eq!(outside(&case), (vec!["open".into(), "closed".into()], open(6)));
        case = usual(None);
        case.drops = true;
        assert_eq!(outside(&case), (vec!["closed".into(), "closed".into()], open(6)));
        // Without its elements the port is only passed on by the supervisor.
        case = usual(None);
        case.missing = true;
        let (from_outside, from_host) = outside(&case);
        assert_eq!(from_outside, ["closed", "closed"]);
        assert_eq!(from_host, ["closed", "open", "closed", "closed", "open", "open"]);
    }

    #[test]
    fn the_kind_of_the_network_decides_about_what_is_not_published() {
        let verdicts = |change: fn(&mut Network)| {
            let mut case = usual(None);
            case.published.clear();
            case.places[0].network = network("a", change);
            case.places[0].addresses.truncate(1);
            said(&case)
        };
        let plain = verdicts(|_| {});
        assert_eq!(
            plain,
            [
                "this host 10.1.0.2:80: open",
                "outside, through any device 10.1.0.2:80: closed",
                "containers in network a 10.1.0.2:80: open",
                "containers in other networks 10.1.0.2:80: closed",
            ]
        );
        assert_eq!(verdicts(|n| n.icc = false)[2], "containers in network a 10.1.0.2:80: closed");
        let lan = verdicts(|n| n.driver = Driver::Macvlan);
        assert_eq!(lan[..2], ["this host 10.1.0.2:80: closed", "outside, through any device 10.1.0.2:80: open"]);
        assert_eq!(lan.len(), 3, "{lan:?}");
        let mut isolated = usual(None);
        isolated.places[0].network.isolate = true;
        assert!(said(&isolated).contains(&"containers in other networks 192.0.2.1:8080: closed".to_owned()));
    }
}
