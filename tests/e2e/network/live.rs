//! What changes while a container runs: ports, networks; and what is restored when others take it away.

use std::time::Duration;
use tare_tests::lan::{From, HOST, Lan, fetch};
use tare_tests::{Running, eventually};

/// A connection from outside that says `one`, and later, when told so by the file, `two`.
fn talking(lan: &Lan, port: u16, go_on: &std::path::Path) -> Running {
    let script =
        "(echo one; while [ ! -e \"$0\" ]; do sleep 0.05; done; echo two; sleep 0.3) | busybox nc \"$1\" \"$2\"";
    let mut command = lan.outside.command(&["sh", "-c", script]);
    let talking = Running::start(command.arg(go_on).args([HOST, &port.to_string()]), None);
    let said = || talking.printed().0.contains("one");
    assert!(eventually(Duration::from_secs(5), said), "no echo: {:?}", talking.printed());
    talking
}

#[test]
fn ports_are_published_and_withdrawn_while_the_container_runs() {
    let lan = Lan::new();
    lan.web("web", &["-p", "8080:80"]);
    lan.ok(&["exec", "-d", "web", "nc", "-ll", "-p", "7", "-e", "cat"]);
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8081")), None);
    lan.ok(&["port", "add", "web", "8081:80", "127.0.0.1:8082:80", "7007:7"]);
    let added = lan.ok(&["port", "web"]);
    assert!(added.contains("80/tcp -> 0.0.0.0:8081") && added.contains("80/tcp -> 127.0.0.1:8082"), "{added}");
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8081")).as_deref(), Some("web"));
    assert_eq!(fetch(&lan.inside, "127.0.0.1:8081").as_deref(), Some("web"));
    assert_eq!(fetch(&lan.inside, "127.0.0.1:8082").as_deref(), Some("web"));
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8082")), None);
    // A connection through a port outlives it.
    let go_on = lan.host.scratch("go-on");
    let talking = talking(&lan, 7007, &go_on);
    lan.ok(&["port", "rm", "web", "8081:80", "7007:7"]);
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8081")), None);
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    std::fs::write(&go_on, "").unwrap();
    assert!(eventually(Duration::from_secs(5), || talking.printed().0.contains("two")), "{:?}", talking.printed());
    // The host's port is another's at once.
    let other = lan.inside.on(&["timeout", "0.2", "busybox", "nc", "-l", "-p", "8081"]);
    assert_eq!(other.code, 124, "{}", other.stderr);
    let listed = lan.ok(&["port", "web"]);
    assert!(listed.contains("8080") && listed.contains("8082") && !listed.contains("8081"), "{listed}");
    // The next start has what this one has now.
    lan.ok(&["stop", "-t", "0", "web"]);
    lan.ok(&["start", "web"]);
    assert_eq!(lan.ok(&["port", "web"]), listed);
    let up = || fetch(&lan.inside, "127.0.0.1:8082").as_deref() == Some("web");
    assert!(eventually(Duration::from_secs(5), up));
}

#[test]
fn a_port_that_cannot_be_had_changes_nothing() {
    let lan = Lan::new();
    lan.web("web", &[]);
    lan.web("other", &["-p", "8081:80"]);
    let refused = lan.fails(&["port", "add", "web", "8080:80", "8081:80"], 1);
    assert!(refused.contains("container other has published the host's port"), "{refused}");
    assert_eq!(lan.ok(&["port", "web"]), "");
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8080")), None);
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8081")).as_deref(), Some("other"));
    let unknown = lan.fails(&["port", "rm", "web", "9:9"], 1);
    assert!(unknown.contains("9:9/tcp is not published") && unknown.contains("tare port web"), "{unknown}");
    // Of a container that does not run, only its description changes.
    lan.ok(&["stop", "-t", "0", "web"]);
    lan.ok(&["port", "add", "web", "8080:80"]);
    lan.ok(&["start", "web"]);
    assert!(eventually(Duration::from_secs(5), || fetch(&lan.outside, &format!("{HOST}:8080")).is_some()));
    lan.ok(&["stop", "-t", "0", "web"]);
    lan.ok(&["port", "rm", "web", "80"]);
    lan.ok(&["start", "web"]);
    assert_eq!(lan.ok(&["port", "web"]), "");
}

