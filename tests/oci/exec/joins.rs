//! What a joining process shares with the container: namespaces, groups, filter, root.

use super::{detached, exec};
use serde_json::json;
use tare_tests::oci::{case, kernel, layout};

const KINDS: [&str; 7] = ["pid", "mnt", "ipc", "uts", "net", "cgroup", "user"];

#[test]
fn all_namespaces_are_the_containers() {
    case(|c| {
        c.unshare("network").unshare("cgroup");
        let pid = c.sleeper();
        let joined = detached(c, &[]);
        for kind in KINDS {
            assert_eq!(kernel::namespace(joined, kind), kernel::namespace(pid, kind), "{kind}");
        }
        assert_ne!(kernel::namespace(joined, "net"), kernel::namespace(std::process::id().cast_signed(), "net"));
    });
}

#[test]
fn namespaces_that_were_joined_by_path_are_joined_again() {
    case(|c| {
        let other = tare_tests::Running::start(tare_tests::command("unshare").args(["-n", "sleep", "1000"]), None);
        c.until("it has its namespace", || kernel::proc(other.pid(), "cmdline").starts_with("sleep"));
        c.join("network", &format!("/proc/{}/ns/net", other.pid()));
        c.sleeper();
        assert_eq!(kernel::namespace(detached(c, &[]), "net"), kernel::namespace(other.pid(), "net"));
    });
}

#[test]
fn a_user_namespace_is_joined_with_its_ids() {
    case(|c| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        c.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let pid = c.sleeper();
        let joined = detached(c, &["--user", "5:6"]);
        assert_eq!(kernel::namespace(joined, "user"), kernel::namespace(pid, "user"));
        assert_eq!(kernel::status(joined, "Uid"), "100005 100005 100005 100005");
        assert_eq!(kernel::status(joined, "Gid"), "100006 100006 100006 100006");
        assert_eq!(exec(c, &["--user", "5:6"], "id -u; id -g"), "5\n6");
    });
}

#[test]
fn a_time_namespace_is_joined() {
    case(|c| {
        c.unshare("time").set("/linux/timeOffsets/boottime/secs", 1_000_000);
        let pid = c.sleeper();
        let joined = detached(c, &[]);
        assert_eq!(kernel::namespace(joined, "time"), kernel::namespace(pid, "time"));
        let uptime: f64 = exec(c, &[], "cut -d ' ' -f 1 /proc/uptime").parse().unwrap();
        assert!(uptime > 1_000_000.0, "{uptime}");
    });
}

#[test]
fn the_session_keyring_is_the_containers_or_the_callers() {
    case(|c| {
        let id = c.id().to_owned();
        let keyrings = || std::fs::read_to_string("/proc/keys").unwrap().lines().filter(|l| l.contains(&id)).count();
        c.args(&["/bin/sleep", "1000"]).create_with(&["--no-new-keyring"]);
        c.start();
        detached(c, &[]);
        assert_eq!(keyrings(), 0, "whoever made the container wanted none of its own");
    });
}

#[test]
fn the_groups_are_the_containers_in_every_hierarchy() {
    case(|c| {
        let pid = c.sleeper();
        let joined = detached(c, &[]);
        assert_eq!(kernel::cgroups(joined), kernel::cgroups(pid));
        assert!(
            kernel::cgroups(joined).values().any(|path| path.contains(c.cgroup())),
            "{:?}",
            kernel::cgroups(joined)
        );
    });
}

#[test]
fn a_group_below_the_containers_is_joined_when_told() {
    case(|c| {
        let pid = c.sleeper();
        let directories = layout().directories(c.cgroup());
        assert!(!directories.is_empty());
        for directory in &directories {
            std::fs::create_dir(directory.join("below")).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let below = directory.join("below").join(file);
                if below.exists() {
                    std::fs::write(below, std::fs::read(directory.join(file)).unwrap()).unwrap();
                }
            }
        }
        let joined = detached(c, &["--cgroup", "below"]);
        for (hierarchy, path) in kernel::cgroups(joined) {
            let above = &kernel::cgroups(pid)[&hierarchy];
            if above.ends_with(c.cgroup()) {
                assert_eq!(path, format!("{above}/below"), "{hierarchy}");
            }
        }
        let out = c.oci(&["exec", "--cgroup", "no/such", c.id(), "/bin/echo", "began"]);
        assert!(out.code == 255 && out.stdout.is_empty(), "{out:?}");
    });
}

#[test]
fn the_root_and_its_mounts_are_the_containers() {
    case(|c| {
        c.mount("/mnt", "tmpfs", "tmpfs", &[]);
        let pid = c.sleeper();
        c.exec_sh("echo 1 > /mnt/one");
        assert_eq!(c.exec_sh("cat /mnt/one; ls / | grep -c -x proc"), "1\n1");
        assert!(!c.inside("/mnt/one").exists());
        assert_eq!(kernel::proc(detached(c, &[]), "mountinfo"), kernel::proc(pid, "mountinfo"));
    });
}

#[test]
fn the_filter_is_loaded_for_it_as_well() {
    case(|c| {
        c.set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
            }),
        );
        let pid = c.sleeper();
        let joined = detached(c, &[]);
        assert_eq!(kernel::status(joined, "Seccomp"), "2");
        assert_eq!(kernel::status(joined, "Seccomp_filters"), kernel::status(pid, "Seccomp_filters"));
        let out = c.exec(&["/bin/mkdir", "/tmp/d"]);
        assert!(out.code == 1 && out.stderr.contains("No space left"), "{out:?}");
    });
}

#[test]
fn resource_limits_and_oom_score_of_the_container_hold() {
    case(|c| {
        c.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 90, "hard": 100 }]));
        c.set("/process/oomScoreAdj", 123);
        c.sleeper();
        assert_eq!(exec(c, &[], "ulimit -n; cat /proc/self/oom_score_adj"), "90\n123");
    });
}

#[test]
fn it_leads_a_session_of_its_own() {
    case(|c| {
        c.sleeper();
        let joined = detached(c, &[]);
        assert_eq!(kernel::stat(joined, 6), i64::from(joined));
    });
}

#[test]
fn it_is_counted_in_the_containers_limit() {
    case(|c| {
        c.set("/linux/resources/pids/limit", 20);
        c.sleeper();
        let out = c.exec(&["/bin/sh", "-c", "for i in $(seq 30); do sleep 3 & done; echo made"]);
        assert!(out.stderr.contains("can't fork"), "{out:?}");
    });
}
