//! Reading and writing the small files of a group, relative to its directory.

use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tare_model::{Error, Kind, Result};

/// Opens a directory as a place to start from: no permission on its contents is needed yet.
pub(super) fn open_top(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open cgroup hierarchy", path.display(), e))
}

/// Opens the directory `relative` beneath `top`; none when it does not exist.
pub(super) fn open_dir(top: impl AsFd, relative: &str) -> Result<Option<OwnedFd>> {
    match openat(top, dot(relative), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("open cgroup", relative, e)),
    }
}

/// openat(2) wants "." for the directory itself.
pub(super) fn dot(relative: &str) -> &str {
    if relative.is_empty() { "." } else { relative }
}

/// A file's text; none when the kernel has no such file here, or the group went away meanwhile.
pub(super) fn read(dir: impl AsFd, file: &str) -> Result<Option<String>> {
    let opened = openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
        Err(e) => return Err(Error::io("read cgroup file", file, e)),
    };
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match retry_on_intr(|| rustix::io::read(&fd, &mut buffer)) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            // ENODEV: removed meanwhile. EOPNOTSUPP: a threaded group's cgroup.procs, an accounting that is off.
            Err(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(Error::io("read cgroup file", file, e)),
        }
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Like [`read`], where the file's absence is a failure.
pub(super) fn read_required(dir: impl AsFd, file: &str) -> Result<String> {
    read(dir, file)?.ok_or_else(|| Error::new(Kind::NotFound, "read cgroup file", file))
}

/// One number; `max` and v1's "no limit" are none.
pub(super) fn number(text: &str) -> Option<u64> {
    /// PAGE_COUNTER_MAX in bytes with 4 KiB pages: what v1 shows where there is no limit.
    const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;
    text.trim().parse().ok().filter(|&n| n < V1_UNLIMITED)
}

/// The value of `key` in a file of lines `key value`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Writes `value` in one write(2), as the kernel demands.
pub(super) fn write(dir: impl AsFd, file: &str, value: impl fmt::Display) -> rustix::io::Result<()> {
    let fd = openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_fd(&fd, &value.to_string())
}

/// As [`write`], to a file that is open.
pub(super) fn write_fd(fd: impl AsFd, value: &str) -> rustix::io::Result<()> {
    match retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Names of the groups directly beneath `dir`.
pub(super) fn children(dir: impl AsFd) -> Result<Vec<String>> {
    entries(dir, |kind| kind == FileType::Directory)
}

/// Names of the files of a group.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<String>> {
    entries(dir, |kind| kind == FileType::RegularFile)
}

fn entries(dir: impl AsFd, wanted: impl Fn(FileType) -> bool) -> Result<Vec<String>> {
    let open = || -> rustix::io::Result<Vec<String>> {
        let fd = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if wanted(entry.file_type()) && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    };
    match open() {
        Err(Errno::NOENT | Errno::NODEV) => Ok(Vec::new()),
        r => r.map_err(|e| Error::io("list cgroup", "", e)),
    }
}

/// Processes of a group and of those below it. 0 stands for one outside of the caller's PID namespace. However deep a
/// container has nested its groups, one directory is open at a time.
pub(super) fn recursive(dir: BorrowedFd<'_>) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    let mut look = |at: &OwnedFd| {
        let text = read(at, "cgroup.procs")?.unwrap_or_default();
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|&p| p != 0));
        children(at)
    };
    // Groups do not move to other parents: `..` is where the walk came from.
    let Some(mut at) = open_dir(dir, ".")? else { return Ok(pids) };
    let mut ahead = vec![look(&at)?];
    while let Some(siblings) = ahead.last_mut() {
        if let Some(child) = siblings.pop() {
            if let Some(below) = open_dir(&at, &child)? {
                at = below;
                ahead.push(look(&at)?);
            }
            continue;
        }
        ahead.pop();
        if !ahead.is_empty() {
            let Some(above) = open_dir(&at, "..")? else { break };
            at = above;
        }
    }
    Ok(pids)
}
