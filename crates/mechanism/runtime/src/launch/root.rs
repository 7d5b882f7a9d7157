//! The root filesystem becomes the root directory.
//!
//! The root is a detached mount. It is attached first, everything is mounted in it, hooks may look at it, and only then
//! it becomes the root: by pivot_root(2), after which nothing of the host is left, or without it where that cannot be
//! done (the host's root is an initramfs).

use crate::plan::{Enter, RootPlace};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use std::path::Path;
use tare_model::{Error, Result};

/// Attaches the root in this mount namespace: at a path of the host, where hooks look for it, or on the root directory
/// itself, which takes no directory of the host.
pub(super) fn attach(root: &OwnedFd, place: &RootPlace) -> Result<()> {
    let at = match place {
        RootPlace::OnHostRoot => Path::new("/"),
        RootPlace::At(path) => path,
        RootPlace::Detached => return Ok(()),
    };
    move_mount(root, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| Error::io("attach", format!("root filesystem at {:?}", at.display()), e))
}

/// Makes it the root directory. What comes back is the host's, to be let go of by [`detach_host`].
pub(super) fn enter(root: &OwnedFd, how: Enter) -> Result<Option<OwnedFd>> {
    let fail = |e| Error::io("enter", "root filesystem", e);
    let mut left = None;
    match how {
        Enter::Pivot => {
            let host = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            left = Some(host.map_err(fail)?);
            rustix::process::fchdir(root).map_err(fail)?;
            rustix::process::pivot_root(".", ".").map_err(fail)?;
        }
        Enter::Move => {
            rustix::process::fchdir(root).map_err(fail)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            match move_mount(root, "", CWD, "/", flags) {
                // It is there already.
                Ok(()) | Err(rustix::io::Errno::LOOP) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Enter::Chroot => {}
    }
    rustix::process::fchdir(root).map_err(fail)?;
    rustix::process::chroot(".").map_err(fail)?;
    Ok(left)
}

/// Lets go of the host's mounts, after [`enter`] by pivot_root.
pub(super) fn detach_host(host: &OwnedFd) -> Result<()> {
    let fail = |e| Error::io("let go of", "the host's mounts", e);
    rustix::process::fchdir(host.as_fd()).map_err(fail)?;
    unmount(".", UnmountFlags::DETACH).map_err(fail)?;
    rustix::process::chdir("/").map_err(fail)
}
