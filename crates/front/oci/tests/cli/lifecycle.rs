//! A container's life by the command line: what callers of runc do and look at.

use crate::place::{Place, eventually, is_alive, output};
use serde_json::{Value, json};
use std::process::Stdio;

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let place = Place::with(&["sh", "-c", "echo hello; exec sleep 100"]);
    let pid_file = place.path("pid");
    let log = place.path("out");
    let file = std::fs::File::create(&log).unwrap();
    let words = ["create", "--bundle", &place.bundle(), "--pid-file", &pid_file.display().to_string(), &place.id];
    let status = place.command(&words).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());

    let state = place.state();
    let pid = state["pid"].as_i64().unwrap();
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(place.id)));
    assert_eq!(state["ociVersion"], "1.2.1");
    assert_eq!(state["bundle"], json!(place.bundle()));
    assert_eq!(state["rootfs"], json!(format!("{}/rootfs", place.bundle())));
    assert_eq!((&state["owner"], &state["annotations"]), (&json!("root"), &json!({"a": "b"})));
    let created = state["created"].as_str().unwrap();
    assert!(created.len() == 30 && created.ends_with('Z') && &created[10..11] == "T", "{created}");
    assert!(is_alive(pid));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "the program waits");
    assert!(!place.groups().is_empty());

    place.ok(&["start", &place.id]);
    assert_eq!(place.status(), "running");
    eventually("output", || std::fs::read_to_string(&log).unwrap() == "hello\n");
    let again = place.fails(&["start", &place.id]);
    assert!(again.contains("cannot start an already running container"), "{again}");
    let early = place.fails(&["delete", &place.id]);
    assert!(early.contains("that is not stopped: running"), "{early}");

    place.ok(&["kill", &place.id, "KILL"]);
    eventually("end", || !is_alive(pid));
    let state = place.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    let late = place.fails(&["kill", &place.id]);
    assert!(late.contains("container not running"), "{late}");
    let late = place.fails(&["start", &place.id]);
    assert!(late.contains("cannot start a container that has stopped"), "{late}");
    place.ok(&["delete", &place.id]);
    place.is_gone();
}

