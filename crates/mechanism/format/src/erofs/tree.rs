//! A layer's files in memory, without their data: what the changes of an archive come to.
//!
//! It decides as the directory sink of the store does (and a test of both compares them): a later entry replaces an earlier one,
//! two directories are one, parents that are missing are made, and a parent may be a symbolic link of the same layer that stays inside.

use crate::entry::{Entry, EntryKind, Time};
use crate::layer::{Change, Pending, show, split};
use std::collections::BTreeMap;
use tare_model::{Error, Kind, Result};

/// Links followed on the way to one parent, at most (the kernel's number).
const LINKS: usize = 40;
pub(super) const ROOT: usize = 0;
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// A piece of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it lies in the file, in bytes; a multiple of the block size.
    pub offset: u64,
    /// Its length in bytes; a multiple of the block size, but for the last.
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
    Pieces(Box<[Place]>),
}

pub(super) enum Body {
    Directory(BTreeMap<Box<[u8]>, usize>),
    File { size: u64, data: Data },
    Symlink(Box<[u8]>),
    Device((u32, u32)),
    Nothing,
}

/// Sorted, without overlayfs's own.
pub(super) type Xattrs = Box<[(Box<[u8]>, Box<[u8]>)]>;

pub(super) struct Node {
    pub(super) kind: EntryKind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) links: u32,
    pub(super) opaque: bool,
    pub(super) xattrs: Option<Xattrs>,
    pub(super) body: Body,
}

impl Node {
    fn directory() -> Node {
        let body = Body::Directory(BTreeMap::new());
        let kind = EntryKind::Directory;
        Node { kind, mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), links: 1, opaque: false, xattrs: None, body }
    }

    /// How overlayfs says that a name is gone.
    fn whiteout() -> Node {
        Node { kind: EntryKind::CharDevice, mode: 0, body: Body::Device((0, 0)), ..Node::directory() }
    }

    fn is_whiteout(&self) -> bool {
        self.kind == EntryKind::CharDevice && matches!(self.body, Body::Device((0, 0)))
    }

    fn describe(&mut self, entry: &mut Entry) {
        self.mode = u16::try_from(entry.mode & 0o7777).unwrap_or(0);
        (self.uid, self.gid, self.mtime) = (entry.uid, entry.gid, entry.mtime);
        let own = |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        let kept = std::mem::take(&mut entry.xattrs).into_iter().filter(|(name, _)| !own(name));
        let kept: Xattrs = kept.map(|(name, value)| (name.into(), value.into())).collect();
        self.xattrs = (!kept.is_empty()).then_some(kept);
    }

    /// Everything that the image says of it, in the order in which it is written.
    pub(super) fn all_xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let own = self.xattrs.iter().flatten().map(|(name, value)| (&**name, &**value));
        own.chain(self.opaque.then_some(OPAQUE))
    }
}

/// The files of one layer. Memory: about 200 bytes for each entry, and what its names and attributes take.
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    /// Nodes that nobody names any more.
    free: Vec<usize>,
    pending: Pending,
    /// Bytes of memory that names, link targets and attributes take, those of nodes that went included.
    texts: u64,
    /// The parent that was found last.
    last: (Vec<u8>, usize),
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
    fn default() -> Self {
        Tree {
            nodes: vec![Node::directory()],
            free: Vec::new(),
            pending: Pending::default(),
            texts: 0,
            last: (Vec::new(), ROOT),
        }
    }
}

impl Tree {
    /// Takes one change; `data` says where a file's content is (an empty file has none).
    ///
    /// # Errors
    /// `Kind::Invalid` for changes that cannot be made inside of the layer.
    pub fn put(&mut self, change: Change, data: Data) -> Result<()> {
        let mut entry = match change {
            Change::Put(entry) => entry,
            Change::Whiteout(path) => return self.whiteout(&path),
            Change::Opaque(path) => {
                let directory = self.parent(&path)?;
                self.nodes[directory].opaque = true;
                return Ok(());
            }
            Change::Ignored => return Ok(()),
        };
        self.pending.replaced_by(&entry);
        let attributes = entry.xattrs.iter().map(|(name, value)| (48 + name.len() + value.len()) as u64);
        self.texts += attributes.sum::<u64>() + entry.link.len() as u64;
        match entry.kind {
            EntryKind::Directory => self.directory(&mut entry),
            EntryKind::Hardlink => {
                if !self.hard_link(&entry.path, &entry.link)? {
                    // Nothing of this layer may stand where the link comes.
                    self.clear(&entry.path)?;
                    self.pending.push(entry);
                }
                Ok(())
            }
            _ => {
                let body = match entry.kind {
                    EntryKind::File => Body::File { size: entry.size, data },
                    EntryKind::Symlink => Body::Symlink(std::mem::take(&mut entry.link).into()),
                    EntryKind::CharDevice | EntryKind::BlockDevice => Body::Device(entry.device),
                    _ => Body::Nothing,
                };
                let mut node = Node { kind: entry.kind, body, ..Node::directory() };
                node.describe(&mut entry);
                self.replace(&entry.path, node)
            }
        }
    }

