//! Flags of networks that have no page of their own, docker's short forms, and the configuration file.

use tare_tests::Running;
use tare_tests::lan::{From, HOST, Lan, OUTSIDE, PARENT};

#[test]
fn a_linked_container_is_known_by_its_alias() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.peer("web", &["--network", "red"]);
    net.peer("asks", &["--network", "red", "--link", "web:www"]);
    let (address, _) = net.addresses("web", "red");
    let line = || {
        let hosts = net.ok(&["exec", "asks", "cat", "/etc/hosts"]);
        hosts.lines().find(|l| l.split_whitespace().any(|w| w == "www")).map(str::to_owned).unwrap_or_default()
    };
    assert!(line().starts_with(&address), "{}", line());
    net.ok(&["exec", "asks", "ping", "-c", "1", "-W", "1", "www"]);
    // Looked up at each start: another container may have the name by then.
    net.ok(&["stop", "-t", "0", "asks"]);
    net.ok(&["rm", "-f", "web"]);
    net.peer("other", &["--network", "red", "--ip", &address]);
    net.peer("web", &["--network", "red"]);
    net.ok(&["start", "asks"]);
    assert!(line().starts_with(&net.addresses("web", "red").0), "{}", line());
    let refused = net.run(&["run", "--rm", "--link", "nobody:x", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("nobody"), "{}", refused.stderr);
}

#[test]
fn addresses_of_the_link_come_beside_the_usual_ones() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    let flags = ["--network", "red", "--link-local-ip", "169.254.8.8", "--link-local-ip", "fe80::88"];
    net.peer("one", &flags);
    let seen = net.ok(&["exec", "one", "ip", "-o", "addr", "show", "dev", "eth0"]);
    for part in ["169.254.8.8/16", "fe80::88/64", &net.addresses("one", "red").0, &net.addresses("one", "red").1] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
}

#[test]
fn a_network_gives_its_containers_routes() {
    let net = Lan::new();
    let routes = ["--route", "203.0.113.0/24,10.77.0.7,42", "--route", "fd99::/64,fd77:1::7"];
    let subnets = ["--subnet", "10.77.0.0/24", "--subnet", "fd77:1::/64"];
    net.ok(&[&["network", "create"], &subnets[..], &routes, &["red"]].concat());
    net.peer("one", &["--network", "red"]);
    let four = net.ok(&["exec", "one", "ip", "-4", "route"]);
    assert!(four.contains("203.0.113.0/24 via 10.77.0.7 dev eth0") && four.contains("metric 42"), "{four}");
    let six = net.ok(&["exec", "one", "ip", "-6", "route"]);
    assert!(six.contains("fd99::/64 via fd77:1::7 dev eth0"), "{six}");
    let refused =
        net.run(&["network", "create", "--subnet", "10.78.0.0/24", "--route", "203.0.113.0/24,10.77.0.7", "bad"]);
    assert!(refused.code != 0 && refused.stderr.contains("10.77.0.7"), "{}", refused.stderr);
}

#[test]
fn a_network_that_is_there_may_be_left_alone_and_a_bridge_have_a_name() {
    let net = Lan::new();
    let id = net.ok(&["network", "create", "red"]);
    assert_eq!(net.ok(&["network", "create", "--ignore", "red"]), id);
    assert_ne!(net.run(&["network", "create", "red"]).code, 0);
    let name = tare_tests::unique("tb");
    let name = &name[..name.len().min(15)];
    net.ok(&["network", "create", "--interface-name", name, "blue"]);
    net.peer("one", &["--network", "blue"]);
    assert_eq!(net.inside.on(&["ip", "link", "show", "type", "bridge", "dev", name]).code, 0);
    let refused = net.run(&["network", "create", "--interface-name", name, "green"]);
    assert!(refused.code != 0 && refused.stderr.contains(name), "{}", refused.stderr);
}

#[test]
fn the_networks_that_are_none_are_listed_as_well() {
    let net = Lan::new();
    let list = net.ok(&["network", "ls", "--filter", "type=builtin", "--format", "{{.Name}} {{.Driver}}"]);
    assert_eq!(list, "bridge bridge\nhost host\nnone null");
    assert_eq!(net.ok(&["network", "ls", "--filter", "dangling=true"]).lines().count(), 1, "the heading");
    net.ok(&["run", "-d", "--name", "one", "--network", "host", "busybox", "sleep", "1000"]);
    let format = "{{.Driver}} {{range .Containers}}{{.Name}}{{end}}";
    assert_eq!(net.ok(&["network", "inspect", "--format", format, "host"]), "host one");
    assert_eq!(net.ok(&["ps", "--filter", "network=host", "--format", "{{.Names}} {{.Networks}}"]), "one host");
    assert_eq!(net.run(&["network", "exists", "none"]).code, 0);
}

