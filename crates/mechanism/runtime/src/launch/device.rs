//! Device nodes and links in /dev, and the console.
//!
//! Where nodes cannot be made (in a user namespace, or for want of CAP_MKNOD) the host's are bound over empty files.

use super::filesystem::clone_tree;
use super::mounting::attach;
use super::resolve::{in_root_with, mkdir_in_root, split};
use super::step::Stage;
use crate::defence::{self, Defence};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use tare_model::runtime_spec::LinuxDevice;
use tare_model::{Error, Kind, Result};

/// What every /dev links to (config-linux.md#dev-symbolic-links).
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

impl Stage<'_> {
    pub(super) fn devices(&self, devices: &[LinuxDevice]) -> Result<()> {
        let dev = self.open_dev()?;
        for device in devices {
            // All but a few lie in /dev itself, which is open.
            match device.path.strip_prefix("/dev/").filter(|name| !name.is_empty() && !name.contains('/')) {
                Some(name) => self.device(device, &dev, name)?,
                None => {
                    let (dir, name) = split(&device.path);
                    self.device(device, &mkdir_in_root(self.root()?, dir)?, name)?;
                }
            }
        }
        links(&dev)
    }

    /// The container's /dev, made if missing. An image in which it is a link would have nodes made elsewhere: in its own
    /// files at best (CVE-2026-41579).
    fn open_dev(&self) -> Result<OwnedFd> {
        let fail = |e| Error::io("open", "/dev", e);
        if !defence::stands(Defence::MountTarget) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return rustix::fs::openat(self.root()?, "dev", flags, Mode::empty()).map_err(fail);
        }
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            in_root_with(self.root()?, "/dev", flags, ResolveFlags::NO_SYMLINKS).map_err(|e| match e {
                Errno::LOOP => Error::new(Kind::Denied, "make devices", "/dev")
                    .because("the image has a link in the place of its directory /dev")
                    .hint("make /dev a directory in the image"),
                e => fail(e),
            })
        };
        match open() {
            Err(e) if e.errno() == Some(Errno::NOENT.raw_os_error()) => {
                match rustix::fs::mkdirat(self.root()?, "dev", Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(e) => Err(Error::io("make directory", "/dev", e)),
                }
            }
            other => other,
        }
    }

    fn device(&self, d: &LinuxDevice, parent: &OwnedFd, name: &str) -> Result<()> {
        let fail = |e| Error::io("make device", &d.path, e);
        let kind = kind_of(d)?;
        let (major, minor) = numbers_of(d, kind)?;
        // The umask is 0 here: the mode is what was asked for.
        let mode = Mode::from_raw_mode(d.file_mode.unwrap_or(0o666) & 0o7777);
        // A node that can be made in a user namespace (kernels differ) could still not be opened there.
        let made = if self.in_user_namespace && kind != FileType::Fifo {
            Err(Errno::PERM)
        } else {
            rustix::fs::mknodat(parent, name, kind, mode, rustix::fs::makedev(major, minor))
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::PERM) if kind != FileType::Fifo => return self.bind_device(d, kind, parent, name),
            Err(e) => return Err(fail(e)),
        }
        if d.uid.unwrap_or(0) != 0 || d.gid.unwrap_or(0) != 0 {
            let (uid, gid) = (Uid::from_raw(d.uid.unwrap_or(0)), Gid::from_raw(d.gid.unwrap_or(0)));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        Ok(())
    }

    /// Binds the host's node of the same path, if it is the device that was asked for.
    fn bind_device(&self, d: &LinuxDevice, kind: FileType, parent: &OwnedFd, name: &str) -> Result<()> {
        let fail = |e| Error::io("bind device", &d.path, e);
        let tree = clone_tree(CWD, &d.path, false).map_err(fail)?;
        let stat = rustix::fs::fstat(&tree).map_err(fail)?;
        let (major, minor) = numbers_of(d, kind)?;
        if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != rustix::fs::makedev(major, minor) {
            return Err(Error::new(Kind::Invalid, "bind device", &d.path)
                .because(format!("the host's file of this name is not the device {major}:{minor}"))
                .hint("in a user namespace devices are the host's own, under the same path"));
        }
        match rustix::fs::mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let point = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(fail)?;
        attach(&tree, point.as_fd(), "").map_err(fail)
    }

    pub(super) fn console(&self) -> Result<()> {
        let Some(terminal) = &self.prepared.terminal else { return Ok(()) };
        let tree = clone_tree(&terminal.slave, "", false).map_err(|e| Error::io("bind", "/dev/console", e))?;
        let more = if defence::stands(Defence::Console) { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
        self.place(&tree, "/dev/console", false, more)
    }
}

fn links(dev: &OwnedFd) -> Result<()> {
    for (name, target) in LINKS {
        let fail = |e| Error::io("make link", format!("/dev/{name}"), e);
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) => {}
            // What an image has there may be a node of the host's terminals: the container's own are in its /dev/pts.
            Err(Errno::EXIST) if name == "ptmx" => match rustix::fs::unlinkat(dev, name, AtFlags::empty()) {
                Ok(()) => rustix::fs::symlinkat(target, dev, name).map_err(fail)?,
                // Something was mounted there: it was asked for.
                Err(Errno::BUSY) => {}
                Err(e) => return Err(fail(e)),
            },
            Err(Errno::EXIST) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(())
}

fn kind_of(d: &LinuxDevice) -> Result<FileType> {
    match d.kind.as_str() {
        "c" | "u" => Ok(FileType::CharacterDevice),
        "b" => Ok(FileType::BlockDevice),
        "p" => Ok(FileType::Fifo),
        other => {
            Err(Error::new(Kind::Invalid, "make device", &d.path)
                .because(format!("type {other:?} is none of c, b, u, p")))
        }
    }
}

fn numbers_of(d: &LinuxDevice, kind: FileType) -> Result<(u32, u32)> {
    let number = |n: i64| {
        u32::try_from(n).map_err(|_| {
            Error::new(Kind::Invalid, "make device", &d.path).because(format!("{n} is not a device's number"))
        })
    };
    if kind == FileType::Fifo { Ok((0, 0)) } else { Ok((number(d.major)?, number(d.minor)?)) }
}
