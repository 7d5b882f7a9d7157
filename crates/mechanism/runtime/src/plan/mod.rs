//! From a runtime specification to the list of things that will be done: pure, printable, serialisable.
//!
//! A [`LaunchPlan`] holds no descriptors and makes no system calls. What must be opened on the host before the clone
//! (the sources of bind mounts, the cgroup) is named here and opened by [`crate::launch`], which hands it to the steps
//! by index.

mod mounts;
mod process;
mod scheduling;

pub use mounts::{Bind, MountPlan, Source};
pub(crate) use process::resource;
pub use process::{IdentityPlan, Keyring, ProcessPlan, plan as plan_process, plan_of as plan_process_of};
pub use scheduling::{MemoryPolicyPlan, NumberSet, SchedulerPlan, SchedulingPlan};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tare_model::runtime_spec::{LinuxDevice, NamespaceKind, Spec};
use tare_model::{Error, Kind, Result};

/// Everything about one start, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Namespaces made by the clone, or later by the child (cgroup, time).
    pub create: Vec<NamespaceKind>,
    /// Namespaces joined, by path.
    pub join: Vec<(NamespaceKind, PathBuf)>,
    /// What the child does between the clone and the start gate, in order.
    pub steps: Vec<Step>,
    /// What it does after the gate, and becomes.
    pub process: ProcessPlan,
}

/// One thing that the child does before the gate. Paths are inside the new root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Writes /proc/self/oom_score_adj, while the host's /proc is there.
    OomScoreAdj(i32),
    /// Cuts this mount namespace off from the host's mount events.
    IsolateMounts,
    /// Makes the prepared root the root directory; the old one stays reachable until [`Step::DetachHost`].
    EnterRoot,
    /// Mounts something.
    Mount(MountPlan),
    /// Makes the device nodes and links in /dev.
    Devices(Vec<LinuxDevice>),
    /// Binds the terminal's slave on /dev/console.
    Console,
    /// Lets go of the host's mounts.
    DetachHost,
    /// Makes the working directory if it is missing, on whatever is mounted there.
    WorkingDirectory(String),
    /// sethostname(2).
    Hostname(String),
    /// setdomainname(2).
    Domainname(String),
    /// Writes files below /proc/sys, through the proc mount made here.
    Sysctls(BTreeMap<String, String>),
    /// Read-only binds of paths on themselves.
    ReadonlyPaths(Vec<String>),
    /// Unreadable binds over paths.
    MaskedPaths(Vec<String>),
    /// The root itself becomes read-only.
    ReadonlyRoot,
    /// The root's propagation, MS_* flags.
    RootPropagation {
        /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
        flag: u64,
        /// Everything below, too.
        recursive: bool,
    },
}

/// Decides how to start the container that the specification describes.
///
/// # Errors
/// `Kind::Invalid` for contradictions and malformed values, `Kind::Unsupported` for what tare does not do yet.
pub fn plan(spec: &Spec) -> Result<LaunchPlan> {
    let bad = |why: &str| Error::new(Kind::Invalid, "plan container", "").because(why);
    let linux = spec.linux.as_ref().ok_or_else(|| bad("the specification has no linux part"))?;
    let process = spec.process.as_ref().ok_or_else(|| bad("the specification has no process"))?;
    let (mut create, mut join) = (Vec::new(), Vec::new());
    for ns in &linux.namespaces {
        if create.contains(&ns.kind) || join.iter().any(|(k, _)| *k == ns.kind) {
            return Err(bad("a namespace is listed twice"));
        }
        match &ns.path {
            Some(path) => join.push((ns.kind, PathBuf::from(path))),
            None => create.push(ns.kind),
        }
    }
    if create.contains(&NamespaceKind::User) || join.iter().any(|(k, _)| *k == NamespaceKind::User) {
        return Err(
            Error::new(Kind::Unsupported, "plan container", "").because("user namespaces are not supported yet")
        );
    }
    if !create.contains(&NamespaceKind::Mount) {
        return Err(bad("a mount namespace of its own is needed"));
    }
    let own_or_joined = |k| create.contains(&k) || join.iter().any(|(j, _)| *j == k);
    if spec.hostname.is_some() && !own_or_joined(NamespaceKind::Uts) {
        return Err(bad("a host name needs a UTS namespace").hint("leave out --hostname with --uts host"));
    }
    check_sysctls(&linux.sysctl, &create)?;

    let mut steps = Vec::new();
    if let Some(adj) = process.oom_score_adj {
        steps.push(Step::OomScoreAdj(adj));
    }
    steps.push(Step::IsolateMounts);
    steps.push(Step::EnterRoot);
    for mount in &spec.mounts {
        let plan = mounts::plan(mount)?;
        let is_dev = plan.target == "/dev" && matches!(plan.source, Source::Filesystem { .. });
        steps.push(Step::Mount(plan));
        if is_dev {
            // Before anything is mounted below /dev.
            steps.push(Step::Devices(devices(&linux.devices)));
        }
    }
    if process.terminal {
        steps.push(Step::Console);
    }
    steps.push(Step::DetachHost);
    if let Some(flags) = &linux.rootfs_propagation {
        let (flag, recursive) = mounts::propagation(flags).ok_or_else(|| bad("unknown rootfsPropagation"))?;
        steps.push(Step::RootPropagation { flag, recursive });
    }
    if process.cwd != "/" {
        steps.push(Step::WorkingDirectory(process.cwd.clone()));
    }
    if create.contains(&NamespaceKind::Uts) {
        steps.extend(spec.hostname.clone().map(Step::Hostname));
        steps.extend(spec.domainname.clone().map(Step::Domainname));
    }
    if !linux.sysctl.is_empty() {
        steps.push(Step::Sysctls(linux.sysctl.clone()));
    }
    if !linux.readonly_paths.is_empty() {
        steps.push(Step::ReadonlyPaths(linux.readonly_paths.clone()));
    }
    if !linux.masked_paths.is_empty() {
        steps.push(Step::MaskedPaths(linux.masked_paths.clone()));
    }
    if spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Step::ReadonlyRoot);
    }
    Ok(LaunchPlan { create, join, steps, process: process::first_of(process, linux)? })
}

