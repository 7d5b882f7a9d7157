//! `spec` and `features`: documents that callers read.

use crate::lifecycle::failed_with;
use serde_json::Value;
use tare_tests::oci::{Case, Console, case};

/// The document that `spec` writes into a directory of its own.
#[track_caller]
fn spec(c: &Case, flags: &[&str]) -> Value {
    let directory = c.path("new");
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.display().to_string();
    c.ok(&[&["spec"], flags, &["--bundle", &directory]].concat());
    serde_json::from_slice(&std::fs::read(c.path("new/config.json")).unwrap()).unwrap()
}

#[test]
fn the_written_document_is_runcs() {
    case(|c| {
        let spec = spec(c, &[]);
        assert_eq!(spec["process"]["terminal"], true);
        assert_eq!(spec["process"]["args"], serde_json::json!(["sh"]));
        assert_eq!(spec["process"]["cwd"], "/");
        assert_eq!(spec["process"]["noNewPrivileges"], true);
        assert_eq!(spec["root"], serde_json::json!({ "path": "rootfs", "readonly": true }));
        let mounts = spec["mounts"].as_array().unwrap();
        let places: Vec<&str> = mounts.iter().map(|m| m["destination"].as_str().unwrap()).collect();
        assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"]);
        let kinds = spec["linux"]["namespaces"].as_array().unwrap();
        let kinds: Vec<&str> = kinds.iter().map(|n| n["type"].as_str().unwrap()).collect();
        for kind in ["pid", "network", "ipc", "uts", "mount"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
        assert!(!spec["linux"]["maskedPaths"].as_array().unwrap().is_empty());
        assert!(!spec["linux"]["readonlyPaths"].as_array().unwrap().is_empty());
    });
}

#[test]
fn the_written_document_runs() {
    case(|c| {
        let mut spec = spec(c, &[]);
        spec["process"]["args"] = serde_json::json!(["sh", "-c", "hostname; touch /tmp/x 2>&1; echo end"]);
        spec["linux"]["cgroupsPath"] = c.cgroups_path().into();
        c.with(|s| *s = spec);
        let console = Console::listen(&c.path("console"));
        let pid = c.create_with(&["--console-socket", console.path()]);
        let mut master = console.receive();
        c.start();
        let seen = master.expect("end");
        assert!(seen.contains("Read-only file system"), "{seen}");
        c.wait(pid);
    });
}

#[test]
fn a_document_that_is_there_is_not_overwritten() {
    case(|c| {
        spec(c, &[]);
        let directory = c.path("new").display().to_string();
        failed_with(&c.oci(&["spec", "--bundle", &directory]), 1, "config.json");
    });
}

#[test]
fn the_rootless_document_maps_the_caller() {
    case(|c| {
        let spec = spec(c, &["--rootless"]);
        let linux = &spec["linux"];
        let kinds = linux["namespaces"].as_array().unwrap();
        assert!(kinds.iter().any(|n| n["type"] == "user"));
        assert!(!kinds.iter().any(|n| n["type"] == "network"));
        let map = serde_json::json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&map, &map));
        let mounts = spec["mounts"].as_array().unwrap();
        let sys = mounts.iter().find(|m| m["destination"] == "/sys").unwrap();
        assert_eq!((&sys["source"], sys["options"][0].as_str().unwrap()), (&Value::from("/sys"), "rbind"));
        assert!(linux.get("resources").is_none_or(Value::is_null), "{linux}");
    });
}

#[test]
fn the_rootless_document_runs() {
    case(|c| {
        let mut spec = spec(c, &["--rootless"]);
        spec["process"]["args"] = serde_json::json!(["sh", "-c", "cat /proc/self/uid_map | tr -s ' '"]);
        spec["process"]["terminal"] = false.into();
        spec["linux"]["cgroupsPath"] = c.cgroups_path().into();
        c.with(|s| *s = spec);
        let out = c.run();
        assert_eq!((out.code, out.stdout.trim()), (0, "0 0 1"), "{out:?}");
    });
}

fn strings<'a>(document: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = document.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no {pointer}"));
    list.iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn the_features_have_the_specifications_form() {
    case(|c| {
        let features: Value = serde_json::from_str(&c.ok(&["features"])).unwrap();
        for field in ["ociVersionMin", "ociVersionMax"] {
            assert!(features[field].as_str().unwrap().starts_with("1."), "{field}");
        }
        let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
        assert_eq!(strings(&features, "/hooks"), hooks);
        let options = strings(&features, "/mountOptions");
        for option in
            "bind rbind ro rw nosuid nodev noexec private rprivate shared slave rro rnosuid relatime".split(' ')
        {
            assert!(options.contains(&option), "{option}");
        }
        let namespaces = strings(&features, "/linux/namespaces");
        for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
            assert!(namespaces.contains(&kind), "{kind}");
        }
        assert!(strings(&features, "/linux/capabilities").contains(&"CAP_CHECKPOINT_RESTORE"));
        for manager in ["v1", "v2", "systemd"] {
            assert_eq!(features["linux"]["cgroup"][manager], true, "{manager}");
        }
        assert_eq!(features["linux"]["seccomp"]["enabled"], true);
        let actions = strings(&features, "/linux/seccomp/actions");
        for action in "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP".split(' ') {
            assert!(actions.contains(&format!("SCMP_ACT_{action}").as_str()), "{action}");
        }
        let operators = strings(&features, "/linux/seccomp/operators");
        for operator in "NE LT LE EQ GE GT MASKED_EQ".split(' ') {
            assert!(operators.contains(&format!("SCMP_CMP_{operator}").as_str()), "{operator}");
        }
        assert!(strings(&features, "/linux/seccomp/archs").contains(&"SCMP_ARCH_X86_64"));
        for module in ["apparmor", "selinux"] {
            assert!(features["linux"][module]["enabled"].is_boolean(), "{module}");
        }
    });
}

#[test]
fn the_features_of_newer_specifications_are_told() {
    case(|c| {
        let features: Value = serde_json::from_str(&c.ok(&["features"])).unwrap();
        assert!(strings(&features, "/linux/namespaces").contains(&"time"));
        let flags = strings(&features, "/linux/seccomp/knownFlags");
        for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] {
            assert!(flags.contains(&flag), "{flag}");
        }
        assert!(!strings(&features, "/linux/seccomp/supportedFlags").is_empty());
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(features["linux"]["intelRdt"]["enabled"], true);
    });
}

#[test]
fn a_document_without_its_rootfs_is_no_error_of_spec() {
    case(|c| {
        spec(c, &[]);
        assert!(!c.path("new/rootfs").exists());
        failed_with(&c.oci(&["create", "--bundle", c.path("new").to_str().unwrap(), c.id()]), 1, "");
    });
}
