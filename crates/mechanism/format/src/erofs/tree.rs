//! A layer's files in memory, without their data: what the changes of an archive come to.
//!
//! It decides as the directory sink of the store does (tests of the store compare them): a later entry replaces an earlier one,
//! two directories are one, parents that are missing are made, and a parent may be a symbolic link of the same layer that stays inside.
//!
//! ```text
//! nodes   56 bytes: attributes, where the data is          texts   names, targets of links
//! names   24 bytes: (directory, name) -> node              table   names by their hash, for look-ups
//! ```
//!
//! All of them only grow: what an archive replaces stays as dead weight, which its own entries pay for.

use super::xattrs::{self, Sets};
use crate::entry::{Entry, EntryKind, Time};
use crate::layer::{Change, show, split};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use tare_model::{Error, Kind, Result};

/// Links followed on the way to one parent, at most (the kernel's number).
/// Bytes of memory that a node takes while its image is made.
pub(super) const EACH_NODE: usize = 32;
const LINKS: usize = 40;
/// Names, nodes and bytes of texts, at most: they are counted in 32 bits. Whoever fills a tree stops long before, by [`Tree::weight`].
const MOST: usize = u32::MAX as usize >> 1;
pub(super) const ROOT: Id = 0;
/// No node, no name.
const NONE: u32 = u32::MAX;

/// Number of a node.
pub(super) type Id = u32;

/// A piece of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it lies in the file, in bytes; a multiple of the file's chunk.
    pub offset: u64,
    /// Its length in bytes; a multiple of the file's chunk, but for the last.
    pub length: u64,
    /// Where it lies in the image, in bytes; a multiple of the block size.
    pub at: u64,
}

/// Where a file's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In one piece, from this byte of the image on (a multiple of the block size).
    Whole(u64),
    /// In pieces, ascending; the rest are holes.
    Pieces {
        /// The size of its chunks, as a power of two; at least a block.
        bits: u8,
        /// The pieces.
        places: Vec<Place>,
    },
}

/// A hard link whose target was not in its layer when it came; cleaned paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The new name.
    pub path: Vec<u8>,
    /// What it shall name.
    pub target: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// The name in it that came last.
    Directory {
        last: u32,
    },
    File {
        size: u64,
        at: u64,
    },
    /// Its pieces: the list of this number.
    Sparse {
        size: u64,
        pieces: u32,
    },
    Symlink {
        text: u32,
        length: u16,
    },
    /// As the kernel encodes it.
    Device(u32),
    Nothing,
    /// A hard link whose target is not in this layer so far: it keeps the place.
    Pending,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) mtime: Time,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names that it has; 0 for what is gone.
    pub(super) links: u32,
    /// Which of the sets; 0 for none.
    pub(super) xattrs: u32,
    pub(super) mode: u16,
    pub(super) kind: EntryKind,
    pub(super) opaque: bool,
    pub(super) body: Body,
}

impl Node {
    /// A directory that no entry describes.
    const IMPLIED: Node = Node {
        mtime: Time { secs: 0, nanos: 0 },
        uid: 0,
        gid: 0,
        links: 1,
        xattrs: 0,
        mode: 0o755,
        kind: EntryKind::Directory,
        opaque: false,
        body: Body::Directory { last: NONE },
    };

    /// How overlayfs says that a name is gone.
    const WHITEOUT: Node = Node { mode: 0, kind: EntryKind::CharDevice, body: Body::Device(0), ..Node::IMPLIED };

    fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    fn is_whiteout(&self) -> bool {
        self.kind == EntryKind::CharDevice && matches!(self.body, Body::Device(0))
    }
}

/// One name in one directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) parent: Id,
    /// `NONE` while nothing has this name.
    pub(super) node: Id,
    text: u32,
    hash: u32,
    /// The name that came before it in the same directory.
    before: u32,
    length: u8,
}

