//! What each command says in each state, and what `state` and `list` tell of it.

use super::failed_with;
use serde_json::Value;
use tare_tests::oci::{Case, case, kernel};
use tare_tests::{Running, command};

#[test]
fn what_does_not_exist_is_said_by_every_command() {
    case(|c| {
        c.write();
        let id = c.id().to_owned();
        for verb in ["state", "start", "pause", "resume", "ps", "kill", "events", "delete"] {
            failed_with(&c.oci(&[verb, &id]), 1, "container does not exist");
        }
        failed_with(&c.oci(&["update", "--pids-limit", "5", &id]), 1, "container does not exist");
        failed_with(&c.oci(&["exec", &id, "true"]), 255, "container does not exist");
        let out = c.oci(&["delete", "--force", &id]);
        assert_eq!(out.code, 0, "{out:?}");
    });
}

#[test]
fn the_state_document_has_the_specifications_fields() {
    case(|c| {
        c.set("/annotations/org.example.key", "a value");
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        let state = c.state();
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
        assert_eq!(state["id"], c.id());
        assert_eq!(state["status"], "created");
        assert_eq!(state["pid"], pid);
        assert_eq!(state["bundle"], c.bundle());
        assert_eq!(state["rootfs"], c.path("rootfs").to_str().unwrap());
        assert_eq!(state["annotations"]["org.example.key"], "a value");
        let created = state["created"].as_str().unwrap();
        assert!(created.ends_with('Z') && created.contains('T'), "{created}");
        let seconds = |words: &[&str]| {
            let out = Running::start(command("date").args(words), None).wait();
            out.stdout.trim().parse::<i64>().unwrap()
        };
        let age = seconds(&["+%s"]) - seconds(&["--date", created, "+%s"]);
        assert!((0..60).contains(&age), "{created}");
    });
}

#[test]
fn a_stopped_container_has_no_pid() {
    case(|c| {
        let pid = c.up("exit 3");
        assert_eq!(c.wait(pid), 3);
        c.until_status("stopped");
        assert_eq!(c.state()["pid"], 0);
    });
}

#[test]
fn annotations_may_be_absent() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).create();
        let state = c.state();
        assert!(
            state.get("annotations").is_none_or(|a| a.as_object().is_some_and(serde_json::Map::is_empty)),
            "{state}"
        );
    });
}

#[test]
fn what_runs_cannot_be_started_again() {
    case(|c| {
        let pid = c.sleeper();
        failed_with(&c.oci(&["start", c.id()]), 1, "cannot start an already running container");
        assert_eq!(c.state()["pid"], pid);
    });
}

#[test]
fn what_has_stopped_cannot_be_started() {
    case(|c| {
        let pid = c.up("touch /tmp/once");
        c.wait(pid);
        std::fs::remove_file(c.inside("/tmp/once")).unwrap();
        failed_with(&c.oci(&["start", c.id()]), 1, "cannot start a container that has stopped");
        assert!(!c.inside("/tmp/once").exists());
    });
}

#[test]
fn what_has_stopped_takes_no_command_but_delete() {
    case(|c| {
        let pid = c.up("true");
        c.wait(pid);
        c.until_status("stopped");
        failed_with(&c.oci(&["kill", c.id(), "TERM"]), 1, "container not running");
        failed_with(&c.oci(&["pause", c.id()]), 1, "container not running");
        failed_with(&c.oci(&["resume", c.id()]), 1, "container not paused");
        failed_with(&c.oci(&["update", "--pids-limit", "5", c.id()]), 1, "container not running");
        failed_with(&c.oci(&["events", "--stats", c.id()]), 1, "not running");
        failed_with(&c.oci(&["exec", c.id(), "true"]), 255, "cannot exec in a stopped container");
        assert_eq!(c.ok(&["ps", "--format", "json", c.id()]).replace("null", "[]"), "[]");
        assert_eq!(c.state()["status"], "stopped");
        c.ok(&["delete", c.id()]);
    });
}

#[test]
fn paused_processes_do_nothing_until_resumed() {
    case(|c| {
        let pid = c.up("i=0; while true; do i=$((i+1)); echo $i > /tmp/count; done");
        let count = |c: &Case| std::fs::read_to_string(c.inside("/tmp/count")).unwrap_or_default();
        c.until("it counts", || !count(c).is_empty());
        c.ok(&["pause", c.id()]);
        assert_eq!(c.state()["status"], "paused");
        let ticks = || kernel::stat(pid, 14) + kernel::stat(pid, 15);
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(ticks(), before);
        c.ok(&["resume", c.id()]);
        assert_eq!(c.state()["status"], "running");
        c.until("it goes on", || ticks() > before);
    });
}

