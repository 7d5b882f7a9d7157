//! From resources to a plan: which groups to make where, and what to write into them. Pure.

use super::convert::Weights;
use super::devices::Policy;
use super::layout::{Hierarchy, Layout, Mode, Version};

use super::limits::{self, Write};
use super::unit::UnitPlan;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Kind, Result};

/// Everything that [`super::create`] does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path of the group in every hierarchy, without a leading slash.
    pub path: String,
    /// What happens to a group that is there already.
    #[serde(default)]
    pub existing: Existing,
    /// One for each mounted hierarchy.
    pub groups: Vec<GroupPlan>,
    /// The unit of systemd that holds the group; none without systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitPlan>,
}

/// What [`super::create`] does with a group that exists and that nobody is in. A populated one is always an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It was left behind: its limits are not ours, so it is made anew.
    #[default]
    Replace,
    /// Somebody made it for us: it is used with the limits that it has, but for those that the plan names.
    Join,
}

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// The hierarchy's interface.
    pub version: Version,
    /// Where the hierarchy is mounted.
    pub mount_point: PathBuf,
    /// The group, beneath the mount point, without a leading slash.
    pub path: String,
    /// v2: controllers to hand down along the path, in `cgroup.subtree_control` of every group above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enable: Vec<String>,
    /// v1 cpuset: a new group has no processors and no memory nodes and cannot be joined until it has.
    #[serde(default)]
    pub inherit_cpuset: bool,
    /// Limits, in order.
    pub writes: Vec<Write>,
    /// v2: the device rules, compiled to a BPF program when they are applied. On v1 they are among `writes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Policy>,
}

/// cgroup2 controllers that a container's group gets where cgroup2 is the only hierarchy, asked for or not: they count
/// (memory, pids, io) or bound what a container may do to its neighbours. On a hybrid host only what a limit needs.
const HANDED_DOWN: &[&str] = &["cpuset", "cpu", "io", "memory", "pids", "hugetlb", "rdma", "misc"];

/// Plans a group at `path` (such as `/tare/0123abcd`, relative to what the mounts show) with these limits.
///
/// # Errors
/// Invalid for a path with `..` or empty names, and for values that cannot be; Unsupported for a limit that this host
/// lacks, or without any hierarchy.
pub fn plan(layout: &Layout, path: &str, resources: &LinuxResources) -> Result<CgroupPlan> {
    plan_weighed(layout, path, resources, Weights::Proportional)
}

pub(super) fn plan_weighed(
    layout: &Layout,
    path: &str,
    resources: &LinuxResources,
    weights: Weights,
) -> Result<CgroupPlan> {
    let path = relative(path)?;
    if layout.mode() == Mode::None {
        return Err(Error::new(Kind::Unsupported, "make cgroup", path)
            .because("no cgroup hierarchy is mounted")
            .hint("mount -t cgroup2 none /sys/fs/cgroup"));
    }
    let writes = limits::writes(layout, resources, weights)?;
    let policy = Policy::from_rules(&resources.devices)?;
    let mut groups = Vec::with_capacity(layout.hierarchies.len());
    for h in &layout.hierarchies {
        groups.push(group(layout, h, &path, &writes, policy.as_ref()));
    }
    if policy.is_some_and(|p| p != Policy::OPEN)
        && layout.with_controller("devices").is_none()
        && layout.unified().is_none()
    {
        return Err(limits::lacking("devices", "devices", "the controller is not there"));
    }
    Ok(CgroupPlan { path, existing: Existing::Replace, groups, unit: None })
}

fn group(layout: &Layout, h: &Hierarchy, path: &str, writes: &[Write], policy: Option<&Policy>) -> GroupPlan {
    let mut writes = of_hierarchy(h, writes);
    let has = |c: &str| h.controllers.iter().any(|x| x == c);
    let v1 = h.version == Version::V1;
    let mut devices = None;
    if let Some(policy) = policy {
        if v1 && has("devices") {
            writes.extend(device_writes(policy.v1_lines()));
        } else if !v1 && layout.with_controller("devices").is_none() && *policy != Policy::OPEN {
            devices = Some(policy.clone());
        }
    }
    let wanted = |c: &&&str| layout.mode() == Mode::V2 || writes.iter().any(|w| w.controller == ***c);
    let enable = match h.version {
        Version::V1 => Vec::new(),
        Version::V2 => HANDED_DOWN.iter().filter(|c| has(c)).filter(wanted).map(|&c| c.to_owned()).collect(),
    };
    GroupPlan {
        version: h.version,
        mount_point: h.mount_point.clone(),
        path: h.beneath(path),
        enable,
        inherit_cpuset: v1 && has("cpuset"),
        writes,
        devices,
    }
}

