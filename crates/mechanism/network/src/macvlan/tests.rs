//! Containers on a device of the host: a machine outside, the host with the parent, two containers.
//!
//! ```text
//! outside 198.51.100.1 ── up0 198.51.100.9 host      on up0: containers 198.51.100.20, 198.51.100.21
//! ```

use super::*;
use crate::testing::{command, in_new_namespace};
use crate::{Endpoint, EndpointPlan, Host, Site};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};
use tare_model::network::{Driver, Network};

#[test]
fn modes_are_read_and_shown() {
    for text in ["bridge", "private", "vepa", "passthru"] {
        assert_eq!(text.parse::<MacvlanMode>().unwrap().to_string(), text);
    }
    for text in ["l2", "l3", "l3s"] {
        assert_eq!(text.parse::<IpvlanMode>().unwrap().to_string(), text);
    }
    let wrong = "l4".parse::<IpvlanMode>().unwrap_err();
    assert_eq!(wrong.kind(), Kind::Invalid);
    assert!(wrong.first_hint().unwrap().contains("l3s"));
    assert!("l2".parse::<MacvlanMode>().is_err());
}

fn at<T>(netns: &OwnedFd, work: impl FnOnce() -> T) -> T {
    in_network_namespace(netns.as_fd(), work).unwrap()
}

/// The namespace of the machine outside.
fn outside() -> OwnedFd {
    let outside = new_network_namespace().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
    command(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &path]);
    command(&["ip", "addr", "add", "198.51.100.9/24", "dev", "up0"]);
    command(&["ip", "link", "set", "up0", "up"]);
    at(&outside, || {
        command(&["ip", "link", "set", "eth0", "up"]);
        command(&["ip", "addr", "add", "198.51.100.1/24", "dev", "eth0"]);
        command(&["ip", "addr", "add", "fd00:51::1/64", "nodad", "dev", "eth0"]);
        command(&["ip", "addr", "add", "203.0.113.1/32", "dev", "eth0"]);
    });
    outside
}

fn network(mode: &str, subnets: &str) -> Network {
    let text = format!(
        r#"{{"name":"lan","id":"{}","driver":"macvlan","parent":"up0","mode":"{mode}","subnets":{subnets},"created":7}}"#,
        "a".repeat(64)
    );
    serde_json::from_str(&text).unwrap()
}

const LAN: &str =
    r#"[{"net":"198.51.100.0/24","gateway":"198.51.100.1"},{"net":"fd00:51::/64","gateway":"fd00:51::1"}]"#;

fn plan(network: &Network, last: u8) -> EndpointPlan {
    let addresses = [IpAddr::from([198, 51, 100, last]), format!("fd00:51::{last}").parse().unwrap()];
    let addresses = if network.subnets.is_empty() { &[][..] } else { &addresses };
    EndpointPlan::of(&Site::of(Path::new("/var/lib/tare")), network, u64::from(last), addresses).unwrap()
}

fn container(host: &mut Host, network: &Network, last: u8) -> (OwnedFd, Endpoint) {
    let netns = new_network_namespace().unwrap();
    let endpoint = host.connect(&plan(network, last), netns.as_fd()).unwrap();
    (netns, endpoint)
}

