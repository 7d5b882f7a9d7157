//! `--userns`: who a container's users are on the host, and whose its files are, inside and outside.

use std::os::unix::fs::{MetadataExt, chown};
use tare_tests::{Host, command};

/// First id on the host and count, of the container's root and those after it.
fn range(host: &Host, name: &str) -> (u32, u32) {
    let pid = host.inspect(name)["State"]["Pid"].to_string();
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let fields: Vec<u32> = map.split_whitespace().map(|f| f.parse().unwrap()).collect();
    assert_eq!((fields.len(), fields[0]), (3, 0), "{map}");
    (fields[1], fields[2])
}

fn sleeper(host: &Host, name: &str, flags: &[&str]) {
    let command = &["busybox", "sleep", "1000"];
    host.ok(&[&["run", "-d", "--network", "none", "--name", name], flags, command].concat());
}

#[test]
fn a_private_one_is_root_inside_and_nobody_outside() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, "one", &["--userns", "private"]);
    let (first, count) = range(&host, "one");
    assert_eq!(count, 65_536);
    assert!(first >= 65_536, "{first}");
    assert_eq!(host.ok(&["exec", "one", "id", "-u"]), "0");
    let pid = host.inspect("one")["State"]["Pid"].to_string();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}/root/bin/busybox")).unwrap().uid(), first, "an image's file");
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), first, "its process");
    assert_eq!(host.inspect("one")["HostConfig"]["UsernsMode"], "private");
    let owners = "stat -c %u:%g /bin/busybox / /etc/hosts /etc/resolv.conf /dev/shm";
    assert_eq!(host.ok(&["exec", "one", "sh", "-c", owners]), ["0:0"; 5].join("\n"));
    // What root of the host may do and this one may not: of the host's own there is nothing in reach.
    let refused = host.run(&["exec", "one", "sh", "-c", "mknod /null c 1 3 || echo 1 > /proc/sys/vm/swappiness"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn each_has_its_own_range_which_is_given_again_when_it_is_gone() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, "one", &["--userns", "private"]);
    sleeper(&host, "two", &["--userns", "private:size=1000"]);
    host.ok(&["create", "--userns", "auto", "--name", "three", "busybox", "sleep", "1000"]);
    let (a, b) = (range(&host, "one"), range(&host, "two"));
    assert_eq!(b.1, 1000);
    host.ok(&["start", "three"]);
    let c = range(&host, "three");
    assert_eq!(std::collections::BTreeSet::from([a.0, b.0, c.0]).len(), 3, "{a:?} {b:?} {c:?}");
    host.ok(&["rm", "-f", "one"]);
    sleeper(&host, "four", &["--userns", "private"]);
    assert_eq!(range(&host, "four"), a);
    // A container keeps what it has.
    host.ok(&["stop", "-t", "0", "three"]);
    host.ok(&["start", "three"]);
    assert_eq!(range(&host, "three"), c);
}

#[test]
fn changes_are_committed_and_exported_as_the_container_sees_them() {
    let host = Host::new();
    host.busybox();
    let script =
        "echo x > /new; chown 33:44 /new; echo more >> /etc/group; mkdir -m 700 /d; chown 5:6 /d; ln -s new /l";
    host.ok(&["run", "--network", "none", "--userns", "private", "--name", "one", "busybox", "sh", "-c", script]);
    let diff = host.ok(&["diff", "one"]);
    for line in ["A /new", "C /etc/group", "A /d", "A /l"] {
        assert!(diff.lines().any(|l| l == line), "{line} is missing:\n{diff}");
    }
    host.ok(&["commit", "one", "changed"]);
    let stat = ["stat", "-c", "%u:%g", "/new", "/etc/group", "/d"];
    let plain = host.ok(&[&["run", "--rm", "--network", "none", "changed"], &stat[..]].concat());
    assert_eq!(plain, "33:44\n0:0\n5:6");
    let again = host.ok(&[&["run", "--rm", "--network", "none", "--userns", "private", "changed"], &stat[..]].concat());
    assert_eq!(again, plain);
    let tar = host.scratch("a.tar");
    host.ok(&["export", "-o", tar.to_str().unwrap(), "one"]);
    let listed = command("tar").args(["--numeric-owner", "-tvf"]).arg(&tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (name, owner) in [("new", "33/44"), ("d/", "5/6"), ("bin/busybox", "0/0"), ("etc/group", "0/0")] {
        let line = listed
            .lines()
            .find(|l| l.split_whitespace().nth(5) == Some(name))
            .unwrap_or_else(|| panic!("{name}: {listed}"));
        assert!(line.contains(owner), "{line}");
    }
}

#[test]
fn volumes_hold_the_containers_ids_and_binds_the_hosts_unless_they_are_mapped() {
    let host = Host::new();
    host.busybox();
    let shared = host.scratch("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("f"), "x").unwrap();
    chown(shared.join("f"), Some(7), Some(8)).unwrap();
    let (plain, mapped) = (format!("{}:/plain", shared.display()), format!("{}:/mapped:idmap", shared.display()));
    let mount = format!("type=bind,src={},dst=/mount,idmap", shared.display());
    let script = "stat -c %u:%g /plain/f /mapped/f /mount/f; echo y > /vol/y; chown 9:10 /vol/y; echo z > /mapped/z";
    let flags = ["--userns", "private", "-v", &plain, "-v", &mapped, "--mount", &mount, "-v", "data:/vol"];
    let run = ["run", "--rm", "--network", "none"];
    let out = host.ok(&[&run[..], &flags[..], &["busybox", "sh", "-c", script]].concat());
    assert_eq!(out, "65534:65534\n7:8\n7:8");
    assert_eq!(std::fs::metadata(shared.join("z")).unwrap().uid(), 0, "written by root inside, as root's");
    // Another container, with another range, or none: the same owners.
    for userns in ["private", "host"] {
        let flags = ["--userns", userns, "-v", "data:/vol", "busybox", "stat", "-c", "%u:%g", "/vol/y"];
        assert_eq!(host.ok(&[&run[..], &flags[..]].concat()), "9:10", "{userns}");
    }
}

#[test]
fn a_volume_is_filled_with_the_images_owners() {
    let host = Host::new();
    host.busybox();
    let make = "mkdir /data && echo x > /data/f && chown 11:12 /data/f";
    host.ok(&["run", "--network", "none", "--name", "base", "busybox", "sh", "-c", make]);
    host.ok(&["commit", "base", "withdata"]);
    for userns in ["private", "host"] {
        let run = ["run", "--rm", "--network", "none", "--userns", userns, "-v", "filled:/data", "withdata"];
        assert_eq!(host.ok(&[&run[..], &["stat", "-c", "%u:%g", "/data/f"]].concat()), "11:12", "{userns}");
    }
}

#[test]
fn copies_have_the_containers_owners() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, "up", &["--userns", "private"]);
    host.ok(&["create", "--userns", "private", "--name", "down", "busybox", "stat", "-c", "%u:%g", "/in", "/kept"]);
    let file = host.scratch("in");
    std::fs::write(&file, "x").unwrap();
    chown(&file, Some(21), Some(22)).unwrap();
    for name in ["up", "down"] {
        let from = file.to_str().unwrap();
        host.ok(&["cp", from, &format!("{name}:/in")]);
        host.ok(&["cp", "-a", from, &format!("{name}:/kept")]);
        let back = host.scratch(&format!("back-{name}"));
        host.ok(&["cp", "-a", &format!("{name}:/kept"), back.to_str().unwrap()]);
        let meta = std::fs::metadata(&back).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (21, 22), "{name}");
    }
    assert_eq!(host.ok(&["exec", "up", "stat", "-c", "%u:%g", "/in", "/kept"]), "0:0\n21:22");
    assert_eq!(host.ok(&["start", "-a", "down"]), "0:0\n21:22");
}

