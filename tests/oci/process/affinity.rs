//! `process.execCPUAffinity`: of processes that join a running container.

use serde_json::json;
use tare_tests::oci::{Case, case, kernel, skip};

fn two_processors() {
    if kernel::status(own_pid(), "Cpus_allowed_list") == "0" {
        skip("this host has one processor");
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// What is said of an affinity, by create or, since it is for processes that join, by exec.
fn refused(c: &mut Case, affinity: serde_json::Value) -> String {
    c.set("/process/execCPUAffinity", affinity).args(&["/bin/sleep", "1000"]);
    if c.try_create(&[]).code != 0 {
        return c.output().1;
    }
    c.start();
    let out = c.exec(&["/bin/true"]);
    assert_ne!(out.code, 0, "not refused");
    out.stderr
}

fn joined(c: &mut Case, affinity: serde_json::Value) -> String {
    c.set("/process/execCPUAffinity", affinity);
    c.sleeper();
    c.exec_sh("grep Cpus_allowed_list /proc/self/status | cut -f2")
}

#[test]
fn final_is_that_of_the_program() {
    case(|c| {
        two_processors();
        assert_eq!(joined(c, json!({ "initial": "0", "final": "1" })), "1");
    });
}

#[test]
fn final_alone_is_enough() {
    case(|c| {
        two_processors();
        assert_eq!(joined(c, json!({ "final": "1" })), "1");
    });
}

#[test]
fn initial_does_not_outlast_the_way_into_the_container() {
    case(|c| {
        two_processors();
        assert_eq!(joined(c, json!({ "initial": "1" })), kernel::status(own_pid(), "Cpus_allowed_list"));
    });
}

#[test]
fn an_initial_that_is_no_list_of_processors_is_refused() {
    case(|c| {
        let said = refused(c, json!({ "initial": "none-such" }));
        assert!(said.contains("none-such"), "{said}");
    });
}

#[test]
fn ranges_and_lists_are_understood() {
    case(|c| {
        two_processors();
        assert_eq!(joined(c, json!({ "final": "0-0,1" })), "0-1");
    });
}

#[test]
fn the_first_process_is_not_bound_by_it() {
    case(|c| {
        two_processors();
        let own = kernel::status(own_pid(), "Cpus_allowed_list");
        let pid = c.set("/process/execCPUAffinity", json!({ "initial": "0", "final": "0" })).sleeper();
        assert_eq!(kernel::status(pid, "Cpus_allowed_list"), own);
    });
}

#[test]
fn what_is_no_list_of_processors_is_refused() {
    case(|c| {
        let said = refused(c, json!({ "final": "some" }));
        assert!(said.contains("some"), "{said}");
    });
}
