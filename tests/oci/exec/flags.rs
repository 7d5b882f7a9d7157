//! Flags of `exec`.

use super::{detached, exec, left_to_the_test};
use crate::lifecycle::failed_with;
use tare_tests::oci::{case, kernel};
use tare_tests::{Running, command};

#[test]
fn the_exit_code_is_the_programs() {
    case(|c| {
        c.sleeper();
        for code in [0, 1, 7, 255] {
            assert_eq!(c.exec(&["/bin/sh", "-c", &format!("exit {code}")]).code, code);
        }
        assert_eq!(c.exec(&["/bin/sh", "-c", "kill -KILL $$"]).code, 137);
        assert_eq!(c.exec(&["/bin/sh", "-c", "kill -TERM $$"]).code, 143);
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_255_and_said() {
    case(|c| {
        let pid = c.sleeper();
        failed_with(&c.exec(&["no-such-program"]), 255, "executable file not found in $PATH");
        failed_with(&c.exec(&["/no/such/program"]), 255, "no such file or directory");
        failed_with(&c.exec(&["/etc/passwd"]), 255, "permission denied");
        failed_with(&c.exec(&[]), 255, "args cannot be empty");
        assert_eq!(kernel::descendants(i32::try_from(std::process::id()).unwrap()), [pid]);
    });
}

#[test]
fn words_behind_the_id_are_the_commands_own() {
    case(|c| {
        c.sleeper();
        assert_eq!(c.ok(&["exec", c.id(), "/bin/echo", "--cwd", "-d", "--", "-t"]), "--cwd -d -- -t");
        assert_eq!(c.ok(&["exec", c.id(), "/bin/echo", "-n", "x"]), "x");
    });
}

#[test]
fn streams_are_the_callers() {
    case(|c| {
        c.sleeper();
        let mut command = c.command(&["exec", c.id(), "/bin/sh", "-c", "cat; echo error >&2"]);
        let out = Running::start(&mut command, Some(b"from the outside\n")).wait();
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "from the outside\n", "error\n"));
    });
}

#[test]
fn the_working_directory_is_the_containers_or_the_flags() {
    case(|c| {
        c.set("/process/cwd", "/var");
        c.sleeper();
        assert_eq!(exec(c, &[], "pwd"), "/var");
        assert_eq!(exec(c, &["--cwd", "/tmp"], "pwd"), "/tmp");
        failed_with(&c.oci(&["exec", "--cwd", "/no/such", c.id(), "/bin/true"]), 255, "/no/such");
    });
}

#[test]
fn variables_are_the_containers_and_the_flags() {
    case(|c| {
        c.set("/process/env/-", "OF=container").set("/process/env/-", "BOTH=container");
        c.sleeper();
        let flags = ["--env", "BY=flag", "--env", "BOTH=flag", "--env", "WITH=a=b c"];
        assert_eq!(exec(c, &flags, "echo $OF $BY $BOTH $WITH"), "container flag flag a=b c");
        failed_with(&c.oci(&["exec", "-e", "NOTHING", c.id(), "/bin/true"]), 255, "environment variable");
    });
}

#[test]
fn the_user_is_the_containers_or_the_flags() {
    case(|c| {
        c.set("/process/user/uid", 33).set("/process/user/gid", 34);
        c.sleeper();
        assert_eq!(exec(c, &[], "id -u; id -g"), "33\n34");
        let root = exec(c, &["--user", "0:0"], "id -u; id -g");
        assert_eq!(root, "0\n0");
        assert_eq!(exec(c, &["-u", "5:6"], "id -u; id -g"), "5\n6");
        assert_eq!(exec(c, &["-u", "5"], "id -u"), "5");
        assert_eq!(c.oci(&["exec", "-u", "nobody", c.id(), "/bin/true"]).code, 255);
    });
}

#[test]
fn additional_groups_are_those_of_the_flags() {
    case(|c| {
        c.sleeper();
        let groups = |flags: &[&str]| {
            let out = exec(c, flags, "grep Groups /proc/self/status");
            out.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(groups(&["--additional-gids", "7", "--additional-gids", "88"]), ["7", "88"]);
    });
}

#[test]
fn capabilities_are_the_containers_and_the_flags() {
    case(|c| {
        let (kill, net_raw) = (1u64 << 5, 1u64 << 13);
        let sets = ["bounding", "effective", "permitted"];
        for set in sets {
            c.set(&format!("/process/capabilities/{set}"), vec!["CAP_KILL"]);
        }
        c.sleeper();
        let pid = detached(c, &[]);
        assert_eq!(kernel::capabilities(pid, "CapEff"), kill);
        assert_eq!(kernel::capabilities(pid, "CapBnd"), kill);
        let pid = detached(c, &["--cap", "CAP_NET_RAW"]);
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(kernel::capabilities(pid, set), kill | net_raw, "{set}");
        }
    });
}

#[test]
fn no_capability_is_left_to_another_user() {
    case(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c.set(&format!("/process/capabilities/{set}"), vec!["CAP_KILL"]);
        }
        c.sleeper();
        let pid = detached(c, &["--user", "33:33"]);
        assert_eq!(kernel::capabilities(pid, "CapEff"), 0);
        assert_eq!(kernel::capabilities(pid, "CapBnd"), 1 << 5);
    });
}

