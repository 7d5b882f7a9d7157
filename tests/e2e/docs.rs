//! The documents' examples do what they say.

use std::path::Path;
use tare_tests::docs::check;

fn document(path: &str) {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path));
}

#[test]
fn readme() {
    document("README.md");
}

#[test]
fn a_container_taken_apart() {
    document("docs/guide/a-container-taken-apart.md");
}

#[test]
fn oci_runtime() {
    document("docs/guide/oci-runtime.md");
    // podman leaves the group above those of its containers. Where another podman has one in it, it stays.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("libpod_parent"));
    }
}
