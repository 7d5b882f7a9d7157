//! Paths of the container that the caller stands in.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens an absolute path of the container that the caller is in, through no link of procfs.
pub(super) fn open_inside(path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    for _ in 0..128 {
        match openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            // A rename elsewhere can cause it.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}
