//! Writes into procfs, redirected to files of an attacker's choice (CVE-2025-52881, CVE-2019-16884, CVE-2019-19921,
//! CVE-2023-27561), and other things mounted where /proc is expected.

use crate::Outcome::{self, Broken, Held};
use crate::{escape, link, unmounted};
use std::path::PathBuf;
use tare_tests::oci::{Case, kernel};

const PARAMETER: &str = "net.ipv4.ip_default_ttl";

/// A directory that looks like a procfs, with a file that shall be written: a volume that another container shares.
fn fake(c: &Case) -> (PathBuf, PathBuf) {
    let base = c.path("fake");
    let file = base.join("sys/net/ipv4/ip_default_ttl");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "untouched").unwrap();
    (base, file)
}

/// Runs a container that sets a parameter: the file must not have got it.
fn set_parameter(c: &mut Case, file: &std::path::Path) -> Outcome {
    c.unshare("network").set("/linux/sysctl", serde_json::json!({ PARAMETER: "77" }));
    let out = c.args(&["/bin/true"]).run();
    match std::fs::read_to_string(file).unwrap() {
        text if text == "untouched" => Held(out.stderr),
        text => Broken(format!("{} now holds {text}", file.display())),
    }
}

#[test]
fn proc_that_is_a_link() {
    let attack = |c: &mut Case| {
        std::fs::create_dir(c.inside("/evil")).unwrap();
        link(c, "/proc", "/evil");
        let out = c.args(&["/bin/sleep", "1000"]).try_create(&[]);
        if out.code != 0 {
            return Held(c.output().1);
        }
        let pid = c.state()["pid"].as_i64().unwrap() as i32;
        match kernel::mounts(pid).iter().find(|m| m.at == "/evil") {
            Some(m) => Broken(format!("{m:?}")),
            None => Held("nothing at /evil".into()),
        }
    };
    escape(attack, "/proc: too many levels of symbolic links", &["procfs"]);
}

#[test]
fn sys_that_is_a_link() {
    let attack = |c: &mut Case| {
        std::fs::create_dir(c.inside("/evil")).unwrap();
        link(c, "/sys", "/evil");
        c.unshare("network").mount("/sys", "sysfs", "sysfs", &["ro"]);
        let out = c.args(&["/bin/cat", "/proc/self/mountinfo"]).run();
        if out.stdout.contains(" /evil ") { Broken(out.stdout) } else { Held(out.stderr) }
    };
    escape(attack, "/sys: too many levels of symbolic links", &["procfs"]);
}

#[test]
fn proc_that_is_a_directory_of_the_hosts() {
    let attack = |c: &mut Case| {
        let (base, file) = fake(c);
        unmounted(c, &["/proc"]);
        c.bind("/proc", base, &["rw"]);
        set_parameter(c, &file)
    };
    escape(attack, "must be a proc filesystem", &["procfs"]);
}

#[test]
fn proc_that_is_a_tmpfs() {
    let attack = |c: &mut Case| {
        unmounted(c, &["/proc"]);
        c.mount("/proc", "tmpfs", "tmpfs", &[]);
        let out = c.args(&["/bin/cat", "/proc/self/mountinfo"]).run();
        if out.stderr.contains("can't open") { Broken(out.stderr) } else { Held(out.stderr) }
    };
    escape(attack, "must be a proc filesystem", &["procfs"]);
}

#[test]
fn file_of_proc_that_is_covered() {
    let attack = |c: &mut Case| {
        let (_, file) = fake(c);
        c.bind("/proc/sys/net/ipv4/ip_default_ttl", &file, &["rw"]);
        set_parameter(c, &file)
    };
    escape(attack, "must not be covered", &["procfs"]);
}

#[test]
fn file_of_proc_that_is_covered_by_way_of_a_link() {
    let attack = |c: &mut Case| {
        let (_, file) = fake(c);
        link(c, "/mnt", "/proc/sys/net");
        c.bind("/mnt/ipv4/ip_default_ttl", &file, &["rw"]);
        set_parameter(c, &file)
    };
    escape(attack, "leads into /proc", &["procfs"]);
}

/// The image has no procfs at all, but files that look like one.
#[test]
fn proc_of_the_image() {
    let attack = |c: &mut Case| {
        let file = c.inside("/proc/sys/net/ipv4/ip_default_ttl");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "untouched").unwrap();
        unmounted(c, &["/proc"]);
        let outcome = set_parameter(c, &file);
        match outcome {
            Held(said) if said.is_empty() => Held("the parameter was set".into()),
            other => other,
        }
    };
    escape(attack, "the parameter was set", &["procfs"]);
}

/// A label that is written into a file of the attacker's leaves the program unconfined. The kernel here may have no AppArmor:
/// the runtime is shown one.
#[test]
fn label_file_that_is_faked() {
    let attack = |c: &mut Case| {
        let (base, _) = fake(c);
        let file = base.join("1/attr/apparmor/exec");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "untouched").unwrap();
        c.before(
            "mount -t tmpfs tmpfs /sys/module; mkdir -p /sys/module/apparmor/parameters; \
             echo Y > /sys/module/apparmor/parameters/enabled",
        );
        unmounted(c, &["/proc"]);
        c.bind("/proc", base, &["rw"]).set("/process/apparmorProfile", "confined");
        let out = c.args(&["/bin/true"]).run();
        match std::fs::read_to_string(file).unwrap() {
            text if text == "untouched" => Held(out.stderr),
            text => Broken(format!("the program runs unconfined, the label is in a file: {text}")),
        }
    };
    escape(attack, "must be a proc filesystem", &["procfs", "label"]);
}
