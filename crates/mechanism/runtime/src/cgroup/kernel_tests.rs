//! The kernel's answer to what the modules above write. What is expected follows from the layout that is found, so that
//! the same test binary proves v1, hybrid and pure v2 hosts. Needs root.

mod oci;
mod subsystems;

use super::devices::default_rules;
use super::*;
use rustix::process::Signal;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tare_model::Kind;
use tare_model::runtime_spec::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

/// A group under a parent of the test's own; whatever is in it dies with the value.
struct Fixture {
    layout: Layout,
    path: String,
    group: Group,
}

impl Fixture {
    fn new(resources: &LinuxResources) -> Fixture {
        Fixture::at(Layout::read().unwrap(), &unique(), resources)
    }

    fn at(layout: Layout, path: &str, resources: &LinuxResources) -> Fixture {
        let created = create(&plan(&layout, path, resources).unwrap()).unwrap();
        let v1 = layout.hierarchies.iter().filter(|h| h.version == Version::V1).count();
        assert_eq!((created.attach.len(), created.unified.is_some()), (v1, layout.unified().is_some()));
        let group = Group::open(&layout, path).unwrap();
        Fixture { layout, path: path.into(), group }
    }

    /// Runs a shell script whose first act is to join the group through the same files as a container's first process.
    fn spawn(&self, script: &str) -> Child {
        let file = |h: &Hierarchy| {
            let name = if h.version == Version::V1 { "tasks" } else { "cgroup.procs" };
            format!("{}{}/{name}", h.mount_point.display(), self.path)
        };
        let joins: Vec<String> =
            self.layout.hierarchies.iter().map(|h| format!("echo 0 > '{}' && ", file(h))).collect();
        #[expect(clippy::disallowed_methods, reason = "the test needs processes to put into groups")]
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{} {{ echo joined; {script}\n}}", joins.concat())]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::with_capacity(1, stdout), &mut line).unwrap();
        assert_eq!(line, "joined\n", "{:?}", child.wait_with_output());
        child
    }

    fn run(&self, script: &str) -> ExitStatus {
        self.spawn(script).wait_with_output().unwrap().status
    }

    fn has(&self, controller: &str) -> bool {
        let there = self.layout.with_controller(controller).is_some();
        if !there {
            assert_ne!(controller, "pids", "every host of the tests has it");
        }
        there
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _killed = self.group.kill_all();
        let removed = remove(&self.layout, &self.path, Parents::RemoveEmpty);
        if !std::thread::panicking() {
            removed.unwrap();
            for h in &self.layout.hierarchies {
                let parent = self.path.rsplit_once('/').unwrap().0;
                assert!(!h.mount_point.join(&self.path[1..]).exists());
                assert!(
                    parent == "/" || !h.mount_point.join(&parent[1..]).exists(),
                    "{parent} is left in {}",
                    h.label()
                );
            }
        }
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/tare-test-{}-{}/a", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn memory(limit: i64, swap: i64) -> LinuxResources {
    LinuxResources {
        memory: Some(LinuxMemory { limit: Some(limit), swap: Some(swap), ..LinuxMemory::default() }),
        ..LinuxResources::default()
    }
}

fn pids(limit: i64) -> LinuxResources {
    LinuxResources { pids: Some(LinuxPids { limit: Some(limit) }), ..LinuxResources::default() }
}

fn cpu(c: LinuxCpu) -> LinuxResources {
    LinuxResources { cpu: Some(c), ..LinuxResources::default() }
}

const MIB: i64 = 1 << 20;

/// Whether `memory` here can limit swap as well.
fn swap_of(layout: &Layout, limit: i64) -> i64 {
    let both = layout.offers("memory", "memory.memsw.limit_in_bytes") || layout.offers("memory", "memory.swap.max");
    if both { limit } else { 0 }
}

#[test]
fn the_kernel_kills_at_the_memory_limit() {
    let layout = Layout::read().unwrap();
    let f = Fixture::new(&memory(32 * MIB, swap_of(&layout, 32 * MIB)));
    assert!(f.has("memory"));
    assert_eq!(f.group.usage().unwrap().memory.unwrap().limit, Some(32 << 20));
    let events = f.group.oom_events().unwrap();
    events.drain();
    assert_eq!(f.group.oom_kills().unwrap(), 0);
    assert!(f.run("head -c 100 /dev/zero > /dev/null").success());
    let status = f.run("exec dd if=/dev/zero of=/dev/null bs=128M count=1");
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(events.as_fd(), rustix::event::PollFlags::IN)];
    let second = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&second)).unwrap(), 1, "the event did not come");
    until("the kill is counted", || f.group.oom_kills().unwrap() == 1);
    let m = f.group.usage().unwrap().memory.unwrap();
    assert_eq!(m.oom_kills, 1);
    assert!(m.peak.is_none_or(|p| p > 30 << 20), "{m:?}");
}

