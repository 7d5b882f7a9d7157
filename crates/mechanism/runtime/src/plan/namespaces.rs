//! Which namespaces are made, which are joined, and what contradicts what.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tare_model::runtime_spec::{Linux, LinuxIdMapping, NamespaceKind, Spec};
use tare_model::{Error, Kind, Result};

/// Namespaces, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NamespacePlan {
    /// Made by the clone, or later by the child (cgroup, time).
    pub create: Vec<NamespaceKind>,
    /// Joined, by path.
    pub join: Vec<(NamespaceKind, PathBuf)>,
    /// Of those joined: must not be the runtime's own, since something in them is going to be changed.
    pub distinct: Vec<NamespaceKind>,
    /// Of the user namespace: to be written if it is made, to be found if it is joined and they are given.
    pub ids: Option<IdMaps>,
    /// Of a time namespace that is made: lines of timens_offsets.
    pub time_offsets: Vec<String>,
}

/// The id maps of a user namespace, in the words of the kernel's files: `inside outside count` a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// uid_map.
    pub uids: Vec<IdRange>,
    /// gid_map.
    pub gids: Vec<IdRange>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMaps {
    /// Who a child becomes before anything is made: 0, or the first id that there is.
    pub fn first(ranges: &[IdRange]) -> u32 {
        let has_root = ranges.iter().any(|r| r.inside == 0);
        if has_root { 0 } else { ranges.iter().map(|r| r.inside).min().unwrap_or(0) }
    }
}

impl NamespacePlan {
    /// Whether the container has one of its own of this kind: made, or another's.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.create.contains(&kind) || self.joins(kind)
    }

    /// Whether one of this kind is joined.
    pub fn joins(&self, kind: NamespaceKind) -> bool {
        self.join.iter().any(|(k, _)| *k == kind)
    }

    /// Something in these is going to be changed: those of them that are joined must not be the runtime's own.
    pub(super) fn require_distinct(&mut self, kinds: impl IntoIterator<Item = NamespaceKind>) {
        for kind in kinds {
            if self.joins(kind) && !self.distinct.contains(&kind) {
                self.distinct.push(kind);
            }
        }
    }

    /// Whether one of this kind is made.
    pub fn creates(&self, kind: NamespaceKind) -> bool {
        self.create.contains(&kind)
    }
}

fn bad(why: &str) -> Error {
    Error::new(Kind::Invalid, "plan namespaces", "").because(why)
}

/// Reads the namespaces of a specification.
pub(super) fn plan(spec: &Spec, linux: &Linux) -> Result<NamespacePlan> {
    let mut plan = NamespacePlan::default();
    for ns in &linux.namespaces {
        if plan.has(ns.kind) {
            return Err(bad(&format!("the {} namespace is listed twice", name(ns.kind))));
        }
        match ns.path.as_deref() {
            None | Some("") => plan.create.push(ns.kind),
            Some(path) if Path::new(path).is_absolute() => plan.join.push((ns.kind, PathBuf::from(path))),
            Some(path) => {
                return Err(bad(&format!("the path {path:?} of the {} namespace is not absolute", name(ns.kind))));
            }
        }
    }
    ids(&mut plan, linux)?;
    time(&mut plan, linux)?;
    if !plan.has(NamespaceKind::Uts) {
        if spec.hostname.is_some() {
            return Err(bad("a host name needs a UTS namespace").hint("leave out --hostname with --uts host"));
        }
        if spec.domainname.is_some() {
            return Err(bad("a domain name needs a UTS namespace"));
        }
    }
    let has_covered = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if has_covered && !plan.has(NamespaceKind::Mount) {
        return Err(bad("maskedPaths and readonlyPaths need a mount namespace"));
    }
    if !plan.has(NamespaceKind::Mount) && linux.rootfs_propagation.is_some() {
        return Err(bad("rootfsPropagation needs a mount namespace"));
    }
    if spec.hostname.is_some() || spec.domainname.is_some() {
        plan.require_distinct([NamespaceKind::Uts]);
    }
    Ok(plan)
}

fn ids(plan: &mut NamespacePlan, linux: &Linux) -> Result<()> {
    let (uids, gids) = (&linux.uid_mappings, &linux.gid_mappings);
    if uids.is_empty() && gids.is_empty() {
        return match plan.creates(NamespaceKind::User) {
            true => Err(bad("a new user namespace needs uidMappings and gidMappings")),
            false => Ok(()),
        };
    }
    if !plan.has(NamespaceKind::User) {
        return Err(bad("uidMappings and gidMappings need a user namespace"));
    }
    if uids.is_empty() || gids.is_empty() {
        return Err(bad("uidMappings and gidMappings are needed both"));
    }
    plan.ids = Some(IdMaps { uids: ranges("uidMappings", uids)?, gids: ranges("gidMappings", gids)? });
    Ok(())
}

