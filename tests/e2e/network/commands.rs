//! `tare network`: networks as objects, made, listed, inspected and removed.

use tare_tests::lan::{HOST, Lan, fetch};

#[test]
fn networks_are_made_listed_inspected_and_removed() {
    let net = Lan::new();
    let id = net.ok(&["network", "create", "--label", "team=a", "--subnet", "10.77.0.0/24", "red"]);
    assert_eq!(id.len(), 64, "{id}");
    net.ok(&["network", "create", "--label", "team=b", "--internal", "blue"]);
    let list = net.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    let names: Vec<&str> = list.lines().map(|l| l.split(' ').next().unwrap()).collect();
    for name in ["bridge", "red", "blue"] {
        assert!(names.contains(&name), "{list}");
    }
    assert_eq!(net.ok(&["network", "ls", "-q", "--no-trunc", "--filter", "label=team=a"]), id);
    assert_eq!(net.ok(&["network", "ls", "-q", "--filter", "name=red"]), id[..12]);
    let seen = net.inspect(&["network", "inspect", "red"]);
    assert_eq!(seen["Name"], "red");
    assert_eq!(seen["Id"], id.as_str());
    assert_eq!(seen["Driver"], "bridge");
    assert_eq!(seen["Labels"]["team"], "a");
    let subnets: Vec<&str> =
        seen["IPAM"]["Config"].as_array().unwrap().iter().filter_map(|c| c["Subnet"].as_str()).collect();
    assert!(subnets.contains(&"10.77.0.0/24"), "{subnets:?}");
    assert!(subnets.iter().any(|s| s.starts_with("fd") && s.ends_with("/64")), "{subnets:?}");
    assert_eq!(net.inspect(&["network", "inspect", "blue"])["Internal"], true);
    // By the beginning of its id, as a container is; and its members are told.
    net.peer("web", &["--network", &id[..6]]);
    let seen = net.inspect(&["network", "inspect", &id[..12]]);
    let members = seen["Containers"].as_object().expect("its members");
    assert_eq!(members.len(), 1);
    let member = members.values().next().unwrap();
    assert_eq!(member["Name"], "web");
    assert!(member["IPv4Address"].as_str().unwrap().starts_with("10.77.0."), "{member}");
    assert_eq!(net.run(&["network", "exists", "red"]).code, 0);
    assert_eq!(net.run(&["network", "exists", "nothing"]).code, 1);
    // Not while somebody is on it, stopped or not.
    for _ in 0..2 {
        let refused = net.run(&["network", "rm", "red"]);
        assert!(refused.code != 0 && refused.stderr.contains("web"), "{}", refused.stderr);
        net.ok(&["stop", "-t", "0", "web"]);
    }
    net.ok(&["rm", "web"]);
    net.ok(&["network", "rm", "red", &net.ok(&["network", "ls", "-q", "--filter", "name=blue"])]);
    assert_eq!(net.run(&["network", "exists", "red"]).code, 1);
    let refused = net.run(&["network", "rm", "red"]);
    assert!(refused.code != 0 && refused.stderr.contains("red"), "{}", refused.stderr);
}

#[test]
fn names_that_are_taken_or_wrong_are_refused() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    for name in ["red", "bridge", "default", "host", "none"] {
        let refused = net.run(&["network", "create", name]);
        assert!(refused.code != 0 && refused.stderr.contains(name), "{name}: {}", refused.stderr);
    }
    for name in ["-x", "a/b", "a b", "ns:a", ""] {
        assert_ne!(net.run(&["network", "create", "--", name]).code, 0, "{name:?}");
    }
    for name in ["bridge", "host", "none"] {
        assert_ne!(net.run(&["network", "rm", name]).code, 0, "{name}");
    }
    let refused = net.run(&["run", "--rm", "--network", "nothing", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("nothing"), "{}", refused.stderr);
    assert_eq!(net.ok(&["ps", "-aq"]), "");
    // With no name given, one is chosen.
    let id = net.ok(&["network", "create"]);
    let name = net.ok(&["network", "inspect", "-f", "{{.Name}}", &id]);
    assert!(!name.is_empty());
    assert_eq!(net.run(&["run", "--rm", "--network", &name, "busybox", "true"]).code, 0);
}

#[test]
fn pruning_takes_what_nobody_is_on() {
    let net = Lan::new();
    for (name, label) in [("used", "a"), ("stopped", "a"), ("free", "a"), ("kept", "b")] {
        net.ok(&["network", "create", "--label", label, name]);
    }
    net.peer("one", &["--network", "used"]);
    net.ok(&["create", "--name", "two", "--network", "stopped", "busybox", "true"]);
    net.ok(&["network", "prune", "-f", "--filter", "label!=b"]);
    let list = net.ok(&["network", "ls", "--format", "{{.Name}}"]);
    for (name, there) in [("used", true), ("stopped", true), ("free", false), ("kept", true), ("bridge", true)] {
        assert_eq!(list.lines().any(|l| l == name), there, "{name}: {list}");
    }
    net.ok(&["rm", "-f", "one", "two"]);
    net.ok(&["network", "prune", "-f"]);
    let list = net.ok(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!list.contains("used") && !list.contains("kept") && list.contains("bridge"), "{list}");
}

#[test]
fn a_namespace_gets_a_name_on_request() {
    let net = Lan::new();
    net.peer("web", &[]);
    let before = net.outside.on(&["ip", "netns", "list"]).stdout;
    assert!(!before.lines().any(|l| l.starts_with("web")), "namespaces are not pinned by themselves: {before}");
    let name = tare_tests::unique("tare-ns-");
    net.ok(&["network", "attach-netns", "web", &name]);
    let seen = net.inside.on(&["ip", "netns", "exec", &name, "ip", "-4", "-o", "address", "show", "dev", "eth0"]);
    let address = net.address("web");
    net.ok(&["rm", "-f", "web"]);
    let after = net.outside.on(&["ip", "netns", "list"]).stdout;
    // Whatever is found: the machine's directory is not left with it.
    let _ = net.inside.on(&["ip", "netns", "delete", &name]);
    assert!(seen.code == 0 && seen.stdout.contains(&address), "{seen:?}");
    assert!(!after.lines().any(|l| l.starts_with(&name)), "the name goes with the container: {after}");
}

/// Inspect gives a line with which anybody looks into the namespace; it works as it stands.
#[test]
fn the_line_of_inspect_leads_into_the_namespace() {
    let net = Lan::new();
    net.peer("web", &[]);
    let seen = net.inspect(&["inspect", "web"]);
    let text = seen.to_string();
    let at = text.find("nsenter ").expect("a line with nsenter");
    let line: String = text[at..].chars().take_while(|c| *c != '"').collect();
    let out = net.outside.on(&["sh", "-c", &format!("{line} ip -4 -o address show dev eth0")]);
    assert!(out.code == 0 && out.stdout.contains(&net.address("web")), "{line}: {out:?}");
}

#[test]
fn a_reload_restores_what_others_took() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.web("web", &["--network", "red", "-p", "8080:80"]);
    let pid = net.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    net.inside.ok(&["nft", "flush", "ruleset"]);
    net.ok(&["network", "reload"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    net.inside.sysctl("net.ipv4.ip_forward", "0");
    net.ok(&["network", "reload", "web"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    assert_eq!(net.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]), pid);
    assert_ne!(net.run(&["network", "reload", "nobody"]).code, 0);
}
