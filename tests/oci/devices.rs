//! config-linux.md, "Devices": the nodes and links in /dev.

use serde_json::{Value, json};
use tare_tests::oci::{Case, case};

/// A container with one more device.
fn with(c: &mut Case, device: Value) -> &mut Case {
    c.set("/linux/devices/-", device)
}

#[test]
fn the_default_devices_are_there() {
    case(|c| {
        let printed = c.sh("cd /dev; stat -c '%n %F %a %u:%g %t:%T' null zero full random urandom tty");
        let expected = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
        for (name, minor) in expected {
            let line = format!("{name} character special file 666 0:0 1:{minor}");
            assert!(printed.lines().any(|l| l == line), "{line} is not in {printed}");
        }
        assert!(printed.lines().any(|l| l == "tty character special file 666 0:0 5:0"), "{printed}");
    });
}

#[test]
fn the_default_links_are_there() {
    case(|c| {
        let links = c.sh("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done");
        assert_eq!(links, "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx");
    });
}

#[test]
fn nothing_else_is_there() {
    case(|c| {
        let names = c.sh("ls /dev");
        let known = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        for name in names.split_whitespace() {
            assert!(known.split(' ').any(|k| k == name), "{name}");
        }
    });
}

#[test]
fn a_character_device_is_made() {
    case(|c| {
        with(
            c,
            json!({ "path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 33, "gid": 34 }),
        );
        c.set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
        c.set("/process/user", json!({ "uid": 33, "gid": 33 }));
        let printed = c.sh("stat -c '%F %a %u:%g %t:%T' /dev/made; head -c 3 /dev/made | wc -c");
        assert_eq!(printed, "character special file 640 33:34 1:5\n3");
    });
}

#[test]
fn type_u_is_a_character_device() {
    case(|c| {
        with(c, json!({ "path": "/dev/made", "type": "u", "major": 1, "minor": 3, "fileMode": 0o600 }));
        assert_eq!(c.sh("stat -c '%F %a %t:%T' /dev/made"), "character special file 600 1:3");
    });
}

#[test]
fn a_block_device_is_made() {
    case(|c| {
        with(c, json!({ "path": "/dev/made", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600 }));
        assert_eq!(c.sh("stat -c '%F %a %u:%g %t:%T' /dev/made"), "block special file 600 0:0 7:c8");
    });
}

#[test]
fn a_fifo_is_made() {
    case(|c| {
        with(c, json!({ "path": "/dev/made", "type": "p", "fileMode": 0o622 }));
        assert_eq!(c.sh("stat -c '%F %a' /dev/made; echo through > /dev/made & cat /dev/made"), "fifo 622\nthrough");
    });
}

#[test]
fn directories_on_the_way_are_made() {
    case(|c| {
        with(c, json!({ "path": "/dev/a/b/made", "type": "c", "major": 1, "minor": 3 }));
        assert_eq!(c.sh("stat -c '%F' /dev/a/b/made; stat -c '%F' /dev/a"), "character special file\ndirectory");
    });
}

#[test]
fn a_device_outside_of_dev_is_made() {
    case(|c| {
        with(c, json!({ "path": "/mnt/made", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 }));
        assert_eq!(c.sh("stat -c '%F %a %t:%T' /mnt/made"), "character special file 600 1:3");
    });
}

#[test]
fn the_mode_is_not_reduced_by_the_callers_mask() {
    case(|c| {
        with(c, json!({ "path": "/dev/made", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 }));
        c.args(&["/bin/stat", "-c", "%a", "/dev/made"]).write();
        c.note(c.id().to_owned());
        let inner = c.command(&["run", "--bundle", &c.bundle(), c.id()]);
        let mut shell = tare_tests::command("/bin/sh");
        shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        let out = tare_tests::Running::start(&mut shell, None).wait();
        assert_eq!(out.stdout, "666\n", "{out:?}");
    });
}

#[test]
fn a_default_device_may_be_given_another_mode() {
    case(|c| {
        with(c, json!({ "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600 }));
        assert_eq!(c.sh("stat -c '%a %t:%T' /dev/zero"), "600 1:5");
    });
}

#[test]
fn in_a_user_namespace_devices_are_the_hosts_bound() {
    case(|c| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        c.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        with(c, json!({ "path": "/dev/kvm", "type": "c", "major": 1, "minor": 3 }));
        c.unset("/linux/devices");
        with(c, json!({ "path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237 }));
        if !std::path::Path::new("/dev/loop-control").exists() {
            tare_tests::oci::skip("this host has no /dev/loop-control");
        }
        let printed = c.sh("stat -c '%F %t:%T' /dev/null /dev/loop-control; echo x > /dev/null && echo written");
        let device = "character special file";
        assert_eq!(printed, format!("{device} 1:3\n{device} a:ed\nwritten"));
        let pid = c.sleeper();
        assert_eq!(tare_tests::oci::kernel::mount(pid, "/dev/null").root, "/null");
    });
}
