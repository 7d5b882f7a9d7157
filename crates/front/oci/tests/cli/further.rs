//! Verbs about a container that is there: exec, ps, pause, resume, update, events; and those that need none.

use crate::place::{Place, eventually, output};
use crate::terminal::receive;
use rustix::termios::{OutputModes, tcgetattr};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

fn running() -> Place {
    let place = Place::new();
    place.create();
    place.ok(&["start", &place.id]);
    place
}

fn pid(place: &Place) -> i64 {
    place.state()["pid"].as_i64().unwrap()
}

/// A file of the container's group in the hierarchy that has it.
fn group_file(place: &Place, name: &str) -> String {
    let file = place.groups().into_iter().map(|g| g.join(name)).find(|f| f.exists());
    std::fs::read_to_string(file.unwrap_or_else(|| panic!("no {name}"))).unwrap().trim().to_owned()
}

#[test]
fn exec_is_refused_where_it_makes_no_sense() {
    let place = Place::new();
    let exec = |words: &[&str]| {
        let out = place.output(&[&["exec"], words].concat());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let refused = |words: &[&str], why: &str| {
        let (code, text) = exec(words);
        assert!(code == Some(255) && text.contains(why), "{words:?}: {code:?} {text}");
    };
    let id = place.id.as_str();
    refused(&[id, "true"], "container does not exist");
    place.create();
    assert_eq!(exec(&[id, "true"]).0, Some(0), "a created container is there");
    place.ok(&["start", id]);
    refused(&[id], "process args cannot be empty");
    refused(&["--user", "root", id, "true"], "UID[:GID]");
    refused(&["-d", "-t", id, "true"], "without setting console socket");
    refused(&["--console-socket", "/x", id, "true"], "cannot use console socket");
    refused(&["--preserve-fds", "9", id, "true"], "is not open");
    refused(&["--cgroup", "../x", id, "true"], "../x");
    place.ok(&["pause", id]);
    refused(&[id, "true"], "cannot exec in a paused container (use --ignore-paused to override)");
    place.ok(&["resume", id]);
    place.ok(&["kill", id, "KILL"]);
    eventually("it ends", || place.status() == "stopped");
    refused(&[id, "true"], "cannot exec in a stopped container");
}

#[test]
fn exec_runs_a_process_file_with_what_confines_the_container() {
    let mut place = Place::new();
    place.config["process"]["oomScoreAdj"] = json!(321);
    place.config["process"]["noNewPrivileges"] = json!(true);
    place.create();
    let file = place.path("process.json");
    let script = "id -u; id -g; cat /proc/self/oom_score_adj; echo $A; cat /proc/self/status; readlink /proc/self/ns/net; exit 9";
    let process = json!({"args": ["sh", "-c", script], "cwd": "/tmp", "env": ["A=b", "PATH=/bin"],
        "user": {"uid": 7, "gid": 8}});
    std::fs::write(&file, process.to_string()).unwrap();
    let out = place.output(&["exec", "--process", file.to_str().unwrap(), &place.id]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(9), "{text} {}", String::from_utf8_lossy(&out.stderr));
    assert!(text.starts_with("7\n8\n321\nb\n"), "{text}");
    assert!(text.contains("NoNewPrivs:\t0"), "a file says itself whether privileges may grow: {text}");
    assert!(text.contains("CapBnd:\t00000000000000e0"), "the container's own capabilities: {text}");
    let net = std::fs::read_link(format!("/proc/{}/ns/net", pid(&place))).unwrap();
    assert!(text.ends_with(&format!("{}\n", net.display())), "{text}");
    let text = place.ok(&[
        "exec",
        "-e",
        "A=c",
        "-u",
        "5:6",
        "-g",
        "7",
        "--cwd",
        "/tmp",
        &place.id,
        "sh",
        "-c",
        "echo $A $PWD; id; cat /proc/self/status",
    ]);
    assert!(text.starts_with("c /tmp\nuid=5 gid=6 groups=") && text.contains("NoNewPrivs:\t1"), "{text}");
}

#[test]
fn a_detached_exec_leaves_a_pid_and_says_nothing() {
    let place = running();
    let file = place.path("pid");
    let out = place.output(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &place.id, "sleep", "77"]);
    assert!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
    let pid: i64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap(), "sleep\u{0}77\u{0}");
}

#[test]
fn the_terminal_of_an_exec_is_sent_or_relayed() {
    let place = running();
    let path = place.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    place.ok(&[
        "exec",
        "-d",
        "-t",
        "--console-socket",
        path.to_str().unwrap(),
        &place.id,
        "sh",
        "-c",
        "read x; tty; echo got $x",
    ]);
    let (name, master) = receive(&listener);
    assert_eq!(name, "/dev/pts/0");
    assert!(tcgetattr(&master).unwrap().output_modes.contains(OutputModes::ONLCR), "as the kernel makes it");
    let mut master = std::fs::File::from(master);
    master.write_all(b"words\n").unwrap();
    let mut text = Vec::new();
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("/dev/pts/0\r\ngot words\r\n"), "{text:?}");
    drop(master);
    assert_eq!(place.ok(&["exec", "-t", &place.id, "tty"]), "/dev/pts/0\n");
}

