//! `update`: limits of a container that runs.

use crate::cgroup::{Groups, UNLIMITED};
use crate::lifecycle::failed_with;
use serde_json::{Value, json};
use tare_tests::Running;
use tare_tests::oci::{Case, case, skip};

/// `update` with a document of resources.
#[track_caller]
fn update(c: &Case, resources: &Value) {
    let path = c.path("resources.json");
    std::fs::write(&path, resources.to_string()).unwrap();
    c.ok(&["update", "--resources", path.to_str().unwrap(), c.id()]);
}

#[test]
fn memory_by_flags() {
    case(|c| {
        c.set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 128 << 20 }));
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--memory", "33554432", "--memory-swap", "67108864", c.id()]);
        groups.expect("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"));
        groups.expect("memory", ("memory.memsw.limit_in_bytes", "67108864"), ("memory.swap.max", "33554432"));
        c.ok(&["update", "--memory-reservation", "16777216", c.id()]);
        groups.expect("memory", ("memory.soft_limit_in_bytes", "16777216"), ("memory.low", "16777216"));
        groups.expect("memory", ("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"));
    });
}

#[test]
fn memory_is_raised_beyond_the_old_swap() {
    case(|c| {
        c.set("/linux/resources/memory", json!({ "limit": 32 << 20, "swap": 32 << 20 }));
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--memory", "134217728", "--memory-swap", "134217728", c.id()]);
        groups.expect("memory", ("memory.limit_in_bytes", "134217728"), ("memory.max", "134217728"));
        groups.expect("memory", ("memory.memsw.limit_in_bytes", "134217728"), ("memory.swap.max", "0"));
    });
}

#[test]
fn sizes_may_have_units() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--memory", "48M", c.id()]);
        groups.expect("memory", ("memory.limit_in_bytes", "50331648"), ("memory.max", "50331648"));
    });
}

#[test]
fn memory_may_become_unlimited() {
    case(|c| {
        c.set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 64 << 20 }));
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--memory", "-1", "--memory-swap", "-1", c.id()]);
        groups.expect("memory", ("memory.limit_in_bytes", UNLIMITED), ("memory.max", "max"));
    });
}

#[test]
fn processor_time_by_flags() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--cpu-period", "50000", "--cpu-quota", "20000", "--cpu-share", "262144", c.id()]);
        groups.expect("cpu", ("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000"));
        groups.expect("cpu", ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000"));
        groups.expect("cpu", ("cpu.shares", "262144"), ("cpu.weight", "10000"));
        c.ok(&["update", "--cpu-quota", "-1", c.id()]);
        groups.expect("cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 50000"));
    });
}

#[test]
fn processors_by_flags() {
    case(|c| {
        let pid = c.sleeper();
        let groups = Groups::of(pid);
        c.ok(&["update", "--cpuset-cpus", "0", "--cpuset-mems", "0", c.id()]);
        groups.expect("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
        assert_eq!(tare_tests::oci::kernel::status(pid, "Cpus_allowed_list"), "0");
    });
}

#[test]
fn realtime_by_flags() {
    case(|c| {
        c.under_cgroupfs(&format!("/{}", c.id()));
        let groups = Groups::of(c.sleeper());
        if groups.is_v2("cpu") || !groups.directory("cpu").join("cpu.rt_runtime_us").exists() {
            skip("the kernel has no groups of realtime processes");
        }
        c.ok(&["update", "--cpu-rt-period", "400000", "--cpu-rt-runtime", "900", c.id()]);
        groups.expect("cpu", ("cpu.rt_period_us", "400000"), crate::cgroup::NONE);
        groups.expect("cpu", ("cpu.rt_runtime_us", "900"), crate::cgroup::NONE);
    });
}

#[test]
fn the_number_of_processes_by_flag() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", "--pids-limit", "33", c.id()]);
        groups.expect("pids", ("pids.max", "33"), ("pids.max", "33"));
        c.ok(&["update", "--pids-limit", "-1", c.id()]);
        groups.expect("pids", ("pids.max", "max"), ("pids.max", "max"));
    });
}

#[test]
fn the_weight_of_io_by_flag() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        let directory = groups.directory("blkio");
        let files = ["io.bfq.weight", "blkio.bfq.weight", "blkio.weight", "io.weight"];
        let Some(file) = files.into_iter().find(|f| directory.join(f).exists()) else {
            skip("the kernel has no weights of I/O")
        };
        c.ok(&["update", "--blkio-weight", "400", c.id()]);
        let value = groups.read("blkio", file, file);
        let expected = if file == "io.weight" { "3940" } else { "400" };
        assert!(value.lines().next().unwrap().ends_with(expected), "{value}");
    });
}

