//! Mounts with id mappings of their own.

use serde_json::json;
use std::os::unix::fs::{MetadataExt, chown};
use tare_tests::oci::{Case, case};

/// A directory of the bundle with a file of 1000:2000.
fn source(c: &mut Case) {
    std::fs::create_dir(c.path("source")).unwrap();
    std::fs::write(c.path("source/file"), "").unwrap();
    chown(c.path("source/file"), Some(1000), Some(2000)).unwrap();
    chown(c.path("source"), Some(1000), Some(2000)).unwrap();
}

fn map(container: u32, host: u32, size: u32) -> serde_json::Value {
    json!([{ "containerID": container, "hostID": host, "size": size }])
}

/// Gives the last mount its mappings: container's and host's first id, for users and groups.
fn map_last(c: &mut Case, users: serde_json::Value, groups: serde_json::Value) {
    let last = c.spec()["mounts"].as_array().unwrap().len() - 1;
    c.set(&format!("/mounts/{last}/uidMappings"), users).set(&format!("/mounts/{last}/gidMappings"), groups);
}

#[test]
fn owners_are_mapped() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &["idmap"]);
        // What is `containerID` on the file system is shown as `hostID`.
        map_last(c, map(1000, 5000, 10), map(2000, 6000, 10));
        assert_eq!(c.sh("stat -c %u:%g /m/file"), "5000:6000");
    });
}

#[test]
fn mappings_alone_are_enough() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &[]);
        map_last(c, map(1000, 5000, 10), map(2000, 6000, 10));
        assert_eq!(c.sh("stat -c %u:%g /m/file"), "5000:6000");
    });
}

#[test]
fn users_and_groups_are_mapped_apart() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &["idmap"]);
        map_last(c, map(1000, 1, 1), map(2000, 2, 1));
        assert_eq!(c.sh("stat -c %u:%g /m/file"), "1:2");
    });
}

#[test]
fn what_is_written_is_mapped_back() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &["idmap"]);
        map_last(c, map(1000, 0, 10), map(2000, 0, 10));
        c.sh("touch /m/new");
        let meta = std::fs::metadata(c.path("source/new")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 2000));
    });
}

#[test]
fn several_ranges() {
    case(|c| {
        source(c);
        std::fs::write(c.path("source/other"), "").unwrap();
        chown(c.path("source/other"), Some(3000), Some(3000)).unwrap();
        c.bind("/m", c.path("source"), &["idmap"]);
        let ranges = json!([
            { "containerID": 1000, "hostID": 10, "size": 1 },
            { "containerID": 2000, "hostID": 20, "size": 1 },
            { "containerID": 3000, "hostID": 30, "size": 5 },
        ]);
        map_last(c, ranges.clone(), ranges);
        assert_eq!(c.sh("stat -c %u:%g /m/file /m/other"), "10:20\n30:30");
    });
}

#[test]
fn what_is_mounted_below_is_not_mapped() {
    case(|c| {
        source(c);
        std::fs::create_dir(c.path("source/below")).unwrap();
        let below = c.path("source/below").display().to_string();
        c.before(&format!("mount -t tmpfs tmpfs {below}; touch {below}/f; chown 1000:2000 {below}/f"));
        c.mount("/m", "bind", c.path("source"), &["rbind", "idmap"]);
        map_last(c, map(1000, 5000, 10), map(2000, 6000, 10));
        assert_eq!(c.sh("stat -c %u:%g /m/file /m/below/f"), "5000:6000\n1000:2000");
    });
}

#[test]
fn what_is_mounted_below_is_mapped_too() {
    case(|c| {
        source(c);
        std::fs::create_dir(c.path("source/below")).unwrap();
        let below = c.path("source/below").display().to_string();
        c.before(&format!("mount -t tmpfs tmpfs {below}; touch {below}/f; chown 1000:2000 {below}/f"));
        c.mount("/m", "bind", c.path("source"), &["rbind", "ridmap"]);
        map_last(c, map(1000, 5000, 10), map(2000, 6000, 10));
        assert_eq!(c.sh("stat -c %u:%g /m/file /m/below/f"), "5000:6000\n5000:6000");
    });
}

#[test]
fn the_host_sees_the_true_owners() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &["idmap"]);
        map_last(c, map(1000, 5000, 10), map(2000, 6000, 10));
        c.sleeper();
        assert_eq!(std::fs::metadata(c.path("source/file")).unwrap().uid(), 1000);
    });
}

#[test]
fn users_without_groups_are_refused() {
    case(|c| {
        source(c);
        c.bind("/m", c.path("source"), &["idmap"]);
        map_last(c, map(1000, 5000, 10), json!([]));
        let said = c.refused();
        assert!(said.contains("gidMappings") || said.to_lowercase().contains("mapping"), "{said}");
    });
}

#[test]
fn the_containers_mappings_are_those_of_the_option_alone() {
    case(|c| {
        source(c);
        chown(c.path("source/file"), Some(5), Some(6)).unwrap();
        c.bind("/mnt", c.path("source"), &["idmap"]).unshare("user");
        c.set("/linux/uidMappings", map(0, 100_000, 65536)).set("/linux/gidMappings", map(0, 100_000, 65536));
        assert_eq!(c.sh("stat -c %u:%g /mnt/file"), "5:6");
    });
}
