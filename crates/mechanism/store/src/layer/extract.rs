//! Unpacking an archive into a container's file system: `cp` to a container.

use super::node::{failed, from_reader};
use super::tree_writer::{Clash, Linked, Parents, TreeWriter};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::{self, BufReader, Read};
use tare_format::layer::{clean_path, show};
use tare_format::{EntryKind, tar};
use tare_model::id_map::IdMaps;
use tare_model::{Error, Kind, Result};

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The numbers in the archive (`cp -a`).
    Archive,
    /// This user and group.
    Fixed {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// What happens when a directory meets a file that is no directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// The new one replaces the old one.
    Any,
    /// An error: docker's `noOverwriteDirNonDir`.
    SameSort,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct ExtractOptions<'a> {
    /// Who owns what is unpacked.
    pub ownership: Ownership,
    /// The owners are a container's: they are given as the host has them.
    pub owners: Option<&'a IdMaps>,
    /// Directory against file.
    pub replace: Replace,
}

/// Unpacks a tar archive (not compressed) into the existing directory `path` of the tree `root`. Symbolic links in `path`
/// and in the parents of entries are followed as a process chrooted to `root` would follow them; the last name of an
/// entry never is. Whiteouts have no meaning here. The archive is read to the end of its input.
///
/// # Errors
/// `Kind::NotFound` when `path` is no directory; `Kind::Invalid` for malformed entries; what the kernel reports.
pub fn extract_into(
    root: BorrowedFd<'_>,
    path: &[u8],
    archive: &mut dyn Read,
    options: &ExtractOptions<'_>,
) -> Result<()> {
    let base = path.strip_prefix(b"/").unwrap_or(path);
    let whole = [b"./", base].concat();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, whole, flags, Mode::empty(), resolve).map_err(failed("open directory", path))?;
    let clash = match options.replace {
        Replace::Any => Clash::Replace,
        Replace::SameSort => Clash::Refuse,
    };
    let mut tree = TreeWriter::new(root, Parents::Container(base.to_vec()), clash);
    let mut archive = tar::Reader::new(BufReader::with_capacity(256 << 10, archive), tar::Limits::default());
    while let Some(mut entry) = archive.next()? {
        entry.path = clean_path(&entry.path)?;
        if entry.path.is_empty() {
            // The directory itself stays as it is.
            continue;
        }
        if let Ownership::Fixed { uid, gid } = options.ownership {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(maps) = options.owners {
            let nobody = || {
                let owner = format!("{}:{}", entry.uid, entry.gid);
                Error::new(Kind::Invalid, "set owner of", show(&entry.path))
                    .because(format!("the container's user namespace has no {owner}"))
            };
            (entry.uid, entry.gid) = maps.to_host(entry.uid, entry.gid).ok_or_else(nobody)?;
        }
        if entry.kind != EntryKind::Hardlink {
            tree.put(entry, &mut archive.content())?;
            continue;
        }
        let target = clean_path(&entry.link)?;
        if tree.hard_link(&entry.path, &target)? == Linked::NoTarget {
            return Err(Error::new(Kind::Invalid, "link", show(&entry.path))
                .because(format!("its target {} does not exist", show(&target))));
        }
    }
    tree.finish()?;
    // A writer at the other end of a pipe must not be killed by its last block.
    match io::copy(&mut archive.into_inner(), &mut io::sink()) {
        Ok(_) => Ok(()),
        Err(e) => Err(from_reader("read archive", "", e)),
    }
}
