//! Making groups, and the descriptors through which a process joins them.

use super::apply::apply;
use super::files;
use super::layout::Version;
use super::limits::Write;
use super::plan::{CgroupPlan, Existing, GroupPlan, ancestors};
use super::remove::{remove_empty, remove_tree};
use super::systemd::{self, Keeper};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_kernel::bpf;
use tare_model::{Error, Kind, Result};

/// How a process gets into a group. All descriptors are close-on-exec.
#[derive(Debug, Default)]
pub struct Created {
    /// `tasks` of each v1 hierarchy: a single-threaded child writes `0` into each, before it unshares its cgroup
    /// namespace and after any clone.
    pub attach: Vec<OwnedFd>,
    /// The cgroup2 directory, for CLONE_INTO_CGROUP.
    pub unified: Option<OwnedFd>,
    /// With systemd: what keeps the unit alive until somebody is in it. To be released once the child has joined.
    pub keeper: Option<Keeper>,
}

/// What exists of a plan because of us, in one hierarchy.
struct Made<'a> {
    group: &'a GroupPlan,
    /// What happens to one that is there already.
    existing: Leftover,
    /// The group itself.
    leaf: bool,
    /// Those above it, innermost last.
    parents: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftover {
    /// Removed if nobody is in it.
    Remove,
    /// Used if nobody is in it and it is not frozen.
    Join,
    /// Used: systemd made it just now, and the keeper is in it.
    Ours,
}

/// Makes the groups of a plan with their limits. On failure nothing of what it made is left.
///
/// # Errors
/// InUse when the group is there already and populated; State when it is there and frozen; Unsupported for a limit whose
/// file this kernel lacks; else what the kernel refuses, with file and value.
pub fn create(plan: &CgroupPlan) -> Result<Created> {
    let during = |e: Error| e.during("make cgroup", format!("/{}", plan.path));
    let existing = match (plan.existing, &plan.unit) {
        (Existing::Replace, _) => Leftover::Remove,
        (Existing::Join, None) => Leftover::Join,
        (Existing::Join, Some(_)) => {
            // Asked before the keeper is in it.
            plan.groups.iter().try_for_each(may_be_joined).map_err(during)?;
            Leftover::Ours
        }
    };
    let keeper = plan.unit.as_ref().map(systemd::start).transpose().map_err(during)?;
    let mut created = Created { keeper, ..Created::default() };
    let mut made = Vec::with_capacity(plan.groups.len());
    for group in &plan.groups {
        let mut new = Made { group, existing, leaf: false, parents: Vec::new() };
        let result = create_one(&mut new, &mut created);
        made.push(new);
        if let Err(e) = result {
            made.iter().for_each(undo);
            drop(created);
            if let Some(unit) = &plan.unit {
                let _stopped = systemd::stop(unit);
            }
            return Err(during(e));
        }
    }
    Ok(created)
}

fn undo(made: &Made<'_>) {
    let Ok(top) = files::open_top(&made.group.mount_point) else { return };
    if made.leaf {
        let _gone = remove_tree(top.as_fd(), &made.group.path, Instant::now());
    }
    remove_empty(top.as_fd(), made.parents.iter().rev().cloned());
}

/// Refuses a group that somebody is in, since the container's end would be theirs; and a frozen one, in which nothing
/// would ever begin.
fn may_be_joined(group: &GroupPlan) -> Result<()> {
    let top = files::open_top(&group.mount_point)?;
    let Some(dir) = files::open_dir(&top, &group.path)? else { return Ok(()) };
    let there = files::recursive(dir.as_fd())?;
    if !there.is_empty() {
        return Err(Error::new(Kind::InUse, "use cgroup", group.mount_point.join(&group.path).display())
            .because(format!("it is there already and not empty: {} process(es) found", there.len()))
            .hint("give the container a cgroupsPath of its own"));
    }
    let is_set = |file, value: &str| Ok::<_, Error>(files::read(&dir, file)?.is_some_and(|t| t.trim() == value));
    if is_set("cgroup.freeze", "1")? || is_set("freezer.state", "FROZEN")? {
        return Err(Error::new(Kind::State, "use cgroup", group.mount_point.join(&group.path).display())
            .because("it exists already and is frozen"));
    }
    Ok(())
}

