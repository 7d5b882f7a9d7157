//! One mount of the specification, decided (config.md#mounts).

use super::mount_options::Words;
use crate::defence::{self, Defence};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use tare_kernel::mount::{Attributes, RDONLY};
use tare_model::runtime_spec::{LinuxIdMapping, Mount, Spec};
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
    /// Propagation, in order: MS_* flag and whether everything below is meant.
    #[serde(default)]
    pub propagation: Vec<(u64, bool)>,
    /// Ids seen through it.
    #[serde(default)]
    pub id_map: Option<IdMap>,
    /// Fill it with what the image has at its target.
    #[serde(default)]
    pub copy_up: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A new instance of a filesystem.
    Filesystem {
        /// `proc`, `tmpfs`, ….
        kind: String,
        /// What mountinfo shows as its source: a device, or any name.
        name: String,
        /// Options of the filesystem: `key=value` or `key`.
        options: Vec<String>,
    },
    /// A file or directory of the host, opened before the clone.
    Bind(Bind),
    /// The container's cgroups: one directory for each v1 hierarchy, or the one of cgroup2.
    Cgroup,
    /// The container's group of cgroup2 alone, also where v1 has the controllers.
    Cgroup2,
    /// What is mounted there already, changed.
    Remount {
        /// Options of the filesystem; `None` to change only the mount (`bind` was among the words).
        options: Option<Vec<String>>,
    },
}

/// A bind mount's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Path on the host.
    pub path: PathBuf,
    /// With what is mounted below it.
    pub recursive: bool,
}

/// How a mount shows ids: those stored as `containerID…` appear as `hostID…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Whose maps.
    pub maps: MapsFrom,
    /// Of everything mounted below it, too.
    pub recursive: bool,
}

/// Where maps come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapsFrom {
    /// Written out.
    Given {
        /// Of users.
        uid: Vec<LinuxIdMapping>,
        /// Of groups.
        gid: Vec<LinuxIdMapping>,
    },
    /// Those of a user namespace, by its path.
    Namespace(PathBuf),
}

/// What a mount's meaning depends on beside its own words.
#[derive(Debug, Clone, Default)]
pub(super) struct Around<'a> {
    /// The maps of the container's own user namespace.
    pub(super) container_maps: Option<MapsFrom>,
    /// SELinux label for the files of new filesystems.
    pub(super) label: Option<&'a str>,
}

impl<'a> Around<'a> {
    pub(super) fn of(spec: &'a Spec) -> Around<'a> {
        use tare_model::runtime_spec::NamespaceKind::User;
        let Some(linux) = &spec.linux else { return Around::default() };
        let container_maps = linux.namespaces.iter().find(|ns| ns.kind == User).map(|ns| match &ns.path {
            Some(path) => MapsFrom::Namespace(path.into()),
            None => MapsFrom::Given { uid: linux.uid_mappings.clone(), gid: linux.gid_mappings.clone() },
        });
        Around { container_maps, label: linux.mount_label.as_deref().filter(|l| !l.is_empty()) }
    }
}

impl MountPlan {
    /// The attributes as the kernel takes them.
    pub fn attributes(&self) -> Attributes {
        Attributes { set: self.set, clear: self.clear, propagation: 0 }
    }

