//! A failure, or death, at each step of the set-up of several networks: nothing is left, nobody else feels it.

use tare_tests::Running;
use tare_tests::lan::{From, HOST, Lan};

/// Where a start with networks can be interrupted, in the order in which they are met.
const STEPS: [&str; 8] = ["ports", "status", "cgroup", "clone", "bridge", "network", "ready", "release"];

fn names(net: &Lan) -> String {
    let networks = std::fs::read_dir(net.host.run_dir().join("networks")).into_iter().flatten().flatten();
    networks.map(|e| std::fs::read_to_string(e.path().join("names")).unwrap_or_default()).collect()
}

#[test]
fn a_start_that_is_interrupted_leaves_nothing_of_its_networks() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "--internal", "inner"]);
    let flags = ["--rm", "--name", "box", "--network", "red", "--network", "inner", "--network", "bridge"];
    let flags = [&flags[..], &["-p", "8080:80", "-p", "8080:80/udp", "--net-rate", "100mbit"]].concat();
    for step in STEPS {
        for how in ["", ":kill"] {
            let what = format!("{step}{how}");
            let line = [&["run"], &flags[..], &["busybox", "true"]].concat();
            let out = Running::start(net.command(&line).env("TARE_FAULT", &what), None).wait();
            assert_ne!(out.code, 0, "{what}");
            // Whoever looks next clears up after one that was killed.
            assert_eq!(net.ok(&["ps", "-aq"]), "", "{what}");
            assert_eq!(net.settled(), "", "{what}");
            assert_eq!(names(&net), "", "{what}");
            let out = net.run(&line);
            assert_eq!(out.code, 0, "{what}: {}", out.stderr);
        }
    }
    assert_eq!(net.settled(), "");
    for network in ["red", "inner"] {
        net.ok(&["network", "rm", network]);
    }
}

#[test]
fn the_death_of_a_supervisor_frees_what_it_had_and_others_go_on() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.peer("other", &["--network", "red", "-p", "8081:80"]);
    let other = net.addresses("other", "red").0;
    for round in 0..3 {
        net.peer("web", &["--network", "red", "-p", "8080:80", "-p", "8080:80/udp"]);
        let status = std::fs::read_dir(net.host.run_dir().join("containers")).unwrap().flatten();
        let id = net.ok(&["inspect", "-f", "{{.Id}}", "web"]);
        let status =
            status.map(|e| e.path()).find(|p| p.ends_with(&id)).expect("its run directory").join("status.json");
        let status: serde_json::Value = serde_json::from_slice(&std::fs::read(status).unwrap()).unwrap();
        let supervisor = status["supervisor_pid"].as_i64().expect("its supervisor").to_string();
        net.inside.ok(&["kill", "-9", &supervisor]);
        assert!(
            tare_tests::eventually(std::time::Duration::from_secs(5), || {
                net.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).lines().any(|l| l.starts_with("web Exited"))
            }),
            "{}",
            net.ok(&["ps", "-a"])
        );
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None, "round {round}");
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8081).as_deref(), Some("other"));
        assert_eq!(net.who(From::On(&net.inside), "tcp", &other, 80).as_deref(), Some("other"));
        assert!(!names(&net).contains(&id), "{}", names(&net));
        net.ok(&["rm", "web"]);
    }
}

/// A change of a running container that is interrupted is made whole or undone by whoever looks next.
#[test]
fn a_connect_whose_client_dies_leaves_no_lease() {
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/30", "tiny"]);
    net.peer("web", &[]);
    for _ in 0..3 {
        let mut connect = net.command(&["network", "connect", "tiny", "web"]);
        let running = Running::start(&mut connect, None);
        std::thread::sleep(std::time::Duration::from_millis(3));
        drop(running);
        let there = net.ok(&["exec", "web", "ls", "/sys/class/net"]).contains("eth1");
        let told = net.inspect(&["inspect", "web"])["NetworkSettings"]["Networks"]["tiny"].is_object();
        assert_eq!(there, told);
        if there {
            net.ok(&["network", "disconnect", "tiny", "web"]);
        }
    }
    // The one address that the network has is free.
    net.ok(&["network", "connect", "tiny", "web"]);
    net.ok(&["network", "disconnect", "tiny", "web"]);
}