#[test]
fn a_container_that_does_not_read_its_input_is_changed_all_the_same() {
    let lan = Lan::new();
    lan.ok(&["run", "-d", "-i", "--name", "deaf", "busybox", "sh", "-c", "exec httpd -f -p 80 -h /bin"]);
    // More than a pipe holds: the supervisor has input that it cannot write, and an attached client waits.
    let mut attach = lan.command(&["attach", "--sig-proxy=false", "deaf"]);
    let _attached = Running::start(&mut attach, Some(&vec![b'x'; 1 << 20]));
    std::thread::sleep(Duration::from_millis(300));
    lan.ok(&["port", "add", "deaf", "8080:80"]);
    assert!(lan.ok(&["port", "deaf"]).contains("8080"));
}

#[test]
fn reload_restores_what_was_flushed_even_without_the_supervisors_help() {
    let lan = Lan::new();
    lan.web("one", &["-p", "8080:80"]);
    lan.web("two", &["-p", "8081:80"]);
    let pid = lan.ok(&["inspect", "-f", "{{.State.SupervisorPid}}", "two"]);
    let reached = || [8080, 8081].map(|p| fetch(&lan.outside, &format!("{HOST}:{p}")).is_some());
    assert_eq!(reached(), [true, true]);
    lan.inside.ok(&["kill", "-STOP", &pid]);
    lan.inside.ok(&["nft", "flush", "ruleset"]);
    lan.ok(&["network", "reload"]);
    assert_eq!(reached(), [true, true]);
    lan.inside.ok(&["kill", "-CONT", &pid]);
    assert_eq!(lan.ok(&["network", "reload", "one"]), lan.ok(&["network", "reload", "one"]));
    let unknown = lan.fails(&["network", "reload", "three"], 1);
    assert!(unknown.contains("no such container"), "{unknown}");
}

/// Names of the devices in a container, without loopback.
fn devices(lan: &Lan, container: &str) -> Vec<String> {
    let listed = lan.ok(&["exec", container, "ls", "/sys/class/net"]);
    listed.split_whitespace().filter(|d| *d != "lo").map(str::to_owned).collect()
}

fn default_route(lan: &Lan, container: &str) -> String {
    let all = lan.ok(&["exec", container, "ip", "route"]);
    all.lines().find(|line| line.starts_with("default")).unwrap_or_default().trim().to_owned()
}

#[test]
fn networks_come_and_go_while_the_container_runs() {
    let lan = Lan::new();
    lan.ok(&["network", "create", "back"]);
    lan.ok(&["network", "create", "front"]);
    lan.peer("db", &["--network", "back"]);
    lan.peer("web", &["-p", "8080:80"]);
    let (db, _) = lan.addresses("db", "back");
    assert_eq!(lan.who(From::Container("web"), "tcp", &db, 80), None, "networks are apart");
    lan.ok(&["network", "connect", "--alias", "shop", "back", "web"]);
    assert_eq!(devices(&lan, "web"), ["eth0", "eth1"]);
    assert_eq!(lan.who(From::Container("web"), "tcp", &db, 80).as_deref(), Some("db"));
    let (web, _) = lan.addresses("web", "back");
    assert_eq!(lan.who(From::Container("db"), "tcp", &web, 80).as_deref(), Some("web"));
    assert!(default_route(&lan, "web").ends_with("dev eth0"), "{}", default_route(&lan, "web"));
    let again = lan.fails(&["network", "connect", "back", "web"], 1);
    assert!(again.contains("is connected to it already"), "{again}");
    // The network that had default route and ports goes: the next one has them.
    lan.ok(&["network", "disconnect", "bridge", "web"]);
    assert_eq!(devices(&lan, "web"), ["eth1"]);
    assert!(default_route(&lan, "web").ends_with("dev eth1"), "{}", default_route(&lan, "web"));
    assert_eq!(lan.who(From::On(&lan.outside), "tcp", HOST, 8080).as_deref(), Some("web"));
    // One with a higher priority takes them, under the name that was asked for.
    lan.ok(&["network", "connect", "--gw-priority", "5", "--interface-name", "wan", "front", "web"]);
    assert_eq!(devices(&lan, "web"), ["eth1", "wan"]);
    assert!(default_route(&lan, "web").ends_with("dev wan"), "{}", default_route(&lan, "web"));
    assert_eq!(lan.who(From::On(&lan.outside), "tcp", HOST, 8080).as_deref(), Some("web"));
    assert_eq!(lan.who(From::Container("web"), "tcp", &db, 80).as_deref(), Some("db"));
    // The next start has what this one has now.
    lan.ok(&["stop", "-t", "0", "web"]);
    lan.ok(&["start", "web"]);
    assert_eq!(devices(&lan, "web").len(), 2);
    assert!(default_route(&lan, "web").ends_with("dev wan"), "{}", default_route(&lan, "web"));
    lan.ok(&["network", "disconnect", "back", "web"]);
    lan.ok(&["network", "disconnect", "front", "web"]);
    assert_eq!(devices(&lan, "web"), [""; 0]);
    let unknown = lan.fails(&["network", "disconnect", "front", "web"], 1);
    assert!(unknown.contains("is not connected to it"), "{unknown}");
    // Nothing of them is left to keep a network.
    lan.ok(&["network", "rm", "front"]);
    lan.ok(&["rm", "-f", "db"]);
    lan.ok(&["network", "rm", "back"]);
}

