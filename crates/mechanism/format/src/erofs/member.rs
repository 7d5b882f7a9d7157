//! Looking at a tree's files one by one.

use super::tree::{Body, Data, Node, ROOT, Tree};
use crate::entry::{EntryKind, Time};

/// One file of a tree.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    tree: &'a Tree,
    number: usize,
}

impl std::fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("number", &self.number).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Tree {
    /// The root directory.
    pub fn root(&self) -> Member<'_> {
        Member { tree: self, number: ROOT }
    }
}

impl<'a> Member<'a> {
    fn node(&self) -> &'a Node {
        &self.tree.nodes[self.number]
    }

    /// The same for all names of one file, and for no other.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What it is; a whiteout is a character device with the number (0, 0).
    pub fn kind(&self) -> EntryKind {
        self.node().kind
    }

    /// Permission bits (`07777`).
    pub fn mode(&self) -> u32 {
        self.node().mode.into()
    }

    /// User and group.
    pub fn owner(&self) -> (u32, u32) {
        (self.node().uid, self.node().gid)
    }

    /// Time of the last modification.
    pub fn mtime(&self) -> Time {
        self.node().mtime
    }

    /// Names and values of the extended attributes, overlayfs's mark of an opaque directory among them; not sorted.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.node().all_xattrs()
    }

    /// A regular file's length in bytes, and where its data is.
    pub fn content(&self) -> Option<(u64, &'a Data)> {
        match &self.node().body {
            Body::File { size, data } => Some((*size, data)),
            _ => None,
        }
    }

    /// A symbolic link's target.
    pub fn target(&self) -> Option<&'a [u8]> {
        match &self.node().body {
            Body::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// A device's major and minor number.
    pub fn device(&self) -> Option<(u32, u32)> {
        match self.node().body {
            Body::Device(device) => Some(device),
            _ => None,
        }
    }

    /// What a directory holds, sorted by name; nothing for others.
    pub fn children(&self) -> impl Iterator<Item = (&'a [u8], Member<'a>)> {
        let children = match &self.node().body {
            Body::Directory(children) => Some(children),
            _ => None,
        };
        let tree = self.tree;
        children.into_iter().flatten().map(move |(name, number)| (&**name, Member { tree, number: *number }))
    }
}
