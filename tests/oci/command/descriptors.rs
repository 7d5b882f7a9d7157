//! `--preserve-fds` and `LISTEN_FDS` of `create` and `run`.

use std::process::Command;
use tare_tests::oci::{Case, case};
use tare_tests::{Running, command};

/// Two files, and `run` with them as descriptors 3 and 4; `before` is put before the runtime's words. What the script
/// printed.
#[track_caller]
fn run(c: &mut Case, before: &str, flags: &[&str], script: &str) -> String {
    std::fs::write(c.path("third"), "third\n").unwrap();
    std::fs::write(c.path("fourth"), "fourth\n").unwrap();
    c.args(&["/bin/sh", "-c", script]).write();
    c.note(c.id().to_owned());
    let inner = c.command(&[&["run"], flags, &["--bundle", &c.bundle(), c.id()]].concat());
    let mut shell = through_shell(c, &inner, before);
    let out = Running::start(&mut shell, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    out.stdout
}

fn through_shell(c: &Case, inner: &Command, before: &str) -> Command {
    let mut shell = command("/bin/sh");
    let words = format!("{before} exec \"$@\" 3<third 4<fourth");
    shell.args(["-c", &words, "sh"]).arg(inner.get_program()).args(inner.get_args()).current_dir(c.path(""));
    shell
}

const OPEN: &str = "for n in 3 4 5 6 7 8 9; do test -e /proc/self/fd/$n && echo $n; done; true";

#[test]
fn none_is_passed_unless_asked_for() {
    case(|c| assert_eq!(run(c, "", &[], OPEN), ""));
}

#[test]
fn as_many_are_passed_as_asked_for() {
    case(|c| {
        assert_eq!(
            run(c, "", &["--preserve-fds", "1"], "cat <&3; test -e /proc/self/fd/4 || echo closed"),
            "third\nclosed\n"
        )
    });
    case(|c| assert_eq!(run(c, "", &["--preserve-fds", "2"], "cat <&3; cat <&4"), "third\nfourth\n"));
}

#[test]
fn descriptors_of_socket_activation_are_passed_and_told() {
    case(|c| {
        let before = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b; export LISTEN_FDS LISTEN_PID LISTEN_FDNAMES;";
        let printed = run(c, before, &[], "cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID");
        assert_eq!(printed, "third\nfourth\n2 1\n");
    });
}

#[test]
fn descriptors_of_socket_activation_for_another_process_are_not() {
    case(|c| {
        let printed = run(c, "LISTEN_FDS=1 LISTEN_PID=1; export LISTEN_FDS LISTEN_PID;", &[], "echo =$LISTEN_FDS=");
        assert_eq!(printed, "==\n");
    });
}

#[test]
fn both_kinds_stand_behind_one_another() {
    case(|c| {
        let before = "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID;";
        let printed = run(c, before, &["--preserve-fds", "1"], "cat <&3; cat <&4; echo $LISTEN_FDS");
        assert_eq!(printed, "third\nfourth\n1\n");
    });
}
