//! What a container has: addresses, routes, a way out, the files of /etc; and what is left of it.

use std::time::Duration;
use tare_tests::lan::{From, HOST, Lan, fetch, program};
use tare_tests::{Tree, command, eventually};

#[test]
fn a_container_has_an_address_a_route_and_a_way_out() {
    let net = Lan::new();
    let script = "ip -4 -o addr show dev eth0; ip route; ip -o link show; cat /sys/class/net/eth0/mtu; wget -qO- http://192.0.2.2/page";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(seen.ends_with("from outside"), "{seen}");
    assert!(seen.contains("default via 10."), "{seen}");
    assert_eq!(seen.matches("eth0@").count(), 1, "{seen}");
    // Outside knows no route to the container: it has seen the host's address.
    assert!(
        net.visitors().contains(&format!("[::ffff:{HOST}]")) || net.visitors().contains(HOST),
        "{}",
        net.visitors()
    );
    // Two containers reach each other by address, and the host reaches both.
    net.web("one", &[]);
    net.web("two", &[]);
    let (one, two) = (net.address("one"), net.address("two"));
    assert_ne!(one, two);
    assert_eq!(net.ok(&["exec", "two", "wget", "-qO-", &format!("http://{one}/page")]), "one");
    assert_eq!(fetch(&net.inside, &two).as_deref(), Some("two"));
    assert_eq!(fetch(&net.outside, &two), None, "nothing that is not published is reached from outside");
    // Its own address, and the bridge's, as inspect gives them.
    let settings = net.ok(&[
        "inspect",
        "-f",
        "{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.MacAddress}}",
        "one",
    ]);
    let fields: Vec<&str> = settings.split(' ').collect();
    let addresses = net.ok(&["exec", "one", "ip", "addr", "show", "dev", "eth0"]);
    assert!(
        addresses.contains(&format!("{one}/{}", fields[1])) && addresses.contains(fields[2]),
        "{settings} {addresses}"
    );
    assert!(net.ok(&["exec", "one", "ip", "route"]).contains(&format!("default via {}", fields[0])));
    assert!(net.inside.on(&["ip", "addr"]).stdout.contains(&format!("{}/", fields[0])));
}

/// What `apt-get update` does, without Debian's mirrors: names, redirects of the resolver aside, and a larger file.
#[test]
fn files_are_fetched_from_outside_whole() {
    let net = Lan::new();
    let file = net.host.scratch("site/large");
    let bytes = command("head").args(["-c", "5000000", "/dev/urandom"]).output().unwrap().stdout;
    std::fs::write(&file, &bytes).unwrap();
    let sum = program(&["sha256sum", &file.display().to_string()]);
    let script = "wget -qO /large http://192.0.2.2/large && sha256sum /large; wget -qO- http://192.0.2.2/missing 2>&1 | grep -c 404";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(seen, format!("{}  /large\n1", &sum[..64]));
}

#[test]
fn the_files_of_the_network_say_what_is_so() {
    let mut net = Lan::new();
    net.resolver("# comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\noptions edns0\n");
    let script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; ip -4 -o addr show dev eth0";
    let out = net.run(&["run", "--rm", "--hostname", "me", "busybox", "sh", "-c", script]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let address = out.stdout.rsplit("inet ").next().unwrap().split('/').next().unwrap();
    assert!(
        out.stdout.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        "{}",
        out.stdout
    );
    let after = "nameserver 127.0.0.11\nsearch example.org\noptions edns0 ndots:0\nme\n";
    assert!(out.stdout.contains(&format!("\n{address}\tme\n")) && out.stdout.contains(after), "{}", out.stdout);
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--hostname",
        "me",
        "busybox",
        "sh",
        "-c",
        "grep me /etc/hosts; ping -c 1 -W 1 me >/dev/null && echo resolves",
    ]);
    assert_eq!(seen, "127.0.0.1\tme\nresolves");
    let hosts = net.ok(&["run", "--rm", "--network", "host", "busybox", "cat", "/etc/hosts"]);
    assert_eq!(hosts, std::fs::read_to_string("/etc/hosts").unwrap().trim_end());
}

#[test]
fn names_with_a_configuration_of_their_own_are_kept() {
    // An image that brings its own /etc/resolv.conf as a mount keeps it.
    let net = Lan::new();
    let tree = Tree::new();
    tree.file("resolv.conf", "nameserver 198.51.100.1\n");
    let mount = format!("{}:/etc/resolv.conf:ro", tree.path("resolv.conf").display());
    assert_eq!(net.ok(&["run", "--rm", "-v", &mount, "busybox", "cat", "/etc/resolv.conf"]), "nameserver 198.51.100.1");
}

