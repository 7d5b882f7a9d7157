//! A tree as a tar archive: `export`, and `cp` from a container.

use super::archive_writer::{ArchiveWriter, is_directory, open_node};
use super::listing::sorted_names;
use super::node::{check_depth, failed, reopen};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, Stat};
use std::io::Write;
use tare_format::layer::join;
use tare_model::id_map::IdMaps;
use tare_model::{Context as _, Result};

/// How a tree is archived.
#[derive(Debug, Clone, Copy, Default)]
pub struct TreeOptions<'a> {
    /// No time later than this many seconds since 1970 (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
    /// The tree's owners are the host's ids of a container's: they are entered as that container has them.
    pub owners: Option<&'a IdMaps>,
}

impl TreeOptions<'_> {
    fn seen(&self, mut stat: Stat) -> Stat {
        if let Some(maps) = self.owners {
            (stat.st_uid, stat.st_gid) = maps.to_container(stat.st_uid, stat.st_gid);
        }
        stat
    }
}

/// Writes the file or directory behind `node` (any descriptor, `O_PATH` too) as an archive, sorted, nothing followed,
/// sockets left out. It is entered as `name` and its contents as `name/…`; with an empty `name` a directory's contents
/// stand at the archive's root and it has no entry itself.
///
/// # Errors
/// What the kernel and `out` report.
pub fn tar_tree(node: BorrowedFd<'_>, name: &[u8], options: &TreeOptions<'_>, out: &mut dyn Write) -> Result<()> {
    let mut archive = ArchiveWriter::new(out, options.clamp_mtime);
    let stat = options.seen(rustix::fs::fstat(node).map_err(failed("look up", name))?);
    if is_directory(&stat) {
        if !name.is_empty() {
            let entry = archive.directory(node, &stat, name)?;
            archive.bare(&entry)?;
        }
        let dir = reopen(node, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", name))?;
        contents(&mut archive, dir, name, options)?;
    } else {
        archive.file(node, &stat, name)?;
    }
    archive.finish()?.flush().during("write archive", "")
}

fn contents<W: Write>(
    archive: &mut ArchiveWriter<W>,
    dir: OwnedFd,
    path: &[u8],
    options: &TreeOptions<'_>,
) -> Result<()> {
    check_depth(path)?;
    for name in sorted_names(dir.as_fd(), path)? {
        let below = join(path, &name);
        let Some((node, stat)) = open_node(dir.as_fd(), &name, &below)? else { continue };
        let stat = options.seen(stat);
        if is_directory(&stat) {
            let entry = archive.directory(node.as_fd(), &stat, &below)?;
            archive.bare(&entry)?;
            let inner = reopen(node.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", &below))?;
            drop(node);
            contents(archive, inner, &below, options)?;
        } else {
            archive.file(node.as_fd(), &stat, &below)?;
        }
    }
    Ok(())
}
