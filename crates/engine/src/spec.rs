//! From a container's record to the OCI runtime specification that says the same.

use crate::record::{Mounted, Record};
use crate::request::{MountKind, NamespaceMode, NetworkMode, Propagation, Seccomp};
use crate::users::Identity;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tare_kernel::capability::Set;
use tare_model::id_map::IdMaps;
use tare_model::runtime_spec::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxIdMapping, LinuxNamespace, LinuxResources, Mount, NamespaceKind,
    PosixRlimit, Process, Root, Spec, User, VERSION,
};
use tare_runtime::cgroup;
use tare_runtime::security::{capability, seccomp};

/// Facts of the host and of other containers that a specification depends on.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Namespaces of other containers to join: `/proc/PID/ns/…`.
    pub(crate) join: BTreeMap<NamespaceKind, PathBuf>,
    /// The first process of each of those containers.
    pub(crate) joined: Vec<rustix::fd::OwnedFd>,
    /// Devices to make, looked up on the host.
    pub(crate) devices: Vec<LinuxDevice>,
    /// Rules that let them be used.
    pub(crate) device_rules: Vec<LinuxDeviceCgroup>,
    /// Directory that holds this container's hosts, hostname and resolv.conf.
    pub(crate) files: PathBuf,
    /// Whether this host limits memory and swap together.
    pub(crate) counts_swap: bool,
    /// Hard limit of open files of this host's root.
    pub(crate) nofile: u64,
    /// The tare binary, for `--init`.
    pub(crate) binary: PathBuf,
}

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
const MASKED_TOO: [&str; 1] = ["/sys/devices/virtual/powercap"];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where `--init` puts the small init.
pub(crate) const INIT_PATH: &str = "/dev/.tare-init";

/// The specification of one start.
pub(crate) fn spec(record: &Record, identity: &Identity, facts: &Facts, cgroup: &str) -> Spec {
    let r = &record.request;
    let confined = !r.privileged;
    let paths_confined = confined && !r.security.systempaths_unconfined;
    let list = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let mut namespaces = namespaces(record, facts);
    namespaces.sort_by_key(|n| n.kind);
    let owns = |kind| namespaces.iter().any(|n| n.kind == kind && n.path.is_none());
    let mut sysctl = r.sysctls.clone();
    if owns(NamespaceKind::Network) {
        // As docker: no capability is needed for ping and for ports below 1024.
        let last = record.ids.as_ref().map_or(i32::MAX as u32, |ids| first_gap(&ids.gid) - 1);
        let range = format!("0 {last}");
        for (key, value) in
            [("net.ipv4.ping_group_range", range.as_str()), ("net.ipv4.ip_unprivileged_port_start", "0")]
        {
            sysctl.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    let hostname = owns(NamespaceKind::Uts).then(|| record.hostname.clone());
    Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(record, identity, facts)),
        root: Some(Root { path: "rootfs".to_owned(), readonly: r.read_only }),
        hostname,
        domainname: r.domainname.clone(),
        mounts: mounts(record, facts),
        hooks: None,
        annotations: r.annotations.clone(),
        linux: Some(Linux {
            sysctl,
            resources: Some(resources(record, facts)),
            cgroups_path: Some(cgroup.to_owned()),
            namespaces,
            uid_mappings: record.ids.as_ref().map(|ids| ids.uid.clone()).unwrap_or_default(),
            gid_mappings: record.ids.as_ref().map(|ids| ids.gid.clone()).unwrap_or_default(),
            devices: facts.devices.clone(),
            seccomp: match &r.security.seccomp {
                Seccomp::Default if confined => Some(seccomp::default_profile(Set(record.capabilities))),
                Seccomp::Default | Seccomp::Unconfined => None,
                Seccomp::Profile(profile) => Some(profile.clone()),
            },
            masked_paths: if paths_confined { [list(&MASKED), list(&MASKED_TOO)].concat() } else { Vec::new() },
            readonly_paths: if paths_confined { list(&READONLY) } else { Vec::new() },
            ..Default::default()
        }),
    }
}

