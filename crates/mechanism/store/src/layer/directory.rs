//! The directory sink: a layer as a tree of files in overlayfs form.

use super::sink::LayerSink;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::fmt;
use std::io::BufRead;
use tare_format::Change;
use tare_model::Result;

/// Finds a file in the layers below, for hard links whose target is not in this layer. Called at the end only, so it may
/// wait for those layers. The descriptor is one of `O_PATH | O_NOFOLLOW`.
pub type FindBelow<'a> = dyn FnMut(&[u8]) -> Result<Option<OwnedFd>> + 'a;

/// Writes a layer's changes into a directory.
pub struct DirectorySink<'a> {
    root: BorrowedFd<'a>,
    below: Box<FindBelow<'a>>,
}

impl fmt::Debug for DirectorySink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectorySink").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> DirectorySink<'a> {
    /// A sink into the empty directory `root`.
    pub fn new(root: BorrowedFd<'a>, below: Box<FindBelow<'a>>) -> Self {
        DirectorySink { root, below }
    }
}

impl LayerSink for DirectorySink<'_> {
    fn put(&mut self, change: Change, content: &mut dyn BufRead) -> Result<()> {
        let _ = (change, content, &self.root, &mut self.below);
        todo!()
    }

    fn finish(&mut self) -> Result<()> {
        todo!()
    }
}
