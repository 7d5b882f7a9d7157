//! Removing groups. It goes on past failures and reports them all.

use super::files;
use super::layout::{Hierarchy, Layout};
use super::plan::{ancestors, relative};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

/// What happens to the groups above the removed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// They were made for it and go too once they are empty.
    RemoveEmpty,
    /// They belong to others.
    Keep,
}

/// How long a group may stay busy: its last tasks are counted until they have been reaped, and v1 lets go of them a
/// little later still.
const PATIENCE: Duration = Duration::from_millis(500);

/// Removes the group `path` with everything below it from every hierarchy; one that is not there is fine.
///
/// # Errors
/// InUse when processes are still in it.
pub fn remove(layout: &Layout, path: &str, parents: Parents) -> Result<()> {
    let path = relative(path)?;
    let deadline = Instant::now() + PATIENCE;
    let mut failures = Vec::new();
    for h in &layout.hierarchies {
        if let Err(e) = remove_below(h, &path, parents, deadline) {
            failures.push(e.during("remove from", h.label()));
        }
    }
    let Some(first) = failures.first() else { return Ok(()) };
    let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Error::new(first.kind(), "remove cgroup", format!("/{path}")).because(all.join("; ")))
}

fn remove_below(h: &Hierarchy, path: &str, parents: Parents, deadline: Instant) -> Result<()> {
    let top = files::open_top(&h.mount_point)?;
    remove_tree(top.as_fd(), &h.beneath(path), deadline)?;
    if parents == Parents::RemoveEmpty {
        remove_empty(top.as_fd(), ancestors(path).rev().map(|parent| h.beneath(parent)));
    }
    Ok(())
}

/// Removes groups, innermost first, as long as they are empty.
pub(super) fn remove_empty(top: BorrowedFd<'_>, innermost_first: impl Iterator<Item = String>) {
    for group in innermost_first {
        // Busy: others are in it. It is not looked at before, since only rmdir itself decides without a race.
        if unlinkat(top, group.as_str(), AtFlags::REMOVEDIR).is_err() {
            break;
        }
    }
}

/// Removes what is below a group. A container may have nested more than a path can name, or a process hold open: each
/// group is removed by its name in its parent, and only one directory is open at a time.
fn remove_children(dir: &OwnedFd, mut deadline: Instant) -> Result<()> {
    let fail = |e| Error::io("remove cgroup", "of the container's own", e);
    let open = |from: &OwnedFd, name: &str| files::open_dir(from, name);
    let Some(mut at) = open(dir, ".")? else { return Ok(()) };
    let mut depth = 0;
    loop {
        let mut busy = None;
        for child in files::children(&at)? {
            match unlinkat(&at, child.as_str(), AtFlags::REMOVEDIR) {
                // As long as it goes on, there is time.
                Ok(()) | Err(Errno::NOENT) => deadline = deadline.max(Instant::now() + PATIENCE),
                Err(Errno::BUSY | Errno::NOTEMPTY) => busy = busy.or(Some(child)),
                Err(e) => return Err(fail(e)),
            }
        }
        let next = match busy.as_deref() {
            None if depth == 0 => return Ok(()),
            // Groups do not move to other parents: this is where it came from.
            None => {
                depth -= 1;
                open(&at, "..")?
            }
            Some(child) => match open(&at, child)? {
                Some(below) if files::children(&below)?.is_empty() => {
                    if Instant::now() >= deadline {
                        return Err(still_in_use(&below, child)?);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    None
                }
                below => {
                    depth += i32::from(below.is_some());
                    below
                }
            },
        };
        at = next.unwrap_or(at);
    }
}

fn still_in_use(dir: &OwnedFd, name: &str) -> Result<Error> {
    let pids = files::read(dir, "cgroup.procs")?.unwrap_or_default();
    let pids = pids.split_whitespace().collect::<Vec<_>>().join(", ");
    Ok(Error::new(Kind::InUse, "remove cgroup", name).because(format!("processes are still in it: {pids}")))
}

/// Removes `path` below `top`, children first; tries again until `deadline` while it is busy.
pub(super) fn remove_tree(top: BorrowedFd<'_>, path: &str, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        match unlinkat(top, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(e) => return Err(Error::io("remove cgroup", path, e)),
        }
        if let Some(dir) = files::open_dir(top, path)? {
            remove_children(&dir, deadline)?;
            // Only now can it be told whether processes are in the way or the children were.
            if matches!(unlinkat(top, path, AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(still_in_use(&dir, path)?);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
