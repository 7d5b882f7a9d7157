//! Each kind of namespace made, shared and joined, and mixes of them.

use serde_json::json;
use tare_tests::oci::{Case, case, kernel};
use tare_tests::{Running, command, eventually};

/// Names in the specification and in /proc/PID/ns.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn link(kind: &str) -> &'static str {
    KINDS.iter().find(|(name, _)| *name == kind).unwrap().1
}

fn own(kind: &str) -> String {
    kernel::namespace(i32::try_from(std::process::id()).unwrap(), link(kind))
}

/// A process of this host in new namespaces, for others to join.
struct Holder {
    running: Running,
    pid: i32,
}

impl Holder {
    fn new(kinds: &[&str]) -> Holder {
        let mut unshare = command("unshare");
        for kind in kinds {
            unshare.arg(match *kind {
                "network" => "--net".to_owned(),
                kind => format!("--{kind}"),
            });
        }
        if kinds.contains(&"pid") || kinds.contains(&"time") {
            unshare.args(["--fork", "--kill-child"]);
        }
        let running = Running::start(unshare.args(["sh", "-c", "echo $$; sleep 1000"]), None);
        let pid = running.pid();
        let mut holder = Holder { running, pid };
        assert!(eventually(std::time::Duration::from_secs(20), || holder.running.printed().0.contains('\n')));
        if kinds.contains(&"user") {
            for map in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{pid}/{map}"), "0 100000 65536\n").unwrap();
            }
        }
        if kinds.contains(&"pid") || kinds.contains(&"time") {
            holder.pid = child_of(pid);
        }
        holder
    }

    fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{}", self.pid, link(kind))
    }

    fn namespace(&self, kind: &str) -> String {
        kernel::namespace(self.pid, link(kind))
    }
}

/// The one child of a process.
fn child_of(pid: i32) -> i32 {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let is_child = |p: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{p}/status")).unwrap_or_default();
        text.lines().any(|l| l == format!("PPid:\t{pid}"))
    };
    all.into_iter().find(is_child).unwrap()
}

/// Makes a kind possible: what needs mappings gets them, and what may not be shared is left out.
fn with(c: &mut Case, kind: &str) {
    c.unshare(kind);
    if kind == "user" {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        c.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    }
}

macro_rules! made {
    ($($case:ident: $kind:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                with(c, $kind);
                let pid = c.sleeper();
                assert_ne!(kernel::namespace(pid, link($kind)), own($kind));
                // The others are what they are without it.
                for (other, name) in KINDS.iter().filter(|(k, _)| !["pid", "mount", "ipc", "uts", $kind].contains(k)) {
                    assert_eq!(kernel::namespace(pid, name), own(other), "{other}");
                }
            });
        }
    )*};
}

made! {
    a_pid_namespace_is_made: "pid";
    a_network_namespace_is_made: "network";
    a_mount_namespace_is_made: "mount";
    an_ipc_namespace_is_made: "ipc";
    a_uts_namespace_is_made: "uts";
    a_user_namespace_is_made: "user";
    a_cgroup_namespace_is_made: "cgroup";
    a_time_namespace_is_made: "time";
}

macro_rules! shared {
    ($($case:ident: $kind:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                c.share($kind);
                let pid = c.sleeper();
                assert_eq!(kernel::namespace(pid, link($kind)), own($kind));
            });
        }
    )*};
}

shared! {
    the_network_is_the_runtimes_unless_asked_for: "network";
    ipc_is_the_runtimes_unless_asked_for: "ipc";
    uts_is_the_runtimes_unless_asked_for: "uts";
    user_is_the_runtimes_unless_asked_for: "user";
    cgroup_is_the_runtimes_unless_asked_for: "cgroup";
    time_is_the_runtimes_unless_asked_for: "time";
}

#[test]
fn processes_are_the_runtimes_unless_asked_for() {
    case(|c| {
        c.share("pid");
        let pid = c.sleeper();
        assert_eq!(kernel::namespace(pid, "pid"), own("pid"));
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
    });
}

macro_rules! joined {
    ($($case:ident: $kind:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                let holder = Holder::new(&[$kind]);
                c.join($kind, &holder.path($kind));
                let pid = c.sleeper();
                assert_eq!(kernel::namespace(pid, link($kind)), holder.namespace($kind));
                assert_ne!(kernel::namespace(pid, link($kind)), own($kind));
            });
        }
    )*};
}

joined! {
    a_network_namespace_is_joined: "network";
    an_ipc_namespace_is_joined: "ipc";
    a_uts_namespace_is_joined: "uts";
    a_cgroup_namespace_is_joined: "cgroup";
    a_time_namespace_is_joined: "time";
    a_pid_namespace_is_joined: "pid";
}

#[test]
fn a_user_namespace_is_joined_with_others_that_are_new() {
    case(|c| {
        let holder = Holder::new(&["user"]);
        c.join("user", &holder.path("user")).unshare("network");
        let pid = c.sleeper();
        assert_eq!(kernel::namespace(pid, "user"), holder.namespace("user"));
        assert_ne!(kernel::namespace(pid, "net"), own("network"));
        assert_eq!(kernel::status(pid, "Uid"), "100000 100000 100000 100000");
        assert_eq!(c.exec_sh("id -u; ip link show lo | grep -c lo:"), "0\n1");
    });
}

