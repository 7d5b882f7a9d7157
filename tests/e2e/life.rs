//! A container's life: what its client, its terminal and its supervisor may suffer; stop, restart, removal.

use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tare_tests::{Census, Host, Running, Terminal, Tree, command, eventually};

const SOON: Duration = Duration::from_secs(20);
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

fn lines(host: &Host, name: &str) -> usize {
    host.ok(&["logs", name]).lines().count()
}

/// Whether its output goes on being logged.
fn goes_on(host: &Host, name: &str) -> bool {
    let before = lines(host, name);
    eventually(SOON, || lines(host, name) > before + 2)
}

fn state(host: &Host, name: &str, field: &str) -> String {
    let state = host.inspect(name)["State"][field].clone();
    state.as_str().map_or_else(|| state.to_string(), str::to_owned)
}

/// Kills a process; back when it has let go of everything that it had open.
fn kill(pid: &str) {
    assert!(command("kill").args(["-9", pid]).status().unwrap().success());
    let stat = Path::new("/proc").join(pid).join("stat");
    let gone = || std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(") Z ")) || !stat.exists();
    assert!(eventually(SOON, gone), "{pid}");
}

#[test]
fn a_container_survives_its_client() {
    let host = Host::new();
    host.busybox();
    for signal in [Signal::KILL, Signal::HUP] {
        let client = host.start(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", COUNT]);
        assert!(eventually(SOON, || client.printed().0.contains('3')), "{:?}", client.printed());
        client.signal(signal);
        client.wait();
        assert!(goes_on(&host, "box"), "{signal:?}");
        assert_eq!(state(&host, "box", "Status"), "running");
        host.ok(&["rm", "-f", "box"]);
    }
}

#[test]
fn a_container_survives_its_terminal() {
    let host = Host::new();
    host.busybox();
    for flags in [&["-it"][..], &["-t"], &["-i"], &[]] {
        let run = [&["run", "--name", "box", "--network", "none"], flags, &["busybox", "sh", "-c", COUNT]].concat();
        let mut terminal = Terminal::start(&host.command(&run));
        terminal.expect("3");
        terminal.close();
        assert_eq!(terminal.wait(), 129, "{flags:?}: {}", terminal.screen());
        assert!(goes_on(&host, "box"), "{flags:?}");
        host.ok(&["rm", "-f", "box"]);
    }
}

/// A program that a dying parent does not end: it runs with another user's id, or takes the signal back.
const HARDENED: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv) {
  int signal = -1;
  if (argc > 1 && !strcmp(argv[1], "reset")) prctl(PR_SET_PDEATHSIG, 0);
  prctl(PR_GET_PDEATHSIG, &signal);
  printf("signal %d, user %d\n", signal, geteuid());
  fflush(stdout);
  if (fork() == 0) setsid();
  for (;;) pause();
}
"#;

