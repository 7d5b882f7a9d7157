//! Many lives, one after another: what the kernel holds before and after is the same.
//!
//! Counted is what can be told to be this container's: its cgroup's name in every hierarchy, mounts of its bundle, processes
//! and zombies below this one, keyrings and sockets with its name, files of its state directory, descriptors of this
//! process, namespaces that only its processes had. Memory of the kernel as a whole is too noisy for a bound (slabs are
//! freed late, and other tests run beside), so its growth is printed by the long test and not judged.

use super::nothing_is_left;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use tare_tests::oci::{Case, case, kernel, layout};

/// What there is of one container, in words; the same before and after, or something leaks.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    groups: BTreeSet<String>,
    mounts: usize,
    processes: Vec<i32>,
    keys: usize,
    sockets: usize,
    files: usize,
    descriptors: usize,
    namespaces: BTreeSet<String>,
}

fn take(c: &Case) -> Census {
    let me = std::process::id().cast_signed();
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let with_id = |path: &str| text(path).lines().filter(|l| l.contains(c.id()) || l.contains(&c.bundle())).count();
    let processes = kernel::descendants(me);
    let mut namespaces = BTreeSet::new();
    for pid in processes.iter().chain([&me]) {
        let links = std::fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
        namespaces
            .extend(links.filter_map(|l| Some(std::fs::read_link(l.path()).ok()?.to_string_lossy().into_owned())));
    }
    Census {
        groups: groups_below(c),
        mounts: with_id("/proc/self/mountinfo"),
        processes,
        keys: with_id("/proc/keys"),
        sockets: with_id("/proc/net/unix"),
        files: walk(&c.state_root()),
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        namespaces,
    }
}

/// The groups beneath the case's own, which stays.
fn groups_below(c: &Case) -> BTreeSet<String> {
    let own = c.cgroup().rsplit_once('/').unwrap().0;
    let directories = layout().directories(own);
    let below = directories.iter().flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten());
    let groups = below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    groups.map(|e| e.path().display().to_string()).collect()
}

fn walk(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| 1 + if e.file_type().is_ok_and(|t| t.is_dir()) { walk(&e.path()) } else { 0 }).sum()
}

/// A field of /proc/meminfo in KiB.
fn memory(field: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// Of the whole host: cgroups that are dead and not yet freed, by the kernel's own count.
fn dying_groups() -> u64 {
    let text = layout().v2.and_then(|at| std::fs::read_to_string(at.join("cgroup.stat")).ok()).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("nr_dying_descendants "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// Lives that many times.
fn cycles(c: &mut Case, times: u32) {
    c.unshare("network").unshare("cgroup").args(&["/bin/sleep", "1000"]);
    c.set("/linux/resources/pids/limit", 100).set("/linux/resources/memory/limit", 64 << 20);
    c.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW",
                                     "syscalls": [{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO" }] }),
    );
    // The first makes what stays: the directory of states, the parent group.
    once(c);
    tare_tests::eventually(std::time::Duration::from_secs(20), || take(c).keys == 0);
    let before = take(c);
    for _ in 0..times {
        once(c);
    }
    same(c, &before);
    nothing_is_left(c);
}

/// Fails unless everything is as before. The kernel frees keyrings and namespaces a moment after their last user.
#[track_caller]
fn same(c: &Case, before: &Census) {
    tare_tests::eventually(std::time::Duration::from_secs(20), || take(c) == *before);
    assert_eq!(take(c), *before);
}

fn once(c: &mut Case) {
    let pid = c.create();
    c.start();
    let out = c.exec(&["/bin/true"]);
    assert_eq!(out.code, 0, "{out:?}");
    c.ok(&["delete", "--force", c.id()]);
    assert_eq!(c.wait(pid), 137);
}

#[test]
fn five_hundred_leave_nothing() {
    case(|c| cycles(c, 500));
}

#[test]
#[ignore = "takes many minutes"]
fn long_ten_thousand_leave_nothing() {
    case(|c| {
        let before = ["SUnreclaim", "KernelStack", "PageTables", "Percpu"].map(|f| (f, memory(f)));
        let dying = dying_groups();
        cycles(c, 10_000);
        for (field, kib) in before {
            println!("{field}: {kib} KiB before, {} after", memory(field));
        }
        println!("dying groups: {dying} before, {} after", dying_groups());
    });
}

#[test]
fn half_lives_leave_nothing() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]);
        once(c);
        tare_tests::eventually(std::time::Duration::from_secs(20), || take(c).keys == 0);
        let before = take(c);
        for n in 0..40 {
            match n % 4 {
                // Never started.
                0 => {
                    let pid = c.create();
                    c.ok(&["delete", c.id()]);
                    c.wait(pid);
                }
                // Refused after everything was made.
                1 => {
                    c.args(&["/no/such/program"]);
                    assert_ne!(c.run().code, 0);
                    c.args(&["/bin/sleep", "1000"]);
                }
                // Killed in its wait.
                2 => {
                    let pid = c.create();
                    let process = rustix::process::Pid::from_raw(pid).unwrap();
                    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
                    c.wait(pid);
                    c.ok(&["delete", c.id()]);
                }
                // An exec that fails.
                _ => {
                    let pid = c.create();
                    c.start();
                    assert_ne!(c.exec(&["/no/such/program"]).code, 0);
                    c.ok(&["delete", "--force", c.id()]);
                    c.wait(pid);
                }
            }
        }
        same(c, &before);
        nothing_is_left(c);
    });
}
