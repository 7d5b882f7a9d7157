//! Several networks for one container, parents of bridges, ports that do not talk to each other, devices of every kind.

use super::{at, network, wire};
use crate::testing::{command, in_new_namespace};
use crate::*;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tare_kernel::netlink::new_network_namespace;
use tare_model::Kind;
use tare_model::network::{Driver, Network};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn site() -> Site {
    Site::of(Path::new("/var/lib/tare"))
}

fn bridge(host: &mut Host, network: &Network) {
    host.ensure_bridge(&BridgePlan::of(&site(), network, 1500).unwrap()).unwrap();
}

fn plan(network: &Network, token: u64, interface: &str, addresses: &[&str]) -> EndpointPlan {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
    EndpointPlan { interface: interface.into(), ..EndpointPlan::of(&site(), network, token, &addresses).unwrap() }
}

fn socket(address: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(ip(address), port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// Whether a packet from `from` arrives at `to`.
fn reaches(from: (&OwnedFd, &str), to: (Option<&OwnedFd>, &str)) -> bool {
    let receiver = to.0.map_or_else(|| socket(to.1, 0), |netns| at(netns, || socket(to.1, 0)));
    let sender = at(from.0, || socket(from.1, 0));
    // To an address that the neighbour does not answer for, sending may fail as well.
    drop(sender.send_to(b"x", receiver.local_addr().unwrap()));
    receiver.recv(&mut [0; 8]).is_ok()
}

#[test]
fn a_container_is_on_two_networks_and_leaves_one_while_it_runs() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let (a, b) = (network("tn-a", &["10.1.0.0/24", "fd01::/64"]), network("tn-b", &["10.2.0.0/24"]));
        bridge(&mut host, &a);
        bridge(&mut host, &b);
        let netns = new_network_namespace().unwrap();
        let first = EndpointPlan { metric: 100, ..plan(&a, 1, "eth0", &["10.1.0.2", "fd01::2"]) };
        let first = host.connect(&first, netns.as_fd()).unwrap();
        let second = EndpointPlan { metric: 50, ..plan(&b, 2, "front", &["10.2.0.2"]) };
        let second = host.connect(&second, netns.as_fd()).unwrap();
        let way = || at(&netns, || command(&["ip", "route", "get", "198.51.100.9"]));
        assert!(way().contains("via 10.2.0.1 dev front src 10.2.0.2"), "{}", way());
        assert!(reaches((&netns, "10.1.0.2"), (None, "10.1.0.1")));
        assert!(reaches((&netns, "10.2.0.2"), (None, "10.2.0.1")));
        assert!(reaches((&netns, "fd01::2"), (None, "fd01::1")));

        host.disconnect(&second, Some(netns.as_fd())).unwrap();
        host.disconnect(&second, Some(netns.as_fd())).unwrap();
        assert!(!host.link_exists(&second.link).unwrap());
        assert!(!at(&netns, || command(&["ip", "link"])).contains("front"));
        assert!(way().contains("via 10.1.0.1 dev eth0 src 10.1.0.2"), "{}", way());
        assert!(reaches((&netns, "10.1.0.2"), (None, "10.1.0.1")));
        // And comes back, under another name.
        let again = EndpointPlan { metric: 50, ..plan(&b, 3, "back", &["10.2.0.9"]) };
        host.connect(&again, netns.as_fd()).unwrap();
        assert!(way().contains("dev back src 10.2.0.9"), "{}", way());
        host.disconnect(&first, Some(netns.as_fd())).unwrap();
        assert!(!at(&netns, || command(&["ip", "-6", "route"])).contains("fd01"));
    });
}