#[test]
fn what_is_missing_or_taken_is_said_in_the_words_that_callers_look_for() {
    let place = Place::new();
    for words in [&["state", "none"][..], &["start", "none"], &["kill", "none"], &["delete", "none"]] {
        let out = place.output(words);
        assert_eq!(out.status.code(), Some(1), "{words:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("container does not exist"), "{words:?}");
    }
    place.ok(&["delete", "--force", "none"]);
    for id in ["..", ".", "a/b", "a b"] {
        let text = place.fails(&["create", "--bundle", &place.bundle(), id]);
        assert!(text.contains("invalid container ID format"), "{id:?}: {text}");
    }
    place.create();
    let taken = place.fails(&["create", "--bundle", &place.bundle(), &place.id]);
    assert!(taken.contains("container with given ID already exists"), "{taken}");
    assert_eq!(place.status(), "created");
    // One that was never started is removed without force, as runc does.
    place.ok(&["delete", &place.id]);
    place.is_gone();
}

#[test]
fn the_log_has_one_object_for_an_error() {
    let place = Place::new();
    let log = place.path("log.json").display().to_string();
    let text = place.fails(&["--log", &log, "--log-format", "json", "state", "none"]);
    assert!(text.contains("container does not exist"), "{text}");
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("container does not exist"));
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn run_passes_streams_and_exit_codes() {
    let place = Place::with(&["sh", "-c", "cat; echo error >&2; exit 7"]);
    let mut input = tempfile::tempfile().unwrap();
    {
        use std::io::{Seek, Write};
        input.write_all(b"words").unwrap();
        input.rewind().unwrap();
    }
    let out = output(place.command(&["run", "--bundle", &place.bundle(), &place.id]).stdin(Stdio::from(input)));
    assert_eq!(out.status.code(), Some(7));
    assert_eq!((out.stdout.as_slice(), out.stderr.as_slice()), (&b"words"[..], &b"error\n"[..]));
    place.is_gone();

    // Process 1 of a namespace cannot kill itself so.
    let mut place = Place::with(&["sh", "-c", "kill -9 $$"]);
    place.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    let out = place.output(&["run", "--bundle", &place.bundle(), &place.id]);
    assert_eq!(out.status.code(), Some(137));
    place.is_gone();
}

#[test]
fn run_forwards_signals() {
    let place = Place::with(&["sh", "-c", "trap 'exit 3' TERM; touch /tmp/ready; while true; do sleep 0.05; done"]);
    let mut child = place.command(&["run", "--bundle", &place.bundle(), &place.id]).spawn().unwrap();
    eventually("ready", || place.path("bundle/rootfs/tmp/ready").exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    place.is_gone();
}

#[test]
fn run_detaches_and_keeps() {
    let place = Place::new();
    place.ok(&["run", "--detach", "--bundle", &place.bundle(), &place.id]);
    assert_eq!(place.status(), "running");
    place.ok(&["delete", &place.id, "--force"]);
    place.is_gone();

    let place = Place::with(&["true"]);
    place.ok(&["run", "--keep", "--bundle", &place.bundle(), &place.id]);
    assert_eq!(place.status(), "stopped");
    place.ok(&["delete", &place.id]);
    place.is_gone();
}

#[test]
fn a_program_that_is_not_there_is_told_as_callers_expect() {
    for (program, words) in [
        ("none", "executable file not found in $PATH"),
        ("/none", "no such file or directory"),
        ("/etc", "permission denied"),
    ] {
        let place = Place::with(&[program]);
        let text = place.fails(&["run", "--bundle", &place.bundle(), &place.id]);
        assert!(text.contains(words), "{program}: {text}");
        place.is_gone();
    }
}

#[test]
fn lists_have_three_forms() {
    let place = Place::new();
    assert_eq!(place.ok(&["list", "--quiet"]), "");
    place.create();
    assert_eq!(place.ok(&["list", "-q"]), format!("{}\n", place.id));
    let rows: Value = serde_json::from_str(&place.ok(&["list", "--format=json"])).unwrap();
    assert_eq!((&rows[0]["id"], &rows[0]["status"]), (&json!(place.id), &json!("created")));
    let table = place.ok(&["list"]);
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("ID  "), "{table}");
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[2], row[5]), (place.id.as_str(), "created", "root"));
}

#[test]
fn kill_reaches_everybody_with_all() {
    let mut place = Place::with(&["sh", "-c", "sleep 100 & sleep 100 & touch /tmp/ready; wait"]);
    // Without a PID namespace of its own, nobody ends with the first process.
    place.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    place.create();
    place.ok(&["start", &place.id]);
    eventually("ready", || place.path("bundle/rootfs/tmp/ready").exists());
    place.ok(&["kill", "--all", &place.id, "SIGKILL"]);
    eventually("end", || place.status() == "stopped");
    place.ok(&["delete", &place.id]);
    place.is_gone();

    // And `delete --force` ends those whom the first process leaves behind.
    place.create();
    place.ok(&["start", &place.id]);
    eventually("running", || place.status() == "running");
    place.ok(&["delete", "-f", &place.id]);
    place.is_gone();
}

#[test]
fn descriptors_are_preserved() {
    let place = Place::with(&["sh", "-c", "cat <&3; ls /proc/self/fd"]);
    let path = place.path("kept");
    std::fs::write(&path, "kept\n").unwrap();
    let runtime = crate::place::runtime();
    // A shell opens the descriptor, with another one that is not to be handed down.
    let line = format!(
        "exec 3<{} 4</dev/null; exec {} --root {} run --preserve-fds 1 --bundle {} {}",
        path.display(),
        runtime.display(),
        place.root().display(),
        place.bundle(),
        place.id
    );
    place.command(&[]);
    #[expect(clippy::disallowed_methods, reason = "a shell opens descriptors")]
    let mut shell = std::process::Command::new("sh");
    let out = output(shell.arg("-c").arg(line));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.starts_with("kept\n"), "{text} {}", String::from_utf8_lossy(&out.stderr));
    // 0 to 3, and the one by which ls reads the directory.
    assert_eq!(text.lines().skip(1).count(), 5, "{text}");
    let text = place.fails(&["run", "--preserve-fds", "90", "--bundle", &place.bundle(), "other"]);
    assert!(text.contains("is not open"), "{text}");
}
