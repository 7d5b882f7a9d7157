//! Signals and exit codes: what reaches the container, and what the caller is told.

use rustix::process::Signal;
use std::time::Duration;
use tare_tests::{Host, Running, Terminal, eventually};

const SOON: Duration = Duration::from_secs(20);
/// Says which signals it got; ends at `QUIT`.
const LISTENER: &str = "for s in HUP INT USR1 USR2 ALRM TERM CONT; do trap \"echo got $s\" $s; done; \
                        trap 'echo got QUIT; exit 9' QUIT; echo up; while :; do sleep 0.05; done";

fn run<'a>(flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--network", "none"], flags, &["busybox"], command].concat()
}

fn up(client: &Running) {
    assert!(eventually(SOON, || client.printed().0.contains("up")), "{:?}", client.printed());
}

#[test]
fn exit_codes_are_dockers() {
    let host = Host::new();
    host.busybox();
    let code = |flags: &[&str], command: &[&str]| host.run(&run(&[&["--rm"], flags].concat(), command)).code;
    for n in [0, 1, 7, 125, 200, 255] {
        assert_eq!(code(&[], &["sh", "-c", &format!("exit {n}")]), n);
    }
    assert_eq!(code(&[], &["/etc/passwd"]), 126);
    assert_eq!(code(&[], &["no-such-command"]), 127);
    assert_eq!(code(&["--no-such-flag"], &["true"]), 125);
    assert_eq!(code(&["--memory", "much"], &["true"]), 125);
    for (signal, expected) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        assert_eq!(code(&["--init"], &["sh", "-c", &format!("kill -{signal} $$; sleep 10")]), expected, "{signal}");
    }
    assert_eq!(host.run(&["run", "--rm", "--pull", "never", "no-such-image", "true"]).code, 125);
    // `start -a` and `wait` tell the same; other verbs have 1.
    host.ok(&["create", "--name", "box", "--network", "none", "busybox", "sh", "-c", "exit 5"]);
    assert_eq!(host.run(&["start", "-a", "box"]).code, 5);
    assert_eq!(host.ok(&["wait", "box"]), "5");
    host.ok(&["create", "--name", "bad", "--network", "none", "busybox", "no-such-command"]);
    assert_eq!(host.run(&["start", "bad"]).code, 127);
    for verb in [&["rm", "nobody"][..], &["stop", "nobody"], &["kill", "box"], &["exec", "box", "true"]] {
        assert_eq!(host.run(verb).code, 1, "{verb:?}");
    }
}

#[test]
fn signals_of_the_client_reach_the_first_process() {
    let host = Host::new();
    host.busybox();
    let client = host.start(&run(&["--rm"], &["sh", "-c", LISTENER]));
    up(&client);
    let list = [
        ("INT", Signal::INT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("ALRM", Signal::ALARM),
        ("TERM", Signal::TERM),
        ("CONT", Signal::CONT),
    ];
    for (name, signal) in list {
        client.signal(signal);
        let line = format!("got {name}\n");
        assert!(eventually(SOON, || client.printed().0.ends_with(&line)), "{name}: {:?}", client.printed());
    }
    client.signal(Signal::QUIT);
    let out = client.wait();
    assert!(out.code == 9 && out.stdout.ends_with("got QUIT\n"), "{out:?}");
}

#[test]
fn without_the_proxy_signals_end_the_client_alone() {
    let host = Host::new();
    host.busybox();
    let client = host.start(&run(&["--name", "box", "--sig-proxy=false"], &["sh", "-c", LISTENER]));
    up(&client);
    client.signal(Signal::TERM);
    assert_eq!(client.wait().code, 143);
    assert_eq!(host.inspect("box")["State"]["Status"], "running");
    assert_eq!(host.ok(&["logs", "box"]), "up");
    // An attached client passes them on again.
    let client = host.start(&["attach", "box"]);
    let attached = || {
        host.ok(&["kill", "-s", "USR1", "box"]);
        client.printed().0.contains("got USR1")
    };
    assert!(eventually(SOON, attached));
    client.signal(Signal::TERM);
    assert!(eventually(SOON, || client.printed().0.contains("got TERM")), "{:?}", client.printed());
    client.signal(Signal::QUIT);
    assert_eq!(client.wait().code, 9);
}

#[test]
fn keys_interrupt_with_and_without_a_terminal_inside() {
    let host = Host::new();
    host.busybox();
    for flags in [&["--rm"][..], &["--rm", "-it"]] {
        let mut terminal = Terminal::start(&host.command(&run(flags, &["sh", "-c", LISTENER])));
        terminal.expect("up");
        terminal.keys("\x03");
        terminal.expect("got INT");
        terminal.keys("\x1c");
        terminal.expect("got QUIT");
        assert_eq!(terminal.wait(), 9, "{flags:?}");
        assert!(terminal.is_cooked());
    }
}

#[test]
fn kill_takes_names_and_numbers() {
    let host = Host::new();
    host.busybox();
    host.ok(&run(&["-d", "--name", "box"], &["sh", "-c", LISTENER]));
    let log = || host.ok(&["logs", "box"]);
    assert!(eventually(SOON, || log() == "up"));
    for (given, name) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("usr1", "USR1"), ("1", "HUP"), ("15", "TERM")] {
        host.ok(&["kill", "-s", given, "box"]);
        let line = format!("got {name}");
        assert!(eventually(SOON, || log().ends_with(&line)), "{given}: {}", log());
    }
    for bad in ["NONE", "99", "0", "-1"] {
        let refused = host.run(&["kill", &format!("--signal={bad}"), "box"]);
        assert!(refused.code != 0 && refused.stderr.contains(bad), "{refused:?}");
    }
    host.ok(&["kill", "box"]);
    assert_eq!(host.ok(&["wait", "box"]), "137");
    assert!(host.fails(&["kill", "box"], 1).contains("not running"));
}

#[test]
fn signals_begin_as_a_program_expects_them() {
    let host = Host::new();
    host.busybox();
    // Nothing blocked, nothing ignored, whatever state the caller's signals were in.
    let tare = host.command(&run(&["--rm"], &["grep", "^Sig[BI]", "/proc/self/status"]));
    let mut outer = tare_tests::command("bash");
    outer.args(["-c", "trap '' PIPE INT USR1; exec \"$@\"", "-"]).arg(tare.get_program()).args(tare.get_args());
    let out = Running::start(&mut outer, None).wait();
    assert_eq!(
        (out.code, out.stdout.as_str()),
        (0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"),
        "{out:?}"
    );
    host.ok(&run(&["-d", "--name", "box"], &["sleep", "1000"]));
    assert_eq!(host.ok(&["exec", "box", "grep", "SigIgn", "/proc/self/status"]), "SigIgn:\t0000000000000000");
}
