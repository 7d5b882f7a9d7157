//! The directory sink: a layer as a tree of files in overlayfs form.

use super::below::Below;
use super::sink::LayerSink;
use super::tree_writer::{Clash, Linked, Parents, TreeWriter};
use rustix::fd::BorrowedFd;
use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;
use tare_format::layer::{Pending, show};
use tare_format::{Change, Entry, EntryKind};
use tare_model::{Error, Kind, Result};

/// Finds a file in the layers below, for hard links whose target is not in this layer. Called at the end only, so it may
/// wait for those layers.
pub type FindBelow<'a> = dyn FnMut(&[u8]) -> Result<Option<Below>> + 'a;

/// Writes a layer's changes into a directory.
pub struct DirectorySink<'a> {
    tree: TreeWriter<'a>,
    below: Box<FindBelow<'a>>,
    pending: Pending,
}

impl fmt::Debug for DirectorySink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectorySink").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl<'a> DirectorySink<'a> {
    /// A sink into the empty directory `root`.
    pub fn new(root: BorrowedFd<'a>, below: Box<FindBelow<'a>>) -> Self {
        let mut tree = TreeWriter::new(root, Parents::Layer, Clash::Replace);
        tree.imply(b"");
        DirectorySink { tree, below, pending: Pending::default() }
    }

    /// `settled`: what came from below so far, by target. Another name for the same is a link to it, not a further copy.
    fn settle(&mut self, link: &Entry, settled: &mut HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
        if self.tree.hard_link(&link.path, &link.link)? == Linked::Done {
            return Ok(());
        }
        if let Some(copy) = settled.get(&link.link)
            && self.tree.hard_link(&link.path, copy)? == Linked::Done
        {
            return Ok(());
        }
        let Some(Below { mut entry, mut content }) = (self.below)(&link.link)? else {
            return Err(Error::new(Kind::Invalid, "link", show(&link.path))
                .because(format!("its target {} is neither in this layer nor in those below", show(&link.link))));
        };
        entry.path.clone_from(&link.path);
        self.tree.put(entry, &mut content)?;
        settled.insert(link.link.clone(), link.path.clone());
        Ok(())
    }
}

impl LayerSink for DirectorySink<'_> {
    fn put(&mut self, change: Change, _at: u64, content: &mut dyn BufRead) -> Result<()> {
        let entry = match change {
            Change::Put(entry) => entry,
            Change::Whiteout(path) => return self.tree.whiteout(&path),
            Change::Opaque(path) => return self.tree.opaque(&path),
            Change::Ignored => return Ok(()),
        };
        self.pending.replaced_by(&entry);
        if entry.kind != EntryKind::Hardlink {
            return self.tree.put(entry, content);
        }
        match self.tree.hard_link(&entry.path, &entry.link)? {
            Linked::Done => Ok(()),
            Linked::NoTarget => {
                // Nothing of this layer may stand where the link comes.
                self.tree.clear(&entry.path)?;
                self.pending.push(entry);
                Ok(())
            }
        }
    }

    fn weight(&self) -> u64 {
        self.tree.weight() + self.pending.weight()
    }

    fn finish(&mut self, _archive: u64) -> Result<()> {
        let mut settled = HashMap::new();
        for link in self.pending.take() {
            self.settle(&link, &mut settled)?;
        }
        self.tree.finish()
    }
}