fn hardened(host: &Host) {
    let tree = Tree::busybox();
    tree.compiled("bin/hardened", HARDENED);
    std::fs::copy(tree.path("bin/hardened"), tree.path("bin/setuid")).unwrap();
    std::fs::set_permissions(tree.path("bin/setuid"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    host.import(&tree, &[], "busybox");
}

/// What is left of it but its own directories.
fn left(host: &Host) -> Vec<String> {
    let now = || Census::take(host.names()).0.into_iter().filter(|l| !l.starts_with("container ")).collect::<Vec<_>>();
    eventually(SOON, || now().is_empty());
    now()
}

#[test]
fn a_container_does_not_survive_its_supervisor() {
    let host = Host::new();
    hardened(&host);
    let cases = [
        ("plain", &[][..], &["hardened"][..], "signal 9, user 0"),
        ("setuid", &["--user", "web"], &["setuid"], "signal 0, user 0"),
        ("reset", &[], &["hardened", "reset"], "signal 0, user 0"),
        ("init", &["--init"], &["hardened", "reset"], "signal 0, user 0"),
    ];
    for (name, flags, program, says) in cases {
        host.ok(&[&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox"], program].concat());
        assert!(eventually(SOON, || host.ok(&["logs", name]) == says), "{name}: {}", host.ok(&["logs", name]));
        let (pid, supervisor) = (state(&host, name, "Pid"), state(&host, name, "SupervisorPid"));
        kill(&supervisor);
        let process = Path::new("/proc").join(&pid);
        // The parent-death signal where it holds; where it does not, the next command that looks.
        if says.starts_with("signal 9") {
            assert!(eventually(SOON, || !process.exists()), "{name}");
        }
        let status = host.ok(&["ps", "-a", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]);
        assert!(status.starts_with("Exited (137)") && status.contains("supervisor lost"), "{name}: {status}");
        assert!(eventually(SOON, || !process.exists()), "{name}");
        assert_eq!(left(&host), [""; 0], "{name}");
        assert!(state(&host, name, "Error").contains("supervisor lost"), "{name}");
        assert_eq!(host.ok(&["wait", name]), "137");
        // It is whole again.
        host.ok(&["start", name]);
        assert!(eventually(SOON, || lines(&host, name) == 2), "{name}");
        host.ok(&["rm", "-f", name]);
    }
    assert_eq!(host.settled().0, [""; 0]);
}

#[test]
fn whatever_looks_first_clears_up_after_a_lost_supervisor() {
    let host = Host::new();
    hardened(&host);
    let lose = |name: &str, flags: &[&str]| {
        host.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "hardened", "reset"]].concat());
        let pid = state(&host, name, "Pid");
        kill(&state(&host, name, "SupervisorPid"));
        assert!(Path::new("/proc").join(&pid).exists());
        pid
    };
    let gone = |pid: &str| eventually(SOON, || !Path::new("/proc").join(pid).exists());
    for verb in [
        &["inspect", "box"][..],
        &["ps"],
        &["start", "box"],
        &["rm", "box"],
        &["stop", "box"],
        &["logs", "box"],
        &["wait", "box"],
    ] {
        let pid = lose("box", &["--network", "none"]);
        host.ok(verb);
        assert!(gone(&pid), "{verb:?}");
        host.run(&["rm", "-f", "box"]);
    }
    for verb in [&["exec", "box", "true"][..], &["kill", "box"], &["pause", "box"], &["attach", "box"]] {
        let pid = lose("box", &["--network", "none"]);
        assert!(host.fails(verb, 1).contains("not running"), "{verb:?}");
        assert!(gone(&pid), "{verb:?}");
        host.ok(&["rm", "box"]);
    }
    // One that is removed at its end is removed; with a network, its device, address and port are free.
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    for _ in 0..2 {
        let pid = lose("box", &["--rm", "-p", &publish]);
        assert_eq!(host.ok(&["ps", "-aq"]), "");
        assert!(gone(&pid));
        assert_eq!(host.settled().0, [""; 0]);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
    // A frozen one as well.
    let pid = lose("box", &["--network", "none"]);
    host.ok(&["start", "box"]);
    host.ok(&["pause", "box"]);
    kill(&state(&host, "box", "SupervisorPid"));
    assert!(host.ok(&["ps", "-a"]).contains("supervisor lost") && gone(&pid));
    assert_eq!(left(&host), [""; 0]);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn asking_the_supervisor_to_end_stops_the_container() {
    let host = Host::new();
    host.busybox();
    let script = "trap 'echo asked; exit 4' USR1; echo up; while :; do sleep 0.05; done";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert!(eventually(SOON, || host.ok(&["logs", "box"]) == "up"));
    let supervisor = state(&host, "box", "SupervisorPid");
    for signal in ["-INT", "-HUP", "-QUIT", "-PIPE"] {
        command("kill").args([signal, &supervisor]).status().unwrap();
    }
    assert!(host.ok(&["ps"]).contains("Up"));
    command("kill").args(["-TERM", &supervisor]).status().unwrap();
    assert_eq!((host.ok(&["wait", "box"]).as_str(), host.ok(&["logs", "box"]).as_str()), ("4", "up\nasked"));
}

#[test]
fn a_container_that_does_not_listen_to_its_supervisor_is_killed() {
    let host = Host::new();
    host.busybox();
    let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let settings = ["run", "-d", "--name", "box", "--network", "none", "--stop-timeout", "1"];
    host.ok(&[&settings[..], &["busybox", "sh", "-c", script]].concat());
    assert!(eventually(SOON, || host.ok(&["logs", "box"]) == "up"));
    command("kill").args(["-TERM", &state(&host, "box", "SupervisorPid")]).status().unwrap();
    assert_eq!(host.ok(&["wait", "box"]), "137");
}

#[test]
fn stopping_asks_first_and_kills_after_the_timeout() {
    let host = Host::new();
    host.busybox();
    let polite = |signal: &str| format!("trap 'echo {signal}; exit 5' {signal}; echo up; while :; do sleep 0.05; done");
    let start = |name: &str, flags: &[&str], script: &str| {
        host.ok(
            &[&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat()
        );
        assert!(eventually(SOON, || host.ok(&["logs", name]).starts_with("up")));
    };
    let stopped = |args: &[&str], name: &str| {
        let begin = Instant::now();
        host.ok(&[&["stop"], args, &[name]].concat());
        (begin.elapsed(), state(&host, name, "ExitCode"), host.ok(&["logs", name]))
    };
    start("term", &[], &polite("TERM"));
    let (time, code, log) = stopped(&[], "term");
    assert!(time < Duration::from_secs(8) && code == "5" && log == "up\nTERM", "{time:?} {code} {log}");
    start("usr", &["--stop-signal", "SIGUSR2"], &polite("USR2"));
    assert_eq!(stopped(&[], "usr").1, "5");
    start("asked", &[], &polite("INT"));
    assert_eq!(stopped(&["-s", "INT"], "asked").1, "5");
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    for (name, flags, args) in [("deaf", &[][..], &["-t", "1"][..]), ("own", &["--stop-timeout", "1"], &[])] {
        start(name, flags, deaf);
        let (time, code, _) = stopped(args, name);
        assert!(
            time >= Duration::from_secs(1) && time < Duration::from_secs(8) && code == "137",
            "{name}: {time:?} {code}"
        );
    }
    // One that has ended is no error; an unknown one is; the others are stopped all the same.
    host.ok(&["stop", "deaf"]);
    start("last", &[], &polite("TERM"));
    assert!(host.fails(&["stop", "nobody", "last"], 1).contains("nobody"));
    assert_eq!(state(&host, "last", "Status"), "exited");
}

#[test]
fn starting_again_keeps_the_files() {
    let host = Host::new();
    host.busybox();
    let script =
        "echo run >> /file; rm -f /etc/group; cat /file; echo 1 > /dev/shm/x; ls /dev/shm /tmp; mkdir -p /tmp/dir";
    let first = host.run(&["run", "--name", "box", "--network", "none", "-v", "/vol", "busybox", "sh", "-c", script]);
    assert_eq!(first.stdout, "run\n/dev/shm:\nx\n\n/tmp:\n");
    let again = host.run(&["start", "-a", "box"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "run\nrun\n/dev/shm:\nx\n\n/tmp:\ndir\n"));
    host.ok(&["start", "box"]);
    host.ok(&["wait", "box"]);
    assert_eq!(host.ok(&["logs", "box"]).matches("run").count(), 1 + 2 + 3);
    assert!(host.ok(&["diff", "box"]).contains("D /etc/group"));
    host.ok(&["create", "--name", "long", "--network", "none", "busybox", "sleep", "1000"]);
    host.ok(&["start", "long"]);
    let pid = state(&host, "long", "Pid");
    assert_eq!(host.ok(&["start", "long"]), "long");
    assert_eq!(state(&host, "long", "Pid"), pid, "it runs already, and is left alone");
    let first = state(&host, "long", "Pid");
    host.ok(&["stop", "-t", "0", "long"]);
    host.ok(&["start", "long"]);
    assert_ne!(state(&host, "long", "Pid"), first);
    assert_eq!(state(&host, "long", "ExitCode"), "0");
}

#[test]
fn name_address_and_port_are_free_when_run_returns() {
    let host = Host::new();
    host.busybox();
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    for i in 0..12 {
        // The same name and port each time, without a pause.
        let args = ["run", "--rm", "--name", "box", "-p", &publish, "busybox", "hostname", "-i"];
        let out = host.run(&args);
        assert_eq!(out.code, 0, "{i}: {}", out.stderr);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{i}");
        assert_eq!(host.ok(&["ps", "-aq"]), "");
    }
    host.ok(&["run", "-d", "--rm", "--name", "box", "-p", &publish, "busybox", "sleep", "1000"]);
    let waiter = host.start(&["wait", "box"]);
    let failed = host.fails(&["run", "--rm", "--name", "box", "busybox", "true"], 125);
    assert!(failed.contains("has this name") && failed.contains("tare rm box"), "{failed}");
    host.ok(&["stop", "-t", "0", "box"]);
    host.ok(&["run", "--rm", "--name", "box", "-p", &publish, "busybox", "true"]);
    assert_eq!(waiter.wait().stdout, "137\n");
    assert_eq!(host.settled().0, [""; 0]);
}

#[test]
fn many_may_wait() {
    let host = Host::new();
    host.busybox();
    for flags in [&[][..], &["--rm"]] {
        let run = ["run", "-d", "--name", "box", "--network", "none"];
        host.ok(&[&run, flags, &["busybox", "sh", "-c", "sleep 0.7; exit 9"]].concat());
        let waiters: Vec<Running> = (0..6).map(|_| host.start(&["wait", "box"])).collect();
        for waiter in waiters {
            let out = waiter.wait();
            assert_eq!((out.code, out.stdout.as_str()), (0, "9\n"), "{}", out.stderr);
        }
        if flags.is_empty() {
            assert_eq!(host.ok(&["wait", "box"]), "9");
            host.ok(&["rm", "box"]);
        }
    }
    assert!(host.fails(&["wait", "box"], 1).contains("box"));
    host.ok(&["create", "--name", "later", "--network", "none", "busybox", "true"]);
    let mut waiter = host.start(&["wait", "later"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiter.has_ended());
    host.ok(&["start", "later"]);
    assert_eq!(waiter.wait().stdout, "0\n");
}

#[test]
fn kernel_objects_are_gone_soon_after_the_answer() {
    let host = Host::new();
    host.busybox();
    let mut times = Vec::new();
    for _ in 0..5 {
        host.ok(&["run", "--rm", "busybox", "true"]);
        let begin = Instant::now();
        assert_eq!(host.settled().0, [""; 0]);
        times.push(begin.elapsed());
    }
    // Half a second is promised; a machine that is busy with other tests may miss it now and then.
    times.sort_unstable();
    assert!(times[1] < Duration::from_millis(500), "{times:?}");
}

#[test]
fn a_root_that_was_forgotten_is_left_alone_by_others() {
    let (host, other) = (Host::new(), Host::new());
    host.busybox();
    other.busybox();
    host.ok(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    other.ok(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    other.ok(&["rm", "-f", "box"]);
    assert_eq!(other.settled().0, [""; 0]);
    assert_eq!(state(&host, "box", "Status"), "running");
    host.ok(&["exec", "box", "ping", "-c", "1", "-w", "5", &gateway(&host, "box")]);
}

fn gateway(host: &Host, name: &str) -> String {
    let route = host.ok(&["exec", name, "ip", "route"]);
    route.lines().find_map(|l| l.strip_prefix("default via ")).unwrap().split(' ').next().unwrap().to_owned()
}
