//! `process.apparmorProfile` where the kernel has AppArmor: the profile holds for what runs, not only by name.

use super::labels::has_apparmor;
use tare_tests::oci::{Case, case, kernel, skip};
use tare_tests::{Running, command, have, unique};

/// A profile in the kernel, gone with this: it allows everything but to write `/forbidden` and below.
struct Profile(String);

fn parser(option: &str, text: &str) {
    let mut parser = command("apparmor_parser");
    let out = Running::start(parser.args([option, "--skip-cache"]), Some(text.as_bytes())).wait();
    assert_eq!(out.code, 0, "{text}: {}", out.stderr);
}

impl Profile {
    /// Skips the case where the kernel or the host has no AppArmor.
    fn load() -> Profile {
        if !has_apparmor() {
            skip("the kernel has no AppArmor");
        }
        if !have("apparmor_parser") {
            skip("apparmor_parser is not there");
        }
        let profile = Profile(unique("tare-test-"));
        parser("--add", &profile.text());
        profile
    }

    fn text(&self) -> String {
        format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n  capability,\n  network,\n  file,\n  mount,\n  \
             umount,\n  pivot_root,\n  signal,\n  ptrace,\n  unix,\n  deny /forbidden{{,/**}} w,\n}}\n",
            self.0
        )
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let text = self.text();
        let _ = std::panic::catch_unwind(|| parser("--remove", &text));
    }
}

/// A container with a directory that only the profile protects.
fn with(c: &mut Case) -> Profile {
    let profile = Profile::load();
    std::fs::create_dir(c.inside("forbidden")).unwrap();
    c.set("/process/apparmorProfile", profile.0.clone());
    profile
}

const TRY: &str = "echo x > /allowed && echo allowed; (echo x > /forbidden/x) 2>&1 | grep -o 'Permission denied'; \
                   cat /proc/self/attr/current";

fn confined(profile: &Profile) -> String {
    format!("allowed\nPermission denied\n{} (enforce)", profile.0)
}

#[test]
fn the_program_is_confined() {
    case(|c| {
        let profile = with(c);
        assert_eq!(c.sh(TRY), confined(&profile));
    });
}

#[test]
fn a_program_without_privileges_to_gain_is_confined() {
    case(|c| {
        let profile = with(c);
        c.set("/process/noNewPrivileges", true);
        assert_eq!(c.sh(TRY), confined(&profile));
    });
}

#[test]
fn the_first_process_has_the_profile() {
    case(|c| {
        let profile = with(c);
        let pid = c.sleeper();
        assert_eq!(kernel::proc(pid, "attr/current"), format!("{} (enforce)", profile.0));
    });
}

#[test]
fn further_processes_are_confined() {
    case(|c| {
        let profile = with(c);
        c.sleeper();
        assert_eq!(c.exec_sh(TRY), confined(&profile));
    });
}

#[test]
fn a_further_process_may_have_another_profile() {
    case(|c| {
        let profile = with(c);
        c.unset("/process/apparmorProfile").sleeper();
        assert_eq!(c.exec_sh(TRY).lines().nth(1), Some("unconfined"));
        let out = c.ok(&["exec", "--apparmor", &profile.0, c.id(), "/bin/sh", "-c", TRY]);
        assert_eq!(out, confined(&profile));
        let out = c.oci(&["exec", "--apparmor", "no-such-profile", c.id(), "/bin/true"]);
        assert!(out.code == 255 && out.stderr.contains("no-such-profile"), "{out:?}");
    });
}

#[test]
fn one_that_is_not_loaded_is_refused() {
    case(|c| {
        let profile = with(c);
        let missing = format!("{}-missing", profile.0);
        let said = c.set("/process/apparmorProfile", missing.clone()).refused();
        assert!(said.contains(&missing) && said.to_lowercase().contains("apparmor"), "{said}");
    });
}

/// What stands where the label is written may not be the kernel's file (CVE-2019-16884): refused, or without effect.
#[track_caller]
fn not_fooled(change: impl FnOnce(&mut Case)) {
    case(|c| {
        let profile = with(c);
        change(c);
        let out = c.args(&["/bin/sh", "-c", TRY]).run();
        assert!(out.code != 0 || out.stdout.contains("Permission denied"), "{} does not hold: {out:?}", profile.0);
        assert!(!c.inside("forbidden/x").exists(), "{out:?}");
    });
}

#[test]
fn a_file_system_over_the_attributes_does_not_take_it_away() {
    not_fooled(|c| {
        c.mount("/proc/self/attr", "tmpfs", "tmpfs", &[]);
    });
}

#[test]
fn a_directory_over_the_attributes_of_the_first_process_does_not_take_it_away() {
    not_fooled(|c| {
        std::fs::create_dir(c.path("attr")).unwrap();
        std::fs::write(c.path("attr/exec"), "").unwrap();
        let source = c.path("attr");
        c.bind("/proc/1/attr", source, &[]);
    });
}

#[test]
fn a_directory_in_the_place_of_proc_does_not_take_it_away() {
    not_fooled(|c| {
        for process in ["self", "1"] {
            let directory = c.path("proc").join(process).join("attr/apparmor");
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("exec"), "").unwrap();
            std::fs::write(directory.with_file_name("exec"), "").unwrap();
        }
        let source = c.path("proc");
        c.unset("/mounts/0").bind("/proc", source, &[]);
    });
}
