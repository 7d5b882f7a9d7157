//! Files of the layers below, for hard links whose target is not in their own layer.

use super::lowers::Lowers;
use super::node::{Attributes, Found, entry_of, failed, is_overlays_own, reopen, xattrs_of};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use tare_format::erofs::{Inode, Reader};
use tare_format::layer::split;
use tare_format::{Entry, EntryKind};
use tare_model::Result;

/// A file found below: its attributes (its path is empty), and its content.
pub struct Below {
    /// All but the path; a hard link's target is what it names.
    pub entry: Entry,
    /// The whole content, holes as zeros.
    pub content: Box<dyn BufRead>,
}

impl std::fmt::Debug for Below {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Below").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// One unpacked layer, looked at without mounting it.
#[derive(Debug)]
pub enum Unmounted {
    /// A tree of files: its root.
    Tree(OwnedFd),
    /// An image.
    Image(Reader<File>),
}

impl Unmounted {
    /// Mode, owner and group of its root.
    ///
    /// # Errors
    /// What the kernel reports; `Kind::Corrupt`.
    pub fn root_owner(&self) -> Result<(u32, u32, u32)> {
        match self {
            Unmounted::Tree(root) => {
                let stat = rustix::fs::fstat(root).map_err(failed("look up", b""))?;
                Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
            }
            Unmounted::Image(image) => image.root().map(|root| (root.mode, root.uid, root.gid)),
        }
    }
}

/// What one layer says about a path.
enum Say {
    Shows(Below),
    Nothing,
    Hides,
}

/// What a stack of layers (topmost first) shows at a cleaned path; `None` if nothing, or a directory.
///
/// # Errors
/// What the kernel reports; `Kind::Corrupt` for a damaged image.
pub fn look_below(layers: &[Unmounted], path: &[u8]) -> Result<Option<Below>> {
    for layer in layers {
        let said = match layer {
            Unmounted::Tree(root) => in_tree(root.as_fd(), path)?,
            Unmounted::Image(image) => in_image(image, path)?,
        };
        match said {
            Say::Shows(below) => return Ok((below.entry.kind != EntryKind::Directory).then_some(below)),
            Say::Nothing => {}
            Say::Hides => return Ok(None),
        }
    }
    Ok(None)
}

fn in_tree(root: BorrowedFd<'_>, path: &[u8]) -> Result<Say> {
    // A stack of one does not say whether it hides what is further below: a path of which it has a part may.
    let found = Lowers::new([root]).say(path)?;
    let Some(found) = found else { return Ok(Say::Nothing) };
    let Some(found) = found else { return Ok(Say::Hides) };
    below_of(&found, path).map(Say::Shows)
}

/// A file of a tree as it would stand in an archive.
pub(super) fn below_of(found: &Found, path: &[u8]) -> Result<Below> {
    let mut entry = entry_of(b"", &found.stat, None).unwrap_or_else(|| Entry::new(Vec::new(), EntryKind::Fifo));
    let xattrs = xattrs_of(found.fd.as_fd(), path)?;
    entry.xattrs = Attributes::of(&found.stat, xattrs).xattrs;
    entry.xattrs.retain(|(name, _)| !is_overlays_own(name));
    let mut content: Box<dyn BufRead> = Box::new(io::empty());
    match entry.kind {
        EntryKind::File => {
            let file = File::from(reopen(found.fd.as_fd(), OFlags::RDONLY).map_err(failed("open", path))?);
            content = Box::new(BufReader::with_capacity(256 << 10, file));
        }
        EntryKind::Symlink => {
            // Not through /proc: that would tell where the link itself is.
            let target = rustix::fs::readlinkat(&found.fd, c"", Vec::new()).map_err(failed("read link", path))?;
            entry.link = target.into_bytes();
        }
        _ => {}
    }
    Ok(Below { entry, content })
}

fn in_image(image: &Reader<File>, path: &[u8]) -> Result<Say> {
    let mut at = image.root()?;
    if is_opaque(&at) && path.is_empty() {
        return Ok(Say::Hides);
    }
    let mut hidden = is_opaque(&at);
    for name in path.split(|&b| b == b'/') {
        let next = match at.kind {
            EntryKind::Directory => image.find(&at, name)?,
            // Something else stands in the way.
            _ => return Ok(Say::Hides),
        };
        let Some(next) = next else { return Ok(if hidden { Say::Hides } else { Say::Nothing }) };
        at = next;
        if at.kind == EntryKind::CharDevice && at.device == (0, 0) {
            return Ok(Say::Hides);
        }
        hidden |= at.kind == EntryKind::Directory && is_opaque(&at);
    }
    let mut entry = Entry::new(Vec::new(), at.kind);
    (entry.mode, entry.uid, entry.gid, entry.mtime) = (at.mode, at.uid, at.gid, at.mtime);
    (entry.device, entry.xattrs) = (at.device, at.xattrs.clone());
    entry.xattrs.retain(|(name, _)| !is_overlays_own(name));
    let mut content: Box<dyn BufRead> = Box::new(io::empty());
    match at.kind {
        EntryKind::File => {
            entry.size = at.size;
            content = Box::new(BufReader::with_capacity(256 << 10, image.reopen()?.into_content(at)));
        }
        EntryKind::Symlink => entry.link = image.target(&at)?,
        _ => {}
    }
    debug_assert!(split(path).1.len() <= 255);
    Ok(Say::Shows(Below { entry, content }))
}

fn is_opaque(directory: &Inode) -> bool {
    directory.xattrs.iter().any(|(name, value)| name == super::node::OPAQUE && value == b"y")
}
