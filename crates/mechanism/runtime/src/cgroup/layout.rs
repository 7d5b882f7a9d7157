//! Which control group hierarchies this host has, and where: cgroups(7), proc_pid_mountinfo(5), proc_pid_cgroup(5).
//!
//! `/proc/self/cgroup` says which hierarchies exist and which controllers each binds; `/proc/self/mountinfo` says where
//! they can be reached. A hierarchy that is not mounted is as good as absent.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tare_model::{Context, Result};

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// cgroup: one hierarchy per set of controllers.
    V1,
    /// cgroup2: one hierarchy for all.
    V2,
}

/// What a host has as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No hierarchy is mounted.
    None,
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies, and cgroup2 for the rest.
    Hybrid,
    /// Only cgroup2.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Its interface.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// v1: the controllers bound to it (several where co-mounted, none where it is only named).
    /// v2: the controllers that its top group can hand down.
    pub controllers: Vec<String>,
    /// v1: the name of a named hierarchy, such as `systemd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The group of this process, as a path beneath `mount_point`; `/` where that lies outside of what is mounted.
    pub own: String,
    /// The group below which all paths lie, without slashes at its ends; empty: the top. See [`Layout::below_own`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
}

/// The mounted hierarchies, v1 in the kernel's order, cgroup2 last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// See the type.
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Reads this host's layout: two files of /proc, and `cgroup.controllers` where cgroup2 is mounted.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn read() -> Result<Layout> {
        let text = |path: &str| std::fs::read_to_string(path).during("read", path);
        let mut layout = Layout::parse(&text("/proc/self/mountinfo")?, &text("/proc/self/cgroup")?);
        if let Some(unified) = layout.hierarchies.iter_mut().find(|h| h.version == Version::V2) {
            let path = unified.mount_point.join("cgroup.controllers");
            let list = std::fs::read_to_string(&path).during("read", path.display())?;
            unified.controllers = list.split_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// The layout that these two files describe; cgroup2's controllers are in neither and stay empty.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Layout {
        let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        // What something else has been mounted upon cannot be reached any more.
        let covers = |line: &str, m: &Mount| {
            let mut fields = line.split(' ');
            fields.next() != Some(m.id.as_str())
                && fields.next() == Some(m.id.as_str())
                && fields.nth(2).is_some_and(|p| Path::new(&unescape(p)) == m.point)
        };
        mounts.retain(|m| !mountinfo.lines().any(|line| covers(line, m)));
        let mut hierarchies: Vec<Hierarchy> = cgroup.lines().filter_map(|l| hierarchy(l, &mounts)).collect();
        // The one by which systemd tells whose a process is comes first: a process that is still in a unit there is moved
        // in the others when systemd looks after that unit.
        let systemds = |h: &Hierarchy| h.name.as_deref() == Some("systemd");
        hierarchies.sort_by_key(|h| (h.version == Version::V2, !systemds(h)));
        Layout { hierarchies }
    }

    /// What the host has as a whole.
    pub fn mode(&self) -> Mode {
        let any = |v| self.hierarchies.iter().any(|h| h.version == v);
        match (any(Version::V1), any(Version::V2)) {
            (false, false) => Mode::None,
            (true, false) => Mode::V1,
            (true, true) => Mode::Hybrid,
            (false, true) => Mode::V2,
        }
    }

    /// A layout of one hierarchy, for what only that one tells; an empty one without it.
    pub(super) fn of(hierarchy: Option<&Hierarchy>) -> Layout {
        Layout { hierarchies: hierarchy.into_iter().cloned().collect() }
    }

    /// The same hierarchies with every path read as below this process's own groups. On a host of cgroup2 alone it is
    /// the group above that one: a group with processes of its own cannot hand controllers down.
    #[must_use]
    pub fn below_own(mut self) -> Layout {
        let lone = self.mode() == Mode::V2;
        for h in &mut self.hierarchies {
            let own = h.own.trim_matches('/');
            let parent = own.rsplit_once('/').map_or("", |(parent, _)| parent);
            h.base = if lone { parent } else { own }.to_owned();
        }
        self
    }

    /// The hierarchy that has `controller`.
    pub fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// The cgroup2 hierarchy.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// Whether groups of this host have `file` of `controller`: for limits that the kernel may be built or booted without
    /// (`memory.memsw.limit_in_bytes`, `memory.swap.max`, `blkio.weight`), when the caller wants to ask before it plans.
    /// Looks into this process's own group and into the top's children, since cgroup2's top lacks most files.
    pub fn offers(&self, controller: &str, file: &str) -> bool {
        let Some(h) = self.with_controller(controller) else { return false };
        if h.mount_point.join(file).exists() || h.mount_point.join(h.own.trim_start_matches('/')).join(file).exists() {
            return true;
        }
        let Ok(entries) = std::fs::read_dir(&h.mount_point) else { return false };
        entries.flatten().any(|e| e.path().join(file).exists())
    }
}