#[test]
fn ps_lists_the_processes_of_the_container_only() {
    let place = running();
    place.ok(&["exec", "-d", &place.id, "sleep", "88"]);
    let pids: Vec<i64> = serde_json::from_str(&place.ok(&["ps", "-f", "json", &place.id])).unwrap();
    assert!(pids.len() == 2 && pids.contains(&pid(&place)), "{pids:?}");
    let table = place.ok(&["ps", &place.id]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains("PID") && table.contains("sleep 88"), "{table}");
    let table = place.ok(&["ps", &place.id, "-o", "pid,comm"]);
    assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    assert!(place.fails(&["ps", "-f", "x", &place.id]).contains("invalid format"));
}

#[test]
fn pause_and_resume_change_the_state() {
    let place = running();
    place.ok(&["pause", &place.id]);
    assert_eq!(place.status(), "paused");
    assert!(place.fails(&["pause", &place.id]).contains("paused already"));
    place.ok(&["resume", &place.id]);
    assert_eq!(place.status(), "running");
    assert!(place.fails(&["resume", &place.id]).contains("container not paused"));
}

#[test]
fn update_changes_limits_and_remembers_them() {
    let place = running();
    place.ok(&["update", "--memory", "64m", "--pids-limit", "33", "--kernel-memory", "1", &place.id]);
    assert_eq!(group_file(&place, "pids.max"), "33");
    let saved = || -> Value {
        let text = std::fs::read(place.root().join(&place.id).join("config.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["linux"]["resources"].clone()
    };
    assert_eq!((&saved()["memory"]["limit"], &saved()["pids"]["limit"]), (&json!(64 << 20), &json!(33)));
    let mut command = place.command(&["update", "-r", "-", &place.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"pids":{"limit":44}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(group_file(&place, "pids.max"), "44");
    assert_eq!((&saved()["memory"]["limit"], &saved()["pids"]["limit"]), (&json!(64 << 20), &json!(44)));
    assert!(place.fails(&["update", "--memory", "64x", &place.id]).contains("invalid value for memory"));
    assert!(place.fails(&["update", "--l3-cache-schema", "L3:0=f", &place.id]).contains("intelRdt"));
    place.ok(&["kill", &place.id, "KILL"]);
    eventually("it ends", || place.status() == "stopped");
    assert!(place.fails(&["update", "--pids-limit", "5", &place.id]).contains("container not running"));
}

#[test]
fn events_tell_what_is_used_and_who_is_killed_for_memory() {
    let mut place = Place::new();
    place.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20}});
    place.create();
    place.ok(&["start", &place.id]);
    let stats: Value = serde_json::from_str(&place.ok(&["events", "--stats", &place.id])).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(place.id)));
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(16 << 20));
    assert_eq!(stats["data"]["pids"]["current"], json!(1));
    assert!(place.fails(&["events", "--interval", "0s", &place.id]).contains("greater than 0"));
    let mut watch = place.command(&["events", "--interval", "200ms", &place.id]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    // More than the limit, in one process's memory.
    let out = output(&mut place.command(&["exec", &place.id, "sh", "-c", "x=x; while :; do x=$x$x; done"]));
    assert_eq!(out.status.code(), Some(137), "{}", String::from_utf8_lossy(&out.stderr));
    std::thread::sleep(std::time::Duration::from_millis(300));
    place.ok(&["kill", &place.id, "KILL"]);
    let mut text = String::new();
    watch.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(watch.wait().unwrap().success());
    let kinds: Vec<Value> = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["type"].clone()).collect();
    assert!(kinds.contains(&json!("oom")) && kinds.contains(&json!("stats")), "{text}");
    eventually("it ends", || place.status() == "stopped");
    assert!(place.fails(&["events", &place.id]).contains("is not running"));
}

#[test]
fn the_starter_document_runs() {
    let mut place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    place.ok(&["spec", "--bundle", dir.path().to_str().unwrap()]);
    assert!(place.fails(&["spec", "--bundle", dir.path().to_str().unwrap()]).contains("exists"));
    let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    let cgroup = place.config["linux"]["cgroupsPath"].clone();
    place.config = serde_json::from_str(&text).unwrap();
    assert_eq!(place.config["process"]["terminal"], json!(true));
    place.config["process"]["terminal"] = json!(false);
    place.config["process"]["args"] = json!(["/bin/echo", "hello"]);
    place.config["linux"]["cgroupsPath"] = cgroup;
    for name in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(place.path("bundle/rootfs").join(name)).unwrap();
    }
    assert_eq!(place.ok(&["run", "--bundle", &place.bundle(), &place.id]), "hello\n");
}

#[test]
fn what_is_not_done_is_said() {
    let place = Place::new();
    for verb in ["checkpoint", "restore"] {
        let text = place.fails(&[verb, &place.id]);
        assert!(text.contains("does not save and restore processes") && text.contains("hint"), "{text}");
    }
    let features: Value = serde_json::from_str(&place.ok(&["features"])).unwrap();
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], json!("false"));
    assert_eq!(features["linux"]["namespaces"].as_array().unwrap().len(), 8);
}
