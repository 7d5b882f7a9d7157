//! Paths that are made unreadable or read-only, and kernel parameters.

use super::filesystem::{clone_tree, new_filesystem};
use super::mounting::{attach, is_directory};
use super::resolve::{in_root, in_root_with};
use super::step::Stage;
use crate::defence::{self, Defence};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use tare_kernel::mount::{Attributes, PRIVATE, RDONLY};
use tare_model::{Context, Error, Kind, Result};

impl Stage<'_> {
    pub(super) fn sysctls(&self, sysctls: &BTreeMap<String, String>) -> Result<()> {
        let made;
        let proc = match &self.proc {
            Some(proc) => proc,
            // The container has none that is whole and writable: one is made that no path leads to.
            None => {
                made = self.proc_for_parameters().map_err(|e| e.during("set sysctl", ""))?;
                &made
            }
        };
        for (key, value) in sysctls {
            // As sysctl(8): dots separate, unless slashes do, which leaves dots for names of devices.
            let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
            let file = self.open_parameter(proc, &format!("sys/{path}")).map_err(|e| {
                let error = Error::io("set sysctl", key, e);
                if e == Errno::NOENT { error.hint("this kernel has no such parameter") } else { error }
            })?;
            rustix::io::write(file, value.as_bytes())
                .map_err(|e| Error::io("set sysctl", format!("{key}={value}"), e))?;
        }
        Ok(())
    }

    fn proc_for_parameters(&self) -> Result<OwnedFd> {
        let refused = match new_filesystem("proc", "proc", &[], 0) {
            Err(e) if e.errno() == Some(Errno::PERM.raw_os_error()) => e,
            other => return other,
        };
        // A user namespace makes none for processes of others. Then what is mounted on /proc is the host's, and its
        // files below sys/ are those of whoever opens them.
        let found = in_root_with(self.root()?, "/proc", OFlags::PATH, ResolveFlags::NO_SYMLINKS);
        let whole = |fd: &OwnedFd| {
            let is_proc = rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC);
            // PROC_ROOT_INO of the kernel: not a directory in it.
            is_proc && rustix::fs::fstat(fd).is_ok_and(|s| s.st_ino == 1)
        };
        found.ok().filter(whole).ok_or(refused)
    }

    fn open_parameter(&self, proc: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
        if !defence::stands(Defence::Procfs) {
            let root = self.root().map_err(|_| Errno::BADF)?;
            return in_root(root, &format!("/proc/{path}"), OFlags::WRONLY);
        }
        in_root_with(proc, path, OFlags::WRONLY, ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
    }

    pub(super) fn readonly_path(&self, path: &str) -> Result<()> {
        let fail = |e: Errno| Error::io("make read-only", path, e);
        let point = match in_root(self.root()?, path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        let tree = clone_tree(&point, "", true).map_err(fail)?;
        let attributes = Attributes { set: RDONLY, propagation: PRIVATE, ..Default::default() };
        tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, true).during("make read-only", path)?;
        attach(&tree, point.as_fd(), "").map_err(fail)
    }

    /// Files are covered by this container's own null device, directories by one empty read-only directory.
    pub(super) fn masked_paths(&self, paths: &[String]) -> Result<()> {
        let mut cover = Cover::default();
        let mut directories = Vec::new();
        for path in paths {
            let fail = |e: Errno| Error::io("mask", path, e);
            let point = match in_root(self.root()?, path, OFlags::PATH) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(fail(e)),
            };
            if is_directory(&point)? {
                directories.push((path, point));
            } else {
                attach(&cover.file(self)?, point.as_fd(), "").map_err(fail)?;
            }
        }
        // The last one gets the source of the copies: a detached mount that is left over takes the kernel long to undo.
        let last = directories.len().saturating_sub(1);
        for (i, (path, point)) in directories.iter().enumerate() {
            let tree = cover.directory(i == last)?;
            attach(&tree, point.as_fd(), "").map_err(|e| Error::io("mask", path, e))?;
        }
        Ok(())
    }
}

/// What paths are covered with: each source is made when it is first needed, and shared by all.
#[derive(Default)]
struct Cover {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Cover {
    fn file(&mut self, stage: &Stage<'_>) -> Result<OwnedFd> {
        if self.null.is_none() {
            self.null = Some(null_device(stage)?);
        }
        let null = self.null.as_ref().expect("it was put there just before");
        clone_tree(null, "", false).map_err(|e| Error::io("mask", "a file", e))
    }

    fn directory(&mut self, last: bool) -> Result<OwnedFd> {
        let empty = match self.empty.take() {
            Some(empty) => empty,
            None => new_filesystem("tmpfs", "tmpfs", &["nr_blocks=1".into(), "nr_inodes=1".into()], RDONLY)?,
        };
        if last {
            return Ok(empty);
        }
        match clone_tree(&empty, "", false) {
            Ok(copy) => {
                self.empty = Some(empty);
                Ok(copy)
            }
            // Kernels before 6.15 do not copy a detached mount: the source itself is used up.
            Err(Errno::INVAL) => Ok(empty),
            Err(e) => Err(Error::io("mask", "a directory", e)),
        }
    }
}

/// The container's null device. What an image or a racing process put in its place is refused: a masked path would show
/// it (CVE-2025-31133).
fn null_device(stage: &Stage<'_>) -> Result<OwnedFd> {
    let check = defence::stands(Defence::NullDevice);
    let more = if check { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    let null =
        in_root_with(stage.root()?, "/dev/null", OFlags::PATH, more).map_err(|e| Error::io("open", "/dev/null", e))?;
    let device = rustix::fs::fstat(&null).map_err(|e| Error::io("look at", "/dev/null", e))?;
    let is_null = device.st_rdev == rustix::fs::makedev(1, 3)
        && FileType::from_raw_mode(device.st_mode) == FileType::CharacterDevice;
    if check && !is_null {
        return Err(Error::new(Kind::Denied, "mask paths", "").because("/dev/null is not the null device"));
    }
    Ok(null)
}
