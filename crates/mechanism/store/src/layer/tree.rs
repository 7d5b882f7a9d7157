//! A tree as a tar archive: `export`, and `cp` from a container.

use rustix::fd::BorrowedFd;
use std::io::Write;
use tare_model::Result;

/// How a tree is archived.
#[derive(Debug, Clone, Copy, Default)]
pub struct TreeOptions {
    /// No time later than this many seconds since 1970 (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
}

/// Writes the file or directory behind `node` (any descriptor, `O_PATH` too) as an archive, sorted, nothing followed,
/// sockets left out. It is entered as `name` and its contents as `name/…`; with an empty `name` a directory's contents
/// stand at the archive's root and it has no entry itself.
///
/// # Errors
/// What the kernel and `out` report.
pub fn tar_tree(node: BorrowedFd<'_>, name: &[u8], options: &TreeOptions, out: &mut dyn Write) -> Result<()> {
    let _ = (node, name, options, out);
    todo!()
}
