//! `linux.uidMappings` and `gidMappings`.

use serde_json::{Value, json};
use tare_tests::oci::{Case, case, kernel};

fn map(container: u32, host: u32, size: u32) -> Value {
    json!([{ "containerID": container, "hostID": host, "size": size }])
}

fn mapped(c: &mut Case, users: Value, groups: Value) {
    c.unshare("user").set("/linux/uidMappings", users).set("/linux/gidMappings", groups);
}

/// A map file of /proc with single blanks.
fn written(pid: i32, file: &str) -> Vec<String> {
    let text = kernel::proc(pid, file);
    text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_maps_are_those_of_the_configuration() {
    case(|c| {
        mapped(c, map(0, 100_000, 1000), map(0, 200_000, 2000));
        let pid = c.sleeper();
        assert_eq!(written(pid, "uid_map"), ["0 100000 1000"]);
        assert_eq!(written(pid, "gid_map"), ["0 200000 2000"]);
    });
}

#[test]
fn several_ranges() {
    case(|c| {
        let ranges = json!([
            { "containerID": 0, "hostID": 100_000, "size": 10 },
            { "containerID": 1000, "hostID": 300_000, "size": 1 },
        ]);
        mapped(c, ranges.clone(), ranges);
        let pid = c.sleeper();
        assert_eq!(written(pid, "uid_map"), ["0 100000 10", "1000 300000 1"]);
        assert_eq!(written(pid, "gid_map"), ["0 100000 10", "1000 300000 1"]);
    });
}

#[test]
fn root_inside_is_nobody_outside() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Uid"), "100000 100000 100000 100000");
        assert_eq!(kernel::status(pid, "Gid"), "100000 100000 100000 100000");
        assert_eq!(c.exec_sh("id -u; id -g"), "0\n0");
    });
}

#[test]
fn another_user_is_mapped_too() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 200_000, 65536));
        c.set("/process/user", json!({ "uid": 33, "gid": 34, "additionalGids": [5] }));
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Uid"), "100033 100033 100033 100033");
        assert_eq!(kernel::status(pid, "Gid"), "200034 200034 200034 200034");
        assert_eq!(kernel::status(pid, "Groups"), "200005");
    });
}

#[test]
fn groups_can_be_set_inside() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        let pid = c.sleeper();
        assert_eq!(kernel::proc(pid, "setgroups"), "allow");
    });
}

#[test]
fn the_mount_namespace_belongs_to_it() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        for set in ["bounding", "permitted", "effective"] {
            c.set(&format!("/process/capabilities/{set}"), json!(["CAP_SYS_ADMIN"]));
        }
        assert_eq!(c.sh("mount -t tmpfs tmpfs /mnt && grep -c ' /mnt ' /proc/self/mountinfo"), "1");
    });
}

#[test]
fn file_systems_are_mounted_by_its_root() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        c.mount("/mnt", "tmpfs", "tmpfs", &["mode=755"]);
        assert_eq!(c.sh("stat -c %u:%g /mnt /dev; touch /mnt/x; stat -c %u /mnt/x"), "0:0\n0:0\n0");
    });
}

#[test]
fn the_usual_devices_work() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        let script =
            "head -c 2 /dev/zero | wc -c; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; stat -c %t:%T /dev/null";
        assert_eq!(c.sh(script), "2\n4\n1:3");
    });
}

#[test]
fn files_of_the_host_belong_to_nobody_inside() {
    case(|c| {
        mapped(c, map(0, 100_000, 1000), map(0, 100_000, 1000));
        assert_eq!(
            c.sh("stat -c %u:%g /etc/passwd; echo x >> /etc/passwd 2>/dev/null || echo refused"),
            "65534:65534\nrefused"
        );
    });
}

#[test]
fn proc_and_sys_can_be_mounted_in_it() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        c.unshare("network").mount("/sys", "sysfs", "sysfs", &["ro", "nosuid", "nodev", "noexec"]);
        assert_eq!(c.sh("cat /proc/1/comm; ls /sys/class/net"), "sh\nlo");
    });
}

#[test]
fn host_name_and_sysctls_are_set_in_it() {
    case(|c| {
        mapped(c, map(0, 100_000, 65536), map(0, 100_000, 65536));
        c.unshare("network").set("/hostname", "mapped").set("/linux/sysctl/net.ipv4.ip_forward", "1");
        assert_eq!(c.sh("hostname; cat /proc/sys/net/ipv4/ip_forward"), "mapped\n1");
    });
}

#[test]
fn mappings_without_the_namespace_are_refused() {
    case(|c| {
        c.set("/linux/uidMappings", map(0, 100_000, 1000)).set("/linux/gidMappings", map(0, 100_000, 1000));
        let said = c.refused();
        assert!(said.to_lowercase().contains("user"), "{said}");
    });
}

#[test]
fn the_namespace_without_mappings_is_refused() {
    case(|c| {
        let said = c.unshare("user").refused();
        assert!(said.to_lowercase().contains("map"), "{said}");
    });
}

#[test]
fn a_user_that_is_not_mapped_is_refused() {
    case(|c| {
        mapped(c, map(0, 100_000, 10), map(0, 100_000, 10));
        c.set("/process/user/uid", 33);
        let said = c.refused();
        assert!(!said.is_empty());
    });
}
