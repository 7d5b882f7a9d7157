//! `linux.resources.devices`: what the rules let through, as programs inside meet it.

use serde_json::{Value, json};
use tare_tests::oci::{Case, case};

/// A container with these rules behind one that refuses all, and with what it takes to make nodes and open them.
fn with(c: &mut Case, rules: Value) {
    for set in ["bounding", "effective", "permitted"] {
        c.set(&format!("/process/capabilities/{set}"), vec!["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    }
    let mut all = vec![json!({ "allow": false, "access": "rwm" })];
    all.extend(rules.as_array().unwrap().iter().cloned());
    c.set("/linux/resources/devices", all);
}

/// What a script prints in a container with these rules.
#[track_caller]
fn sh(rules: Value, script: &str) -> String {
    let mut printed = String::new();
    case(|c| {
        with(c, rules);
        printed = c.sh(script);
    });
    printed
}

/// Whether each of these may be done with `b 7:0`, a loop device that need not be there: r, w, m.
const TRY: &str = "mknod /tmp/l b 7 0 2>/dev/null && echo m; test -e /tmp/l || exit 0; \
                   head -c 1 /tmp/l 2>&1 >/dev/null | grep -q 'not permitted' || echo r; \
                   (: >> /tmp/l) 2>&1 | grep -q 'not permitted' || echo w";

#[test]
fn everything_may_be_refused() {
    // mknod itself is in every runtime's own rules: `c *:* m`, `b *:* m`.
    assert_eq!(sh(json!([]), TRY), "m");
}

#[test]
fn reading_alone() {
    let rules = json!([{ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "r" }]);
    assert_eq!(sh(rules, TRY), "m\nr");
}

#[test]
fn writing_alone() {
    let rules = json!([{ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "w" }]);
    assert_eq!(sh(rules, TRY), "m\nw");
}

#[test]
fn reading_and_writing() {
    let rules = json!([{ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "rw" }]);
    assert_eq!(sh(rules, TRY), "m\nr\nw");
}

#[test]
fn another_device_is_not_meant() {
    let rules = json!([{ "allow": true, "type": "b", "major": 7, "minor": 1, "access": "rwm" }]);
    assert_eq!(sh(rules, TRY), "m");
}

#[test]
fn another_type_is_not_meant() {
    let rules = json!([{ "allow": true, "type": "c", "major": 7, "minor": 0, "access": "rwm" }]);
    assert_eq!(sh(rules, TRY), "m");
}

#[test]
fn no_minor_means_all_of_a_major() {
    let rules = json!([{ "allow": true, "type": "b", "major": 7, "access": "rw" }]);
    assert_eq!(sh(rules, TRY), "m\nr\nw");
}

#[test]
fn no_numbers_mean_all_of_a_type() {
    let rules = json!([{ "allow": true, "type": "b", "access": "r" }]);
    assert_eq!(sh(rules, TRY), "m\nr");
}

#[test]
fn no_type_means_all() {
    assert_eq!(sh(json!([{ "allow": true, "access": "rwm" }]), TRY), "m\nr\nw");
}

#[test]
fn type_a_means_all() {
    assert_eq!(sh(json!([{ "allow": true, "type": "a", "access": "rwm" }]), TRY), "m\nr\nw");
}

#[test]
fn a_later_rule_wins_when_it_refuses() {
    let rules = json!([
        { "allow": true, "type": "b", "major": 7, "minor": 0, "access": "rw" },
        { "allow": false, "type": "b", "major": 7, "minor": 0, "access": "w" },
    ]);
    assert_eq!(sh(rules, TRY), "m\nr");
}

#[test]
fn a_later_rule_wins_when_it_allows() {
    let rules = json!([
        { "allow": false, "type": "b", "major": 7, "minor": 0, "access": "rw" },
        { "allow": true, "type": "b", "major": 7, "minor": 0, "access": "r" },
    ]);
    assert_eq!(sh(rules, TRY), "m\nr");
}

#[test]
fn one_device_may_be_refused_where_all_are_allowed() {
    let rules = json!([{ "allow": true, "access": "rwm" },
                       { "allow": false, "type": "b", "major": 7, "minor": 0, "access": "rw" }]);
    assert_eq!(sh(rules, TRY), "m");
}

#[test]
fn the_default_devices_work_under_a_refusal_of_all() {
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d && echo $d; done; \
                  echo x > /dev/null && head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
                  (echo x > /dev/full) 2>&1 | grep -o 'No space left'";
    let expected = "null\nzero\nfull\nrandom\nurandom\ntty\n2\n3\nNo space left";
    assert_eq!(sh(json!([]), script), expected);
}

#[test]
fn the_rules_hold_for_exec() {
    case(|c| {
        with(c, json!([{ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "r" }]));
        c.sleeper();
        assert_eq!(c.exec_sh(TRY), "m\nr");
    });
}

#[test]
fn a_device_that_is_not_allowed_is_there_and_refuses() {
    case(|c| {
        with(c, json!([]));
        c.set("/linux/devices", json!([{ "path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11 }]));
        assert_eq!(
            c.sh("test -c /dev/kmsg2 && (head -c 1 /dev/kmsg2) 2>&1 | grep -o 'not permitted'"),
            "not permitted"
        );
    });
}

#[test]
fn rules_survive_an_update_of_other_limits() {
    case(|c| {
        with(c, json!([{ "allow": true, "type": "b", "major": 7, "minor": 0, "access": "r" }]));
        c.sleeper();
        c.ok(&["update", "--pids-limit", "100", c.id()]);
        assert_eq!(c.exec_sh(TRY), "m\nr");
    });
}

#[test]
fn an_access_that_is_none_is_refused() {
    case(|c| {
        with(c, json!([{ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "x" }]));
        c.refused();
    });
}

#[test]
fn without_rules_the_default_devices_work() {
    case(|c| {
        assert_eq!(c.sh("echo x > /dev/null && head -c 2 /dev/zero | wc -c"), "2");
    });
}
