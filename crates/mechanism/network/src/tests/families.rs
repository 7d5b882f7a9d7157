//! Bridges and containers with IPv4 and IPv6, and the settings of the host that this needs.

use super::{at, network, wire};
use crate::testing::{command, in_new_namespace};
use crate::*;
use rustix::net::sockopt::set_ipv6_multicast_hops;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tare_kernel::netlink::new_network_namespace;
use tare_model::network::Network;

const SUBNETS: [&str; 2] = ["10.112.0.0/20", "fd00:7a7e:0:1::/64"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A host with a bridge of both families.
struct Both {
    site: Site,
    network: Network,
    host: Host,
    report: BridgeReport,
    next: u64,
}

impl Both {
    fn new(change: impl FnOnce(Network) -> Network) -> Both {
        for switch in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/{switch}"), "0").unwrap();
        }
        let site = Site::of(Path::new("/var/lib/tare"));
        let network = change(network(&site.bridge, &SUBNETS));
        let mut host = Host::open().unwrap();
        let report = host.ensure_bridge(&BridgePlan::of(&site, &network, 1500).unwrap()).unwrap();
        Both { site, network, host, report, next: 2 }
    }

    fn plan(&mut self) -> EndpointPlan {
        let n = self.next;
        self.next += 1;
        let addresses = [ip(&format!("10.112.0.{n}")), ip(&format!("fd00:7a7e:0:1::{n}"))];
        EndpointPlan::of(&self.site, &self.network, 900 + n, &addresses).unwrap()
    }

    fn container(&mut self) -> (OwnedFd, Endpoint) {
        let netns = new_network_namespace().unwrap();
        let plan = self.plan();
        let endpoint = self.host.connect(&plan, netns.as_fd()).unwrap();
        (netns, endpoint)
    }
}

fn setting(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap().trim().to_owned()
}

fn socket(netns: Option<&OwnedFd>, address: &str) -> UdpSocket {
    let bind = || UdpSocket::bind(SocketAddr::new(ip(address), 0)).unwrap();
    let socket = netns.map_or_else(bind, |netns| at(netns, bind));
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// One packet there and one back, each the first of its kind.
fn exchange(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(b"q", to.local_addr().unwrap()).unwrap();
    let (_, back) = to.recv_from(&mut [0; 8]).expect("the first packet was lost");
    to.send_to(b"a", back).unwrap();
    assert_eq!(from.recv(&mut [0; 8]).expect("the first answer was lost"), 1);
}

#[test]
fn devices_have_addresses_of_both_families_at_once() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        let names: Vec<&str> = lab.report.settings.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]);
        assert_eq!((setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")), ("1".into(), "1".into()));
        let (netns, endpoint) = lab.container();
        assert_eq!(endpoint.v6().unwrap().to_string(), "fd00:7a7e:0:1::2/64");
        let bridge = command(&["ip", "addr", "show", "tare0"]);
        for part in
            ["inet 10.112.0.1/20", "inet6 fd00:7a7e:0:1::1/64 scope global", "inet6 fe80::74:aff:fe70:1/64 scope link"]
        {
            assert!(bridge.contains(part), "{part} is not in {bridge}");
        }
        assert!(!bridge.contains("tentative"), "{bridge}");
        assert_eq!(setting("ipv6/conf/tare0/accept_ra"), "0");
        at(&netns, || {
            let text = command(&["ip", "addr"]) + &command(&["ip", "route"]) + &command(&["ip", "-6", "route"]);
            for part in [
                "inet 10.112.0.2/20 brd 10.112.15.255 scope global eth0",
                "inet6 fd00:7a7e:0:1::2/64 scope global nodad",
                "inet6 fe80::74:aff:fe70:2/64 scope link nodad",
                "default via 10.112.0.1 dev eth0",
                "default via fd00:7a7e:0:1::1 dev eth0",
            ] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert!(!text.contains("tentative"), "{text}");
            assert_eq!(setting("ipv6/conf/eth0/accept_ra"), "0");
        });
    });
}

#[test]
fn the_first_packet_of_either_family_goes_through() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        let outside = outside();
        for _ in 0..20 {
            let (netns, endpoint) = lab.container();
            let (other, _) = lab.container();
            for own in &endpoint.addresses {
                let own = own.address().to_string();
                let six = own.contains(':');
                let inside = socket(Some(&netns), &own);
                exchange(&inside, &socket(Some(&outside), if six { "2001:db8:1::2" } else { "198.51.100.2" }));
                exchange(&inside, &socket(None, if six { "fd00:7a7e:0:1::1" } else { "10.112.0.1" }));
                let neighbour = lab.next - 1;
                let neighbour =
                    if six { format!("fd00:7a7e:0:1::{neighbour}") } else { format!("10.112.0.{neighbour}") };
                exchange(&inside, &socket(Some(&other), &neighbour));
            }
        }
    });
}