#[test]
fn a_quota_throttles() {
    let f = Fixture::new(&cpu(LinuxCpu { quota: Some(10_000), period: Some(100_000), ..LinuxCpu::default() }));
    assert!(f.has("cpu"));
    let start = Instant::now();
    let mut child = f.spawn("while :; do :; done");
    until("throttled three times", || f.group.usage().unwrap().cpu.unwrap().throttled_periods >= 3);
    f.group.kill_all().unwrap();
    child.wait().unwrap();
    let elapsed = start.elapsed().as_nanos() as u64;
    let c = f.group.usage().unwrap().cpu.unwrap();
    assert!(c.throttled > 0 && c.periods >= c.throttled_periods, "{c:?}");
    // A tenth of the time, with one period to spare.
    assert!(c.total < elapsed / 10 + 30_000_000, "{c:?} in {elapsed}");
    assert!(c.user + c.system > 0, "{c:?}");
}

#[test]
fn shares_divide_one_processor() {
    let base = unique();
    let with = |name: &str, shares| {
        let limits = cpu(LinuxCpu { shares: Some(shares), cpus: Some("0".into()), ..LinuxCpu::default() });
        Fixture::at(Layout::read().unwrap(), &format!("{}/{name}", base.trim_end_matches("/a")), &limits)
    };
    let (one, three) = (with("one", 1024), with("three", 3072));
    let loops = [one.spawn("while :; do :; done"), three.spawn("while :; do :; done")];
    let used = |f: &Fixture| f.group.usage().unwrap().cpu.unwrap().total as f64;
    let before = (used(&one), used(&three));
    // As long as it takes for both together to run this long: other work on the host does not count.
    until("1.2 s of processor time", || used(&one) + used(&three) - before.0 - before.1 > 1.2e9);
    let ratio = (used(&three) - before.1) / (used(&one) - before.0);
    let wanted = match one.layout.with_controller("cpu").unwrap().version {
        Version::V1 => 3.0,
        Version::V2 => cpu_weight(3072) as f64 / cpu_weight(1024) as f64,
    };
    for f in [&one, &three] {
        f.group.kill_all().unwrap();
    }
    for mut l in loops {
        l.wait().unwrap();
    }
    // `one` is dropped last and finds the parent empty.
    remove(&three.layout, &three.path, Parents::Keep).unwrap();
    std::mem::forget(three);
    assert!((ratio / wanted - 1.0).abs() < 0.15, "{ratio} instead of {wanted}");
}

#[test]
fn a_fork_beyond_the_limit_fails() {
    let f = Fixture::new(&pids(1));
    let out = f.spawn("/bin/true").wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("ork"), "{out:?}");
    f.group.update(&pids(20)).unwrap();
    assert!(f.run("/bin/true").success());
    assert_eq!(f.group.usage().unwrap().pids.unwrap().limit, Some(20));
    f.group.update(&pids(-1)).unwrap();
    assert_eq!(f.group.usage().unwrap().pids.unwrap(), PidsUsage { current: 0, limit: None });
}

