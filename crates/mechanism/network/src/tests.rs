//! The verbs against the real kernel: a host, containers and an outside machine, each a network namespace.
//!
//! ```text
//! outside 198.51.100.2 ── 198.51.100.1 host 10.112.0.1 on tare0 ── 10.112.0.2, 10.112.0.3 … containers
//! ```

use crate::testing::{command, in_new_namespace};
use crate::*;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};
use tare_model::Kind;
use tare_model::network::{Driver, Network, Subnet};

const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The host's side of a test: in the namespace of the calling thread.
struct Lab {
    site: Site,
    network: Network,
    gateway: Ipv4Addr,
    host: Host,
    outside: OwnedFd,
    next: u8,
}

/// A container's namespace with its endpoint.
struct Container {
    netns: OwnedFd,
    endpoint: Endpoint,
    _sockets: Vec<ReservedSocket>,
}

impl Lab {
    fn new() -> Lab {
        let site = Site::of(Path::new("/var/lib/tare"));
        let network = network(&site.bridge, &["10.112.0.0/20"]);
        let outside = new_network_namespace().unwrap();
        let mut host = Host::open().unwrap();
        // A bridge alone would do; joined by veth, the outside machine is a neighbour on a network of its own.
        command(&["ip", "link", "add", "up0", "type", "bridge", "forward_delay", "0"]);
        command(&["ip", "addr", "add", "198.51.100.1/24", "dev", "up0"]);
        command(&["ip", "link", "set", "up0", "up"]);
        let uplink = Network { internal: true, ..self::network("up0", &["198.51.100.0/24"]) };
        let plan = EndpointPlan::of(&site, &uplink, 1, &[OUTSIDE.into()]).unwrap();
        host.connect(&plan, outside.as_fd()).unwrap();
        // A new namespace begins with what the machine's own has.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let report = host.ensure_bridge(&BridgePlan::of(&site, &network, 1500).unwrap()).unwrap();
        let forward = Setting { name: "net.ipv4.ip_forward".into(), before: "0".into(), now: "1".into() };
        assert_eq!(report, BridgeReport { bridge_created: true, rules_written: true, settings: vec![forward] });
        Lab { site, network, gateway: Ipv4Addr::new(10, 112, 0, 1), host, outside, next: 2 }
    }

    fn bridge_plan(&self) -> BridgePlan {
        BridgePlan::of(&self.site, &self.network, 1500).unwrap()
    }

    fn plan(&self, token: u64, address: Ipv4Addr, ports: Vec<PortMapping>) -> EndpointPlan {
        EndpointPlan { ports, ..EndpointPlan::of(&self.site, &self.network, token, &[address.into()]).unwrap() }
    }

    fn remove(&self, host: &mut Host) -> BridgeRemoval {
        let removal = host.set_bridge_aside_if_unused(&self.site.table, &self.site.bridge, None).unwrap();
        host.delete_aside(&self.site.bridge).unwrap();
        removal
    }

    fn container(&mut self, ports: &[PortMapping]) -> Container {
        let netns = new_network_namespace().unwrap();
        let reservation = reserve_ports(ports).unwrap();
        let address = Ipv4Addr::new(10, 112, 0, self.next);
        self.next += 1;
        let plan = self.plan(1000 + u64::from(self.next), address, reservation.ports);
        let endpoint = self.host.connect(&plan, netns.as_fd()).unwrap();
        Container { netns, endpoint, _sockets: reservation.sockets }
    }
}

impl Container {
    fn address(&self) -> Ipv4Addr {
        let IpAddr::V4(v4) = self.endpoint.addresses[0].address() else { panic!() };
        v4
    }

    /// Listens on `port` in the container.
    fn listen(&self, port: u16) -> TcpListener {
        at(&self.netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
    }
}

/// A bridged network with these subnets and the first host of each as gateway.
fn network(bridge: &str, subnets: &[&str]) -> Network {
    let subnet = |text: &&str| {
        let net: tare_model::address::IpNet = text.parse().unwrap();
        Subnet { net, gateway: net.first_host(), range: None, reserved: vec![] }
    };
    Network {
        device: Some(bridge.into()),
        subnets: subnets.iter().map(subnet).collect(),
        ..Network::new(bridge, &"0".repeat(64), Driver::Bridge)
    }
}

mod endpoints;
mod families;
mod rules;

/// A cable from the calling thread's namespace to another.
fn wire(here: &str, there: &str, netns: &OwnedFd) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    command(&["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", &path]);
}

