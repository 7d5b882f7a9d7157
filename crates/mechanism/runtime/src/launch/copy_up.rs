//! `tmpcopyup`: a new tmpfs begins with what the image has in the directory that it covers.
//!
//! Everything goes through descriptors of directories, and no link is followed: what is copied lies in the root, also
//! when somebody moves things about meanwhile. The order in a directory is the kernel's: owner before mode (chown clears
//! set-id bits), both before the times.

use super::resolve::in_root;
use super::step::Stage;
use crate::plan::{MountPlan, Source};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use tare_model::{Error, Result};

/// How deep directories may lie in each other: two descriptors are open for each.
const DEEPEST: usize = 200;

impl Stage<'_> {
    pub(super) fn copy_up(&self, tree: &OwnedFd, plan: &MountPlan) -> Result<()> {
        let fail = |e| Error::io("copy into tmpfs", &plan.target, e);
        let source = match in_root(self.root()?, &plan.target, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(source) => source,
            // Nothing to copy: the mount point will be made.
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        // What the options say about the top wins over what the image has.
        let given = |key: &str| match &plan.source {
            Source::Filesystem { options, .. } => options.iter().any(|o| o.starts_with(key)),
            _ => false,
        };
        let top = rustix::fs::openat(tree, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let top = top.map_err(fail)?;
        let stat = rustix::fs::fstat(&source).map_err(fail)?;
        copy_directory(&source, &top, 0).map_err(fail)?;
        let uid = (!given("uid=")).then(|| Uid::from_raw(stat.st_uid));
        let gid = (!given("gid=")).then(|| Gid::from_raw(stat.st_gid));
        own(|| rustix::fs::fchown(&top, uid, gid)).map_err(fail)?;
        if !given("mode=") {
            rustix::fs::fchmod(&top, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(fail)?;
        }
        copy_xattrs(source.as_fd(), top.as_fd()).map_err(fail)
    }
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> rustix::io::Result<()> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let target = rustix::fs::openat(to, name, flags, Mode::empty())?;
                copy_directory(&source, &target, depth + 1)?;
                finish(&source, &target, &rustix::fs::fstat(&source)?)?;
            }
            FileType::RegularFile => copy_file(from, to, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&*target, to, name)?;
                finish_by_name(to, name, &stat)?;
            }
            kind => {
                match rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev) {
                    Ok(()) => finish_by_name(to, name, &stat)?,
                    // Device nodes, in a user namespace: what cannot be there is left out.
                    Err(Errno::PERM) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    // Not following and not waiting: it may no longer be the file that was listed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::AGAIN);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    while rustix::fs::sendfile(&target, &source, None, 1 << 30)? > 0 {}
    finish(&source, &target, &stat)
}

/// Owner, extended attributes, mode, times.
fn finish(source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    own(|| rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(source.as_fd(), target.as_fd())?;
    rustix::fs::futimens(target, &times(stat))
}

fn finish_by_name(to: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    own(|| rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives a file its owner, unless this user namespace has no such id: then it is root's.
fn own(change: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match change() {
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut value = vec![0u8; if length > 0 { 64 * 1024 } else { 0 }];
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = CString::new(name) else { continue };
        let size = rustix::fs::fgetxattr(from, &*name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, &*name, &value[..size], XattrFlags::empty()) {
            // What tmpfs or this user namespace does not have (trusted.*, other security modules) stays behind.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
