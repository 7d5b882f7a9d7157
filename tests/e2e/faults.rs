//! A failure, or the death of whoever is at work, at each step of a start: nothing is left but what was promised.

use tare_tests::{Host, Output, Running, command};

/// In the order in which they are met.
const STEPS: [&str; 13] = [
    "volumes", "reserve", "config", "lock", "rootfs", "ports", "status", "cgroup", "clone", "bridge", "network",
    "ready", "release",
];
/// From here on the container exists: what fails is its start. Whoever dies at `config` has just made it.
fn exists(step: usize, how: How) -> bool {
    step >= if how == How::Dies { 2 } else { 3 }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Fails,
    Dies,
}

fn with_fault(host: &Host, step: &str, how: How, args: &[&str]) -> Output {
    let fault = if how == How::Dies { format!("{step}:kill") } else { step.to_owned() };
    Running::start(host.command(args).env("TARE_FAULT", fault), None).wait()
}

/// Rows of the tables that containers leave rows in.
fn rows(host: &Host) -> String {
    let query = "select 'container ' || name from containers; select 'address ' || container from addresses; \
                 select 'volume ' || name from volumes;";
    let mut sqlite = command("sqlite3");
    let out = Running::start(sqlite.arg("-readonly").arg(host.root().join("state.db")).arg(query), None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.stdout
}

/// Directories that containers leave something in.
fn files(host: &Host) -> Vec<String> {
    let list = |dir: &str| {
        let entries = std::fs::read_dir(host.root().join(dir)).into_iter().flatten().flatten();
        entries.map(|e| e.path().display().to_string()).collect::<Vec<_>>()
    };
    ["containers", "volumes", "tmp"].into_iter().flat_map(list).collect()
}

#[track_caller]
fn nothing_is_left(host: &Host, what: &str) {
    assert_eq!(host.settled().0, [""; 0], "{what}");
    assert_eq!(host.ok(&["ps", "-aq"]), "", "{what}");
    assert_eq!(files(host), [""; 0], "{what}");
    assert_eq!(rows(host), "", "{what}");
}

/// The flags of one start: everything that needs taking down again.
fn flags() -> [String; 7] {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    ["--name", "box", "-v", "/anonymous", "-p", &format!("127.0.0.1:{port}:80"), "busybox"].map(str::to_owned)
}

fn check(host: &Host, verbs: &[&str], how: How) {
    let flags = flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for (i, step) in STEPS.into_iter().enumerate() {
        let what = format!("{verbs:?} {step} {how:?}");
        let out = with_fault(host, step, how, &[verbs, &flags, &["true"]].concat());
        assert_ne!(out.code, 0, "{what}");
        if how == How::Fails {
            assert_eq!(out.code, 125, "{what}: {}", out.stderr);
            assert!(out.stderr.contains(step) && out.stderr.contains("asked for by a test"), "{what}: {}", out.stderr);
        }
        let removed = verbs.contains(&"--rm") || !exists(i, how);
        // The next command that looks clears up after one that died.
        let list = host.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
        if removed {
            assert_eq!(list, "", "{what}");
        } else {
            // As with docker, a container whose start failed is there, and can be started.
            assert!(list.starts_with("box "), "{what}: {list}");
            let again = host.run(&["start", "-a", "box"]);
            assert_eq!(again.code, 0, "{what}: {}", again.stderr);
            host.ok(&["rm", "-v", "box"]);
        }
        nothing_is_left(host, &what);
        // The name and the port are free.
        let again = host.run(&[&["run", "--rm"], &flags[..], &["true"]].concat());
        assert_eq!(again.code, 0, "{what}: {}", again.stderr);
    }
    nothing_is_left(host, "in the end");
}

#[test]
fn a_run_that_is_removed_and_fails() {
    let host = Host::new();
    host.busybox();
    check(&host, &["run", "--rm"], How::Fails);
}

#[test]
fn a_run_that_is_removed_and_is_killed() {
    let host = Host::new();
    host.busybox();
    check(&host, &["run", "--rm"], How::Dies);
}

#[test]
fn a_run_in_the_background_fails() {
    let host = Host::new();
    host.busybox();
    check(&host, &["run", "-d"], How::Fails);
}

#[test]
fn a_run_in_the_background_is_killed() {
    let host = Host::new();
    host.busybox();
    check(&host, &["run", "-d"], How::Dies);
}

#[test]
fn create_and_start_fail_or_are_killed() {
    let host = Host::new();
    host.busybox();
    let flags = flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for how in [How::Fails, How::Dies] {
        for (i, step) in STEPS.into_iter().enumerate() {
            let what = format!("{step} {how:?}");
            let create = [&["create"], &flags[..], &["echo", "hi"]].concat();
            if !exists(i, how) {
                assert_ne!(with_fault(&host, step, how, &create).code, 0, "{what}");
                assert_eq!(host.ok(&["ps", "-aq"]), "", "{what}");
            } else {
                assert_eq!(
                    with_fault(&host, step, how, &create).code,
                    if step == "config" { 137 } else { 0 },
                    "{what}"
                );
                // Two failures change nothing either.
                for _ in 0..2 {
                    let out = with_fault(&host, step, how, &["start", "box"]);
                    assert_eq!(out.code != 0, step != "config", "{what}: {}", out.stderr);
                    let worded = out.stderr.contains("asked for by a test");
                    assert!(how == How::Dies || worded, "{what}: {}", out.stderr);
                    if step == "config" {
                        host.ok(&["wait", "box"]);
                    }
                }
                let again = host.run(&["start", "-a", "box"]);
                assert_eq!((again.code, again.stdout.as_str()), (0, "hi\n"), "{what}: {}", again.stderr);
                host.ok(&["rm", "-v", "box"]);
            }
            nothing_is_left(&host, &what);
        }
    }
}

#[test]
fn an_address_is_not_lost_with_a_failure() {
    let host = Host::new();
    host.busybox();
    let address = || host.ok(&["run", "--rm", "busybox", "hostname", "-i"]);
    let own = address();
    for step in ["bridge", "network", "release"] {
        for how in [How::Fails, How::Dies] {
            with_fault(&host, step, how, &["run", "--rm", "busybox", "true"]);
            assert_eq!(host.ok(&["ps", "-aq"]), "");
        }
    }
    assert!(own.starts_with("10.") || own.starts_with("172.") || own.starts_with("192."), "{own}");
    assert!(!address().is_empty());
    nothing_is_left(&host, "in the end");
}

#[test]
fn containers_that_run_do_not_feel_the_failures_of_others() {
    let host = Host::new();
    host.busybox();
    host.ok(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"]);
    let pid = host.inspect("other")["State"]["Pid"].clone();
    let route = host.ok(&["exec", "other", "ip", "route"]);
    let gateway = route.lines().find_map(|l| l.strip_prefix("default via ")).unwrap().split(' ').next().unwrap();
    for step in STEPS {
        for how in [How::Fails, How::Dies] {
            with_fault(&host, step, how, &["run", "--rm", "--name", "box", "busybox", "true"]);
        }
        host.ok(&["exec", "other", "ping", "-c", "1", "-w", "5", gateway]);
    }
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Names}}"]), "other");
    assert_eq!(host.inspect("other")["State"]["Pid"], pid);
    host.ok(&["rm", "-f", "other"]);
    nothing_is_left(&host, "in the end");
}