/// The devices that every container has (config-linux.md#default-devices), then those asked for.
fn devices(asked: &[LinuxDevice]) -> Vec<LinuxDevice> {
    let standard = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let mut out: Vec<LinuxDevice> = standard
        .iter()
        .map(|(name, major, minor)| LinuxDevice {
            kind: "c".into(),
            path: format!("/dev/{name}"),
            major: *major,
            minor: *minor,
            file_mode: Some(0o666),
            uid: None,
            gid: None,
        })
        .filter(|d| !asked.iter().any(|a| a.path == d.path))
        .collect();
    out.extend_from_slice(asked);
    out
}

/// Only parameters of namespaces that the container has may be set: the others are the whole host's.
fn check_sysctls(sysctls: &BTreeMap<String, String>, create: &[NamespaceKind]) -> Result<()> {
    const IPC: [&str; 10] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
        "kernel.sem_next_id",
    ];
    for key in sysctls.keys() {
        let dotted = key.replace('/', ".");
        if key.split(if key.contains('/') { '/' } else { '.' }).any(|part| matches!(part, "" | "." | "..")) {
            return Err(
                Error::new(Kind::Invalid, "set sysctl", format!("{key:?}")).because("it is not a parameter's name")
            );
        }
        let (kind, words) = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            (NamespaceKind::Ipc, "IPC")
        } else if dotted.starts_with("net.") {
            (NamespaceKind::Network, "network")
        } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
            (NamespaceKind::Uts, "UTS")
        } else {
            return Err(Error::new(Kind::Invalid, "set sysctl", key)
                .because("it belongs to the whole host, not to a namespace")
                .hint("set it on the host, or use one of net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*"));
        };
        if !create.contains(&kind) {
            return Err(Error::new(Kind::Invalid, "set sysctl", key)
                .because(format!("the container has no {words} namespace of its own")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{Linux, LinuxNamespace, Process};

    fn spec(kinds: &[NamespaceKind]) -> Spec {
        Spec {
            process: Some(Process { args: vec!["true".into()], cwd: "/".into(), ..Default::default() }),
            linux: Some(Linux {
                namespaces: kinds.iter().map(|k| LinuxNamespace { kind: *k, path: None }).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_hostname_without_a_uts_namespace_is_refused() {
        let mut s = spec(&[NamespaceKind::Mount]);
        s.hostname = Some("x".into());
        assert_eq!(plan(&s).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let mut s = spec(&[NamespaceKind::Mount, NamespaceKind::Network]);
        let set = |s: &mut Spec, k: &str| s.linux.as_mut().unwrap().sysctl = BTreeMap::from([(k.into(), "1".into())]);
        set(&mut s, "net.ipv4.ip_forward");
        assert!(plan(&s).is_ok());
        for key in ["kernel.pid_max", "vm.swappiness", "kernel.shmmax", "net/../vm/swappiness", "net..vm"] {
            set(&mut s, key);
            assert!(plan(&s).is_err(), "{key}");
        }
    }

    #[test]
    fn a_plan_survives_json() {
        let p = plan(&spec(&[NamespaceKind::Mount, NamespaceKind::Pid])).unwrap();
        let again: LaunchPlan = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
        assert_eq!(again, p);
    }
}
