//! The defences against known escapes, by name, so that a test can take one away and see the attack succeed.
//!
//! Each place that defends asks [`stands`]. In a usual build the answer is a constant and the question disappears; with
//! the feature `weaken`, which only builds for tests have, `weaken` makes one of them fall for this process and its
//! clones. Nothing here is read from the environment: a test build's front does that.

/// One defence, named after what it prevents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Defence {
    /// The runtime's own program is executed from a read-only mount (CVE-2019-5736).
    Executable,
    /// No descriptor of the runtime's is open when paths of the container's choice are used (CVE-2024-21626).
    Descriptors,
    /// The working directory is looked up beneath the root (CVE-2024-21626).
    WorkingDirectory,
    /// Nobody may look into a child before it has executed: it is not dumpable.
    Hidden,
    /// The session keyring is a new one.
    Keyring,
    /// What masks a path is the container's own null device, checked (CVE-2025-31133).
    NullDevice,
    /// The console is bound from the terminal's descriptor onto a place that is no link (CVE-2025-52565).
    Console,
    /// Files of procfs are written through a mount of our own (CVE-2025-52881, CVE-2019-19921, CVE-2023-27561).
    Procfs,
    /// The label for the next exec is written into a genuine procfs only (CVE-2019-16884).
    Label,
    /// Mount targets are resolved beneath the root (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).
    MountTarget,
    /// Inheritable capabilities are what was asked for (CVE-2022-29162).
    Inheritable,
    /// release_agent and other files of the cgroup's own are out of reach.
    ReleaseAgent,
    /// What is shown of the cgroups is the container's own groups, also without a cgroup namespace (CVE-2023-25809).
    CgroupMount,
    /// Options of bind mounts are validated (CVE-2024-9407).
    BindOptions,
    /// A starter at the gate is asked who it is.
    Gate,
    /// The old root is let go of.
    OldRoot,
    /// The system call filter is loaded.
    Seccomp,
    /// startContainer hooks, whose programs are the image's, have the program's rights.
    StartHooks,
    /// A joining process is born with the container's root and nothing of the host open: also who may trace sees no more.
    BornInside,
}

/// All of them, with the words by which a test names them.
pub const ALL: &[(Defence, &str)] = &[
    (Defence::Executable, "executable"),
    (Defence::Descriptors, "descriptors"),
    (Defence::WorkingDirectory, "working-directory"),
    (Defence::Hidden, "hidden"),
    (Defence::Keyring, "keyring"),
    (Defence::NullDevice, "null-device"),
    (Defence::Console, "console"),
    (Defence::Procfs, "procfs"),
    (Defence::Label, "label"),
    (Defence::MountTarget, "mount-target"),
    (Defence::Inheritable, "inheritable"),
    (Defence::ReleaseAgent, "release-agent"),
    (Defence::CgroupMount, "cgroup-mount"),
    (Defence::BindOptions, "bind-options"),
    (Defence::Gate, "gate"),
    (Defence::OldRoot, "old-root"),
    (Defence::Seccomp, "seccomp"),
    (Defence::StartHooks, "start-hooks"),
    (Defence::BornInside, "born-inside"),
];

/// Whether a defence is in force: always, in a usual build.
#[cfg(not(feature = "weaken"))]
#[inline(always)]
pub const fn stands(_: Defence) -> bool {
    true
}

#[cfg(feature = "weaken")]
pub use weakened::{stands, weaken};

#[cfg(feature = "weaken")]
mod weakened {
    use super::{ALL, Defence};
    use std::sync::atomic::{AtomicU64, Ordering};
    use tare_model::{Error, Kind, Result};

    static FALLEN: AtomicU64 = AtomicU64::new(0);

    /// Whether a defence is in force.
    pub fn stands(defence: Defence) -> bool {
        FALLEN.load(Ordering::Relaxed) & (1 << defence as u8) == 0
    }

    /// Takes away the defences of these names, comma-separated, for this process and its clones.
    ///
    /// # Errors
    /// `Kind::Invalid` for a word that names none.
    pub fn weaken(names: &str) -> Result<()> {
        for name in names.split(',').filter(|n| !n.is_empty()) {
            let found = ALL.iter().find(|(_, word)| *word == name);
            let (defence, _) =
                found.ok_or_else(|| Error::new(Kind::Invalid, "weaken", name).because("no such defence"))?;
            FALLEN.fetch_or(1 << *defence as u8, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defence_has_one_name_and_stands() {
        for (i, (defence, name)) in ALL.iter().enumerate() {
            assert_eq!(*defence as usize, i, "{name}: the table is in the order of the type");
            assert!(stands(*defence), "{name}");
            assert_eq!(ALL.iter().filter(|(_, n)| n == name).count(), 1);
        }
    }
}
