//! Who may reach whom.

use std::time::Duration;
use tare_tests::lan::{From, HOST, HOST6, Lan, OUTSIDE, OUTSIDE6, Target, fetch};
use tare_tests::{Host, Running, eventually};

#[test]
fn two_roots_never_meet() {
    let net = Lan::new();
    let other = Host::new();
    other.busybox();
    net.web("web", &["-p", "8080:80"]);
    let started = net.run_for(
        &other,
        &["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo other > /page; exec httpd -f -p 80 -h /"],
    );
    assert_eq!(started.code, 0, "{}", started.stderr);
    let theirs =
        net.run_for(&other, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).stdout.trim().to_owned();
    let ours = net.address("web");
    assert_ne!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0, "two networks");
    assert_ne!(net.host.names().bridge, other.names().bridge);
    assert!(eventually(Duration::from_secs(5), || fetch(&net.inside, &theirs).as_deref() == Some("other")));
    // Neither reaches the other's containers past what is published.
    let across = net.run(&["exec", "web", "wget", "-qO-", "-T", "2", &format!("http://{theirs}/page")]);
    assert_ne!(across.code, 0, "{}", across.stdout);
    assert_eq!(net.ok(&["ps", "-q"]).lines().count(), 1);
    // The port is taken for both.
    let out = net.run_for(&other, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("in use by"), "{}", out.stderr);
    // When one goes, the other stays.
    net.run_for(&other, &["rm", "-f", "web"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    assert_eq!(net.ok(&["exec", "web", "wget", "-qO-", "http://192.0.2.2/page"]), "from outside");
}

/// Where somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// On a bridge of this name: the default one's is empty.
    Bridge(&'static str),
    /// On the host's own network.
    Host,
    Outside,
    /// In a namespace with nothing but a loopback device.
    None,
}

const BRIDGES: [&str; 6] = ["", "red", "blue", "inner", "alone", "quiet"];

/// Whether one is to reach another's own address.
fn reaches(from: At, to: At, itself: bool) -> bool {
    match (from, to) {
        _ if itself => true,
        (At::None, _) | (_, At::None) | (At::Outside, At::Bridge(_)) => false,
        (At::Bridge(a), At::Bridge(b)) => a == b && a != "quiet",
        (At::Bridge(a), At::Host | At::Outside) => a != "inner",
        (At::Host | At::Outside, _) => true,
    }
}

/// Whether one is to reach what a container of `red` has published.
fn reaches_published(from: At) -> bool {
    !matches!(from, At::None | At::Bridge("inner" | "alone"))
}

struct Somebody {
    name: String,
    at: At,
    addresses: [String; 2],
}

/// Two containers on each bridge, one on the host's network, one on none, and the outside.
fn everybody(net: &Lan) -> Vec<Somebody> {
    for (name, flag) in [
        ("red", ""),
        ("blue", ""),
        ("inner", "--internal"),
        ("alone", "--opt=isolate=true"),
        ("quiet", "--opt=com.docker.network.bridge.enable_icc=false"),
    ] {
        let words = ["network", "create", flag, name];
        net.ok(&words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>());
    }
    let mut all = Vec::new();
    for bridge in BRIDGES {
        for i in 1..=2 {
            let name = format!("{}{i}", if bridge.is_empty() { "default" } else { bridge });
            let mut flags = if bridge.is_empty() { vec![] } else { vec!["--network", bridge] };
            if name == "red1" {
                flags.extend(["-p", "7001:7000", "-p", "7001:7000/udp"]);
            }
            net.peer_on(&name, &flags, &["7000"]);
            let (four, six) = net.addresses(&name, bridge);
            all.push(Somebody { name, at: At::Bridge(bridge), addresses: [four, six] });
        }
    }
    net.peer_on("host", &["--network", "host"], &["7000"]);
    all.push(Somebody { name: "host".into(), at: At::Host, addresses: [HOST, HOST6].map(str::to_owned) });
    net.peer_on("none", &["--network", "none"], &["7000"]);
    all.push(Somebody { name: "none".into(), at: At::None, addresses: ["127.0.0.1", "::1"].map(str::to_owned) });
    all.push(Somebody { name: "outside".into(), at: At::Outside, addresses: [OUTSIDE, OUTSIDE6].map(str::to_owned) });
    all
}

#[test]
fn every_pair_reaches_whom_it_is_to_reach() {
    let net = Lan::new();
    let _outside = net.outside.serve("outside", &["7000"]);
    let all = everybody(&net);
    let mut wrong = Vec::new();
    for from in &all {
        let mut targets: Vec<Target<'_>> = Vec::new();
        let mut expected = Vec::new();
        for to in all.iter().filter(|to| to.at != At::None || to.name == from.name) {
            for address in &to.addresses {
                for transport in ["tcp", "udp"] {
                    targets.push((transport, address, 7000));
                    expected.push(reaches(from.at, to.at, to.name == from.name).then_some(to.name.as_str()));
                }
            }
        }
        for address in [HOST, HOST6] {
            for transport in ["tcp", "udp"] {
                targets.push((transport, address, 7001));
                expected.push(reaches_published(from.at).then_some("red1"));
            }
        }
        let who = if from.at == At::Outside { From::On(&net.outside) } else { From::Container(&from.name) };
        let answers = net.ask(who, Duration::from_millis(700), &targets);
        for ((target, answer), expected) in targets.iter().zip(answers).zip(expected) {
            let answered = answer.map(|a| a.name);
            if answered.as_deref() != expected {
                wrong.push(format!("{} asks {target:?}: {answered:?}, not {expected:?}", from.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_internal_network_has_its_bridge_and_nothing_else() {
    let net = Lan::new();
    net.ok(&["network", "create", "--internal", "inner"]);
    let refused = net.run(&["run", "--rm", "--network", "inner", "-p", "8080:80", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("publish"), "{}", refused.stderr);
    net.peer("one", &["--network", "inner"]);
    let routes = net.ok(&["exec", "one", "sh", "-c", "ip route; ip -6 route"]);
    assert!(!routes.contains("default"), "{routes}");
    // The host's own address on the bridge is in reach, as is the container from the host.
    let gateway = net.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "inner"]);
    let _serving = net.inside.serve("host", &["7000"]);
    let bridge = net.inside.ok(&["ip", "-4", "-o", "address"]);
    let own =
        bridge.lines().find(|l| l.contains(" tn-")).and_then(|l| l.split_whitespace().nth(3)).expect("its bridge");
    let own = own.split('/').next().unwrap();
    assert!(gateway.is_empty() || gateway == own || gateway.contains("no value"), "{gateway} {own}");
    assert_eq!(net.who(From::Container("one"), "tcp", own, 7000).as_deref(), Some("host"));
    let (four, six) = net.addresses("one", "inner");
    for address in [&four, &six] {
        assert_eq!(net.who(From::On(&net.inside), "tcp", address, 80).as_deref(), Some("one"), "{address}");
        assert_eq!(net.who(From::On(&net.outside), "tcp", address, 80), None, "{address}");
    }
    // A route of the container's own making is of no use.
    net.ok(&[
        "run",
        "--rm",
        "--cap-add",
        "NET_ADMIN",
        "--network",
        "container:one",
        "busybox",
        "ip",
        "route",
        "add",
        "default",
        "via",
        own,
    ]);
    assert_eq!(net.who(From::Container("one"), "tcp", OUTSIDE, 80), None);
}

#[test]
fn a_container_sends_from_its_own_addresses_only() {
    let net = Lan::new();
    let _serving = net.outside.serve("outside", &["7000"]);
    net.peer("one", &["--cap-add", "NET_ADMIN"]);
    let seen = net.whom(From::Container("one"), "udp", OUTSIDE, 7000).expect("it has a way out");
    assert_eq!(seen.peer, HOST);
    // A foreign source: what would otherwise pass for somebody else's.
    net.ok(&["exec", "one", "sh", "-c", "ip addr add 203.0.113.77/32 dev eth0; ip route replace 192.0.2.0/24 dev eth0 via $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') src 203.0.113.77"]);
    assert_eq!(net.whom(From::Container("one"), "udp", OUTSIDE, 7000), None);
    // Nor does it reach what listens on the host's loopback device.
    let _local =
        Running::start(&mut net.inside.command(&["busybox", "nc", "-l", "-p", "7001", "-s", "127.0.0.1"]), None);
    net.ok(&["exec", "one", "sh", "-c", "ip route add 127.0.0.9 via $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); ip link set lo down; true"]);
    assert_eq!(net.who(From::Container("one"), "tcp", "127.0.0.9", 7001), None);
}