#[test]
fn no_new_privileges_by_flag() {
    case(|c| {
        c.sleeper();
        assert_eq!(kernel::status(detached(c, &[]), "NoNewPrivs"), "0");
        assert_eq!(kernel::status(detached(c, &["--no-new-privs"]), "NoNewPrivs"), "1");
    });
}

#[test]
fn no_new_privileges_of_the_container_hold() {
    case(|c| {
        c.set("/process/noNewPrivileges", true);
        c.sleeper();
        assert_eq!(kernel::status(detached(c, &[]), "NoNewPrivs"), "1");
    });
}

#[test]
fn no_new_privileges_of_the_container_are_switched_off() {
    case(|c| {
        c.set("/process/noNewPrivileges", true);
        c.sleeper();
        assert_eq!(kernel::status(detached(c, &["--no-new-privs=false"]), "NoNewPrivs"), "0");
    });
}

#[test]
fn detached_it_runs_on_and_its_pid_is_told() {
    case(|c| {
        c.sleeper();
        let pid = left_to_the_test(c, &[]);
        assert_eq!(kernel::status(pid, "PPid"), std::process::id().to_string());
        assert!(kernel::status(pid, "NSpid").split(' ').nth(1).is_some_and(|inner| inner != "1"));
        c.ok(&["kill", c.id(), "KILL"]);
        assert_eq!(c.wait(pid), 137, "it ends with the container's first process");
    });
}

#[test]
fn the_pid_file_is_written_in_the_foreground_too() {
    case(|c| {
        c.sleeper();
        let pid_file = c.path("exec-pid").display().to_string();
        let mut command = c.command(&["exec", "--pid-file", &pid_file, c.id(), "/bin/sleep", "3000"]);
        let running = Running::start(&mut command, None);
        c.until("the file is there", || std::fs::read_to_string(&pid_file).is_ok_and(|t| !t.is_empty()));
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        c.until("it runs", || kernel::proc(pid, "cmdline").contains("3000"));
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        assert_eq!(running.wait().code, 137);
    });
}

#[test]
fn signals_are_passed_on() {
    case(|c| {
        c.sleeper();
        let script = "trap 'echo told; exit 9' TERM; echo ready; while true; do sleep 0.02; done";
        let running = Running::start(&mut c.command(&["exec", c.id(), "/bin/sh", "-c", script]), None);
        c.until("it is ready", || running.printed().0.contains("ready"));
        running.signal(rustix::process::Signal::TERM);
        let out = running.wait();
        assert_eq!((out.code, out.stdout.as_str()), (9, "ready\ntold\n"));
    });
}

#[test]
fn descriptors_are_passed_when_asked_for() {
    case(|c| {
        c.sleeper();
        std::fs::write(c.path("third"), "third\n").unwrap();
        std::fs::write(c.path("fourth"), "fourth\n").unwrap();
        let with = |flags: &[&str], script: &str| {
            let inner = c.command(&[&["exec"], flags, &[c.id(), "/bin/sh", "-c", script]].concat());
            let mut shell = command("/bin/sh");
            shell.args(["-c", "exec \"$@\" 3<third 4<fourth", "sh"]).arg(inner.get_program()).args(inner.get_args());
            Running::start(shell.current_dir(c.path("")), None).wait().stdout
        };
        assert_eq!(with(&["--preserve-fds", "2"], "cat <&3; cat <&4"), "third\nfourth\n");
        let closed = "for n in 3 4; do test -e /proc/self/fd/$n && echo $n; done; true";
        assert_eq!(with(&["--preserve-fds", "1"], "cat <&3"), "third\n");
        assert!(!with(&["--preserve-fds", "1"], closed).contains('4'));
        assert_eq!(with(&[], closed), "");
    });
}

#[test]
fn what_is_paused_is_joined_only_when_told() {
    case(|c| {
        c.sleeper();
        c.ok(&["pause", c.id()]);
        failed_with(
            &c.exec(&["/bin/true"]),
            255,
            "cannot exec in a paused container (use --ignore-paused to override)",
        );
        let ignoring = c.command(&["exec", "--ignore-paused", c.id(), "/bin/echo", "resumed"]);
        let mut ignoring = Running::start(&mut { ignoring }, None);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!ignoring.has_ended(), "{:?}", ignoring.printed());
        c.ok(&["resume", c.id()]);
        assert_eq!(ignoring.wait().stdout, "resumed\n");
    });
}

#[test]
fn a_created_container_can_be_joined() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).create();
        assert_eq!(c.exec_sh("echo inside; ls /proc/1/ns | wc -l").lines().next().unwrap(), "inside");
    });
}

#[test]
fn labels_that_the_kernel_has_not_are_errors() {
    case(|c| {
        c.sleeper();
        for flag in ["--apparmor", "--process-label"] {
            let out = c.oci(&["exec", flag, "no-such-label", c.id(), "/bin/echo", "began"]);
            assert!(out.code == 255 && out.stdout.is_empty() && !out.stderr.is_empty(), "{flag}: {out:?}");
        }
    });
}
