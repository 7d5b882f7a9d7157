//! `logs`.

use std::time::Duration;
use tare_tests::{Host, eventually};

const SIX: &str = "for i in 1 2 3 4 5 6; do echo line $i; done; echo problem >&2; printf rest";

#[test]
fn both_streams_are_kept_and_told_apart() {
    let host = Host::new();
    host.busybox();
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", SIX]);
    let out = host.run(&["logs", "box"]);
    assert_eq!((out.code, out.stderr.as_str()), (0, "problem\n"));
    assert_eq!(out.stdout, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nrest");
}

#[test]
fn tail_and_times_narrow() {
    let host = Host::new();
    host.busybox();
    let script = "echo one; sleep 0.3; echo two; sleep 0.3; echo three";
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    assert_eq!(host.ok(&["logs", "--tail", "2", "box"]), "two\nthree");
    assert_eq!(host.ok(&["logs", "-n", "0", "box"]), "");
    assert_eq!(host.ok(&["logs", "--tail", "all", "box"]), "one\ntwo\nthree");
    let stamped = host.ok(&["logs", "-t", "box"]);
    let times: Vec<&str> = stamped.lines().map(|l| l.split_once(' ').unwrap().0).collect();
    assert!(times.iter().all(|t| t.len() == 30 && t.ends_with('Z')), "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(host.ok(&["logs", "--since", times[1], "box"]), "two\nthree");
    assert_eq!(host.ok(&["logs", "--until", times[1], "box"]), "one\ntwo");
    assert_eq!(host.ok(&["logs", "--since", times[1], "--until", times[1], "box"]), "two");
    assert_eq!(host.ok(&["logs", "--since", "1h", "box"]), "one\ntwo\nthree");
}

#[test]
fn following_ends_with_the_container() {
    let host = Host::new();
    host.busybox();
    let script = "echo begin; sleep 1; echo middle; sleep 1; echo end";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let mut follow = host.start(&["logs", "-f", "box"]);
    assert!(eventually(Duration::from_secs(5), || follow.printed().0.contains("middle")));
    assert!(!follow.has_ended());
    let out = follow.wait_for(Duration::from_secs(10));
    assert_eq!((out.code, out.stdout.as_str()), (0, "begin\nmiddle\nend\n"));
    assert_eq!(host.ok(&["logs", "--follow", "--tail", "1", "box"]), "end");
}

#[test]
fn a_container_that_is_removed_at_its_end_is_followed_to_its_last_line() {
    let host = Host::new();
    host.busybox();
    let script = "sleep 1; for i in $(seq 2000); do echo $i; done";
    host.ok(&["run", "-d", "--rm", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let out = host.run(&["logs", "-f", "box"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(out.stdout.lines().count(), 2000);
    assert!(out.stdout.ends_with("\n2000\n"));
    assert!(host.fails(&["logs", "box"], 1).contains("no such container"));
}

#[test]
fn a_log_that_rotates_is_bounded_and_followed_without_a_gap() {
    let host = Host::new();
    host.busybox();
    // About 24 MB with the records' heads: rotated twice, nothing dropped off the end.
    let script = "sleep 0.5; i=0; while [ $i -lt 36 ]; do yes $i-0123456789012345678901234567890123456789 | head -n 8000; \
                  i=$((i + 1)); done";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let out = host.run(&["logs", "-f", "box"]);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.len(), 36 * 8000);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line.split('-').next(), Some((i / 8000).to_string().as_str()), "line {i}");
    }
    assert_eq!(host.run(&["logs", "box"]).stdout.lines().count(), lines.len());
    assert_eq!(host.ok(&["logs", "--tail", "200000", "box"]).lines().count(), 200_000);
    let dir = host.root().join("containers").join(host.inspect("box")["Id"].as_str().unwrap());
    for name in ["log", "log.1", "log.2"] {
        assert!(std::fs::metadata(dir.join(name)).unwrap().len() <= 10 << 20, "{name}");
    }
    assert!(!dir.join("log.3").exists());
}

#[test]
fn a_container_that_never_ran_has_an_empty_log() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "busybox", "true"]);
    assert_eq!(host.ok(&["logs", "box"]), "");
    assert_eq!(host.ok(&["logs", "-f", "box"]), "");
}
