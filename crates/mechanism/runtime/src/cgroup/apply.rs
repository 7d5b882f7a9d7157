//! Writing limits into the files of a group.

use super::files;
use super::limits::{self, Write, relation};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use tare_model::{Error, Result};

/// Writes limits in order, and stops at the first failure.
pub(super) fn apply(dir: BorrowedFd<'_>, writes: &[Write]) -> Result<()> {
    sets(writes).try_for_each(|set| apply_set(dir, set, &mut Vec::new()))
}

/// The writes cut into sets: files that the kernel checks against each other, and lines for one file.
pub(super) fn sets(writes: &[Write]) -> impl Iterator<Item = &[Write]> {
    let one =
        |a: &Write, b: &Write| a.file == b.file || relation(&a.file).is_some_and(|r| relation(&b.file) == Some(r));
    writes.chunk_by(one)
}

/// Writes one set, and adds what was written, file and value, to `written`.
///
/// Which order is right depends on what the files hold: growing, memory and swap comes before memory; shrinking, after.
/// The kernel says so by EINVAL, and what it refuses thus is tried again after the rest.
pub(super) fn apply_set(dir: BorrowedFd<'_>, set: &[Write], written: &mut Vec<(String, String)>) -> Result<()> {
    let mut pending: Vec<&Write> = set.iter().collect();
    // Device rules are a dozen lines for one file.
    let mut open = None;
    while !pending.is_empty() {
        let mut refused = None;
        let mut later = Vec::new();
        for &w in &pending {
            let Some((file, value)) = open_target(dir, w, &mut open)? else { continue };
            let Some((_, fd)) = &open else { continue };
            match files::write_fd(fd, value) {
                Ok(()) => written.push((file.to_owned(), value.to_owned())),
                Err(Errno::INVAL) if relation(&w.file).is_some() => {
                    refused.get_or_insert_with(|| refusal(file, value, Errno::INVAL));
                    later.push(w);
                }
                Err(e) => return Err(refusal(file, value, e)),
            }
        }
        match refused {
            Some(error) if later.len() == pending.len() => return Err(error),
            _ => pending = later,
        }
    }
    Ok(())
}

/// Has the file of a write open; none where it may be left out. Tells which file of the two it is, and the value for it.
fn open_target<'w>(
    dir: BorrowedFd<'_>,
    w: &'w Write,
    open: &mut Option<(String, OwnedFd)>,
) -> Result<Option<(&'w str, &'w str)>> {
    let mut target = (w.file.as_str(), w.value.as_str());
    if open.as_ref().is_some_and(|(name, _)| name == target.0) {
        return Ok(Some(target));
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mut opened = openat(dir, target.0, flags, Mode::empty());
    if let (Err(Errno::NOENT), Some((file, value))) = (&opened, &w.fallback) {
        target = (file, value);
        opened = openat(dir, target.0, flags, Mode::empty());
    }
    match opened {
        Ok(fd) => *open = Some((target.0.to_owned(), fd)),
        Err(Errno::NOENT) if w.optional => return Ok(None),
        Err(Errno::NOENT) => return Err(limits::lacking(&w.file, &w.controller, "this kernel has no such file")),
        Err(e) => return Err(Error::io("open cgroup file", target.0, e)),
    }
    Ok(Some(target))
}

fn refusal(file: &str, value: &str, errno: Errno) -> Error {
    let error = Error::io("limit", format!("{file} to {value:?}"), errno);
    match (errno, file) {
        (Errno::BUSY, _) if file.starts_with("memory.") => {
            error.hint("the group uses more than that already and it cannot be reclaimed")
        }
        (Errno::INVAL, "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes") => {
            error.hint("memory must not exceed the limit of memory and swap: give both")
        }
        (Errno::INVAL, "cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.cfs_burst_us" | "cpu.max" | "cpu.max.burst") => {
            error.hint("a period is 1 ms to 1 s, a quota at least 1 ms and within that of the group above, a burst at most the quota")
        }
        (Errno::INVAL, "cpu.shares" | "cpu.weight") => error.hint("an idle group has no shares: set idle to 0"),
        (Errno::INVAL, "memory.use_hierarchy") => error.hint("kernels since 5.11 account hierarchically, always"),
        (Errno::INVAL, "cpu.rt_runtime_us" | "cpu.rt_period_us") => {
            error.hint("the groups above have less real-time runtime than that: give it to them first")
        }
        (Errno::INVAL | Errno::ACCESS | Errno::RANGE, "cpuset.cpus" | "cpuset.mems") => {
            error.hint("only what the group above has can be given")
        }
        (Errno::NODEV, _) => error.hint("no block device has these numbers, or it is a partition"),
        _ => error,
    }
}
