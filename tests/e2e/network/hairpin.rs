//! A container's published port, from containers: by the host's address, from others, from its neighbours, from itself.

use std::time::Duration;
use tare_tests::lan::{From, HOST, HOST6, Lan, Target};

/// The host shows packets that stay on a bridge to its packet filter, or not; both are in use.
fn from_containers(filtered: &str) {
    let net = Lan::new();
    for family in ["iptables", "ip6tables"] {
        net.inside.sysctl(&format!("net.bridge.bridge-nf-call-{family}"), filtered);
    }
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "quiet"]);
    net.peer("web", &["-p", "8001:80", "-p", "8001:80/udp"]);
    net.peer("red", &["--network", "red", "-p", "8002:80", "-p", "8002:80/udp"]);
    net.peer("quiet", &["--network", "quiet", "-p", "8003:80", "-p", "8003:80/udp"]);
    for (name, network) in [("web2", "bridge"), ("red2", "red"), ("quiet2", "quiet")] {
        net.peer(name, &["--network", network]);
    }
    let mut targets: Vec<Target<'_>> = Vec::new();
    for port in [8001, 8002, 8003] {
        for address in [HOST, HOST6] {
            targets.extend([("tcp", address, port), ("udp", address, port)]);
        }
    }
    let mut wrong = Vec::new();
    for from in ["web", "web2", "red", "red2", "quiet", "quiet2"] {
        let answers = net.ask(From::Container(from), Duration::from_secs(1), &targets);
        let names = ["web", "red", "quiet"].into_iter().flat_map(|n| [n; 4]);
        for ((target, answer), name) in targets.iter().zip(answers).zip(names) {
            // Who may not talk to each other on their bridge may not do so by way of the host either.
            let expected = (!from.starts_with("quiet") || name != "quiet").then_some(name);
            if answer.as_ref().map(|a| a.name.as_str()) != expected {
                wrong.push(format!("{from} asks {target:?}: {answer:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "bridge-nf-call-iptables={filtered}:\n{}", wrong.join("\n"));
    // By the gateway's address as well: it is one of the host's.
    let gateway = net.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
    assert_eq!(net.who(From::Container("web"), "tcp", &gateway, 8001).as_deref(), Some("web"));
    assert_eq!(net.who(From::Container("web2"), "tcp", &gateway, 8001).as_deref(), Some("web"));
    // Directly, its neighbours see who asks.
    let (own, _) = net.addresses("web2", "");
    let (web, _) = net.addresses("web", "");
    assert_eq!(net.whom(From::Container("web2"), "tcp", &web, 80).expect("a neighbour").peer, own);
}

#[test]
fn from_containers_when_bridged_packets_are_filtered() {
    from_containers("1");
}

#[test]
fn from_containers_when_bridged_packets_are_not_filtered() {
    from_containers("0");
}
