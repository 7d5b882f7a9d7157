//! Making groups, and the descriptors through which a process joins them.

use super::files;
use super::layout::Version;
use super::limits::Write;
use super::plan::{CgroupPlan, GroupPlan, ancestors};
use super::remove::{remove_below, remove_tree};
use super::{Parents, limits};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_kernel::bpf;
use tare_model::{Error, Kind, Result};

/// How a process gets into a group. All descriptors are close-on-exec.
#[derive(Debug)]
pub struct Created {
    /// `tasks` of each v1 hierarchy: a single-threaded child writes `0` into each, before it unshares its cgroup
    /// namespace and after any clone.
    pub attach: Vec<OwnedFd>,
    /// The cgroup2 directory, for CLONE_INTO_CGROUP.
    pub unified: Option<OwnedFd>,
}

/// Makes the groups of a plan with their limits. On failure nothing of them is left.
///
/// # Errors
/// InUse when the group is there already and populated; Unsupported for a limit whose file this kernel lacks; else what
/// the kernel refuses, with file and value.
pub fn create(plan: &CgroupPlan) -> Result<Created> {
    let mut created = Created { attach: Vec::new(), unified: None };
    for (i, group) in plan.groups.iter().enumerate() {
        if let Err(e) = create_one(group, &plan.path, &mut created) {
            // The one that failed undoes itself when its directory was not ours to begin with.
            for g in &plan.groups[..=i] {
                if g.mount_point != group.mount_point || e.kind() != Kind::InUse {
                    let _gone = remove_below(&g.mount_point, &plan.path, Parents::RemoveEmpty, Instant::now());
                }
            }
            return Err(e.during("make cgroup", format!("/{}", plan.path)));
        }
    }
    Ok(created)
}

fn create_one(group: &GroupPlan, path: &str, created: &mut Created) -> Result<()> {
    let top = files::open_top(&group.mount_point)?;
    make_leaf(top.as_fd(), path, group)?;
    if group.inherit_cpuset {
        fill_cpuset(top.as_fd(), path)?;
    }
    let dir = match group.version {
        Version::V1 if group.writes.is_empty() => None,
        _ => Some(files::open_dir(&top, path)?.ok_or_else(|| Error::new(Kind::NotFound, "open cgroup", path))?),
    };
    if let Some(dir) = &dir {
        apply(dir.as_fd(), &group.writes)?;
    }
    match (group.version, dir) {
        (Version::V1, _) => created.attach.push(tasks(top.as_fd(), path)?),
        (Version::V2, Some(dir)) => {
            if let Some(policy) = &group.devices {
                let program = bpf::load_device(&policy.program()).map_err(|e| Error::io("load device rules", "", e))?;
                bpf::attach_device(dir.as_fd(), program.as_fd())
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

/// Makes the group itself, which must be new, and those above it as far as they are missing.
fn make_leaf(top: BorrowedFd<'_>, path: &str, group: &GroupPlan) -> Result<()> {
    hand_down(top, path, group)?;
    // Another tare may remove the empty parent just now, so this is tried again; each turn needs such a race.
    for _ in 0..50 {
        match mkdirat(top, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {
                make_parents(top, path)?;
                hand_down(top, path, group)?;
            }
            // Left by a tare that was killed: its limits are not ours, so it is made anew.
            Err(Errno::EXIST) => remove_leftover(top, path)?,
            Err(e) => return Err(Error::io("make cgroup", path, e)),
        }
    }
    Err(Error::new(Kind::InUse, "make cgroup", path).because("the group above it is removed again and again"))
}

/// Removes a group that nobody is in. One that somebody is in keeps its groups below, empty ones too.
fn remove_leftover(top: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(dir) = files::open_dir(top, path)? else { return Ok(()) };
    if !files::recursive(dir.as_fd())?.is_empty() {
        return Err(Error::new(Kind::InUse, "make cgroup", path).because("it exists already and holds processes"));
    }
    remove_tree(top, path, Instant::now() + Duration::from_millis(50))
}

fn make_parents(top: BorrowedFd<'_>, path: &str) -> Result<()> {
    for parent in ancestors(path) {
        match mkdirat(top, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // The one above was removed meanwhile: the caller's next turn.
            Err(Errno::NOENT) => break,
            Err(e) => return Err(Error::io("make cgroup", parent, e)),
        }
    }
    Ok(())
}

/// v2: enables the plan's controllers for the children of every group above `path`. A controller that cannot be enabled
/// is a failure only if a limit needs it.
fn hand_down(top: BorrowedFd<'_>, path: &str, group: &GroupPlan) -> Result<()> {
    const FILE: &str = "cgroup.subtree_control";
    if group.enable.is_empty() {
        return Ok(());
    }
    for parent in std::iter::once("").chain(ancestors(path)) {
        let Some(dir) = files::open_dir(top, parent)? else { return Ok(()) };
        let there = files::read(&dir, FILE)?.unwrap_or_default();
        let there: BTreeSet<&str> = there.split_whitespace().collect();
        let wanted: Vec<String> =
            group.enable.iter().filter(|c| !there.contains(c.as_str())).map(|c| format!("+{c}")).collect();
        if wanted.is_empty() || files::write(&dir, FILE, wanted.join(" ")).is_ok() {
            continue;
        }
        for one in &wanted {
            let Err(e) = files::write(&dir, FILE, one) else { continue };
            if group.writes.iter().any(|w| w.controller == one[1..]) {
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

/// Writes limits in order, and stops at the first failure.
pub(super) fn apply(dir: BorrowedFd<'_>, writes: &[Write]) -> Result<()> {
    // Device rules are a dozen lines for one file.
    let mut open: Option<(&str, OwnedFd)> = None;
    for w in writes {
        let mut target = (w.file.as_str(), w.value.as_str());
        if open.as_ref().is_none_or(|(name, _)| *name != target.0) {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let mut opened = openat(dir, target.0, flags, Mode::empty());
            if let (Err(Errno::NOENT), Some((file, value))) = (&opened, &w.fallback) {
                target = (file, value);
                opened = openat(dir, target.0, flags, Mode::empty());
            }
            match opened {
                Ok(fd) => open = Some((target.0, fd)),
                Err(Errno::NOENT) => {
                    return Err(limits::lacking(&w.file, &w.controller, "this kernel has no such file"));
                }
                Err(e) => return Err(Error::io("open cgroup file", target.0, e)),
            }
        }
        if let Some((_, fd)) = &open {
            files::write_fd(fd, target.1).map_err(|e| refused(target.0, target.1, e))?;
        }
    }
    Ok(())
}

fn refused(file: &str, value: &str, errno: Errno) -> Error {
    let error = Error::io("limit", format!("{file} to {value:?}"), errno);
    match (errno, file) {
        (Errno::BUSY, _) if file.starts_with("memory.") => {
            error.hint("the group uses more than that already and it cannot be reclaimed")
        }
        (Errno::INVAL, "memory.limit_in_bytes") => {
            error.hint("memory must not exceed the limit of memory and swap: give both")
        }
        (Errno::INVAL | Errno::ACCESS | Errno::RANGE, "cpuset.cpus" | "cpuset.mems") => {
            error.hint("only what the group above has can be given")
        }
        (Errno::NODEV, _) => error.hint("no block device has these numbers, or it is a partition"),
        _ => error,
    }
}