fn at<T>(netns: &OwnedFd, work: impl FnOnce() -> T) -> T {
    in_network_namespace(netns.as_fd(), work).unwrap()
}

fn port(host_ip: Option<Ipv4Addr>, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { host_ip: host_ip.map(IpAddr::V4), host_port, container_port, transport: Transport::Tcp }
}

fn connect(address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), Duration::from_millis(500))
}

/// Connects, exchanges a byte each way with `server`, and returns the client's address as the server saw it.
fn talk(client: std::io::Result<TcpStream>, server: &TcpListener) -> IpAddr {
    let mut client = client.unwrap();
    let (mut served, peer) = server.accept().unwrap();
    client.write_all(b"q").unwrap();
    served.read_exact(&mut [0]).unwrap();
    served.write_all(b"a").unwrap();
    client.read_exact(&mut [0]).unwrap();
    peer.ip()
}

#[test]
fn a_container_reaches_the_outside_under_the_hosts_address() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let c = lab.container(&[]);
        let server = at(&lab.outside, || TcpListener::bind((OUTSIDE, 7000)).unwrap());
        assert_eq!(talk(at(&c.netns, || connect(OUTSIDE, 7000)), &server), HOST_OUTSIDE);
        // Unpublished, it is not reached from there, even by a machine that routes its subnet through the host.
        let inner = c.listen(80);
        let routed = Ipv4Addr::new(198, 51, 100, 1).to_string();
        at(&lab.outside, || command(&["ip", "route", "add", "10.112.0.0/20", "via", &routed]));
        assert!(at(&lab.outside, || connect(c.address(), 80)).is_err());
        // The host itself reaches it.
        assert_eq!(talk(connect(c.address(), 80), &inner), lab.gateway);
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let web = lab.container(&[port(None, 8080, 80)]);
        let other = lab.container(&[]);
        let server = web.listen(80);
        // From outside, with the client's own address; from the host through each of its addresses.
        assert_eq!(talk(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)), &server), OUTSIDE);
        assert_eq!(talk(connect(Ipv4Addr::LOCALHOST, 8080), &server), lab.gateway);
        assert_eq!(talk(connect(Ipv4Addr::new(127, 9, 9, 9), 8080), &server), lab.gateway);
        assert_eq!(talk(connect(HOST_OUTSIDE, 8080), &server), HOST_OUTSIDE);
        assert_eq!(talk(connect(lab.gateway, 8080), &server), lab.gateway);
        // From another container: directly, and through the host; from itself through the host.
        assert_eq!(talk(at(&other.netns, || connect(web.address(), 80)), &server), other.address());
        assert_eq!(talk(at(&other.netns, || connect(HOST_OUTSIDE, 8080)), &server), lab.gateway);
        assert_eq!(talk(at(&other.netns, || connect(lab.gateway, 8080)), &server), lab.gateway);
        assert_eq!(talk(at(&web.netns, || connect(HOST_OUTSIDE, 8080)), &server), lab.gateway);
        // A container's 127.0.0.1 is its own.
        assert!(at(&other.netns, || connect(Ipv4Addr::LOCALHOST, 8080)).is_err());

        lab.host.disconnect(&web.endpoint, None).unwrap();
        lab.host.disconnect(&web.endpoint, None).unwrap();
        drop(web);
        assert!(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)).is_err());
        assert!(connect(Ipv4Addr::LOCALHOST, 8080).is_err());
    });
}

