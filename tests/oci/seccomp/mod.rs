//! config-linux.md, "Seccomp".

mod actions;
mod architectures;
mod listener;
mod operators;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tare_tests::oci::Case;

/// A filter that allows everything but what these rules say.
fn filter(c: &mut Case, rules: Value) {
    c.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }));
}

/// Puts a program at /tmp/NAME of the container.
fn program(c: &Case, name: &str, bytes: &[u8]) -> String {
    let path = format!("/tmp/{name}");
    std::fs::write(c.inside(&path), bytes).unwrap();
    std::fs::set_permissions(c.inside(&path), std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
