//! Going into other mount namespaces, and coming back.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use tare_kernel::process::{Namespaces, setns};
use tare_model::{Context, Error, Result};

/// Where this process is at home: entering another mount namespace changes its root and working directory, too.
#[derive(Debug)]
pub(crate) struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    cwd: OwnedFd,
}

impl Home {
    pub(crate) fn remember() -> Result<Home> {
        let open = |path: &str, flags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Error::io("open", path, e))
        };
        Ok(Home {
            namespace: open("/proc/thread-self/ns/mnt", OFlags::RDONLY)?,
            root: open("/", OFlags::PATH | OFlags::DIRECTORY)?,
            cwd: open(".", OFlags::PATH | OFlags::DIRECTORY)?,
        })
    }

    pub(crate) fn back(self) -> Result<()> {
        setns(self.namespace.as_fd(), Namespaces::MOUNT).during("return to", "own mount namespace")?;
        rustix::process::fchdir(&self.root)
            .and_then(|()| rustix::process::chroot("."))
            .and_then(|()| rustix::process::fchdir(&self.cwd))
            .map_err(|e| Error::io("return to", "own directory", e))
    }
}

/// Does something in another mount namespace. The process must have one thread.
///
/// # Errors
/// Entering it, `act`'s own, and coming back.
pub(crate) fn inside<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = Home::remember()?;
    setns(namespace, Namespaces::MOUNT).during("enter", "mount namespace")?;
    let out = act();
    home.back()?;
    out
}