fn devices_are_refused(layout: Layout) {
    let rules = LinuxResources { devices: default_rules(), ..LinuxResources::default() };
    let f = Fixture::at(layout, &unique(), &rules);
    let kmsg = "exec 3< /dev/kmsg";
    assert!(f.run("exec 3<> /dev/null && exec 4< /dev/urandom").success());
    let out = f.spawn(kmsg).wait_with_output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("ermitted"), "{out:?}");
    let mut more = default_rules();
    more.push(tare_model::runtime_spec::LinuxDeviceCgroup {
        allow: true,
        kind: Some("c".into()),
        major: Some(1),
        minor: Some(11),
        access: Some("r".into()),
    });
    f.group.update(&LinuxResources { devices: more, ..LinuxResources::default() }).unwrap();
    assert!(f.run(kmsg).success(), "reading is allowed now");
    assert!(!f.run("exec 3> /dev/kmsg").success(), "writing is not");
    f.group.update(&rules).unwrap();
    assert!(!f.run(kmsg).success(), "and reading no more");
}

#[test]
fn devices_are_refused_by_the_hosts_way() {
    devices_are_refused(Layout::read().unwrap());
}

#[test]
fn devices_are_refused_by_a_program() {
    let mut layout = Layout::read().unwrap();
    layout.hierarchies.retain(|h| h.version == Version::V2);
    if layout.mode() == Mode::V2 {
        for h in &mut layout.hierarchies {
            h.controllers.retain(|c| c == "pids");
        }
        devices_are_refused(layout);
    }
}

fn freezes_thaws_and_kills(layout: Layout) {
    let f = Fixture::at(layout, &unique(), &LinuxResources::default());
    let mut child = f.spawn("while :; do :; done");
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().unwrap().split(' ').nth(12).unwrap().parse::<u64>().unwrap()
    };
    until("it runs", || used() > 0);
    f.group.freeze().unwrap();
    assert!(f.group.is_frozen().unwrap());
    let before = used();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(used(), before, "a frozen process runs");
    f.group.thaw().unwrap();
    until("it is thawed", || !f.group.is_frozen().unwrap());
    until("it runs again", || used() > before);
    f.group.freeze().unwrap();
    f.group.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "frozen processes die too");
    until("nobody is left", || f.group.processes().unwrap().is_empty());
}

#[test]
fn freeze_thaw_and_kill() {
    freezes_thaws_and_kills(Layout::read().unwrap());
}

#[test]
fn freeze_thaw_and_kill_on_v1_alone() {
    let mut layout = Layout::read().unwrap();
    layout.hierarchies.retain(|h| h.version == Version::V1);
    if layout.mode() == Mode::V1 {
        freezes_thaws_and_kills(layout);
    }
}

