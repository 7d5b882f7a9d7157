use crate::context::Context;
use crate::out;
use clap::Args;
use serde_json::{Value, json};
use tare_model::{Error, Kind, Result, runtime_spec};
use tare_runtime::plan::memory_policy_names;
use tare_runtime::security::{capability, seccomp};

/// Print what this runtime knows of the specification as JSON
#[derive(Debug, Args)]
pub(crate) struct FeaturesArgs {}

pub(super) fn main(_args: FeaturesArgs, _context: &Context) -> Result<u8> {
    let text = serde_json::to_string_pretty(&document())
        .map_err(|e| Error::new(Kind::Invalid, "print", "features").because(e))?;
    out::line(text)?;
    Ok(0)
}

/// In the order of a container's life.
const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// All words that are more than an option of the mounted filesystem, ascending.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// The document of features.md and features-linux.md. What the code reads from tables comes from the same tables; it
/// says what this program knows, not what this host has, but for seccomp's `supportedFlags`.
fn document() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": runtime_spec::VERSION,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS,
        "linux": linux(),
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "tare.version": env!("CARGO_PKG_VERSION"),
        },
        // No annotation changes what this runtime does.
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

fn linux() -> Value {
    let (modes, flags) = memory_policy_names();
    let known: Vec<&str> = seccomp::flags().map(|(name, _)| name).collect();
    let supported: Vec<&str> = seccomp::flags().filter(|(_, taken)| *taken).map(|(name, _)| name).collect();
    json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        "capabilities": capability::NAMES[..],
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": seccomp::actions().collect::<Vec<_>>(),
            "operators": seccomp::operators().collect::<Vec<_>>(),
            "archs": seccomp::archs(),
            "knownFlags": known,
            "supportedFlags": supported,
        },
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": { "modes": modes, "flags": flags },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{
        LinuxMemoryPolicy, LinuxSeccomp, LinuxSeccompArg, LinuxSyscall, Mount, NamespaceKind, Spec,
    };
    use tare_runtime::plan::{Source, Step, plan};

    fn texts(value: &Value) -> Vec<String> {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn minimal() -> Spec {
        serde_json::from_str(
            r#"{"ociVersion":"1.2.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"/r"},
                "linux":{"namespaces":[{"type":"mount"}]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn hooks_and_namespaces_are_fields_of_the_specification() {
        let document = document();
        for hook in texts(&document["hooks"]) {
            let hooks: runtime_spec::Hooks = serde_json::from_value(json!({ hook: [{ "path": "/x" }] })).unwrap();
            assert_ne!(hooks, runtime_spec::Hooks::default());
        }
        let kinds: Vec<NamespaceKind> = serde_json::from_value(document["linux"]["namespaces"].clone()).unwrap();
        assert_eq!(kinds.len(), 8);
    }

    #[test]
    fn mount_options_are_not_left_to_the_filesystem() {
        let left = |word: &str| {
            let mut spec = minimal();
            spec.mounts = vec![Mount {
                destination: "/x".into(),
                kind: Some("tmpfs".into()),
                source: Some("/s".into()),
                options: vec![word.into()],
                ..Mount::default()
            }];
            let Ok(plan) = plan(&spec) else { return false };
            plan.steps.iter().any(|s| {
                matches!(s, Step::Mount(m) if matches!(&m.source, Source::Filesystem { options, .. }
                    if options.iter().any(|o| o == word)))
            })
        };
        assert!(left("size=1") && left("acl") && left("rfoo"));
        // Flags of the superblock go to the kernel under their own names.
        let superblock = ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];
        for word in MOUNT_OPTIONS.iter().filter(|w| !superblock.contains(w)) {
            assert!(!left(word), "{word}");
        }
        assert!(MOUNT_OPTIONS.is_sorted());
    }

    #[test]
    fn what_seccomp_lists_compiles() {
        let linux = linux();
        let lists = &linux["seccomp"];
        for op in texts(&lists["operators"]) {
            for action in texts(&lists["actions"]) {
                let arg = LinuxSeccompArg { index: 0, value: 1, value_two: 1, op: op.clone() };
                let call = LinuxSyscall { names: vec!["kill".into()], action, errno_ret: None, args: vec![arg] };
                let profile = LinuxSeccomp {
                    default_action: "SCMP_ACT_ALLOW".into(),
                    architectures: texts(&lists["archs"]),
                    flags: texts(&lists["knownFlags"]),
                    listener_path: Some("/agent".into()),
                    syscalls: vec![call],
                    ..LinuxSeccomp::default()
                };
                seccomp::compile(&profile).unwrap();
            }
        }
        assert_eq!((texts(&lists["actions"]).len(), texts(&lists["operators"]).len()), (9, 7));
        assert!(texts(&lists["supportedFlags"]).contains(&"SECCOMP_FILTER_FLAG_LOG".to_owned()));
    }

    #[test]
    fn memory_policies_are_planned() {
        let linux = linux();
        for mode in texts(&linux["memoryPolicy"]["modes"]) {
            let nodes = (!matches!(mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL")).then(|| "0".to_owned());
            let mut spec = minimal();
            let flags = Vec::new();
            spec.linux.as_mut().unwrap().memory_policy = Some(LinuxMemoryPolicy { mode, nodes, flags });
            plan(&spec).unwrap();
        }
        assert!(texts(&linux["memoryPolicy"]["flags"]).contains(&"MPOL_F_STATIC_NODES".to_owned()));
    }
}
