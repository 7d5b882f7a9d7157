//! Mount targets and directories that are links to the host (CVE-2024-45310, CVE-2026-41579).

use crate::Outcome;
use crate::{escape, held, link, outside, unmounted, untouched};
use std::path::Path;
use tare_tests::oci::Case;

/// Runs a container that prints its mounts; what it or the runtime said, unless something was made outside.
fn run(c: &mut Case, outside: &Path) -> Outcome {
    let out = c.args(&["/bin/cat", "/proc/self/mountinfo"]).run();
    untouched(outside, format!("{}{}", out.stdout, out.stderr))
}

/// With a hook that may look at it, the root lies at its path on the host while things are mounted in it.
fn at_its_path(c: &mut Case) {
    c.set("/hooks/createRuntime/-", serde_json::json!({ "path": "/bin/true" }));
}

/// A directory, and a file, are mounted below a link. What they need is made where the link leads inside of the root.
fn below(target: impl Fn(&Path) -> String) -> impl Fn(&mut Case) -> Outcome {
    move |c| {
        let outside = outside(c);
        at_its_path(c);
        link(c, "/mnt", target(&outside));
        std::fs::write(c.path("file"), "").unwrap();
        let file = c.path("file");
        c.mount("/mnt/some/directory", "tmpfs", "tmpfs", &[]).bind("/mnt/a/file", file, &["rw"]);
        run(c, &outside)
    }
}

#[test]
fn link_to_a_directory_of_the_hosts() {
    escape(below(|outside| outside.display().to_string()), "outside/some/directory ", &["mount-target"]);
}

#[test]
fn link_to_nothing() {
    let attack = |c: &mut Case| {
        let outside = outside(c);
        link(c, "/mnt", outside.join("new"));
        std::fs::write(c.path("file"), "").unwrap();
        let file = c.path("file");
        c.bind("/mnt", file, &["rw"]);
        run(c, &outside)
    };
    escape(attack, "outside/new ", &["mount-target"]);
}

#[test]
fn relative_link_upwards() {
    escape(below(|_| "../outside".into()), " /outside/some/directory ", &["mount-target"]);
    let far = |outside: &Path| format!("../../../../../../../../..{}", outside.display());
    escape(below(far), "outside/some/directory ", &["mount-target"]);
}

#[test]
fn dots_in_the_target() {
    let attack = |c: &mut Case| {
        let outside = outside(c);
        at_its_path(c);
        c.mount("/mnt/../../outside/made", "tmpfs", "tmpfs", &[]);
        run(c, &outside)
    };
    escape(attack, " /outside/made ", &["mount-target"]);
}

#[test]
fn dev_that_is_a_link_to_the_host() {
    let attack = |c: &mut Case| {
        let outside = outside(c);
        unmounted(c, &["/dev"]);
        link(c, "/dev", &outside);
        run(c, &outside)
    };
    escape(attack, "link in the place of its directory /dev", &["mount-target"]);
}

/// What is mounted below a /dev that is such a link.
#[test]
fn places_in_a_dev_that_is_a_link() {
    for (place, kind) in [("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue")] {
        let attack = |c: &mut Case| {
            let outside = outside(c);
            unmounted(c, &["/dev"]);
            link(c, "/dev", &outside);
            c.mount(place, kind, kind, &[]);
            run(c, &outside)
        };
        escape(attack, "link in the place of its directory /dev", &["mount-target"]);
    }
}

/// The places of usual mounts, each a link to a directory of the host's that is there. What is mounted is inside, or refused.
#[test]
fn places_of_the_usual_mounts_that_are_links() {
    for (place, kind, said) in [
        ("/dev/pts", "devpts", "/outside rw,"),
        ("/dev/shm", "tmpfs", "/outside rw,"),
        ("/proc", "proc", "/proc: too many levels of symbolic links"),
        ("/sys", "sysfs", "/sys: too many levels of symbolic links"),
    ] {
        let attack = |c: &mut Case| {
            let outside = outside(c);
            unmounted(c, &["/dev", place]);
            link(c, place, &outside);
            c.unshare("network").mount(place, kind, kind, &[]);
            run(c, &outside)
        };
        held(attack, said);
    }
}

/// The working directory is made if it is missing, wherever a link leads to.
#[test]
fn working_directory_behind_a_link() {
    let attack = |c: &mut Case| {
        let outside = outside(c);
        link(c, "/mnt", &outside);
        c.set("/process/cwd", "/mnt/new");
        run(c, &outside)
    };
    held(attack, " /proc ");
}

/// The places of devices, too.
#[test]
fn device_behind_a_link() {
    let attack = |c: &mut Case| {
        let outside = outside(c);
        link(c, "/mnt", &outside);
        c.set("/linux/devices/-", serde_json::json!({ "path": "/mnt/made", "type": "c", "major": 1, "minor": 3 }));
        run(c, &outside)
    };
    held(attack, " /proc ");
}
