//! `exec --process`.

use crate::lifecycle::failed_with;
use serde_json::{Value, json};
use tare_tests::oci::{Case, case, kernel};

fn process(script: &str) -> Value {
    json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/" })
}

/// `exec --process` of this document; what it printed.
#[track_caller]
fn exec(c: &Case, document: &Value) -> String {
    let path = c.path("process.json");
    std::fs::write(&path, document.to_string()).unwrap();
    c.ok(&["exec", "--process", path.to_str().unwrap(), c.id()])
}

#[test]
fn user_groups_and_umask() {
    case(|c| {
        c.sleeper();
        let mut document = process("id -u; id -g; grep Groups /proc/self/status; umask");
        document["user"] = json!({ "uid": 33, "gid": 44, "additionalGids": [5, 6], "umask": 0o77 });
        let printed = exec(c, &document);
        let words: Vec<&str> = printed.split_whitespace().collect();
        assert_eq!(words, ["33", "44", "Groups:", "5", "6", "0077"]);
    });
}

#[test]
fn arguments_environment_and_directory() {
    case(|c| {
        c.set("/process/env/-", "OF=container").sleeper();
        let mut document = process("pwd; echo $A; echo none$OF");
        document["env"] = json!(["PATH=/bin", "A=b c"]);
        document["cwd"] = json!("/var");
        assert_eq!(exec(c, &document), "/var\nb c\nnone");
    });
}

#[test]
fn capabilities_in_five_sets() {
    case(|c| {
        c.sleeper();
        let mut document = process("grep ^Cap /proc/self/status");
        let (kill, raw) = (1u64 << 5, 1u64 << 13);
        document["capabilities"] = json!({
            "bounding": ["CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
        });
        document["user"] = json!({ "uid": 33, "gid": 33 });
        let printed = exec(c, &document);
        let set = |name: &str| {
            let line = printed.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        assert_eq!(set("CapBnd"), kill | raw);
        // Of another user's, what is ambient survives the execve.
        assert_eq!((set("CapInh"), set("CapEff"), set("CapAmb")), (kill, kill, kill));
    });
}

#[test]
fn resource_limits() {
    case(|c| {
        c.sleeper();
        let mut document = process("grep 'Max core file size' /proc/self/limits");
        document["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 90, "hard": 100 }]);
        let printed = exec(c, &document);
        assert_eq!(
            printed.split_whitespace().collect::<Vec<_>>(),
            ["Max", "core", "file", "size", "90", "100", "bytes"]
        );
    });
}

#[test]
fn no_new_privileges() {
    case(|c| {
        c.sleeper();
        let mut document = process("grep NoNewPrivs /proc/self/status | tr -d '[:space:]'");
        document["noNewPrivileges"] = json!(true);
        assert_eq!(exec(c, &document), "NoNewPrivs:1");
    });
}

#[test]
fn oom_score() {
    case(|c| {
        c.sleeper();
        let mut document = process("cat /proc/self/oom_score_adj");
        document["oomScoreAdj"] = json!(321);
        assert_eq!(exec(c, &document), "321");
    });
}

#[test]
fn scheduler_and_io_priority() {
    case(|c| {
        let pid = c.sleeper();
        let mut document = process("cat /proc/self/stat; ionice -p $$");
        document["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        document["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
        let printed = exec(c, &document);
        let fields: Vec<&str> = printed.lines().next().unwrap().rsplit(") ").next().unwrap().split(' ').collect();
        let (nice, policy) = (19 - 3, 41 - 3);
        assert_eq!((fields[nice], fields[policy]), ("5", "3"));
        assert!(printed.lines().nth(1).unwrap().starts_with("idle"), "{printed}");
        assert_eq!(kernel::stat(pid, 19), 0);
    });
}

#[test]
fn affinity_of_the_joining_process() {
    case(|c| {
        c.sleeper();
        let mut document = process("grep Cpus_allowed_list /proc/self/status | tr -d '[:space:]'");
        assert!(exec(c, &document) != "Cpus_allowed_list:0", "needs two processors");
        document["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
        assert_eq!(exec(c, &document), "Cpus_allowed_list:0");
    });
}

#[test]
fn flags_beside_the_file_do_not_matter_but_tty_and_detach() {
    case(|c| {
        c.sleeper();
        let path = c.path("process.json");
        std::fs::write(&path, process("sleep 2000").to_string()).unwrap();
        let pid_file = c.path("exec-pid");
        let (path, pid_path) = (path.display().to_string(), pid_file.display().to_string());
        c.ok(&["exec", "-d", "--pid-file", &pid_path, "-p", &path, c.id()]);
        let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        c.until("it runs", || kernel::proc(pid, "cmdline").contains("2000"));
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
    });
}

#[test]
fn a_file_that_is_not_there_or_no_process_is_an_error() {
    case(|c| {
        c.sleeper();
        failed_with(&c.oci(&["exec", "-p", "/no/such/file", c.id()]), 255, "/no/such/file");
        let path = c.path("process.json").display().to_string();
        for (text, words) in [("{", "EOF"), ("{\"args\": [], \"cwd\": \"/\"}", "args"), ("[]", "")] {
            std::fs::write(&path, text).unwrap();
            failed_with(&c.oci(&["exec", "-p", &path, c.id()]), 255, words);
        }
    });
}

#[test]
fn a_relative_directory_is_refused() {
    case(|c| {
        c.sleeper();
        let mut document = process("echo began");
        document["cwd"] = json!("var");
        let path = c.path("process.json");
        std::fs::write(&path, document.to_string()).unwrap();
        let out = c.oci(&["exec", "-p", path.to_str().unwrap(), c.id()]);
        assert!(out.stdout.is_empty(), "{out:?}");
        failed_with(&out, 255, "absolute");
    });
}
