//! `create` and `start`.

use super::{failed_with, nothing_is_left};
use std::os::unix::fs::FileTypeExt;
use tare_tests::oci::{case, kernel};

#[test]
fn the_program_does_not_begin_before_start() {
    case(|c| {
        let pid = c.args(&["/bin/sh", "-c", "touch /tmp/began; sleep 1000"]).create();
        assert_eq!(c.state()["status"], "created");
        assert_eq!(c.state()["pid"], pid);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!c.inside("/tmp/began").exists());
        assert!(!kernel::proc(pid, "cmdline").starts_with("/bin/sh"));
        c.start();
        c.until("the program has begun", || c.inside("/tmp/began").exists());
        assert_eq!(c.state()["status"], "running");
        assert_eq!(c.state()["pid"], pid);
    });
}

#[test]
fn changes_of_config_json_after_create_are_not_seen() {
    case(|c| {
        c.args(&["/bin/echo", "first"]);
        let pid = c.create();
        c.args(&["/bin/echo", "second"]).write();
        c.start();
        assert_eq!(c.wait(pid), 0);
        assert_eq!(c.output().0, "first\n");
    });
}

#[test]
fn an_id_in_use_is_refused_and_its_owner_lives_on() {
    case(|c| {
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        for verb in ["create", "run"] {
            failed_with(&c.oci(&[verb, "--bundle", &c.bundle(), c.id()]), 1, "already exists");
        }
        assert_eq!(c.state()["status"], "created");
        assert_eq!(c.state()["pid"], pid);
        c.start();
        c.until_status("running");
    });
}

#[test]
fn an_id_is_free_again_after_delete() {
    case(|c| {
        let first = c.args(&["/bin/sleep", "1000"]).create();
        c.ok(&["delete", "--force", c.id()]);
        c.wait(first);
        let second = c.sleeper();
        assert_ne!(first, second);
    });
}

#[test]
fn ids_that_are_no_names_are_refused() {
    case(|c| {
        c.write();
        for id in ["..", ".", "a b", "a/b", "../a", "a\nb", "é", "a;b"] {
            let out = c.oci(&["create", "--bundle", &c.bundle(), id]);
            failed_with(&out, 1, "invalid container ID format");
        }
        failed_with(&c.oci(&["create", "--bundle", &c.bundle(), ""]), 1, "container");
        let made = std::fs::read_dir(c.state_root()).map_or(0, Iterator::count);
        assert_eq!(made, 0);
    });
}

#[test]
fn ids_may_have_letters_digits_and_a_few_signs() {
    case(|c| {
        let id = format!("A_{}+x-0.9", c.id());
        c.args(&["/bin/sleep", "1000"]).write();
        c.note(id.clone());
        c.ok(&["create", "--bundle", &c.bundle(), &id]);
        assert!(c.ok(&["state", &id]).contains(&id));
    });
}

#[test]
fn the_bundle_is_the_working_directory_unless_told() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).write();
        c.note(c.id().to_owned());
        c.ok(&["create", c.id()]);
        assert_eq!(c.state()["bundle"], c.bundle());
        c.ok(&["delete", "--force", c.id()]);
        c.ok(&["create", "-b", ".", c.id()]);
        assert_eq!(c.state()["bundle"], c.bundle());
    });
}

#[test]
fn flags_may_stand_behind_the_id() {
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).write();
        c.note(c.id().to_owned());
        let pid_file = c.path("pid");
        c.ok(&["create", c.id(), "--bundle", &c.bundle(), "--pid-file", pid_file.to_str().unwrap()]);
        let pid = std::fs::read_to_string(pid_file).unwrap();
        assert_eq!(c.state()["pid"].to_string(), pid);
        c.ok(&["delete", c.id(), "--force"]);
        nothing_is_left(c);
    });
}

#[test]
fn the_pid_file_holds_the_hosts_number_and_nothing_else() {
    case(|c| {
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        let text = std::fs::read(c.path("pid")).unwrap();
        assert_eq!(text, pid.to_string().into_bytes());
        assert_eq!(kernel::status(pid, "NSpid"), format!("{pid} 1"));
    });
}

#[test]
fn the_first_process_leads_a_session_of_its_own() {
    case(|c| {
        let pid = c.sleeper();
        let (group, session) = (5, 6);
        assert_eq!(kernel::stat(pid, group), i64::from(pid));
        assert_eq!(kernel::stat(pid, session), i64::from(pid));
    });
}