#[test]
fn keep_id_keeps_the_caller_and_nobody_else() {
    let host = Host::new();
    host.busybox();
    let mine = host.scratch("mine");
    std::fs::create_dir(&mine).unwrap();
    let bind = format!("{}:/mine", mine.display());
    let run = ["run", "--rm", "--network", "none", "-v", &bind, "--user", "1000:1000"];
    // The caller is root here: what user 1000 inside writes is root's outside.
    let keep =
        ["--userns", "keep-id:uid=1000,gid=1000", "busybox", "sh", "-c", "id -u; touch /mine/f; stat -c %u /mine/f"];
    assert_eq!(host.ok(&[&run[..], &keep[..]].concat()), "1000\n1000");
    assert_eq!(std::fs::metadata(mine.join("f")).unwrap().uid(), 0);
    let other = ["--userns", "private", "busybox", "touch", "/mine/g"];
    assert_ne!(host.run(&[&run[..], &other[..]].concat()).code, 0, "the host's root owns it, which nobody is here");
}

#[test]
fn networks_terminals_and_shared_namespaces_work_in_one() {
    let host = Host::new();
    host.busybox();
    let bridged = ["run", "--rm", "--userns", "private", "busybox", "sh", "-c"];
    let gateway = "ping -c 1 -W 5 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') && cat /proc/sys/net/ipv4/ping_group_range";
    let out = host.ok(&[&bridged[..], &[gateway]].concat());
    assert!(out.contains("1 packets received") && out.contains("0\t65535"), "{out}");
    let own = ["run", "--rm", "-t", "--network", "none", "--userns", "private", "--user", "5:6", "busybox"];
    let tty = host.ok(&[&own[..], &["sh", "-c", "echo $(stat -c %u:%g $(tty)); echo again > /dev/tty"]].concat());
    assert!(tty.contains("5:5") && tty.contains("again"), "{tty}");
    let streams = ["run", "--rm", "--network", "none", "--userns", "private", "--user", "5", "busybox", "sh", "-c"];
    assert_eq!(host.ok(&[&streams[..], &["echo once > /dev/stdout"]].concat()), "once");
    for shared in [["--network", "host"], ["--pid", "host"], ["--ipc", "host"], ["--uts", "host"]] {
        let run = [&["run", "--rm", "--userns", "private"], &shared[..], &["busybox", "sh", "-c"]].concat();
        let out = host
            .ok(&[&run[..], &["id -u && ls /sys/kernel > /dev/null && test -e /proc/1/stat && echo fine"]].concat());
        assert_eq!(out, "0\nfine", "{shared:?}");
    }
    sleeper(&host, "first", &[]);
    let joined = ["run", "--rm", "--userns", "private", "--network", "container:first", "--ipc", "container:first"];
    assert_eq!(host.ok(&[&joined[..], &["busybox", "id", "-u"]].concat()), "0");
}

#[test]
fn an_id_that_is_not_mapped_is_refused_by_name() {
    let host = Host::new();
    host.busybox();
    let text = host.fails(&["run", "--rm", "--userns", "private:size=10", "--user", "33", "busybox", "true"], 125);
    assert!(text.contains("33") && text.contains("user namespace"), "{text}");
    let text = host.fails(&["run", "--rm", "--userns", "nomap", "busybox", "true"], 125);
    assert!(text.contains("expected host, private[:size=N] or keep-id[:uid=N,gid=N]"), "{text}");
}