impl Name {
    pub(super) fn is_used(&self) -> bool {
        self.node != NONE
    }
}

/// The files of one layer. Memory: some 130 bytes for each entry, and what its names and attributes take.
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) names: Vec<Name>,
    /// Numbers of names, or `NONE`; a power of two of them, at most three quarters used.
    table: Vec<u32>,
    texts: Vec<u8>,
    pub(super) xattrs: Sets,
    /// Chunk and pieces of sparse files.
    pub(super) sparse: Vec<(u8, Box<[Place]>)>,
    pieces: usize,
    /// Bytes of the paths of what is pending.
    paths: usize,
    /// Hard links that wait for their target, in the archive's order.
    pending: Vec<(Id, Unsettled)>,
    /// The parent that was found last.
    last: (Vec<u8>, Id),
    /// Whoever makes an archive cannot know which names collide; nothing that is written depends on it.
    hasher: RandomState,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("nodes", &self.nodes.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree {
            nodes: vec![Node::IMPLIED],
            names: Vec::new(),
            table: vec![NONE; 64],
            texts: Vec::new(),
            xattrs: Sets::default(),
            sparse: Vec::new(),
            pieces: 0,
            paths: 0,
            pending: Vec::new(),
            last: (Vec::new(), ROOT),
            hasher: RandomState::new(),
        }
    }
}

impl Tree {
    /// Takes one change; `data` says where a file's content is (looked at for files only).
    ///
    /// # Errors
    /// `Kind::Invalid` for changes that cannot be made inside of the layer and attributes without sense, `Kind::Exhausted` beyond
    /// what 31 bits count.
    pub fn put(&mut self, change: Change, data: Data) -> Result<()> {
        let mut entry = match change {
            Change::Put(entry) => entry,
            Change::Whiteout(path) => return self.whiteout(&path),
            Change::Opaque(path) => {
                let directory = self.parent(&path)?;
                self.nodes[directory as usize].opaque = true;
                return Ok(());
            }
            Change::Ignored => return Ok(()),
        };
        match entry.kind {
            EntryKind::Directory => self.directory(&mut entry),
            EntryKind::Hardlink if self.link(&entry.path, &entry.link)? => Ok(()),
            EntryKind::Hardlink => {
                // Nothing of this layer may stand where the link comes.
                let node = Node { kind: EntryKind::Hardlink, body: Body::Pending, ..Node::IMPLIED };
                let id = self.replace(&entry.path, node)?;
                self.paths += entry.path.len() + entry.link.len();
                self.pending.push((id, Unsettled { path: entry.path, target: entry.link }));
                Ok(())
            }
            _ => {
                let body = self.body(&entry, data)?;
                let mut node = Node { kind: entry.kind, body, ..Node::IMPLIED };
                self.describe(&mut node, &mut entry)?;
                self.replace(&entry.path, node).map(drop)
            }
        }
    }

    /// About how many bytes of memory it holds, and will hold while its image is made.
    pub fn weight(&self) -> u64 {
        let nodes = self.nodes.len() * (size_of::<Node>() + EACH_NODE);
        let names = self.names.len() * (size_of::<Name>() + size_of::<u32>()) + self.table.len() * size_of::<u32>();
        let pending = self.pending.len() * size_of::<(Id, Unsettled)>() + self.paths;
        let pieces = self.pieces * size_of::<Place>() + self.sparse.len() * size_of::<(u8, Box<[Place]>)>();
        (nodes + names + pending + pieces + self.texts.len() + self.xattrs.weight()) as u64
    }

    /// The hard links whose target this layer did not have when they came, in order. Each is to be tried again with
    /// [`Tree::link`], and then settled with [`Tree::put`] of what the layers below have there.
    pub fn unsettled(&mut self) -> Vec<Unsettled> {
        let pending = std::mem::take(&mut self.pending);
        // The last entry of a name counts: those that were replaced have no name any more.
        pending.into_iter().filter(|(id, _)| self.nodes[*id as usize].links > 0).map(|(_, link)| link).collect()
    }