fn namespaces(record: &Record, facts: &Facts) -> Vec<LinuxNamespace> {
    let r = &record.request;
    let own = |kind| Some(LinuxNamespace { kind, path: None });
    let by_mode = |kind: NamespaceKind, mode: &NamespaceMode| match mode {
        NamespaceMode::Private => own(kind),
        NamespaceMode::Host => None,
        NamespaceMode::Container(_) => joined(kind, facts),
    };
    let network = match r.network {
        NetworkMode::Host => None,
        NetworkMode::Container(_) | NetworkMode::Path(_) => joined(NamespaceKind::Network, facts),
        NetworkMode::Bridge | NetworkMode::None => own(NamespaceKind::Network),
    };
    // A container in another's network has its host name too, unless told otherwise.
    let uts = match (&r.network, &r.uts) {
        (NetworkMode::Container(_), NamespaceMode::Private) => joined(NamespaceKind::Uts, facts),
        (_, mode) => by_mode(NamespaceKind::Uts, mode),
    };
    [
        own(NamespaceKind::Mount),
        by_mode(NamespaceKind::Pid, &r.pid),
        by_mode(NamespaceKind::Ipc, &r.ipc),
        by_mode(NamespaceKind::Cgroup, &r.cgroupns),
        uts,
        network,
        record.ids.as_ref().and_then(|_| own(NamespaceKind::User)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn joined(kind: NamespaceKind, facts: &Facts) -> Option<LinuxNamespace> {
    let path = facts.join.get(&kind)?;
    Some(LinuxNamespace { kind, path: Some(path.display().to_string()) })
}

fn process(record: &Record, identity: &Identity, facts: &Facts) -> Process {
    let r = &record.request;
    let mut env = record.env.clone();
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    Process {
        terminal: r.tty,
        user: User { uid: identity.uid, gid: identity.gid, umask: None, additional_gids: identity.groups.clone() },
        args: record.args.clone(),
        env,
        cwd: record.cwd.clone(),
        capabilities: Some(capabilities_of(record.capabilities, identity.uid)),
        rlimits: rlimits(&r.ulimits, facts.nofile),
        no_new_privileges: r.security.no_new_privileges,
        apparmor_profile: r.security.apparmor.clone().filter(|p| p != "unconfined"),
        oom_score_adj: r.oom_score_adj,
        ..Default::default()
    }
}

/// A user other than root gets the bounding set, and nothing permitted or effective, as with docker.
pub(crate) fn capabilities_of(mask: u64, uid: u32) -> tare_model::runtime_spec::LinuxCapabilities {
    let mut sets = capability::spec_of(Set(mask));
    if uid != 0 {
        sets.effective.clear();
        sets.permitted.clear();
    }
    sets
}

/// The limits asked for. Open files are bounded where the caller says nothing: programs loop over all they may open.
pub(crate) fn rlimits(asked: &[PosixRlimit], host_hard: u64) -> Vec<PosixRlimit> {
    // Of several for one resource the last counts.
    let last = |(i, l): (usize, &PosixRlimit)| asked[i + 1..].iter().all(|m| m.kind != l.kind).then(|| l.clone());
    let mut out: Vec<_> = asked.iter().enumerate().filter_map(last).collect();
    if !out.iter().any(|l| l.kind == "RLIMIT_NOFILE") {
        let hard = host_hard.min(524_288);
        out.push(PosixRlimit { kind: "RLIMIT_NOFILE".to_owned(), hard, soft: hard.min(1024) });
    }
    out
}

fn resources(record: &Record, facts: &Facts) -> LinuxResources {
    let mut out = record.request.limits.clone();
    if let Some(memory) = &mut out.memory
        && let (Some(limit), None, true) = (memory.limit, memory.swap, facts.counts_swap)
        && limit > 0
    {
        // docker's rule: as much swap as memory.
        memory.swap = Some(limit.saturating_mul(2));
    }
    let mut devices = if record.request.privileged {
        vec![LinuxDeviceCgroup {
            allow: true,
            kind: Some("a".to_owned()),
            access: Some("rwm".to_owned()),
            ..Default::default()
        }]
    } else {
        cgroup::default_rules()
    };
    devices.extend(facts.device_rules.iter().cloned());
    devices.append(&mut out.devices);
    out.devices = devices;
    out
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Default::default()
    }
}

fn mounts(record: &Record, facts: &Facts) -> Vec<Mount> {
    let r = &record.request;
    let ro = if r.privileged { "rw" } else { "ro" };
    let foreign = |mode: bool| mode && record.ids.is_some();
    // A user namespace can only mount what shows namespaces of its own: of others, it gets what is mounted there.
    let proc = match foreign(r.pid != NamespaceMode::Private) {
        true => mount("/proc", "bind", "/proc", &["rbind", "rprivate", "nosuid", "noexec", "nodev"]),
        false => mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    };
    let sys = match foreign(!matches!(r.network, NetworkMode::Bridge | NetworkMode::None)) {
        true => mount("/sys", "bind", "/sys", &["rbind", "rprivate", "nosuid", "noexec", "nodev", &format!("r{ro}")]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", ro]),
    };
    let mut out = vec![
        proc,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", ro]),
    ];
    out.extend(ipc_mounts(record));
    if r.init {
        let binary = facts.binary.display().to_string();
        out.push(mount(INIT_PATH, "bind", &binary, &["bind", "ro", "nosuid"]));
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        let target = format!("/etc/{name}");
        // A file that was mounted there by request is the user's.
        if !record.mounts.iter().any(|m| m.request.target == target) {
            let source = facts.files.join(name);
            let ro = if r.read_only { "ro" } else { "rw" };
            let file = mount(&target, "bind", &source.display().to_string(), &["bind", "rprivate", ro]);
            out.push(mapped(file, record.ids.as_ref()));
        }
    }
    for m in &record.mounts {
        // What stands for the system's own gives way.
        out.retain(|system| system.destination != m.request.target);
        let ids = record.ids.as_ref().filter(|_| m.request.kind.maps_ids());
        out.push(mapped(asked_mount(m), ids));
    }
    out
}

/// A bind mount that shows owners as ids of the container.
fn mapped(mut mount: Mount, ids: Option<&IdMaps>) -> Mount {
    if let Some(ids) = ids {
        mount.options.push("idmap".to_owned());
        mount.uid_mappings.clone_from(&ids.uid);
        mount.gid_mappings.clone_from(&ids.gid);
    }
    mount
}

/// The lowest id that is not mapped.
fn first_gap(maps: &[LinuxIdMapping]) -> u32 {
    let mut gap = 0;
    while let Some(m) = maps.iter().find(|m| m.container_id <= gap && gap < m.container_id.saturating_add(m.size)) {
        gap = m.container_id.saturating_add(m.size);
    }
    gap.max(1)
}

/// /dev/shm and /dev/mqueue: of the IPC namespace that the container is in. Those of another container are found by
/// the start, which looks into its mounts.
fn ipc_mounts(record: &Record) -> Vec<Mount> {
    let r = &record.request;
    match r.ipc {
        NamespaceMode::Host => [("/dev/shm", "/dev/shm"), ("/dev/mqueue", "/dev/mqueue")]
            .into_iter()
            .filter(|(_, source)| Path::new(source).exists())
            .map(|(target, source)| mount(target, "bind", source, &["rbind", "nosuid", "noexec", "nodev"]))
            .collect(),
        NamespaceMode::Container(_) => Vec::new(),
        NamespaceMode::Private => {
            let size = format!("size={}", r.shm_size.unwrap_or(64 << 20));
            vec![
                mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]),
                mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            ]
        }
    }
}

fn asked_mount(m: &Mounted) -> Mount {
    let target = &m.request.target;
    let source = m.source.as_ref().map(|s| s.display().to_string()).unwrap_or_default();
    let ro: &[&str] = if m.request.read_only { &["ro"] } else { &[] };
    // What is mounted below the source is meant, too, as docker means it since version 25.
    let rro: &[&str] = if m.request.read_only { &["rro"] } else { &[] };
    match &m.request.kind {
        MountKind::Bind { propagation, recursive, .. } => {
            let ro = if *recursive { rro } else { ro };
            let spread = propagation.map_or("rprivate", propagation_word);
            let bind = if *recursive { "rbind" } else { "bind" };
            mount(target, "bind", &source, &[&[bind, spread], ro].concat())
        }
        MountKind::Volume { .. } => mount(target, "bind", &source, &[&["rbind", "rprivate"], rro].concat()),
        MountKind::Tmpfs { size, mode, options } => {
            let mut all: Vec<String> = ["nosuid", "nodev", "noexec"].iter().map(|o| (*o).to_owned()).collect();
            all.extend(ro.iter().map(|o| (*o).to_owned()));
            all.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            all.extend(size.map(|s| format!("size={s}")));
            // Later words win: `exec` takes back the `noexec` above.
            all.extend(options.iter().cloned());
            Mount { options: all, ..mount(target, "tmpfs", "tmpfs", &[]) }
        }
    }
}

fn propagation_word(p: Propagation) -> &'static str {
    match p {
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Rshared => "rshared",
        Propagation::Slave => "slave",
        Propagation::Rslave => "rslave",
    }
}
