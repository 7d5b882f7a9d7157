//! Pseudo-terminals and pipes between the caller and the container.

use rustix::process::Signal;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;
use tare_tests::{Host, Running, Terminal, eventually};

const SOON: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

fn run<'a>(flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--network", "none"], flags, &["busybox"], command].concat()
}

fn terminal(host: &Host, args: &[&str]) -> Terminal {
    Terminal::start(&host.command(args))
}

/// Bytes of every value, the same each time, without a pattern that a short write could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

#[test]
fn a_terminal_inside_is_a_real_one_with_the_callers_size() {
    let host = Host::new();
    host.busybox();
    let script = "tty; stty size; [ -c /dev/console ] && echo console; echo $TERM; \
                  trap 'echo size $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut t = terminal(&host, &run(&["--rm", "-it", "--init"], &["sh", "-c", script]));
    let begin = t.expect("ready");
    assert_eq!(begin, "/dev/pts/0\r\n24 80\r\nconsole\r\nxterm\r\n");
    // Keys go through untouched: the terminal outside is raw.
    assert!(!t.is_cooked());
    t.resize(50, 132);
    t.expect("size 50 132");
    t.resize(10, 20);
    t.expect("size 10 20");
    t.keys("\x03");
    assert_eq!(t.wait(), 130);
    assert!(t.is_cooked());
}

#[test]
fn a_shell_is_used_as_one_sits_before_it() {
    let host = Host::new();
    host.busybox();
    let mut t = terminal(&host, &run(&["--rm", "-it"], &["sh"]));
    t.expect("# ");
    t.keys("echo $((6 * 7))-answer\n");
    t.expect("42-answer");
    t.expect("# ");
    t.keys("cat\n");
    std::thread::sleep(Duration::from_millis(300));
    t.keys("line\n");
    t.expect("line\r\nline");
    t.keys("\x04");
    t.expect("# ");
    t.keys("sleep 1000\n");
    std::thread::sleep(Duration::from_millis(300));
    t.keys("\x03");
    t.expect("# ");
    t.keys("exit 6\n");
    assert_eq!(t.wait(), 6);
    assert!(t.is_cooked());
}

#[test]
fn detaching_leaves_it_running_and_attaching_goes_on() {
    let host = Host::new();
    host.busybox();
    let mut t = terminal(&host, &run(&["-it", "--name", "box"], &["sh"]));
    t.expect("# ");
    t.keys("a=kept\n");
    t.expect("# ");
    // The first key alone is passed on when something else follows.
    t.keys("\x10\x11");
    assert_eq!(t.wait(), 0);
    assert!(t.is_cooked());
    assert_eq!(host.inspect("box")["State"]["Status"], "running");
    for keys in [None, Some("ctrl-x,y")] {
        let attach = keys.map_or(vec!["attach", "box"], |k| vec!["attach", "--detach-keys", k, "box"]);
        let mut t = terminal(&host, &attach);
        t.keys("echo $a-$((1 + 1))\n");
        t.expect("kept-2");
        t.keys(if keys.is_some() { "\x18y" } else { "\x10\x11" });
        assert_eq!(t.wait(), 0);
        assert!(t.is_cooked());
    }
    let mut t = terminal(&host, &["attach", "box"]);
    t.keys("exit 4\n");
    assert_eq!(t.wait(), 4);
    // One that was begun in the background is attached to in the same way.
    host.ok(&run(&["-dit", "--name", "later"], &["sh"]));
    let mut t = terminal(&host, &["attach", "later"]);
    t.keys("stty size; exit 3\n");
    t.expect("24 80");
    assert_eq!(t.wait(), 3);
    assert!(host.ok(&["logs", "later"]).contains("24 80"));
}

#[test]
fn raw_mode_is_undone_on_every_way_out() {
    let host = Host::new();
    host.busybox();
    let begin = |name: &str| {
        let mut t = terminal(&host, &run(&["-it", "--name", name], &["sh", "-c", "echo up; exec sleep 1000"]));
        t.expect("up");
        assert!(!t.is_cooked());
        t
    };
    for (name, signal) in [("term", Signal::TERM), ("hup", Signal::HUP), ("int", Signal::INT)] {
        let mut t = begin(name);
        t.signal(signal);
        assert_eq!(t.wait(), 128 + signal.as_raw(), "{name}");
        assert!(t.is_cooked(), "{name}");
        assert_eq!(host.inspect(name)["State"]["Status"], "running");
    }
    let mut t = begin("killed");
    host.ok(&["kill", "killed"]);
    assert_eq!(t.wait(), 137);
    assert!(t.is_cooked());
    let mut t = begin("lost");
    let supervisor = host.inspect("lost")["State"]["SupervisorPid"].to_string();
    tare_tests::command("kill").args(["-9", &supervisor]).status().unwrap();
    assert_eq!(t.wait(), 137, "{}", t.screen());
    assert!(t.is_cooked());
    // A failed start never was raw.
    let mut t = terminal(&host, &run(&["-it", "--rm"], &["no-such-command"]));
    assert_eq!(t.wait(), 127);
    assert!(t.is_cooked());
}

