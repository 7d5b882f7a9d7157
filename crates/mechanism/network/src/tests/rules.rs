//! Who reaches whom: networks of every kind, both families, every pair, with and without br_netfilter.

use super::{at, network, wire};
use crate::testing::{command, in_new_namespace};
use crate::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tare_kernel::netlink::new_network_namespace;
use tare_model::network::Network;

const HOST: [&str; 2] = ["198.51.100.1", "fd99::1"];
const OUTSIDE: [&str; 2] = ["198.51.100.2", "fd99::2"];
/// In each container.
const PORT: u16 = 53;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Member {
    name: String,
    netns: OwnedFd,
    addresses: [IpAddr; 2],
    published: u16,
    network: Network,
    server: UdpSocket,
    endpoint: Endpoint,
}

/// A host, a machine outside that routes everything through it, and two containers in each of five networks.
struct Town {
    host: Host,
    outside: OwnedFd,
    outside_server: UdpSocket,
    host_server: UdpSocket,
    members: Vec<Member>,
}

fn server(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("::", port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn udp(host_port: u16) -> PortMapping {
    PortMapping { host_ip: None, host_port, container_port: PORT, transport: Transport::Udp }
}

impl Town {
    fn new() -> Town {
        let host = Host::open().unwrap();
        let outside = new_network_namespace().unwrap();
        wire("up0", "eth0", &outside);
        let set_up = |device: &str, v4: &str, v6: &str| {
            command(&["ip", "addr", "add", &format!("{v4}/24"), "dev", device]);
            command(&["ip", "addr", "add", &format!("{v6}/64"), "dev", device, "nodad"]);
            command(&["ip", "link", "set", device, "up"]);
        };
        set_up("up0", HOST[0], HOST[1]);
        at(&outside, || {
            set_up("eth0", OUTSIDE[0], OUTSIDE[1]);
            command(&["ip", "route", "add", "default", "via", HOST[0]]);
            command(&["ip", "route", "add", "default", "via", HOST[1]]);
        });
        let outside_server = at(&outside, || server(PORT));
        let mut town = Town { host, outside, outside_server, host_server: server(PORT), members: Vec::new() };
        let site = Site::of(Path::new("/var/lib/tare"));
        for (n, kind) in (1..).zip(["plain", "other", "isolate", "noicc", "internal"]) {
            let subnets = [format!("10.1.{n}.0/24"), format!("fd01:0:0:{n}::/64")];
            let usual = network(&format!("tn-{kind}"), &[&subnets[0], &subnets[1]]);
            let network =
                Network { isolate: kind == "isolate", icc: kind != "noicc", internal: kind == "internal", ..usual };
            town.host.ensure_bridge(&BridgePlan::of(&site, &network, 1500).unwrap()).unwrap();
            for i in [2, 3] {
                let addresses = [ip(&format!("10.1.{n}.{i}")), ip(&format!("fd01:0:0:{n}::{i}"))];
                let published = 8000 + 10 * n + i;
                let usual = EndpointPlan::of(&site, &network, u64::from(published), &addresses).unwrap();
                let plan = EndpointPlan { ports: vec![udp(published)], ..usual };
                let netns = new_network_namespace().unwrap();
                let endpoint = town.host.connect(&plan, netns.as_fd()).unwrap();
                if kind == "internal" {
                    // Whoever is inside may add what was not given: it must not help.
                    at(&netns, || {
                        command(&["ip", "route", "add", "default", "via", &format!("10.1.{n}.1")]);
                        command(&["ip", "route", "add", "default", "via", &format!("fd01:0:0:{n}::1")]);
                    });
                }
                let server = at(&netns, || server(PORT));
                let name = format!("{kind}{i}");
                let network = network.clone();
                town.members.push(Member { name, netns, addresses, published, network, server, endpoint });
            }
        }
        town
    }

    /// Sends one datagram for each way there is, and returns what arrived: `FROM WAY TO`.
    fn arrived(&self) -> BTreeSet<String> {
        let send = |from: &str, netns: Option<&OwnedFd>, address: IpAddr, port: u16, way: &str, to: &str| {
            let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
            let bind = || UdpSocket::bind((any, 0)).unwrap();
            let socket = netns.map_or_else(bind, |netns| at(netns, bind));
            let text = format!("{from} {way} {to}");
            drop(socket.send_to(text.as_bytes(), SocketAddr::new(address, port)));
        };
        let all = self.members.iter().map(|m| (m.name.as_str(), Some(&m.netns)));
        for (from, netns) in all.chain([("outside", Some(&self.outside)), ("host", None)]) {
            for (f, family) in [(0, "4"), (1, "6")] {
                for to in &self.members {
                    if from != to.name {
                        send(from, netns, to.addresses[f], PORT, &format!("direct{family}"), &to.name);
                    }
                    send(from, netns, ip(HOST[f]), to.published, &format!("published{family}"), &to.name);
                }
                send(from, netns, ip(OUTSIDE[f]), PORT, &format!("direct{family}"), "outside");
                send(from, netns, ip(HOST[f]), PORT, &format!("direct{family}"), "host");
                if let Some(m) = self.members.iter().find(|m| m.name == from) {
                    let gateway = m.network.subnets[f].gateway.unwrap();
                    send(from, netns, gateway, PORT, &format!("gateway{family}"), "host");
                }
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        let servers = self.members.iter().map(|m| &m.server).chain([&self.outside_server, &self.host_server]);
        let mut arrived = BTreeSet::new();
        for server in servers {
            let mut buffer = [0; 100];
            while let Ok((length, _)) = server.recv_from(&mut buffer) {
                arrived.insert(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        }
        arrived
    }

    /// What shall arrive.
    fn allowed(&self) -> BTreeSet<String> {
        let mut allowed = BTreeSet::new();
        for family in ["4", "6"] {
            for to in &self.members {
                for from in &self.members {
                    let same = from.network.device == to.network.device;
                    let isolated = from.network.isolate || to.network.isolate;
                    let internal = from.network.internal || to.network.internal;
                    if same && from.network.icc && from.name != to.name {
                        allowed.insert(format!("{} direct{family} {}", from.name, to.name));
                    }
                    let published = if same { from.network.icc } else { !isolated };
                    if published && !internal {
                        allowed.insert(format!("{} published{family} {}", from.name, to.name));
                    }
                }
                allowed.insert(format!("host direct{family} {}", to.name));
                allowed.insert(format!("host published{family} {}", to.name));
                if !to.network.internal {
                    allowed.insert(format!("outside published{family} {}", to.name));
                    allowed.insert(format!("{} direct{family} outside", to.name));
                    allowed.insert(format!("{} direct{family} host", to.name));
                }
                allowed.insert(format!("{} gateway{family} host", to.name));
            }
            for (from, to) in [("host", "outside"), ("outside", "host"), ("host", "host")] {
                allowed.insert(format!("{from} direct{family} {to}"));
            }
        }
        allowed
    }
}

#[test]
fn who_reaches_whom_every_pair_in_every_way() {
    for filtered in ["1", "0"] {
        in_new_namespace(move |_| {
            // Without the module br_netfilter there is one case only.
            for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
                drop(std::fs::write(format!("/proc/sys/net/bridge/{switch}"), filtered));
            }
            let town = Town::new();
            let (arrived, allowed) = (town.arrived(), town.allowed());
            let missing: Vec<_> = allowed.difference(&arrived).collect();
            let forbidden: Vec<_> = arrived.difference(&allowed).collect();
            assert!(missing.is_empty() && forbidden.is_empty(), "missing {missing:#?}\nforbidden {forbidden:#?}");
        });
    }
}

#[test]
fn a_flow_of_datagrams_follows_its_port_to_the_next_container() {
    in_new_namespace(|_| {
        let mut town = Town::new();
        for f in [0, 1] {
            let client = at(&town.outside, || {
                let any = if f == 0 { "0.0.0.0" } else { "::" };
                UdpSocket::bind((any, 0)).unwrap()
            });
            let reached = |town: &Town| -> Option<String> {
                client.send_to(b"x", (ip(HOST[f]), 9000)).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                let here = |m: &&Member| m.server.recv_from(&mut [0; 8]).is_ok();
                town.members.iter().find(here).map(|m| m.name.clone())
            };
            // Before it is published, the host itself is asked; the same flow goes to the container then.
            assert_eq!(reached(&town), None);
            let (first, second) = (town.members[0].endpoint.clone(), town.members[2].endpoint.clone());
            town.host.publish(&first, &[udp(9000)]).unwrap();
            assert_eq!(reached(&town).as_deref(), Some("plain2"));
            town.host.unpublish(&first, &[udp(9000)]).unwrap();
            assert_eq!(reached(&town), None);
            town.host.publish(&second, &[udp(9000)]).unwrap();
            assert_eq!(reached(&town).as_deref(), Some("other2"));
            town.host.unpublish(&second, &[udp(9000)]).unwrap();
        }
    });
}
