//! The process of the specification, its names turned into numbers.

use super::scheduling::{self, SchedulingPlan};
use crate::security::capability::{self, Capabilities};
use serde::{Deserialize, Serialize};
use tare_kernel::capability::Set;
use tare_model::runtime_spec::{Linux, LinuxIdMapping, LinuxSeccomp, NamespaceKind, PosixRlimit, Process};
use tare_model::{Error, Kind, Result};

/// What the child becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// argv.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Whether HOME is added, as the container's /etc/passwd has it, because `env` says nothing of it.
    #[serde(default)]
    pub find_home: bool,
    /// Absolute path inside.
    pub cwd: String,
    /// Whether it gets a controlling terminal.
    pub terminal: bool,
    /// First size of the terminal: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Resource limits, by valid names.
    pub rlimits: Vec<PosixRlimit>,
    /// When and where it runs.
    #[serde(default)]
    pub scheduling: SchedulingPlan,
    /// Who it is.
    pub identity: IdentityPlan,
    /// System call filter, not yet compiled.
    pub seccomp: Option<LinuxSeccomp>,
    /// AppArmor profile to change to on exec.
    pub apparmor: Option<String>,
    /// SELinux label to change to on exec.
    #[serde(default)]
    pub selinux: Option<String>,
    /// Its session keyring.
    #[serde(default)]
    pub keyring: Keyring,
    /// How many descriptors from 3 up, which the caller left open, the program gets.
    #[serde(default)]
    pub preserve_fds: u32,
    /// What was left out of what was asked for, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// End it (SIGKILL) when its parent ends: for first processes, whose parent is the supervisor.
    pub die_with_parent: bool,
    /// Run the command below a small init (a path inside) that reaps and forwards signals.
    pub init: Option<String>,
}

/// The session keyring of a process, which holds secrets of whoever logged in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keyring {
    /// A new one.
    #[default]
    Anonymous,
    /// A new one that /proc/keys shows under this name: `_ses.ID`.
    Named(String),
    /// The caller's own.
    Inherited,
}

/// User, groups and capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPlan {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File creation mask.
    pub umask: Option<u32>,
    /// Capability sets as bit masks.
    pub capabilities: Capabilities,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
}

/// Reads a process for which the container says no more than its filter.
///
/// # Errors
/// As [`plan_of`].
pub fn plan(p: &Process, seccomp: Option<&LinuxSeccomp>) -> Result<ProcessPlan> {
    read(p, seccomp, None)
}

/// Reads the process of a specification, or a further one for a container whose specification has `linux`: filter, memory
/// policy and execution domain are the container's, users are looked up in its id maps.
///
/// The first process of a container has no affinity of its own: see [`first_of`].
///
/// # Errors
/// `Kind::Invalid` without a command, with a relative working directory, with zero bytes, with unknown or doubled limits,
/// with capabilities that the kernel refuses, with users that the container has not.
pub fn plan_of(p: &Process, linux: &Linux) -> Result<ProcessPlan> {
    read(p, linux.seccomp.as_ref(), Some(linux))
}

/// As [`plan_of`], for a container's first process: execCPUAffinity is about those that join later.
pub(super) fn first_of(p: &Process, linux: &Linux) -> Result<ProcessPlan> {
    let mut plan = plan_of(p, linux)?;
    (plan.scheduling.first_cpus, plan.scheduling.last_cpus) = (None, None);
    Ok(plan)
}

fn read(p: &Process, seccomp: Option<&LinuxSeccomp>, linux: Option<&Linux>) -> Result<ProcessPlan> {
    let bad = |why: String| Err(Error::new(Kind::Invalid, "plan process", "").because(why));
    if p.args.is_empty() {
        return Err(Error::new(Kind::Invalid, "plan process", "")
            .because("no command is given")
            .hint("name one after the image, or give the image an ENTRYPOINT or CMD"));
    }
    if !p.cwd.starts_with('/') {
        return bad(format!("the working directory {:?} is not an absolute path", p.cwd));
    }
    let texts = p.args.iter().chain(&p.env).chain([&p.cwd]).chain(&p.apparmor_profile).chain(&p.selinux_label);
    if let Some(s) = texts.into_iter().find(|s| s.contains('\0')) {
        return bad(format!("{s:?} holds a zero byte"));
    }
    let mut warnings = Vec::new();
    let env = environment(&p.env);
    let some_text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    check_limits(&p.rlimits)?;
    check_ids(p, linux)?;
    Ok(ProcessPlan {
        args: p.args.clone(),
        find_home: !env.iter().any(|e| e.starts_with("HOME=")),
        env,
        cwd: p.cwd.clone(),
        terminal: p.terminal,
        console_size: p.console_size.as_ref().filter(|_| p.terminal).map(|s| (s.height, s.width)),
        rlimits: p.rlimits.clone(),
        scheduling: scheduling::plan(p, linux, &mut warnings)?,
        identity: IdentityPlan {
            uid: p.user.uid,
            gid: p.user.gid,
            groups: p.user.additional_gids.clone(),
            umask: p.user.umask,
            capabilities: capabilities(p, &mut warnings)?,
            no_new_privileges: p.no_new_privileges,
        },
        seccomp: seccomp.cloned(),
        apparmor: some_text(&p.apparmor_profile),
        selinux: some_text(&p.selinux_label),
        keyring: Keyring::default(),
        preserve_fds: 0,
        die_with_parent: true,
        warnings,
        init: None,
    })
}

