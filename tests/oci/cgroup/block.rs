//! `linux.resources.blockIO`.

use super::Groups;
use serde_json::{Value, json};
use tare_tests::oci::{Case, case, skip};

/// MAJOR and MINOR of a disk of this host.
fn disk() -> (u64, u64) {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut numbers = disks.filter_map(|d| {
        let name = d.file_name().to_string_lossy().into_owned();
        let is_disk = !["loop", "ram", "zram", "dm-", "md", "sr"].iter().any(|p| name.starts_with(p));
        let text = std::fs::read_to_string(d.path().join("dev")).ok().filter(|_| is_disk)?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.next().unwrap_or_else(|| skip("this host has no disk"))
}

/// A container with a rate for the disk under this name: its groups, and the disk as `MAJOR:MINOR`.
#[track_caller]
fn throttled(c: &mut Case, name: &str, rate: u64) -> (Groups, String) {
    let (major, minor) = disk();
    let entry = json!([{ "major": major, "minor": minor, "rate": rate }]);
    c.set(&format!("/linux/resources/blockIO/{name}"), entry);
    (Groups::of(c.sleeper()), format!("{major}:{minor}"))
}

#[track_caller]
fn rate_is_set(name: &str, v1: &str, v2: &str) {
    case(|c| {
        let (groups, disk) = throttled(c, name, 1_048_576);
        let value = groups.read("blkio", v1, "io.max");
        if groups.is_v2("blkio") {
            let line = value.lines().find_map(|l| l.strip_prefix(&disk)).unwrap();
            assert!(line.split(' ').any(|w| w == format!("{v2}=1048576")), "{value}");
        } else {
            assert_eq!(value, format!("{disk} 1048576"));
        }
    });
}

#[test]
fn bytes_read_are_limited() {
    rate_is_set("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps");
}

#[test]
fn bytes_written_are_limited() {
    rate_is_set("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps");
}

#[test]
fn reads_are_limited() {
    rate_is_set("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops");
}

#[test]
fn writes_are_limited() {
    rate_is_set("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops");
}

#[test]
fn four_rates_stand_beside_one_another() {
    case(|c| {
        let (major, minor) = disk();
        let mut rates = serde_json::Map::new();
        for (name, rate) in [
            ("throttleReadBpsDevice", 1000),
            ("throttleWriteBpsDevice", 2000),
            ("throttleReadIOPSDevice", 30),
            ("throttleWriteIOPSDevice", 40),
        ] {
            rates.insert(name.into(), json!([{ "major": major, "minor": minor, "rate": rate }]));
        }
        c.set("/linux/resources/blockIO", Value::Object(rates));
        let groups = Groups::of(c.sleeper());
        let disk = format!("{major}:{minor}");
        if groups.is_v2("blkio") {
            assert_eq!(groups.read("blkio", "", "io.max"), format!("{disk} rbps=1000 wbps=2000 riops=30 wiops=40"));
        } else {
            for (file, rate) in [("read_bps", 1000), ("write_bps", 2000), ("read_iops", 30), ("write_iops", 40)] {
                let value = groups.read("blkio", &format!("blkio.throttle.{file}_device"), "");
                assert_eq!(value, format!("{disk} {rate}"));
            }
        }
    });
}

/// The file of weights of this host: of BFQ on both, or cgroup2's own.
fn weight_file(groups: &Groups) -> &'static str {
    let directory = groups.directory("blkio");
    let files =
        if groups.is_v2("blkio") { ["io.bfq.weight", "io.weight"] } else { ["blkio.bfq.weight", "blkio.weight"] };
    files.into_iter().find(|f| directory.join(f).exists()).unwrap_or_else(|| skip("the kernel has no weights of I/O"))
}

#[test]
fn a_weight_is_set() {
    case(|c| {
        let pid = c.sleeper();
        let file = weight_file(&Groups::of(pid));
        c.ok(&["delete", "--force", c.id()]);
        c.wait(pid);
        c.set("/linux/resources/blockIO/weight", 300);
        let groups = Groups::of(c.sleeper());
        let value = groups.read("blkio", file, file);
        let expected = if file == "io.weight" {
            "default 2930"
        } else if groups.is_v2("blkio") {
            "default 300"
        } else {
            "300"
        };
        assert_eq!(value.lines().next().unwrap(), expected);
    });
}

#[test]
fn a_weight_of_a_device_is_set_or_the_device_has_none() {
    case(|c| {
        let (major, minor) = disk();
        let entry = json!([{ "major": major, "minor": minor, "weight": 400 }]);
        c.set("/linux/resources/blockIO/weightDevice", entry);
        c.args(&["/bin/sleep", "1000"]);
        let out = c.try_create(&[]);
        if out.code != 0 {
            // A disk whose scheduler is not BFQ takes no weight: said, with the place.
            let said = c.output().1;
            assert!(said.contains(&format!("{major}:{minor}")) || said.contains("weight"), "{said}");
            return;
        }
        let pid = std::fs::read_to_string(c.path("pid")).unwrap().parse().unwrap();
        let groups = Groups::of(pid);
        let v1 = ["blkio.bfq.weight_device", "blkio.weight_device"];
        let v1 = v1.into_iter().find(|f| groups.directory("blkio").join(f).exists()).unwrap_or_default();
        let value = groups.read("blkio", v1, weight_file(&groups));
        assert!(value.lines().any(|l| l.starts_with(&format!("{major}:{minor} "))), "{value}");
        c.ok(&["delete", "--force", c.id()]);
        c.wait(pid);
    });
}

#[test]
fn a_leaf_weight_is_refused_where_no_kernel_has_it() {
    case(|c| {
        c.set("/linux/resources/blockIO/leafWeight", 300);
        let said = c.refused().to_lowercase();
        assert!(said.contains("leaf"), "{said}");
    });
}

#[test]
fn a_leaf_weight_of_a_device_is_refused_where_no_kernel_has_it() {
    case(|c| {
        let (major, minor) = disk();
        c.set("/linux/resources/blockIO/weightDevice", json!([{ "major": major, "minor": minor, "leafWeight": 300 }]));
        let said = c.refused().to_lowercase();
        assert!(said.contains("leaf"), "{said}");
    });
}