fn create_one(made: &mut Made<'_>, created: &mut Created) -> Result<()> {
    let group = made.group;
    let path = group.path.as_str();
    let top = files::open_top(&group.mount_point)?;
    make_leaf(top.as_fd(), made)?;
    if group.inherit_cpuset {
        fill_cpuset(top.as_fd(), path)?;
    }
    let dir = match group.version {
        Version::V1 if group.writes.is_empty() => None,
        _ => Some(files::open_dir(&top, path)?.ok_or_else(|| Error::new(Kind::NotFound, "open cgroup", path))?),
    };
    if let Some(dir) = &dir {
        let kept = created.keeper.is_some();
        let (later, now): (Vec<Write>, Vec<Write>) =
            group.writes.iter().cloned().partition(|w| kept && systemd::is_too_narrow(w));
        apply(dir.as_fd(), &now)?;
        if let Some(keeper) = created.keeper.as_mut().filter(|_| !later.is_empty()) {
            let dir = dir.try_clone().map_err(|e| Error::io("duplicate descriptor", path, e))?;
            keeper.later.files.push((dir, later));
        }
    }
    match (group.version, dir) {
        (Version::V1, _) => created.attach.push(tasks(top.as_fd(), path)?),
        (Version::V2, Some(dir)) => {
            if let Some(policy) = &group.devices {
                let program = bpf::load_device(&policy.program()).map_err(|e| Error::io("load device rules", "", e))?;
                // What systemd or whoever made the group attached there is replaced.
                match made.leaf {
                    true => bpf::attach_device(dir.as_fd(), program.as_fd()),
                    false => bpf::replace_device(dir.as_fd(), program.as_fd()),
                }
                .map_err(|e| Error::io("attach device rules", "", e))?;
            }
            created.unified = Some(dir);
        }
        (Version::V2, None) => {}
    }
    Ok(())
}

/// Opens the file through which a task of v1 attaches itself.
pub(super) fn tasks(top: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let file = format!("{path}/tasks");
    openat(top, file.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open cgroup file", file, e))
}

/// Makes the group itself, and those above it as far as they are missing.
fn make_leaf(top: BorrowedFd<'_>, made: &mut Made<'_>) -> Result<()> {
    let group = made.group;
    let path = group.path.as_str();
    hand_down(top, path, &group.enable, &group.writes)?;
    // Another tare may remove the empty parent just now, so this is tried again; each turn needs such a race.
    for _ in 0..50 {
        match mkdirat(top, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                made.leaf = true;
                return check_domain(top, group);
            }
            Err(Errno::NOENT) => {
                make_parents(top, path, &mut made.parents)?;
                hand_down(top, path, &group.enable, &group.writes)?;
            }
            Err(Errno::EXIST) => match made.existing {
                // Left by a tare that was killed: its limits are not ours, so it is made anew.
                Leftover::Remove => remove_leftover(top, path)?,
                Leftover::Join => {
                    may_be_joined(group)?;
                    return check_domain(top, group);
                }
                Leftover::Ours => return check_domain(top, group),
            },
            Err(e) => return Err(Error::io("make cgroup", path, e)),
        }
    }
    Err(Error::new(Kind::InUse, "make cgroup", path).because("the group above it is removed again and again"))
}