/// Of all writes those that go to `h`.
pub(super) fn of_hierarchy(h: &Hierarchy, writes: &[Write]) -> Vec<Write> {
    let here =
        |w: &&Write| h.controllers.contains(&w.controller) || (h.version == Version::V2 && w.controller == "cgroup");
    writes.iter().filter(here).cloned().collect()
}

/// v1's writes for device rules.
pub(super) fn device_writes(lines: Vec<(&'static str, String)>) -> impl Iterator<Item = Write> {
    lines.into_iter().map(|(file, value)| Write {
        controller: "devices".into(),
        file: file.into(),
        value,
        ..Write::default()
    })
}

/// A group's path without leading and trailing slashes.
///
/// # Errors
/// Invalid when it is empty, leads upward, or holds characters that no group's name can have.
pub(super) fn relative(path: &str) -> Result<String> {
    let inner = path.trim_matches('/');
    let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.contains(['\0', '\n', '\\']);
    if inner.split('/').any(bad) {
        return Err(Error::new(Kind::Invalid, "make cgroup", format!("{path:?}"))
            .because("a group's path has at least one name, and none of them is empty, \".\" or \"..\""));
    }
    Ok(inner.to_owned())
}

/// The groups above `path`, outermost first.
pub(super) fn ancestors(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::super::devices::default_rules;
    use super::super::layout::tests::{v1, v2};
    use super::*;
    use tare_model::runtime_spec::{LinuxMemory, LinuxPids};

    fn limited() -> LinuxResources {
        LinuxResources {
            devices: default_rules(),
            memory: Some(LinuxMemory { limit: Some(64 << 20), swap: Some(64 << 20), ..LinuxMemory::default() }),
            pids: Some(LinuxPids { limit: Some(10) }),
            ..LinuxResources::default()
        }
    }

    #[test]
    fn on_v1_every_hierarchy_gets_a_group_and_its_own_writes() {
        let p = plan(&v1(), "/tare/x", &limited()).unwrap();
        assert_eq!((p.path.as_str(), p.groups.len()), ("tare/x", 10));
        let of = |end: &str| p.groups.iter().find(|g| g.mount_point.ends_with(end)).unwrap();
        let files: Vec<_> = of("memory").writes.iter().map(|w| w.file.as_str()).collect();
        assert_eq!(files, ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"], "memory before memory and swap");
        assert_eq!(of("devices").writes.len(), 12);
        assert!(of("cpuset").inherit_cpuset && of("cpuset").writes.is_empty());
        assert!(of("systemd").writes.is_empty());
    }

    #[test]
    fn on_v2_there_is_one_group_with_everything_handed_down() {
        let p = plan(&v2("cpuset cpu io memory hugetlb pids rdma misc"), "/tare/x", &limited()).unwrap();
        let [g] = p.groups.as_slice() else { panic!("{p:#?}") };
        assert_eq!(g.enable.len(), 8);
        assert!(g.devices.is_some());
        let files: Vec<_> = g.writes.iter().map(|w| (w.file.as_str(), w.value.as_str())).collect();
        assert_eq!(files, [("memory.max", "67108864"), ("memory.swap.max", "0"), ("pids.max", "10")]);
        let back: CgroupPlan = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
        assert_eq!(back, p);
    }

    #[test]
    fn on_hybrid_cgroup2_is_left_as_it_is_unless_a_limit_needs_it() {
        let mut layout = v1();
        layout.hierarchies.retain(|h| !h.controllers.iter().any(|c| c == "hugetlb"));
        layout.hierarchies.extend(v2("hugetlb").hierarchies);
        let p = plan(&layout, "/tare/x", &limited()).unwrap();
        let unified = p.groups.last().unwrap();
        assert_eq!((unified.version, unified.enable.len(), unified.devices.is_some()), (Version::V2, 0, false));
        let mut r = limited();
        r.hugepage_limits = vec![tare_model::runtime_spec::LinuxHugepageLimit { page_size: "2MB".into(), limit: 0 }];
        let p = plan(&layout, "/tare/x", &r).unwrap();
        let unified = p.groups.last().unwrap();
        assert_eq!(
            (unified.enable.as_slice(), unified.writes[0].file.as_str()),
            (&["hugetlb".to_owned()][..], "hugetlb.2MB.max")
        );
    }

    #[test]
    fn what_is_lacking_is_named() {
        let e = plan(&v2("cpu"), "/tare/x", &limited()).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported);
        assert!(e.to_string().contains("no such limit on this host (memory"), "{e}");
        assert!(e.first_hint().unwrap().contains("tare info"));
        let e = plan(&Layout::default(), "/tare/x", &LinuxResources::default()).unwrap_err();
        assert!(e.first_hint().unwrap().contains("mount -t cgroup2"));
    }

    #[test]
    fn paths_stay_below_the_mount() {
        for bad in ["", "/", "/a/../b", "a//b", "./a", "a\nb"] {
            assert_eq!(plan(&v1(), bad, &LinuxResources::default()).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }
}