#[test]
fn the_first_packet_goes_through_when_many_start_on_a_new_bridge_at_once() {
    in_new_namespace(|home| {
        let site = Site::of(Path::new("/var/lib/tare"));
        let network = network(&site.bridge, &SUBNETS);
        let plan = BridgePlan::of(&site, &network, 1500).unwrap();
        let start = |n: u64| {
            let mut host = Host::open().unwrap();
            let inside = new_network_namespace().unwrap();
            let addresses = [ip(&format!("10.112.0.{n}")), ip(&format!("fd00:7a7e:0:1::{n}"))];
            let endpoint = EndpointPlan::of(&site, &network, n, &addresses).unwrap();
            host.ensure_bridge(&plan).unwrap();
            host.connect(&endpoint, inside.as_fd()).unwrap();
            for (own, gateway) in [(addresses[0], "10.112.0.1"), (addresses[1], "fd00:7a7e:0:1::1")] {
                exchange(&socket(Some(&inside), &own.to_string()), &socket(None, gateway));
            }
            inside
        };
        std::thread::scope(|scope| {
            let start = &start;
            let threads: Vec<_> = (2..18).map(|n| scope.spawn(move || at(home, || start(n)))).collect();
            let all: Vec<OwnedFd> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            assert_eq!(command(&["ip", "-o", "link", "show", "master", "tare0"]).lines().count(), all.len());
        });
    });
}

#[test]
fn the_first_packet_from_the_host_goes_through() {
    // The bridge is new in every round: its own addresses as well are put to use by a worker of the kernel's.
    for _ in 0..10 {
        in_new_namespace(|_| {
            let mut lab = Both::new(|network| network);
            let (netns, _) = lab.container();
            exchange(&socket(None, "fd00:7a7e:0:1::1"), &socket(Some(&netns), "fd00:7a7e:0:1::2"));
        });
    }
}

/// A machine on another network of the host's, which has 198.51.100.1 and 2001:db8:1::1 there.
fn outside() -> OwnedFd {
    let outside = new_network_namespace().unwrap();
    wire("wan.1", "wan", &outside);
    for (netns, device, host) in [(None, "wan.1", 1), (Some(&outside), "wan", 2)] {
        let up = || {
            command(&["ip", "addr", "add", &format!("198.51.100.{host}/24"), "dev", device]);
            command(&["ip", "addr", "add", &format!("2001:db8:1::{host}/64"), "dev", device, "nodad"]);
            command(&["ip", "link", "set", device, "up"]);
        };
        netns.map_or_else(up, |netns| at(netns, up));
    }
    // The cable, and its addresses, work some moments later.
    for (from, to) in [("198.51.100.2", "198.51.100.1"), ("2001:db8:1::2", "2001:db8:1::1")] {
        let (client, server) = (socket(Some(&outside), from), socket(None, to));
        soon("the cable does not work", || {
            client.send_to(b"x", server.local_addr().unwrap()).is_ok() && server.recv(&mut [0; 8]).is_ok()
        });
    }
    outside
}

/// Where the connection of `client` to `address` comes from, as `server` sees it.
fn seen(client: Option<&OwnedFd>, address: &str, server: &TcpListener) -> IpAddr {
    let to = address.parse().unwrap();
    let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(500)).expect(address);
    let _client = client.map_or_else(connect, |netns| at(netns, connect));
    server.accept().unwrap().1.ip()
}

#[test]
fn a_published_port_is_reached_over_either_family_whether_or_not_bridged_packets_are_filtered() {
    for value in ["1", "0"] {
        in_new_namespace(move |_| {
            for family in ["ip", "ip6"] {
                let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
                // Without the module br_netfilter there is one case only.
                if Path::new(&switch).exists() {
                    std::fs::write(switch, value).unwrap();
                }
            }
            let mut lab = Both::new(|network| network);
            let outside = outside();
            let netns = new_network_namespace().unwrap();
            let wish = PortMapping { host_ip: None, host_port: 8080, container_port: 80, transport: Transport::Tcp };
            let reserved = reserve_ports(&[wish]).unwrap();
            let plan = EndpointPlan { ports: reserved.ports.clone(), ..lab.plan() };
            let endpoint = lab.host.connect(&plan, netns.as_fd()).unwrap();
            let (other, _) = lab.container();
            let server = at(&netns, || TcpListener::bind("[::]:80").unwrap());
            // From outside under its own address, from the host, from a neighbour, and from itself through the host.
            assert_eq!(seen(Some(&outside), "198.51.100.1:8080", &server), ip("::ffff:198.51.100.2"));
            assert_eq!(seen(Some(&outside), "[2001:db8:1::1]:8080", &server), ip("2001:db8:1::2"));
            for address in ["198.51.100.1:8080", "127.0.0.1:8080", "10.112.0.1:8080"] {
                seen(None, address, &server);
                // A container's 127.0.0.1 is its own.
                for client in [&other, &netns].into_iter().filter(|_| !address.starts_with("127")) {
                    seen(Some(client), address, &server);
                }
            }
            for address in ["[2001:db8:1::1]:8080", "[fd00:7a7e:0:1::1]:8080"] {
                for client in [None, Some(&other), Some(&netns)] {
                    seen(client, address, &server);
                }
            }
            // One that is published later behaves as one that was from the first.
            let later = reserve_ports(&[PortMapping { host_port: 8081, ..wish }]).unwrap();
            let (third, quiet) = (new_network_namespace().unwrap(), lab.plan());
            let quiet = lab.host.connect(&quiet, third.as_fd()).unwrap();
            lab.host.publish(&quiet, &later.ports).unwrap();
            let server = at(&third, || TcpListener::bind("[::]:80").unwrap());
            seen(Some(&third), "198.51.100.1:8081", &server);
            seen(Some(&third), "[2001:db8:1::1]:8081", &server);
            lab.host.disconnect(&endpoint, None).unwrap();
        });
    }
}