#[test]
fn streams_are_those_of_the_creator() {
    case(|c| {
        let pid = c.up("echo to stdout; echo to stderr >&2; cat");
        assert_eq!(c.wait(pid), 0);
        assert_eq!(c.output(), ("to stdout\n".to_owned(), "to stderr\n".to_owned()));
    });
}

#[test]
fn no_descriptor_of_the_runtime_is_inherited() {
    case(|c| {
        let pid = c.sleeper();
        let open = |pid: i32| {
            let list = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let mut names: Vec<String> = list.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(open(pid), ["0", "1", "2"]);
        let pid_file = c.path("exec-pid");
        c.ok(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), c.id(), "/bin/sleep", "1000"]);
        let joined = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        c.until("it runs", || kernel::proc(joined, "cmdline").contains("1000"));
        assert_eq!(open(joined), ["0", "1", "2"]);
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(joined);
    });
}

#[test]
fn a_program_that_is_not_there_is_said_and_leaves_nothing() {
    case(|c| {
        let out = c.args(&["no-such-program"]).run();
        failed_with(&out, 1, "executable file not found in $PATH");
        nothing_is_left(c);
        let out = c.args(&["/no/such/program"]).run();
        failed_with(&out, 1, "no such file or directory");
        nothing_is_left(c);
        let out = c.args(&["/etc/passwd"]).run();
        failed_with(&out, 1, "permission denied");
        nothing_is_left(c);
    });
}

#[test]
fn a_rootfs_that_is_no_mount_point_needs_no_pivot() {
    case(|c| {
        let script = "ls / | grep -c -x proc; ls /proc/1/root/.. | grep -c -x bundle; echo left > /left";
        let pid = c.args(&["/bin/sh", "-c", script]).create_with(&["--no-pivot"]);
        c.start();
        c.wait(pid);
        assert_eq!(c.output().0, "1\n0\n");
        assert_eq!(std::fs::read_to_string(c.inside("/left")).unwrap(), "left\n");
    });
}

#[test]
fn a_session_keyring_is_made_unless_refused() {
    case(|c| {
        let id = c.id().to_owned();
        let keyrings = || std::fs::read_to_string("/proc/keys").unwrap().lines().filter(|l| l.contains(&id)).count();
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        assert_eq!(keyrings(), 1);
        c.ok(&["delete", "--force", c.id()]);
        c.wait(pid);
        c.until("the keyring is gone", || keyrings() == 0);
        c.create_with(&["--no-new-keyring"]);
        assert_eq!(keyrings(), 0);
    });
}

#[test]
fn state_lies_beneath_root_and_is_not_for_others() {
    use std::os::unix::fs::PermissionsExt;
    case(|c| {
        c.args(&["/bin/sleep", "1000"]).create();
        let directory = c.state_root().join(c.id());
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{mode:o}: others could exchange what is in it");
        let files = std::fs::read_dir(&directory).unwrap().flatten();
        let is_plain = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_file());
        let readable = files.filter(is_plain).filter(|e| e.metadata().unwrap().permissions().mode() & 0o022 != 0);
        assert_eq!(readable.count(), 0);
        let other = c.path("other");
        c.ok(&["--root", other.to_str().unwrap(), "list", "--quiet"]);
    });
}

#[test]
fn start_tells_the_error_of_the_program() {
    case(|c| {
        // Between create and start the program vanishes.
        std::fs::copy(c.inside("/bin/busybox"), c.inside("/tmp/sleep")).unwrap();
        let pid = c.args(&["/tmp/sleep", "1000"]).create();
        std::fs::remove_file(c.inside("/tmp/sleep")).unwrap();
        let out = c.oci(&["start", c.id()]);
        // runc has given its answer before the program is executed; either way the container has ended.
        assert!(out.code == 0 || out.stderr.contains("no such file"), "{out:?}");
        assert_ne!(c.wait(pid), 0);
        c.until_status("stopped");
    });
}

#[test]
fn a_container_outlives_the_runtime_that_made_it() {
    case(|c| {
        let pid = c.sleeper();
        // Its parent is whoever reaps orphans: this test, and no process of the runtime.
        let parent = kernel::status(pid, "PPid");
        assert_eq!(parent, std::process::id().to_string());
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(kernel::descendants(me), [pid]);
        let sockets = std::fs::read_dir(c.state_root().join(c.id())).unwrap().flatten();
        let listening = sockets.filter(|e| e.file_type().is_ok_and(|t| t.is_socket() || t.is_fifo())).count();
        assert_eq!(listening, 0, "the gate is gone after start");
    });
}