#[test]
fn a_whole_tree_is_killed_and_groups_below_go_too() {
    let f = Fixture::new(&LinuxResources::default());
    // Groups that a container made for itself.
    for m in &f.group.members {
        rustix::fs::mkdirat(&m.dir, "inner", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    }
    let mut child = f.spawn("(trap '' TERM; sleep 100) & (sleep 100; sleep 100) & sleep 100");
    until("four processes", || f.group.processes().unwrap().len() >= 4);
    let e = remove(&f.layout, &f.path, Parents::RemoveEmpty).unwrap_err();
    assert_eq!(e.kind(), Kind::InUse);
    assert!(e.to_string().contains(&child.id().to_string()), "{e}");
    f.group.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    until("nobody is left", || f.group.processes().unwrap().is_empty());
}

#[test]
fn limits_change_in_either_direction() {
    let layout = Layout::read().unwrap();
    let f = Fixture::new(&memory(32 * MIB, swap_of(&layout, 32 * MIB)));
    let limit = || f.group.usage().unwrap().memory.unwrap().limit;
    for m in [64, 16, 128, -1, 32] {
        let bytes = if m < 0 { -1 } else { m * MIB };
        f.group.update(&memory(bytes, swap_of(&layout, bytes))).unwrap();
        assert_eq!(limit(), u64::try_from(bytes).ok());
    }
}

#[test]
fn a_failed_update_says_what_stands() {
    let f = Fixture::new(&LinuxResources::default());
    let mut r = memory(64 * MIB, 0);
    r.cpu = Some(LinuxCpu { shares: Some(2048), cpus: Some("4000".into()), ..LinuxCpu::default() });
    r.pids = Some(LinuxPids { limit: Some(7) });
    let e = f.group.update(&r).unwrap_err();
    assert!(e.to_string().starts_with("update limits ("), "{e}");
    let stands = |what| e.to_string().split("not written").next().unwrap().contains(what);
    let in_force = f.group.usage().unwrap().pids.unwrap().limit == Some(7);
    assert_eq!(stands("pids.max=7"), in_force, "{e}");
    let mut r = memory(MIB, 0);
    r.memory.as_mut().unwrap().check_before_update = Some(true);
    let mut child = f.spawn("x=$(head -c 4000000 /dev/zero | tr '\\0' x); echo $x > /dev/null; echo up; sleep 100");
    until("two MiB are in use", || f.group.usage().unwrap().memory.unwrap().current > 2 << 20);
    assert_eq!(f.group.update(&r).unwrap_err().kind(), Kind::State);
    f.group.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_this_kernel_lacks_is_an_error_and_leaves_nothing() {
    let layout = Layout::read().unwrap();
    let path = unique();
    let mut p = plan(&layout, &path, &pids(5)).unwrap();
    let group = p.groups.iter_mut().find(|g| !g.writes.is_empty()).unwrap();
    group.writes.push(Write {
        controller: "pids".into(),
        file: "pids.none".into(),
        value: "1".into(),
        ..Write::default()
    });
    let e = create(&p).unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported, "{e}");
    assert!(e.to_string().contains("no such limit on this host (pids"), "{e}");
    for h in &layout.hierarchies {
        assert!(!h.mount_point.join(path[1..].split('/').next().unwrap()).exists());
    }
}

#[test]
fn a_leftover_group_is_made_anew_and_a_used_one_is_not_touched() {
    let f = Fixture::new(&pids(3));
    let p = plan(&f.layout, &f.path, &LinuxResources::default()).unwrap();
    create(&p).unwrap();
    let again = Group::open(&f.layout, &f.path).unwrap();
    assert_eq!(again.usage().unwrap().pids.unwrap().limit, None, "the old limit is gone");
    let mut child = f.spawn("exec sleep 100");
    let inner = |m: &super::group::Member| rustix::fs::statat(&m.dir, "inner", rustix::fs::AtFlags::empty());
    for m in &again.members {
        rustix::fs::mkdirat(&m.dir, "inner", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    }
    let e = create(&p).unwrap_err();
    assert_eq!(e.kind(), Kind::InUse, "{e}");
    assert!(again.members.iter().all(|m| inner(m).is_ok()), "its groups below are not touched either");
    assert_eq!(again.processes().unwrap(), [child.id() as i32]);
    again.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn parents_come_and_go_while_others_do_the_same() {
    let layout = Layout::read().unwrap();
    let parent = unique();
    let parent = parent.trim_end_matches("/a");
    std::thread::scope(|s| {
        for n in 0..3 {
            let layout = &layout;
            s.spawn(move || {
                for i in 0..15 {
                    let path = format!("{parent}/{n}-{i}");
                    create(&plan(layout, &path, &LinuxResources::default()).unwrap()).unwrap();
                    remove(layout, &path, Parents::RemoveEmpty).unwrap();
                }
            });
        }
    });
    for h in &layout.hierarchies {
        assert!(!h.mount_point.join(&parent[1..]).exists());
    }
}

#[test]
fn another_process_joins_through_the_same_descriptors() {
    let f = Fixture::new(&pids(50));
    let attach = f.group.attach().unwrap();
    assert_eq!(attach.unified.is_some(), f.layout.unified().is_some());
    // A thread of the test stands for the single-threaded child: v1 moves just the writer.
    let moved = std::thread::spawn(move || {
        for tasks in &attach.attach {
            rustix::io::write(tasks, b"0").unwrap();
        }
        std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    })
    .join()
    .unwrap();
    for h in f.layout.hierarchies.iter().filter(|h| h.version == Version::V1) {
        assert!(
            moved.lines().any(|l| l.contains(&h.controllers.join(",")) && l.ends_with(&f.path)),
            "{} in {moved}",
            h.label()
        );
    }
}
