//! Looking into a stack of layers as overlayfs would show it, without mounting it.

use super::listing::names;
use super::node::{Found, failed, find_beneath, is_opaque, is_whiteout, reopen, stat_at};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use tare_format::layer::{join, split};
use tare_model::Result;

/// The directories of the layers below, topmost first. A mounted (merged) view is a stack of one.
#[derive(Debug, Clone, Default)]
pub struct Lowers<'a> {
    dirs: Vec<BorrowedFd<'a>>,
}

/// What one layer says about a path.
enum Say {
    Shows(Found),
    /// Nothing, and what is below shines through.
    Nothing,
    /// Nothing, and what is below is hidden.
    Hides,
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
        for dir in &self.dirs {
            match ask(*dir, path).map_err(failed("look up", path))? {
                Say::Shows(found) => return Ok(Some(found)),
                Say::Nothing => {}
                Say::Hides => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What the topmost layer alone says of this path: `None` nothing, `Some(None)` that nothing is there, whatever lies below.
    pub(super) fn say(&self, path: &[u8]) -> Result<Option<Option<Found>>> {
        let Some(top) = self.dirs.first() else { return Ok(None) };
        Ok(match ask(*top, path).map_err(failed("look up", path))? {
            Say::Shows(found) => Some(Some(found)),
            Say::Hides => Some(None),
            Say::Nothing => None,
        })
    }

    /// The names that the stack shows in the directory at this cleaned path, with the attributes of each; empty if it is
    /// no directory.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn list(&self, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Stat>> {
        let mut shown = BTreeMap::new();
        let mut hidden = BTreeSet::new();
        for layer in &self.dirs {
            let found = match ask(*layer, path).map_err(failed("look up", path))? {
                Say::Shows(found) if found.is_directory() => found,
                Say::Nothing => continue,
                Say::Shows(_) | Say::Hides => break,
            };
            let dir = reopen(found.fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
            for name in names(dir.as_fd(), path)? {
                if shown.contains_key(&name.bytes) || hidden.contains(&name.bytes) {
                    continue;
                }
                let stat = match stat_at(dir.as_fd(), &name.bytes) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed("look up", &join(path, &name.bytes))(e)),
                };
                if is_whiteout(&stat) {
                    hidden.insert(name.bytes);
                } else {
                    shown.insert(name.bytes, stat);
                }
            }
            if is_opaque(found.fd.as_fd()).map_err(failed("look up", path))? {
                break;
            }
        }
        Ok(shown)
    }
}

fn ask(layer: BorrowedFd<'_>, path: &[u8]) -> Result<Say, Errno> {
    match find_beneath(layer, path) {
        Ok(found) if is_whiteout(&found.stat) => return Ok(Say::Hides),
        Ok(found) => return Ok(Say::Shows(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
        Err(e) => return Err(e),
    }
    // It is not here: the nearest parent that is here decides, for it alone can be a file, a whiteout or opaque; but an
    // opaque directory further up counts as well.
    let mut parent = split(path).0;
    loop {
        match find_beneath(layer, parent) {
            Ok(found) if !found.is_directory() || is_opaque(found.fd.as_fd())? => return Ok(Say::Hides),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
        if parent.is_empty() {
            return Ok(Say::Nothing);
        }
        parent = split(parent).0;
    }
}
