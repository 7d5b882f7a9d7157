//! What one root has in the kernel and on disk, outside of its store: cgroups, mounts, devices, rules, processes.

use crate::process::{Running, command, have};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// By what the things of one root are known.
#[derive(Debug, Clone)]
pub struct Names {
    /// `--root`.
    pub root: PathBuf,
    /// `--run`.
    pub run: PathBuf,
    /// The name of its bridge.
    pub bridge: String,
    /// The name of its firewall table and its cgroups.
    pub instance: String,
}

/// What was found, one line each, such as `cgroup /sys/fs/cgroup/memory/tare-x`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census(pub Vec<String>);

impl Names {
    /// The names of this root.
    pub fn of(root: &Path, run: &Path) -> Names {
        let tare_network::Site { bridge, table: instance } = tare_network::Site::of(root);
        Names { root: root.to_owned(), run: run.to_owned(), bridge, instance }
    }
}

impl Census {
    /// Looks for everything of this root that exists only while containers do.
    ///
    /// # Panics
    /// If /proc or /sys cannot be read.
    pub fn take(names: &Names) -> Census {
        let mut found = cgroups(names);
        found.extend(mounts(names));
        found.extend(devices(names));
        found.extend(tables(names));
        found.extend(processes(names));
        found.extend(run_files(names));
        found.extend(container_directories(names));
        found.sort();
        Census(found)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn cgroups(names: &Names) -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_cgroup = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup"));
    let tops = mountinfo.lines().filter(is_cgroup).filter_map(|l| l.split(' ').nth(4));
    let groups = tops.map(|top| Path::new(top).join(&names.instance)).filter(|p| p.exists());
    groups.map(|p| format!("cgroup {}", p.display())).collect()
}

fn mounts(names: &Names) -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = [names.root.display().to_string(), names.run.display().to_string()];
    let ours = |line: &&str| places.iter().any(|p| line.contains(p.as_str()));
    mountinfo.lines().filter(ours).map(|l| format!("mount {l}")).collect()
}

/// The bridge, and host ends of containers: ports of that bridge.
fn devices(names: &Names) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let master = std::fs::read_link(entry.path().join("master")).ok();
        let is_port = master.is_some_and(|m| m.file_name().is_some_and(|f| f.as_bytes() == names.bridge.as_bytes()));
        if name == names.bridge || is_port {
            found.push(format!("device {name}"));
        }
    }
    found
}

fn tables(names: &Names) -> Vec<String> {
    if !have("nft") {
        return Vec::new();
    }
    let mut list = command("nft");
    let out = Running::start(list.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").args(["list", "tables"]), None).wait();
    let ours = |line: &&str| line.rsplit(' ').next() == Some(names.instance.as_str());
    out.stdout.lines().filter(ours).map(str::to_owned).collect()
}

/// Processes whose command line names this root or its run directory: supervisors, clients.
fn processes(names: &Names) -> Vec<String> {
    let needles = [names.root.as_os_str().as_bytes(), names.run.as_os_str().as_bytes()];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let named = needles.iter().any(|n| line.windows(n.len()).any(|w| w == *n));
        if named && pid != std::process::id() {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("process {pid} {line}"));
        }
    }
    found
}

fn run_files(names: &Names) -> Vec<String> {
    let list = std::fs::read_dir(names.run.join("containers"));
    list.into_iter().flatten().flatten().map(|e| format!("run {}", e.path().display())).collect()
}

fn container_directories(names: &Names) -> Vec<String> {
    let list = std::fs::read_dir(names.root.join("containers"));
    list.into_iter().flatten().flatten().map(|e| format!("container {}", e.path().display())).collect()
}
