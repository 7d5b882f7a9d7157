//! Looking at a tree's files one by one.

use super::layout::decode_device;
use super::tree::{Body, Data, Id, Node, ROOT, Tree};
use super::xattrs::{self, OPAQUE};
use crate::entry::{EntryKind, Time};

/// One file of a tree.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    tree: &'a Tree,
    number: Id,
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
        &self.tree.nodes[self.number as usize]
    }

    /// The same for all names of one file, and for no other.
    pub fn number(&self) -> usize {
        self.number as usize
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
    pub fn xattrs(&self) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
        let opaque = self.node().opaque.then(|| (OPAQUE.0.to_vec(), OPAQUE.1));
        xattrs::decode(self.tree.xattrs.get(self.node().xattrs)).chain(opaque)
    }

    /// A regular file's length in bytes, and where its data is.
    pub fn content(&self) -> Option<(u64, Data)> {
        match self.node().body {
            Body::File { size, at } => Some((size, Data::Whole(at))),
            Body::Sparse { size, pieces } => {
                let (bits, places) = &self.tree.sparse[pieces as usize];
                Some((size, Data::Pieces { bits: *bits, places: places.to_vec() }))
            }
            _ => None,
        }
    }

    /// A symbolic link's target.
    pub fn target(&self) -> Option<&'a [u8]> {
        match self.node().body {
            Body::Symlink { text, length } => Some(self.tree.bytes(text, length.into())),
            _ => None,
        }
    }

    /// A device's major and minor number.
    pub fn device(&self) -> Option<(u32, u32)> {
        match self.node().body {
            Body::Device(device) => Some(decode_device(device)),
            _ => None,
        }
    }

    /// What a directory holds, sorted by name; nothing for others.
    pub fn children(&self) -> impl Iterator<Item = (&'a [u8], Member<'a>)> {
        let tree = self.tree;
        let mut names: Vec<_> = tree.names_in(self.number).map(|name| (tree.text(name), name.node)).collect();
        names.sort_unstable();
        names.into_iter().map(move |(name, number)| (name, Member { tree, number }))
    }
}
