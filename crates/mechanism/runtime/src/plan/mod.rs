//! From a runtime specification to the list of things that will be done: pure, printable, serialisable.
//!
//! A [`LaunchPlan`] holds no descriptors and makes no system calls. What must be opened on the host before the clone
//! (the sources of bind mounts, the cgroup) is named here and opened by [`crate::launch`], which hands it to the steps
//! by index.

mod devices;
mod mount_options;
mod mounts;
pub(crate) mod namespaces;
mod process;
mod scheduling;
mod sysctl;

pub use mounts::{Bind, IdMap, MapsFrom, MountPlan, Source, resolve_against_bundle};
pub use namespaces::{IdMaps, IdRange, NamespacePlan};
pub(crate) use process::resource;
pub use process::{IdentityPlan, Keyring, ProcessPlan, plan as plan_process, plan_of as plan_process_of};
pub use scheduling::{MemoryPolicyPlan, NumberSet, SchedulerPlan, SchedulingPlan, memory_policy_names};

use crate::net_device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use sysctl::check_sysctls;
use tare_kernel::mount::UNBINDABLE;
use tare_model::runtime_spec::{Hook, Hooks, LinuxDevice, NamespaceKind, Spec};
use tare_model::{Error, Kind, Result};

/// Everything about one start, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Namespaces made and joined.
    pub namespaces: NamespacePlan,
    /// What the child does between the clone and the start gate, in order.
    pub steps: Vec<Step>,
    /// Devices of the host's network that the parent moves in while the child stands at its rendezvous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<net_device::Device>,
    /// Hooks that the child runs after the gate, before it becomes the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_hooks: Vec<Hook>,
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
    /// Attaches the prepared root somewhere, so that things can be mounted in it.
    AttachRoot(RootPlace),
    /// Waits until the parent has run its hooks: prestart and createRuntime.
    Rendezvous,
    /// Runs hooks in the container's namespaces, with programs of the host: createContainer.
    ContainerHooks(Vec<Hook>),
    /// Makes the prepared root the root directory; the old one stays reachable until [`Step::DetachHost`].
    EnterRoot(Enter),
    /// Mounts something.
    Mount(MountPlan),
    /// Makes the device nodes and links in /dev.
    Devices(Vec<LinuxDevice>),
    /// Binds the terminal's slave on /dev/console.
    Console,
    /// Makes those mounts read-only that had to be written to until here.
    SealMounts,
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
    /// Sets the loopback device of a new network up.
    Loopback,
    /// The propagation of what the root has mounted below it before anything else is, MS_* flags.
    PropagationBelowRoot {
        /// MS_PRIVATE, MS_SLAVE or MS_SHARED.
        flag: u64,
    },
    /// The root's propagation, MS_* flags.
    RootPropagation {
        /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
        flag: u64,
        /// Everything below, too.
        recursive: bool,
    },
}

/// Where the root filesystem lies before it becomes the root directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootPlace {
    /// On the host's root directory: no directory of the host is needed.
    OnHostRoot,
    /// At its own path of the host, where hooks look for it.
    At(PathBuf),
    /// Nowhere: without a mount namespace nothing is attached to the host's mounts.
    Detached,
}

/// How the root filesystem becomes the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enter {
    /// pivot_root(2): nothing of the host is left.
    Pivot,
    /// Moved onto the root directory, then chroot(2): for hosts that run from an initramfs, which cannot be pivoted.
    Move,
    /// chroot(2) alone: without a mount namespace.
    Chroot,
}

impl LaunchPlan {
    /// Enters the root without pivot_root(2), which an initramfs does not allow. The host's root stays below: whoever
    /// may chroot(2) inside can get at it.
    pub fn avoid_pivot(&mut self) {
        for step in &mut self.steps {
            if let Step::EnterRoot(how @ Enter::Pivot) = step {
                *how = Enter::Move;
            }
        }
    }

    /// Whether the child stands at a rendezvous before its root changes.
    pub fn has_rendezvous(&self) -> bool {
        self.steps.contains(&Step::Rendezvous)
    }
}

