//! Existing files as entries of an archive.

use super::node::{entry_of, failed, is_overlays_own, reopen, xattrs_of};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::Write;
use tare_format::layer::show;
use tare_format::{Entry, EntryKind, tar};
use tare_model::{Error, Kind, Result};

const BUFFER: usize = 256 << 10;

/// A tar archive of files, with what is known about those written already.
pub(super) struct ArchiveWriter<W: Write> {
    tar: tar::Writer<W>,
    /// First name in the archive of a file with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    clamp: Option<i64>,
    buffer: Vec<u8>,
    pub(super) content: u64,
    pub(super) entries: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W, clamp: Option<i64>) -> Self {
        let tar = tar::Writer::new(out);
        ArchiveWriter { tar, links: HashMap::new(), clamp, buffer: Vec::new(), content: 0, entries: 0 }
    }

    pub(super) fn finish(self) -> Result<W> {
        self.tar.finish()
    }

    /// An entry without content.
    pub(super) fn bare(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        self.tar.entry(entry)
    }

    /// The entry of a directory behind any descriptor, not written yet.
    pub(super) fn directory(&self, dir: BorrowedFd<'_>, stat: &Stat, path: &[u8]) -> Result<Entry> {
        let mut entry = entry_of(path, stat, self.clamp).unwrap_or_else(|| Entry::new(path, EntryKind::Directory));
        entry.xattrs = archived_xattrs(dir, path)?;
        Ok(entry)
    }

    /// A file that is no directory, by any descriptor (`O_PATH` too). Sockets are left out.
    pub(super) fn file(&mut self, node: BorrowedFd<'_>, stat: &Stat, path: &[u8]) -> Result<()> {
        let Some(mut entry) = entry_of(path, stat, self.clamp) else { return Ok(()) };
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = EntryKind::Hardlink;
                entry.link.clone_from(first);
                (entry.size, entry.device) = (0, (0, 0));
                return self.bare(&entry);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        entry.xattrs = archived_xattrs(node, path)?;
        match entry.kind {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(node, "", Vec::new()).map_err(failed("read link", path))?;
                entry.link = target.into_bytes();
                self.bare(&entry)
            }
            EntryKind::File => {
                let file = reopen(node, OFlags::RDONLY).map_err(failed("open", path))?;
                // Again, as it may have grown; what comes later is not taken, what is missing is filled with zeros.
                let stat = rustix::fs::fstat(&file).map_err(failed("look up", path))?;
                entry.size = u64::try_from(stat.st_size).unwrap_or(0);
                self.bare(&entry)?;
                self.content += entry.size;
                self.copy(file.as_fd(), entry.size, path)
            }
            _ => self.bare(&entry),
        }
    }

    fn copy(&mut self, file: BorrowedFd<'_>, size: u64, path: &[u8]) -> Result<()> {
        self.buffer.resize(BUFFER, 0);
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let n = match rustix::io::read(file, &mut self.buffer[..want]) {
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    want
                }
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(failed("read", path)(e)),
            };
            self.tar.write_all(&self.buffer[..n]).map_err(|e| Error::io("write archive", "", e))?;
            left -= n as u64;
        }
        Ok(())
    }
}

/// A name in a directory as `O_PATH` with its attributes; `None` if it is gone meanwhile.
pub(super) fn open_node(dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<(OwnedFd, Stat)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(node) => node,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(failed("open", path)(e)),
    };
    let stat = rustix::fs::fstat(&node).map_err(failed("look up", path))?;
    Ok(Some((node, stat)))
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What an archive keeps of a file's extended attributes. An overlay that moves content or names through attributes
/// cannot be read directory by directory.
fn archived_xattrs(node: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = xattrs_of(node, path)?;
    for unreadable in [b"trusted.overlay.redirect".as_slice(), b"trusted.overlay.metacopy"] {
        if xattrs.iter().any(|(name, _)| name == unreadable) {
            return Err(Error::new(Kind::Unsupported, "read", show(path))
                .because(format!("the overlay has put {} onto it", show(unreadable)))
                .hint("mount the overlay with redirect_dir=off,metacopy=off"));
        }
    }
    xattrs.retain(|(name, _)| !is_overlays_own(name));
    Ok(xattrs)
}
