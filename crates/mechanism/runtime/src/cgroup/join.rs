//! Joining a group that exists: the groups of a further process of a container.

use super::attach::{Created, tasks};
use super::files;
use super::group::{Group, Member};
use super::layout::{Layout, Version};
use super::plan::relative;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use tare_model::{Error, Kind, Result};

/// Groups below that of the container, by controller, for a process that shall not be in that one itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubGroups {
    /// The empty name stands for every hierarchy. Paths have no slashes at their ends; an empty one is the group itself.
    by_controller: BTreeMap<String, String>,
}

impl SubGroups {
    /// What `PATH` (once), or `CONTROLLER[,CONTROLLER…]:PATH` (as often as wanted) say.
    ///
    /// # Errors
    /// Invalid for a path that leads upward, a controller named twice, or a bare path beside others.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<SubGroups> {
        let mut by_controller = BTreeMap::new();
        for word in words.iter().map(AsRef::as_ref) {
            let bad =
                |why: &str| Error::new(Kind::Invalid, "read cgroup of the process", format!("{word:?}")).because(why);
            let (controllers, path) = word.split_once(':').unwrap_or(("", word));
            if controllers.is_empty() && (words.len() > 1 || word.contains(':')) {
                return Err(bad("of several each begins with its controllers")
                    .hint("write CONTROLLER:PATH, for example memory:inner"));
            }
            let path = match path.trim_matches('/') {
                "" | "." => String::new(),
                path => relative(path)?,
            };
            for controller in controllers.split(',') {
                if by_controller.insert(controller.to_owned(), path.clone()).is_some() {
                    return Err(bad("a controller is named twice"));
                }
            }
        }
        Ok(SubGroups { by_controller })
    }

    fn of(&self, m: &Member) -> Option<&String> {
        let names = m.hierarchy.controllers.iter().chain(&m.hierarchy.name);
        names.chain([&String::new()]).find_map(|name| self.by_controller.get(name))
    }
}

impl Group {
    /// The descriptors through which another process joins it, as for [`super::create`].
    ///
    /// # Errors
    /// NotFound when it has been removed.
    pub fn attach(&self) -> Result<Created> {
        self.attach_below(&SubGroups::default(), None)
    }

    /// The same for groups below it. `init`, the container's first process, is for cgroup2: where the container has
    /// handed controllers down to groups of its own, nobody can be in the group itself any more, and the process joins
    /// the one in which `init` is.
    ///
    /// # Errors
    /// NotFound when such a group is not there; Invalid for a controller that no hierarchy of the group has.
    pub fn attach_below(&self, sub: &SubGroups, init: Option<i32>) -> Result<Created> {
        for name in sub.by_controller.keys().filter(|n| !n.is_empty()) {
            let has = |m: &Member| m.hierarchy.controllers.contains(name) || m.hierarchy.name.as_ref() == Some(name);
            if !self.members.iter().any(has) {
                return Err(Error::new(Kind::Invalid, "join cgroup", name)
                    .because("the container has no group of this controller"));
            }
        }
        let mut created = Created::default();
        for m in &self.members {
            let path = sub.of(m).map(String::as_str);
            match m.hierarchy.version {
                Version::V1 => created.attach.push(tasks(m.dir.as_fd(), files::dot(path.unwrap_or_default()))?),
                Version::V2 => created.unified = Some(self.unified_dir(m, path, init)?),
            }
        }
        Ok(created)
    }

    fn unified_dir(&self, m: &Member, path: Option<&str>, init: Option<i32>) -> Result<OwnedFd> {
        let leaf = match (path, init) {
            (Some(path), _) => path.to_owned(),
            (None, Some(init)) if hands_down(m)? => leaf_of(m, init)?.unwrap_or_default(),
            (None, _) => String::new(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&m.dir, files::dot(&leaf), flags, Mode::empty())
            .map_err(|e| Error::io("join cgroup", format!("{}/{leaf}", self.path()), e))
    }
}

fn hands_down(m: &Member) -> Result<bool> {
    Ok(files::read(&m.dir, "cgroup.subtree_control")?.is_some_and(|t| !t.trim().is_empty()))
}

/// Where `pid` is in the hierarchy of `m`, relative to the group; none when it is outside.
fn leaf_of(m: &Member, pid: i32) -> Result<Option<String>> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|e| Error::io("read", file, e));
    let layout = Layout::parse(&read("/proc/self/mountinfo")?, &read(&format!("/proc/{pid}/cgroup"))?);
    let own = layout.unified().map(|h| h.own.trim_matches('/').to_owned()).unwrap_or_default();
    Ok(match own.strip_prefix(&m.path) {
        Some(rest) if rest.starts_with('/') => Some(rest[1..].to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_groups_as_they_are_typed() {
        let of = |words: &[&str]| SubGroups::parse(words).map(|s| s.by_controller.into_iter().collect::<Vec<_>>());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of(&["/a/b/"]).unwrap(), [pair("", "a/b")]);
        assert_eq!(of(&["cpu,memory:a", "pids:/"]).unwrap(), [pair("cpu", "a"), pair("memory", "a"), pair("pids", "")]);
        for bad in [&["../x"][..], &["cpu:a", "cpu:b"], &["a", "b"], &[":a"], &["cpu:a/../b"]] {
            assert_eq!(of(bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }
}
