//! Known escapes from containers, each tried for real: docs/design/escapes.md describes them.
//!
//! An attack is tried three times, by [`escape`]: against the runtime as it is, which must hold; against a test build of
//! it (`TARE_WEAK_BIN`) from which nothing is taken away, which must hold as well; and against the same build without the
//! defence that is meant to stop this attack. There the attack must succeed: so it is one, and the test would notice.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod capabilities;
mod cgroups;
mod descriptors;
mod executable;
mod filter;
mod gate;
mod hooks;
mod joining;
mod keyring;
mod masks;
mod options;
mod probe;
mod procfs;
mod racing;
mod root;
mod targets;

use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_tests::oci::{Case, case};

/// What became of an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Stopped: what the runtime or the kernel said, or what harmless thing came of it.
    Held(String),
    /// It reached what it must not reach: the evidence.
    Broken(String),
}

use Outcome::{Broken, Held};

/// How long a race is run against the test build while nothing is taken away.
const SHORT: Duration = Duration::from_secs(2);

/// Tries an attack, which must be held with these words, and must succeed without the defences. Where there are several,
/// each of them holds it by itself.
#[track_caller]
fn escape(attack: impl Fn(&mut Case) -> Outcome, expected: &str, defences: &[&str]) {
    escape_for(Duration::ZERO, |c, _| attack(c), expected, defences);
}

/// The same with an attack that is tried again and again for a while; with a defence gone it ends when it has succeeded.
#[track_caller]
fn escape_for(length: Duration, attack: impl Fn(&mut Case, Duration) -> Outcome, expected: &str, defences: &[&str]) {
    let held = |what: &str, outcome: Outcome| match outcome {
        Held(said) => assert!(said.contains(expected), "{what} holds, but says\n{said}\nand not {expected:?}"),
        Broken(evidence) => panic!("{what} does not hold:\n{evidence}"),
    };
    held("the runtime", with(None, |c| attack(c, length)));
    held("the test build", with(Some(""), |c| attack(c, length.min(SHORT))));
    for alone in defences.iter().filter(|_| defences.len() > 1) {
        let others: Vec<&str> = defences.iter().filter(|d| *d != alone).copied().collect();
        let outcome = with(Some(&others.join(",")), |c| attack(c, length.min(SHORT)));
        assert!(matches!(outcome, Held(_)), "{alone} alone does not hold it: {outcome:?}");
    }
    let length = length.max(SHORT);
    let outcome = with(Some(&defences.join(",")), |c| attack(c, length));
    assert!(matches!(outcome, Broken(_)), "the attack succeeds without {defences:?}, or it is none: {outcome:?}");
}

/// As [`escape`], for what no single defence stops: it only must hold.
#[track_caller]
fn held(attack: impl Fn(&mut Case) -> Outcome, expected: &str) {
    match with(None, attack) {
        Held(said) => assert!(said.contains(expected), "{said}\n…does not contain {expected:?}"),
        Broken(evidence) => panic!("{evidence}"),
    }
}

/// One try, in a case of its own; `weakened` are the defences to take away from the test build.
#[track_caller]
fn with(weakened: Option<&str>, attack: impl FnOnce(&mut Case) -> Outcome) -> Outcome {
    let mut outcome = None;
    case(|c| {
        if let Some(names) = weakened {
            c.runtime = vec![test_build().display().to_string()];
            c.variables.push(("TARE_WEAKEN".into(), names.into()));
        }
        outcome = Some(attack(c));
    });
    outcome.expect("no attack is skipped")
}

/// `TARE_WEAK_BIN`, or where the build stage puts it.
#[expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
fn test_build() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/weakened/tare-runtime");
    let path = std::env::var("TARE_WEAK_BIN").map_or_else(|_| built(), PathBuf::from);
    assert!(path.is_file(), "no test build at {}: tools/stages build makes it", path.display());
    path
}

/// The capabilities that engines give to everybody, and these.
fn usual_capabilities(c: &mut Case, more: &[&str]) {
    let usual = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ];
    let all: Vec<String> = usual.iter().chain(more).map(|name| format!("CAP_{name}")).collect();
    for set in ["bounding", "effective", "permitted"] {
        c.set(&format!("/process/capabilities/{set}"), json!(all));
    }
}

/// What only the host has: a file beside the root filesystem. Its path on the host.
fn secret(c: &Case) -> String {
    let path = c.path("secret");
    std::fs::write(&path, SECRET).unwrap();
    path.display().to_string()
}

const SECRET: &str = "only the host has this";

/// A directory of the host that nothing may appear in.
fn outside(c: &Case) -> PathBuf {
    let path = c.path("outside");
    std::fs::create_dir(&path).unwrap();
    path
}

/// What is in it.
fn found_in(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Held with what was said, unless something is in there.
fn untouched(outside: &Path, said: String) -> Outcome {
    let found = found_in(outside);
    if found.is_empty() { Held(said) } else { Broken(format!("made in {}: {found:?}", outside.display())) }
}

/// Removes the configuration's mounts at and below these places.
fn unmounted(c: &mut Case, places: &[&str]) {
    c.with(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !places.iter().any(|p| m["destination"].as_str().unwrap().starts_with(p)));
    });
}

/// A file of the image becomes a link.
fn link(c: &Case, path: &str, target: impl AsRef<Path>) {
    let path = c.inside(path);
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    std::os::unix::fs::symlink(target, path).unwrap();
}
