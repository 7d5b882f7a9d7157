//! `process.execCPUAffinity`: of processes that join a running container.

use serde_json::json;
use tare_tests::oci::{Case, case, kernel, skip};

fn two_processors() {
    if kernel::status(i32::try_from(std::process::id()).unwrap(), "Cpus_allowed_list") == "0" {
        skip("this host has one processor");
    }
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
fn initial_stays_when_nothing_changes_it() {
    case(|c| {
        two_processors();
        // Before 6.2 the kernel forgot what a process had asked for when it joined a cpuset.
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
        if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
            skip("this kernel forgets an affinity that a process has asked for when it joins a cgroup");
        }
        assert_eq!(joined(c, json!({ "initial": "1" })), "1");
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
        let own = kernel::status(i32::try_from(std::process::id()).unwrap(), "Cpus_allowed_list");
        let pid = c.set("/process/execCPUAffinity", json!({ "initial": "0", "final": "0" })).sleeper();
        assert_eq!(kernel::status(pid, "Cpus_allowed_list"), own);
    });
}

#[test]
fn what_is_no_list_of_processors_is_refused() {
    case(|c| {
        c.set("/process/execCPUAffinity", json!({ "final": "some" })).args(&["/bin/sleep", "1000"]);
        let out = c.try_create(&[]);
        let said = if out.code == 0 {
            c.start();
            c.exec(&["/bin/true"]).stderr
        } else {
            c.output().1
        };
        assert!(said.contains("some"), "{said}");
    });
}