#[test]
fn a_name_that_is_taken_or_impossible_is_refused_and_nothing_is_left() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let net = network("tn-a", &["10.1.0.0/24"]);
        bridge(&mut host, &net);
        let netns = new_network_namespace().unwrap();
        host.connect(&plan(&net, 1, "eth0", &["10.1.0.2"]), netns.as_fd()).unwrap();
        let e = host.connect(&plan(&net, 2, "eth0", &["10.1.0.3"]), netns.as_fd()).unwrap_err();
        assert_eq!(e.kind(), Kind::AlreadyExists);
        assert!(e.to_string().ends_with("the container has a device \"eth0\" already"), "{e}");
        assert_eq!(e.first_hint(), Some("choose another name for the interface"));
        for bad in ["", "lo", "all", "default", ".", "..", "a/b", "a b", "eth%d", "a:1", "sixteen-letters-"] {
            let e = host.connect(&plan(&net, 3, bad, &["10.1.0.4"]), netns.as_fd()).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid, "{bad}: {e}");
        }
        // A route that cannot be: what was made until then is taken back.
        let gateways = vec![ip("192.0.2.1")];
        let e = host.connect(&EndpointPlan { gateways, ..plan(&net, 4, "eth1", &["10.1.0.5"]) }, netns.as_fd());
        assert!(e.unwrap_err().to_string().contains("add default route"));
        assert!(!at(&netns, || command(&["ip", "link"])).contains("eth1"));
        assert_eq!(command(&["ip", "-o", "link", "show", "master", "tn-a"]).lines().count(), 1);
        let missing = Network { device: Some("tn-none".into()), ..net };
        let e = host.connect(&plan(&missing, 5, "eth1", &["10.1.0.5"]), netns.as_fd()).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
    });
}

#[test]
fn hardware_address_mtu_and_routes_are_as_planned() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let mut net = Network { mtu: Some(1400), ..network("tn-a", &["10.1.0.0/24", "fd01::/64"]) };
        let route = |destination: &str, gateway: &str, metric| tare_model::network::Route {
            destination: destination.parse().unwrap(),
            gateway: ip(gateway),
            metric,
        };
        net.routes = vec![route("10.9.0.0/16", "10.1.0.7", Some(9)), route("fd09::/64", "fd01::7", None)];
        bridge(&mut host, &net);
        let netns = new_network_namespace().unwrap();
        let own = EndpointPlan {
            mac: Some("02:00:00:00:be:ef".parse().unwrap()),
            mtu: 0,
            ..plan(&net, 1, "eth0", &["10.1.0.2", "fd01::2"])
        };
        host.connect(&own, netns.as_fd()).unwrap();
        let there = at(&netns, || {
            command(&["ip", "addr", "show", "eth0"]) + &command(&["ip", "route"]) + &command(&["ip", "-6", "route"])
        });
        for part in [
            "mtu 1400",
            "link/ether 02:00:00:00:be:ef",
            "inet6 fe80::ff:fe00:beef/64 scope link",
            "10.9.0.0/16 via 10.1.0.7 dev eth0 metric 9",
            "fd09::/64 via fd01::7 dev eth0",
        ] {
            assert!(there.contains(part), "{part} is not in {there}");
        }
        assert!(command(&["ip", "link", "show", "tn-a"]).contains("mtu 1400"));
        let small =
            EndpointPlan { mtu: 1300, gateways: vec![], routes: vec![], ..plan(&net, 2, "eth1", &["10.1.0.3"]) };
        host.connect(&small, netns.as_fd()).unwrap();
        assert!(at(&netns, || command(&["ip", "link", "show", "eth1"])).contains("mtu 1300"));
    });
}

