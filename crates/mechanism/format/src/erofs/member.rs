//! Looking at a tree's files one by one.

use super::layout::decode_device;
use super::tree::{Body, Data, Id, Node, ROOT, Tree};
use super::xattrs::{self, OPAQUE};
use crate::entry::{Entry, EntryKind, Time};
use crate::layer::join;
use std::collections::BTreeMap;
use tare_model::Result;

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

    /// Everything in it in the order of an archive that is the same for the same files: a directory before what is in it, names sorted by
    /// their bytes. Of a file with several names the first has the content, the others are links to it. With each entry that has
    /// content, where that is. What hides something below comes as the image has it, as character device 0:0.
    ///
    /// # Errors
    /// What `visit` fails with.
    pub fn each(&self, visit: &mut dyn FnMut(Entry, Option<&Data>) -> Result<()>) -> Result<()> {
        let mut first = BTreeMap::new();
        let mut todo = vec![(Vec::new(), self.root())];
        while let Some((path, member)) = todo.pop() {
            let node = member.node();
            let mut entry = Entry::new(path.clone(), node.kind);
            if node.links > 1 {
                if let Some(target) = first.get(&member.number) {
                    entry.kind = EntryKind::Hardlink;
                    entry.link = Vec::clone(target);
                    visit(entry, None)?;
                    continue;
                }
                first.insert(member.number, path.clone());
            }
            (entry.mode, entry.mtime) = (member.mode(), member.mtime());
            (entry.uid, entry.gid) = member.owner();
            let own = xattrs::decode(self.xattrs.get(node.xattrs));
            entry.xattrs = own.map(|(name, value)| (name, value.to_vec())).collect();
            entry.link = member.target().unwrap_or_default().to_vec();
            entry.device = member.device().unwrap_or_default();
            let content = member.content();
            entry.size = content.as_ref().map_or(0, |(size, _)| *size);
            let below = todo.len();
            todo.extend(member.children().map(|(name, child)| (join(&path, name), child)));
            todo[below..].reverse();
            visit(entry, content.as_ref().map(|(_, data)| data))?;
        }
        Ok(())
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
