//! `process.args`, `env` and `cwd`.

use serde_json::json;
use tare_tests::oci::{case, kernel};

#[test]
fn args_arrive_as_they_are() {
    case(|c| {
        c.args(&["/bin/sh", "-c", "sleep 1000; :", "x", "", "two words", "a\nb", "*", "ünï"]);
        let pid = c.create();
        c.start();
        c.until("the program runs", || kernel::proc(pid, "cmdline").contains("1000"));
        assert_eq!(kernel::proc(pid, "cmdline"), "/bin/sh\0-c\0sleep 1000; :\0x\0\0two words\0a\nb\0*\0ünï\0");
    });
}

#[test]
fn the_program_is_looked_up_in_path_of_env() {
    case(|c| {
        std::fs::create_dir(c.inside("/opt")).unwrap();
        std::fs::copy(c.inside("/bin/busybox"), c.inside("/opt/only-here-echo")).unwrap();
        std::fs::rename(c.inside("/opt/only-here-echo"), c.inside("/opt/echo")).unwrap();
        c.set("/process/env", json!(["PATH=/nowhere:/opt"])).args(&["echo", "found"]);
        let out = c.run();
        assert_eq!((out.code, out.stdout.as_str()), (0, "found\n"), "{}", out.stderr);
    });
}

#[test]
fn a_program_that_is_missing_is_named() {
    case(|c| {
        let out = c.args(&["/bin/no-such-program"]).run();
        assert_ne!(out.code, 0);
        assert!(out.stderr.contains("no-such-program"), "{}", out.stderr);
        assert!(out.stderr.to_lowercase().contains("no such file"), "{}", out.stderr);
    });
}

#[test]
fn a_program_that_may_not_be_executed_is_named() {
    case(|c| {
        let out = c.args(&["/etc/passwd"]).run();
        assert_ne!(out.code, 0);
        assert!(out.stderr.contains("/etc/passwd"), "{}", out.stderr);
        assert!(out.stderr.to_lowercase().contains("permission denied"), "{}", out.stderr);
    });
}

#[test]
fn args_that_are_empty_are_refused() {
    case(|c| {
        c.set("/process/args", json!([]));
        let out = c.run();
        assert!(out.code != 0 && out.stderr.contains("args"), "{out:?}");
    });
}

#[test]
fn the_exit_code_is_the_programs() {
    case(|c| {
        assert_eq!(c.args(&["/bin/sh", "-c", "exit 42"]).run().code, 42);
    });
}

#[test]
fn a_signal_that_ends_the_program_becomes_its_exit_code() {
    case(|c| {
        // Process 1 takes no signal of its own namespace that it has no handler for: another one is killed.
        c.share("pid");
        c.unset("/mounts/0").args(&["/bin/sh", "-c", "kill -KILL $$"]);
        assert_eq!(c.run().code, 137);
    });
}

#[test]
fn env_is_what_was_given() {
    case(|c| {
        c.set("/process/env", json!(["PATH=/bin", "HOME=/somewhere", "A=b=c", "EMPTY=", "LINES=one\ntwo"]));
        let pid = c.sleeper();
        let mut found: Vec<String> = kernel::proc(pid, "environ").split('\0').map(str::to_owned).collect();
        found.retain(|v| !v.is_empty());
        assert_eq!(found, ["PATH=/bin", "HOME=/somewhere", "A=b=c", "EMPTY=", "LINES=one\ntwo"]);
    });
}

#[test]
fn nothing_of_the_runtimes_own_environment_gets_in() {
    case(|c| {
        c.set("/process/env", json!(["PATH=/bin", "HOME=/"])).args(&["/bin/sleep", "1000"]).write();
        let (bundle, id, pid_file) = (c.bundle(), c.id().to_owned(), c.path("pid").display().to_string());
        c.note(id.clone());
        let mut command = c.command(&["run", "--detach", "--bundle", &bundle, "--pid-file", &pid_file, &id]);
        command.env("TARE_SUITE_SECRET", "x");
        let out = tare_tests::Running::start(&mut command, None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
        let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        assert!(!kernel::proc(pid, "environ").contains("TARE_SUITE_SECRET"));
    });
}

#[test]
fn cwd_is_where_the_program_starts() {
    case(|c| {
        assert_eq!(c.set("/process/cwd", "/var").sh("/bin/busybox pwd; ls -d ../etc"), "/var\n../etc");
    });
}

#[test]
fn cwd_that_is_missing_is_made() {
    case(|c| {
        assert_eq!(c.set("/process/cwd", "/srv/deep/down").sh("/bin/busybox pwd"), "/srv/deep/down");
    });
}

#[test]
fn cwd_that_is_relative_is_refused() {
    case(|c| {
        let said = c.set("/process/cwd", "var").refused();
        assert!(said.to_lowercase().contains("cwd") || said.contains("absolute"), "{said}");
    });
}

#[test]
fn cwd_follows_links_within_the_root() {
    case(|c| {
        std::os::unix::fs::symlink("/var", c.inside("/link")).unwrap();
        assert_eq!(c.set("/process/cwd", "/link").sh("/bin/busybox pwd -P"), "/var");
    });
}

#[test]
fn a_container_without_process_can_be_created() {
    case(|c| {
        // The specification asks for process only when start is called; runtimes without it say so.
        c.unset("/process");
        let out = c.run();
        assert!(out.code != 0 && out.stderr.contains("process"), "{out:?}");
    });
}

#[test]
fn streams_are_the_callers() {
    case(|c| {
        c.args(&["/bin/sh", "-c", "cat; echo to-stderr >&2"]).write();
        let (bundle, id) = (c.bundle(), c.id().to_owned());
        c.note(id.clone());
        let mut command = c.command(&["run", "--bundle", &bundle, &id]);
        let out = tare_tests::Running::start(&mut command, Some(b"from stdin")).wait();
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("from stdin", "to-stderr\n"));
    });
}

#[test]
fn no_descriptor_but_the_streams_is_open() {
    case(|c| {
        let pid = c.sleeper();
        let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
    });
}

#[test]
fn the_program_starts_without_blocked_or_ignored_signals() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "SigBlk"), "0000000000000000");
        // What the caller of the runtime ignores may stay ignored; of this program, SIGPIPE does not come so far.
        let ignored = |pid| u64::from_str_radix(&kernel::status(pid, "SigIgn"), 16).unwrap();
        let callers = ignored(i32::try_from(std::process::id()).unwrap()) & !(1 << 12);
        assert_eq!(ignored(pid) & !callers, 0, "{:x}", ignored(pid));
    });
}

#[test]
fn the_program_leads_a_session() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(kernel::stat(pid, 6), i64::from(pid), "its session");
        assert_eq!(kernel::stat(pid, 5), i64::from(pid), "its group");
    });
}
