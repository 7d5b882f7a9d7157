//! Namespaces: new ones, the host's, another container's; and what each of them hides.

use std::path::Path;
use std::time::Duration;
use tare_tests::{Host, Running, Tree, command, compile, eventually, unique};

const KINDS: [&str; 8] = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"];
const SOON: Duration = Duration::from_secs(20);

/// The inode of each of [`KINDS`], as the host sees them.
fn namespaces(pid: &str) -> Vec<String> {
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    KINDS.iter().map(|kind| link(kind).display().to_string()).collect()
}

fn pid_of(host: &Host, name: &str) -> String {
    host.inspect(name)["State"]["Pid"].to_string()
}

/// Starts a container that sleeps; its namespaces.
fn sleeper(host: &Host, name: &str, flags: &[&str]) -> Vec<String> {
    host.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    namespaces(&pid_of(host, name))
}

/// Which of [`KINDS`] are the same.
fn common<'a>(a: &'a [String], b: &[String]) -> Vec<&'a str> {
    a.iter().zip(b).filter(|(a, b)| a == b).map(|(a, _)| a.split(':').next().unwrap()).collect()
}

#[test]
fn each_is_new_unless_the_hosts_is_asked_for() {
    let host = Host::new();
    host.busybox();
    let mine = namespaces("self");
    assert_eq!(common(&sleeper(&host, "new", &["--network", "none"]), &mine), ["user", "time"]);
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let shared = sleeper(&host, kind, &["--network", "none", flag, "host"]);
        let shared = common(&shared, &mine);
        let mut expected = vec![kind, "user", "time"];
        expected.sort_by_key(|k| KINDS.iter().position(|x| x == k));
        assert_eq!(shared, expected, "{flag}");
    }
    assert_eq!(common(&sleeper(&host, "net", &["--network", "host"]), &mine), ["net", "user", "time"]);
    let flags = ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"];
    assert_eq!(common(&sleeper(&host, "all", &flags), &mine), KINDS[1..]);
}

