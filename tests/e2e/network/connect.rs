//! Several networks of one container, from the start and changed while it runs.

use std::time::Duration;
use tare_tests::lan::{From, HOST, Lan, OUTSIDE, talk};
use tare_tests::{Running, eventually};

fn interfaces(net: &Lan, container: &str) -> Vec<String> {
    net.ok(&["exec", container, "ls", "/sys/class/net"]).split_whitespace().map(str::to_owned).collect()
}

/// The interface that a packet to the outside leaves by.
fn way_out(net: &Lan, container: &str) -> String {
    let route = net.ok(&["exec", container, "ip", "route", "get", OUTSIDE]);
    route.split(" dev ").nth(1).expect("a device").split(' ').next().unwrap().to_owned()
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "blue"]);
    net.peer("web", &["--network", "red"]);
    net.peer("far", &["--network", "blue"]);
    let talk = talk().display().to_string();
    let (red, _) = net.addresses("web", "red");
    let mut long = Running::interactive(&mut net.inside.command(&[&talk, "hold", &red, "80"]));
    let said = |held: &Running, n: usize| eventually(Duration::from_secs(3), || held.printed().0.lines().count() == n);
    assert!(said(&long, 1));
    assert_eq!(interfaces(&net, "web"), ["eth0", "lo"]);
    for round in 0..2 {
        net.ok(&["network", "connect", "blue", "web"]);
        assert_eq!(interfaces(&net, "web"), ["eth0", "eth1", "lo"]);
        let (four, six) = net.addresses("web", "blue");
        for transport in ["tcp", "udp"] {
            for address in [&four, &six] {
                let who = net.who(From::Container("far"), transport, address, 80);
                assert_eq!(who.as_deref(), Some("web"), "{transport} {address}");
            }
        }
        let twice = net.run(&["network", "connect", "blue", "web"]);
        assert!(twice.code != 0 && twice.stderr.contains("blue"), "{}", twice.stderr);
        net.ok(&["network", "disconnect", "blue", "web"]);
        assert_eq!(interfaces(&net, "web"), ["eth0", "lo"]);
        assert_eq!(net.who(From::Container("far"), "tcp", &four, 80), None);
        let again = net.run(&["network", "disconnect", "blue", "web"]);
        assert!(again.code != 0 && again.stderr.contains("blue"), "{}", again.stderr);
        long.write(format!("{round}\n").as_bytes());
        assert!(said(&long, 2 + round), "{:?}", long.printed());
    }
    // The first one may go as well, and come back; what is published comes back with it.
    net.ok(&["network", "disconnect", "red", "web"]);
    assert_eq!(interfaces(&net, "web"), ["lo"]);
    net.ok(&["network", "connect", "--ip", &red, "red", "web"]);
    assert_eq!(net.addresses("web", "red").0, red);
    assert_eq!(net.who(From::On(&net.inside), "tcp", &red, 80).as_deref(), Some("web"));
}

#[test]
fn what_was_connected_stays_so_over_a_restart() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.peer("web", &["-p", "8080:80"]);
    net.ok(&["network", "connect", "--alias", "www", "--ip", &own_address(&net, "red", 50), "red", "web"]);
    let before = (net.addresses("web", ""), net.addresses("web", "red"));
    for verb in [&["stop", "-t", "0", "web"][..], &["kill", "web"]] {
        net.ok(verb);
        net.ok(&["wait", "web"]);
        net.ok(&["start", "web"]);
        assert_eq!(interfaces(&net, "web"), ["eth0", "eth1", "lo"]);
        assert_eq!((net.addresses("web", ""), net.addresses("web", "red")), before);
    }
    // A stopped one is connected from its next start on.
    net.ok(&["stop", "-t", "0", "web"]);
    net.ok(&["network", "create", "blue"]);
    net.ok(&["network", "connect", "blue", "web"]);
    net.ok(&["network", "disconnect", "red", "web"]);
    net.ok(&["start", "web"]);
    assert_eq!(interfaces(&net, "web").len(), 3);
    let networks = net.inspect(&["inspect", "web"])["NetworkSettings"]["Networks"].as_object().unwrap().clone();
    let mut names: Vec<&String> = networks.keys().collect();
    names.sort();
    assert_eq!(names, ["blue", "bridge"]);
    let back = || net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref() == Some("web");
    assert!(eventually(Duration::from_secs(5), back));
}

/// An address of a network, by its last part.
fn own_address(net: &Lan, network: &str, last: u8) -> String {
    let seen = net.inspect(&["network", "inspect", network]);
    let subnets = seen["IPAM"]["Config"].as_array().unwrap().iter().filter_map(|c| c["Subnet"].as_str());
    let four = subnets.into_iter().find(|s| s.contains('.')).expect("a subnet").split('/').next().unwrap().to_owned();
    format!("{}.{last}", four.rsplit_once('.').unwrap().0)
}

