//! `run`.

use super::{failed_with, nothing_is_left};
use tare_tests::oci::{case, kernel};
use tare_tests::{Running, Terminal};

#[test]
fn the_exit_code_is_the_programs() {
    case(|c| {
        for code in [0, 1, 3, 42, 255] {
            assert_eq!(c.args(&["/bin/sh", "-c", &format!("exit {code}")]).run().code, code);
        }
    });
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    case(|c| {
        // The first process of a PID namespace is spared the signals that it sends itself.
        c.share("pid");
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("ABRT", 134)] {
            assert_eq!(c.args(&["/bin/sh", "-c", &format!("kill -{signal} $$")]).run().code, code, "{signal}");
        }
    });
}

#[test]
fn streams_pass_through_and_stay_apart() {
    case(|c| {
        c.args(&["/bin/sh", "-c", "cat; echo error >&2"]).write();
        c.note(c.id().to_owned());
        let mut command = c.command(&["run", "--bundle", &c.bundle(), c.id()]);
        let out = Running::start(&mut command, Some(b"from the outside\n")).wait();
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "from the outside\n", "error\n"));
    });
}

#[test]
fn nothing_is_left_afterwards() {
    case(|c| {
        assert_eq!(c.args(&["/bin/false"]).run().code, 1);
        nothing_is_left(c);
    });
}

#[test]
fn keep_leaves_what_has_stopped() {
    case(|c| {
        c.args(&["/bin/true"]).write();
        c.note(c.id().to_owned());
        c.ok(&["run", "--keep", "--bundle", &c.bundle(), c.id()]);
        assert_eq!(c.state()["status"], "stopped");
        c.ok(&["delete", c.id()]);
        nothing_is_left(c);
    });
}

#[test]
fn detached_it_runs_on() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).write();
        c.note(c.id().to_owned());
        let pid_file = c.path("pid").display().to_string();
        let out = c.oci(&["run", "--detach", "--pid-file", &pid_file, "--bundle", &c.bundle(), c.id()]);
        assert_eq!((out.code, out.stdout.as_str()), (0, ""), "{out:?}");
        let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        assert_eq!(c.state()["status"], "running");
        assert_eq!(c.state()["pid"], pid);
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137);
        c.until_status("stopped");
    });
}

#[test]
fn the_pid_file_is_written_in_the_foreground_too() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).write();
        c.note(c.id().to_owned());
        let pid_file = c.path("pid").display().to_string();
        let mut command = c.command(&["run", "--pid-file", &pid_file, "--bundle", &c.bundle(), c.id()]);
        let running = Running::start(&mut command, None);
        c.until("the file is there", || std::fs::read_to_string(&pid_file).is_ok_and(|t| !t.is_empty()));
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert_eq!(kernel::status(pid, "NSpid"), format!("{pid} 1"));
        c.until_status("running");
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(running.wait().code, 137);
    });
}

#[test]
fn signals_are_passed_on() {
    case(|c| {
        let script = "trap 'echo told; exit 9' TERM; echo ready; while true; do sleep 0.02; done";
        c.args(&["/bin/sh", "-c", script]).write();
        c.note(c.id().to_owned());
        let running = Running::start(&mut c.command(&["run", "--bundle", &c.bundle(), c.id()]), None);
        c.until("it is ready", || running.printed().0.contains("ready"));
        running.signal(rustix::process::Signal::TERM);
        let out = running.wait();
        assert_eq!((out.code, out.stdout.as_str()), (9, "ready\ntold\n"));
    });
}

#[test]
fn a_terminal_is_passed_through_with_its_size() {
    case(|c| {
        c.set("/process/terminal", true);
        c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
        c.args(&["/bin/sh", "-c", "test -t 0 && test -t 1 && stty size; read x; echo got $x"]).write();
        c.note(c.id().to_owned());
        let mut terminal = Terminal::start(&c.command(&["run", "--bundle", &c.bundle(), c.id()]));
        terminal.expect("24 80");
        terminal.keys("words\n");
        terminal.expect("got words");
        assert_eq!(terminal.wait(), 0);
        assert!(terminal.is_cooked(), "the caller's terminal is as it was");
    });
}

#[test]
fn without_an_id_it_is_an_error() {
    case(|c| {
        failed_with(&c.oci(&["run", "--bundle", &c.bundle()]), 1, "requir");
    });
}
