//! Looking into a stack of layers as overlayfs would show it, without mounting it.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::Stat;
use std::collections::BTreeMap;
use tare_model::Result;

/// The directories of the layers below, topmost first. A mounted (merged) view is a stack of one.
#[derive(Debug, Clone, Default)]
pub struct Lowers<'a> {
    dirs: Vec<BorrowedFd<'a>>,
}

/// A file in a stack of layers.
#[derive(Debug)]
pub struct Found {
    /// The file itself (`O_PATH | O_NOFOLLOW`).
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
}

impl<'a> Lowers<'a> {
    /// A stack, topmost layer first.
    pub fn new(dirs: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        Lowers { dirs: dirs.into_iter().collect() }
    }

    /// The empty stack.
    pub fn none() -> Self {
        Lowers::default()
    }

    /// What the stack shows at this cleaned path; `None` if nothing, or if it is hidden by a whiteout, an opaque
    /// directory or a file in the way. Symbolic links are not followed.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Found>> {
        let _ = (path, &self.dirs);
        todo!()
    }

    /// The names that the stack shows in the directory at this cleaned path, with the attributes of each; empty if it is
    /// no directory.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn list(&self, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Stat>> {
        let _ = path;
        todo!()
    }
}