#[test]
fn an_internal_network_needs_no_forwarding_and_has_no_way_out() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| Network { internal: true, ..network });
        assert_eq!(lab.report.settings, []);
        assert_eq!((setting("ipv4/ip_forward"), setting("ipv6/conf/all/forwarding")), ("0".into(), "0".into()));
        let (netns, endpoint) = lab.container();
        assert_eq!(endpoint.gateways, Vec::<IpAddr>::new());
        assert_eq!(at(&netns, || command(&["ip", "route", "show", "default"])), "");
        exchange(&socket(Some(&netns), "fd00:7a7e:0:1::2"), &socket(None, "fd00:7a7e:0:1::1"));
    });
}

#[test]
fn a_network_of_one_family_has_nothing_of_the_other() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|mut network| {
            network.subnets.remove(0);
            network
        });
        let names: Vec<&str> = lab.report.settings.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["net.ipv6.conf.all.forwarding"]);
        let netns = new_network_namespace().unwrap();
        let plan = EndpointPlan::of(&lab.site, &lab.network, 5, &[ip("fd00:7a7e:0:1::5")]).unwrap();
        assert_eq!(plan.mac.unwrap().to_string(), "02:76:00:00:00:05");
        lab.host.connect(&plan, netns.as_fd()).unwrap();
        let text = at(&netns, || command(&["ip", "-4", "addr", "show", "eth0"]));
        assert_eq!(text, "");
        exchange(&socket(Some(&netns), "fd00:7a7e:0:1::5"), &socket(None, "fd00:7a7e:0:1::1"));
        assert!(EndpointPlan::of(&lab.site, &lab.network, 6, &[ip("10.112.0.6")]).is_err());
    });
}

#[test]
fn addresses_that_were_taken_from_a_bridge_come_back() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        let plan = BridgePlan::of(&lab.site, &lab.network, 1500).unwrap();
        for family in ["-4", "-6"] {
            command(&["ip", family, "addr", "flush", "dev", "tare0"]);
            let report = lab.host.ensure_bridge(&plan).unwrap();
            assert!(!report.bridge_created);
            let there = command(&["ip", "addr", "show", "tare0"]);
            assert!(there.contains("10.112.0.1/20") && there.contains("fd00:7a7e:0:1::1/64"), "{there}");
        }
    });
}

#[test]
fn a_host_without_ipv6_on_new_devices_still_has_it_on_a_bridge_that_needs_it() {
    in_new_namespace(|_| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let mut lab = Both::new(|network| network);
        assert_eq!(setting("ipv6/conf/tare0/disable_ipv6"), "0");
        let (netns, _) = lab.container();
        exchange(&socket(Some(&netns), "fd00:7a7e:0:1::2"), &socket(None, "fd00:7a7e:0:1::1"));
    });
}

#[test]
fn a_container_that_wants_no_ipv6_gets_none_and_at_once() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        for scope in ["all", "default"] {
            let netns = new_network_namespace().unwrap();
            at(&netns, || std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap());
            let plan = lab.plan();
            let start = Instant::now();
            let endpoint = lab.host.connect(&plan, netns.as_fd()).unwrap();
            assert!(start.elapsed() < Duration::from_millis(400), "it waited for what will not come");
            assert_eq!((endpoint.addresses.len(), endpoint.v6()), (1, None));
            exchange(&socket(Some(&netns), &endpoint.addresses[0].address().to_string()), &socket(None, "10.112.0.1"));
        }
    });
}