impl Hierarchy {
    /// The group `path` of a layout (without slashes at its ends) as a path beneath the mount point.
    pub fn beneath(&self, path: &str) -> String {
        if self.base.is_empty() { path.to_owned() } else { format!("{}/{path}", self.base) }
    }

    /// What it is called in messages and in /proc/PID/cgroup.
    pub fn label(&self) -> String {
        match (&self.name, self.version) {
            (_, Version::V2) => "cgroup2".into(),
            (Some(name), _) if self.controllers.is_empty() => format!("name={name}"),
            _ => self.controllers.join(","),
        }
    }
}

struct Mount {
    id: String,
    root: String,
    point: PathBuf,
    read_only: bool,
    version: Version,
    options: Vec<String>,
}

impl Mount {
    /// A line of mountinfo, when it is one of a cgroup filesystem.
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = after.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
        let mut fields = before.split(' ');
        let id = fields.next()?.to_owned();
        let mut fields = fields.skip(2);
        let (root, point, flags) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mount {
            id,
            root: unescape(root),
            point: Path::new(&unescape(point)).to_owned(),
            read_only: flags.split(',').any(|f| f == "ro"),
            version,
            options,
        })
    }
}

/// Undoes the octal escapes of mountinfo (space, tab, line feed, backslash).
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(char::from(code.unwrap_or(b'\\')));
        rest = &rest[at + if code.is_some() { 4 } else { 1 }..];
    }
    out.push_str(rest);
    out
}

/// A line of /proc/self/cgroup (`id:controllers:path`) together with the best mount of that hierarchy.
fn hierarchy(line: &str, mounts: &[Mount]) -> Option<Hierarchy> {
    let mut parts = line.splitn(3, ':');
    let (id, list, path) = (parts.next()?, parts.next()?, parts.next()?);
    let names: Vec<&str> = list.split(',').filter(|n| !n.is_empty()).collect();
    let version = if id == "0" && names.is_empty() { Version::V2 } else { Version::V1 };
    // A v1 hierarchy that is being mounted or unmounted somewhere has no controllers and no name for a moment: it is none
    // of those that are mounted here.
    if names.is_empty() && version == Version::V1 {
        return None;
    }
    let is_it = |m: &&Mount| {
        m.version == version && (version == Version::V2 || names.iter().all(|n| m.options.iter().any(|o| o == n)))
    };
    // A hierarchy may be mounted more than once: one that can be written, and that shows most of it, is the useful one.
    let mount = mounts.iter().filter(is_it).min_by_key(|m| (m.read_only, m.root != "/", m.root.len()))?;
    Some(Hierarchy {
        version,
        mount_point: mount.point.clone(),
        controllers: names.iter().filter(|n| !n.starts_with("name=")).map(|&n| n.to_owned()).collect(),
        name: names.iter().find_map(|n| n.strip_prefix("name=")).map(str::to_owned),
        own: beneath(path, &mount.root),
        base: String::new(),
    })
}