#[test]
fn flags_may_stand_behind_the_id() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        c.ok(&["update", c.id(), "--pids-limit", "34"]);
        groups.expect("pids", ("pids.max", "34"), ("pids.max", "34"));
    });
}

#[test]
fn a_document_changes_what_it_names_and_nothing_else() {
    case(|c| {
        c.set("/linux/resources/pids/limit", 55).set("/linux/resources/memory/limit", 64 << 20);
        let groups = Groups::of(c.sleeper());
        update(c, &json!({ "cpu": { "quota": 40_000, "period": 80_000 }, "memory": { "reservation": 1 << 24 } }));
        groups.expect("cpu", ("cpu.cfs_quota_us", "40000"), ("cpu.max", "40000 80000"));
        groups.expect("memory", ("memory.soft_limit_in_bytes", "16777216"), ("memory.low", "16777216"));
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
        groups.expect("pids", ("pids.max", "55"), ("pids.max", "55"));
    });
}

#[test]
fn a_document_may_come_from_standard_input() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        let mut command = c.command(&["update", "--resources", "-", c.id()]);
        let out = Running::start(&mut command, Some(br#"{"pids":{"limit":66}}"#)).wait();
        assert_eq!(out.code, 0, "{out:?}");
        groups.expect("pids", ("pids.max", "66"), ("pids.max", "66"));
    });
}

#[test]
fn every_limit_of_a_document_is_live() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        update(
            c,
            &json!({
                "memory": { "limit": 50 << 20, "swap": 60 << 20, "reservation": 20 << 20 },
                "cpu": { "shares": 2, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0" },
                "pids": { "limit": 77 },
            }),
        );
        groups.expect("memory", ("memory.limit_in_bytes", "52428800"), ("memory.max", "52428800"));
        groups.expect("memory", ("memory.memsw.limit_in_bytes", "62914560"), ("memory.swap.max", "10485760"));
        groups.expect("cpu", ("cpu.shares", "2"), ("cpu.weight", "1"));
        groups.expect("cpu", ("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 60000"));
        groups.expect("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
        groups.expect("pids", ("pids.max", "77"), ("pids.max", "77"));
    });
}

#[test]
fn idle_and_burst_of_a_document_are_live() {
    case(|c| {
        let groups = Groups::of(c.sleeper());
        update(c, &json!({ "cpu": { "quota": 50_000, "period": 100_000, "burst": 10_000 } }));
        groups.expect("cpu", ("cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000"));
        update(c, &json!({ "cpu": { "idle": 1 } }));
        groups.expect("cpu", ("cpu.idle", "1"), ("cpu.idle", "1"));
    });
}

#[test]
fn a_limit_that_was_lowered_has_its_effect() {
    case(|c| {
        c.sleeper();
        c.exec_sh("(sleep 1 & sleep 1 & wait) && echo made");
        c.ok(&["update", "--pids-limit", "20", c.id()]);
        let out = c.exec(&["/bin/sh", "-c", "for i in $(seq 30); do sleep 3 & done"]);
        assert!(out.stderr.contains("can't fork"), "{out:?}");
    });
}

#[test]
fn values_that_are_none_are_errors_and_change_nothing() {
    case(|c| {
        c.set("/linux/resources/pids/limit", 55).set("/linux/resources/memory/limit", 64 << 20);
        let groups = Groups::of(c.sleeper());
        for (flag, value) in
            [("--memory", "abc"), ("--cpu-quota", "x"), ("--cpuset-cpus", "4096"), ("--pids-limit", "y")]
        {
            let out = c.oci(&["update", flag, value, c.id()]);
            assert!(out.code == 1 && !out.stderr.trim().is_empty(), "{flag}: {out:?}");
        }
        let path = c.path("resources.json");
        std::fs::write(&path, "{").unwrap();
        failed_with(&c.oci(&["update", "-r", path.to_str().unwrap(), c.id()]), 1, "");
        failed_with(&c.oci(&["update", "-r", "/no/such/file", c.id()]), 1, "/no/such/file");
        groups.expect("pids", ("pids.max", "55"), ("pids.max", "55"));
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    });
}

#[test]
fn what_was_only_created_can_be_changed() {
    case(|c| {
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        c.ok(&["update", "--pids-limit", "35", c.id()]);
        Groups::of(pid).expect("pids", ("pids.max", "35"), ("pids.max", "35"));
        c.start();
        Groups::of(pid).expect("pids", ("pids.max", "35"), ("pids.max", "35"));
    });
}

#[test]
fn what_is_paused_can_be_changed_and_stays_so() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["pause", c.id()]);
        c.ok(&["update", "--pids-limit", "36", c.id()]);
        Groups::of(pid).expect("pids", ("pids.max", "36"), ("pids.max", "36"));
        assert_eq!(c.state()["status"], "paused");
    });
}