#[test]
fn another_containers_are_joined_one_by_one_and_all_together() {
    let host = Host::new();
    host.busybox();
    let first = sleeper(&host, "first", &["--network", "none"]);
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let joined = sleeper(&host, kind, &["--network", "none", flag, "container:first"]);
        let mut expected = vec![kind, "user", "time"];
        expected.sort_by_key(|k| KINDS.iter().position(|x| x == k));
        assert_eq!(common(&joined, &first), expected, "{flag}");
    }
    let flags = ["--network", "--pid", "--ipc", "--uts", "--cgroupns"];
    let flags: Vec<&str> = flags.iter().flat_map(|f| [*f, "container:first"]).collect();
    assert_eq!(common(&sleeper(&host, "all", &flags), &first), KINDS[1..]);
    // Two containers, one host: processes, name, loopback.
    let seen = host.ok(&["exec", "all", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; hostname"]);
    let id = host.inspect("first")["Id"].as_str().unwrap().to_owned();
    assert_eq!(seen, format!("sleep 1000 {}", &id[..12]));
    // It is still only another's PID namespace: what is PID 1 in it ends it all.
    host.ok(&["kill", "first"]);
    assert_eq!(host.ok(&["wait", "all"]), "137");
    let refused = host.fails(&["run", "--rm", "--pid", "container:first", "busybox", "true"], 125);
    assert!(refused.contains("not running") && refused.contains("tare start first"), "{refused}");
    let refused = host.fails(&["run", "--rm", "--ipc", "container:nobody", "busybox", "true"], 125);
    assert!(refused.contains("nobody"), "{refused}");
}

/// The processes below one, by the host's numbers, it included.
fn family(pid: &str) -> Vec<String> {
    let mut all = vec![pid.to_owned()];
    let mut next = 0;
    while next < all.len() {
        let list = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", all[next])).unwrap_or_default();
        all.extend(list.split_whitespace().map(str::to_owned));
        next += 1;
    }
    all
}

fn status(pid: &str, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default().trim_start_matches(':').trim().to_owned()
}

#[test]
fn the_host_sees_the_processes_under_its_own_numbers() {
    let host = Host::new();
    host.busybox();
    let script = "echo $$; sleep 1001 & sleep 1002 & exec sleep 1000";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let pid = pid_of(&host, "box");
    assert!(eventually(SOON, || family(&pid).len() == 3), "{:?}", family(&pid));
    let family = family(&pid);
    let inside: Vec<String> = family.iter().map(|p| status(p, "NSpid")).collect();
    assert_eq!(inside[0], format!("{pid}\t1"));
    for (outer, both) in family.iter().zip(&inside) {
        let numbers: Vec<&str> = both.split_whitespace().collect();
        assert_eq!((numbers.len(), numbers[0]), (2, outer.as_str()));
    }
    // Inside there is nothing but them.
    let ps = host.ok(&["exec", "box", "sh", "-c", "ls -d /proc/[0-9]*"]);
    let mut seen: Vec<u32> = ps.lines().map(|l| l.trim_start_matches("/proc/").parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen[..3], [1, 2, 3], "{ps}");
    assert!(seen.len() <= 5, "{ps}");
    assert_eq!(host.ok(&["logs", "box"]), "1");
}

#[test]
fn with_the_first_process_all_others_end() {
    let host = Host::new();
    host.busybox();
    // Sessions and groups of their own, signals ignored: nothing of that helps.
    let script = "trap '' HUP TERM INT; setsid sleep 1001 & setsid sh -c 'sleep 1002; true' & exec sleep 1000";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let pid = pid_of(&host, "box");
    assert!(eventually(SOON, || family(&pid).len() == 4), "{:?}", family(&pid));
    let family = family(&pid);
    command("kill").args(["-9", &pid]).status().unwrap();
    assert_eq!(host.ok(&["wait", "box"]), "137");
    let alive = |p: &&String| Path::new("/proc").join(p).exists();
    assert!(eventually(SOON, || family.iter().filter(alive).count() == 0), "{family:?}");
}

#[test]
fn orphans_become_children_of_the_first_process_and_init_reaps_them() {
    let host = Host::new();
    host.busybox();
    // The first process never waits.
    let script = "sh -c 'sleep 1001 & sleep 0.2 &'; exec sleep 1000";
    for flags in [&["--name", "plain"][..], &["--name", "init", "--init"]] {
        let tail = ["busybox", "sh", "-c", script];
        host.ok(&[&["run", "-d", "--network", "none"], flags, &tail].concat());
    }
    let zombies = "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z'; true";
    let count = |name: &str| host.ok(&["exec", name, "sh", "-c", zombies]);
    assert!(eventually(SOON, || count("plain") == "1"), "{}", count("plain"));
    let parents = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^sleep 1001' && grep PPid $p/status; done; true";
    for name in ["plain", "init"] {
        assert_eq!(host.ok(&["exec", name, "sh", "-c", parents]), "PPid:\t1", "{name}");
    }
    assert!(eventually(SOON, || count("init") == "0"), "{}", count("init"));
    assert_eq!(count("plain"), "1");
    assert_eq!(host.ok(&["exec", "init", "cat", "/proc/1/comm"]), ".tare-init");
}

#[test]
fn init_forwards_signals_and_passes_the_exit_code_on() {
    let host = Host::new();
    host.busybox();
    let script = "trap 'echo caught; exit 3' TERM; trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done";
    host.ok(&["run", "-d", "--init", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let logs = || host.ok(&["logs", "box"]);
    assert!(eventually(SOON, || logs() == "up"));
    host.ok(&["kill", "-s", "USR1", "box"]);
    assert!(eventually(SOON, || logs() == "up\nusr1"), "{}", logs());
    host.ok(&["stop", "box"]);
    assert_eq!((host.ok(&["wait", "box"]).as_str(), logs().as_str()), ("3", "up\nusr1\ncaught"));
    let run =
        |command: &str| host.run(&["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", command]).code;
    assert_eq!((run("exit 7"), run("kill -9 $$"), run("kill -15 $$")), (7, 137, 143));
    let missing = host.fails(&["run", "--rm", "--init", "--network", "none", "busybox", "nothing-like-it"], 127);
    assert!(missing.contains("nothing-like-it"), "{missing}");
}

/// `make KEY`, `see KEY` or `drop KEY`: a shared memory segment, a set of semaphores, a message queue, a POSIX queue.
const IPC: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
int main(int argc, char **argv) {
  key_t key = strtol(argv[2], 0, 0);
  int make = !strcmp(argv[1], "make"), drop = !strcmp(argv[1], "drop"), flags = make ? IPC_CREAT | 0600 : 0;
  char name[64];
  snprintf(name, sizeof name, "/tare-%x", key);
  int shm = shmget(key, make ? 4096 : 0, flags), sem = semget(key, make, flags), msg = msgget(key, flags);
  mqd_t queue = mq_open(name, make ? O_CREAT | O_RDWR : O_RDWR, 0600, NULL);
  printf("%s%s%s%s\n", shm < 0 ? "" : "shm ", sem < 0 ? "" : "sem ", msg < 0 ? "" : "msg ", queue < 0 ? "" : "mq ");
  if (drop) {
    shmctl(shm, IPC_RMID, 0);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, 0);
    mq_unlink(name);
  }
  return 0;
}
"#;

#[test]
fn ipc_objects_are_seen_inside_only_and_go_with_the_namespace() {
    let host = Host::new();
    let tree = Tree::busybox();
    host.import(tree.compiled("bin/ipc", IPC), &[], "busybox");
    let key = std::process::id().to_string();
    let all = "shm sem msg mq ";
    let outside = host.scratch("ipc");
    compile(IPC, &outside);
    let outside = |verb: &str| Running::start(command(&outside).args([verb, &key]), None).wait().stdout;
    let inside = |name: &str, verb: &str| host.ok(&["exec", name, "ipc", verb, &key]);
    sleeper(&host, "first", &["--network", "none"]);
    sleeper(&host, "other", &["--network", "none"]);
    sleeper(&host, "joined", &["--network", "none", "--ipc", "container:first"]);
    sleeper(&host, "hosts", &["--network", "none", "--ipc", "host"]);
    assert_eq!(inside("first", "make"), all);
    assert_eq!((inside("first", "see"), inside("joined", "see")), (all.to_owned(), all.to_owned()));
    assert_eq!((inside("other", "see").trim(), inside("hosts", "see").trim(), outside("see").trim()), ("", "", ""));
    // The queue is a file of the namespace's own file system, and /dev/shm goes with the namespace.
    let name = format!("tare-{:x}", std::process::id());
    let list = |c: &str| host.ok(&["exec", c, "ls", "/dev/mqueue"]);
    assert_eq!((list("first"), list("joined"), list("other")), (name.clone(), name, String::new()));
    host.ok(&["exec", "joined", "sh", "-c", "echo shared > /dev/shm/file"]);
    assert_eq!(host.ok(&["exec", "first", "cat", "/dev/shm/file"]), "shared");
    assert_eq!(host.ok(&["exec", "other", "ls", "/dev/shm"]), "");
    // The host's own, in a container that asks for it.
    assert_eq!(inside("hosts", "make"), all);
    let seen = (outside("see"), inside("first", "see"));
    outside("drop");
    assert_eq!(seen.0, format!("{all}\n"));
    assert_eq!(outside("see"), "\n");
    // A namespace that is made anew has nothing of the old one.
    host.ok(&["rm", "-f", "joined"]);
    host.ok(&["stop", "-t", "0", "first"]);
    host.ok(&["start", "first"]);
    assert_eq!((inside("first", "see").as_str(), host.ok(&["exec", "first", "ls", "/dev/shm"]).as_str()), ("", ""));
}

/// Unmounts when the test is over, however it ends.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = command("umount").arg(&self.0).status();
    }
}

