//! Unpacking an archive into a container's file system: `cp` to a container.

use rustix::fd::BorrowedFd;
use std::io::Read;
use tare_model::Result;

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The numbers in the archive (`cp -a`).
    Archive,
    /// This user and group.
    Fixed {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// What happens when a directory meets a file that is no directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// The new one replaces the old one.
    Any,
    /// An error: docker's `noOverwriteDirNonDir`.
    SameSort,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct ExtractOptions {
    /// Who owns what is unpacked.
    pub ownership: Ownership,
    /// Directory against file.
    pub replace: Replace,
}

/// Unpacks a tar archive (not compressed) into the existing directory `path` of the tree `root`. Symbolic links in `path`
/// and in the parents of entries are followed as a process chrooted to `root` would follow them; the last name of an
/// entry never is. Whiteouts have no meaning here. The archive is read to the end of its input.
///
/// # Errors
/// `Kind::NotFound` when `path` is no directory; `Kind::Invalid` for malformed entries; what the kernel reports.
pub fn extract_into(
    root: BorrowedFd<'_>,
    path: &[u8],
    archive: &mut dyn Read,
    options: &ExtractOptions,
) -> Result<()> {
    let _ = (root, path, archive, options);
    todo!()
}
