//! What others take away comes back, and what is interrupted in the midst leaves no half.

use std::time::{Duration, Instant};
use tare_tests::lan::{From, HOST, HOST6, Lan, PARENT, fetch};
use tare_tests::{Running, eventually};

/// Runs a command of which a step is to kill its process; in a container, that step is met by its supervisor.
fn killed(net: &Lan, step: &str, args: &[&str]) {
    let out = Running::start(net.command(args).env("TARE_FAULT", format!("{step}:kill")), None).wait();
    assert_ne!(out.code, 0, "{step}: the fault was not met");
}

fn status(net: &Lan, container: &str) -> serde_json::Value {
    let id = net.ok(&["inspect", "-f", "{{.Id}}", container]);
    let path = net.host.run_dir().join("containers").join(id).join("status.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The name of a network's bridge.
fn bridge(net: &Lan, container: &str) -> String {
    status(net, container)["bridges"][0]["bridge"].as_str().expect("a bridge").to_owned()
}

#[test]
fn nothing_of_what_is_changed_at_the_same_time_is_lost() {
    let net = Lan::new();
    net.ok(&["network", "create", "back"]);
    net.peer("web", &["-p", "8080:80"]);
    for round in 0..4 {
        let id = net.ok(&["inspect", "-f", "{{.Id}}", "web"]);
        let (shares, port) = (format!("{}", 512 + round), format!("{}:80", 8081 + round));
        let name = format!("web{round}");
        std::thread::scope(|scope| {
            scope.spawn(|| net.ok(&["update", "--cpu-shares", &shares, &id]));
            scope.spawn(|| net.ok(&["rename", &id, &name]));
            scope.spawn(|| net.ok(&["port", "add", &id, &port]));
            scope.spawn(|| net.ok(&["network", if round % 2 == 0 { "connect" } else { "disconnect" }, "back", &id]));
        });
        let seen = net.inspect(&["inspect", &name]);
        assert_eq!(seen["HostConfig"]["CpuShares"].to_string(), shares);
        assert_eq!(seen["NetworkSettings"]["Networks"]["back"].is_object(), round % 2 == 0, "{seen}");
        net.ok(&["rename", &name, "web"]);
    }
    // Also of what the next start reads.
    net.ok(&["stop", "-t", "0", "web"]);
    net.ok(&["start", "web"]);
    let listed = net.ok(&["port", "web"]);
    for port in 8080..8085 {
        assert!(listed.contains(&format!("0.0.0.0:{port}")), "{port}: {listed}");
    }
    assert_eq!(net.inspect(&["inspect", "web"])["HostConfig"]["CpuShares"], 515);
}

#[test]
fn a_port_that_only_one_side_knows_of_is_none() {
    let net = Lan::new();
    net.web("web", &["-p", "8080:80", "-p", "8082:80"]);
    killed(&net, "published-live", &["port", "add", "web", "8081:80"]);
    net.ok(&["inspect", "web"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8081")), None);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    let other = net.inside.on(&["timeout", "0.2", "busybox", "nc", "-l", "-p", "8081"]);
    assert_eq!(other.code, 124, "the host's port is free: {}", other.stderr);
    killed(&net, "withdrawn-live", &["port", "rm", "web", "8080:80"]);
    net.ok(&["inspect", "web"]);
    net.ok(&["stop", "-t", "0", "web"]);
    net.ok(&["start", "web"]);
    let listed = net.ok(&["port", "web"]);
    assert!(listed.contains("8082") && !listed.contains("8080"), "withdrawn is withdrawn: {listed}");
}

#[test]
fn a_supervisor_that_dies_in_the_midst_of_a_change_leaves_nothing() {
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/30", "tiny"]);
    let connect: &[&str] = &["network", "connect", "tiny", "web"];
    let add: &[&str] = &["port", "add", "web", "8081:80"];
    for (step, before, change) in [
        ("connect-intent", None, connect),
        ("connected", None, connect),
        ("disconnect", Some(connect), &["network", "disconnect", "tiny", "web"]),
        ("publish-intent", None, add),
        ("withdrawn", Some(add), &["port", "rm", "web", "8081:80"]),
    ] {
        // The supervisor has from its start what makes it die.
        let talk = format!("{}:/bin/talk:ro", tare_tests::lan::talk().display());
        let flags = ["run", "-d", "--name", "web", "-p", "8080:80", "-v", &talk];
        let line = [&flags[..], &["busybox", "talk", "serve", "web", "80"]].concat();
        let started = Running::start(net.command(&line).env("TARE_FAULT", format!("{step}:kill")), None).wait();
        assert_eq!(started.code, 0, "{step}: {}", started.stderr);
        before.into_iter().for_each(|line| drop(net.ok(line)));
        net.run(change);
        let ended = || net.ok(&["inspect", "-f", "{{.State.Status}}", "web"]) == "exited";
        assert!(eventually(Duration::from_secs(5), ended), "{step}: the fault was not met");
        assert_eq!(net.settled(), "", "{step}");
        let places = net.inspect(&["network", "inspect", "tiny"])["Containers"].as_object().map_or(0, |c| c.len());
        let told = net.inspect(&["inspect", "web"])["NetworkSettings"]["Networks"]["tiny"].is_object();
        assert!(places == 0 && !told, "{step}: {places} {told}");
        // It can be started again, and does what its description says.
        net.ok(&["start", "web"]);
        let up = || net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref() == Some("web");
        assert!(eventually(Duration::from_secs(5), up), "{step}");
        assert!(!net.ok(&["port", "web"]).contains("8081"), "{step}");
        net.ok(&["rm", "-f", "web"]);
        assert_eq!(net.settled(), "", "{step}");
    }
}

#[test]
fn the_routes_of_a_network_reach_its_containers() {
    let net = Lan::new();
    let made = ["--subnet", "10.77.0.0/24", "--route", "10.200.0.0/16,10.77.0.9,50"];
    net.ok(&[&["network", "create"][..], &made, &["red"]].concat());
    net.ok(&["run", "-d", "--name", "one", "--network", "red", "busybox", "sleep", "1000"]);
    net.ok(&["run", "-d", "--name", "two", "busybox", "sleep", "1000"]);
    net.ok(&["network", "connect", "red", "two"]);
    for (container, device) in [("one", "eth0"), ("two", "eth1")] {
        let routes = net.ok(&["exec", container, "ip", "route"]);
        let route = routes.lines().find(|l| l.starts_with("10.200.0.0/16")).unwrap_or_else(|| panic!("{routes}"));
        assert!(route.contains(&format!("via 10.77.0.9 dev {device}")) && route.contains("metric 50"), "{route}");
    }
}

#[test]
fn a_bridge_that_somebody_deleted_is_made_again_with_its_containers_on_it() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.peer("one", &["--network", "red", "-p", "8080:80"]);
    net.peer("two", &["--network", "red"]);
    let (two, _) = net.addresses("two", "red");
    net.inside.ok(&["ip", "link", "delete", &bridge(&net, "one")]);
    assert_eq!(net.who(From::Container("one"), "tcp", &two, 80), None);
    net.ok(&["network", "reload"]);
    // What asked in vain meanwhile has neighbours that it holds for unreachable, and asks again after a second.
    let reaches = |from: From<'_>, to: &str, port, whom: &str| {
        eventually(Duration::from_secs(10), || net.who(from, "tcp", to, port).as_deref() == Some(whom))
    };
    assert!(reaches(From::Container("one"), &two, 80, "two"));
    assert!(reaches(From::On(&net.outside), HOST, 8080, "one"));
}

#[test]
fn an_element_that_somebody_deletes_comes_back() {
    let net = Lan::new();
    net.peer("web", &["-p", "8080:80"]);
    let table = net.host.names().instance.clone();
    let reached = || net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref() == Some("web");
    assert!(reached());
    let list = || net.inside.ok(&["nft", "-s", "list", "table", "inet", &table]);
    let before = list();
    for (kind, name) in [("map", "published"), ("set", "networks")] {
        net.inside.ok(&["nft", "flush", kind, "inet", &table, name]);
        assert!(eventually(Duration::from_secs(1), || list() == before), "{name}: {before}\n{}", list());
        assert!(reached(), "{name}");
    }
}

#[test]
fn a_hundred_containers_are_healed_within_a_second() {
    const COUNT: usize = 100;
    let net = Lan::new();
    let start = |i: usize| {
        let (name, port) = (format!("box{i}"), format!("{}:80", 20_000 + i));
        net.ok(&["run", "-d", "--name", &name, "-p", &port, "busybox", "sleep", "1000"]);
    };
    std::thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || (first..COUNT).step_by(4).for_each(start));
        }
    });
    let table = net.host.names().instance.clone();
    let list = || net.inside.on(&["nft", "-s", "list", "table", "inet", &table]).stdout;
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split([' ', '\n', '\t', ',']).map(str::to_owned).collect();
        words.sort();
        words
    };
    let before = sorted(&list());
    for _ in 0..2 {
        net.inside.ok(&["nft", "flush", "ruleset"]);
        let begin = Instant::now();
        assert!(eventually(Duration::from_secs(10), || sorted(&list()) == before), "{}", list());
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn a_port_at_an_address_of_a_family_that_the_container_lacks_is_refused() {
    let net = Lan::new();
    net.ok(&["network", "create", "--ipv6=false", "--subnet", "10.77.0.0/24", "four"]);
    let at = format!("[{HOST6}]:8080:80");
    let refused = net.run(&["run", "-d", "--name", "web", "--network", "four", "-p", &at, "busybox", "true"]);
    assert!(refused.code != 0 && refused.stderr.contains("no address of IPv6 in network four"), "{}", refused.stderr);
    net.run(&["rm", "-f", "web"]);
    net.peer("web", &["--network", "four", "-p", "[::1]:8080:80"]);
    assert_eq!(net.who(From::On(&net.inside), "tcp", "::1", 8080).as_deref(), Some("web"), "carried to its IPv4");
    let refused = net.fails(&["port", "add", "web", &at], 1);
    assert!(refused.contains("no address of IPv6"), "{refused}");
    net.ok(&["network", "connect", "bridge", "web"]);
}

#[test]
fn a_lent_device_is_known_by_its_number_inside_from_the_start_and_later() {
    let net = Lan::new();
    let _neighbour = net.neighbour();
    let parent = format!("parent={PARENT}");
    net.ok(&["network", "create", "-d", "phys", "-o", &parent, "card"]);
    let rename = ["exec", "web", "sh", "-c", "ip link set wan0 down && ip link set wan0 name x"];
    for live in [false, true] {
        let flags = ["run", "-d", "--name", "web", "--cap-add", "NET_ADMIN"];
        let place: &[&str] = if live { &[] } else { &["--network", "card:interface_name=wan0"] };
        net.ok(&[&flags[..], place, &["busybox", "sleep", "1000"]].concat());
        if live {
            net.ok(&["network", "connect", "--interface-name", "wan0", "card", "web"]);
        }
        let seen = status(&net, "web");
        let lent = seen["endpoints"].as_array().unwrap().iter().find(|e| e["lent"].is_object()).expect("a lent device");
        assert!(lent["lent"]["index_inside"].is_u64(), "{lent}");
        net.ok(&rename);
        net.ok(&["rm", "-f", "web"]);
        assert_eq!(net.inside.on(&["ip", "link", "show", PARENT]).code, 0, "live: {live}");
    }
}

#[test]
fn addresses_are_given_from_a_range_that_is_no_network() {
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.11-10.77.0.12", "few"]);
    assert_eq!(net.inspect(&["network", "inspect", "few"])["IPAM"]["Config"][0]["IPRange"], "10.77.0.11-10.77.0.12");
    for (name, address) in [("one", "10.77.0.11"), ("two", "10.77.0.12")] {
        net.ok(&["run", "-d", "--name", name, "--network", "few", "busybox", "sleep", "1000"]);
        assert_eq!(net.addresses(name, "few").0, address);
    }
    let full = net.fails(&["create", "--network", "few", "busybox", "true"], 1);
    assert!(full.contains("10.77.0.11-10.77.0.12"), "{full}");
    net.ok(&["create", "--network", "few", "--ip", "10.77.0.99", "busybox", "true"]);
}