#[test]
fn mounts_made_inside_stay_inside_and_the_other_way_round() {
    let host = Host::new();
    host.busybox();
    let (inner, outer) = (unique("inner"), unique("outer"));
    let shared = host.scratch("shared");
    std::fs::create_dir_all(shared.join("on")).unwrap();
    let volume = format!("{}:/shared", shared.display());
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--privileged",
        "-v",
        &volume,
        "busybox",
        "sleep",
        "1000",
    ]);
    let mount = format!("mkdir /{inner} && mount -t tmpfs {inner} /{inner} && mount -t tmpfs {inner} /shared/on");
    host.ok(&["exec", "box", "sh", "-c", &mount]);
    let table = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(table(&pid_of(&host, "box")).matches(&format!(" tmpfs {inner} ")).count(), 2);
    assert!(!table("self").contains(&inner), "{}", table("self"));
    std::fs::create_dir(shared.join("below")).unwrap();
    let made = command("mount").args(["-t", "tmpfs", &outer]).arg(shared.join("below")).status().unwrap();
    let _guard = Mounted(shared.join("below"));
    assert!(made.success() && table("self").contains(&outer));
    assert!(!table(&pid_of(&host, "box")).contains(&outer));
    std::fs::write(shared.join("below/file"), "").unwrap();
    assert_eq!(host.ok(&["exec", "box", "ls", "/shared/below"]), "");
    // Nothing of the host's own tree is left below the new root.
    let points = host.ok(&["exec", "box", "sh", "-c", "cut -d' ' -f5 /proc/self/mountinfo"]);
    let known = ["/", "/proc", "/dev", "/sys", "/etc/", "/shared", &format!("/{inner}")];
    for point in points.lines() {
        let fits = |k: &str| point == k || (k != "/" && point.starts_with(&format!("{}/", k.trim_end_matches('/'))));
        assert!(known.iter().any(|k| fits(k)), "{point}\n{points}");
    }
    // The root of the mount namespace is the container's, so no way leads up.
    assert_eq!(host.ok(&["exec", "box", "sh", "-c", "ls /../../../.."]), host.ok(&["exec", "box", "ls", "/"]));
}