    /// The hard links whose target this layer does not have, as (path, target), in order; to be settled with
    /// [`Tree::put`] of what the layers below have there.
    ///
    /// # Errors
    /// As `put`.
    pub fn unsettled(&mut self) -> Result<Vec<Entry>> {
        let mut left = Vec::new();
        for link in self.pending.take() {
            if !self.hard_link(&link.path, &link.link)? {
                left.push(link);
            }
        }
        Ok(left)
    }

    /// About how many bytes of memory it holds.
    pub fn weight(&self) -> u64 {
        (self.nodes.len() * size_of::<Node>()) as u64 + self.texts + self.pending.weight()
    }

    /// Everything in it in the order of an archive that is the same for the same files: a directory before what is in it, names sorted by
    /// their bytes. Of a file with several names the first has the content, the others are links to it. With each entry that has
    /// content, where that is. What hides something below comes as the image has it, as character device 0:0.
    ///
    /// # Errors
    /// What `visit` fails with.
    pub fn each(&self, visit: &mut dyn FnMut(Entry, Option<&Data>) -> Result<()>) -> Result<()> {
        let mut first = BTreeMap::new();
        let mut todo = vec![(Vec::new(), ROOT)];
        while let Some((path, number)) = todo.pop() {
            let node = &self.nodes[number];
            let mut entry = Entry::new(path.clone(), node.kind);
            if node.links > 1 && !matches!(node.body, Body::Directory(_)) {
                if let Some(target) = first.get(&number) {
                    entry.kind = EntryKind::Hardlink;
                    entry.link = Vec::clone(target);
                    visit(entry, None)?;
                    continue;
                }
                first.insert(number, path.clone());
            }
            (entry.mode, entry.uid, entry.gid, entry.mtime) = (u32::from(node.mode), node.uid, node.gid, node.mtime);
            entry.xattrs = node.xattrs.iter().flatten().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            let mut content = None;
            match &node.body {
                Body::Directory(children) => {
                    todo.extend(children.iter().rev().map(|(name, child)| (crate::layer::join(&path, name), *child)));
                }
                Body::File { size, data } => {
                    entry.size = *size;
                    content = Some(data);
                }
                Body::Symlink(target) => entry.link = target.to_vec(),
                Body::Device(device) => entry.device = *device,
                Body::Nothing => {}
            }
            visit(entry, content)?;
        }
        Ok(())
    }

    fn children(&self, node: usize) -> Option<&BTreeMap<Box<[u8]>, usize>> {
        match &self.nodes[node].body {
            Body::Directory(children) => Some(children),
            _ => None,
        }
    }

    fn child(&self, directory: usize, name: &[u8]) -> Option<usize> {
        self.children(directory)?.get(name).copied()
    }

    fn add(&mut self, directory: usize, name: &[u8], node: Node) -> usize {
        let number = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.attach(directory, name, number);
        number
    }

    fn attach(&mut self, directory: usize, name: &[u8], number: usize) {
        if let Body::Directory(children) = &mut self.nodes[directory].body {
            self.texts += 40 + name.len() as u64;
            children.insert(name.into(), number);
        }
    }

    fn directory(&mut self, entry: &mut Entry) -> Result<()> {
        let path = std::mem::take(&mut entry.path);
        let number = if path.is_empty() {
            ROOT
        } else {
            let (parent, name) = split(&path);
            let within = self.parent(parent)?;
            match self.child(within, name) {
                Some(there) if self.children(there).is_some() => there,
                there => {
                    // Where the same layer hid one of that name, it shows nothing of the hidden one.
                    let opaque = there.is_some_and(|n| self.nodes[n].is_whiteout());
                    self.remove(within, name);
                    self.add(within, name, Node { opaque, ..Node::directory() })
                }
            }
        };
        self.nodes[number].describe(entry);
        Ok(())
    }

    fn replace(&mut self, path: &[u8], node: Node) -> Result<()> {
        let (parent, name) = split(path);
        let mut within = self.parent(parent)?;
        if self.child(within, name).is_some() {
            self.remove(within, name);
            // It may have been a link on the way to its own parent.
            within = self.parent(parent)?;
        }
        self.add(within, name, node);
        Ok(())
    }

    fn clear(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let within = self.parent(parent)?;
        self.remove(within, name);
        Ok(())
    }

