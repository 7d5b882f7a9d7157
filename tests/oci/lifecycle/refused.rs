//! Configurations that are refused: each says what is wrong with it, and leaves nothing behind.

use super::nothing_is_left;
use serde_json::{Value, json};
use tare_tests::oci::{Case, case, kernel};

/// Fails unless a configuration in which this is set is refused with these words, for `create` and for `run`.
#[track_caller]
fn refused(pointer: &str, value: Value, words: &str) {
    case(|c| {
        c.set(pointer, value);
        check(c, words);
    });
}

#[track_caller]
fn check(c: &mut Case, words: &str) {
    for run in [true, false] {
        let out = if run { c.run() } else { c.try_create(&[]) };
        assert_eq!(out.code, 1, "{out:?}");
        let said = if run { out.stderr } else { c.output().1 };
        assert!(said.to_lowercase().contains(&words.to_lowercase()), "{words:?} is not said: {said}");
        nothing_is_left(c);
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(kernel::descendants(me).is_empty(), "a process that nobody has waited for");
    }
}

/// Fails unless this text as config.json is refused with these words.
#[track_caller]
fn refused_text(text: Option<&str>, words: &str) {
    case(|c| {
        if let Some(text) = text {
            std::fs::write(c.path("config.json"), text).unwrap();
        }
        for verb in ["create", "run"] {
            let out = c.oci(&[verb, "--bundle", &c.bundle(), c.id()]);
            assert!(out.code == 1 && out.stderr.contains(words), "{words:?} is not said: {out:?}");
            nothing_is_left(c);
        }
    });
}

#[test]
fn no_config_json() {
    refused_text(None, "config.json");
}

#[test]
fn an_empty_config_json() {
    refused_text(Some(""), "EOF");
}

#[test]
fn half_of_a_config_json() {
    refused_text(Some("{\"ociVersion\": \"1.0.2\", \"process\": {"), "EOF");
}

#[test]
fn a_config_json_that_is_no_object() {
    refused_text(Some("[]"), "");
}

#[test]
fn a_bundle_that_is_not_there() {
    case(|c| {
        let out = c.oci(&["create", "--bundle", "/no/such/bundle", c.id()]);
        assert!(out.code == 1 && out.stderr.contains("/no/such/bundle"), "{out:?}");
        nothing_is_left(c);
    });
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    refused("/process/args", json!("sh"), "args");
}

#[test]
fn no_process() {
    case(|c| {
        c.unset("/process");
        check(c, "process");
    });
}

#[test]
fn no_arguments() {
    refused("/process/args", json!([]), "args must not be empty");
}

#[test]
fn no_working_directory() {
    refused("/process/cwd", json!(""), "cwd property must not be empty");
}

#[test]
fn a_relative_working_directory() {
    refused("/process/cwd", json!("tmp"), "absolute");
}

#[test]
fn a_working_directory_that_is_a_file() {
    refused("/process/cwd", json!("/etc/passwd"), "/etc/passwd");
}

#[test]
fn no_root() {
    case(|c| {
        c.unset("/root");
        check(c, "root");
    });
}

#[test]
fn a_root_that_is_not_there() {
    refused("/root/path", json!("nowhere"), "nowhere");
}

#[test]
fn a_root_that_is_a_file() {
    refused("/root/path", json!("rootfs/etc/passwd"), "");
}

#[test]
fn a_namespace_of_an_unknown_kind() {
    refused("/linux/namespaces/-", json!({ "type": "bogus" }), "bogus");
}

#[test]
fn a_namespace_twice() {
    refused("/linux/namespaces/-", json!({ "type": "pid" }), "pid");
}

#[test]
fn a_namespace_whose_path_is_not_there() {
    case(|c| {
        c.join("network", "/no/such/namespace");
        check(c, "/no/such/namespace");
    });
}

#[test]
fn a_namespace_of_another_kind_than_its_path() {
    case(|c| {
        c.join("network", "/proc/self/ns/uts");
        check(c, "");
    });
}