/// cgroup2: a group below one with processes of its own is in no valid domain, and nobody can enter it unless it becomes
/// a threaded one. That has none of the controllers that count for a domain as a whole.
fn check_domain(top: BorrowedFd<'_>, group: &GroupPlan) -> Result<()> {
    const THREADED: &[&str] = &["cpu", "cpuset", "pids", "perf_event", "cgroup"];
    if group.version == Version::V1 || !group.path.contains('/') {
        return Ok(());
    }
    let file = format!("{}/cgroup.type", group.path);
    let kind = files::read(top, &file)?.unwrap_or_default();
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(());
    }
    if let Some(w) = group.writes.iter().find(|w| !THREADED.contains(&w.controller.as_str())) {
        return Err(Error::new(Kind::State, "limit", &w.file)
            .because(format!("the cgroup is \"{kind}\", which has no controller {}", w.controller))
            .hint(
                "the group above it has processes of its own: move them into a child group, or choose another parent",
            ));
    }
    if kind == "domain invalid" {
        files::write(top, &file, "threaded").map_err(|e| Error::io("make threaded", &group.path, e))?;
    }
    Ok(())
}

/// Removes a group that nobody is in. One that somebody is in keeps its groups below, empty ones too.
fn remove_leftover(top: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(dir) = files::open_dir(top, path)? else { return Ok(()) };
    if !files::recursive(dir.as_fd())?.is_empty() {
        return Err(Error::new(Kind::InUse, "make cgroup", path).because("it exists already and holds processes"));
    }
    remove_tree(top, path, Instant::now() + Duration::from_millis(50))
}

fn make_parents(top: BorrowedFd<'_>, path: &str, made: &mut Vec<String>) -> Result<()> {
    for parent in ancestors(path) {
        match mkdirat(top, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) => made.push(parent.to_owned()),
            Err(Errno::EXIST) => {}
            // The one above was removed meanwhile: the caller's next turn.
            Err(Errno::NOENT) => break,
            Err(e) => return Err(Error::io("make cgroup", parent, e)),
        }
    }
    Ok(())
}

/// v2: enables controllers for the children of every group above `path`. One that cannot be enabled is a failure only if
/// one of `writes` needs it.
pub(super) fn hand_down(top: BorrowedFd<'_>, path: &str, enable: &[String], writes: &[Write]) -> Result<()> {
    const FILE: &str = "cgroup.subtree_control";
    if enable.is_empty() {
        return Ok(());
    }
    for parent in std::iter::once("").chain(ancestors(path)) {
        let Some(dir) = files::open_dir(top, parent)? else { return Ok(()) };
        let there = files::read(&dir, FILE)?.unwrap_or_default();
        let there: BTreeSet<&str> = there.split_whitespace().collect();
        let wanted: Vec<String> =
            enable.iter().filter(|c| !there.contains(c.as_str())).map(|c| format!("+{c}")).collect();
        if wanted.is_empty() || files::write(&dir, FILE, wanted.join(" ")).is_ok() {
            continue;
        }
        for one in &wanted {
            let Err(e) = files::write(&dir, FILE, one) else { continue };
            if writes.iter().any(|w| w.controller == one[1..]) {
                let error = Error::io("enable cgroup controller", format!("{} below /{parent}", &one[1..]), e);
                return Err(match e {
                    // cgroup2's rule: a group with processes of its own hands nothing down, the real root excepted.
                    Errno::BUSY => error.hint("that group holds processes itself: move them into a child group first"),
                    _ => error,
                });
            }
        }
    }
    Ok(())
}

/// v1: gives a group the processors and memory nodes of the one above, which may need the same first.
fn fill_cpuset(top: BorrowedFd<'_>, path: &str) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill_one(top, path, file)?;
    }
    Ok(())
}

fn fill_one(top: BorrowedFd<'_>, path: &str, file: &str) -> Result<String> {
    let at = |group: &str| if group.is_empty() { file.to_owned() } else { format!("{group}/{file}") };
    let own = files::read_required(top, &at(path))?.trim().to_owned();
    if !own.is_empty() || path.is_empty() {
        return Ok(own);
    }
    let above = fill_one(top, path.rsplit_once('/').map_or("", |(parent, _)| parent), file)?;
    files::write(top, &at(path), &above).map_err(|e| Error::io("write cgroup file", at(path), e))?;
    Ok(above)
}