/// A group's path as seen through a mount that shows the hierarchy from `root` on. Both are relative to the reader's
/// cgroup namespace, in which a root above its own is `/..`; then nothing better than the top is known.
fn beneath(path: &str, root: &str) -> String {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if root == "/" {
        return if path.starts_with("/..") { "/".into() } else { path.into() };
    }
    match path.strip_prefix(root) {
        Some(rest) if rest.starts_with('/') => rest.into(),
        _ => "/".into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host with cpu,cpuacct co-mounted, as systemd's legacy mode has it.
    pub(crate) const V1_MOUNTS: &str = "\
25 30 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw,nosuid shared:10 - cgroup cgroup rw,xattr,name=systemd
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/blkio rw,nosuid shared:13 - cgroup cgroup rw,blkio
31 25 0:27 / /sys/fs/cgroup/pids rw,nosuid shared:14 - cgroup cgroup rw,pids
32 25 0:28 / /sys/fs/cgroup/cpuset rw,nosuid shared:15 - cgroup cgroup rw,cpuset
33 25 0:29 / /sys/fs/cgroup/freezer rw,nosuid shared:16 - cgroup cgroup rw,freezer
34 25 0:30 / /sys/fs/cgroup/devices rw,nosuid shared:17 - cgroup cgroup rw,devices
35 25 0:31 / /sys/fs/cgroup/hugetlb rw,nosuid shared:18 - cgroup cgroup rw,hugetlb
36 25 0:32 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid shared:19 - cgroup cgroup rw,net_cls,net_prio
";
    pub(crate) const V1_GROUPS: &str = "\
11:pids:/user.slice
10:net_cls,net_prio:/
9:hugetlb:/
8:devices:/user.slice
7:freezer:/
6:cpuset:/
5:blkio:/user.slice
4:memory:/user.slice/user-0.slice
3:perf_event:/
2:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-0.slice/session-1.scope
";

    pub(crate) fn v1() -> Layout {
        Layout::parse(V1_MOUNTS, V1_GROUPS)
    }

    pub(crate) fn v2(controllers: &str) -> Layout {
        let mut l = Layout::parse(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-0.slice/session-2.scope\n",
        );
        l.hierarchies[0].controllers = controllers.split(' ').map(str::to_owned).collect();
        l
    }

    #[test]
    fn a_hierarchy_that_is_being_unmounted_elsewhere_is_none_of_ours() {
        let half_gone = format!("12::/\n{V1_GROUPS}");
        assert_eq!(Layout::parse(V1_MOUNTS, &half_gone), v1());
    }

    #[test]
    fn co_mounted_controllers_are_one_hierarchy() {
        let l = v1();
        assert_eq!(l.mode(), Mode::V1);
        assert_eq!(l.hierarchies.len(), 10, "perf_event is not mounted");
        let cpu = l.with_controller("cpuacct").unwrap();
        assert_eq!((cpu.label().as_str(), cpu.own.as_str()), ("cpu,cpuacct", "/user.slice"));
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        let named = &l.hierarchies[0];
        assert_eq!((named.label().as_str(), named.controllers.len()), ("name=systemd", 0));
    }

    #[test]
    fn what_is_covered_is_not_seen() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      40 30 0:40 / /sys/fs/cgroup rw - tmpfs none rw\n\
                      41 40 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let l = Layout::parse(mounts, "0::/a\n");
        assert_eq!(l.unified().unwrap().mount_point, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn paths_below_the_own_group() {
        let l = v1().below_own();
        assert_eq!(l.with_controller("pids").unwrap().beneath("a/b"), "user.slice/a/b");
        assert_eq!(l.with_controller("cpuset").unwrap().beneath("a"), "a");
        let l = v2("pids").below_own();
        assert_eq!(l.unified().unwrap().beneath("a"), "user.slice/user-0.slice/a", "beside the own group");
    }

    #[test]
    fn pure_v2() {
        let l = v2("cpuset cpu io memory pids");
        assert_eq!(l.mode(), Mode::V2);
        assert_eq!(l.unified().unwrap().own, "/user.slice/user-0.slice/session-2.scope");
        assert!(l.with_controller("memory").is_some() && l.with_controller("freezer").is_none());
    }

    #[test]
    fn hybrid_has_cgroup2_last_and_names_do_not_matter() {
        let mounts = "1 1 0:1 / /strange\\040place/a rw - cgroup x rw,memory\n2 1 0:2 / /memory rw - cgroup2 x rw\n";
        let l = Layout::parse(mounts, "0::/\n4:memory:/process/77\n");
        assert_eq!(l.mode(), Mode::Hybrid);
        assert_eq!(l.with_controller("memory").unwrap().mount_point, Path::new("/strange place/a"));
        assert_eq!(l.hierarchies[1].version, Version::V2);
    }

    #[test]
    fn inside_a_container_paths_are_relative_to_what_is_mounted() {
        // Bound without a cgroup namespace, as docker does on v1: the mount's root is the container's group.
        let l = Layout::parse(
            "1 1 0:1 /docker/77 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
            "4:memory:/docker/77/inner\n",
        );
        assert_eq!(l.hierarchies[0].own, "/inner");
        // With a cgroup namespace, mounted inside it; and one mounted outside it, which shows the hierarchy from above.
        for root in ["/", "/../.."] {
            let line = format!("1 1 0:1 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
            assert_eq!(Layout::parse(&line, "0::/\n").hierarchies[0].own, "/");
        }
    }

    #[test]
    fn of_several_mounts_the_widest_writable_counts() {
        let mounts =
            "1 1 0:1 / /a ro - cgroup2 x rw\n2 1 0:1 /x/y /b rw - cgroup2 x rw\n3 1 0:1 / /c rw - cgroup2 x rw\n";
        assert_eq!(Layout::parse(mounts, "0::/x\n").hierarchies[0].mount_point, Path::new("/c"));
    }

    #[test]
    fn nothing_mounted() {
        assert_eq!(Layout::parse("1 1 0:1 / / rw - ext4 /dev/vda rw\n", "0::/\n").mode(), Mode::None);
        assert_eq!(Layout::parse("garbage\n\n - cgroup\n", "x\n1:\n").mode(), Mode::None);
    }

    #[test]
    fn this_host_is_read() {
        let l = Layout::read().unwrap();
        assert_ne!(l.mode(), Mode::None);
        assert!(l.hierarchies.iter().all(|h| h.mount_point.join("cgroup.procs").exists()), "{l:#?}");
    }
}
