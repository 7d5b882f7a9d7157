//! `exec` with a terminal, and the terminals of containers.

use crate::lifecycle::failed_with;
use rustix::termios::tcgetwinsize;
use serde_json::json;
use tare_tests::Terminal;
use tare_tests::oci::{Case, Console, case, kernel};

/// A container with /dev/pts.
fn with_pts(c: &mut Case) -> &mut Case {
    c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"])
}

#[test]
fn the_terminal_of_a_created_container_is_sent() {
    case(|c| {
        let console = Console::listen(&c.path("console"));
        with_pts(c).set("/process/terminal", true);
        c.args(&["/bin/sh", "-c", "tty; echo two; echo lines; read x; echo got $x"]);
        let pid = c.create_with(&["--console-socket", console.path()]);
        let mut master = console.receive();
        c.start();
        let seen = master.expect("lines");
        assert!(seen.contains("/dev/pts/0") || seen.contains("/dev/console"), "{seen:?}");
        master.keys("words\n");
        master.expect("got words");
        assert_eq!(c.wait(pid), 0);
    });
}

#[test]
fn the_terminal_is_the_containers_own_and_its_controlling_one() {
    case(|c| {
        let console = Console::listen(&c.path("console"));
        with_pts(c).set("/process/terminal", true);
        c.args(&["/bin/sleep", "1000"]);
        let pid = c.create_with(&["--console-socket", console.path()]);
        let _master = console.receive();
        c.start();
        let (device, group) = (7, 8);
        assert_eq!(kernel::stat(pid, device) >> 8 & 0xff, 136, "a pts");
        assert_eq!(kernel::stat(pid, group), i64::from(pid), "the foreground's group");
        assert_eq!(c.exec_sh("ls /dev/pts | tr '\\n' ' '; test -c /dev/console && echo console"), "0 ptmx console");
        assert_eq!(kernel::mount(pid, "/dev/console").kind, "devpts");
    });
}

#[test]
fn the_size_is_as_configured() {
    case(|c| {
        let console = Console::listen(&c.path("console"));
        with_pts(c).set("/process/terminal", true).set("/process/consoleSize", json!({ "height": 33, "width": 77 }));
        c.args(&["/bin/sh", "-c", "stty size; sleep 1000"]);
        c.create_with(&["--console-socket", console.path()]);
        let mut master = console.receive();
        c.start();
        master.expect("33 77");
        let size = tcgetwinsize(master.fd()).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 77));
    });
}

#[test]
fn the_terminal_belongs_to_the_user() {
    case(|c| {
        let console = Console::listen(&c.path("console"));
        with_pts(c).set("/process/terminal", true).set("/process/user/uid", 33);
        c.args(&["/bin/sh", "-c", "stat -L -c 'owner %u' /dev/stdin; sleep 1000"]);
        c.create_with(&["--console-socket", console.path()]);
        let mut master = console.receive();
        c.start();
        master.expect("owner 33");
    });
}

#[test]
fn an_exec_may_have_a_terminal_of_its_own() {
    case(|c| {
        with_pts(c).sleeper();
        let console = Console::listen(&c.path("console"));
        let pid_file = c.path("exec-pid").display().to_string();
        let words = ["exec", "--tty", "--detach", "--console-socket", console.path(), "--pid-file", &pid_file];
        c.ok(&[&words[..], &[c.id(), "/bin/sh", "-c", "tty; read x; echo got $x"]].concat());
        let mut master = console.receive();
        master.expect("/dev/pts/0");
        master.keys("words\n");
        master.expect("got words");
        let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        assert_eq!(c.wait(pid), 0);
    });
}

#[test]
fn an_exec_in_the_foreground_relays_the_callers_terminal() {
    case(|c| {
        with_pts(c).sleeper();
        let words = ["exec", "--tty", c.id(), "/bin/sh", "-c", "tty; stty size; stty -a; read x; echo got $x; exit 5"];
        let mut terminal = Terminal::start(&c.command(&words));
        terminal.expect("/dev/pts/0");
        terminal.expect("24 80");
        // The caller's own terminal ends lines; a second carriage return would be one too many.
        terminal.expect("-onlcr");
        terminal.resize(30, 90);
        terminal.keys("words\n");
        terminal.expect("got words");
        assert_eq!(terminal.wait(), 5);
        assert!(terminal.is_cooked());
    });
}

#[test]
fn a_terminal_wants_somebody_to_take_it() {
    case(|c| {
        with_pts(c).sleeper();
        let out = c.oci(&["exec", "-t", "-d", c.id(), "/bin/true"]);
        failed_with(&out, 255, "cannot allocate tty if");
        let out = c.oci(&["exec", "--console-socket", "/no/such", c.id(), "/bin/true"]);
        failed_with(&out, 255, "cannot use console socket if");
    });
}
