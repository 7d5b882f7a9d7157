//! Docker's seccomp profiles: rules with conditions become the runtime specification's plain ones.
//!
//! A docker profile names architectures by `archMap` and lets rules depend on the container's capabilities, the
//! architecture and the kernel (`includes`, `excludes`). A profile of the OCI specification passes unchanged.

use serde::Deserialize;
use std::collections::BTreeSet;
use tare_model::runtime_spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// What a rule's conditions are checked against.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Go's GOARCH.
    pub(crate) arch: &'static str,
    /// Major and minor version of the kernel.
    pub(crate) kernel: (u32, u32),
    /// Capabilities that the container will have, `CAP_…`.
    pub(crate) capabilities: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The form before docker 1.11: one name.
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Converts a profile's JSON.
///
/// # Errors
/// In words: what is wrong with the profile.
pub(crate) fn convert(json: &str, host: &Host) -> Result<LinuxSeccomp, String> {
    let profile: Profile = serde_json::from_str(json).map_err(|e| format!("not a seccomp profile: {e}"))?;
    let architectures = architectures(&profile, host)?;
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.unwrap_or_default() {
        if rule.applies(host)? {
            syscalls.push(rule.plain()?);
        }
    }
    Ok(LinuxSeccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

fn architectures(profile: &Profile, host: &Host) -> Result<Vec<String>, String> {
    let listed = profile.architectures.clone().unwrap_or_default();
    let Some(map) = profile.arch_map.as_ref().filter(|m| !m.is_empty()) else { return Ok(listed) };
    if !listed.is_empty() {
        return Err("it has both architectures and archMap".into());
    }
    let native = scmp_arch(host.arch);
    let entry = map.iter().find(|e| Some(e.architecture.as_str()) == native);
    Ok(entry.map_or_else(Vec::new, |e| {
        std::iter::once(e.architecture.clone()).chain(e.sub_architectures.clone().unwrap_or_default()).collect()
    }))
}

fn scmp_arch(arch: &str) -> Option<&'static str> {
    Some(match arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "s390x" => "SCMP_ARCH_S390X",
        "ppc64le" => "SCMP_ARCH_PPC64LE",
        _ => return None,
    })
}

impl Rule {
    fn applies(&self, host: &Host) -> Result<bool, String> {
        let included = match &self.includes {
            None => true,
            Some(f) => {
                f.arches.as_ref().is_none_or(|a| a.is_empty() || a.iter().any(|a| a == host.arch))
                    && f.caps.iter().flatten().all(|c| host.capabilities.contains(c))
                    && f.kernel_reached(host)?.unwrap_or(true)
            }
        };
        let excluded = match &self.excludes {
            None => false,
            Some(f) => {
                f.arches.iter().flatten().any(|a| a == host.arch)
                    || f.caps.iter().flatten().any(|c| host.capabilities.contains(c))
                    || f.kernel_reached(host)?.unwrap_or(false)
            }
        };
        Ok(included && !excluded)
    }

    fn plain(self) -> Result<LinuxSyscall, String> {
        let names = match (self.name, self.names) {
            (Some(_), Some(names)) if !names.is_empty() => return Err("a rule has both name and names".into()),
            (Some(name), _) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
        if names.is_empty() {
            return Err("a rule names no system call".into());
        }
        Ok(LinuxSyscall { names, action: self.action, errno_ret: self.errno_ret, args: self.args.unwrap_or_default() })
    }
}

impl Filter {
    fn kernel_reached(&self, host: &Host) -> Result<Option<bool>, String> {
        let Some(text) = self.min_kernel.as_deref().filter(|t| !t.is_empty()) else { return Ok(None) };
        let wanted = version(text).ok_or_else(|| format!("minKernel {text:?} is no version"))?;
        Ok(Some(host.kernel >= wanted))
    }
}

/// Major and minor number of a kernel's version.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-', '+']).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Docker's default capabilities, changed as `--cap-add`, `--cap-drop` and `--privileged` ask.
pub(crate) fn capabilities(add: &[String], drop: &[String], privileged: bool) -> BTreeSet<String> {
    let name = |c: &String| {
        let c = c.to_ascii_uppercase();
        if c.starts_with("CAP_") { c } else { format!("CAP_{c}") }
    };
    let all = |list: &[String]| list.iter().any(|c| name(c) == "CAP_ALL");
    let of = |list: &[&str]| list.iter().map(|c| format!("CAP_{c}")).collect::<BTreeSet<_>>();
    let mut set = match (privileged || all(add), all(drop)) {
        (true, _) => of(&DEFAULT).into_iter().chain(of(&OTHERS)).collect(),
        (false, true) => BTreeSet::new(),
        (false, false) => of(&DEFAULT),
    };
    for capability in drop.iter().map(name) {
        set.remove(&capability);
    }
    set.extend(add.iter().map(name).filter(|c| c != "CAP_ALL"));
    set
}

const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const OTHERS: [&str; 27] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

#[cfg(test)]
impl Host {
    /// A host to test with.
    pub(crate) fn for_tests() -> Host {
        Host { arch: "amd64", kernel: (6, 1), capabilities: capabilities(&[], &[], false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
             "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["sync_file_range2"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["ppc64le"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}
        ]}"#;

    fn names(profile: &LinuxSeccomp) -> Vec<&str> {
        profile.syscalls.iter().flat_map(|s| s.names.iter().map(String::as_str)).collect()
    }

    #[test]
    fn conditions_are_decided_here() {
        let p = convert(PROFILE, &Host::for_tests()).unwrap();
        assert_eq!(names(&p), ["read", "ptrace", "clone", "arch_prctl", "clone3"]);
        assert_eq!(p.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(p.syscalls[2].args[0].value, 2_114_060_288);
        assert_eq!(p.default_errno_ret, Some(1));
        let capabilities = capabilities(&["sys_admin".into()], &[], false);
        let p = convert(PROFILE, &Host { capabilities, ..Host::for_tests() }).unwrap();
        assert_eq!(names(&p), ["read", "ptrace", "mount", "arch_prctl"]);
    }

    #[test]
    fn a_plain_profile_passes_and_a_broken_one_does_not() {
        let plain = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO"}]}"#;
        let p = convert(plain, &Host::for_tests()).unwrap();
        assert_eq!((names(&p), p.architectures.len()), (vec!["chmod"], 1));
        for broken in ["", "{}", r#"{"defaultAction":"A","syscalls":[{"action":"x"}]}"#] {
            assert!(convert(broken, &Host::for_tests()).is_err(), "{broken}");
        }
    }

    #[test]
    fn capabilities_follow_the_flags() {
        assert_eq!(capabilities(&[], &[], false).len(), 14);
        assert_eq!(capabilities(&[], &[], true).len(), 41);
        assert_eq!(capabilities(&["CHOWN".into()], &["ALL".into()], false).len(), 1);
        assert!(!capabilities(&["ALL".into()], &["net_raw".into()], false).contains("CAP_NET_RAW"));
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-18-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!(version("x"), None);
    }
}