#[test]
fn isolated_ports_reach_the_host_and_not_each_other() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let apart = Network { icc: false, ..network("tn-a", &["10.1.0.0/24", "fd01::/64"]) };
        bridge(&mut host, &apart);
        let join = |host: &mut Host, token: u64, net: &Network| {
            let netns = new_network_namespace().unwrap();
            let addresses = [format!("10.1.0.{token}"), format!("fd01::{token}")];
            host.connect(&plan(net, token, "eth0", &[&addresses[0], &addresses[1]]), netns.as_fd()).unwrap();
            netns
        };
        let (one, two) = (join(&mut host, 2, &apart), join(&mut host, 3, &apart));
        assert!(!reaches((&one, "10.1.0.2"), (Some(&two), "10.1.0.3")));
        assert!(!reaches((&one, "fd01::2"), (Some(&two), "fd01::3")));
        assert!(reaches((&one, "10.1.0.2"), (None, "10.1.0.1")));
        assert!(reaches((&two, "fd01::3"), (None, "fd01::1")));
        // The port's flag alone does it, should the rules be gone.
        command(&["nft", "flush", "ruleset"]);
        assert!(!reaches((&one, "10.1.0.2"), (Some(&two), "10.1.0.3")));
        assert!(!reaches((&one, "fd01::2"), (Some(&two), "fd01::3")));
        let together = Network { icc: true, ..apart };
        let three = join(&mut host, 4, &together);
        assert!(reaches((&one, "10.1.0.2"), (Some(&three), "10.1.0.4")));
    });
}

#[test]
fn a_container_reaches_a_host_behind_the_parent_at_layer_2() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let far = new_network_namespace().unwrap();
        wire("nic0", "lan0", &far);
        at(&far, || {
            command(&["ip", "addr", "add", "10.1.0.77/24", "dev", "lan0"]);
            command(&["ip", "addr", "add", "fd01::77/64", "dev", "lan0", "nodad"]);
            command(&["ip", "link", "set", "lan0", "up"]);
        });
        let net = Network { parent: Some("nic0".into()), ..network("tn-a", &["10.1.0.0/24", "fd01::/64"]) };
        let bridged = BridgePlan::of(&site(), &net, 1500).unwrap();
        // Not from under the feet of somebody else.
        command(&["ip", "addr", "add", "192.0.2.5/24", "dev", "nic0"]);
        let e = host.ensure_bridge(&bridged).unwrap_err();
        assert_eq!(e.kind(), Kind::InUse);
        assert!(e.to_string().contains("192.0.2.5/24"), "{e}");
        assert!(!host.link_exists("tn-a").unwrap(), "refused, and yet a bridge was made");
        command(&["ip", "addr", "flush", "dev", "nic0"]);
        command(&["ip", "link", "set", "nic0", "up"]);
        command(&["ip", "route", "add", "10.1.0.0/16", "dev", "nic0"]);
        command(&["ip", "link", "add", "br7", "type", "bridge"]);
        command(&["ip", "link", "set", "nic0", "master", "br7"]);
        let e = host.ensure_bridge(&bridged).unwrap_err();
        assert!(e.to_string().ends_with("it is a port of \"br7\""), "{e}");
        assert_eq!(e.first_hint(), Some("ip link set nic0 nomaster"));
        command(&["ip", "link", "set", "nic0", "nomaster"]);

        bridge(&mut host, &net);
        let netns = new_network_namespace().unwrap();
        host.connect(&plan(&net, 1, "eth0", &["10.1.0.2", "fd01::2"]), netns.as_fd()).unwrap();
        // The other end of the cable has had a carrier for some moments only.
        assert!((0..5).any(|_| reaches((&netns, "10.1.0.2"), (Some(&far), "10.1.0.77"))));
        assert!(reaches((&far, "fd01::77"), (Some(&netns), "fd01::2")));
        let neighbours = at(&netns, || command(&["ip", "neigh"]));
        let mac = at(&far, || command(&["cat", "/proc/net/arp"]));
        assert!(neighbours.contains("10.1.0.77 dev eth0 lladdr"), "{neighbours}");
        assert!(mac.contains("02:74:0a:01:00:02"), "it is not a neighbour: {mac}");
        // Somebody takes it off: the next start puts it back.
        command(&["ip", "link", "set", "nic0", "nomaster"]);
        bridge(&mut host, &net);
        assert!(reaches((&netns, "10.1.0.2"), (Some(&far), "10.1.0.77")));
        // The parent alone does not keep the bridge, and outlives it.
        let remove = |host: &mut Host| host.set_bridge_aside_if_unused("tare", "tn-a", Some("nic0")).unwrap();
        assert_eq!(remove(&mut host), BridgeRemoval::Used);
        let link = command(&["ip", "-o", "link", "show", "master", "tn-a"]);
        let link = link.split([' ', '@']).find(|w| w.starts_with("tv")).unwrap();
        host.delete_link(link).unwrap();
        assert_eq!(remove(&mut host), BridgeRemoval::Removed);
        let nic = || command(&["ip", "-o", "link", "show", "nic0"]);
        assert!(nic().contains("UP") && !nic().contains("master") && !host.link_exists("tn-a").unwrap());
        // At once it can be made again, and what is left of the first does not concern the second. A parent that was down
        // goes down again.
        command(&["ip", "link", "set", "nic0", "down"]);
        bridge(&mut host, &net);
        assert!(nic().contains("UP") && nic().contains("master tn-a"), "{}", nic());
        assert_eq!(command(&["ip", "-o", "link", "show", "type", "bridge"]).matches(": tx-").count(), 1);
        host.delete_aside("tn-a").unwrap();
        assert!(nic().contains("master tn-a"));
        // One that was killed before it deleted it.
        assert_eq!(remove(&mut host), BridgeRemoval::Removed);
        assert!(!nic().contains("UP") && !nic().contains("master"), "{}", nic());
        bridge(&mut host, &net);
        assert_eq!(remove(&mut host), BridgeRemoval::Removed);
        host.delete_aside("tn-a").unwrap();
        assert!(command(&["ip", "-o", "link", "show", "type", "bridge"]).matches("tx-").count() == 0);
        let gone = Network { parent: Some("nic9".into()), ..net };
        let e = host.ensure_bridge(&BridgePlan::of(&site(), &gone, 1500).unwrap()).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
    });
}

