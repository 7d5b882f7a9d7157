//! One mount of the specification, its option strings read (config.md#mounts, mount(8)).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tare_kernel::mount::{
    ATIME, Attributes, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, PRIVATE, RDONLY, SHARED, SLAVE,
    STRICTATIME, UNBINDABLE,
};
use tare_model::runtime_spec::Mount;
use tare_model::{Error, Kind, Result};

/// A mount, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Absolute path inside; made if missing.
    pub target: String,
    /// What is mounted there.
    pub source: Source,
    /// MOUNT_ATTR_* bits to set on it.
    pub set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub clear: u64,
    /// MOUNT_ATTR_* bits to set and to clear on it and on everything mounted below it.
    #[serde(default)]
    pub below: (u64, u64),
    /// Propagation: MS_* flag and whether everything below is meant.
    pub propagation: Option<(u64, bool)>,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A new instance of a filesystem.
    Filesystem {
        /// `proc`, `tmpfs`, ….
        kind: String,
        /// What mountinfo shows as its source.
        name: String,
        /// Options of the filesystem: `key=value` or `key`.
        options: Vec<String>,
    },
    /// A file or directory of the host, opened before the clone.
    Bind(Bind),
    /// The container's cgroups: one directory for each v1 hierarchy, or the one of cgroup2.
    Cgroup,
}

/// A bind mount's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Path on the host.
    pub path: PathBuf,
    /// With what is mounted below it.
    pub recursive: bool,
}

impl MountPlan {
    /// The attributes as the kernel takes them.
    pub fn attributes(&self) -> Attributes {
        Attributes { set: self.set, clear: self.clear, propagation: 0 }
    }
}

/// The MS_* flag that a propagation word means, and whether it is recursive.
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    Some(match word {
        "private" => (PRIVATE, false),
        "rprivate" => (PRIVATE, true),
        "slave" => (SLAVE, false),
        "rslave" => (SLAVE, true),
        "shared" => (SHARED, false),
        "rshared" => (SHARED, true),
        "unbindable" => (UNBINDABLE, false),
        "runbindable" => (UNBINDABLE, true),
        _ => return None,
    })
}

/// Bits to set and to clear for an option word.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        // The atime bits are one field: all are cleared before one is set (mount_setattr(2)).
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        "relatime" | "atime" | "nostrictatime" => (0, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        "defaults" | "async" => (0, 0),
        _ => return None,
    })
}

/// Reads one mount of the specification.
pub(super) fn plan(m: &Mount) -> Result<MountPlan> {
    let bad = |why: &str| Err(Error::new(Kind::Invalid, "plan mount", &m.destination).because(why));
    if !m.destination.starts_with('/') {
        return bad("the destination is not an absolute path");
    }
    let (mut set, mut clear, mut below, mut spread, mut bind, mut data) = (0, 0, (0, 0), None, None, Vec::new());
    for option in &m.options {
        if let Some((s, c)) = attribute(option) {
            set = (set & !c) | s;
            clear = (clear | c) & !s | (c & ATIME);
        } else if let Some(p) = propagation(option) {
            spread = Some(p);
        } else if let Some((s, c)) = option.strip_prefix('r').and_then(attribute) {
            below = ((below.0 & !c) | s, (below.1 | c) & !s | (c & ATIME));
        } else if option == "bind" {
            bind = Some(false);
        } else if option == "rbind" {
            bind = Some(true);
        } else {
            data.push(option.clone());
        }
    }
    if m.kind.as_deref() == Some("bind") && bind.is_none() {
        bind = Some(true);
    }
    let source = match (bind, m.kind.as_deref()) {
        (Some(recursive), _) => {
            let Some(path) = m.source.as_deref().filter(|p| p.starts_with('/')) else {
                return bad("the source of a bind mount is not an absolute path");
            };
            if let Some(unknown) = data.first() {
                return bad(&format!("a bind mount has no option {unknown:?}"));
            }
            Source::Bind(Bind { path: path.into(), recursive })
        }
        (None, Some("cgroup" | "cgroup2")) => Source::Cgroup,
        (None, Some(kind)) => Source::Filesystem {
            kind: kind.to_owned(),
            name: m.source.clone().unwrap_or_else(|| kind.to_owned()),
            options: data,
        },
        (None, None) => return bad("neither a type nor bind is given"),
    };
    Ok(MountPlan { target: m.destination.clone(), source, set, clear, below, propagation: spread })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: Option<&str>, options: &[&str]) -> Result<MountPlan> {
        plan(&Mount {
            destination: "/x".into(),
            kind: kind.map(Into::into),
            source: Some("/src".into()),
            options: options.iter().map(|s| (*s).into()).collect(),
            ..Default::default()
        })
    }

    #[test]
    fn options_are_split_into_attributes_and_data() {
        let p = mount(Some("tmpfs"), &["nosuid", "noexec", "mode=755", "size=64k", "exec"]).unwrap();
        assert_eq!((p.set, p.clear), (NOSUID, NOEXEC));
        assert!(matches!(p.source, Source::Filesystem { options, .. } if options == ["mode=755", "size=64k"]));
    }

    #[test]
    fn a_bind_is_recursive_only_if_asked() {
        for (options, recursive) in [(&["bind", "ro"][..], false), (&["rbind"], true), (&[], true)] {
            let p = mount(Some("bind"), options).unwrap();
            assert_eq!(p.source, Source::Bind(Bind { path: "/src".into(), recursive }));
        }
        assert!(mount(Some("bind"), &["size=1"]).is_err());
        assert!(mount(None, &[]).is_err());
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let p = mount(Some("bind"), &["rbind", "rro", "rnosuid", "noexec"]).unwrap();
        assert_eq!((p.set, p.below), (NOEXEC, (RDONLY | NOSUID, 0)));
        assert_eq!(mount(Some("bind"), &["relatime"]).unwrap().below, (0, 0));
    }

    #[test]
    fn access_times_replace_each_other() {
        let p = mount(Some("tmpfs"), &["noatime", "strictatime"]).unwrap();
        assert_eq!((p.set & ATIME, p.clear & ATIME), (STRICTATIME, ATIME));
    }
}