#[test]
fn host_and_domain_name_change_inside_only() {
    let host = Host::new();
    host.busybox();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().to_owned();
    let before = (read("hostname"), read("domainname"));
    let script =
        "hostname; cat /proc/sys/kernel/domainname; grep -c one /etc/hosts; cat /etc/hostname; hostname two; hostname";
    let out = host.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-h",
        "one",
        "--domainname",
        "example.test",
        "--cap-add",
        "SYS_ADMIN",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out, "one\nexample.test\n1\none\ntwo");
    assert_eq!((read("hostname"), read("domainname")), before);
    let refused = host.run(&["run", "--rm", "--network", "none", "busybox", "hostname", "two"]);
    assert!(refused.code == 1 && refused.stderr.contains("not permitted"), "{refused:?}");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "--uts", "host", "busybox", "hostname"]), before.0);
    let refused = host.fails(&["run", "--rm", "--uts", "host", "-h", "x", "busybox", "true"], 125);
    assert!(refused.contains("host"), "{refused}");
}

#[test]
fn the_cgroup_view_begins_at_the_containers_own_group() {
    let host = Host::new();
    host.busybox();
    let paths =
        |out: &str| -> Vec<String> { out.lines().map(|l| l.splitn(3, ':').nth(2).unwrap().to_owned()).collect() };
    let here = |out: &str| -> String {
        out.lines().filter(|l| tare_tests::is_mounted_hierarchy(l)).map(|l| format!("{l}\n")).collect()
    };
    let own = paths(&host.sh("cat /proc/self/cgroup"));
    assert!(!own.is_empty() && own.iter().all(|p| p == "/"), "{own:?}");
    let whole =
        host.ok(&["run", "--rm", "--network", "none", "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup"]);
    let whole = paths(&here(&whole));
    let parent = format!("/{}/", host.names().instance);
    // Hierarchies that have no controller in this kernel for containers stay as they are; there is none here.
    assert!(whole.iter().all(|p| p.starts_with(&parent) && p.len() == parent.len() + 64), "{whole:?}");
    // The mount shows the same: the container's group at its top, not writable.
    let listed = host.sh("cd /sys/fs/cgroup; for d in . *; do [ -e $d/cgroup.procs ] && cat $d/cgroup.procs; done | sort -u | head -n 1; touch x 2>&1; true");
    assert!(listed.starts_with('1') && listed.contains("Read-only"), "{listed}");
}
