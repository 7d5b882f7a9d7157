//! Differences between kernels, found out at run time.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, Result};
use rustix::mount::{fsconfig_set_fd, fsconfig_set_string};
use std::path::PathBuf;
use tare_model::Error;

/// How an overlay's lower directories are told to the kernel.
#[derive(Debug, Clone, Copy)]
enum Naming {
    /// `lowerdir+` for each: from Linux 6.7 on.
    OneByOne,
    /// One value with colons. It may be 255 bytes long, for which the names of open descriptors, relative to
    /// /proc/self/fd, make 60 fit.
    AtOnce,
}

/// Makes an overlay of these lower directories, top first. `start` opens a file system context, `finish` sets all other
/// options, with absolute paths, and creates the mount; both run again where the kernel knows only the older way.
///
/// Up to Linux 6.4 the context takes any option unread, and complains in the host's log when the mount is created. It is
/// known by what it does not take: a descriptor.
///
/// # Errors
/// Of `start`, `finish` and fsconfig(2), with the kernel's own words if it has some.
pub(crate) fn overlay(
    lowers: &[PathBuf],
    start: impl Fn() -> tare_model::Result<OwnedFd>,
    finish: impl Fn(&OwnedFd) -> Result<()>,
) -> tare_model::Result<OwnedFd> {
    let mut fs = start()?;
    let unread = fsconfig_set_fd(fs.as_fd(), "lowerdir+", fs.as_fd()) == Err(Errno::OPNOTSUPP);
    // What it says of that is nobody's business.
    let _ = tare_runtime::launch::kernel_words(&fs);
    let first = if unread { Naming::AtOnce } else { Naming::OneByOne };
    let mut result = configure(&fs, lowers, first, &finish);
    if result == Err(Errno::INVAL) && !unread {
        fs = start()?;
        result = configure(&fs, lowers, Naming::AtOnce, &finish);
    }
    match result {
        Ok(()) => Ok(fs),
        Err(e) => {
            let error = Error::io("mount", "overlay", e);
            Err(match tare_runtime::launch::kernel_words(&fs) {
                Some(words) => error.because(words),
                None => error,
            })
        }
    }
}

fn configure(fs: &OwnedFd, lowers: &[PathBuf], naming: Naming, finish: &impl Fn(&OwnedFd) -> Result<()>) -> Result<()> {
    match naming {
        Naming::OneByOne => {
            lowers.iter().try_for_each(|lower| fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_path()))?;
            finish(fs)
        }
        Naming::AtOnce => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fds = lowers.iter().map(|p| open(p, flags, Mode::empty())).collect::<Result<Vec<_>>>()?;
            let names: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
            let back = open(".", flags, Mode::empty())?;
            rustix::process::chdir("/proc/self/fd")?;
            // Up to Linux 6.4 the names are resolved when the mount is created: until then they must hold.
            let result = fsconfig_set_string(fs.as_fd(), "lowerdir", names.join(":")).and_then(|()| finish(fs));
            rustix::process::fchdir(&back)?;
            result
        }
    }
}
