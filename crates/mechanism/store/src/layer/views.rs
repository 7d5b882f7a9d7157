//! Two trees side by side: what made one out of the other.

use super::archive_writer::{is_directory, open_node};
use super::changes::{ChangeKind, PathChange};
use super::diff::is_changed;
use super::listing::sorted_names;
use super::node::{capability_of, check_depth, failed, mtime_of, reopen};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, Stat};
use std::collections::BTreeSet;
use tare_format::layer::join;
use tare_model::Result;

/// The differences between two mounted views, sorted by path, with docker's meaning of "changed": attributes, and of what is no directory
/// also size and time, or a link's target. Contents are not read.
///
/// # Errors
/// What the kernel reports.
pub fn compare(before: BorrowedFd<'_>, after: BorrowedFd<'_>) -> Result<Vec<PathChange>> {
    let mut found = Vec::new();
    let open = |dir| reopen(dir, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", b""));
    contents(Some(open(before)?), open(after)?, b"", &mut found)?;
    found.sort();
    Ok(found)
}

/// `before` is `None` for a directory that is new.
fn contents(before: Option<OwnedFd>, after: OwnedFd, path: &[u8], found: &mut Vec<PathChange>) -> Result<()> {
    check_depth(path)?;
    let list = |dir: &OwnedFd| sorted_names(dir.as_fd(), path);
    let old: BTreeSet<Vec<u8>> = before.as_ref().map(list).transpose()?.into_iter().flatten().collect();
    let new: BTreeSet<Vec<u8>> = list(&after)?.into_iter().collect();
    for gone in old.difference(&new) {
        found.push(PathChange { path: join(path, gone), kind: ChangeKind::Deleted });
    }
    for name in &new {
        let child = join(path, name);
        let Some((node, stat)) = open_node(after.as_fd(), name, &child)? else { continue };
        let was = match before.as_ref().filter(|_| old.contains(name)) {
            Some(dir) => open_node(dir.as_fd(), name, &child)?,
            None => None,
        };
        let kind = match &was {
            None => Some(ChangeKind::Added),
            Some((old, before)) => {
                differs((old.as_fd(), before), (node.as_fd(), &stat), &child)?.then_some(ChangeKind::Modified)
            }
        };
        let start = found.len();
        found.extend(kind.map(|kind| PathChange { path: child.clone(), kind }));
        if is_directory(&stat) {
            let open = |node: OwnedFd| {
                reopen(node.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", &child))
            };
            let was = was.filter(|(_, stat)| is_directory(stat)).map(|(node, _)| open(node)).transpose()?;
            contents(was, open(node)?, &child, found)?;
            if kind.is_none() && found.len() > start {
                found.push(PathChange { path: child, kind: ChangeKind::Modified });
            }
        }
    }
    Ok(())
}

fn differs(before: (BorrowedFd<'_>, &Stat), after: (BorrowedFd<'_>, &Stat), path: &[u8]) -> Result<bool> {
    let ((old, was), (new, is)) = (before, after);
    if is_changed(is, was) {
        return Ok(true);
    }
    if is_directory(is) {
        return Ok(false);
    }
    if is.st_size != was.st_size || mtime_of(is) != mtime_of(was) {
        return Ok(true);
    }
    let capability = |node| capability_of(node).map_err(failed("look up", path));
    match FileType::from_raw_mode(is.st_mode) {
        FileType::Symlink => {
            let target = |node| rustix::fs::readlinkat(node, "", Vec::new()).map_err(failed("read link", path));
            Ok(target(old)? != target(new)?)
        }
        FileType::RegularFile => Ok(capability(old)? != capability(new)?),
        _ => Ok(false),
    }
}
