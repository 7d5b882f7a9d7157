//! `linux.resources.cpu`.

use super::Groups;
use serde_json::json;
use tare_tests::oci::{Case, case, kernel, skip};

#[track_caller]
fn with(c: &mut Case, cpu: serde_json::Value) -> Groups {
    c.set("/linux/resources/cpu", cpu);
    Groups::of(c.sleeper())
}

#[test]
fn shares_are_set() {
    case(|c| {
        // Both ends of the range are the same in every formula from shares to weights.
        let groups = with(c, json!({ "shares": 262_144 }));
        groups.expect("cpu", ("cpu.shares", "262144"), ("cpu.weight", "10000"));
    });
}

#[test]
fn the_fewest_shares_are_set() {
    case(|c| {
        let groups = with(c, json!({ "shares": 2 }));
        groups.expect("cpu", ("cpu.shares", "2"), ("cpu.weight", "1"));
    });
}

#[test]
fn quota_and_period_are_set() {
    case(|c| {
        let groups = with(c, json!({ "quota": 30_000, "period": 60_000 }));
        groups.expect("cpu", ("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 60000"));
        groups.expect("cpu", ("cpu.cfs_period_us", "60000"), ("cpu.max", "30000 60000"));
    });
}

#[test]
fn a_quota_throttles() {
    case(|c| {
        c.set("/linux/resources/cpu", json!({ "quota": 10_000, "period": 100_000 }));
        let pid = c.up("while true; do :; done");
        let groups = Groups::of(pid);
        c.until("it is throttled", || groups.field("cpu", ("cpu.stat", "cpu.stat"), "nr_throttled") > 2);
    });
}

#[test]
fn a_quota_of_minus_one_is_none() {
    case(|c| {
        let groups = with(c, json!({ "quota": -1, "period": 50_000 }));
        groups.expect("cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 50000"));
    });
}

#[test]
fn a_burst_is_set() {
    case(|c| {
        let groups = with(c, json!({ "quota": 50_000, "period": 100_000, "burst": 20_000 }));
        groups.expect("cpu", ("cpu.cfs_burst_us", "20000"), ("cpu.max.burst", "20000"));
    });
}

#[test]
fn idle_is_set() {
    case(|c| {
        let groups = with(c, json!({ "idle": 1 }));
        groups.expect("cpu", ("cpu.idle", "1"), ("cpu.idle", "1"));
    });
}

#[test]
fn realtime_is_set() {
    case(|c| {
        let groups = Groups::of(std::process::id().cast_signed());
        if groups.is_v2("cpu") || !groups.directory("cpu").join("cpu.rt_runtime_us").exists() {
            skip("the kernel has no groups of realtime processes");
        }
        // A group below another gets no more than that one has, and a new one has none.
        c.under_cgroupfs(&format!("/{}", c.id()));
        let groups = with(c, json!({ "realtimeRuntime": 1000, "realtimePeriod": 500_000 }));
        groups.expect("cpu", ("cpu.rt_runtime_us", "1000"), super::NONE);
        groups.expect("cpu", ("cpu.rt_period_us", "500000"), super::NONE);
    });
}

#[test]
fn processors_and_memory_nodes_are_chosen() {
    case(|c| {
        c.set("/linux/resources/cpu", json!({ "cpus": "0", "mems": "0" }));
        let pid = c.sleeper();
        let groups = Groups::of(pid);
        groups.expect("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
        groups.expect("cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0"));
        assert_eq!(kernel::status(pid, "Cpus_allowed_list"), "0");
        assert_eq!(c.exec_sh("nproc"), "1");
    });
}

#[test]
fn without_a_choice_all_processors_are_there() {
    case(|c| {
        let pid = c.sleeper();
        let all = kernel::status(1, "Cpus_allowed_list");
        assert_eq!(kernel::status(pid, "Cpus_allowed_list"), all);
    });
}

#[test]
fn time_is_counted() {
    case(|c| {
        let pid = c.up("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000");
        c.until("it has counted", || !c.output().0.is_empty());
        let groups = Groups::of(pid);
        let used: u64 = if groups.is_v2("cpuacct") {
            groups.field("cpuacct", ("", "cpu.stat"), "usage_usec")
        } else {
            groups.read("cpuacct", "cpuacct.usage", "").parse::<u64>().unwrap() / 1000
        };
        assert!(used > 1000, "{used} µs");
    });
}
