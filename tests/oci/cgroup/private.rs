//! Controllers that no host mounts today: net_cls, net_prio, perf_event. They are mounted in a mount namespace of the case's own, in
//! which the runtime is run; the hierarchy goes with the case.

use serde_json::json;
use std::fs::File;
use std::os::fd::AsFd;
use tare_tests::oci::{Case, case, kernel, skip};

/// Binds what is mounted at /sys/fs/cgroup to a file system of our own, adds one hierarchy, and mounts that in its place.
/// One that has just gone may still be in the way, hence the tries.
const MOUNT: &str = "
new=$(mktemp -d)
mount -t tmpfs none $new
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir $new/unified
    mount --bind /sys/fs/cgroup $new/unified
else
    for at in /sys/fs/cgroup/*; do
        if [ -L $at ]; then cp -P $at $new; continue; fi
        mkdir $new/${at##*/}
        mount --bind $at $new/${at##*/}
    done
fi
if [ ! -e $new/CONTROLLER ]; then
    mkdir $new/CONTROLLER
    for try in 1 2 3 4 5 6 7 8 9 10; do
        mount -t cgroup -o CONTROLLER none $new/CONTROLLER && break
        sleep 0.5
    done
fi
mount --rbind $new /sys/fs/cgroup
umount -l $new
rmdir $new";

/// Has the runtime run where this controller is mounted. What is returned keeps other cases from mounting theirs.
fn mounted(c: &mut Case, controller: &str) -> File {
    let known = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    if !known.lines().any(|l| l.split_whitespace().next() == Some(controller)) {
        skip(&format!("the kernel has no {controller}"));
    }
    let lock = File::create(std::env::temp_dir().join("tare-oci-hierarchies.lock")).unwrap();
    rustix::fs::flock(lock.as_fd(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    c.before(&MOUNT.replace("CONTROLLER", controller));
    lock
}

/// A file of the container's group in that hierarchy.
#[track_caller]
fn read(c: &Case, pid: i32, controller: &str, file: &str) -> String {
    let group = &kernel::cgroups(pid)[controller];
    assert!(group.ends_with(c.cgroup()), "{group}");
    c.beside(&format!("cat /sys/fs/cgroup/{controller}{group}/{file}"))
}

#[test]
fn packets_are_classified() {
    case(|c| {
        let _lock = mounted(c, "net_cls");
        c.set("/linux/resources/network/classID", 0x10_0001);
        let pid = c.sleeper();
        assert_eq!(read(c, pid, "net_cls", "net_cls.classid"), "1048577");
        end(c, pid, "net_cls");
    });
}

#[test]
fn packets_have_priorities() {
    case(|c| {
        let _lock = mounted(c, "net_prio");
        c.set("/linux/resources/network/priorities", json!([{ "name": "lo", "priority": 3 }]));
        let pid = c.sleeper();
        let map = read(c, pid, "net_prio", "net_prio.ifpriomap");
        assert!(map.lines().any(|l| l == "lo 3"), "{map}");
        end(c, pid, "net_prio");
    });
}

#[test]
fn a_hierarchy_that_counts_events_has_the_container() {
    case(|c| {
        let _lock = mounted(c, "perf_event");
        let pid = c.sleeper();
        assert_eq!(read(c, pid, "perf_event", "cgroup.procs"), pid.to_string());
        end(c, pid, "perf_event");
    });
}

/// The hierarchy goes when nothing is in it.
#[track_caller]
fn end(c: &Case, pid: i32, controller: &str) {
    c.ok(&["delete", "--force", c.id()]);
    c.wait(pid);
    let own = c.cgroup();
    let above = own.rsplit_once('/').unwrap().0;
    c.beside(&format!("cd /sys/fs/cgroup/{controller}; test ! -e .{own}; test ! -d .{above} || rmdir .{above}"));
}
