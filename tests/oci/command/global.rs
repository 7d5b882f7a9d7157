//! Options before the command.

use crate::lifecycle::failed_with;
use serde_json::Value;
use tare_tests::oci::{Case, case};

/// Runs `state` of a container that does not exist with these options; the log file's content.
#[track_caller]
fn logged(c: &mut Case, options: &[&str]) -> String {
    let log = c.path("log");
    c.globals = vec!["--log".to_owned(), log.display().to_string()];
    c.globals.extend(options.iter().map(|o| (*o).to_owned()));
    let out = c.oci(&["state", c.id()]);
    failed_with(&out, 1, "does not exist");
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn errors_are_written_to_the_log_as_lines_of_text() {
    case(|c| {
        let text = logged(c, &[]);
        let line = text.lines().find(|l| l.contains("level=error")).unwrap_or_else(|| panic!("{text:?}"));
        assert!(line.starts_with("time=\"") && line.contains("msg=\"") && line.contains("does not exist"), "{line}");
    });
}

#[test]
fn errors_are_written_to_the_log_as_json() {
    case(|c| {
        let text = logged(c, &["--log-format", "json"]);
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().contains("does not exist"), "{last}");
        let time = last["time"].as_str().unwrap();
        assert!(time.contains('T') && (time.ends_with('Z') || time.contains('+')), "{time}");
    });
}

#[test]
fn without_a_log_errors_are_json_on_standard_error() {
    case(|c| {
        c.globals = vec!["--log-format".to_owned(), "json".to_owned()];
        let out = c.oci(&["state", c.id()]);
        let last: Value = serde_json::from_str(out.stderr.lines().last().unwrap()).unwrap();
        assert_eq!((out.code, &last["level"]), (1, &Value::from("error")));
    });
}

#[test]
fn with_a_log_the_error_is_on_standard_error_as_well() {
    case(|c| {
        logged(c, &["--log-format", "json"]);
        let out = c.oci(&["state", c.id()]);
        assert!(!out.stderr.contains("level"), "plain words: {out:?}");
    });
}

#[test]
fn the_log_is_appended_to() {
    case(|c| {
        let once = logged(c, &[]);
        let twice = logged(c, &[]);
        assert!(twice.starts_with(&once) && twice.len() > once.len());
    });
}

#[test]
fn the_log_of_a_failing_program_is_readable_by_a_caller() {
    case(|c| {
        let log = c.path("log");
        let words = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        c.globals = words.iter().map(|w| (*w).to_owned()).collect();
        assert_eq!(c.args(&["no-such-program"]).run().code, 1);
        let text = std::fs::read_to_string(log).unwrap();
        let messages = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let found = messages.filter(|m| m["msg"].as_str().unwrap().contains("executable file not found in $PATH"));
        assert_eq!(found.count(), 1, "{text}");
    });
}

#[test]
fn debug_says_more() {
    case(|c| {
        let log = c.path("log");
        c.globals = vec!["--debug".to_owned(), "--log".to_owned(), log.display().to_string()];
        assert_eq!(c.args(&["/bin/true"]).run().code, 0);
        assert!(std::fs::read_to_string(log).unwrap().contains("level=debug"));
    });
}

#[test]
fn formats_and_options_that_are_none_are_errors() {
    case(|c| {
        c.globals = vec!["--log-format".to_owned(), "bogus".to_owned()];
        failed_with(&c.oci(&["list"]), 1, "bogus");
        c.globals = vec!["--bogus".to_owned()];
        failed_with(&c.oci(&["list"]), 1, "bogus");
        c.globals.clear();
        let out = c.oci(&["bogus"]);
        assert!(out.code != 0 && out.stderr.contains("bogus"), "{out:?}");
        failed_with(&c.oci(&["list", "--bogus"]), 1, "bogus");
    });
}

#[test]
fn the_version_names_the_specifications() {
    case(|c| {
        let text = c.ok(&["--version"]);
        let spec = text.lines().find_map(|l| l.strip_prefix("spec: ")).unwrap_or_else(|| panic!("{text}"));
        assert!(spec.starts_with("1."), "{text}");
        assert!(text.lines().next().unwrap().contains(" version "), "{text}");
    });
}

#[test]
fn help_lists_the_commands() {
    case(|c| {
        let text = c.ok(&["--help"]);
        for command in
            "checkpoint create delete events exec kill list pause ps restore resume run spec start state update \
                        features"
                .split(' ')
        {
            assert!(text.contains(command), "{command}");
            assert!(c.ok(&[command, "--help"]).contains(command), "{command}");
        }
    });
}

#[test]
fn two_roots_do_not_know_each_others_containers() {
    case(|c| {
        c.sleeper();
        let other = c.path("other").display().to_string();
        c.globals = vec!["--root".to_owned(), other];
        failed_with(&c.oci(&["state", c.id()]), 1, "does not exist");
        assert_eq!(c.ok(&["list", "-q"]), "");
        c.globals.clear();
        assert_eq!(c.ok(&["list", "-q"]), c.id());
    });
}

#[test]
fn checkpoint_and_restore_say_that_they_cannot() {
    case(|c| {
        let pid = c.sleeper();
        let image = c.path("image").display().to_string();
        for words in [["checkpoint", "--image-path", &image, c.id()], ["restore", "--image-path", &image, "other"]] {
            let out = c.oci(&words);
            assert!(out.code != 0 && !out.stderr.trim().is_empty(), "{out:?}");
        }
        assert!(tare_tests::oci::kernel::proc(pid, "cmdline").contains("1000"));
        assert_eq!(c.state()["status"], "running");
    });
}
