//! `kill`.

use super::failed_with;
use tare_tests::oci::{Case, case, kernel};

/// A container that says which of these signals has come.
fn listener(c: &mut Case, signals: &[&str]) {
    let traps: String = signals.iter().map(|s| format!("trap 'echo {s}' {s}; ")).collect();
    c.up(&format!("{traps} echo listens; while true; do sleep 0.02; done"));
    c.until("it listens", || c.output().0.contains("listens"));
}

fn heard(c: &Case, signal: &str) {
    c.until(&format!("{signal} is heard"), || c.output().0.lines().any(|l| l == signal));
}

#[test]
fn the_signal_is_term_unless_told() {
    case(|c| {
        listener(c, &["TERM"]);
        c.ok(&["kill", c.id()]);
        heard(c, "TERM");
    });
}

#[test]
fn signals_have_names_and_numbers() {
    case(|c| {
        listener(c, &["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TERM"]);
        for (given, signal) in [
            ("SIGHUP", "HUP"),
            ("INT", "INT"),
            ("sigquit", "QUIT"),
            ("usr1", "USR1"),
            ("12", "USR2"),
            ("SIGWINCH", "WINCH"),
            ("15", "TERM"),
        ] {
            c.ok(&["kill", c.id(), given]);
            heard(c, signal);
        }
    });
}

#[test]
fn signal_zero_asks_and_does_nothing() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["kill", c.id(), "0"]);
        assert!(kernel::proc(pid, "cmdline").contains("1000"));
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        failed_with(&c.oci(&["kill", c.id(), "0"]), 1, "not running");
    });
}

#[test]
fn signals_that_are_none_are_errors() {
    case(|c| {
        let pid = c.sleeper();
        for signal in ["NOSUCH", "SIG", "SIGKILLX", "9x"] {
            failed_with(&c.oci(&["kill", c.id(), signal]), 1, "unknown signal");
        }
        let out = c.oci(&["kill", c.id(), "99"]);
        assert_eq!(out.code, 1, "{out:?}");
        assert!(kernel::proc(pid, "cmdline").contains("1000"));
    });
}

#[test]
fn what_was_only_created_can_be_killed() {
    case(|c| {
        let pid = c.args(&["/bin/touch", "/tmp/began"]).create();
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
        c.until_status("stopped");
        failed_with(&c.oci(&["start", c.id()]), 1, "stopped");
        assert!(!c.inside("/tmp/began").exists());
        c.ok(&["delete", c.id()]);
    });
}

#[test]
fn what_is_paused_dies_of_kill() {
    case(|c| {
        let pid = c.sleeper();
        c.ok(&["pause", c.id()]);
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
        c.until_status("stopped");
        c.ok(&["delete", c.id()]);
        super::nothing_is_left(c);
    });
}

#[test]
fn the_first_process_is_told_and_no_other() {
    case(|c| {
        c.share("pid");
        let pid = c.up("sleep 1000 & trap 'echo told' USR1; echo ready; while true; do sleep 0.02; done");
        c.until("it is ready", || c.output().0.contains("ready"));
        c.ok(&["kill", c.id(), "USR1"]);
        c.until("it was told", || c.output().0.contains("told"));
        // Others come and go.
        let sleeps = |d: &i32| std::fs::read_to_string(format!("/proc/{d}/cmdline")).is_ok_and(|l| l.contains("1000"));
        assert_eq!(kernel::descendants(pid).iter().filter(|d| sleeps(d)).count(), 1);
    });
}

/// A container without a PID namespace of its own, whose first process has one child that sleeps.
fn shared(c: &mut Case) -> (i32, i32) {
    c.share("pid");
    let pid = c.up("sleep 1000 & wait");
    let mut child = 0;
    c.until("the child sleeps", || {
        let found = kernel::descendants(pid).into_iter().find(|d| kernel::proc(*d, "cmdline").contains("1000"));
        child = found.unwrap_or_default();
        found.is_some()
    });
    (pid, child)
}

fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
}

#[test]
fn all_means_every_process_of_the_container() {
    case(|c| {
        let (pid, child) = shared(c);
        c.ok(&["kill", "--all", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
        c.until("the child is gone", || is_gone(child));
    });
}

#[test]
fn all_reaches_those_that_are_left_when_the_first_is_gone() {
    case(|c| {
        let (pid, child) = shared(c);
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        c.wait(pid);
        assert!(!is_gone(child));
        assert_eq!(c.state()["status"], "stopped");
        c.ok(&["kill", "--all", c.id(), "KILL"]);
        c.until("the child is gone", || is_gone(child));
    });
}

#[test]
fn delete_ends_those_that_are_left() {
    case(|c| {
        let (pid, child) = shared(c);
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        c.wait(pid);
        c.ok(&["delete", "--force", c.id()]);
        c.until("the child is gone", || is_gone(child));
        super::nothing_is_left(c);
    });
}