#[test]
fn interfaces_have_the_names_addresses_and_priorities_asked_for() {
    let net = Lan::new();
    let _serving = net.outside.serve("outside", &["7000"]);
    net.ok(&["network", "create", "--subnet", "10.77.0.0/24", "red"]);
    net.ok(&["network", "create", "--subnet", "10.78.0.0/24", "blue"]);
    net.ok(&["network", "create", "--internal", "inner"]);
    // docker's way and podman's.
    let docker = "name=red,ip=10.77.0.9,mac-address=02:00:00:00:00:09,driver-opt=com.docker.network.endpoint.ifname=left0,gw-priority=1";
    net.peer("docker", &["--network", docker, "--network", "name=blue,alias=here"]);
    assert_eq!(interfaces(&net, "docker"), ["eth0", "left0", "lo"]);
    assert_eq!(net.addresses("docker", "red").0, "10.77.0.9");
    assert!(net.ok(&["exec", "docker", "ip", "link", "show", "left0"]).contains("02:00:00:00:00:09"));
    assert_eq!(way_out(&net, "docker"), "left0");
    let podman = [
        "--network",
        "red:ip=10.77.0.10,mac=02:00:00:00:00:10,interface_name=one0",
        "--network",
        "blue:alias=there,gw-priority=2",
    ];
    net.peer("podman", &podman);
    assert!(interfaces(&net, "podman").contains(&"one0".to_owned()));
    assert_eq!(way_out(&net, "podman"), "eth0", "the higher priority");
    assert_eq!(net.who(From::Container("podman"), "tcp", "10.77.0.9", 80).as_deref(), Some("docker"));
    // A better one that comes later wins, and gives the way back when it goes.
    net.peer("late", &["--network", "blue"]);
    assert_eq!(way_out(&net, "late"), "eth0");
    net.ok(&["network", "connect", "--gw-priority", "5", "red", "late"]);
    assert_eq!(way_out(&net, "late"), "eth1");
    assert_eq!(net.who(From::Container("late"), "tcp", OUTSIDE, 7000).as_deref(), Some("outside"));
    net.ok(&["network", "disconnect", "red", "late"]);
    assert_eq!(way_out(&net, "late"), "eth0");
    assert_eq!(net.who(From::Container("late"), "tcp", OUTSIDE, 7000).as_deref(), Some("outside"));
    // An internal network is never the way out, whatever is written with it.
    net.peer("kept", &["--network", "inner:gw-priority=9", "--network", "blue"]);
    assert_eq!(net.who(From::Container("kept"), "tcp", OUTSIDE, 7000).as_deref(), Some("outside"));
    let refused = net.run(&["run", "--rm", "--network", "red", "--network", "red", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("red"), "{}", refused.stderr);
    for mode in ["host", "none", "container:late"] {
        let refused = net.run(&["run", "--rm", "--network", "red", "--network", mode, "busybox", "true"]);
        assert_eq!(refused.code, 125, "{mode}: {}", refused.stderr);
    }
    let refused = net.run(&["network", "connect", "--ip", "10.77.0.9", "red", "late"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("10.77.0.9") && refused.stderr.contains("docker"),
        "{}",
        refused.stderr
    );
    assert_eq!(interfaces(&net, "late"), ["eth0", "lo"], "a failure changes nothing");
}

#[test]
fn published_ports_are_reached_on_whichever_network_is_there() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "blue"]);
    net.peer("web", &["--network", "red", "--network", "blue", "-p", "8080:80", "-p", "8080:80/udp"]);
    for transport in ["tcp", "udp"] {
        let reply = net.whom(From::On(&net.outside), transport, HOST, 8080).expect("it is published");
        assert_eq!((reply.name.as_str(), reply.peer.as_str()), ("web", OUTSIDE), "{transport}");
    }
    net.ok(&["network", "disconnect", "red", "web"]);
    for transport in ["tcp", "udp"] {
        let who = net.who(From::On(&net.outside), transport, HOST, 8080);
        assert_eq!(who.as_deref(), Some("web"), "{transport} over the other network");
    }
    net.ok(&["network", "disconnect", "blue", "web"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None);
    net.ok(&["network", "connect", "blue", "web"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("web"));
}

/// Several clients change one container side by side: each change is there, none is lost.
#[test]
fn changes_at_once_are_all_made() {
    let net = Lan::new();
    let networks: Vec<String> = (0..6).map(|i| format!("net{i}")).collect();
    for network in &networks {
        net.ok(&["network", "create", network]);
    }
    net.peer("web", &[]);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for (i, network) in networks.iter().enumerate() {
                let (net, port) = (&net, format!("{}:80", 8000 + i));
                scope.spawn(move || net.ok(&["network", "connect", network, "web"]));
                scope.spawn(move || net.ok(&["port", "add", "web", &port]));
            }
        });
        assert_eq!(interfaces(&net, "web").len(), 8);
        for (i, network) in networks.iter().enumerate() {
            let (four, _) = net.addresses("web", network);
            assert_eq!(net.who(From::On(&net.inside), "tcp", &four, 80).as_deref(), Some("web"), "{network}");
            let port = u16::try_from(8000 + i).unwrap();
            assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, port).as_deref(), Some("web"), "{port}");
        }
        std::thread::scope(|scope| {
            for (i, network) in networks.iter().enumerate() {
                let (net, port) = (&net, format!("{}:80", 8000 + i));
                scope.spawn(move || net.ok(&["network", "disconnect", network, "web"]));
                scope.spawn(move || net.ok(&["port", "rm", "web", &port]));
            }
        });
        assert_eq!(interfaces(&net, "web"), ["eth0", "lo"]);
        assert_eq!(net.run(&["port", "web"]).stdout, "");
    }
    for network in &networks {
        net.ok(&["network", "rm", network]);
    }
}
