use crate::context::Context;
use clap::Args;
use rustix::io::Errno;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result, runtime_spec};

/// Write a config.json to begin with
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(crate) bundle: Option<PathBuf>,
    /// For a container that its user runs without root
    #[arg(long)]
    pub(crate) rootless: bool,
}

pub(super) fn main(args: SpecArgs, _context: &Context) -> Result<u8> {
    let path = args.bundle.unwrap_or_default().join("config.json");
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let text = text(document(args.rootless.then_some(ids)))
        .map_err(|e| Error::new(Kind::Invalid, "write", path.display()).because(e))?;
    let fail = |e: std::io::Error| Error::io("write", path.display(), e);
    let made = std::fs::File::options().write(true).create_new(true).open(&path);
    let mut file = made.map_err(|e| match e.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
        true => Error::new(Kind::AlreadyExists, "write", path.display())
            .because("file config.json exists")
            .hint("remove the existing file first"),
        false => fail(e),
    })?;
    file.write_all(&text).map_err(fail)?;
    Ok(0)
}

/// Indented, and in the specification's order.
fn text(document: Value) -> serde_json::Result<Vec<u8>> {
    let spec: runtime_spec::Spec = serde_json::from_value(document)?;
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    serde::Serialize::serialize(&spec, &mut serializer)?;
    Ok(text)
}

/// runc's starter document: a shell on a terminal, few capabilities, a read-only root. `rootless`: the caller's user and
/// group, who become root in a user namespace.
fn document(rootless: Option<(u32, u32)>) -> Value {
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if rootless.is_none() {
        // One's own network namespace needs root, or a helper; the user namespace's owner cannot connect it.
        namespaces.insert(1, "network");
    } else {
        namespaces.push("user");
    }
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        namespaces.push("cgroup");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let mut document = json!({
        "ociVersion": runtime_spec::VERSION,
        "process": process(),
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "tare",
        "mounts": mounts(rootless.is_some()),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if let Some((uid, gid)) = rootless {
        let linux = &mut document["linux"];
        linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        // Groups cannot be made without root, nor limited.
        if let Some(linux) = linux.as_object_mut() {
            linux.remove("resources");
        }
    }
    document
}

fn process() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "terminal": true,
        "user": { "uid": 0, "gid": 0 },
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        "noNewPrivileges": true
    })
}

fn mounts(rootless: bool) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| match options {
        [] => json!({ "destination": destination, "type": kind, "source": source }),
        _ => json!({ "destination": destination, "type": kind, "source": source, "options": options }),
    };
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    // Group 5, tty, is not mapped in the namespace of one user.
    let pts = if rootless { &pts[..5] } else { &pts[..] };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    if rootless {
        // A sysfs of one's own needs a network namespace of one's own: the host's is shown instead.
        mounts.push(mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]));
    } else {
        mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
    }
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]));
    Value::from(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{NamespaceKind, Spec};

    fn read(rootless: Option<(u32, u32)>) -> Spec {
        serde_json::from_value(document(rootless)).unwrap()
    }

    #[test]
    fn the_document_can_be_planned() {
        for rootless in [None, Some((1000, 100))] {
            let spec = read(rootless);
            assert!(spec.process.as_ref().unwrap().terminal);
            tare_runtime::plan::plan(&spec).unwrap();
        }
    }

    #[test]
    fn a_rootless_container_maps_its_user_and_shares_the_network() {
        let linux = read(Some((1000, 100))).linux.unwrap();
        assert_eq!((linux.uid_mappings[0].host_id, linux.gid_mappings[0].host_id), (1000, 100));
        let has = |kind| linux.namespaces.iter().any(|n| n.kind == kind);
        assert!(has(NamespaceKind::User) && !has(NamespaceKind::Network) && linux.resources.is_none());
        assert!(read(None).linux.unwrap().namespaces.iter().any(|n| n.kind == NamespaceKind::Network));
    }

    #[test]
    fn an_existing_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let context = crate::context::Context {
            root: dir.path().into(),
            log: crate::log::Log::new(None, crate::log::Format::Text, false),
            systemd_cgroup: false,
            rootless: None,
            trace: tare_runtime::launch::Trace::off(),
            trace_form: None,
        };
        let write = || main(SpecArgs { bundle: Some(dir.path().into()), rootless: false }, &context);
        assert_eq!(write().unwrap(), 0);
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(text.starts_with("{\n\t\"") && !text.ends_with('\n'));
        let e = write().unwrap_err();
        assert!(e.kind() == Kind::AlreadyExists && e.first_hint().unwrap().contains("remove"), "{e:?}");
    }
}
