//! What a container changed, path by path, with docker's meaning of "changed".

use super::archive_writer::{is_directory, open_node};
use super::diff::{capabilities_differ, is_changed};
use super::listing::sorted_names;
use super::node::{check_depth, failed, is_opaque, is_whiteout, mtime_of, reopen};
use super::{Excluded, Lowers};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, Stat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tare_format::layer::join;
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
    let mut walk = Walk { lower, excluded, found: Vec::new() };
    let dir = reopen(upper, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", b""))?;
    walk.contents(dir, b"", Below::Shines)?;
    walk.found.sort();
    Ok(walk.found)
}

/// What the layers below have at the place of a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// A directory, merged with the upper one.
    Shines,
    /// A directory, hidden by an opaque one: what is not in the upper one is gone.
    Hidden,
    /// No directory.
    Nothing,
}

struct Walk<'a> {
    lower: &'a Lowers<'a>,
    excluded: &'a Excluded,
    found: Vec<PathChange>,
}

impl Walk<'_> {
    fn add(&mut self, path: &[u8], kind: ChangeKind) {
        self.found.push(PathChange { path: path.to_vec(), kind });
    }

    fn contents(&mut self, dir: OwnedFd, path: &[u8], below: Below) -> Result<()> {
        check_depth(path)?;
        let names = sorted_names(dir.as_fd(), path)?;
        for name in &names {
            let child = join(path, name);
            if self.excluded.contains(&child) {
                continue;
            }
            if let Some((node, stat)) = open_node(dir.as_fd(), name, &child)? {
                self.child(node, &stat, &child, below)?;
            }
        }
        if below == Below::Hidden {
            let names: BTreeSet<_> = names.into_iter().collect();
            for gone in self.lower.list(path)?.into_keys().filter(|name| !names.contains(name)) {
                let gone = join(path, &gone);
                if !self.excluded.contains(&gone) {
                    self.add(&gone, ChangeKind::Deleted);
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, node: OwnedFd, stat: &Stat, path: &[u8], parent: Below) -> Result<()> {
        let before = if parent == Below::Nothing { None } else { self.lower.lookup(path)? };
        if is_whiteout(stat) {
            if before.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let start = self.found.len();
        let kind = match &before {
            None => Some(ChangeKind::Added),
            Some(b) if is_changed(stat, &b.stat) || capabilities_differ(node.as_fd(), b, path)? => {
                Some(ChangeKind::Modified)
            }
            // Like docker: a directory's time and size change with its content, so they say nothing about itself.
            Some(b)
                if !is_directory(stat) && (stat.st_size != b.stat.st_size || mtime_of(stat) != mtime_of(&b.stat)) =>
            {
                Some(ChangeKind::Modified)
            }
            Some(_) => None,
        };
        if let Some(kind) = kind {
            self.add(path, kind);
        }
        if is_directory(stat) {
            let hidden = parent == Below::Hidden || is_opaque(node.as_fd()).map_err(failed("look up", path))?;
            let below = match before {
                Some(b) if b.is_directory() => {
                    if hidden {
                        Below::Hidden
                    } else {
                        Below::Shines
                    }
                }
                _ => Below::Nothing,
            };
            let dir = reopen(node.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
            drop(node);
            self.contents(dir, path, below)?;
            if kind.is_none() && self.found.len() > start {
                self.add(path, ChangeKind::Modified);
            }
        }
        Ok(())
    }
}
