//! The remaining `linux.resources`: pids, hugepageLimits, rdma, unified; and freezing.

use super::Groups;
use serde_json::json;
use tare_tests::oci::{case, kernel, layout, skip};

#[test]
fn the_number_of_processes_is_limited() {
    case(|c| {
        c.set("/linux/resources/pids/limit", 17);
        let pid = c.sleeper();
        Groups::of(pid).expect("pids", ("pids.max", "17"), ("pids.max", "17"));
    });
}

#[test]
fn a_fork_too_many_fails() {
    case(|c| {
        c.set("/linux/resources/pids/limit", 20);
        let pid = c.up("(for i in $(seq 30); do sleep 5 & done); exec sleep 1000");
        c.until("it was refused", || c.output().1.contains("can't fork"));
        let groups = Groups::of(pid);
        let max = groups.field("pids", ("pids.events", "pids.events"), "max");
        assert!(max > 0);
    });
}

#[test]
fn a_limit_of_minus_one_or_none_is_no_limit() {
    case(|c| {
        c.set("/linux/resources/pids/limit", -1);
        let pid = c.sleeper();
        Groups::of(pid).expect("pids", ("pids.max", "max"), ("pids.max", "max"));
    });
}

#[test]
fn huge_pages_are_limited() {
    case(|c| {
        let layout = layout();
        if layout.v1_of("hugetlb").is_none() && !layout.v2_has("hugetlb") {
            skip("this host has no controller hugetlb");
        }
        c.set("/linux/resources/hugepageLimits", json!([{ "pageSize": "2MB", "limit": 4_194_304 }]));
        let pid = c.sleeper();
        let groups = Groups::of(pid);
        groups.expect("hugetlb", ("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.max", "4194304"));
        groups.expect("hugetlb", ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304"));
    });
}

#[test]
fn huge_pages_of_an_unknown_size_are_refused() {
    case(|c| {
        c.set("/linux/resources/hugepageLimits", json!([{ "pageSize": "3MB", "limit": 4_194_304 }]));
        c.refused();
    });
}

#[test]
fn rdma_of_a_device_that_is_not_there_is_refused() {
    case(|c| {
        c.set("/linux/resources/rdma/mlx5_9", json!({ "hcaHandles": 3, "hcaObjects": 10_000 }));
        let said = c.refused();
        assert!(said.contains("rdma") || said.contains("mlx5_9"), "{said}");
    });
}

#[test]
fn rdma_is_limited() {
    case(|c| {
        let device = std::fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten().next();
        let Some(device) = device else { skip("this host has no device for RDMA") };
        let name = device.file_name().into_string().unwrap();
        c.set(&format!("/linux/resources/rdma/{name}"), json!({ "hcaHandles": 3, "hcaObjects": 10_000 }));
        let pid = c.sleeper();
        Groups::of(pid).expect(
            "rdma",
            ("rdma.max", &format!("{name} hca_handle=3 hca_object=10000")),
            ("rdma.max", &format!("{name} hca_handle=3 hca_object=10000")),
        );
    });
}

#[test]
fn files_of_cgroup2_are_set_by_name() {
    case(|c| {
        let layout = layout();
        let v2 = |controller: &str| layout.v1_of(controller).is_none() && layout.v2_has(controller);
        let (file, value) = match () {
            () if v2("pids") => ("pids.max", "9"),
            () if v2("hugetlb") => ("hugetlb.2MB.max", "2097152"),
            () => skip("cgroup2 has no controller here"),
        };
        c.set(&format!("/linux/resources/unified/{file}"), value);
        let pid = c.sleeper();
        assert_eq!(Groups::of(pid).read(file.split('.').next().unwrap(), "", file), value);
    });
}

#[test]
fn files_of_cgroup2_that_are_none_are_refused() {
    case(|c| {
        c.set("/linux/resources/unified/memory.no_such_file", "1");
        c.refused();
    });
}

#[test]
fn a_file_name_does_not_lead_out_of_the_group() {
    case(|c| {
        c.set("/linux/resources/unified/..~1cgroup.procs", "1");
        c.refused();
    });
}

#[test]
fn pause_freezes_the_group() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["pause", c.id()]);
        // Where there are both, either will do.
        let frozen = || {
            let layout = layout();
            let directories = layout.directories(c.cgroup());
            directories.iter().any(|d| {
                let text = |file: &str| std::fs::read_to_string(d.join(file)).unwrap_or_default();
                text("freezer.state") == "FROZEN\n" || text("cgroup.events").contains("frozen 1")
            })
        };
        assert!(frozen());
        c.ok(&["resume", c.id()]);
        assert!(!frozen());
        assert!(kernel::proc(pid, "cmdline").contains("1000"));
    });
}