#[test]
fn a_port_reaches_itself_through_the_host_whether_or_not_bridged_packets_are_filtered() {
    for value in ["1", "0"] {
        in_new_namespace(move |_| {
            let switch = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
            // Without the module br_netfilter there is one case only.
            if switch.exists() {
                std::fs::write(switch, value).unwrap();
            }
            let mut lab = Lab::new();
            let web = lab.container(&[port(None, 8080, 80)]);
            let other = lab.container(&[]);
            let server = web.listen(80);
            assert_eq!(talk(at(&web.netns, || connect(HOST_OUTSIDE, 8080)), &server), lab.gateway);
            assert_eq!(talk(at(&other.netns, || connect(HOST_OUTSIDE, 8080)), &server), lab.gateway);
            assert_eq!(talk(at(&other.netns, || connect(web.address(), 80)), &server), other.address());
        });
    }
}

#[test]
fn a_port_published_on_one_address_is_reached_there_only() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let private = lab.container(&[port(Some(Ipv4Addr::LOCALHOST), 8080, 80)]);
        let public = lab.container(&[port(Some(HOST_OUTSIDE), 8080, 80)]);
        let (inner, outer) = (private.listen(80), public.listen(80));
        assert_eq!(talk(connect(Ipv4Addr::LOCALHOST, 8080), &inner), lab.gateway);
        assert_eq!(talk(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)), &outer), OUTSIDE);
        assert!(connect(lab.gateway, 8080).is_err());
        lab.host.disconnect(&public.endpoint, None).unwrap();
        assert!(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)).is_err());
        // A neighbour that sends packets for 127.0.0.1 to the host is not let in.
        at(&lab.outside, || {
            for device in ["all", "eth0"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/route_localnet"), "1").unwrap();
            }
            command(&["ip", "addr", "flush", "dev", "lo"]);
            command(&["ip", "route", "add", "127.0.0.0/8", "via", "198.51.100.1"]);
            assert!(command(&["ip", "route", "get", "127.0.0.1"]).contains("via 198.51.100.1"));
            assert!(connect(Ipv4Addr::LOCALHOST, 8080).is_err());
        });
    });
}

#[test]
fn a_container_cannot_speak_under_a_foreign_address_or_to_the_hosts_loopback() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let c = lab.container(&[]);
        let host = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9000)).unwrap();
        host.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        at(&c.netns, || {
            let own = UdpSocket::bind((c.address(), 0)).unwrap();
            own.send_to(b"own", (lab.gateway, 9000)).unwrap();
        });
        assert_eq!(host.recv(&mut [0; 8]).unwrap(), 3);
        at(&c.netns, || {
            command(&["ip", "addr", "add", "198.51.100.77/32", "dev", "eth0"]);
            let foreign = UdpSocket::bind((Ipv4Addr::new(198, 51, 100, 77), 0)).unwrap();
            foreign.send_to(b"foreign", (lab.gateway, 9000)).unwrap();
            // The host's loopback by way of the bridge.
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            command(&["ip", "addr", "flush", "dev", "lo"]);
            command(&["ip", "route", "replace", "127.0.0.0/8", "via", "10.112.0.1", "src", "10.112.0.2"]);
            command(&["ip", "rule", "add", "pref", "1", "lookup", "main"]);
            command(&["ip", "route", "flush", "table", "local", "127.0.0.0/8"]);
            let own = UdpSocket::bind((c.address(), 0)).unwrap();
            drop(own.send_to(b"loop", (Ipv4Addr::LOCALHOST, 9000)));
        });
        assert!(host.recv(&mut [0; 8]).is_err());
    });
}

#[test]
fn the_first_packet_goes_through() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let server = at(&lab.outside, || UdpSocket::bind((OUTSIDE, 7000)).unwrap());
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let web = UdpSocket::bind((lab.gateway, 7001)).unwrap();
        web.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        for _ in 0..20 {
            let c = lab.container(&[]);
            let socket = at(&c.netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
            socket.send_to(b"1", (OUTSIDE, 7000)).unwrap();
            socket.send_to(b"1", (lab.gateway, 7001)).unwrap();
            assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip(), HOST_OUTSIDE);
            let (_, back) = web.recv_from(&mut [0; 8]).unwrap();
            web.send_to(b"2", back).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        }
    });
}