/// The kernel refuses the same (user_namespaces(7)), in one word for all of it.
fn ranges(field: &str, mappings: &[LinuxIdMapping]) -> Result<Vec<IdRange>> {
    const MOST: usize = 340;
    if mappings.len() > MOST {
        return Err(bad(&format!("{field} has more than {MOST} ranges")));
    }
    let out: Vec<IdRange> =
        mappings.iter().map(|m| IdRange { inside: m.container_id, outside: m.host_id, count: m.size }).collect();
    for (i, r) in out.iter().enumerate() {
        let fits = |first: u32| first.checked_add(r.count).is_some();
        if r.count == 0 || !fits(r.inside) || !fits(r.outside) {
            return Err(bad(&format!("{field}: {} ids from {} to {} are no range", r.count, r.inside, r.outside)));
        }
        let meets = |a: u32, b: u32, n: u32| a < b + n && b < a + r.count;
        if out[..i].iter().any(|o| meets(r.inside, o.inside, o.count) || meets(r.outside, o.outside, o.count)) {
            return Err(bad(&format!("{field}: two ranges overlap")));
        }
    }
    Ok(out)
}

fn time(plan: &mut NamespacePlan, linux: &Linux) -> Result<()> {
    if linux.time_offsets.is_empty() {
        return Ok(());
    }
    if !plan.creates(NamespaceKind::Time) {
        return Err(bad("timeOffsets need a new time namespace"));
    }
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(bad(&format!("timeOffsets: the clock {clock:?} is neither monotonic nor boottime")));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(bad(&format!("timeOffsets: {} nanoseconds are a second or more", offset.nanosecs)));
        }
        plan.time_offsets.push(format!("{clock} {} {}", offset.secs, offset.nanosecs));
    }
    Ok(())
}

/// What a kind is called in an error.
pub(crate) fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "PID",
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Ipc => "IPC",
        NamespaceKind::Uts => "UTS",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{LinuxNamespace, LinuxTimeOffset};

    fn linux(namespaces: &[(NamespaceKind, Option<&str>)]) -> Linux {
        let namespaces =
            namespaces.iter().map(|(kind, path)| LinuxNamespace { kind: *kind, path: path.map(Into::into) });
        Linux { namespaces: namespaces.collect(), ..Linux::default() }
    }

    fn map(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMapping { container_id: inside, host_id: outside, size }
    }

    fn refused(linux: &Linux, words: &str) {
        let e = plan(&Spec::default(), linux).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        assert!(e.to_string().contains(words), "{e} lacks {words:?}");
    }

    #[test]
    fn contradictions_are_refused() {
        use NamespaceKind as K;
        refused(&linux(&[(K::Pid, None), (K::Pid, Some("/proc/1/ns/pid"))]), "listed twice");
        refused(&linux(&[(K::Pid, Some("proc/1/ns/pid"))]), "not absolute");
        refused(&linux(&[(K::User, None)]), "needs uidMappings");
        let mapped = Linux { uid_mappings: vec![map(0, 1, 1)], gid_mappings: vec![map(0, 1, 1)], ..linux(&[]) };
        refused(&mapped, "need a user namespace");
        refused(&Linux { gid_mappings: vec![], ..mapped.clone() }, "need a user namespace");
        let user = Linux { namespaces: linux(&[(K::User, None)]).namespaces, ..mapped.clone() };
        refused(&Linux { gid_mappings: vec![], ..user.clone() }, "both");
        for (second, words) in [
            (map(5, 100, 0), "no range"),
            (map(u32::MAX, 100, 2), "no range"),
            (map(0, 100, 5), "overlap"),
            (map(7, 1, 5), "overlap"),
        ] {
            refused(&Linux { uid_mappings: vec![map(0, 1, 1), second], ..user.clone() }, words);
        }
        let offset =
            |clock: &str, nanosecs| [(clock.to_owned(), LinuxTimeOffset { secs: -1, nanosecs })].into_iter().collect();
        refused(&Linux { time_offsets: offset("monotonic", 0), ..linux(&[]) }, "need a new time namespace");
        let time = linux(&[(K::Time, None)]);
        refused(&Linux { time_offsets: offset("realtime", 0), ..time.clone() }, "neither");
        refused(&Linux { time_offsets: offset("monotonic", 1_000_000_000), ..time.clone() }, "a second or more");
        refused(&Linux { masked_paths: vec!["/proc/kcore".into()], ..linux(&[]) }, "need a mount namespace");
        let named = Spec { domainname: Some("x".into()), ..Spec::default() };
        assert!(plan(&named, &linux(&[])).is_err());
    }

    #[test]
    fn maps_offsets_and_what_must_differ_are_decided() {
        use NamespaceKind as K;
        let mut l = linux(&[(K::User, None), (K::Time, None), (K::Network, Some("/run/netns/x")), (K::Ipc, None)]);
        l.uid_mappings = vec![map(5, 100, 10), map(1, 50, 2)];
        l.gid_mappings = vec![map(0, 0, 1)];
        l.time_offsets = [("boottime".to_owned(), LinuxTimeOffset { secs: -3, nanosecs: 7 })].into_iter().collect();
        let mut p = plan(&Spec::default(), &l).unwrap();
        p.require_distinct([K::Network, K::Ipc, K::Network]);
        assert_eq!(p.distinct, [K::Network]);
        assert_eq!(p.time_offsets, ["boottime -3 7"]);
        let ids = p.ids.unwrap();
        assert_eq!((IdMaps::first(&ids.uids), IdMaps::first(&ids.gids)), (1, 0));
    }
}
