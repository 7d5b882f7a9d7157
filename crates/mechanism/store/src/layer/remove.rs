//! Removing trees.

use super::listing::{Name, names};
use super::node::{failed, open_directory};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;
use tare_format::layer::join;
use tare_model::Result;

/// Levels that are held open at once. What lies deeper is moved up first, so neither descriptors nor the stack limit the
/// depth of a tree that can be removed.
const LEVELS: usize = 64;

/// Removes `name` in `parent` with everything below it. No link is followed; a mount point below is an error. A missing
/// `name` is none. Depth is not limited by descriptors.
///
/// # Errors
/// What the kernel reports first; what could be removed before is gone.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(failed("remove", name)(e)),
    }
    let mut moved = 0;
    // Deep directories land in the root under new names and are found there by the next round.
    loop {
        let before = moved;
        let root = open_directory(parent, name).map_err(failed("open", name))?;
        empty(root.as_fd(), &root, name, 1, &mut moved)?;
        if moved == before {
            break;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed("remove", name))
}

/// Empties a directory. The names are taken in the order of their inodes: file systems keep names in hash order, and
/// freeing inodes at random touches every block of the table again and again.
fn empty(dir: BorrowedFd<'_>, root: &OwnedFd, path: &[u8], level: usize, moved: &mut u64) -> Result<()> {
    let mut found = names(dir, path)?;
    found.sort_unstable_by_key(|n| n.inode);
    for Name { bytes: name, kind, .. } in found {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // The file system did not say that it is a directory.
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(failed("remove", &join(path, &name))(e)),
            }
        }
        let below = join(path, &name);
        if level >= LEVELS {
            move_up(dir, &name, root, moved).map_err(failed("move", &below))?;
            continue;
        }
        match rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(failed("remove", &below)(e)),
        }
        let child = open_directory(dir, &name).map_err(failed("open", &below))?;
        empty(child.as_fd(), root, &below, level + 1, moved)?;
        drop(child);
        rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR).map_err(failed("remove", &below))?;
    }
    Ok(())
}

fn move_up(dir: BorrowedFd<'_>, name: &[u8], root: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let target = format!(".removed-{moved}");
        match rustix::fs::renameat_with(dir, name, root, target.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}