#[test]
fn the_kernel_and_nft_agree_with_the_plan() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        assert_eq!(command(&["nft", "list", "ruleset"]), include_str!("../testdata/default.nft"));
        let c = lab.container(&[port(None, 8080, 80), port(Some(Ipv4Addr::LOCALHOST), 8081, 81)]);
        let rules = command(&["nft", "list", "ruleset"]);
        assert!(rules.contains("elements = { tcp . 8080 : 10.112.0.2 . 80 }"), "{rules}");
        assert!(rules.contains("elements = { tcp . 127.0.0.1 . 8081 : 10.112.0.2 . 81 }"), "{rules}");
        let bridge = command(&["ip", "-d", "addr", "show", "tare0"]);
        for part in
            ["mtu 1500", "02:74:0a:70:00:01", "inet 10.112.0.1/20 brd 10.112.15.255 scope global", "stp_state 0"]
        {
            assert!(bridge.contains(part), "{part} is not in {bridge}");
        }
        assert!(!bridge.contains("inet6"), "{bridge}");
        let inside = at(&c.netns, || command(&["ip", "addr"]) + &command(&["ip", "route"]));
        for part in [
            "eth0@if",
            "02:74:0a:70:00:02",
            "inet 10.112.0.2/20 brd 10.112.15.255 scope global eth0",
            "inet 127.0.0.1/8",
            "default via 10.112.0.1 dev eth0",
            "10.112.0.0/20 dev eth0",
        ] {
            assert!(inside.contains(part), "{part} is not in {inside}");
        }
        assert!(command(&["ip", "link", "show", "master", "tare0"]).contains(&c.endpoint.link));
    });
}

#[test]
fn an_endpoint_and_its_plan_survive_json_and_another_process_takes_it_down() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let c = lab.container(&[port(None, 8080, 80)]);
        let text = serde_json::to_string(&c.endpoint).unwrap();
        let read: Endpoint = serde_json::from_str(&text).unwrap();
        assert_eq!(read, c.endpoint);
        let plan = lab.bridge_plan();
        assert_eq!(serde_json::from_str::<BridgePlan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        let mut other = Host::open().unwrap();
        assert_eq!(lab.remove(&mut other), BridgeRemoval::Used);
        other.disconnect(&read, None).unwrap();
        assert!(!command(&["nft", "list", "ruleset"]).contains("tcp . "));
        assert!(other.link_exists(&read.link).unwrap());
        drop(c);
        let start = Instant::now();
        while other.link_exists(&read.link).unwrap() {
            assert!(start.elapsed() < Duration::from_secs(2), "the device outlived its namespace");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(lab.remove(&mut other), BridgeRemoval::Removed);
        assert_eq!(lab.remove(&mut other), BridgeRemoval::Removed);
        assert_eq!(command(&["nft", "list", "ruleset"]), "");
        assert!(!other.link_exists("tare0").unwrap());
    });
}

#[test]
fn an_element_that_was_left_behind_is_replaced_and_one_of_another_is_left_alone() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let Container { endpoint: dead, netns, _sockets } =
            lab.container(&[port(None, 8080, 80), port(None, 8082, 82)]);
        drop((netns, _sockets)); // killed: nobody disconnected
        let live = lab.container(&[port(None, 8080, 80), port(None, 8081, 81)]);
        lab.host.disconnect(&dead, None).unwrap();
        let rules = command(&["nft", "list", "ruleset"]);
        assert!(rules.contains("tcp . 8080 : 10.112.0.3 . 80") && rules.contains("8081"), "{rules}");
        assert!(!rules.contains("8082"), "{rules}");
        // After the administrator flushed everything: a clear hint, a quiet teardown, and the next start heals.
        command(&["nft", "flush", "ruleset"]);
        lab.host.disconnect(&live.endpoint, None).unwrap();
        let plan = lab.plan(7, Ipv4Addr::new(10, 112, 0, 99), vec![port(None, 9, 9)]);
        let netns = new_network_namespace().unwrap();
        let e = lab.host.connect(&plan, netns.as_fd()).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound, "{e}");
        assert!(e.first_hint().unwrap().contains("flushed"), "{e:?}");
        assert!(!lab.host.link_exists(&plan.link).unwrap(), "a failed start left its device");
        assert!(lab.host.ensure_bridge(&lab.bridge_plan()).unwrap().rules_written);
        lab.host.connect(&plan, netns.as_fd()).unwrap();
    });
}

