//! Each of v1's twelve subsystems: that a task is in the container's group of it, and what comes of that.
//!
//! What the host has not mounted (net_cls, net_prio, perf_event, hugetlb as a rule) is mounted in a mount namespace of the
//! test's own thread. A subsystem that cgroup2 has is then moved to v1, which the kernel allows as long as no group uses
//! it; and back when the mount goes.

use super::*;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use tare_kernel::process::{Namespaces, unshare};
use tare_model::runtime_spec::*;

const ALL: [&str; 12] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
];

/// A layout of one v1 hierarchy with `controllers`, which is mounted for this thread if it is nowhere yet. None on a
/// kernel without one of them on v1, or where cgroup2 does not let go of it.
fn hierarchy_of(controllers: &str) -> Option<Layout> {
    let own = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/{file}")).unwrap();
    let names: Vec<&str> = controllers.split(',').collect();
    let known = std::fs::read_to_string("/proc/cgroups").unwrap();
    let enabled = |n: &&str| known.lines().any(|l| l.starts_with(&format!("{n}\t")) && l.ends_with('1'));
    if !names.iter().all(enabled) {
        return None;
    }
    let find = || {
        let mut layout = Layout::parse(&own("mountinfo"), &own("cgroup"));
        layout
            .hierarchies
            .retain(|h| h.version == Version::V1 && names.iter().all(|n| h.controllers.iter().any(|c| c == n)));
        (!layout.hierarchies.is_empty()).then_some(layout)
    };
    if let Some(there) = find() {
        return Some(there);
    }
    let mut host = Layout::read().unwrap();
    if host.mode() == Mode::V2 {
        return None;
    }
    // cgroup2 has it, and hands it down, or somebody did once: it cannot be moved. Then the same is shown there.
    if let Some(unified) = host.unified() {
        let handed_down = std::fs::read_to_string(unified.mount_point.join("cgroup.subtree_control")).unwrap();
        if names.iter().all(|n| handed_down.split_whitespace().any(|c| c == *n)) {
            host.hierarchies.retain(|h| h.version == Version::V2);
            return Some(host);
        }
    }
    private_mounts();
    // Another test may have it in another combination, or in cgroup2, just now.
    let deadline = Instant::now() + Duration::from_secs(30);
    let options = std::ffi::CString::new(controllers).unwrap();
    while let Err(e) = mount("cgroup", PRIVATE_PLACE, "cgroup", MountFlags::empty(), Some(options.as_c_str())) {
        if Instant::now() >= deadline {
            // One hierarchy with just these cannot be had while somebody's groups stand in another combination of them.
            assert!(names.iter().any(|n| is_in_use(n)), "mount {controllers}: {e}");
            println!("SKIP: {controllers} have groups of others in hierarchies that are mounted nowhere");
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
        let_go(&names);
    }
    Some(find().expect("it has just been mounted"))
}

const PRIVATE_PLACE: &str = "/mnt";

/// Gives this thread a mount namespace from which nothing comes back.
fn private_mounts() {
    unshare(Namespaces::MOUNT).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Has the kernel let go of hierarchies that nobody uses: one that is unmounted while a group of it is just going stays,
/// until it is mounted, with all of its subsystems, and unmounted once more.
fn let_go(controllers: &[&str]) {
    for c in controllers {
        let all = together_with(c).join(",");
        let options = std::ffi::CString::new(all).unwrap();
        if mount("cgroup", PRIVATE_PLACE, "cgroup", MountFlags::empty(), Some(options.as_c_str())).is_ok() {
            unmount(PRIVATE_PLACE, UnmountFlags::DETACH).unwrap();
        }
    }
}

/// Whether there are groups in the v1 hierarchy that has `controller`.
fn is_in_use(controller: &str) -> bool {
    let text = std::fs::read_to_string("/proc/cgroups").unwrap();
    text.lines().any(|l| {
        let words: Vec<&str> = l.split('\t').collect();
        words[0] == controller && words[1] != "0" && words[2].parse::<u32>().is_ok_and(|groups| groups > 1)
    })
}

/// The subsystems in the v1 hierarchy that has `controller`; it alone when none has.
fn together_with(controller: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/cgroups").unwrap();
    let rows: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|l| {
            let mut words = l.split('\t');
            Some((words.next()?, words.next()?))
        })
        .collect();
    let number = rows.iter().find(|(name, _)| *name == controller).map_or("0", |(_, number)| number);
    let there = rows.iter().filter(|(name, n)| *name == controller || (number != "0" && *n == number));
    there.map(|(name, _)| (*name).to_owned()).collect()
}

/// A group in one hierarchy, and the hierarchy's mount if the test made it. Groups go first.
struct Subsystem {
    fixture: Fixture,
    #[expect(dead_code, reason = "its drop is its use")]
    give_back: GiveBack,
}

impl std::ops::Deref for Subsystem {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

/// Gives subsystems back to where they were.
struct GiveBack(Vec<String>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let _unmounted = unmount(PRIVATE_PLACE, UnmountFlags::DETACH);
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let free = |n: &&str| {
            let text = std::fs::read_to_string("/proc/cgroups").unwrap();
            let line = text.lines().find(|l| l.starts_with(&format!("{n}\t"))).unwrap().to_owned();
            // Or other tests have it, who give it back then.
            line.split('\t').nth(1) == Some("0")
        };
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(25));
            if names.iter().all(free) {
                break;
            }
            let_go(&names);
        }
    }
}

