//! Networks of other kinds than the bridge.

use std::time::Duration;
use tare_tests::eventually;
use tare_tests::lan::{From, Lan, NEIGHBOUR, NEIGHBOUR6, Namespace, program};

#[test]
fn none_is_loopback_and_host_is_the_hosts_own() {
    let net = Lan::new();
    let seen = net.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip route; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo self; ping -c 1 -W 1 192.0.2.2 2>&1 | grep -c unreachable"]);
    assert_eq!(seen, "lo\nself\n1");
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; wget -qO- http://192.0.2.2/page; hostname",
    ]);
    let name = program(&["hostname"]);
    assert!(seen.contains("up0") && seen.ends_with(&format!("from outside\n{}", name.trim())), "{seen}");
    assert!(net.run(&["run", "--rm", "--network", "nonsense", "busybox", "true"]).stderr.contains("nonsense"));
}

#[test]
fn a_container_may_live_in_anothers_network() {
    let net = Lan::new();
    net.web("web", &["-p", "8080:80", "--hostname", "shared"]);
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "container:web",
        "busybox",
        "sh",
        "-c",
        "wget -qO- http://127.0.0.1/page; hostname; grep shared /etc/hosts | wc -l; readlink /proc/self/ns/net",
    ]);
    let namespace = net.ok(&["exec", "web", "readlink", "/proc/self/ns/net"]);
    assert_eq!(seen, format!("web\nshared\n2\n{namespace}"));
    let out = net.run(&["run", "--rm", "--network", "container:nobody", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("nobody"), "{}", out.stderr);
    net.ok(&["stop", "-t", "0", "web"]);
    let out = net.run(&["run", "--rm", "--network", "container:web", "busybox", "true"]);
    assert!(
        out.code == 125 && out.stderr.contains("not running") && out.stderr.contains("tare start web"),
        "{}",
        out.stderr
    );
    let out = net.run(&["run", "--rm", "--network", "container:web", "--hostname", "mine", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("--hostname"), "{}", out.stderr);
}

#[test]
fn a_namespace_may_be_given_by_its_path() {
    let net = Lan::new();
    let other = Namespace::new("tare-path-");
    net.inside.join("link0", &["198.51.100.1/24"], &other, "wire0", &["198.51.100.2/24"]);
    let network = format!("ns:{}", other.path().display());
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        &network,
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ip -4 -o addr show dev wire0",
    ]);
    assert!(seen.contains("wire0") && seen.contains("198.51.100.2/24"), "{seen}");
    net.peer("web", &["--network", &network]);
    assert_eq!(net.whom(From::On(&net.inside), "tcp", "198.51.100.2", 80).map(|r| r.name).as_deref(), Some("web"));
    net.ok(&["rm", "-f", "web"]);
    assert!(other.ip("-o link show wire0").contains("wire0"), "the namespace is as it was");
    let refused = net.fails(&["run", "--rm", "--network", "ns:/nonexistent", "busybox", "true"], 125);
    assert!(refused.contains("/nonexistent"), "{refused}");
    let refused = net.run(&["run", "--rm", "--network", "ns:/etc/passwd", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("/etc/passwd"), "{}", refused.stderr);
    net.inside.ip("link delete link0");
}

/// The flags of a network that is the second LAN's, for both drivers that reach it.
fn second_lan<'a>(driver: &[&'a str], name: &'a str) -> Vec<&'a str> {
    let addresses = [
        "-o",
        "parent=lan0",
        "--subnet",
        "198.51.100.0/24",
        "--gateway",
        "198.51.100.1",
        "--ip-range",
        "198.51.100.128/25",
        "--subnet",
        "2001:db8:1::/64",
    ];
    [&["network", "create"], driver, &addresses, &[name]].concat()
}

