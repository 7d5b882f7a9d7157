//! The attackers' program: probe.c, compiled once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use tare_tests::oci::Case;

const SOURCE: &str = include_str!("probe.c");

/// Where it lies on the host.
pub(crate) fn on_host() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let path = std::env::temp_dir().join(format!("tare-escapes-probe-{:x}", hasher.finish()));
    if !path.exists() {
        // Made aside and renamed: every test is a process of its own.
        let aside = std::env::temp_dir().join(tare_tests::unique("tare-escapes-probe-"));
        tare_tests::compile(SOURCE, &aside);
        std::fs::rename(aside, &path).unwrap();
    }
    path
}

/// Puts it into the root filesystem, as /probe.
pub(crate) fn install(c: &Case) {
    put(&c.inside("/probe"));
}

/// Puts it there.
pub(crate) fn put(path: &Path) {
    std::fs::copy(on_host(), path).unwrap();
}