#[test]
fn the_other_kinds_of_devices_are_connected_and_disconnected() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        command(&["ip", "link", "add", "nic0", "type", "veth", "peer", "name", "lan0"]);
        for device in ["nic0", "lan0"] {
            command(&["ip", "link", "set", device, "up"]);
        }
        command(&["ip", "addr", "add", "10.1.0.1/24", "dev", "lan0"]);
        command(&["ip", "addr", "add", "fd01::1/64", "dev", "lan0", "nodad"]);
        let mut net = network("x", &["10.1.0.0/24", "fd01::/64"]);
        (net.device, net.driver, net.parent) = (None, Driver::Macvlan, Some("nic0".into()));
        let netns = new_network_namespace().unwrap();
        let endpoint = host.connect(&plan(&net, 1, "eth0", &["10.1.0.2", "fd01::2"]), netns.as_fd()).unwrap();
        assert!(reaches((&netns, "10.1.0.2"), (None, "10.1.0.1")));
        assert!(reaches((&netns, "fd01::2"), (None, "fd01::1")));
        assert!(at(&netns, || command(&["ip", "-d", "link", "show", "eth0"])).contains("macvlan mode bridge"));
        let second = EndpointPlan { gateways: vec![], ..plan(&net, 2, "eth1", &["10.1.0.3"]) };
        host.connect(&second, netns.as_fd()).unwrap();
        host.disconnect(&endpoint, Some(netns.as_fd())).unwrap();
        host.disconnect(&endpoint, Some(netns.as_fd())).unwrap();
        let left = at(&netns, || command(&["ip", "link"]));
        assert!(!left.contains("eth0") && left.contains("eth1"), "{left}");
        drop(netns);

        command(&["ip", "link", "add", "card0", "type", "veth", "peer", "name", "lan1"]);
        command(&["ip", "link", "set", "lan1", "up"]);
        command(&["ip", "addr", "add", "10.3.0.1/24", "dev", "lan1"]);
        let mut net = network("y", &["10.3.0.0/24"]);
        (net.device, net.driver, net.parent) = (None, Driver::Phys, Some("card0".into()));
        let netns = new_network_namespace().unwrap();
        let endpoint = host.connect(&plan(&net, 1, "wan", &["10.3.0.2"]), netns.as_fd()).unwrap();
        assert_eq!(endpoint.lent.as_ref().unwrap().name, "card0");
        // The other end of the cable has its carrier back some moments later.
        assert!((0..5).any(|_| reaches((&netns, "10.3.0.2"), (None, "10.3.0.1"))));
        assert!(!host.link_exists("card0").unwrap());
        host.disconnect(&endpoint, Some(netns.as_fd())).unwrap();
        assert!(host.link_exists("card0").unwrap());
    });
}

