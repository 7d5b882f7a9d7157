//! runtime.md: the life of a container, each command in each state.

mod create;
mod cycles;
mod delete;
mod kill;
mod refused;
mod run;
mod states;

use tare_tests::Output;
use tare_tests::oci::{Case, kernel, layout};

/// Fails unless a command ended with this exit code and these words on standard error.
#[track_caller]
pub(crate) fn failed_with(out: &Output, code: i32, words: &str) {
    assert!(out.code == code && out.stderr.contains(words), "expected {code} and {words:?}: {out:?}");
}

/// Fails if anything of the container is left: for the runtime, in the kernel, on disk.
#[track_caller]
pub(crate) fn nothing_is_left(c: &Case) {
    failed_with(&c.oci(&["state", c.id()]), 1, "does not exist");
    let state = std::fs::read_dir(c.state_root()).into_iter().flatten().flatten();
    let of_it = state.map(|e| e.file_name()).filter(|n| n.to_string_lossy().contains(c.id()));
    assert_eq!(of_it.count(), 0, "files in {}", c.state_root().display());
    let groups = layout().directories(c.cgroup());
    assert!(groups.is_empty(), "{groups:?}");
    let me = i32::try_from(std::process::id()).unwrap();
    let alive = |pid: &i32| !kernel::proc(*pid, "stat").contains(") Z ");
    let processes: Vec<i32> = kernel::descendants(me).into_iter().filter(alive).collect();
    assert!(processes.is_empty(), "processes {processes:?}");
    let mounts = kernel::proc(me, "mountinfo");
    assert!(!mounts.contains(&c.bundle()), "{mounts}");
}