#[test]
fn pause_and_resume_want_the_right_state() {
    case(|c| {
        c.sleeper();
        failed_with(&c.oci(&["resume", c.id()]), 1, "container not paused");
        c.ok(&["pause", c.id()]);
        failed_with(&c.oci(&["pause", c.id()]), 1, "container");
        failed_with(&c.oci(&["start", c.id()]), 1, "cannot start a container");
        failed_with(&c.oci(&["delete", c.id()]), 1, "that is not stopped: paused");
        assert_eq!(c.state()["status"], "paused");
        c.ok(&["resume", c.id()]);
    });
}

#[test]
fn what_was_only_created_may_be_paused() {
    case(|c| {
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        c.ok(&["pause", c.id()]);
        assert_eq!(c.state()["status"], "paused");
        c.ok(&["resume", c.id()]);
        assert_eq!(c.state()["status"], "created");
        c.start();
        c.until("it runs", || kernel::proc(pid, "cmdline").contains("1000"));
    });
}

#[test]
fn a_first_process_killed_from_outside_has_stopped() {
    case(|c| {
        let pid = c.sleeper();
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        // Not waited for yet: a zombie is no running container either.
        c.until_status("stopped");
        assert_eq!(c.wait(pid), 137);
        assert_eq!(c.state()["status"], "stopped");
        c.ok(&["delete", c.id()]);
        super::nothing_is_left(c);
    });
}

#[test]
fn a_list_shows_all_in_each_state() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]);
        for name in ["created", "running", "paused", "stopped"] {
            let id = format!("{}-{name}", c.id());
            c.note(id.clone());
            c.set("/linux/cgroupsPath", format!("{}{name}", c.cgroups_path())).write();
            start_detached(c, &["create", "--bundle", &c.bundle(), &id]);
            if name != "created" {
                c.ok(&["start", &id]);
            }
            match name {
                "paused" => drop(c.ok(&["pause", &id])),
                "stopped" => drop(c.ok(&["kill", &id, "KILL"])),
                _ => {}
            }
        }
        let status = |c: &Case| {
            let list: Value = serde_json::from_str(&c.ok(&["list", "--format", "json"])).unwrap();
            let mut found = Vec::new();
            for entry in list.as_array().unwrap() {
                let name = entry["id"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
                assert_eq!(entry["owner"], "root", "{entry}");
                assert_eq!(entry["bundle"], c.bundle(), "{entry}");
                assert_eq!(entry["pid"] == 0, entry["status"] == "stopped", "{entry}");
                assert!(entry["created"].is_string() && entry["ociVersion"].is_string(), "{entry}");
                found.push((name, entry["status"].as_str().unwrap().to_owned()));
            }
            found.sort();
            found
        };
        c.until("each has its state", || status(c).iter().all(|(name, status)| name == status));
        assert_eq!(status(c).len(), 4);
        let table = c.ok(&["list"]);
        let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        assert_eq!(table.lines().count(), 5, "{table}");
        let row = table.lines().find(|l| l.contains("-paused")).unwrap();
        assert_eq!(row.split_whitespace().nth(2).unwrap(), "paused");
        let mut ids: Vec<String> = c.ok(&["list", "--quiet"]).lines().map(str::to_owned).collect();
        ids.sort();
        assert_eq!(ids, ["created", "paused", "running", "stopped"].map(|n| format!("{}-{n}", c.id())));
    });
}

/// Like [`Case::ok`], with nothing of this process's open in the container.
#[track_caller]
fn start_detached(c: &Case, args: &[&str]) {
    let mut command = c.command(args);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(command.status().unwrap().success(), "{args:?}");
}

#[test]
fn an_empty_list_is_empty() {
    case(|c| {
        assert_eq!(c.ok(&["list", "--quiet"]), "");
        assert_eq!(c.ok(&["list"]).lines().count(), 1);
        assert!(["null", "[]"].contains(&c.ok(&["list", "-f", "json"]).as_str()));
        failed_with(&c.oci(&["list", "--format", "bogus"]), 1, "invalid format option");
    });
}
