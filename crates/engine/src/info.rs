//! What this host offers, and what tare keeps on it.

use crate::record::read_or_empty;
use crate::view::State;
use crate::{Engine, images, starter, stats};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tare_model::image::Platform;
use tare_model::{Kind, Result};
use tare_runtime::cgroup::{Layout, Mode};
use tare_store::Removed;

/// This host and one root on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Containers by state: created, running, paused, exited.
    pub created: usize,
    /// See `created`.
    pub running: usize,
    /// See `created`.
    pub paused: usize,
    /// See `created`.
    pub exited: usize,
    /// Images.
    pub images: usize,
    /// Volumes.
    pub volumes: usize,
    /// Where durable state lies.
    pub root: PathBuf,
    /// Where this boot's state lies.
    pub run: PathBuf,
    /// How this root's cgroups and firewall table are named.
    pub instance: String,
    /// How its bridge is named.
    pub bridge: String,
    /// How root filesystems are made.
    pub storage: String,
    /// What new layers are unpacked as: `erofs`, `overlay`.
    pub snapshotter: String,
    /// Why.
    pub snapshotter_reason: String,
    /// Type of the file system below the root.
    pub filesystem: String,
    /// `v1`, `hybrid`, `v2` or `none`.
    pub cgroup_mode: String,
    /// Controllers that can be used.
    pub controllers: Vec<String>,
    /// `seccomp`, `apparmor`, `selinux`, `landlock`.
    pub security: Vec<String>,
    /// Kernel release.
    pub kernel: String,
    /// Name of the distribution.
    pub os: String,
    /// Processor architecture, as images name it.
    pub architecture: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// Host name.
    pub hostname: String,
    /// What of this host will be missed.
    pub warnings: Vec<String>,
}

/// What limits need, and what is missed without it.
const WANTED: [(&str, &str); 6] = [
    ("memory", "memory cannot be limited"),
    ("cpu", "processor time cannot be limited"),
    ("cpuset", "processors cannot be chosen"),
    ("pids", "the number of processes cannot be limited"),
    ("io", "transfers of block devices cannot be limited"),
    ("freezer", "containers cannot be paused"),
];

impl Engine {
    /// Describes this host and this root.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn info(&self) -> Result<Info> {
        let containers = self.containers(true)?;
        let count = |state: State| containers.iter().filter(|c| c.state == state).count();
        let layout = Layout::read()?;
        let (snapshotter, snapshotter_reason) = self.snapshotter();
        let uname = rustix::system::uname();
        Ok(Info {
            created: count(State::Created),
            running: count(State::Running),
            paused: count(State::Paused),
            exited: count(State::Exited),
            images: self.store.images()?.len(),
            volumes: self.store.volumes()?.len(),
            root: self.config.root.clone(),
            run: self.config.run.clone(),
            instance: self.instance.clone(),
            bridge: self.site().bridge,
            storage: "overlay".to_owned(),
            snapshotter: snapshotter.to_owned(),
            snapshotter_reason,
            filesystem: filesystem_of(&self.config.root),
            cgroup_mode: mode(layout.mode()).to_owned(),
            controllers: controllers(&layout),
            security: security(),
            kernel: uname.release().to_string_lossy().into_owned(),
            os: os_name(&read_or_empty(Path::new("/etc/os-release"))),
            architecture: Platform::host().architecture,
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: stats::host_memory(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            warnings: warnings(&layout),
        })
    }

    /// Removes an image or a name of it; see the store's `remove_image`. `hello` is the starter image.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container or the other names.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Removed> {
        self.let_go_of_image(name, force)?;
        let removed = match self.store.remove_image(name, force) {
            Err(e) if e.kind() == Kind::NotFound && images::is_starter(name) => {
                self.store.remove_image(starter::STARTER, force)?
            }
            other => other?,
        };
        self.let_go_of_layers()?;
        Ok(removed)
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::None => "none",
        Mode::V1 => "v1",
        Mode::Hybrid => "hybrid",
        Mode::V2 => "v2",
    }
}

fn controllers(layout: &Layout) -> Vec<String> {
    let mut all: Vec<String> = layout.hierarchies.iter().flat_map(|h| h.controllers.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

fn warnings(layout: &Layout) -> Vec<String> {
    let has = |name: &str| {
        let other = match name {
            // v1's name for it.
            "io" => "blkio",
            n => n,
        };
        // cgroup2 freezes by itself.
        (name == "freezer" && layout.unified().is_some())
            || layout.with_controller(name).is_some()
            || layout.with_controller(other).is_some()
    };
    let missing = WANTED.iter().filter(|(name, _)| !has(name));
    missing.map(|(name, lost)| format!("no cgroup controller {name}: {lost}")).collect()
}

/// Which of the kernel's security modules are active, and whether it can filter system calls.
fn security() -> Vec<String> {
    let mut out = Vec::new();
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        out.push("seccomp".to_owned());
    }
    if read_or_empty(Path::new("/sys/module/apparmor/parameters/enabled")).trim() == "Y" {
        out.push("apparmor".to_owned());
    }
    let active = read_or_empty(Path::new("/sys/kernel/security/lsm"));
    out.extend(active.trim().split(',').filter(|m| matches!(*m, "selinux" | "landlock")).map(str::to_owned));
    out
}

/// The name that os-release(5) is to be shown by.
fn os_name(text: &str) -> String {
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |n| n.trim_matches(['"', '\''])).to_owned()
}

/// The type of the file system at a path, by the longest mount point above it.
fn filesystem_of(path: &Path) -> String {
    let mountinfo = read_or_empty(Path::new("/proc/self/mountinfo"));
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        path.starts_with(point).then(|| (point.len(), after.split(' ').next().unwrap_or_default().to_owned()))
    });
    // Of several mounts on one place, the last covers the others.
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let all = warnings(&Layout::default());
        assert_eq!(all.len(), WANTED.len());
        assert!(all.contains(&"no cgroup controller memory: memory cannot be limited".to_owned()), "{all:?}");
        let here = warnings(&Layout::read().unwrap());
        assert!(here.len() < WANTED.len(), "{here:?}");
    }

    #[test]
    fn names_and_file_systems_are_read() {
        assert_eq!(os_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_name(""), "Linux");
        assert_eq!(filesystem_of(Path::new("/proc/self")), "proc");
    }
}
