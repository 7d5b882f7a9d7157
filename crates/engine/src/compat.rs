//! Differences between kernels, found out at run time.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::fsconfig_set_string;
use std::path::PathBuf;

/// Names an overlay's lower directories, top first.
///
/// From Linux 6.5 on one by one (`lowerdir+`), each up to 255 bytes. Before, as one colon-separated value, for which
/// the context allows the same 255 bytes: short names of open descriptors, relative to /proc/self/fd, make 60 fit.
///
/// # Errors
/// As fsconfig(2).
pub(crate) fn set_lowers(fs: &OwnedFd, lowers: &[PathBuf]) -> rustix::io::Result<()> {
    for (i, lower) in lowers.iter().enumerate() {
        match fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_path()) {
            Ok(()) => {}
            Err(Errno::INVAL) if i == 0 => return set_lowers_at_once(fs, lowers),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn set_lowers_at_once(fs: &OwnedFd, lowers: &[PathBuf]) -> rustix::io::Result<()> {
    use rustix::fd::AsRawFd;
    use rustix::fs::{Mode, OFlags};
    let open = |p: &PathBuf| rustix::fs::open(p, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let fds = lowers.iter().map(open).collect::<rustix::io::Result<Vec<_>>>()?;
    let back = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::chdir("/proc/self/fd")?;
    let value = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect::<Vec<_>>().join(":");
    let result = fsconfig_set_string(fs.as_fd(), "lowerdir", value.as_str());
    // The context resolves the names when they are set: the descriptors and the directory are free again.
    rustix::process::fchdir(&back)?;
    result
}