#[test]
fn the_last_container_takes_the_bridge_and_the_rules_along() {
    let net = Lan::new();
    let names = net.host.names().clone();
    let exists = || {
        let bridge = net.inside.on(&["ip", "link", "show", &names.bridge]).code == 0;
        let table = net.inside.on(&["nft", "list", "tables"]).stdout.contains(&names.instance);
        (bridge, table)
    };
    assert_eq!(exists(), (false, false));
    net.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]);
    net.ok(&["run", "-d", "--name", "two", "-p", "8080:80", "busybox", "sleep", "1000"]);
    assert_eq!(exists(), (true, true));
    net.ok(&["rm", "-f", "one"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(exists(), (true, true), "the other one needs them");
    net.ok(&["kill", "two"]);
    assert!(eventually(Duration::from_secs(5), || exists() == (false, false)), "{:?}", exists());
    // An address is used again once it is free, and never twice at once.
    for i in 0..3 {
        net.ok(&["run", "-d", "--name", &format!("box{i}"), "busybox", "sleep", "1000"]);
    }
    let mut addresses: Vec<String> = (0..3).map(|i| net.address(&format!("box{i}"))).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
}

/// The subnets of a network: IPv4, IPv6.
fn subnets(net: &Lan, network: &str) -> (String, String) {
    let seen = net.inspect(&["network", "inspect", network]);
    let list = seen["IPAM"]["Config"].as_array().unwrap().clone();
    let of = |mark: char| {
        list.iter().filter_map(|c| c["Subnet"].as_str()).find(|s| s.contains(mark)).unwrap_or_default().to_owned()
    };
    (of('.'), of(':'))
}

#[test]
fn both_families_are_there_without_being_asked_for() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "blue"]);
    net.ok(&["network", "create", "--ipv6=false", "four"]);
    net.ok(&["network", "create", "--ipv4=false", "six"]);
    net.peer("one", &[]);
    net.peer("two", &["--network", "red"]);
    net.peer("three", &["--network", "four"]);
    net.peer("sixth", &["--network", "six"]);
    let mut prefixes = Vec::new();
    for (name, network) in [("one", "bridge"), ("two", "red")] {
        let (_, six) = subnets(&net, network);
        assert!(six.starts_with("fd") && six.ends_with("/64"), "{six}");
        let (four, address) = net.addresses(name, network);
        let seen = net.ok(&["exec", name, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"]);
        assert!(seen.contains(&format!("{address}/64")) && !seen.contains("tentative"), "{seen}");
        let routes = net.ok(&["exec", name, "ip", "-6", "route"]);
        assert!(routes.contains("default via fd"), "{routes}");
        // At once: nobody waits for neighbours or for the address to be found free.
        let script =
            "ping -c 1 -W 1 192.0.2.2 >/dev/null && echo four; ping -c 1 -W 1 2001:db8::2 >/dev/null && echo six; true";
        let at_once = net.ok(&["run", "--rm", "--network", network, "busybox", "sh", "-c", script]);
        assert_eq!(at_once, "four\nsix");
        assert_eq!(net.who(From::On(&net.inside), "tcp", &four, 80).as_deref(), Some(name));
        prefixes.push(six);
    }
    prefixes.push(subnets(&net, "blue").1);
    let site = |prefix: &String| prefix.split(':').take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(site(&prefixes[0]), site(&prefixes[1]), "one prefix for all networks of a root");
    assert_eq!(site(&prefixes[0]), site(&prefixes[2]));
    assert_ne!(prefixes[1], prefixes[2]);
    assert_eq!(subnets(&net, "four").1, "");
    assert_eq!(net.ok(&["exec", "three", "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"]), "");
    // One family alone is a way out as well.
    assert_eq!(subnets(&net, "six").0, "");
    assert_eq!(net.ok(&["exec", "sixth", "ip", "-4", "-o", "addr", "show", "dev", "eth0"]), "");
    net.ok(&["exec", "sixth", "ping", "-c", "1", "-W", "1", "2001:db8::2"]);
    // Made once: the same after everything is gone.
    net.ok(&["rm", "-f", "one", "two", "three", "sixth"]);
    assert_eq!(net.settled(), "");
    net.peer("one", &[]);
    assert_eq!(subnets(&net, "bridge").1, prefixes[0]);
}

#[test]
fn addresses_gateways_and_sizes_are_those_asked_for() {
    let net = Lan::new();
    let create = [
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--gateway",
        "10.77.0.254",
        "--ip-range",
        "10.77.0.64/29",
        "--aux-address",
        "router=10.77.0.65",
        "--subnet",
        "fd77:1::/64",
        "--gateway",
        "fd77:1::fe",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "red",
    ];
    net.ok(&create);
    let script =
        "ip -4 -o addr show dev eth0; ip route; ip -6 route; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address";
    let flags = ["--ip", "10.77.0.9", "--ip6", "fd77:1::9", "--mac-address", "02:00:00:00:00:09"];
    let seen = net.ok(&[&["run", "--rm", "--network", "red"], &flags[..], &["busybox", "sh", "-c", script]].concat());
    for part in ["10.77.0.9/24", "default via 10.77.0.254", "default via fd77:1::fe", "\n1400\n02:00:00:00:00:09"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // The range, without what is reserved, then nothing is left of it.
    let mut got = Vec::new();
    for i in 0..7 {
        net.ok(&["run", "-d", "--name", &format!("box{i}"), "--network", "red", "busybox", "sleep", "1000"]);
        got.push(net.addresses(&format!("box{i}"), "red").0);
    }
    got.sort();
    let expected: Vec<String> = [64, 66, 67, 68, 69, 70, 71].iter().map(|n| format!("10.77.0.{n}")).collect();
    assert_eq!(got, expected);
    let refused = net.fails(&["run", "--rm", "--network", "red", "busybox", "true"], 125);
    assert!(refused.contains("10.77.0.64/29"), "{refused}");
    // Bridge and host end have the size as well.
    let links = net.inside.ip("-o link show");
    assert!(
        links.lines().filter(|l| l.contains(" tn-") || l.contains("master tn-")).all(|l| l.contains("mtu 1400")),
        "{links}"
    );
    assert!(net.inside.ip("-4 -o address").contains("10.77.0.254/24"));
}

#[test]
fn addresses_that_cannot_be_had_are_refused_and_the_reason_named() {
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/24", "red"]);
    net.ok(&["run", "-d", "--name", "holder", "--network", "red", "--ip", "10.77.0.9", "busybox", "sleep", "1000"]);
    for (flags, reason) in [
        (&["--ip", "10.77.0.9"][..], "holder"),
        (&["--ip", "10.78.0.9"], "10.77.0.0/24"),
        (&["--ip", "10.77.0.1"], "gateway"),
        (&["--ip", "10.77.0.0"], "10.77.0.0"),
        (&["--ip", "10.77.0.255"], "10.77.0.255"),
        (&["--ip", "nonsense"], "nonsense"),
        (&["--ip6", "fd00::9"], "fd00::9"),
        (&["--mac-address", "01:00:00:00:00:09"], "01:00:00:00:00:09"),
    ] {
        let out = net.run(&[&["run", "--rm", "--network", "red"], flags, &["busybox", "true"]].concat());
        assert!(out.code == 125 && out.stderr.contains(reason), "{flags:?}: {}", out.stderr);
    }
    // A stopped container keeps what it asked for.
    net.ok(&["stop", "-t", "0", "holder"]);
    let refused = net.fails(&["run", "--rm", "--network", "red", "--ip", "10.77.0.9", "busybox", "true"], 125);
    assert!(refused.contains("holder"), "{refused}");
    net.ok(&["start", "holder"]);
    assert_eq!(net.addresses("holder", "red").0, "10.77.0.9");
    net.ok(&["rm", "-f", "holder"]);
    net.ok(&["run", "--rm", "--network", "red", "--ip", "10.77.0.9", "busybox", "true"]);
}

#[test]
fn subnets_that_conflict_are_refused_and_the_conflict_named() {
    let net = Lan::new();
    net.inside.ip("route add 10.200.0.0/16 via 192.0.2.2");
    net.ok(&["network", "create", "--subnet", "10.77.0.0/24", "red"]);
    for (subnet, reason) in [
        ("192.0.2.0/25", "up0"),
        ("192.0.0.0/16", "192.0.2.0/24"),
        ("10.200.7.0/24", "10.200.0.0/16"),
        ("2001:db8::/80", "up0"),
        ("10.77.0.128/25", "red"),
        ("10.0.0.0/8", "10."),
        ("10.78.0.1/40", "10.78.0.1/40"),
        ("224.0.0.0/24", "224.0.0.0/24"),
        ("127.5.0.0/16", "127.5.0.0/16"),
    ] {
        let out = net.run(&["network", "create", "--subnet", subnet, "bad"]);
        assert!(out.code != 0 && out.stderr.contains(reason), "{subnet}: {} {}", out.code, out.stderr);
        assert_eq!(net.run(&["network", "exists", "bad"]).code, 1, "{subnet}");
    }
    // What is chosen avoids all of that: half of what is usually chosen from is somebody's here.
    net.inside.ip("route add 10.96.0.0/12 via 192.0.2.2");
    for name in ["one", "two", "three"] {
        net.ok(&["network", "create", name]);
        let (four, _) = subnets(&net, name);
        let parts: Vec<u8> = four.split(['.', '/']).take(3).map(|p| p.parse().unwrap()).collect();
        assert!(!(parts[0] == 10 && (parts[1] == 77 || parts[1] == 200 || (96..112).contains(&parts[1]))), "{four}");
    }
    assert_ne!(subnets(&net, "one"), subnets(&net, "two"));
    // A route that comes later does not take the network away, but a start says what it hides.
    net.peer("web", &["--network", "red"]);
}

#[test]
fn an_address_is_kept_over_everything_but_removal() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    for name in ["one", "two"] {
        net.peer(name, &["--network", "red"]);
    }
    let before = net.addresses("one", "red");
    net.ok(&["kill", "one"]);
    net.ok(&["wait", "one"]);
    net.peer("three", &["--network", "red"]);
    assert_ne!(net.addresses("three", "red").0, before.0);
    net.ok(&["start", "one"]);
    assert_eq!(net.addresses("one", "red"), before);
    net.ok(&["rename", "one", "other"]);
    assert_eq!(net.addresses("other", "red"), before);
}
