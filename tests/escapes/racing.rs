//! Mount targets that are exchanged for links while they are mounted on (CVE-2021-30465).

use crate::Outcome::{self, Broken, Held};
use crate::{escape_for, found_in, outside, probe};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tare_tests::oci::Case;

/// A directory and a link to a directory of the host, which change places.
fn pair(volume: &Path, name: &str, outside: &Path) {
    std::fs::create_dir(volume.join(name)).unwrap();
    std::os::unix::fs::symlink(outside, volume.join(format!("{name}-link"))).unwrap();
}

/// Two containers share a volume. One exchanges a directory of it for a link to the host all the time, and so does a
/// thread of this test with another one, which is faster; the other container has mounts in both and is started again
/// and again.
fn exchanged(c: &mut Case, length: Duration) -> Outcome {
    let outside = outside(c);
    let volume = c.path("volume");
    std::fs::create_dir(&volume).unwrap();
    pair(&volume, "a", &outside);
    pair(&volume, "b", &outside);
    probe::install(c);
    c.bind("/volume", &volume, &["rw"]).args(&["/probe", "exchange", "/volume/a", "/volume/a-link"]).create();
    c.start();

    let source = c.path("source");
    std::fs::create_dir(&source).unwrap();
    let file = c.path("file");
    std::fs::write(&file, "").unwrap();
    c.mount("/volume/a/new/target", "tmpfs", "tmpfs", &[]).bind("/volume/a/file", &file, &["rw"]);
    c.mount("/volume/b/new/target", "tmpfs", "tmpfs", &[]).bind("/volume/b/directory", &source, &["rw"]);
    c.set("/linux/cgroupsPath", format!("{}2", c.cgroup())).args(&["/bin/cat", "/proc/self/mountinfo"]).write();
    let (second, bundle) = (format!("{}-second", c.id()), c.bundle());
    c.note(second.clone());

    let stop = AtomicBool::new(false);
    let (mut started, mut refused) = (0, 0);
    let broken = std::thread::scope(|threads| {
        threads.spawn(|| {
            let (a, b) = (volume.join("b"), volume.join("b-link"));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let end = Instant::now() + length;
        let mut broken = None;
        while Instant::now() < end && broken.is_none() {
            let out = c.oci(&["run", "--bundle", &bundle, &second]);
            let made = found_in(&outside);
            if !made.is_empty() {
                broken = Some(format!("made in the host's {}: {made:?}", outside.display()));
            } else if out.code == 0 {
                started += 1;
                // Where a link of the image leads is inside; so is what is mounted there, and all of it is there.
                let mounts = out.stdout.lines().filter(|l| l.contains("/target ")).count();
                if mounts != 2 {
                    broken = Some(format!("{mounts} of two mounts are inside: {}", out.stdout));
                }
            } else {
                refused += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        broken
    });
    match broken {
        Some(evidence) => Broken(evidence),
        None if started == 0 => Held("never started".into()),
        None => Held(format!("nothing outside of the root ({started} started, {refused} refused)")),
    }
}

#[test]
fn mount_targets_that_are_exchanged() {
    escape_for(Duration::from_secs(30), exchanged, "nothing outside of the root", &["mount-target"]);
}
