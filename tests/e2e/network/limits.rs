//! Class and priority of packets: net_cls and net_prio of cgroup v1, which no host mounts today: each test mounts its own, in
//! a mount namespace of its own.

use std::fs::File;
use std::os::fd::AsFd;
use tare_tests::lan::Lan;
use tare_tests::skip;

/// Binds what is mounted at /sys/fs/cgroup to a file system of our own, adds the hierarchies, and mounts that in its place.
/// What has just gone may still be in the way, hence the tries.
const MOUNT: &str = "
new=$(mktemp -d)
mount -t tmpfs none $new
for at in /sys/fs/cgroup/*; do
    if [ -L $at ]; then cp -P $at $new; continue; fi
    mkdir $new/${at##*/}
    mount --bind $at $new/${at##*/}
done
for one in net_cls net_prio; do
    [ ! -e $new/$one ] || continue
    mkdir $new/$one
    for try in 1 2 3 4 5 6 7 8 9 10; do
        mount -t cgroup -o $one none $new/$one && break
        sleep 0.5
    done
done
mount --rbind $new /sys/fs/cgroup
umount -l $new
rmdir $new";

/// Mounts both hierarchies for this host; what is returned keeps other tests from mounting theirs.
fn mounted(net: &mut Lan) -> Option<File> {
    let known = std::fs::read_to_string("/proc/cgroups").unwrap();
    let has = |name: &str| known.lines().any(|l| l.split_whitespace().next() == Some(name));
    if !has("net_cls") || !has("net_prio") || std::fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
        skip("there are no hierarchies of cgroup v1 for packets");
        return None;
    }
    let lock = File::create(std::env::temp_dir().join("tare-oci-hierarchies.lock")).unwrap();
    rustix::fs::flock(lock.as_fd(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    net.mounts(MOUNT);
    Some(lock)
}

/// A file of a container's group.
#[track_caller]
fn of_group(net: &Lan, container: &str, controller: &str, file: &str) -> String {
    let pid = net.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = groups.lines().find(|l| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == controller)));
    let path = line.and_then(|l| l.splitn(3, ':').nth(2)).expect("its group");
    net.seen(&format!("cat /sys/fs/cgroup/{controller}{path}/{file}"))
}

#[test]
fn class_and_priority_are_the_groups() {
    let mut net = Lan::new();
    let Some(_lock) = mounted(&mut net) else { return };
    net.peer("web", &["--net-cls", "1:10", "--net-prio", "lo:3"]);
    assert_eq!(of_group(&net, "web", "net_cls", "net_cls.classid").trim(), 0x0001_0010.to_string());
    let map = of_group(&net, "web", "net_prio", "net_prio.ifpriomap");
    assert!(map.lines().any(|l| l == "lo 3"), "{map}");
    net.ok(&["rm", "-f", "web"]);
    assert!(no_group_is_left(&net));
}

/// The hierarchies go with the last group.
fn no_group_is_left(net: &Lan) -> bool {
    let instance = &net.host.names().instance;
    let list = || net.seen(&format!("ls -d /sys/fs/cgroup/net_*/{instance} 2>/dev/null || true"));
    tare_tests::eventually(std::time::Duration::from_secs(10), || list().is_empty())
}

/// A rule on the host tells the container's packets by their class.
#[test]
fn packets_bear_the_class() {
    let mut net = Lan::new();
    let Some(_lock) = mounted(&mut net) else { return };
    net.inside.nft(
        "table inet count {
            counter classed { }
            chain out {
                type filter hook output priority 0;
                meta cgroup 0x00010010 counter name classed
            }
        }",
    );
    let out = net.run(&[
        "run",
        "--rm",
        "--network",
        "host",
        "--net-cls",
        "1:10",
        "busybox",
        "wget",
        "-qO-",
        "http://192.0.2.2/page",
    ]);
    assert_eq!((out.code, out.stdout.trim()), (0, "from outside"), "{}", out.stderr);
    let seen = net.inside.ok(&["nft", "list", "counter", "inet", "count", "classed"]);
    net.inside.ok(&["nft", "delete", "table", "inet", "count"]);
    assert!(!seen.contains("packets 0 "), "{seen}");
    assert!(no_group_is_left(&net));
}