#[test]
fn a_terminal_is_asked_for_in_vain_where_input_is_none() {
    let host = Host::new();
    host.busybox();
    let refused = host.fails(&run(&["--rm", "-it"], &["true"]), 125);
    assert!(refused.contains("not a terminal") && refused.contains("leave -t out"), "{refused}");
    // Output alone may be a terminal inside and a file outside.
    let out = host.run(&run(&["--rm", "-t"], &["sh", "-c", "tty; echo error >&2"]));
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "/dev/pts/0\r\nerror\r\n", ""));
}

#[test]
fn streams_are_kept_apart_and_input_ends() {
    let host = Host::new();
    host.busybox();
    let out = host.run(&run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; printf rest"]));
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\nrest", "err\n"));
    let out = host.run_with(&run(&["--rm", "-i"], &["cat"]), b"given");
    assert_eq!((out.code, out.stdout.as_str()), (0, "given"));
    // Without -i there is nothing to read, whatever the caller has.
    let out = host.run_with(&run(&["--rm"], &["cat"]), b"given");
    assert_eq!((out.code, out.stdout.as_str()), (0, ""));
    // Input that nobody reads does not keep it from ending.
    let out = host.run_with(&run(&["--rm", "-i"], &["head", "-c", "5"]), &noise(4 * MIB));
    assert_eq!((out.code, out.bytes), (0, noise(5)));
    // A conversation: each answer comes before the next question.
    let mut client = Running::interactive(&mut host.command(&run(&["--rm", "-i"], &["sh"])));
    for i in 1..=3 {
        client.write(format!("echo answer {i}\n").as_bytes());
        assert!(eventually(SOON, || client.printed().0.contains(&format!("answer {i}\n"))), "{:?}", client.printed());
    }
    client.close_input();
    assert_eq!(client.wait().code, 0);
}

#[test]
fn ten_mebibytes_go_in_and_out_unharmed() {
    let host = Host::new();
    host.busybox();
    let bytes = noise(10 * MIB);
    let out = host.run_with(&run(&["--rm", "-i"], &["cat"]), &bytes);
    assert!(out.code == 0 && out.bytes == bytes, "{} {}", out.code, out.bytes.len());
    host.ok(&run(&["-d", "--name", "box"], &["sleep", "1000"]));
    let out = host.run_with(&["exec", "-i", "box", "cat"], &bytes);
    assert!(out.code == 0 && out.bytes == bytes, "exec: {} {}", out.code, out.bytes.len());
}

#[test]
fn a_slow_reader_loses_nothing_and_neither_does_the_log() {
    let host = Host::new();
    host.busybox();
    // Long lines: the log's heads must not make it more than it keeps.
    let script = "BEGIN { x = sprintf(\"%01000d\", 0); for (i = 0; i < 10500; i++) print i \" \" x }";
    let expected: String = (0..10_500).map(|i| format!("{i} {:01000}\n", 0)).collect();
    let args = run(&["--name", "box"], &["awk", script]);
    let mut child = host.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut got = Vec::new();
    std::thread::sleep(Duration::from_millis(500));
    let mut small = [0u8; 1000];
    for _ in 0..100 {
        let n = pipe.read(&mut small).unwrap();
        got.extend_from_slice(&small[..n]);
        std::thread::sleep(Duration::from_millis(5));
    }
    pipe.read_to_end(&mut got).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(got == expected.as_bytes(), "{} of {}", got.len(), expected.len());
    assert!(host.run(&["logs", "box"]).stdout == expected);
}

#[test]
fn a_reader_that_goes_away_leaves_it_running() {
    let host = Host::new();
    host.busybox();
    let args = run(&["--name", "box"], &["sh", "-c", "while :; do echo line; sleep 0.02; done"]);
    let mut child = host.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0u8; 5];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(141));
    assert!(String::from_utf8_lossy(&out.stderr).contains("goes on running"), "{out:?}");
    assert_eq!(host.inspect("box")["State"]["Status"], "running");
}

#[test]
fn several_clients_see_the_same_and_any_may_type() {
    let host = Host::new();
    host.busybox();
    host.ok(&run(&["-di", "--name", "box"], &["sh", "-c", "while read l; do echo \"heard $l\"; done; exit 8"]));
    let mut clients: Vec<Running> =
        (0..3).map(|_| Running::interactive(&mut host.command(&["attach", "box"]))).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.write(format!("{i}\n").as_bytes());
        let line = format!("heard {i}\n");
        assert!(eventually(SOON, || client.printed().0.contains(&line)), "{i}");
    }
    clients.iter().for_each(|c| assert!(eventually(SOON, || c.printed().0.contains("heard 2"))));
    for client in clients {
        assert_eq!(client.wait().code, 8);
    }
    assert_eq!(host.ok(&["logs", "box"]), "heard 0\nheard 1\nheard 2");
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up_for_ever() {
    let host = Host::new();
    host.busybox();
    let args = run(&["--name", "box"], &["sh", "-c", "seq 1 300000; echo done > /done"]);
    let mut child = host.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // Stopped in the midst of its work: the container waits, as behind any full pipe, and ends when it is let go.
    let running = host.inspect("box")["State"]["Status"] == "running";
    std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert!(running);
    assert_eq!(host.ok(&["wait", "box"]), "0");
    child.wait().unwrap();
    assert_eq!(host.run(&["logs", "--tail", "1", "box"]).stdout, "300000\n");
}