/// Decides how to start the container that the specification describes.
///
/// # Errors
/// `Kind::Invalid` for contradictions and malformed values, `Kind::Unsupported` for what tare does not do yet.
pub fn plan(spec: &Spec) -> Result<LaunchPlan> {
    let bad = |why: &str| Error::new(Kind::Invalid, "plan container", "").because(why);
    let linux = spec.linux.as_ref().ok_or_else(|| bad("the specification has no linux part"))?;
    let process = spec.process.as_ref().ok_or_else(|| bad("the specification has no process"))?;
    let mut namespaces = namespaces::plan(spec, linux)?;
    namespaces.require_distinct(check_sysctls(&linux.sysctl, &namespaces)?);
    let hooks = spec.hooks.clone().unwrap_or_default();
    let every = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
    every.iter().flat_map(|h| h.iter()).chain(&hooks.poststart).chain(&hooks.poststop).try_for_each(check_hook)?;

    let mut steps = Vec::new();
    if let Some(adj) = process.oom_score_adj {
        steps.push(Step::OomScoreAdj(adj));
    }
    let own_mounts = namespaces.has(NamespaceKind::Mount);
    if own_mounts {
        steps.push(Step::IsolateMounts);
    }
    steps.push(Step::AttachRoot(root_place(spec, &hooks, own_mounts)));
    if namespaces.creates(NamespaceKind::Network) {
        steps.push(Step::Loopback);
    }
    let root_propagation = linux.rootfs_propagation.as_deref().map(root_propagation).transpose()?;
    if let Some((flag, true)) = root_propagation
        && flag != UNBINDABLE
    {
        steps.push(Step::PropagationBelowRoot { flag });
    }
    let around = mounts::Around::of(spec);
    let mounts = spec.mounts.iter().map(|m| mounts::plan(m, &around)).collect::<Result<Vec<_>>>()?;
    let make_devices = devices::are_made(&mounts);
    let seal = mounts.iter().any(MountPlan::sealed_later);
    steps.extend(mounts.into_iter().map(Step::Mount));
    if make_devices {
        // What was mounted below /dev stays as it was asked for.
        steps.push(Step::Devices(devices::with_standard(&linux.devices)?));
    }
    if process.terminal {
        steps.push(Step::Console);
    }
    if seal {
        steps.push(Step::SealMounts);
    }
    // Whoever runs hooks in the child tells them its id in the runtime's namespace, which it learns at the rendezvous.
    let child_hooks = !hooks.create_container.is_empty() || !hooks.start_container.is_empty();
    let net_devices = net_device::plan(&linux.net_devices)?;
    if !net_devices.is_empty() && !namespaces.has(NamespaceKind::Network) {
        return Err(bad("netDevices need a network namespace"));
    }
    // Devices come in from outside before their parameters are set.
    let awaited = child_hooks || !net_devices.is_empty();
    if awaited || !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(Step::Rendezvous);
    }
    if !hooks.create_container.is_empty() {
        steps.push(Step::ContainerHooks(hooks.create_container));
    }
    steps.push(Step::EnterRoot(if own_mounts { Enter::Pivot } else { Enter::Chroot }));
    steps.push(Step::DetachHost);
    if process.cwd != "/" {
        steps.push(Step::WorkingDirectory(process.cwd.clone()));
    }
    if namespaces.has(NamespaceKind::Uts) {
        steps.extend(spec.hostname.clone().map(Step::Hostname));
        steps.extend(spec.domainname.clone().map(Step::Domainname));
    }
    if !linux.sysctl.is_empty() {
        steps.push(Step::Sysctls(linux.sysctl.clone()));
    }
    check_covered("readonlyPaths", &linux.readonly_paths)?;
    check_covered("maskedPaths", &linux.masked_paths)?;
    if !linux.readonly_paths.is_empty() {
        steps.push(Step::ReadonlyPaths(linux.readonly_paths.clone()));
    }
    if !linux.masked_paths.is_empty() {
        steps.push(Step::MaskedPaths(linux.masked_paths.clone()));
    }
    if spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Step::ReadonlyRoot);
    }
    if let Some((flag, recursive)) = root_propagation {
        // Last: what is unbindable cannot be copied for a read-only path any more.
        steps.push(Step::RootPropagation { flag, recursive: recursive && flag == UNBINDABLE });
    }
    let process = process::first_of(process, linux)?;
    Ok(LaunchPlan { namespaces, steps, net_devices, start_hooks: hooks.start_container, process })
}

fn root_propagation(word: &str) -> Result<(u64, bool)> {
    mount_options::propagation(word).ok_or_else(|| {
        Error::new(Kind::Invalid, "plan container", "").because(format!("rootfsPropagation {word:?} is no propagation"))
    })
}

fn root_place(spec: &Spec, hooks: &Hooks, own_mounts: bool) -> RootPlace {
    let path = spec.root.as_ref().map(|r| PathBuf::from(&r.path)).filter(|p| p.is_absolute());
    let looked_at = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|h| !h.is_empty());
    match path {
        _ if !own_mounts => RootPlace::Detached,
        Some(path) if looked_at => RootPlace::At(path),
        _ => RootPlace::OnHostRoot,
    }
}

/// What can be known to be wrong with a hook before anything is made.
///
/// # Errors
/// `Kind::Invalid` for a relative path or a time-out that is not greater than zero.
pub fn check_hook(hook: &Hook) -> Result<()> {
    let bad = |why: &str| Err(Error::new(Kind::Invalid, "plan hook", format!("{:?}", hook.path)).because(why));
    if !hook.path.starts_with('/') {
        return bad("the path is not absolute");
    }
    if hook.timeout.is_some_and(|t| t <= 0) {
        return bad("the time-out is not greater than zero");
    }
    if hook.args.iter().chain(&hook.env).chain([&hook.path]).any(|s| s.contains('\0')) {
        return bad("it holds a zero byte");
    }
    Ok(())
}

/// Paths to be covered are absolute (config-linux.md#masked-paths): one that is not would protect something else.
fn check_covered(field: &'static str, paths: &[String]) -> Result<()> {
    match paths.iter().find(|p| !p.starts_with('/') || p.contains('\0')) {
        Some(path) => {
            Err(Error::new(Kind::Invalid, "plan linux", field).because(format!("{path:?} is no absolute path")))
        }
        None => Ok(()),
    }
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

#[cfg(test)]
mod fuzz;