/// The last of several values of one name counts, as with setenv(3); an empty HOME is none.
fn environment(env: &[String]) -> Vec<String> {
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    let mut seen = std::collections::HashSet::with_capacity(env.len());
    let mut kept: Vec<String> =
        env.iter().rev().filter(|e| seen.insert(name(e)) && e.as_str() != "HOME=").cloned().collect();
    kept.reverse();
    kept
}

/// The five sets. Without any the process has none, as with the other runtimes. What the kernel refuses for sure is an
/// error; what only makes a member of the ambient set impossible leaves it out: many engines still ask for it without
/// the inheritable set that it needs, which they were told to leave empty (CVE-2022-29162).
fn capabilities(p: &Process, warnings: &mut Vec<String>) -> Result<Capabilities> {
    let Some(spec) = &p.capabilities else { return Ok(Capabilities::default()) };
    let (mut sets, unknown) = Capabilities::from_spec(spec);
    warnings.extend(unknown.iter().map(|n| format!("capability {n} is unknown to this kernel, and was left out")));
    let bad = |extra: u64, why: &str| {
        Err(Error::new(Kind::Invalid, "plan capabilities", capability::names(Set(extra)).join(" ")).because(why))
    };
    match (sets.effective & !sets.permitted, sets.inheritable & !(sets.bounding | sets.permitted)) {
        (0, 0) => {}
        (0, extra) => return bad(extra, "inheritable, but neither in the bounding nor in the permitted set"),
        (extra, _) => return bad(extra, "effective, but not in the permitted set"),
    }
    let possible = sets.permitted & sets.inheritable;
    if sets.ambient & !possible != 0 {
        let names = capability::names(Set(sets.ambient & !possible)).join(" ");
        warnings.push(format!("{names} cannot be ambient without being permitted and inheritable, and was left out"));
        sets.ambient &= possible;
    }
    Ok(sets)
}

fn check_limits(limits: &[PosixRlimit]) -> Result<()> {
    for (i, limit) in limits.iter().enumerate() {
        let bad = |why: &str| {
            Err(Error::new(Kind::Invalid, "plan limit", format!("{} {}:{}", limit.kind, limit.soft, limit.hard))
                .because(why))
        };
        resource(&limit.kind)?;
        if limits[..i].iter().any(|l| l.kind == limit.kind) {
            return bad("it is listed twice");
        }
        if limit.soft > limit.hard {
            return bad("the soft limit is above the hard one");
        }
    }
    Ok(())
}

/// The limit of a name, `RLIMIT_NOFILE`.
///
/// # Errors
/// `Kind::Invalid` for a name that setrlimit(2) does not have.
pub(crate) fn resource(name: &str) -> Result<rustix::process::Resource> {
    use rustix::process::Resource as R;
    Ok(match name.strip_prefix("RLIMIT_").unwrap_or_default() {
        "AS" => R::As,
        "CORE" => R::Core,
        "CPU" => R::Cpu,
        "DATA" => R::Data,
        "FSIZE" => R::Fsize,
        "LOCKS" => R::Locks,
        "MEMLOCK" => R::Memlock,
        "MSGQUEUE" => R::Msgqueue,
        "NICE" => R::Nice,
        "NOFILE" => R::Nofile,
        "NPROC" => R::Nproc,
        "RSS" => R::Rss,
        "RTPRIO" => R::Rtprio,
        "RTTIME" => R::Rttime,
        "SIGPENDING" => R::Sigpending,
        "STACK" => R::Stack,
        _ => {
            return Err(Error::new(Kind::Invalid, "set limit", format!("{name:?}"))
                .because("no such resource limit")
                .hint("see ulimit names: nofile, nproc, core, memlock, stack, …"));
        }
    })
}