    /// Whether it becomes read-only only after everything below it has been made: a tmpfs, and whatever is on /dev.
    pub(crate) fn sealed_later(&self) -> bool {
        let filesystem = matches!(&self.source, Source::Filesystem { kind, .. }
            if kind == "tmpfs" || self.target.trim_end_matches('/') == "/dev");
        filesystem && self.set & RDONLY != 0
    }
}

/// Makes the paths of a specification that may be relative to its bundle absolute: the root's, and the sources of binds.
pub fn resolve_against_bundle(spec: &mut Spec, bundle: &Path) {
    let absolute = |path: &str| clean(&bundle.join(path)).to_string_lossy().into_owned();
    if let Some(root) = &mut spec.root {
        root.path = absolute(&root.path);
    }
    for mount in &mut spec.mounts {
        let is_bind =
            mount.kind.as_deref() == Some("bind") || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        if let (true, Some(source)) = (is_bind, &mut mount.source) {
            *source = absolute(source);
        }
    }
}

/// Without `.` and doubled slashes. `..` stays: what it means depends on links, which only the kernel can follow.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}

/// Reads one mount of the specification.
pub(super) fn plan(m: &Mount, around: &Around<'_>) -> Result<MountPlan> {
    let bad = |why: &str| Error::new(Kind::Invalid, "plan mount", &m.destination).because(why);
    let strings = m.options.iter().chain(&m.source).chain(&m.kind).chain([&m.destination]);
    if strings.into_iter().any(|s| s.contains('\0')) {
        return Err(bad("a string of it holds a zero byte"));
    }
    if !m.destination.starts_with('/') {
        return Err(bad("the destination is not an absolute path"));
    }
    let mut words = Words::read(&m.options);
    if m.kind.as_deref() == Some("bind") && words.bind.is_none() && !words.remount {
        words.bind = Some(true);
    }
    let id_map = id_map(m, &words, around)?;
    let source = source(m, &words, around)?;
    if words.copy_up && !matches!(&source, Source::Filesystem { kind, .. } if kind == "tmpfs") {
        return Err(bad("tmpcopyup is for tmpfs only"));
    }
    if id_map.is_some() && !matches!(source, Source::Bind(_) | Source::Filesystem { .. }) {
        return Err(bad("ids can be mapped on bind mounts and new filesystems only"));
    }
    Ok(MountPlan {
        target: m.destination.clone(),
        source,
        set: words.alone.set,
        clear: words.alone.clear,
        below: (words.below.set, words.below.clear),
        propagation: words.propagation,
        id_map,
        copy_up: words.copy_up,
    })
}

fn source(m: &Mount, words: &Words, around: &Around<'_>) -> Result<Source> {
    let bad = |why: &str| Error::new(Kind::Invalid, "plan mount", &m.destination).because(why);
    if words.remount {
        let options = words.superblock.iter().chain(&words.data).cloned();
        return Ok(Source::Remount { options: words.bind.is_none().then(|| options.collect()) });
    }
    if let Some(recursive) = words.bind {
        let Some(path) = m.source.as_deref().filter(|p| p.starts_with('/')) else {
            return Err(bad("the source of a bind mount is not an absolute path"));
        };
        // Words for a filesystem that is mounted elsewhere mean nothing (sync, …) or are a mistake; what is no word
        // at all may be an attempt to have something else passed on (CVE-2024-9407).
        if let Some(unknown) = words.data.first()
            && defence::stands(Defence::BindOptions)
        {
            return Err(bad(&format!("a bind mount has no option {unknown:?}")));
        }
        return Ok(Source::Bind(Bind { path: path.into(), recursive }));
    }
    match m.kind.as_deref() {
        // It shows groups of hierarchies that the host has mounted: their options are the host's.
        Some("cgroup" | "cgroup2") if !words.data.is_empty() => {
            let refused = bad(&format!("a mount of cgroups has no option {:?}", words.data[0]));
            Err(refused.hint("the options of a hierarchy are chosen where the host mounts it"))
        }
        Some("cgroup") => Ok(Source::Cgroup),
        Some("cgroup2") => Ok(Source::Cgroup2),
        Some("none" | "") | None => Err(bad("neither a type nor bind is given")),
        Some(kind) => Ok(Source::Filesystem {
            kind: kind.to_owned(),
            name: m.source.clone().unwrap_or_else(|| kind.to_owned()),
            options: filesystem_options(kind, words, around),
        }),
    }
}

fn filesystem_options(kind: &str, words: &Words, around: &Around<'_>) -> Vec<String> {
    // What takes back a default that nobody has changed says nothing; filesystems need not know it.
    let superblock = words.superblock.iter().filter(|w| !matches!(w.as_str(), "async" | "nolazytime" | "nomand"));
    let mut options: Vec<String> = superblock.chain(&words.data).cloned().collect();
    // mount(2) makes both the mount and the filesystem read-only, which matters where there is a device below. The
    // kernel's own filesystems have one instance for many mounts; those of memory are still to be filled.
    let shared =
        ["tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "devtmpfs", "securityfs", "debugfs", "tracefs"];
    if words.alone.set & RDONLY != 0 && !shared.contains(&kind) {
        options.push("ro".into());
    }
    // These label their files themselves.
    if let Some(label) = around.label
        && !["proc", "sysfs", "mqueue"].contains(&kind)
        && !options.iter().any(|o| o.starts_with("context="))
    {
        options.push(format!("context={label}"));
    }
    options
}

fn id_map(m: &Mount, words: &Words, around: &Around<'_>) -> Result<Option<IdMap>> {
    let bad = |why: &str| Error::new(Kind::Invalid, "plan mount", &m.destination).because(why);
    let maps = match (m.uid_mappings.is_empty(), m.gid_mappings.is_empty()) {
        (false, false) => MapsFrom::Given { uid: m.uid_mappings.clone(), gid: m.gid_mappings.clone() },
        (true, true) if words.id_map.is_none() => return Ok(None),
        (true, true) => around.container_maps.clone().ok_or_else(|| {
            bad("its ids shall be mapped, but it has no maps, and the container has no user namespace")
                .hint("give uidMappings and gidMappings")
        })?,
        _ => return Err(bad("of uidMappings and gidMappings both or none must be given")),
    };
    Ok(Some(IdMap { maps, recursive: words.id_map == Some(true) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_kernel::mount::{ATIME, NOEXEC, NOSUID, STRICTATIME};

    fn mount(kind: Option<&str>, options: &[&str]) -> Result<MountPlan> {
        around(kind, options, &Around::default())
    }

    fn around(kind: Option<&str>, options: &[&str], around: &Around<'_>) -> Result<MountPlan> {
        plan(&written(kind, options), around)
    }

    fn written(kind: Option<&str>, options: &[&str]) -> Mount {
        Mount {
            destination: "/x".into(),
            kind: kind.map(Into::into),
            source: Some("/src".into()),
            options: options.iter().map(|s| (*s).into()).collect(),
            ..Default::default()
        }
    }

    fn options(plan: &MountPlan) -> Vec<String> {
        match &plan.source {
            Source::Filesystem { options, .. } => options.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_split_into_attributes_and_data() {
        let p = mount(Some("tmpfs"), &["nosuid", "noexec", "mode=755", "size=64k", "exec"]).unwrap();
        assert_eq!((p.set, p.clear), (NOSUID, NOEXEC));
        assert_eq!(options(&p), ["mode=755", "size=64k"]);
        assert_eq!(options(&mount(Some("ext4"), &["ro", "sync", "nomand"]).unwrap()), ["sync", "ro"]);
        assert_eq!(options(&mount(Some("tmpfs"), &["ro"]).unwrap()), [""; 0]);
    }

    #[test]
    fn a_bind_is_recursive_only_if_asked() {
        for (kind, options, recursive) in [
            ("bind", &["bind", "ro"][..], false),
            ("bind", &["rbind"], true),
            ("bind", &[], true),
            ("none", &["bind", "sync"], false),
        ] {
            let p = mount(Some(kind), options).unwrap();
            assert_eq!(p.source, Source::Bind(Bind { path: "/src".into(), recursive }));
        }
        assert!(mount(Some("bind"), &["size=1"]).is_err());
        assert!(mount(None, &[]).is_err());
        assert!(mount(Some("none"), &[]).is_err());
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

    #[test]
    fn ids_are_mapped_by_own_maps_or_the_containers() {
        let maps = |id| vec![LinuxIdMapping { container_id: 0, host_id: id, size: 10 }];
        let given = MapsFrom::Given { uid: maps(1), gid: maps(2) };
        let container = Around { container_maps: Some(MapsFrom::Namespace("/ns".into())), label: None };
        assert!(mount(Some("bind"), &["idmap"]).is_err());
        let p = around(Some("bind"), &["ridmap"], &container).unwrap();
        assert_eq!(p.id_map, Some(IdMap { maps: MapsFrom::Namespace("/ns".into()), recursive: true }));
        let mut m = written(Some("bind"), &[]);
        m.uid_mappings = maps(1);
        assert!(plan(&m, &container).is_err());
        m.gid_mappings = maps(2);
        assert_eq!(plan(&m, &container).unwrap().id_map, Some(IdMap { maps: given, recursive: false }));
    }

    #[test]
    fn labels_go_to_filesystems_that_take_them() {
        let label = Around { container_maps: None, label: Some("u:r:t:s0:c1,c2") };
        assert_eq!(options(&around(Some("tmpfs"), &[], &label).unwrap()), ["context=u:r:t:s0:c1,c2"]);
        assert_eq!(options(&around(Some("proc"), &[], &label).unwrap()), [""; 0]);
    }

    #[test]
    fn remounts_and_copies_are_what_they_say() {
        let remount = |o: &[&str]| mount(Some("none"), o).unwrap().source;
        assert_eq!(remount(&["remount", "bind", "ro"]), Source::Remount { options: None });
        assert_eq!(remount(&["remount", "size=1m"]), Source::Remount { options: Some(vec!["size=1m".into()]) });
        assert!(mount(Some("tmpfs"), &["tmpcopyup"]).unwrap().copy_up);
        assert!(mount(Some("bind"), &["tmpcopyup"]).is_err());
    }

    #[test]
    fn relative_paths_are_the_bundles() {
        let mut spec = Spec {
            root: Some(tare_model::runtime_spec::Root { path: "rootfs".into(), readonly: false }),
            mounts: [(Some("bind"), &[][..]), (Some("none"), &["rbind"]), (Some("tmpfs"), &[])]
                .map(|(kind, options)| written(kind, options))
                .into(),
            ..Spec::default()
        };
        spec.mounts[1].source = Some("./a/../b".into());
        spec.mounts[2].source = Some("tmpfs".into());
        resolve_against_bundle(&mut spec, Path::new("/bundle"));
        assert_eq!(spec.root.unwrap().path, "/bundle/rootfs");
        let sources: Vec<_> = spec.mounts.iter().map(|m| m.source.as_deref().unwrap()).collect();
        assert_eq!(sources, ["/src", "/bundle/a/../b", "tmpfs"]);
    }
}