/// Whether a connection from `from` reaches `address` in `to` and carries bytes both ways.
fn reaches(from: &OwnedFd, to: &OwnedFd, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let server = at(to, || TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let target = server.local_addr().unwrap();
    let Ok(mut client) = at(from, || TcpStream::connect_timeout(&target, Duration::from_millis(300))) else {
        return false;
    };
    let (mut served, _) = server.accept().unwrap();
    client.write_all(b"q").unwrap();
    served.read_exact(&mut [0]).unwrap();
    served.write_all(b"a").unwrap();
    client.read_exact(&mut [0]).is_ok()
}

#[test]
fn containers_are_hosts_of_their_own_on_the_parents_network() {
    in_new_namespace(|home| {
        let outside = outside();
        let mut host = Host::open().unwrap();
        let lan = network("bridge", LAN);
        let (one, endpoint) = container(&mut host, &lan, 20);
        let (two, _) = container(&mut host, &lan, 21);
        for (from, to, address) in [
            (&one, &outside, "198.51.100.1"),
            (&one, &outside, "203.0.113.1"),
            (&one, &outside, "fd00:51::1"),
            (&outside, &one, "198.51.100.20"),
            (&outside, &one, "fd00:51::20"),
            (&one, &two, "198.51.100.21"),
            (&two, &one, "fd00:51::20"),
        ] {
            assert!(reaches(from, to, address), "{address}");
        }
        assert!(!reaches(&one, home, "198.51.100.9"), "the parent does not hear its own macvlan devices");
        let shown = at(&one, || command(&["ip", "-d", "addr", "show", "eth0"]));
        for part in ["macvlan mode bridge", "mtu 1500", "198.51.100.20/24", &endpoint.mac.unwrap().to_string()] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        // A container that goes on living loses its device.
        host.disconnect(&endpoint, Some(one.as_fd())).unwrap();
        host.disconnect(&endpoint, Some(one.as_fd())).unwrap();
        assert!(!at(&one, || command(&["ip", "link"])).contains("eth0"));
    });
}

#[test]
fn private_ones_do_not_reach_each_other_and_passthru_is_alone() {
    in_new_namespace(|_| {
        let outside = outside();
        let mut host = Host::open().unwrap();
        let lan = network("private", LAN);
        let (one, _) = container(&mut host, &lan, 20);
        let (two, _) = container(&mut host, &lan, 21);
        assert!(!reaches(&one, &two, "198.51.100.21"));
        assert!(reaches(&one, &outside, "198.51.100.1") && reaches(&outside, &two, "198.51.100.21"));
        let alone = network("passthru", LAN);
        let netns = new_network_namespace().unwrap();
        let refused = host.connect(&plan(&alone, 22), netns.as_fd()).unwrap_err();
        assert!(refused.first_hint().unwrap().contains("passthru"), "{refused}");
        drop((one, two));
    });
    in_new_namespace(|_| {
        let outside = outside();
        let parent = command(&["ip", "link", "show", "up0"]);
        let parent = parent.split_whitespace().skip_while(|w| *w != "link/ether").nth(1).unwrap();
        let mut host = Host::open().unwrap();
        let alone = network("passthru", LAN);
        let (one, _) = container(&mut host, &alone, 20);
        assert!(reaches(&one, &outside, "198.51.100.1"));
        let shown = at(&one, || command(&["ip", "-d", "link", "show", "eth0"]));
        assert!(shown.contains("passthru") && shown.contains(parent), "{shown} has not {parent}");
        let netns = new_network_namespace().unwrap();
        let refused = host.connect(&plan(&network("bridge", LAN), 21), netns.as_fd()).unwrap_err();
        assert!(refused.first_hint().unwrap().contains("passthru"), "{refused}");
    });
}

#[test]
fn without_a_subnet_there_are_no_addresses() {
    in_new_namespace(|_| {
        let _outside = outside();
        let mut host = Host::open().unwrap();
        let (one, endpoint) = container(&mut host, &network("bridge", "[]"), 20);
        let shown = at(&one, || command(&["ip", "addr", "show", "eth0"]) + &command(&["ip", "route"]));
        assert!(shown.contains("MULTICAST,UP") && !shown.contains("inet"), "{shown}");
        assert_eq!(endpoint.addresses, []);
    });
}

#[test]
fn what_stands_in_the_way_is_told() {
    in_new_namespace(|home| {
        let mut host = Host::open().unwrap();
        let lan = network("bridge", LAN);
        let missing = host.connect(&plan(&lan, 20), home.as_fd()).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.to_string().contains("up0: the host has no device"), "{missing}");
        assert!(missing.first_hint().unwrap().contains("ip link add link DEVICE name NAME type vlan"), "{missing}");
        let limited = EndpointPlan {
            rate: crate::Rate { to_container: Some(1_000_000), from_container: None },
            ..plan(&lan, 20)
        };
        let refused = host.connect(&limited, home.as_fd()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unsupported);
        assert!(refused.first_hint().unwrap().contains("driver bridge"), "{refused}");
        let _outside = outside();
        command(&["ip", "link", "set", "up0", "down"]);
        let down = host.connect(&plan(&lan, 20), home.as_fd()).unwrap_err();
        assert_eq!((down.kind(), down.first_hint()), (Kind::State, Some("set it up first: ip link set up0 up")));
        command(&["ip", "link", "add", "br0", "type", "bridge"]);
        command(&["ip", "link", "set", "up0", "master", "br0", "up"]);
        let port = host.connect(&plan(&lan, 20), home.as_fd()).unwrap_err();
        assert_eq!(port.kind(), Kind::InUse, "{port}");
        assert!(port.first_hint().unwrap().contains("port of a bridge"), "{port}");
        let loopback = Network { parent: Some("lo".into()), ..lan };
        let refused = host.connect(&plan(&loopback, 20), home.as_fd()).unwrap_err();
        assert!(refused.first_hint().unwrap().contains("loopback"), "{refused}");
    });
}

#[test]
fn a_kernel_without_ipvlan_says_so_and_one_with_it_has_it() {
    in_new_namespace(|_| {
        let outside = outside();
        let mut host = Host::open().unwrap();
        let lan = Network { driver: Driver::Ipvlan, ..network("l2", LAN) };
        let netns = new_network_namespace().unwrap();
        match host.connect(&plan(&lan, 20), netns.as_fd()) {
            Ok(_) => assert!(reaches(&netns, &outside, "198.51.100.1")),
            Err(e) => {
                assert_eq!(e.kind(), Kind::Unsupported, "{e}");
                assert!(e.first_hint().unwrap().contains("CONFIG_IPVLAN"), "{e}");
            }
        }
    });
}
