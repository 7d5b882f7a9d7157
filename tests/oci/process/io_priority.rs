//! `process.ioPriority`.

use serde_json::json;
use tare_tests::oci::{Case, case};
use tare_tests::{Running, command};

/// What ionice(1) says of a container with this class and priority.
fn ionice(c: &mut Case, class: &str, priority: i32) -> String {
    let pid = c.set("/process/ioPriority", json!({ "class": class, "priority": priority })).sleeper();
    Running::start(command("ionice").args(["--pid", &pid.to_string()]), None).wait().stdout.trim().to_owned()
}

#[test]
fn realtime() {
    case(|c| assert_eq!(ionice(c, "IOPRIO_CLASS_RT", 2), "realtime: prio 2"));
}

#[test]
fn best_effort() {
    case(|c| assert_eq!(ionice(c, "IOPRIO_CLASS_BE", 6), "best-effort: prio 6"));
}

#[test]
fn idle() {
    case(|c| assert_eq!(ionice(c, "IOPRIO_CLASS_IDLE", 0), "idle"));
}

#[test]
fn an_unknown_class_is_refused() {
    case(|c| {
        let said = c.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_NONE_SUCH", "priority": 1 })).refused();
        assert!(said.contains("IOPRIO_CLASS_NONE_SUCH"), "{said}");
    });
}

#[test]
fn a_priority_out_of_range_is_refused() {
    case(|c| {
        let said = c.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 })).refused();
        assert!(said.to_lowercase().contains("prio"), "{said}");
    });
}
