//! The mount API that rustix does not cover, and unmounting that takes descriptors.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::ffi::CStr;
use std::io;

/// What mount_setattr(2) shall change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// MOUNT_ATTR_* bits to set.
    pub set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub clear: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE; 0 changes nothing.
    pub propagation: u64,
}

/// MOUNT_ATTR_RDONLY.
pub const RDONLY: u64 = 0x1;
/// MOUNT_ATTR_NOSUID.
pub const NOSUID: u64 = 0x2;
/// MOUNT_ATTR_NODEV.
pub const NODEV: u64 = 0x4;
/// MOUNT_ATTR_NOEXEC.
pub const NOEXEC: u64 = 0x8;
/// MOUNT_ATTR__ATIME: the bits of the choice of access times; cleared before one is set.
pub const ATIME: u64 = 0x70;
/// MOUNT_ATTR_NOATIME.
pub const NOATIME: u64 = 0x10;
/// MOUNT_ATTR_STRICTATIME.
pub const STRICTATIME: u64 = 0x20;
/// MOUNT_ATTR_NODIRATIME.
pub const NODIRATIME: u64 = 0x80;
/// MOUNT_ATTR_IDMAP.
const IDMAP: u64 = 0x10_0000;
/// MOUNT_ATTR_NOSYMFOLLOW.
pub const NOSYMFOLLOW: u64 = 0x20_0000;
/// MS_UNBINDABLE.
pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
/// MS_PRIVATE.
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// MS_SLAVE.
pub const SLAVE: u64 = libc::MS_SLAVE;
/// MS_SHARED.
pub const SHARED: u64 = libc::MS_SHARED;

/// Which mounts a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The mount alone.
    Alone,
    /// The mount and everything mounted below it.
    Below,
}

/// The kernel's struct mount_attr, include/uapi/linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes a mount's attributes (mount_setattr(2)). `path` is relative to `dir`; empty means `dir` itself.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attributes(dir: BorrowedFd<'_>, path: &CStr, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let Attributes { set, clear, propagation } = attributes;
    let reach = if recursive { Reach::Below } else { Reach::Alone };
    set_attr(dir, path, &MountAttr { set, clear, propagation, userns_fd: 0 }, reach)
}

/// Makes a detached mount show ids through the maps of a user namespace: an id that is stored as one inside is seen as
/// the one outside (mount_setattr(2), MOUNT_ATTR_IDMAP).
///
/// # Errors
/// As mount_setattr(2): EINVAL where the filesystem has no id-mapped mounts or the mount has been attached, EPERM where
/// it is mapped already or the filesystem belongs to another user namespace.
pub fn set_id_map(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, reach: Reach) -> io::Result<()> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    set_attr(mount, c"", &MountAttr { set: IDMAP, clear: 0, propagation: 0, userns_fd }, reach)
}

fn set_attr(dir: BorrowedFd<'_>, path: &CStr, attr: &MountAttr, reach: Reach) -> io::Result<()> {
    let mut flags = libc::AT_SYMLINK_NOFOLLOW as u32;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    if reach == Reach::Below {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: `attr` and `path` live through the call, and the size is that of the struct passed.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The current directory as a base for relative paths.
pub fn cwd() -> BorrowedFd<'static> {
    rustix::fs::CWD
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags, openat};
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

    #[test]
    fn a_detached_mount_becomes_read_only() {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(fs.as_fd()).unwrap();
        let mnt = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let create = || openat(&mnt, "f", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
        create().unwrap();
        set_attributes(mnt.as_fd(), c"", Attributes { set: RDONLY, ..Default::default() }, true).unwrap();
        assert_eq!(create().unwrap_err(), rustix::io::Errno::ROFS);
    }
}