/// A container that is a host of the second LAN: reached, and reaching, by its own addresses, without any translation.
fn is_a_host_of_the_second_lan(net: &Lan, neighbour: &Namespace, name: &str, network: &str) {
    let (four, six) = net.addresses(name, network);
    assert!(four.starts_with("198.51.100.") && six.starts_with("2001:db8:1:"), "{four} {six}");
    let _serving = neighbour.serve("neighbour", &["7000"]);
    for transport in ["tcp", "udp"] {
        for (own, theirs) in [(&four, NEIGHBOUR), (&six, NEIGHBOUR6)] {
            let reply = net.ask(From::Container(name), PATIENCE, &[(transport, theirs, 7000)]).remove(0);
            let reply = reply.unwrap_or_else(|| panic!("{name} {transport} {theirs}"));
            assert_eq!((reply.name.as_str(), &reply.peer), ("neighbour", own), "{transport}");
            let reply = net.ask(From::On(neighbour), PATIENCE, &[(transport, own, 80)]).remove(0);
            let reply = reply.unwrap_or_else(|| panic!("{transport} {own}"));
            assert_eq!((reply.name.as_str(), reply.peer.as_str()), (name, theirs), "{transport}");
        }
    }
}

/// Addresses of IPv6 are looked at for a second by those who did not ask for another way.
const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn macvlan_makes_a_container_a_host_of_another_lan() {
    let net = Lan::new();
    let neighbour = net.neighbour();
    net.ok(&second_lan(&["-d", "macvlan"], "wire"));
    net.peer("one", &["--network", "wire", "--ip", "198.51.100.200", "--mac-address", "02:00:00:00:00:77"]);
    net.peer("two", &["--network", "wire"]);
    is_a_host_of_the_second_lan(&net, &neighbour, "one", "wire");
    is_a_host_of_the_second_lan(&net, &neighbour, "two", "wire");
    assert_eq!(net.addresses("one", "wire").0, "198.51.100.200");
    let last: u8 = net.addresses("two", "wire").0.rsplit('.').next().unwrap().parse().unwrap();
    assert!(last >= 128, "within the range: {last}");
    assert!(neighbour.ip("neigh show").contains("198.51.100.200 dev eth0 lladdr 02:00:00:00:00:77"));
    let (two, _) = net.addresses("two", "wire");
    assert_eq!(net.who(From::Container("one"), "tcp", &two, 80).as_deref(), Some("two"), "in mode bridge");
    // Beside a bridge, too.
    net.ok(&["network", "connect", "bridge", "one"]);
    assert!(net.ok(&["exec", "one", "ls", "/sys/class/net"]).contains("eth1"));
    // The host's device has nothing of it, before and after.
    assert!(!net.inside.ip("-o link show lan0").contains("master"));
    net.ok(&["rm", "-f", "one", "two"]);
    assert_eq!(net.settled(), "");
    // In mode private its neighbours on the same device are not.
    net.ok(&["network", "rm", "wire"]);
    net.ok(&second_lan(&["-d", "macvlan", "-o", "macvlan_mode=private"], "wire"));
    net.peer("one", &["--network", "wire"]);
    net.peer("two", &["--network", "wire"]);
    let (two, _) = net.addresses("two", "wire");
    assert_eq!(net.who(From::Container("one"), "tcp", &two, 80), None);
    is_a_host_of_the_second_lan(&net, &neighbour, "one", "wire");
}

#[test]
fn a_macvlan_without_its_device_says_so() {
    let net = Lan::new();
    let refused =
        net.run(&["network", "create", "-d", "macvlan", "-o", "parent=none0", "--subnet", "198.51.100.0/24", "wire"]);
    let at_start = net.run(&["run", "--rm", "--network", "wire", "busybox", "true"]);
    assert!(at_start.code == 125, "{refused:?} {at_start:?}");
    assert!((refused.stderr + &at_start.stderr).contains("none0"));
    let published = {
        let _neighbour = net.neighbour();
        net.run(&["network", "rm", "wire"]);
        net.ok(&second_lan(&["-d", "macvlan"], "wire"));
        net.run(&["run", "--rm", "--network", "wire", "-p", "8080:80", "busybox", "true"])
    };
    assert!(published.code == 125 && published.stderr.contains("publish"), "{published:?}");
}

