//! config-linux.md, "Control groups": fields whose effect shows only in a warning, a refusal, or beside what they allow.

use serde_json::json;
use tare_tests::oci::{Case, case, layout, skip};

/// What is said of a container that starts all the same.
#[track_caller]
fn warned(c: &mut Case) -> String {
    let out = c.args(&["/bin/echo", "runs"]).run();
    assert_eq!((out.code, out.stdout.as_str()), (0, "runs\n"), "{}", out.stderr);
    out.stderr
}

#[test]
fn kernel_memory_that_cannot_be_limited_is_told() {
    case(|c| {
        c.set("/linux/resources/memory/kernel", 16 << 20);
        let said = warned(c);
        assert!(said.to_lowercase().contains("kernel memory"), "{said}");
    });
}

#[test]
fn a_hierarchy_that_cannot_be_left_is_told() {
    case(|c| {
        c.set("/linux/resources/memory/useHierarchy", false);
        let out = c.args(&["/bin/true"]).run();
        let said = out.stderr;
        assert!(said.to_lowercase().contains("hierarchy"), "{said}");
    });
}

#[test]
fn a_memory_node_that_is_missing_is_refused() {
    case(|c| {
        let said = c.set("/linux/resources/cpu/mems", "63").refused();
        assert!(said.contains("63") || said.contains("cpuset.mems"), "{said}");
    });
}

#[test]
fn a_device_of_another_kind_with_the_same_minor_number_is_none_of_the_rules() {
    case(|c| {
        let rules = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm" },
        ]);
        c.set("/linux/resources/devices", rules);
        c.set(
            "/linux/devices",
            json!([{ "path": "/dev/other", "type": "c", "major": 240, "minor": 5, "fileMode": 438 }]),
        );
        // Without a rule in the way it would be that there is no such device.
        let out = c.sh("head -c 1 /dev/zero | wc -c; cat /dev/other 2>&1; true");
        assert!(out.starts_with("1\n") && out.contains("Operation not permitted"), "{out}");
    });
}

#[test]
fn memory_that_could_be_taken_back_counts_as_used_when_that_is_checked() {
    case(|c| {
        if !layout().v1_of("memory").is_some_and(|at| at.join("memory.limit_in_bytes").exists())
            && !layout().v2_has("memory")
        {
            skip("no hierarchy has the memory controller");
        }
        c.set("/linux/resources/memory", json!({ "limit": 128 << 20, "checkBeforeUpdate": true }));
        // Pages of files that were written: the kernel would give them up for a lower limit.
        c.up("dd if=/dev/zero of=/var/file bs=1M count=48 2>/dev/null; sync; echo used; sleep 1000");
        c.until("it is used", || !c.output().0.is_empty());
        let out = c.oci(&["update", "--memory", "16777216", c.id()]);
        assert!(out.code != 0 && !out.stderr.is_empty(), "{out:?}");
    });
}