#[test]
fn a_host_name_without_a_namespace_for_it() {
    case(|c| {
        c.share("uts").set("/hostname", "inside");
        check(c, "UTS namespace");
    });
}

#[test]
fn a_resource_limit_of_an_unknown_kind() {
    refused("/process/rlimits/-", json!({ "type": "RLIMIT_BOGUS", "hard": 1, "soft": 1 }), "RLIMIT_BOGUS");
}

#[test]
fn an_oom_score_beyond_its_range() {
    refused("/process/oomScoreAdj", json!(5000), "oom");
}

#[test]
fn a_sysctl_of_the_host() {
    refused("/linux/sysctl/vm.swappiness", json!("10"), "vm.swappiness");
}

#[test]
fn a_sysctl_of_a_shared_namespace() {
    case(|c| {
        c.share("ipc").set("/linux/sysctl/kernel.shmmax", "1000000");
        check(c, "kernel.shmmax");
    });
}

#[test]
fn a_propagation_that_is_none() {
    refused("/linux/rootfsPropagation", json!("bogus"), "rootfsPropagation");
}

#[test]
fn a_mount_of_an_unknown_file_system() {
    let mount = json!({ "destination": "/mnt", "type": "bogusfs", "source": "x" });
    refused("/mounts/-", mount, "mount");
}

#[test]
fn a_mount_whose_source_is_not_there() {
    let mount = json!({ "destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"] });
    refused("/mounts/-", mount, "/no/such/source");
}

#[test]
fn a_hook_that_is_not_there() {
    refused("/hooks/prestart/-", json!({ "path": "/no/such/hook" }), "/no/such/hook");
}

#[test]
fn a_hook_that_fails() {
    refused("/hooks/createRuntime/-", json!({ "path": "/bin/false" }), "hook");
}

#[test]
fn a_device_of_an_unknown_type() {
    refused("/linux/devices/-", json!({ "path": "/dev/x", "type": "z" }), "type");
}

#[test]
fn a_filter_with_an_unknown_action() {
    refused("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_BOGUS" }), "BOGUS");
}

#[test]
fn a_filter_with_an_unknown_operator() {
    let rule = json!({ "names": ["close"], "action": "SCMP_ACT_ERRNO",
                       "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_BOGUS" }] });
    refused("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }), "BOGUS");
}

#[test]
fn a_filter_with_an_unknown_architecture() {
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_BOGUS"] });
    refused("/linux/seccomp", filter, "BOGUS");
}

#[test]
fn a_variable_without_a_value() {
    refused("/process/env/-", json!("A"), "environment variable");
}

#[test]
fn a_processor_that_is_not_there() {
    refused("/linux/resources/cpu/cpus", json!("4096"), "cpuset.cpus");
}

#[test]
fn a_terminal_that_nobody_takes() {
    case(|c| {
        c.set("/process/terminal", true);
        let out = c.try_create(&[]);
        assert_eq!(out.code, 1, "{out:?}");
        let said = c.output().1;
        assert!(said.contains("cannot allocate tty if"), "{said}");
        nothing_is_left(c);
    });
}

#[test]
fn a_console_socket_that_nobody_needs() {
    case(|c| {
        let out = c.try_create(&["--console-socket", "/no/such/socket"]);
        assert_eq!(out.code, 1, "{out:?}");
        let said = c.output().1;
        assert!(said.contains("cannot use console socket if"), "{said}");
        nothing_is_left(c);
    });
}

#[test]
fn a_console_socket_where_nobody_listens() {
    case(|c| {
        c.set("/process/terminal", true);
        let path = c.path("nobody").display().to_string();
        let out = c.try_create(&["--console-socket", &path]);
        assert_eq!(out.code, 1, "{out:?}");
        assert!(c.output().1.contains(&path), "{:?}", c.output());
        nothing_is_left(c);
    });
}