#[test]
fn a_subnet_of_ipv6_that_the_host_routes_is_refused_by_name() {
    in_new_namespace(|_| {
        command(&["ip", "-6", "route", "add", "fd00:7a7e::/48", "dev", "lo"]);
        let site = Site::of(Path::new("/var/lib/tare"));
        let plan = BridgePlan::of(&site, &network("tare0", &SUBNETS), 1500).unwrap();
        let mut host = Host::open().unwrap();
        let e = host.ensure_bridge(&plan).unwrap_err();
        assert_eq!(
            e.to_string(),
            "create network fd00:7a7e:0:1::/64: the host routes fd00:7a7e::/48 through device \"lo\""
        );
        assert!(!host.link_exists("tare0").unwrap());
    });
}

/// A router's advertisement: default route and prefix 2001:db8:5::/64 for half an hour.
fn advertise(router: &OwnedFd) {
    at(router, || {
        let socket =
            socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMPV6)).unwrap();
        set_ipv6_multicast_hops(&socket, 255).unwrap();
        let mut packet = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
        packet.extend("2001:db8:5::".parse::<Ipv6Addr>().unwrap().octets());
        let index = command(&["ip", "-o", "link", "show", "wan"]);
        let index = index.split(':').next().unwrap().parse().unwrap();
        let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
        sendto(&socket, &packet, SendFlags::empty(), &all).unwrap();
    });
}

fn soon(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(2);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_host_that_lives_on_router_advertisements_goes_on_to() {
    in_new_namespace(|_| {
        let router = new_network_namespace().unwrap();
        wire("wan.1", "wan", &router);
        at(&router, || {
            command(&["ip", "addr", "add", "fe80::1/64", "dev", "wan", "nodad"]);
            command(&["ip", "link", "set", "wan", "up"]);
        });
        command(&["ip", "link", "set", "wan.1", "up"]);
        let learned = || command(&["ip", "-6", "route", "show", "default"]).contains("proto ra");
        soon("the host does not learn from the router", || {
            advertise(&router);
            learned()
        });
        let lab = Both::new(|network| network);
        let told: Vec<_> = lab.report.settings.iter().map(|s| format!("{} {}->{}", s.name, s.before, s.now)).collect();
        assert_eq!(
            told,
            ["net.ipv4.ip_forward 0->1", "net.ipv6.conf.wan/1.accept_ra 1->2", "net.ipv6.conf.all.forwarding 0->1"]
        );
        assert!(learned(), "the default route was forgotten");
        command(&["ip", "-6", "route", "flush", "proto", "ra"]);
        assert!(!learned());
        advertise(&router);
        soon("the host has stopped listening", learned);
        // A second network finds everything as it should be.
        let mut host = Host::open().unwrap();
        assert_eq!(host.ensure_bridge(&BridgePlan::of(&lab.site, &lab.network, 1500).unwrap()).unwrap().settings, []);
    });
}

#[test]
fn a_container_does_not_listen_to_advertisements_of_its_neighbours() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        let (netns, _) = lab.container();
        let rogue = new_network_namespace().unwrap();
        let plan = EndpointPlan { interface: "wan".into(), ..lab.plan() };
        lab.host.connect(&plan, rogue.as_fd()).unwrap();
        let before = at(&netns, || command(&["ip", "-6", "route"]));
        let here = command(&["ip", "-6", "route"]);
        for _ in 0..5 {
            advertise(&rogue);
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(at(&netns, || command(&["ip", "-6", "route"])), before);
        assert_eq!(command(&["ip", "-6", "route"]), here);
    });
}

/// Prints what the second family costs; for people: `cargo nextest run -p tare-network cost --no-capture`.
#[test]
fn cost_of_both_families() {
    in_new_namespace(|_| {
        let mut lab = Both::new(|network| network);
        let plan = BridgePlan::of(&lab.site, &lab.network, 1500).unwrap();
        lab.host.ensure_bridge(&plan).unwrap();
        let mut keep = Vec::new();
        for families in ["v4", "v4 and v6"] {
            let mut times: Vec<(Duration, Duration)> = (0..40)
                .map(|_| {
                    let mut endpoint = lab.plan();
                    if families == "v4" {
                        endpoint.addresses.pop();
                        endpoint.gateways.pop();
                    }
                    let netns = new_network_namespace().unwrap();
                    let start = Instant::now();
                    lab.host.ensure_bridge(&plan).unwrap();
                    let ensured = start.elapsed();
                    lab.host.connect(&endpoint, netns.as_fd()).unwrap();
                    keep.push(netns);
                    (ensured, start.elapsed() - ensured)
                })
                .collect();
            times.sort();
            let ensured = times[20].0;
            times.sort_by_key(|t| t.1);
            println!(
                "{families}: ensure_bridge {ensured:?}, connect {:?} (medians of 40; least {:?})",
                times[20].1, times[0].1
            );
        }
    });
}
