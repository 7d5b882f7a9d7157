//! The names in a directory.

use super::node::failed;
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, RawDir};
use std::mem::MaybeUninit;
use tare_model::Result;

/// A name in a directory, as getdents64(2) gives it.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) bytes: Vec<u8>,
    /// `Unknown` where the file system does not say.
    pub(super) kind: FileType,
    pub(super) inode: u64,
}

/// All names but `.` and `..`, from the descriptor's current position (a fresh one: from the start), in the file system's
/// order.
pub(super) fn names(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Name>> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 1 << 15];
    let mut raw = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry.map_err(failed("read directory", path))?;
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            found.push(Name { bytes: bytes.to_vec(), kind: entry.file_type(), inode: entry.ino() });
        }
    }
    Ok(found)
}

/// The same, sorted by the bytes of the names.
pub(super) fn sorted_names(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names: Vec<_> = names(dir, path)?.into_iter().map(|n| n.bytes).collect();
    names.sort_unstable();
    Ok(names)
}