#[test]
fn many_may_make_the_same_bridge_at_once() {
    in_new_namespace(|netns| {
        let site = Site::of(Path::new("/srv/x"));
        let network = network(&site.bridge, &["10.112.0.0/20"]);
        let bridge_plan = &BridgePlan::of(&site, &network, 1500).unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|i| {
                    let (site, network) = (&site, &network);
                    scope.spawn(move || {
                        at(netns, || {
                            let mut host = Host::open().unwrap();
                            host.ensure_bridge(bridge_plan).unwrap();
                            let inside = new_network_namespace().unwrap();
                            let address = Ipv4Addr::new(10, 112, 1, i);
                            let ports = vec![port(None, 8000 + u16::from(i), 80)];
                            let plan = EndpointPlan::of(site, network, u64::from(i), &[address.into()]).unwrap();
                            let plan = EndpointPlan { ports, ..plan };
                            host.connect(&plan, inside.as_fd()).unwrap();
                            inside
                        })
                    })
                })
                .collect();
            let all: Vec<OwnedFd> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            let rules = command(&["nft", "list", "ruleset"]);
            assert_eq!(rules.matches("tcp . 80").count(), 16, "{rules}");
            assert_eq!(rules.matches("masquerade").count(), 3, "{rules}");
            assert_eq!(command(&["ip", "-o", "link", "show", "master", &site.bridge]).lines().count(), all.len());
            let again = Host::open().unwrap().ensure_bridge(bridge_plan).unwrap();
            assert_eq!(again, BridgeReport::default());
        });
    });
}

#[test]
fn a_changed_rule_set_replaces_the_old_one_and_keeps_the_ports() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let c = lab.container(&[port(None, 8080, 80)]);
        // An older tare's: other fingerprints, other rules.
        let file = tempfile::NamedTempFile::new().unwrap();
        let old: String = command(&["nft", "list", "ruleset"])
            .lines()
            .filter(|line| !line.contains("ct status dnat"))
            .map(|line| line.replace("tare rules ", "older rules ") + "\n")
            .collect();
        std::fs::write(file.path(), format!("flush ruleset\n{old}")).unwrap();
        command(&["nft", "-f", file.path().to_str().unwrap()]);
        let server = c.listen(80);
        assert!(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)).is_err());
        let report = lab.host.ensure_bridge(&lab.bridge_plan()).unwrap();
        assert_eq!(report, BridgeReport { rules_written: true, ..BridgeReport::default() });
        assert_eq!(talk(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)), &server), OUTSIDE);
        lab.host.disconnect(&c.endpoint, None).unwrap();
        assert_eq!(command(&["nft", "list", "ruleset"]), include_str!("../testdata/default.nft"));
    });
}

#[test]
fn a_drop_of_the_administrator_wins_and_foreign_rules_are_untouched() {
    in_new_namespace(|_| {
        command(&["nft", "add table ip admin"]);
        command(&["nft", "add chain ip admin f { type filter hook forward priority 10 ; }"]);
        command(&["nft", "add rule ip admin f tcp dport 80 drop"]);
        let before = command(&["nft", "list", "ruleset"]);
        let mut lab = Lab::new();
        let web = lab.container(&[port(None, 8080, 80), port(None, 8081, 81)]);
        let (dropped, passed) = (web.listen(80), web.listen(81));
        assert!(at(&lab.outside, || connect(HOST_OUTSIDE, 8080)).is_err());
        assert_eq!(talk(at(&lab.outside, || connect(HOST_OUTSIDE, 8081)), &passed), OUTSIDE);
        drop((dropped, passed));
        lab.host.delete_link(&web.endpoint.link).unwrap();
        assert_eq!(
            lab.host.set_bridge_aside_if_unused(&lab.site.table, &lab.site.bridge, None).unwrap(),
            BridgeRemoval::Removed
        );
        assert_eq!(command(&["nft", "list", "ruleset"]), before);
    });
}