#[test]
fn port_has_dockers_form_even_for_a_container_called_add() {
    let net = Lan::new();
    net.peer("add", &["-p", "8080:80", "-p", "127.0.0.1:8053:53/udp"]);
    for line in [&["port", "add"][..], &["port", "ls", "add"], &["container", "port", "add"]] {
        assert_eq!(net.ok(line), "53/udp -> 127.0.0.1:8053\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080", "{line:?}");
    }
    assert_eq!(net.ok(&["port", "add", "53/udp"]), "127.0.0.1:8053");
    assert_eq!(net.ok(&["port", "add", "80"]), "0.0.0.0:8080\n[::]:8080");
    let refused = net.run(&["port", "add", "81"]);
    assert!(refused.code == 1 && refused.stderr.contains("81/tcp"), "{}", refused.stderr);
    assert_eq!(net.ok(&["port", "add", "add", "127.0.0.1:8081:81"]), "");
    assert!(net.ok(&["port", "add", "add", "127.0.0.1::82"]).starts_with("82/tcp -> 127.0.0.1:"));
    net.ok(&["port", "rm", "add", "81", "82"]);
    assert!(!net.ok(&["port", "add"]).contains("8081"));
    assert_eq!(
        net.ok(&["ps", "--format", "{{.Ports}}"]),
        "127.0.0.1:8053->53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    );
}

#[test]
fn explaining_begins_at_a_port_of_the_host_too() {
    let net = Lan::new();
    net.peer("web", &["-p", "8080:80", "-p", "127.0.0.1:8081:81"]);
    let told = net.ok(&["port", "explain", "8080"]);
    assert!(told.contains("8080") && told.contains("web") && !told.contains("8081"), "{told}");
    let told = net.ok(&["port", "explain", "--format", "json", "web"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
    let refused = net.run(&["port", "explain", "9999"]);
    assert!(refused.code == 1 && refused.stderr.contains("9999/tcp"), "{}", refused.stderr);
}

#[test]
fn the_configuration_file_gives_pools_and_names_its_mistakes() {
    let net = Lan::new();
    let file = net.host.scratch("config.toml");
    let with = |args: &[&str]| Running::start(net.command(args).env("TARE_CONFIG", &file), None).wait();
    std::fs::write(&file, "[network]\npools = [\"10.201.0.0/19\", \"fd77::/60\"]\n").unwrap();
    let subnets = ["10.201.0.0/20 fd77::/64", "10.201.16.0/20 fd77:0:0:1::/64"];
    for (name, expected) in ["red", "blue"].into_iter().zip(subnets) {
        assert_eq!(with(&["network", "create", name]).code, 0);
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        assert_eq!(net.ok(&["network", "inspect", "--format", format, name]).trim(), expected);
    }
    let out = with(&["network", "create", "green"]);
    assert!(out.code != 0 && out.stderr.contains("network red has 10.201.0.0/20"), "{}", out.stderr);
    std::fs::write(&file, "[network]\n\npublich = \"127.0.0.1\"\n").unwrap();
    let out = with(&["run", "--rm", "busybox", "true"]);
    let place = format!("{} line 3", file.display());
    assert!(out.code == 125 && out.stderr.contains(&place) && out.stderr.contains("publich"), "{}", out.stderr);
    // What needs no settings does not read them.
    assert_eq!(with(&["ps"]).code, 0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(with(&["run", "--rm", "busybox", "true"]).code, 125, "a file that is named is there");
}

#[test]
fn what_only_a_swarm_has_is_refused_by_name() {
    let net = Lan::new();
    for (flags, words) in [
        (&["--ingress"][..], "--ingress"),
        (&["--config-only"], "--config-only"),
        (&["--config-from", "x"], "--config-from"),
        (&["--scope", "swarm"], "--scope"),
        (&["--driver", "overlay"], "overlay"),
        (&["--ipam-driver", "dhcp"], "dhcp"),
        (&["--ipam-opt", "a=b"], "--ipam-opt"),
    ] {
        let out = net.run(&[&["network", "create"], flags, &["x"]].concat());
        assert!(out.code == 1 && out.stderr.contains(words), "{flags:?}: {}", out.stderr);
    }
    net.ok(&["network", "create", "--attachable", "--scope", "local", "--ipam-driver", "default", "red"]);
    // Of a device of the host nobody gives the addresses: it has its own.
    let _neighbour = net.neighbour();
    let parent = format!("parent={PARENT}");
    net.ok(&["network", "create", "-d", "phys", "--ipam-driver", "none", "--opt", &parent, "bare"]);
    assert_eq!(
        net.ok(&["network", "inspect", "--format", "{{len .IPAM.Config}} {{.Parent}}", "bare"]),
        format!("0 {PARENT}")
    );
    assert_eq!(net.run(&["network", "create", "--opt", "colour=red", "x"]).code, 1);
}

#[test]
fn flags_that_need_a_network_of_ones_own_are_refused_without() {
    let net = Lan::new();
    net.peer("web", &[]);
    for mode in ["host", "none", "container:web"] {
        for flags in [
            &["--ip", "10.0.0.9"][..],
            &["--ip6", "fd00::9"],
            &["--mac-address", "02:00:00:00:00:09"],
            &["--network-alias", "x"],
            &["--net-rate", "1mbit"],
            &["--link", "web"],
            &["-p", "80"],
            &["-P"],
        ] {
            let out = net.run(&[&["run", "--rm", "--network", mode], flags, &["busybox", "true"]].concat());
            assert!(out.code == 125 && out.stderr.contains("invalid --"), "{mode} {flags:?}: {}", out.stderr);
        }
    }
    let out = net.run(&["run", "--rm", "--network", "container:web", "--dns", OUTSIDE, "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("shared"), "{}", out.stderr);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 80), None);
}
