//! Removing trees.

use rustix::fd::BorrowedFd;
use tare_model::Result;

/// Removes `name` in `parent` with everything below it. No link is followed, no other file system entered through one; a
/// mount point below is an error. A missing `name` is none. Depth is not limited by descriptors.
///
/// # Errors
/// What the kernel reports first; what could be removed before is gone.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let _ = (parent, name);
    todo!()
}
