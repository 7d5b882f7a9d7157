//! `listenerPath` and `listenerMetadata`: whoever listens is sent a descriptor, and answers what the filter asks.

use super::program;
use crate::lifecycle::nothing_is_left;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use tare_tests::oci::{Abi, Arg, Case, case, kernel, one_call, skip};
use tare_tests::{Running, command, have};

/// Numbers of x86_64. No runtime has a use for these between the filter and the program.
const ALARM: u64 = 37;
const SYSINFO: u64 = 99;

/// Listens at $1, writes what comes with the first descriptor to $2, and answers N notifications: alarm gets 42,
/// everything else the error 95, and with an argument of 1 goes on.
const AGENT: &str = r"
import array, fcntl, json, os, socket, struct, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen(5)
print('listens', flush=True)
answered = 0
while answered < int(sys.argv[3]):
    peer, _ = server.accept()
    data, fds, flags, _ = socket.recv_fds(peer, 65536, 5)
    # The sender may keep the connection open.
    while True:
        try:
            json.loads(data)
            break
        except ValueError:
            data += peer.recv(65536)
    with open(sys.argv[2] + '.new', 'wb') as f:
        f.write(data)
    with open(sys.argv[2] + '.fds', 'w') as f:
        f.write(str(len(fds)))
    os.rename(sys.argv[2] + '.new', sys.argv[2])
    while answered < int(sys.argv[3]):
        request = bytearray(80)
        try:
            fcntl.ioctl(fds[0], 0xc0502100, request)
        except OSError as e:
            print('no request', e, flush=True)
            break
        ident, pid, flags, nr = struct.unpack_from('QIIi', request)
        first = struct.unpack_from('Q', request, 32)[0]
        answered += 1
        if first == 1:
            answer = struct.pack('QqiI', ident, 0, 0, 1)
        elif nr == 37:
            answer = struct.pack('QqiI', ident, 42, 0, 0)
        else:
            answer = struct.pack('QqiI', ident, 0, -95, 0)
        print('call', nr, pid, flush=True)
        try:
            fcntl.ioctl(fds[0], 0xc0182101, bytearray(answer))
        except OSError as e:
            print('gone', e, flush=True)
";

/// An agent for so many calls, and a filter that asks it about alarm and sysinfo.
fn listening(c: &mut Case, calls: u32) -> Running {
    if !have("python3") {
        skip("python3 is not there");
    }
    let socket = c.path("agent");
    let mut python = command("python3");
    python.args(["-c", AGENT]).arg(&socket).arg(c.path("sent")).arg(calls.to_string());
    let agent = Running::start(&mut python, None);
    c.until("the agent listens", || agent.printed().0.contains("listens"));
    c.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket.to_str().unwrap(),
            "listenerMetadata": "of the caller",
            "syscalls": [{ "names": ["alarm", "sysinfo"], "action": "SCMP_ACT_NOTIFY" }],
        }),
    );
    agent
}

fn sent(c: &Case) -> Value {
    let file = c.path("sent");
    c.until("the descriptor is sent", || file.exists());
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn the_answer_is_the_calls_result() {
    case(|c| {
        let agent = listening(c, 1);
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        let out = c.args(&[&call]).run();
        assert_eq!(out.code, 42, "{out:?} {:?}", agent.printed());
        assert!(agent.wait().stdout.contains("call 37"));
    });
}

#[test]
fn the_answer_may_be_an_error() {
    case(|c| {
        let agent = listening(c, 1);
        let call = program(c, "call", &one_call(Abi::Amd64, SYSINFO, &[Arg::Number(0)]));
        assert_eq!(c.args(&[&call]).run().code, 95);
        assert!(agent.wait().stdout.contains("call 99"));
    });
}

#[test]
fn the_answer_may_be_to_go_on() {
    const EFAULT: i32 = 14;
    case(|c| {
        let agent = listening(c, 1);
        let call = program(c, "call", &one_call(Abi::Amd64, SYSINFO, &[Arg::Number(1)]));
        assert_eq!(c.args(&[&call]).run().code, EFAULT);
        agent.wait();
    });
}

#[test]
fn the_state_and_the_metadata_come_with_the_descriptor() {
    case(|c| {
        let mut agent = listening(c, 1);
        c.set("/annotations/org.example.key", "a value");
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        c.start();
        let sent = sent(c);
        assert_eq!(sent["fds"], json!(["seccompFd"]));
        assert_eq!(sent["metadata"], "of the caller");
        assert_eq!(sent["pid"], pid);
        assert!(sent["ociVersion"].is_string(), "{sent}");
        let state = &sent["state"];
        assert_eq!(state["id"], c.id());
        assert_eq!(state["pid"], pid);
        assert_eq!(state["bundle"], c.bundle());
        assert_eq!(state["annotations"]["org.example.key"], "a value");
        assert!(["creating", "created", "running"].contains(&state["status"].as_str().unwrap()), "{state}");
        assert_eq!(std::fs::read_to_string(c.path("sent.fds")).unwrap(), "1");
        assert!(!agent.has_ended());
        c.until("the program runs", || kernel::status(pid, "Seccomp") == "2");
    });
}

#[test]
fn the_container_does_not_keep_the_descriptor() {
    case(|c| {
        let _agent = listening(c, 1);
        let pid = c.sleeper();
        sent(c);
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let seccomp =
            links.filter_map(|l| std::fs::read_link(l.path()).ok()).filter(|l| l.to_string_lossy().contains("seccomp"));
        assert_eq!(seccomp.count(), 0);
        assert_eq!(std::fs::metadata(c.path("agent")).unwrap().uid(), 0);
    });
}

#[test]
fn an_exec_has_a_descriptor_of_its_own() {
    case(|c| {
        let agent = listening(c, 1);
        c.sleeper();
        let first = sent(c);
        std::fs::remove_file(c.path("sent")).unwrap();
        drop(agent);
        std::fs::remove_file(c.path("agent")).unwrap();
        let agent = listening(c, 1);
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        assert_eq!(c.exec(&[&call]).code, 42);
        let second = sent(c);
        assert_eq!(second["state"]["id"], c.id());
        assert_ne!(second["pid"], first["pid"]);
        assert_eq!(second["state"]["pid"], first["pid"]);
        agent.wait();
    });
}

#[test]
fn asking_without_a_listener_is_refused() {
    case(|c| {
        super::filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_NOTIFY" }]));
        c.refused();
        nothing_is_left(c);
    });
}

#[test]
fn a_listener_that_is_not_there_is_an_error() {
    case(|c| {
        super::filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_NOTIFY" }]));
        c.set("/linux/seccomp/listenerPath", "/no/such/agent");
        assert!(c.refused().contains("/no/such/agent"));
        nothing_is_left(c);
    });
}

#[test]
fn asking_about_write_hangs_nothing() {
    case(|c| {
        // A runtime that reports with write(2) between filter and program would wait for itself: it may refuse.
        let mut agent = listening(c, 1);
        c.set("/linux/seccomp/syscalls", json!([{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }]));
        let out = c.args(&["/bin/echo", "said"]).run();
        if out.code == 0 {
            assert_eq!(out.stdout, "said\n");
            c.until("the agent has answered", || agent.has_ended());
        } else {
            assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{out:?}");
        }
        drop(agent);
        nothing_is_left(c);
    });
}

#[test]
fn asking_by_default_is_refused() {
    case(|c| {
        let agent = listening(c, 1);
        c.set("/linux/seccomp/defaultAction", "SCMP_ACT_NOTIFY");
        c.refused();
        drop(agent);
        nothing_is_left(c);
    });
}
