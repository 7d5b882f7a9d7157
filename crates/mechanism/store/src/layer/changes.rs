//! What a container changed, path by path, with docker's meaning of "changed".

use super::{Excluded, Lowers};
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use tare_model::Result;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// `C`: it is different, or it is a directory in which something is.
    Modified,
    /// `A`: it was not there.
    Added,
    /// `D`: it is gone; what it contained is not listed.
    Deleted,
}

/// One line of `diff`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathChange {
    /// Relative to the root, cleaned, without leading slash.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The differences that `upper` (an overlay's upper directory) makes to the view below it, sorted by path.
///
/// # Errors
/// What the kernel reports.
pub fn changes(upper: BorrowedFd<'_>, lower: &Lowers<'_>, excluded: &Excluded) -> Result<Vec<PathChange>> {
    let _ = (upper, lower, excluded);
    todo!()
}