#[test]
fn maps_given_along_with_a_user_namespace_must_be_its_own() {
    case(|c| {
        let holder = Holder::new(&["user"]);
        c.join("user", &holder.path("user"));
        let map = |size: u32| json!([{ "containerID": 0, "hostID": 100_000, "size": size }]);
        let said = c.set("/linux/uidMappings", map(65536)).set("/linux/gidMappings", map(65535)).refused();
        assert!(said.contains("gid_map") || said.contains("mapping"), "{said}");
        assert_eq!(c.set("/linux/gidMappings", map(65536)).sh("id -u; id -g"), "0\n0");
    });
}

#[test]
fn a_user_namespace_and_one_that_it_owns_are_joined() {
    case(|c| {
        let holder = Holder::new(&["user", "network", "uts"]);
        for kind in ["user", "network", "uts"] {
            c.join(kind, &holder.path(kind));
        }
        let pid = c.sleeper();
        for kind in ["user", "network", "uts"] {
            assert_eq!(kernel::namespace(pid, link(kind)), holder.namespace(kind), "{kind}");
        }
    });
}

#[test]
fn several_of_another_container_are_joined() {
    case(|c| {
        let holder = Holder::new(&["network", "ipc", "uts"]);
        for kind in ["network", "ipc", "uts"] {
            c.join(kind, &holder.path(kind));
        }
        let pid = c.sleeper();
        for kind in ["network", "ipc", "uts"] {
            assert_eq!(kernel::namespace(pid, link(kind)), holder.namespace(kind), "{kind}");
        }
        assert_ne!(kernel::namespace(pid, "pid"), own("pid"));
    });
}

#[test]
fn a_joined_pid_namespace_is_seen_in_proc() {
    case(|c| {
        let holder = Holder::new(&["pid"]);
        c.join("pid", &holder.path("pid"));
        let pid = c.sleeper();
        assert_eq!(kernel::namespace(pid, "pid"), holder.namespace("pid"));
        assert_eq!(c.exec_sh("tr '\\0' ' ' < /proc/1/cmdline | cut -c1-5"), "sh -c");
    });
}

#[test]
fn the_names_of_a_joined_uts_namespace_can_be_set() {
    case(|c| {
        let holder = Holder::new(&["uts"]);
        c.join("uts", &holder.path("uts")).set("/hostname", "changed-there");
        c.sleeper();
        let path = format!("--uts={}", holder.path("uts"));
        let out = Running::start(command("nsenter").args([&path, "hostname"]), None).wait();
        assert_eq!(out.stdout, "changed-there\n");
    });
}

#[test]
fn all_kinds_at_once() {
    case(|c| {
        for (kind, _) in KINDS {
            with(c, kind);
        }
        let pid = c.sleeper();
        for (kind, name) in KINDS {
            assert_ne!(kernel::namespace(pid, name), own(kind), "{kind}");
        }
        assert_eq!(c.exec_sh("id -u; cat /proc/1/comm"), "0\nsleep");
    });
}

#[test]
fn processes_that_join_are_in_all_of_them() {
    case(|c| {
        for (kind, _) in KINDS {
            with(c, kind);
        }
        let pid = c.sleeper();
        let names: Vec<&str> = KINDS.iter().map(|(_, name)| *name).collect();
        let out = c.exec_sh(&format!("for n in {}; do readlink /proc/self/ns/$n; done", names.join(" ")));
        let expected: Vec<String> = names.iter().map(|n| kernel::namespace(pid, n)).collect();
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn the_first_process_is_number_one() {
    case(|c| assert_eq!(c.sh("echo $$"), "1"));
}

#[test]
fn loopback_is_up_in_a_new_network() {
    case(|c| {
        c.unshare("network");
        let out = c.sh("ip address show lo; ls /proc/sys/net/ipv4/conf");
        assert!(out.contains("LOOPBACK,UP") && out.contains("127.0.0.1/8"), "{out}");
        assert!(!out.contains("eth0"), "{out}");
    });
}

#[test]
fn a_cgroup_namespace_hides_what_is_above() {
    case(|c| {
        c.unshare("cgroup");
        let out = c.sh("cut -d: -f3 /proc/self/cgroup | sort -u");
        assert_eq!(out, "/");
    });
}

#[test]
fn messages_of_the_host_are_not_in_a_new_ipc_namespace() {
    case(|c| {
        let out = c.sh("cat /proc/sysvipc/shm | wc -l");
        assert_eq!(out, "1");
    });
}

#[test]
fn the_same_kind_twice_is_refused() {
    case(|c| {
        let said = c.set("/linux/namespaces/-", json!({ "type": "uts" })).refused();
        assert!(said.to_lowercase().contains("uts") || said.contains("duplicate"), "{said}");
    });
}

#[test]
fn an_unknown_kind_is_refused() {
    case(|c| {
        let said = c.set("/linux/namespaces/-", json!({ "type": "nosuchkind" })).refused();
        assert!(said.contains("nosuchkind"), "{said}");
    });
}

#[test]
fn a_path_that_is_missing_is_refused() {
    case(|c| {
        let said = c.join("network", "/no/such/namespace").refused();
        assert!(said.contains("/no/such/namespace"), "{said}");
    });
}

#[test]
fn a_path_of_another_kind_is_refused() {
    case(|c| {
        let said = c.join("network", "/proc/self/ns/uts").refused();
        assert!(said.contains("/proc/self/ns/uts") || said.to_lowercase().contains("net"), "{said}");
    });
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    case(|c| {
        let said = c.join("network", "/etc/passwd").refused();
        assert!(said.contains("/etc/passwd") || said.contains("net"), "{said}");
    });
}
