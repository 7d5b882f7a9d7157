//! `process.terminal` and `consoleSize`.

use rustix::termios::{OutputModes, tcgetattr, tcgetwinsize};
use serde_json::json;
use tare_tests::Terminal;
use tare_tests::oci::{Case, Console, Master, case, kernel};

/// Creates and starts a container with a terminal that runs this script: its first process and the terminal's master.
#[track_caller]
fn up(c: &mut Case, script: &str) -> (i32, Master) {
    c.set("/process/terminal", true).args(&["/bin/sh", "-c", script]);
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    c.mount("/dev/pts", "devpts", "devpts", &options);
    let console = Console::listen(&c.path("console"));
    let pid = c.create_with(&["--console-socket", console.path()]);
    let master = console.receive();
    c.start();
    (pid, master)
}

#[test]
fn streams_are_the_terminal() {
    case(|c| {
        let (pid, mut master) = up(c, "tty; test -t 0 -a -t 1 -a -t 2 && echo all; read x");
        let seen = master.expect("all");
        assert!(seen.starts_with("/dev/pts/0") || seen.starts_with("/dev/console"), "{seen}");
        master.keys("\n");
        assert_eq!(c.wait(pid), 0);
    });
}

#[test]
fn the_terminal_is_the_controlling_one() {
    case(|c| {
        let (pid, mut master) =
            up(c, "echo by-name > /dev/tty; trap 'echo interrupted; exit 3' INT; echo ready; sleep 60 & wait");
        master.expect("ready");
        assert!(master.expect("by-name").contains("by-name"));
        assert_ne!(kernel::stat(pid, 7), 0, "it has a controlling terminal");
        master.keys("\x03");
        master.expect("interrupted");
        assert_eq!(c.wait(pid), 3);
    });
}

#[test]
fn console_is_the_terminal() {
    case(|c| {
        let (pid, mut master) = up(c, "echo to-console > /dev/console; stat -c %t:%T:%a /dev/console; read x");
        assert!(master.expect("to-console").contains("to-console"));
        let seen = master.expect("88:0");
        assert!(seen.contains("88:0:6"), "{seen}");
        assert_eq!(kernel::mount(pid, "/dev/console").kind, "devpts");
    });
}

#[test]
fn console_size_is_the_terminals() {
    case(|c| {
        c.set("/process/consoleSize", json!({ "height": 37, "width": 111 }));
        let (_, mut master) = up(c, "stty size; read x");
        master.expect("37 111");
        let size = tcgetwinsize(master.fd()).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (37, 111));
    });
}

#[test]
fn whoever_takes_the_terminal_gets_it_as_the_kernel_makes_it() {
    case(|c| {
        let (_, mut master) = up(c, "printf 'a\\nb\\n'; echo end; read x");
        assert_eq!(master.expect("end\r\n"), "a\r\nb\r\nend\r\n");
        assert!(tcgetattr(master.fd()).unwrap().output_modes.contains(OutputModes::ONLCR));
    });
}

#[test]
fn run_shows_each_line_end_once() {
    case(|c| {
        c.set("/process/terminal", true).args(&[
            "/bin/sh",
            "-c",
            "printf 'a\\nb\\n'; echo end; read x; echo got $x; exit 5",
        ]);
        c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
        c.write();
        c.note(c.id().to_owned());
        let mut terminal = Terminal::start(&c.command(&["run", "--bundle", &c.bundle(), c.id()]));
        // What the container's own terminal adds and what that of the caller adds must not come together.
        assert!(terminal.expect("end\r\n").ends_with("a\r\nb\r\n"), "{:?}", terminal.screen());
        assert!(!terminal.is_cooked(), "keys go to the container as they are typed");
        terminal.keys("word\r");
        terminal.expect("got word\r\n");
        assert_eq!(terminal.wait(), 5);
        assert!(terminal.is_cooked(), "the caller's terminal is as it was");
    });
}

#[test]
fn the_terminal_belongs_to_the_user() {
    case(|c| {
        c.set("/process/user/uid", 33);
        let (_, mut master) = up(c, "stat -L -c 'owner %u' /proc/self/fd/0; read x");
        master.expect("owner 33");
    });
}

#[test]
fn a_terminal_without_anyone_who_takes_it_is_refused() {
    case(|c| {
        c.set("/process/terminal", true);
        let out = c.try_create(&[]);
        assert_ne!(out.code, 0);
        let (_, stderr) = c.output();
        assert!(stderr.contains("console"), "{stderr}");
    });
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    case(|c| {
        let console = Console::listen(&c.path("console"));
        let out = c.try_create(&["--console-socket", console.path()]);
        assert_ne!(out.code, 0);
        let (_, stderr) = c.output();
        assert!(stderr.contains("terminal") || stderr.contains("tty"), "{stderr}");
    });
}

#[test]
fn closing_the_master_hangs_up() {
    case(|c| {
        let (pid, mut master) = up(c, "trap 'exit 9' HUP; echo ready; sleep 60 & wait");
        master.expect("ready");
        drop(master);
        assert_eq!(c.wait(pid), 9);
    });
}
