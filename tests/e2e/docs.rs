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
fn disk_space() {
    document("docs/guide/disk-space.md");
}

#[test]
fn networking() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    tare_tests::docs::check_on_a_lan(&root.join("docs/guide/networking.md"));
}

#[test]
fn oci_runtime() {
    document("docs/guide/oci-runtime.md");
    // podman leaves the groups above those of its containers. Where another podman has one in them, they stay.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for group in ["libpod_parent/conmon", "libpod_parent"] {
            let path = hierarchy.path().join(group);
            // conmon ends a moment after its container.
            tare_tests::eventually(std::time::Duration::from_secs(2), || {
                !path.exists() || std::fs::remove_dir(&path).is_ok()
            });
        }
    }
}
