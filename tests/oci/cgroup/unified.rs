//! cgroup2 alone: what containers may do with a group that is theirs, and what comes of it.

use super::systemd::loop_device;
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tare_tests::oci::{Case, case, kernel, layout, skip};

/// Skips the case where v1 has controllers.
fn needs_v2() {
    if !layout().is_v2() {
        skip("cgroup2 is not alone here");
    }
}

/// A container that sees its group at /sys/fs/cgroup and may write there; `namespace`: the group is the root of its view.
fn with_group(c: &mut Case, namespace: bool) {
    needs_v2();
    if namespace {
        c.unshare("cgroup");
    }
    std::fs::create_dir_all(c.inside("sys/fs/cgroup")).unwrap();
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
}

fn in_a_user_namespace(c: &mut Case) {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    c.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
}

fn directory(c: &Case) -> PathBuf {
    layout().v2.unwrap().join(c.cgroup().trim_start_matches('/'))
}

/// A script that runs with the container's group as its working directory, and stays.
#[track_caller]
fn working(c: &mut Case, script: &str) -> i32 {
    let pid = c.up(&format!("cd /sys/fs/cgroup && {script} && echo ready; while :; do sleep 1000; done"));
    c.until("it is ready", || !c.output().0.is_empty() || !c.output().1.is_empty());
    assert_eq!(c.output(), ("ready\n".to_owned(), String::new()));
    pid
}

#[test]
fn every_controller_of_the_host_is_there() {
    case(|c| {
        needs_v2();
        c.sleeper();
        let of = |directory: PathBuf| std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap();
        let (host, own) = (of(layout().v2.unwrap()), of(directory(c)));
        for name in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"] {
            let has = |text: &str| text.split_whitespace().any(|c| c == name);
            assert_eq!(has(&own), has(&host), "{name}: {own}");
        }
    });
}

/// The kernel lets nobody into a group that hands controllers down (EBUSY).
#[test]
fn a_closed_group_is_joined_beside_the_first_process() {
    case(|c| {
        with_group(c, true);
        working(c, "mkdir init && echo 0 > init/cgroup.procs && echo '+pids +memory' > cgroup.subtree_control");
        assert_eq!(c.exec_sh("grep ^0: /proc/self/cgroup"), "0::/init");
        assert_eq!(c.ok(&["exec", "--cgroup", "init", c.id(), "/bin/grep", "^0:", "/proc/self/cgroup"]), "0::/init");
        let procs = std::fs::read_to_string(directory(c).join("cgroup.procs")).unwrap();
        assert_eq!(procs, "", "nobody is in the group itself");
    });
}

#[test]
fn a_group_with_threaded_ones_below_is_joined() {
    case(|c| {
        with_group(c, true);
        working(c, "mkdir t && echo threaded > t/cgroup.type");
        assert_eq!(c.exec_sh("cat /sys/fs/cgroup/cgroup.type; grep ^0: /proc/self/cgroup"), "domain threaded\n0::/");
    });
}

#[test]
fn the_group_is_the_containers_user_s() {
    case(|c| {
        with_group(c, true);
        in_a_user_namespace(c);
        c.set("/linux/resources/pids/limit", 40);
        working(c, "mkdir below && echo 0 > below/cgroup.procs && echo +pids > cgroup.subtree_control");
        let owner = |file: &str| std::fs::metadata(directory(c).join(file)).unwrap().uid();
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "below"] {
            assert_eq!(owner(file), 100_000, "{file}");
        }
        assert_eq!((owner("pids.max"), owner("cgroup.freeze")), (0, 0), "limits are not given away");
        let out = c.exec_sh("cd /sys/fs/cgroup; (echo max > pids.max) 2>&1 | grep -o denied; echo 9 > below/pids.max; cat below/pids.max pids.max");
        assert_eq!(out, "denied\n9\n40");
    });
}

#[test]
fn a_group_shown_read_only_is_not_given_away() {
    case(|c| {
        needs_v2();
        in_a_user_namespace(c);
        std::fs::create_dir_all(c.inside("sys/fs/cgroup")).unwrap();
        c.unshare("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
        c.sleeper();
        assert_eq!(std::fs::metadata(directory(c).join("cgroup.procs")).unwrap().uid(), 0);
        assert_ne!(c.exec(&["/bin/mkdir", "/sys/fs/cgroup/below"]).code, 0);
    });
}

/// A mount of all groups would let the container's root into those of its user on the host (CVE-2023-25809).
#[test]
fn a_mount_without_a_namespace_shows_the_own_group_alone() {
    for user in [false, true] {
        case(|c| {
            with_group(c, false);
            if user {
                in_a_user_namespace(c);
            }
            let host = layout().v2.unwrap();
            let pid = c.sleeper();
            let mount = kernel::mount(pid, "/sys/fs/cgroup");
            assert_eq!((mount.kind.as_str(), mount.root.as_str()), ("cgroup2", c.cgroup()), "{mount:?}");
            let seen =
                c.exec_sh("find /sys/fs/cgroup -type d; cat /sys/fs/cgroup/cgroup.procs > /tmp/p; wc -l < /tmp/p");
            assert_eq!(seen, "/sys/fs/cgroup\n3", "the first process, the shell and its helper");
            let _made = c.exec(&["/bin/mkdir", "/sys/fs/cgroup/../escaped", "/sys/fs/cgroup/escaped"]);
            assert!(!host.join("escaped").exists());
        });
    }
}

#[test]
fn what_is_in_groups_below_dies_with_the_container() {
    case(|c| {
        with_group(c, true);
        c.share("pid");
        let pid = working(
            c,
            "mkdir -p a/b && (echo 0 > a/b/cgroup.procs; exec sleep 1000) & sleep 0.3; grep -q . /sys/fs/cgroup/a/b/cgroup.procs",
        );
        let below = std::fs::read_to_string(directory(c).join("a/b/cgroup.procs")).unwrap();
        let below: i32 = below.trim().parse().unwrap();
        c.ok(&["delete", "--force", c.id()]);
        assert_eq!(c.wait(pid), 137);
        c.until("the one below is gone", || {
            !std::path::Path::new(&format!("/proc/{below}")).exists() || kernel::proc(below, "stat").contains(") Z ")
        });
        assert!(!directory(c).exists());
    });
}

#[test]
fn misc_of_what_the_host_has_not_is_refused() {
    case(|c| {
        needs_v2();
        if !layout().v2_has("misc") {
            skip("this host has no controller misc");
        }
        let said = c.set("/linux/resources/unified/misc.max", "no-such-thing 1").refused();
        assert!(said.contains("misc.max"), "{said}");
    });
}

#[test]
fn rules_for_devices_are_replaced_by_an_update() {
    case(|c| {
        needs_v2();
        let rules = |access: &str| {
            json!([{ "allow": false, "access": "rwm" },
                   { "allow": true, "type": "b", "major": 7, "minor": 0, "access": access }])
        };
        for set in ["bounding", "effective", "permitted"] {
            c.set(&format!("/process/capabilities/{set}"), vec!["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        }
        c.set("/linux/resources/devices", rules("r")).sleeper();
        assert_eq!(loop_device(c), "r");
        let path = c.path("resources.json");
        std::fs::write(&path, json!({ "devices": rules("w") }).to_string()).unwrap();
        c.ok(&["update", "--resources", path.to_str().unwrap(), c.id()]);
        assert_eq!(loop_device(c), "w");
    });
}