#[test]
fn a_bridge_with_a_device_of_the_host_joins_its_lan() {
    let net = Lan::new();
    let neighbour = net.neighbour();
    net.ok(&second_lan(&[], "joined"));
    net.peer("one", &["--network", "joined", "--ip", "198.51.100.200"]);
    net.peer("two", &["--network", "joined"]);
    assert!(net.inside.ip("-o link show lan0").contains("master"), "it is a port of the bridge");
    is_a_host_of_the_second_lan(&net, &neighbour, "one", "joined");
    is_a_host_of_the_second_lan(&net, &neighbour, "two", "joined");
    // Frames themselves pass, whatever they carry.
    let (_, six) = net.addresses("two", "joined");
    neighbour.ok(&["ping", "-c", "1", "-W", "3", &six]);
    net.ok(&["exec", "two", "arping", "-c", "1", "-w", "3", "-I", "eth0", NEIGHBOUR]);
    net.ok(&["rm", "-f", "one"]);
    assert!(net.inside.ip("-o link show lan0").contains("master"), "the other one needs it");
    net.ok(&["rm", "-f", "two"]);
    assert_eq!(net.settled(), "");
    let device = net.inside.ip("-o link show lan0");
    assert!(!device.contains("master") && device.contains("UP"), "it is as it was: {device}");
}

/// What returns from a container that holds a device of the host: the same as went in.
#[test]
fn a_device_of_the_host_is_lent_and_comes_back() {
    let net = Lan::new();
    let neighbour = net.neighbour();
    net.inside.ip("address add 198.51.100.77/24 dev lan0");
    net.inside.ip("link set lan0 mtu 1400");
    net.ok(&["network", "create", "-d", "phys", "-o", "parent=lan0", "wire"]);
    let state = || {
        net.inside
            .on(&[
                "sh",
                "-c",
                "ip -o link show lan0 | sed 's/^[0-9]*: //'; ip -4 -o address show dev lan0 | grep -o 'inet [^ ]*'",
            ])
            .stdout
    };
    let before = state();
    for end in ["exits", "stop", "kill", "rm"] {
        let flags = [
            "run",
            "-d",
            "--name",
            "one",
            "--cap-add",
            "NET_ADMIN",
            "--network",
            "wire:interface_name=wan0",
            "busybox",
        ];
        let script = if end == "exits" {
            "ip link show wan0 && sleep 0.3"
        } else {
            "ip link set wan0 down; ip addr flush dev wan0; sleep 1000"
        };
        net.ok(&[&flags[..], &["sh", "-c", script]].concat());
        match end {
            "exits" => {
                assert_eq!(net.inside.on(&["ip", "link", "show", "lan0"]).code, 1, "it is inside");
                assert_eq!(net.ok(&["wait", "one"]), "0");
            }
            "stop" => drop(net.ok(&["stop", "-t", "0", "one"])),
            "kill" => drop(net.ok(&["kill", "one"])),
            _ => drop(net.ok(&["rm", "-f", "one"])),
        }
        assert!(eventually(Duration::from_secs(5), || state() == before), "{end}: {before} {}", state());
        net.run(&["rm", "-f", "one"]);
    }
    neighbour.ok(&["ping", "-c", "1", "-W", "3", "198.51.100.77"]);
    // One at a time.
    net.ok(&["run", "-d", "--name", "one", "--network", "wire", "busybox", "sleep", "1000"]);
    let refused = net.run(&["run", "--rm", "--network", "wire", "busybox", "true"]);
    assert!(
        refused.code == 125 && refused.stderr.contains("lan0") && refused.stderr.contains("one"),
        "{}",
        refused.stderr
    );
}