#[test]
fn a_rate_is_in_force_from_the_first_packet_and_goes_with_the_endpoint() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let net = network("tn-a", &["10.1.0.0/24"]);
        bridge(&mut host, &net);
        let netns = new_network_namespace().unwrap();
        let rate = Rate { to_container: Some(1_000_000), from_container: Some(2_000_000) };
        let limited = EndpointPlan { rate, ..plan(&net, 1, "eth0", &["10.1.0.2"]) };
        let endpoint = host.connect(&limited, netns.as_fd()).unwrap();
        let queues = command(&["tc", "qdisc", "show"]);
        assert!(queues.contains("tbf") && queues.contains("rate 1Mbit") && queues.contains("rate 2Mbit"), "{queues}");
        assert!(reaches((&netns, "10.1.0.2"), (None, "10.1.0.1")));
        host.disconnect(&endpoint, Some(netns.as_fd())).unwrap();
        assert!(!command(&["tc", "qdisc", "show"]).contains("tbf"));
    });
}

#[test]
fn a_port_that_was_taken_off_its_bridge_or_changed_is_put_back() {
    in_new_namespace(|_| {
        command(&["ip", "link", "set", "lo", "up"]);
        let mut host = Host::open().unwrap();
        let net = Network { icc: false, ..network("tn-a", &["10.1.0.0/24", "fd01::/64"]) };
        bridge(&mut host, &net);
        let netns = new_network_namespace().unwrap();
        let ports = vec![PortMapping { host_ip: None, host_port: 80, container_port: 80, transport: Transport::Tcp }];
        let wanted = EndpointPlan { ports, ..plan(&net, 1, "eth0", &["10.1.0.2", "fd01::2"]) };
        let endpoint = host.connect(&wanted, netns.as_fd()).unwrap();
        let link = endpoint.link.as_str();
        let shown = || command(&["ip", "-d", "-o", "link", "show", link]);
        let as_made = shown();
        assert!(as_made.contains("isolated on") && as_made.contains("master tn-a"), "{as_made}");
        assert_eq!(host.restore(&endpoint).unwrap(), 0);
        for damage in [
            "ip link set LINK type bridge_slave isolated off hairpin off",
            "ip link set LINK nomaster",
            "ip link set LINK down",
            "ip link delete tn-a",
        ] {
            let line = damage.replace("LINK", link);
            command(&line.split(' ').collect::<Vec<_>>());
            let mut host = Host::open().unwrap();
            bridge(&mut host, &net);
            assert_eq!(host.restore(&endpoint).unwrap(), 1, "{damage}");
            let flag = |text: &str, flag: &str| text.contains(&format!("{flag} on"));
            for name in ["isolated", "hairpin"] {
                assert_eq!(flag(&shown(), name), flag(&as_made, name), "{damage}: {}", shown());
            }
            assert!(shown().contains("master tn-a"), "{damage}: {}", shown());
            assert!((0..10).any(|_| reaches((&netns, "10.1.0.2"), (None, "10.1.0.1"))), "{damage}");
            assert!(reaches((&netns, "fd01::2"), (None, "fd01::1")), "{damage}");
            assert_eq!(host.restore(&endpoint).unwrap(), 0, "{damage}");
        }
        // Whoever has given it to a bridge of theirs wants it there.
        command(&["ip", "link", "add", "br7", "type", "bridge"]);
        command(&["ip", "link", "set", link, "master", "br7"]);
        assert_eq!(host.restore(&endpoint).unwrap(), 0);
        assert!(shown().contains("master br7"));
    });
}