/// A group in one hierarchy.
fn fixture(controllers: &str, resources: &LinuxResources) -> Option<Subsystem> {
    let before = Layout::read().unwrap();
    let layout = hierarchy_of(controllers)?;
    let v1_before = |c: &str| before.with_controller(c).is_some_and(|h| h.version == Version::V1);
    let mounted = controllers.split(',').filter(|c| !v1_before(c)).map(str::to_owned).collect();
    let give_back = GiveBack(mounted);
    Some(Subsystem { fixture: Fixture::at(layout, &unique(), resources), give_back })
}

/// Moves the calling thread into the group, runs `act`, and moves it back to the top.
fn inside<T>(f: &Fixture, act: impl FnOnce() -> T) -> T {
    let tops: Vec<_> =
        f.layout.hierarchies.iter().map(|h| h.mount_point.join(h.own.trim_matches('/')).join("tasks")).collect();
    for tasks in &f.group.attach().unwrap().attach {
        rustix::io::write(tasks, b"0").unwrap();
    }
    let out = act();
    tops.iter().for_each(|t| std::fs::write(t, "0").unwrap());
    out
}

fn is_member(controller: &str) {
    let Some(f) = fixture(controller, &LinuxResources::default()) else { return };
    if f.layout.mode() == Mode::V2 {
        let out = f.spawn("cat /proc/self/cgroup").wait_with_output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.lines().any(|l| l == format!("0::{}", f.path)), "{text}");
        return;
    }
    let read = || std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let group_of = |text: &str| {
        let line = text.lines().find(|l| l.split(':').nth(1).unwrap().split(',').any(|c| c == controller)).unwrap();
        line.splitn(3, ':').nth(2).unwrap().to_owned()
    };
    assert_ne!(group_of(&read()), f.path);
    inside(&f, || {
        assert_eq!(group_of(&read()), f.path);
        let own = rustix::thread::gettid().as_raw_pid().to_string();
        let tasks = files::read(&f.group.members[0].dir, "tasks").unwrap().unwrap();
        assert!(tasks.lines().any(|l| l == own), "{own} in {tasks}");
    });
    assert_ne!(group_of(&read()), f.path);
}

macro_rules! membership {
    ($($test:ident: $controller:literal,)*) => {
        $(#[test]
        fn $test() {
            assert!(ALL.contains(&$controller));
            is_member($controller);
        })*
    };
}

membership! {
    cpuset_has_the_task: "cpuset",
    cpu_has_the_task: "cpu",
    cpuacct_has_the_task: "cpuacct",
    blkio_has_the_task: "blkio",
    memory_has_the_task: "memory",
    devices_has_the_task: "devices",
    freezer_has_the_task: "freezer",
    net_cls_has_the_task: "net_cls",
    perf_event_has_the_task: "perf_event",
    net_prio_has_the_task: "net_prio",
    hugetlb_has_the_task: "hugetlb",
    pids_has_the_task: "pids",
}