#[test]
fn a_subnet_that_the_host_routes_is_avoided_or_refused_by_name() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        command(&["ip", "addr", "add", "10.112.20.1/24", "dev", "lo"]);
        let occupied = lab.host.occupied(Some("tare0")).unwrap();
        let candidates = subnet_candidates(Path::new("/var/lib/tare"));
        assert_eq!(choose_subnet(&occupied, &candidates).unwrap(), candidates[0]);
        assert_eq!(choose_subnet(&occupied, &candidates[1..]).unwrap(), candidates[2]);
        let other = network("tn-y", &[&candidates[1].to_string()]);
        let e = lab.host.ensure_bridge(&BridgePlan::of(&lab.site, &other, 1500).unwrap()).unwrap_err();
        assert_eq!(e.kind(), Kind::InUse);
        assert_eq!(
            e.to_string(),
            "create network 10.112.16.0/20: the host routes 10.112.20.0/24 through device \"lo\""
        );
        assert!(!lab.host.link_exists("tn-y").unwrap());
        assert_eq!(lab.host.default_mtu().unwrap(), 1500);
        command(&["ip", "link", "set", "up0", "mtu", "1400"]);
        command(&["ip", "route", "add", "default", "via", "198.51.100.2"]);
        assert_eq!(lab.host.default_mtu().unwrap(), 1400);
    });
}

#[test]
fn counters_count() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let c = lab.container(&[]);
        let before = counters(c.netns.as_fd()).unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(before[0].interface, "eth0");
        let socket = at(&c.netns, || UdpSocket::bind((c.address(), 0)).unwrap());
        for _ in 0..10 {
            socket.send_to(&[0; 1000], (lab.gateway, 9)).unwrap();
        }
        let after = counters(c.netns.as_fd()).unwrap();
        assert!(after[0].tx_packets >= before[0].tx_packets + 10, "{after:?}");
        assert!(after[0].tx_bytes >= before[0].tx_bytes + 10_000, "{after:?}");
        let alone = new_network_namespace().unwrap();
        loopback_up(alone.as_fd()).unwrap();
        assert_eq!(counters(alone.as_fd()).unwrap(), []);
        assert!(at(&alone, || command(&["ip", "addr"])).contains("inet 127.0.0.1/8"));
    });
}

#[test]
fn a_thousand_ports_in_one_go() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let many: Vec<_> = (0..1000).map(|i| port(None, 20000 + i, i + 1)).collect();
        let c = lab.container(&many);
        let server = c.listen(1000);
        assert_eq!(talk(at(&lab.outside, || connect(HOST_OUTSIDE, 20999)), &server), OUTSIDE);
        lab.host.disconnect(&c.endpoint, None).unwrap();
        assert!(!command(&["nft", "list", "ruleset"]).contains("tcp . "));
    });
}

/// Prints what a container costs; for people: `cargo nextest run -p tare-network cost --no-capture`.
#[test]
fn cost_of_a_connection() {
    in_new_namespace(|_| {
        let mut lab = Lab::new();
        let mut keep = Vec::new();
        for ports in [0, 1, 10] {
            let mut times: Vec<(Duration, Duration)> = (0..20)
                .map(|i| {
                    let wanted: Vec<_> = (0..ports).map(|_| port(None, 0, 80)).collect();
                    let reservation = reserve_ports(&wanted).unwrap();
                    let netns = new_network_namespace().unwrap();
                    let address = Ipv4Addr::new(10, 112, 2 + ports, i);
                    let token = u64::from(ports) << 8 | u64::from(i);
                    let start = Instant::now();
                    lab.host.ensure_bridge(&lab.bridge_plan()).unwrap();
                    let ensured = start.elapsed();
                    let plan = lab.plan(token << 20, address, reservation.ports);
                    lab.host.connect(&plan, netns.as_fd()).unwrap();
                    let connected = start.elapsed() - ensured;
                    keep.push((netns, reservation.sockets));
                    (ensured, connected)
                })
                .collect();
            times.sort();
            let ensured = times[10].0;
            times.sort_by_key(|t| t.1);
            println!("{ports} ports: ensure_bridge {ensured:?}, connect {:?} (medians of 20)", times[10].1);
        }
    });
}