    /// Takes a name away, and what nobody names then.
    fn remove(&mut self, directory: usize, name: &[u8]) {
        let Body::Directory(children) = &mut self.nodes[directory].body else { return };
        let Some(gone) = children.remove(name) else { return };
        self.last = (Vec::new(), ROOT);
        let mut going = vec![gone];
        while let Some(n) = going.pop() {
            let node = &mut self.nodes[n];
            node.links -= 1;
            if node.links > 0 {
                continue;
            }
            if let Body::Directory(children) = std::mem::replace(&mut node.body, Body::Nothing) {
                going.extend(children.into_values());
            }
            node.xattrs = None;
            self.free.push(n);
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let within = self.parent(parent)?;
        match self.child(within, name) {
            // Files of this layer are not touched by its own whiteouts (image-spec, layer.md).
            Some(there) if self.children(there).is_some() => self.nodes[there].opaque = true,
            Some(_) => {}
            None => {
                self.add(within, name, Node::whiteout());
            }
        }
        Ok(())
    }

    /// False if the target is not in this layer.
    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<bool> {
        let (target_parent, target_name) = split(target);
        let Some(from) = self.find(target_parent).map_err(|e| match e {
            Stray::Leaves => Error::new(Kind::Invalid, "link to", show(target_parent))
                .because("one of the directories is a symbolic link that leaves the tree"),
        })?
        else {
            return Ok(false);
        };
        let Some(number) = self.child(from, target_name).filter(|n| !self.nodes[*n].is_whiteout()) else {
            return Ok(false);
        };
        if self.children(number).is_some() {
            return Err(Error::new(Kind::Invalid, "link", show(path))
                .because(format!("its target {} is a directory", show(target))));
        }
        if path == target {
            return Ok(true);
        }
        let (parent, name) = split(path);
        let within = self.parent(parent)?;
        if self.child(within, name) == Some(number) {
            return Ok(true);
        }
        // Held by one more, so that it does not go with what makes room for it.
        self.nodes[number].links += 1;
        self.remove(within, name);
        if self.nodes[number].links == 1 {
            // The target was inside of the directory that made room for the link.
            self.nodes[number].links = 0;
            self.free.push(number);
            return Ok(false);
        }
        let within = self.parent(parent)?;
        self.attach(within, name, number);
        Ok(true)
    }

    /// The directory at `path`; made with its parents if it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<usize> {
        if self.last.0 == path {
            return Ok(self.last.1);
        }
        let mut at = ROOT;
        for (i, name) in path.split(|&b| b == b'/').enumerate() {
            if name.is_empty() {
                break;
            }
            at = match self.child(at, name) {
                Some(next) if self.children(next).is_some() => next,
                Some(next) if self.nodes[next].is_whiteout() => {
                    self.remove(at, name);
                    self.add(at, name, Node { opaque: true, ..Node::directory() })
                }
                // A link, as in a layer that has `lib -> usr/lib` and then `lib/x`: followed while it stays inside.
                Some(next) if matches!(self.nodes[next].body, Body::Symlink(_)) => {
                    let so_far = path.split(|&b| b == b'/').take(i + 1).collect::<Vec<_>>().join(&b'/');
                    self.through_link(&so_far)?
                }
                Some(_) => {
                    return Err(Error::new(Kind::Invalid, "create", show(path))
                        .because("a file of the archive stands where one of its directories should be"));
                }
                None => self.add(at, name, Node::directory()),
            };
        }
        self.last = (path.to_vec(), at);
        Ok(at)
    }

    fn through_link(&self, path: &[u8]) -> Result<usize> {
        let error = |why: &str| Error::new(Kind::Invalid, "create", show(path)).because(why);
        match self.find(path) {
            Ok(Some(directory)) => Ok(directory),
            Ok(None) => Err(error("one of its directories is a symbolic link that leads nowhere in this layer")),
            Err(Stray::Leaves) => Err(error("one of its directories is a symbolic link that leaves the layer")),
        }
    }

    /// The directory at `path`, links followed as long as they stay inside; `None` if there is none.
    fn find(&self, path: &[u8]) -> Result<Option<usize>, Stray> {
        let mut way = vec![ROOT];
        let mut rest: Vec<Vec<u8>> = path.split(|&b| b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    if way.is_empty() {
                        return Err(Stray::Leaves);
                    }
                    continue;
                }
                _ => {}
            }
            let Some(next) = way.last().and_then(|at| self.child(*at, &name)) else { return Ok(None) };
            match &self.nodes[next].body {
                Body::Directory(_) => way.push(next),
                Body::Symlink(target) if target.starts_with(b"/") => return Err(Stray::Leaves),
                Body::Symlink(target) => {
                    links += 1;
                    if links > LINKS {
                        return Ok(None);
                    }
                    rest.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => return Ok(None),
            }
        }
        Ok(way.last().copied())
    }
}

enum Stray {
    Leaves,
}
