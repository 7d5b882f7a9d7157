//! `linux.resources.memory`.

use super::{Groups, NONE, UNLIMITED};
use tare_tests::oci::{Case, case, skip};

const MIB: i64 = 1 << 20;

/// A container with these fields of `memory`: its groups.
#[track_caller]
fn with(c: &mut Case, fields: &[(&str, i64)]) -> Groups {
    for (name, value) in fields {
        c.set(&format!("/linux/resources/memory/{name}"), *value);
    }
    Groups::of(c.sleeper())
}

#[test]
fn the_limit_is_set() {
    case(|c| {
        let groups = with(c, &[("limit", 64 * MIB)]);
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    });
}

/// What the runtime itself does in the group has to fit as well.
#[test]
fn one_mebibyte_is_enough_to_start() {
    case(|c| {
        let groups = with(c, &[("limit", MIB)]);
        groups.expect("memory", ("memory.limit_in_bytes", "1048576"), ("memory.max", "1048576"));
    });
}

#[test]
fn a_program_beyond_the_limit_is_killed() {
    case(|c| {
        c.set("/linux/resources/memory/limit", 32 * MIB).set("/linux/resources/memory/swap", 32 * MIB);
        // The child is chosen, because it has the memory; the shell tells how it ended.
        let pid = c.up("dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?; sleep 1000");
        c.until("it has ended", || !c.output().0.is_empty());
        assert_eq!(c.output().0, "137\n");
        let groups = Groups::of(pid);
        assert!(groups.field("memory", ("memory.oom_control", "memory.events"), "oom_kill") > 0);
    });
}

#[test]
fn minus_one_is_no_limit() {
    case(|c| {
        let groups = with(c, &[("limit", -1), ("swap", -1)]);
        groups.expect("memory", ("memory.limit_in_bytes", UNLIMITED), ("memory.max", "max"));
    });
}

#[test]
fn the_reservation_is_set() {
    case(|c| {
        let groups = with(c, &[("reservation", 32 * MIB)]);
        groups.expect("memory", ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    });
}

#[test]
fn swap_is_counted_together_with_memory() {
    case(|c| {
        let groups = with(c, &[("limit", 64 * MIB), ("swap", 96 * MIB)]);
        // cgroup2 limits swap alone.
        groups.expect("memory", ("memory.memsw.limit_in_bytes", "100663296"), ("memory.swap.max", "33554432"));
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    });
}

#[test]
fn swap_may_be_unlimited() {
    case(|c| {
        let groups = with(c, &[("limit", 64 * MIB), ("swap", -1)]);
        groups.expect("memory", ("memory.memsw.limit_in_bytes", UNLIMITED), ("memory.swap.max", "max"));
    });
}

#[test]
fn swap_below_memory_is_refused() {
    case(|c| {
        c.set("/linux/resources/memory/limit", 64 * MIB).set("/linux/resources/memory/swap", 32 * MIB);
        c.refused();
    });
}

#[test]
fn kernel_memory_is_ignored() {
    case(|c| {
        let groups = with(c, &[("limit", 64 * MIB), ("kernel", 16 * MIB)]);
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    });
}

#[test]
fn kernel_memory_of_tcp_is_limited() {
    case(|c| {
        if Groups::of(std::process::id().cast_signed()).is_v2("memory") {
            skip("cgroup2 has no limit of TCP's buffers");
        }
        let groups = with(c, &[("kernelTCP", 16 * MIB)]);
        groups.expect("memory", ("memory.kmem.tcp.limit_in_bytes", "16777216"), NONE);
    });
}

#[test]
fn swappiness_is_set() {
    case(|c| {
        if Groups::of(std::process::id().cast_signed()).is_v2("memory") {
            skip("cgroup2 has no swappiness");
        }
        let groups = with(c, &[("swappiness", 17)]);
        groups.expect("memory", ("memory.swappiness", "17"), NONE);
    });
}

#[test]
fn the_oom_killer_can_be_turned_off() {
    case(|c| {
        if Groups::of(std::process::id().cast_signed()).is_v2("memory") {
            skip("cgroup2 has no switch for the OOM killer");
        }
        c.set("/linux/resources/memory/disableOOMKiller", true).set("/linux/resources/memory/limit", 32 * MIB);
        let pid = c.up("dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?; sleep 1000");
        let groups = Groups::of(pid);
        assert_eq!(groups.field("memory", ("memory.oom_control", ""), "oom_kill_disable"), 1);
        // What would be killed, stands still.
        c.until("it stands", || groups.field("memory", ("memory.oom_control", ""), "under_oom") == 1);
        assert_eq!(c.output().0, "");
    });
}

#[test]
fn hierarchy_is_what_kernels_have_today() {
    case(|c| {
        if Groups::of(std::process::id().cast_signed()).is_v2("memory") {
            skip("cgroup2 counts nothing but hierarchies");
        }
        c.set("/linux/resources/memory/useHierarchy", true);
        let groups = Groups::of(c.sleeper());
        groups.expect("memory", ("memory.use_hierarchy", "1"), NONE);
    });
}

#[test]
fn a_limit_below_what_is_used_is_refused_when_it_is_checked() {
    case(|c| {
        c.set("/linux/resources/memory/limit", 64 * MIB).set("/linux/resources/memory/checkBeforeUpdate", true);
        c.mount("/mnt", "tmpfs", "tmpfs", &[]);
        let pid = c.up("dd if=/dev/zero of=/mnt/file bs=1M count=32 2>/dev/null; echo used; sleep 1000");
        c.until("it is used", || !c.output().0.is_empty());
        let resources = c.path("resources.json");
        let text = serde_json::json!({ "memory": { "limit": 8 * MIB, "checkBeforeUpdate": true } });
        std::fs::write(&resources, text.to_string()).unwrap();
        let out = c.oci(&["update", "--resources", resources.to_str().unwrap(), c.id()]);
        assert_eq!(out.code, 1, "{out:?}");
        assert!(!out.stderr.is_empty());
        let groups = Groups::of(pid);
        groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
        assert_eq!(c.state()["status"], "running");
    });
}

#[test]
fn a_negative_limit_other_than_minus_one_is_refused() {
    case(|c| {
        c.set("/linux/resources/memory/limit", -5);
        c.refused();
    });
}
