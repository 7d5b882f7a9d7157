//! `linux.timeOffsets`.

use serde_json::json;
use tare_tests::oci::{case, kernel};

/// Seconds of /proc/uptime here.
fn uptime() -> f64 {
    std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn boot_time_is_moved() {
    case(|c| {
        c.unshare("time").set("/linux/timeOffsets/boottime", json!({ "secs": 1_000_000 }));
        let inside: f64 = c.sh("cut -d' ' -f1 /proc/uptime").parse().unwrap();
        assert!((inside - uptime() - 1_000_000.0).abs() < 60.0, "{inside}");
    });
}

#[test]
fn both_clocks_have_offsets_with_nanoseconds() {
    case(|c| {
        c.unshare("time");
        c.set("/linux/timeOffsets/monotonic", json!({ "secs": 7, "nanosecs": 123 }));
        c.set("/linux/timeOffsets/boottime", json!({ "secs": 8, "nanosecs": 456 }));
        let pid = c.sleeper();
        let offsets: Vec<Vec<String>> = kernel::proc(pid, "timens_offsets")
            .lines()
            .map(|l| l.split_whitespace().map(str::to_owned).collect())
            .collect();
        assert_eq!(offsets, [["monotonic", "7", "123"], ["boottime", "8", "456"]]);
    });
}

#[test]
fn an_offset_can_be_negative() {
    case(|c| {
        c.unshare("time").set("/linux/timeOffsets/boottime", json!({ "secs": -100 }));
        let pid = c.sleeper();
        assert!(kernel::proc(pid, "timens_offsets").contains("-100"), "{}", kernel::proc(pid, "timens_offsets"));
    });
}

#[test]
fn the_program_itself_lives_in_the_moved_time() {
    case(|c| {
        c.unshare("time").set("/linux/timeOffsets/boottime", json!({ "secs": 1_000_000 }));
        let pid = c.sleeper();
        assert_eq!(kernel::namespace(pid, "time"), kernel::namespace(pid, "time_for_children"));
        let joined: f64 = c.exec_sh("cut -d' ' -f1 /proc/uptime").parse().unwrap();
        assert!((joined - uptime() - 1_000_000.0).abs() < 60.0, "{joined}");
    });
}

#[test]
fn offsets_without_a_time_namespace_are_refused() {
    case(|c| {
        let said = c.set("/linux/timeOffsets/boottime", json!({ "secs": 5 })).refused();
        assert!(said.to_lowercase().contains("time"), "{said}");
    });
}

#[test]
fn an_unknown_clock_is_refused() {
    case(|c| {
        let said = c.unshare("time").set("/linux/timeOffsets/nosuchclock", json!({ "secs": 5 })).refused();
        assert!(said.contains("nosuchclock"), "{said}");
    });
}