#[test]
fn a_container_at_rest_is_connected_for_its_next_start() {
    let lan = Lan::new();
    lan.ok(&["network", "create", "back"]);
    lan.ok(&["create", "--name", "web", "busybox", "sleep", "1000"]);
    lan.ok(&["network", "connect", "back", "web"]);
    lan.ok(&["start", "web"]);
    assert_eq!(devices(&lan, "web"), ["eth0", "eth1"]);
    lan.ok(&["stop", "-t", "0", "web"]);
    lan.ok(&["network", "disconnect", "bridge", "web"]);
    lan.ok(&["start", "web"]);
    assert_eq!(devices(&lan, "web"), ["eth0"]);
    lan.ok(&["run", "-d", "--name", "alone", "--network", "none", "busybox", "sleep", "1000"]);
    let refused = lan.fails(&["network", "connect", "back", "alone"], 1);
    assert!(refused.contains("it was made without any network"), "{refused}");
}

#[test]
fn whoever_is_killed_during_a_change_leaves_nothing() {
    let lan = Lan::new();
    lan.ok(&["network", "create", "back"]);
    lan.web("web", &["-p", "8080:80"]);
    let killed = |step: &str, args: &[&str]| {
        let mut command = lan.command(args);
        let out = Running::start(command.env("TARE_FAULT", format!("{step}:kill")), None).wait();
        assert_ne!(out.code, 0, "{step}: the fault was not met");
    };
    let places = || {
        let seen = lan.inspect(&["network", "inspect", "back"]);
        (devices(&lan, "web").len(), seen["Containers"].as_object().map_or(0, serde_json::Map::len))
    };
    for step in ["leased", "connected-live"] {
        killed(step, &["network", "connect", "back", "web"]);
        lan.ok(&["inspect", "web"]);
        assert_eq!(places(), (1, 0), "{step}");
    }
    for step in ["disconnected-live", "disconnected-recorded"] {
        lan.ok(&["network", "connect", "back", "web"]);
        assert_eq!(places(), (2, 1));
        killed(step, &["network", "disconnect", "back", "web"]);
        lan.ok(&["inspect", "web"]);
        assert_eq!(places(), (1, 0), "{step}");
    }
    killed("published-live", &["port", "add", "web", "8081:80"]);
    assert_eq!(fetch(&lan.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    lan.ok(&["network", "rm", "back"]);
}

#[test]
fn a_flushed_firewall_is_restored_within_a_second() {
    let lan = Lan::new();
    lan.ok(&["network", "create", "back"]);
    lan.web("one", &["-p", "8080:80"]);
    lan.web("two", &["-p", "8081:80", "--network", "back"]);
    let table = lan.inside.ok(&["nft", "-s", "list", "ruleset"]);
    let name = table.split_whitespace().nth(2).unwrap().to_owned();
    let damages = [
        "flush ruleset".to_owned(),
        format!("delete table inet {name}"),
        format!("flush table inet {name}"),
        format!("flush chain inet {name} forward"),
    ];
    for damage in &damages {
        lan.inside.nft(damage);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::trim).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let whole = || sorted(&lan.inside.ok(&["nft", "-s", "list", "ruleset"])) == sorted(&table);
        assert!(eventually(Duration::from_secs(1), whole), "{damage}: {}", lan.inside.ok(&["nft", "list", "ruleset"]));
        for port in [8080, 8081] {
            assert!(fetch(&lan.outside, &format!("{HOST}:{port}")).is_some(), "{damage} {port}");
        }
    }
}