    /// Makes another name for a file of this layer; false if it has no such file.
    ///
    /// # Errors
    /// As `put`.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<bool> {
        let (target_parent, target_name) = split(target);
        let Some(from) = self.find(target_parent).map_err(|Stray| {
            Error::new(Kind::Invalid, "link to", show(target_parent))
                .because("one of the directories is a symbolic link that leaves the tree")
        })?
        else {
            return Ok(false);
        };
        let Some(id) = self.child(from, target_name) else { return Ok(false) };
        let node = self.nodes[id as usize];
        if node.is_whiteout() || matches!(node.body, Body::Pending) {
            return Ok(false);
        }
        if node.is_directory() {
            return Err(Error::new(Kind::Invalid, "link", show(path))
                .because(format!("its target {} is a directory", show(target))));
        }
        let (parent, name) = split(path);
        let within = self.parent(parent)?;
        if self.child(within, name) == Some(id) {
            return Ok(true);
        }
        // Held by one more, so that it does not go with what makes room for it.
        self.nodes[id as usize].links += 1;
        self.remove(within, name);
        if self.nodes[id as usize].links == 1 {
            // The target was inside of the directory that made room for the link.
            self.nodes[id as usize].links = 0;
            return Ok(false);
        }
        let within = self.parent(parent)?;
        self.attach(within, name, id)?;
        Ok(true)
    }

    /// The names in a directory, in no order; none for others.
    pub(super) fn names_in(&self, id: Id) -> impl Iterator<Item = &Name> {
        let last = match self.nodes[id as usize].body {
            Body::Directory { last } => last,
            _ => NONE,
        };
        let name = |n: u32| self.names.get(n as usize);
        std::iter::successors(name(last), move |after| name(after.before)).filter(|name| name.is_used())
    }

    pub(super) fn text(&self, name: &Name) -> &[u8] {
        self.bytes(name.text, name.length.into())
    }

    pub(super) fn bytes(&self, text: u32, length: usize) -> &[u8] {
        &self.texts[text as usize..text as usize + length]
    }

    fn body(&mut self, entry: &Entry, data: Data) -> Result<Body> {
        let invalid = |why: &str| Error::new(Kind::Invalid, "index entry", show(&entry.path)).because(why);
        Ok(match entry.kind {
            EntryKind::File => {
                if i64::try_from(entry.size).is_err() {
                    return Err(invalid("a size beyond 63 bits"));
                }
                match data {
                    Data::Whole(at) => Body::File { size: entry.size, at },
                    Data::Pieces { bits, places } => {
                        self.pieces += places.len();
                        self.sparse.push((bits, places.into()));
                        Body::Sparse { size: entry.size, pieces: number(self.sparse.len() - 1) }
                    }
                }
            }
            EntryKind::Symlink => {
                let length = u16::try_from(entry.link.len()).map_err(|_| invalid("a target that is too long"))?;
                Body::Symlink { text: self.keep(&entry.link)?, length }
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => Body::Device(
                super::layout::encode_device(entry.device)
                    .ok_or_else(|| invalid("a device number that Linux does not have"))?,
            ),
            _ => Body::Nothing,
        })
    }

    fn describe(&mut self, node: &mut Node, entry: &mut Entry) -> Result<()> {
        // Linux has no other mode for links.
        let mode = if entry.kind == EntryKind::Symlink { 0o777 } else { entry.mode };
        node.mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        (node.uid, node.gid, node.mtime) = (entry.uid, entry.gid, entry.mtime);
        node.xattrs = 0;
        if !entry.xattrs.is_empty() {
            let set = xattrs::encode(entry, &mut node.mode)?;
            node.xattrs = self.xattrs.intern(&set);
            self.check_texts()?;
        }
        Ok(())
    }

    fn keep(&mut self, text: &[u8]) -> Result<u32> {
        let at = number(self.texts.len());
        self.texts.extend_from_slice(text);
        self.check_texts()?;
        Ok(at)
    }

    fn check_texts(&self) -> Result<()> {
        within(self.texts.len() + self.xattrs.size(), "bytes of names and attributes")
    }

    fn hash(&self, parent: Id, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        (hasher.finish() >> 32) as u32
    }

    /// Where a name stands in the table, or where it would go.
    fn slot(&self, parent: Id, name: &[u8], hash: u32) -> usize {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.table[at] {
                NONE => return at,
                n => {
                    let there = &self.names[n as usize];
                    if there.hash == hash && there.parent == parent && self.text(there) == name {
                        return at;
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 2 - 1;
        self.table = vec![NONE; mask + 1];
        for (n, name) in self.names.iter().enumerate() {
            let mut at = name.hash as usize & mask;
            while self.table[at] != NONE {
                at = (at + 1) & mask;
            }
            self.table[at] = number(n);
        }
    }

    fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        let found = self.table[self.slot(directory, name, self.hash(directory, name))];
        self.names.get(found as usize).filter(|name| name.is_used()).map(|name| name.node)
    }

    fn add(&mut self, directory: Id, name: &[u8], node: Node) -> Result<Id> {
        within(self.nodes.len(), "files")?;
        let id = number(self.nodes.len());
        self.nodes.push(node);
        self.attach(directory, name, id)?;
        Ok(id)
    }

    fn attach(&mut self, directory: Id, name: &[u8], id: Id) -> Result<()> {
        let hash = self.hash(directory, name);
        let slot = self.slot(directory, name, hash);
        if let Some(there) = self.names.get_mut(self.table[slot] as usize) {
            there.node = id;
            return Ok(());
        }
        within(self.names.len(), "names")?;
        let length = u8::try_from(name.len()).map_err(|_| {
            Error::new(Kind::Invalid, "index entry", show(name)).because("its name is longer than 255 bytes")
        })?;
        let text = self.keep(name)?;
        let n = number(self.names.len());
        let Body::Directory { last } = &mut self.nodes[directory as usize].body else { return Ok(()) };
        self.names.push(Name { parent: directory, node: id, text, hash, before: *last, length });
        *last = n;
        self.table[slot] = n;
        if self.names.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        Ok(())
    }

    fn directory(&mut self, entry: &mut Entry) -> Result<()> {
        let id = if entry.path.is_empty() {
            ROOT
        } else {
            let (parent, name) = split(&entry.path);
            let within = self.parent(parent)?;
            match self.child(within, name) {
                Some(there) if self.nodes[there as usize].is_directory() => there,
                there => {
                    // Where the same layer hid one of that name, it shows nothing of the hidden one.
                    let opaque = there.is_some_and(|n| self.nodes[n as usize].is_whiteout());
                    self.remove(within, name);
                    self.add(within, name, Node { opaque, ..Node::IMPLIED })?
                }
            }
        };
        let mut node = self.nodes[id as usize];
        self.describe(&mut node, entry)?;
        self.nodes[id as usize] = node;
        Ok(())
    }

    fn replace(&mut self, path: &[u8], node: Node) -> Result<Id> {
        let (parent, name) = split(path);
        let mut within = self.parent(parent)?;
        if self.remove(within, name) {
            // It may have been a link on the way to its own parent.
            within = self.parent(parent)?;
        }
        self.add(within, name, node)
    }

    /// Takes a name away, and what nobody names then; false if nothing had it.
    fn remove(&mut self, directory: Id, name: &[u8]) -> bool {
        let found = self.table[self.slot(directory, name, self.hash(directory, name))];
        let Some(found) = self.names.get_mut(found as usize).filter(|name| name.is_used()) else { return false };
        let mut going = vec![std::mem::replace(&mut found.node, NONE)];
        while let Some(id) = going.pop() {
            let node = &mut self.nodes[id as usize];
            node.links -= 1;
            match node.body {
                Body::Directory { last } => {
                    self.last = (Vec::new(), ROOT);
                    let mut next = last;
                    while let Some(name) = self.names.get_mut(next as usize) {
                        if name.is_used() {
                            going.push(std::mem::replace(&mut name.node, NONE));
                        }
                        next = name.before;
                    }
                }
                Body::Symlink { .. } => self.last = (Vec::new(), ROOT),
                _ => {}
            }
        }
        true
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let within = self.parent(parent)?;
        match self.child(within, name) {
            // Files of this layer are not touched by its own whiteouts (image-spec, layer.md).
            Some(there) => {
                let node = &mut self.nodes[there as usize];
                node.opaque |= node.is_directory();
            }
            None => {
                self.add(within, name, Node::WHITEOUT)?;
            }
        }
        Ok(())
    }

    /// The directory at `path`; made with its parents if it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<Id> {
        if self.last.0 == path {
            return Ok(self.last.1);
        }
        let (mut at, mut end) = (ROOT, 0);
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            end += name.len() + usize::from(end > 0);
            let next = self.child(at, name).map(|id| (id, self.nodes[id as usize]));
            at = match next {
                Some((id, node)) if node.is_directory() => id,
                Some((_, node)) if node.is_whiteout() => {
                    self.remove(at, name);
                    self.add(at, name, Node { opaque: true, ..Node::IMPLIED })?
                }
                // A link, as in a layer that has `lib -> usr/lib` and then `lib/x`: followed while it stays inside.
                Some((_, Node { body: Body::Symlink { .. }, .. })) => self.through_link(&path[..end])?,
                Some(_) => {
                    return Err(Error::new(Kind::Invalid, "create", show(path))
                        .because("a file of the archive stands where one of its directories should be"));
                }
                None => self.add(at, name, Node::IMPLIED)?,
            };
        }
        self.last.0.clear();
        self.last.0.extend_from_slice(path);
        self.last.1 = at;
        Ok(at)
    }

    fn through_link(&self, path: &[u8]) -> Result<Id> {
        let error = |why: &str| Error::new(Kind::Invalid, "create", show(path)).because(why);
        match self.find(path) {
            Ok(Some(directory)) => Ok(directory),
            Ok(None) => Err(error("one of its directories is a symbolic link that leads nowhere in this layer")),
            Err(Stray) => Err(error("one of its directories is a symbolic link that leaves the layer")),
        }
    }

    /// The directory at `path`, links followed as long as they stay inside; `None` if there is none.
    fn find(&self, path: &[u8]) -> Result<Option<Id>, Stray> {
        if self.last.0 == path {
            return Ok(Some(self.last.1));
        }
        let mut way = vec![ROOT];
        let mut rest: Vec<&[u8]> = path.split(|&b| b == b'/').rev().collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    if way.is_empty() {
                        return Err(Stray);
                    }
                    continue;
                }
                _ => {}
            }
            let Some(next) = way.last().and_then(|at| self.child(*at, name)) else { return Ok(None) };
            match self.nodes[next as usize].body {
                Body::Directory { .. } => way.push(next),
                Body::Symlink { text, length } => {
                    let target = self.bytes(text, length.into());
                    if target.starts_with(b"/") {
                        return Err(Stray);
                    }
                    links += 1;
                    if links > LINKS {
                        return Ok(None);
                    }
                    rest.extend(target.split(|&b| b == b'/').rev());
                }
                _ => return Ok(None),
            }
        }
        Ok(way.last().copied())
    }
}

/// The way leaves the layer.
struct Stray;

fn within(count: usize, what: &str) -> Result<()> {
    if count < MOST {
        return Ok(());
    }
    Err(Error::new(Kind::Exhausted, "index layer", "").because(format!("it has more than {MOST} {what}")))
}

/// Everything counted here stays far below 2^32: see the limits.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}