#[test]
fn co_mounted_controllers_are_joined_through_one_hierarchy() {
    let Some(f) = fixture("net_cls,net_prio", &LinuxResources::default()) else { return };
    assert_eq!(f.group.members.len(), 1);
    inside(&f, || {
        let text = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        assert_eq!(text.lines().filter(|l| l.ends_with(&f.path)).count(), 1, "{text}");
    });
}

#[test]
fn cpuset_chooses_the_processors() {
    let limits = cpu(LinuxCpu { cpus: Some("0".into()), mems: Some("0".into()), ..LinuxCpu::default() });
    let Some(f) = fixture("cpuset", &limits) else { return };
    let allowed = || {
        let set = rustix::thread::sched_getaffinity(None).unwrap();
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|&n| set.is_set(n)).collect::<Vec<_>>()
    };
    assert_eq!(inside(&f, allowed), [0]);
    assert_eq!(f.group.statistics().unwrap().cpuset.cpus, [0]);
}

#[test]
fn cpu_throttles() {
    let limits = cpu(LinuxCpu { quota: Some(5000), period: Some(50_000), ..LinuxCpu::default() });
    let Some(f) = fixture("cpu", &limits) else { return };
    let throttled = || f.group.statistics().unwrap().cpu.throttling.throttled_periods;
    let mut child = f.spawn("while :; do :; done");
    until("throttled twice", || throttled() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cpuacct_counts() {
    let Some(f) = fixture("cpuacct", &LinuxResources::default()) else { return };
    assert_eq!(f.group.statistics().unwrap().cpu.usage.total, 0);
    assert!(f.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").success());
    let used = f.group.statistics().unwrap().cpu.usage;
    assert!(used.total > 1_000_000, "{used:?}");
    assert_eq!(used.percpu.iter().sum::<u64>(), used.total, "{used:?}");
    assert_eq!(used.percpu_user.len(), used.percpu.len());
}

/// Reading 1 MiB past the cache at 1 MiB a second takes a second, and is counted.
#[test]
fn blkio_throttles_and_counts() {
    use std::os::unix::fs::MetadataExt;
    let name = format!("/var/tmp/tare-test-{}", std::process::id());
    let file = std::fs::File::create_new(&name).unwrap();
    std::fs::remove_file(&name).unwrap();
    std::io::Write::write_all(&mut &file, &vec![7; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let device = file.metadata().unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has no group of its own, and a file system of many devices or none has no number to limit.
    if major == 0 || !std::path::Path::new(&format!("/sys/dev/block/{major}:{minor}/queue")).exists() {
        return;
    }
    let rate = LinuxThrottleDevice { major: major.into(), minor: minor.into(), rate: 1 << 20 };
    let block_io = LinuxBlockIo { throttle_read_bps_device: vec![rate], ..LinuxBlockIo::default() };
    let limits = LinuxResources { block_io: Some(block_io), ..LinuxResources::default() };
    let Some(f) = fixture("blkio", &limits) else { return };
    let begin = Instant::now();
    let open = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    assert!(f.run(&format!("exec dd if={open} of=/dev/null bs=256k iflag=direct")).success());
    assert!(begin.elapsed() > Duration::from_millis(600), "{:?}", begin.elapsed());
    let entries = f.group.statistics().unwrap().blkio.service_bytes;
    let read = entries.iter().find(|e| e.op == "Read" && (e.major, e.minor) == (major.into(), minor.into()));
    assert!(read.is_some_and(|e| e.value >= 1 << 20), "{entries:?}");
}

#[test]
fn memory_counts_and_says_when_it_was_not_enough() {
    let Some(f) = fixture("memory", &memory(8 * MIB, 0)) else { return };
    // Of the cache, which can be written out and dropped: the limit is hit, and nobody dies.
    assert!(f.run("file=/var/tmp/tare-test-$$; head -c 16000000 /dev/zero > $file; rm $file").success());
    let m = f.group.statistics().unwrap().memory;
    assert_eq!((m.usage.limit, m.raw["hierarchical_memory_limit"]), (8 << 20, 8 << 20));
    assert!(m.usage.failcnt > 0 && m.usage.max > 7 << 20 && m.usage.max <= 8 << 20, "{:?}", m.usage);
}

#[test]
fn devices_refuses() {
    let rule = |allow, minor| LinuxDeviceCgroup {
        allow,
        kind: Some(if minor == -1 { "a" } else { "c" }.into()),
        major: Some(if minor == -1 { -1 } else { 1 }),
        minor: Some(minor),
        access: Some("rwm".into()),
    };
    let limits = LinuxResources { devices: vec![rule(false, -1), rule(true, 3)], ..LinuxResources::default() };
    let Some(f) = fixture("devices", &limits) else { return };
    let open = |file: &str| std::fs::File::open(file).map(|_| ()).map_err(|e| e.kind());
    let results = inside(&f, || (open("/dev/null"), open("/dev/zero")));
    assert_eq!(results, (Ok(()), Err(std::io::ErrorKind::PermissionDenied)));
}

#[test]
fn freezer_stops() {
    let Some(f) = fixture("freezer", &LinuxResources::default()) else { return };
    let mut child = f.spawn("while :; do :; done");
    f.group.freeze().unwrap();
    let state = || files::read(&f.group.members[0].dir, "freezer.state").unwrap().unwrap();
    assert_eq!(state(), "FROZEN\n");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().unwrap().split(' ').nth(12).unwrap().to_owned()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(ticks(), before);
    f.group.thaw().unwrap();
    until("it runs again", || state() == "THAWED\n" && ticks() != before);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn pids_refuses_and_counts() {
    let Some(f) = fixture("pids", &pids(1)) else { return };
    assert_eq!(f.spawn("/bin/true").wait_with_output().unwrap().status.code(), Some(2));
    let events = files::read(&f.group.members[0].dir, "pids.events").unwrap().unwrap();
    assert!(files::keyed(&events, "max").unwrap() >= 1, "{events}");
    assert_eq!(f.group.statistics().unwrap().pids.limit, 1);
}

#[expect(clippy::disallowed_methods, reason = "the test asks programs of the host what they see")]
fn program(words: &[&str]) -> std::process::Output {
    Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap()
}

fn said(words: &[&str]) -> String {
    let out = program(words);
    assert!(out.status.success(), "{words:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The packets of the first counter that nft lists.
fn packets(table: &[&str]) -> u64 {
    let text = said(&[&["nft", "list", "table"], table].concat());
    let after = text.split("counter packets ").nth(1).unwrap_or_else(|| panic!("{text}"));
    after.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn net_cls_marks_packets() {
    let network = LinuxNetwork { class_id: Some(0x0010_0001), priorities: Vec::new() };
    let limits = LinuxResources { network: Some(network), ..LinuxResources::default() };
    let Some(f) = fixture("net_cls", &limits) else { return };
    unshare(Namespaces::NETWORK).unwrap();
    said(&["ip", "link", "set", "lo", "up"]);
    let chain = "{ type filter hook output priority 0; }";
    said(&["nft", "add table ip t; add chain ip t o", chain, "; add rule ip t o meta cgroup 0x100001 counter"]);
    let send = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
    send();
    assert_eq!(packets(&["ip", "t"]), 0, "who is not in the group has no class");
    inside(&f, send);
    assert_eq!(packets(&["ip", "t"]), 1);
}

/// A device of the initial network namespace, since net_prio knows no other, that exists for one test.
struct Dummy(String);

impl Drop for Dummy {
    fn drop(&mut self) {
        program(&["nft", "delete", "table", "netdev", &self.0]);
        program(&["ip", "link", "delete", &self.0]);
    }
}

#[test]
fn net_prio_gives_packets_a_priority() {
    let name = format!("tnp{:x}", std::process::id());
    let dummy = Dummy(name.clone());
    if !program(&["ip", "link", "add", &name, "type", "dummy"]).status.success() {
        return;
    }
    said(&["ip", "link", "set", &name, "up"]);
    let priority = LinuxInterfacePriority { name: name.clone(), priority: 5 };
    let network = LinuxNetwork { class_id: None, priorities: vec![priority] };
    let limits = LinuxResources { network: Some(network), ..LinuxResources::default() };
    let Some(f) = fixture("net_prio", &limits) else { return };
    let map = files::read(&f.group.members[0].dir, "net_prio.ifpriomap").unwrap().unwrap();
    assert!(map.lines().any(|l| l == format!("{name} 5")), "{map}");
    let hook = format!("{{ type filter hook egress device {name} priority 0; }}");
    let table = format!("add table netdev {name}; add chain netdev {name} e");
    let rule = format!("; add rule netdev {name} e udp dport 9 meta priority 0:5 counter");
    said(&["nft", &table, &hook, &rule]);
    let index: u32 = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap().trim().parse().unwrap();
    let all_nodes = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 9, 0, index);
    let send = || std::net::UdpSocket::bind("[::]:0").unwrap().send_to(b"x", all_nodes);
    until("its address can be used", || send().is_ok());
    assert_eq!(packets(&["netdev", &name]), 0, "who is not in the group has no priority");
    inside(&f, || send().unwrap());
    assert_eq!(packets(&["netdev", &name]), 1);
    drop(dummy);
}

/// A counter of perf_event_open(2) that is bound to the group counts the time of those in it, and of nobody else.
#[test]
fn perf_event_counts_who_is_in_the_group() {
    const COUNT: &str = r#"
        sysopen(D, $ARGV[0], 0) or die "$!";
        # struct perf_event_attr: software, 64 bytes, cpu-clock.
        my $attr = pack("LLQQQQQLLQ", 1, 64, 0, 0, 0, 0, 0, 0, 0, 0);
        my @events;
        for my $cpu (split(/,/, $ARGV[1])) {
            my $fd = syscall(298, $attr, fileno(D), $cpu + 0, -1, 4);
            $fd >= 0 or die "perf_event_open: $!";
            push(@events, $fd);
        }
        system("sh", "-c", $ARGV[2]);
        my $total = 0;
        for (@events) {
            my $value = "\0" x 8;
            syscall(0, $_, $value, 8) == 8 or die "read: $!";
            $total += unpack("Q", $value);
        }
        print $total;
    "#;
    let Some(f) = fixture("perf_event", &LinuxResources::default()) else { return };
    let dir = f.layout.hierarchies[0].mount_point.join(&f.path[1..]);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let (first, last) = online.trim().split_once('-').unwrap_or(("0", "0"));
    let all: Vec<String> =
        (first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()).map(|n| n.to_string()).collect();
    let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    let count = |script: &str| -> u64 {
        said(&["perl", "-e", COUNT, dir.to_str().unwrap(), &all.join(","), script]).parse().unwrap()
    };
    assert_eq!(count(work), 0, "nobody is in the group");
    let joined = count(&format!("echo 0 > '{}/tasks' && {work}", dir.display()));
    assert!(joined > 1_000_000, "{joined} ns");
}

/// The limits of reservations and of pages.
#[test]
fn hugetlb_refuses_and_counts() {
    let limit = LinuxHugepageLimit { page_size: "2MB".into(), limit: 0 };
    let limits = LinuxResources { hugepage_limits: vec![limit], ..LinuxResources::default() };
    let Some(f) = fixture("hugetlb", &limits) else { return };
    private_mounts();
    mount("none", "/media", "hugetlbfs", MountFlags::empty(), Some(c"pagesize=2M")).unwrap();
    let grow = || f.run("exec fallocate -l 2097152 /media/x 2> /dev/null").success();
    let refused = || f.group.statistics().unwrap().hugetlb["2MB"].failcnt;
    let m = &f.group.members[0];
    assert_eq!(refused(), 0);
    assert!(!grow());
    // Refused as a reservation, and not for want of pages; without that limit, as a page.
    if let Some(count) = files::read(&m.dir, "hugetlb.2MB.rsvd.failcnt").unwrap() {
        assert_eq!(count.trim(), "1");
        files::write(&m.dir, "hugetlb.2MB.rsvd.limit_in_bytes", -1).unwrap();
        assert!(!grow());
    }
    assert!(refused() >= 1);
}