/// In a user namespace made for the container only the ids of its maps exist. One joined by path has maps that only the
/// kernel knows: it says EINVAL.
fn check_ids(p: &Process, linux: Option<&Linux>) -> Result<()> {
    let Some(linux) = linux else { return Ok(()) };
    if !linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User && n.path.is_none()) {
        return Ok(());
    }
    let mapped = |maps: &[LinuxIdMapping], id: u32| {
        maps.is_empty() || maps.iter().any(|m| id.checked_sub(m.container_id).is_some_and(|n| n < m.size))
    };
    let unmapped = |what: &'static str, id: u32| {
        Err(Error::new(Kind::Invalid, what, id)
            .because("the container's user namespace does not map it")
            .hint("enlarge linux.uidMappings and linux.gidMappings, or take an id within them"))
    };
    if !mapped(&linux.uid_mappings, p.user.uid) {
        return unmapped("become user", p.user.uid);
    }
    match [p.user.gid].iter().chain(&p.user.additional_gids).find(|id| !mapped(&linux.gid_mappings, **id)) {
        Some(id) => unmapped("become a member of group", *id),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{LinuxCapabilities, LinuxNamespace, User};

    fn process() -> Process {
        Process { args: vec!["true".into()], cwd: "/".into(), ..Default::default() }
    }

    fn why(change: impl FnOnce(&mut Process)) -> String {
        let mut p = process();
        change(&mut p);
        plan(&p, None).unwrap_err().to_string()
    }

    #[test]
    fn contradictions_are_refused() {
        let limit = |soft, hard| PosixRlimit { kind: "RLIMIT_NOFILE".into(), soft, hard };
        assert!(why(|p| p.rlimits = vec![limit(1, 1), limit(2, 2)]).contains("twice"));
        assert!(why(|p| p.rlimits = vec![limit(2, 1)]).contains("above"));
        assert!(
            why(|p| p.rlimits = vec![PosixRlimit { kind: "RLIMIT_X".into(), soft: 1, hard: 1 }]).contains("no such")
        );
        assert!(why(|p| p.cwd = "x".into()).contains("absolute"));
        assert!(why(|p| p.args[0] = "a\0".into()).contains("zero byte"));
        let caps = |f: fn(&mut LinuxCapabilities)| {
            let mut c = LinuxCapabilities::default();
            f(&mut c);
            Some(c)
        };
        assert!(
            why(|p| p.capabilities = caps(|c| c.effective = vec!["CAP_KILL".into()])).contains("CAP_KILL: effective")
        );
        let text = why(|p| p.capabilities = caps(|c| c.inheritable = vec!["CAP_KILL".into()]));
        assert!(text.contains("inheritable"), "{text}");
    }

    #[test]
    fn an_impossible_ambient_set_and_unknown_names_are_left_out_with_a_warning() {
        let kill = || vec!["CAP_KILL".to_owned()];
        let mut p = process();
        p.capabilities = Some(LinuxCapabilities {
            bounding: vec!["CAP_KILL".into(), "CAP_NOPE".into()],
            permitted: kill(),
            ambient: kill(),
            ..Default::default()
        });
        let planned = plan(&p, None).unwrap();
        assert_eq!(planned.identity.capabilities.ambient, 0);
        assert!(planned.warnings.len() == 2 && planned.warnings[0].contains("CAP_NOPE"), "{:?}", planned.warnings);
        p.capabilities.as_mut().unwrap().inheritable = kill();
        assert_eq!(plan(&p, None).unwrap().identity.capabilities.ambient, 1 << 5);
        p.capabilities = None;
        assert_eq!(plan(&p, None).unwrap().identity.capabilities, Capabilities::default());
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let mut p = process();
        p.env = ["A=1", "B=2", "A=3", "HOME="].map(str::to_owned).to_vec();
        let planned = plan(&p, None).unwrap();
        assert_eq!(planned.env, ["B=2", "A=3"]);
        assert!(planned.find_home);
        p.env.push("HOME=/x".into());
        assert!(!plan(&p, None).unwrap().find_home);
    }

    #[test]
    fn users_must_be_mapped() {
        let map = || vec![LinuxIdMapping { container_id: 0, host_id: 100_000, size: 10 }];
        let linux = Linux {
            namespaces: vec![LinuxNamespace { kind: NamespaceKind::User, path: None }],
            uid_mappings: map(),
            gid_mappings: map(),
            ..Default::default()
        };
        let with = |uid, gid, group| {
            let user = User { uid, gid, umask: None, additional_gids: vec![group] };
            plan_of(&Process { user, ..process() }, &linux).map_err(|e| e.to_string())
        };
        assert!(with(9, 9, 9).is_ok());
        for (uid, gid, group) in [(10, 0, 0), (0, 10, 0), (0, 0, 10)] {
            assert!(with(uid, gid, group).unwrap_err().contains("does not map it"));
        }
    }

    #[test]
    fn empty_labels_are_none_and_the_first_process_has_no_affinity() {
        let mut p = process();
        (p.apparmor_profile, p.selinux_label) = (Some(String::new()), Some(String::new()));
        p.exec_cpuaffinity = Some(tare_model::runtime_spec::ExecCpuAffinity { initial: Some("0".into()), last: None });
        let first = first_of(&p, &Linux::default()).unwrap();
        assert_eq!((first.apparmor, first.selinux, first.scheduling.first_cpus), (None, None, None));
        assert!(plan_of(&p, &Linux::default()).unwrap().scheduling.first_cpus.is_some());
    }
}
