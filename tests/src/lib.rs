//! What the end-to-end tests stand on: a host of their own, made of directories, and a look at what it leaves behind.
//!
//! Runs the binary as a user does and knows nothing of its crates but how a root's names follow from its path. Every
//! [`Host`] has its own `--root` and `--run`, hence its own bridge, firewall table and cgroup parent, so tests run side by
//! side. When it goes, everything of it must be gone: the census says so, or the test fails.
//!
//! ```text
//! let host = Host::new();                       // directories, nothing else
//! host.busybox();                               // image `busybox`
//! host.ok(&["run", "--rm", "busybox", "true"]); // exit code 0, or the test fails with all that was printed
//! ```
//!
//! A test that cannot run here says why with [`skip`] and returns; whoever runs the tests counts these lines.
#![expect(clippy::unwrap_used, reason = "a harness that cannot do its work fails the test")]

pub mod archive;
mod busybox;
mod census;
mod dice;
pub mod disk;
pub mod docs;
mod host;
pub mod lan;
pub mod oci;
mod probe;
mod process;
mod pty;
mod registry;

pub use busybox::{Tree, busybox_tar};
pub use census::{Census, Names};
pub use dice::Dice;
pub use host::Host;
pub use probe::compile;
pub use process::{Output, Running, binary, command, have, variable};
pub use pty::Terminal;
pub use registry::Registry;

use std::time::{Duration, Instant};

/// Says that this test does not run here, and why. `return` after it.
#[expect(clippy::print_stderr, reason = "the convention by which skipped tests are counted")]
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    eprintln!("SKIP: {}: {reason}", thread.name().unwrap_or("?"));
}

/// What helps to understand a test that fails.
#[expect(clippy::print_stderr, reason = "shown with the test's output")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Waits until `done` holds; false if it does not within `limit`.
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a line of /proc/PID/cgroup is of a hierarchy that is mounted here: others may live in other mount namespaces.
///
/// # Panics
/// If it is no such line.
pub fn is_mounted_hierarchy(line: &str) -> bool {
    let controllers = line.split(':').nth(1).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let shows = |l: &str| {
        let (kind, options) = l.split_once(" - ").map_or(("", ""), |(_, rest)| rest.split_once(' ').unwrap());
        match controllers {
            "" => kind == "cgroup2",
            names => kind == "cgroup" && names.split(',').all(|n| options.split([',', ' ']).any(|o| o == n)),
        }
    };
    mounts.lines().any(shows)
}

/// A name that no other test, process or run uses.
pub fn unique(prefix: &str) -> String {
    let dir = tempfile::Builder::new().prefix("").rand_bytes(10).tempdir().unwrap();
    let random = dir.path().file_name().unwrap().to_string_lossy().to_lowercase();
    format!("{prefix}{random}")
}
