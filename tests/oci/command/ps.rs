//! `ps`.

use crate::lifecycle::failed_with;
use tare_tests::oci::{case, kernel};

#[test]
fn the_table_has_one_row_for_each_process() {
    case(|c| {
        let pid = c.up("sleep 1000 & wait");
        c.until("there is a child", || kernel::descendants(pid).len() == 1);
        let child = kernel::descendants(pid)[0];
        c.until("it sleeps", || kernel::proc(child, "cmdline").contains("1000"));
        let table = c.ok(&["ps", c.id()]);
        let mut lines = table.lines();
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert!(head.contains(&"PID") && head.contains(&"CMD"), "{table}");
        let column = head.iter().position(|h| *h == "PID").unwrap();
        let mut pids: Vec<i32> = lines.map(|l| l.split_whitespace().nth(column).unwrap().parse().unwrap()).collect();
        pids.sort_unstable();
        let mut expected = vec![pid, child];
        expected.sort_unstable();
        assert_eq!(pids, expected);
        assert!(table.contains("sleep 1000"), "{table}");
    });
}

#[test]
fn json_is_a_list_of_numbers() {
    case(|c| {
        let pid = c.sleeper();
        for flags in [["--format", "json"], ["-f", "json"]] {
            let pids: Vec<i32> = serde_json::from_str(&c.ok(&["ps", flags[0], flags[1], c.id()])).unwrap();
            assert_eq!(pids, [pid]);
        }
    });
}

#[test]
fn arguments_are_those_of_ps() {
    case(|c| {
        let pid = c.sleeper();
        let table = c.ok(&["ps", c.id(), "-o", "pid,comm"]);
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["PID", "COMMAND"], vec![&pid.to_string(), "sleep"]]);
    });
}

#[test]
fn a_format_that_is_none_is_an_error() {
    case(|c| {
        c.sleeper();
        failed_with(&c.oci(&["ps", "--format", "bogus", c.id()]), 1, "format");
    });
}

#[test]
fn what_is_paused_is_listed() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["pause", c.id()]);
        assert_eq!(c.ok(&["ps", "-f", "json", c.id()]), format!("[{pid}]"));
    });
}
