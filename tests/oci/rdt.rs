//! config-linux.md, "IntelRdt". Few processors have it, so what can be held everywhere is that whoever asks for it where
//! it is missing is told, by the name of what was asked for.

use serde_json::{Value, json};
use std::path::Path;
use tare_tests::oci::{Case, case};

/// Whether this host has resctrl mounted, where the runtime could write.
fn has_resctrl() -> bool {
    Path::new("/sys/fs/resctrl/schemata").exists()
}

/// A container with one field of intelRdt: refused without resctrl, with words that name the field.
fn one_field(c: &mut Case, field: &str, value: Value) {
    c.set(&format!("/linux/intelRdt/{field}"), value);
    if !has_resctrl() {
        let said = c.refused();
        assert!(said.contains("intelRdt") || said.to_lowercase().contains("intel rdt"), "{said}");
        assert!(said.contains(field), "{said}");
    }
}

#[test]
fn a_class_of_service_needs_resctrl() {
    case(|c| {
        one_field(c, "closID", json!("tare-suite"));
        if has_resctrl() {
            let pid = c.sleeper();
            let tasks = std::fs::read_to_string("/sys/fs/resctrl/tare-suite/tasks").unwrap();
            assert!(tasks.lines().any(|l| l == pid.to_string()), "{tasks}");
        }
    });
}

#[test]
fn schemata_need_resctrl() {
    case(|c| one_field(c, "schemata", json!(["L3:0=f"])));
}

#[test]
fn a_cache_schema_needs_resctrl() {
    case(|c| one_field(c, "l3CacheSchema", json!("L3:0=f")));
}

#[test]
fn a_bandwidth_schema_needs_resctrl() {
    case(|c| one_field(c, "memBwSchema", json!("MB:0=50")));
}

#[test]
fn monitoring_needs_resctrl() {
    case(|c| one_field(c, "enableMonitoring", json!(true)));
}

#[test]
fn a_class_of_service_that_leads_elsewhere_is_refused() {
    case(|c| {
        let said = c.set("/linux/intelRdt/closID", "../escape").refused();
        assert!(said.to_lowercase().contains("closid"), "{said}");
    });
}
