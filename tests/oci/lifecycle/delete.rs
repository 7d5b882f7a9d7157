//! `delete`.

use super::{failed_with, nothing_is_left};
use tare_tests::oci::{case, kernel, layout};

#[test]
fn what_runs_is_not_deleted() {
    case(|c| {
        let pid = c.sleeper();
        let out = c.oci(&["delete", c.id()]);
        failed_with(&out, 1, "that is not stopped: running");
        assert!(kernel::proc(pid, "cmdline").contains("1000"));
        assert_eq!(c.state()["status"], "running");
    });
}

#[test]
fn what_was_only_created_is_ended_and_deleted() {
    case(|c| {
        let pid = c.args(&["/bin/touch", "/tmp/began"]).create();
        c.ok(&["delete", c.id()]);
        assert_eq!(c.wait(pid), 137);
        assert!(!c.inside("/tmp/began").exists());
        nothing_is_left(c);
    });
}

#[test]
fn what_has_stopped_leaves_nothing() {
    case(|c| {
        let pid = c.up("true");
        // A scope of systemd's ends with its last process.
        assert!(c.cgroup().ends_with(".scope") || !layout().directories(c.cgroup()).is_empty());
        c.wait(pid);
        c.ok(&["delete", c.id()]);
        nothing_is_left(c);
        failed_with(&c.oci(&["delete", c.id()]), 1, "does not exist");
    });
}

#[test]
fn force_ends_what_runs() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["delete", "-f", c.id()]);
        assert_eq!(c.wait(pid), 137);
        nothing_is_left(c);
    });
}

#[test]
fn force_ends_what_is_paused() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["pause", c.id()]);
        c.ok(&["delete", "--force", c.id()]);
        assert_eq!(c.wait(pid), 137);
        nothing_is_left(c);
    });
}

#[test]
fn groups_that_the_container_made_below_go_too() {
    case(|c| {
        let pid = c.sleeper();
        for directory in layout().directories(c.cgroup()) {
            std::fs::create_dir_all(directory.join("made/below")).unwrap();
        }
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        c.ok(&["delete", c.id()]);
        nothing_is_left(c);
    });
}

#[test]
fn a_state_that_is_damaged_can_be_deleted_by_force() {
    case(|c| {
        let pid = c.sleeper();
        std::fs::remove_file(c.path("config.json")).unwrap();
        assert_eq!(c.state()["status"], "running", "the bundle's file is not needed any more");
        c.ok(&["delete", "--force", c.id()]);
        assert_eq!(c.wait(pid), 137);
        nothing_is_left(c);
    });
}
