//! Copying a tree as it is, for the first use of a volume.

use super::listing::sorted_names;
use super::node::{
    Attributes, check_depth, create_file, create_special, entry_of, failed, find_beneath, is_overlays_own,
    open_directory, proc_path, reopen, write_all, xattrs_of,
};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::HashMap;
use tare_format::EntryKind;
use tare_format::layer::join;
use tare_model::Result;

/// Copies everything inside `source` into the existing directory `target`, and the mode, owner, times and attributes of
/// `source` itself onto `target`. Keeps modes, owners, times, extended attributes, holes, devices and hard links within
/// the tree; sockets are left out; links are copied, never followed. Does not sync.
///
/// # Errors
/// What the kernel reports; `Kind::AlreadyExists` where `target` has a file of the same name.
pub fn copy_tree(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let source = reopen(source, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", b""))?;
    let target = reopen(target, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", b""))?;
    Copier { root: target.as_fd(), links: HashMap::new() }.directory(source.as_fd(), target.as_fd(), b"")
}

struct Copier<'a> {
    root: BorrowedFd<'a>,
    /// Where the first name of a file with several names is in the copy, by device and inode of the source.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copier<'_> {
    /// The content and then the attributes of a directory.
    fn directory(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        check_depth(path)?;
        for name in sorted_names(source, path)? {
            let below = join(path, &name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node =
                rustix::fs::openat(source, name.as_slice(), flags, Mode::empty()).map_err(failed("open", &below))?;
            let stat = rustix::fs::fstat(&node).map_err(failed("look up", &below))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                rustix::fs::mkdirat(target, name.as_slice(), Mode::RWXU).map_err(failed("create directory", &below))?;
                let inner = open_directory(target, &name).map_err(failed("open", &below))?;
                let from = reopen(node.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", &below))?;
                drop(node);
                self.directory(from.as_fd(), inner.as_fd(), &below)?;
                continue;
            }
            if stat.st_nlink > 1 {
                if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                    self.link(first, target, &name).map_err(failed("link", &below))?;
                    continue;
                }
                self.links.insert((stat.st_dev, stat.st_ino), below.clone());
            }
            copy_file(node.as_fd(), target, &name, &below)?;
        }
        let stat = rustix::fs::fstat(source).map_err(failed("look up", path))?;
        Attributes::of(&stat, kept_xattrs(source, path)?).put(target, path)
    }

    fn link(&self, first: &[u8], target: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let found = find_beneath(self.root, first)?;
        let from = proc_path(found.fd.as_fd());
        rustix::fs::linkat(rustix::fs::CWD, from, target, name, AtFlags::SYMLINK_FOLLOW)
    }
}

fn kept_xattrs(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = xattrs_of(fd, path)?;
    xattrs.retain(|(name, _)| !is_overlays_own(name));
    Ok(xattrs)
}

/// Copies a file that is no directory (`O_PATH`) to a name that must be free.
pub(super) fn copy_file(source: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
    let stat = rustix::fs::fstat(source).map_err(failed("look up", path))?;
    let Some(mut entry) = entry_of(path, &stat, None) else { return Ok(()) };
    let attributes = Attributes::of(&stat, kept_xattrs(source, path)?);
    match entry.kind {
        EntryKind::File => {
            let from = reopen(source, OFlags::RDONLY).map_err(failed("open", path))?;
            let to = create_file(dir, name).map_err(failed("create", path))?;
            copy_content(from.as_fd(), to.as_fd(), path)?;
            return attributes.put(to.as_fd(), path);
        }
        EntryKind::Directory => return Err(failed("copy", path)(Errno::ISDIR)),
        EntryKind::Symlink => {
            let target = rustix::fs::readlinkat(source, "", Vec::new()).map_err(failed("read link", path))?;
            entry.link = target.into_bytes();
        }
        _ => {}
    }
    create_special(dir, name, &entry).map_err(failed("create", path))?;
    attributes.put_at(dir, name, entry.kind, path)
}

/// Copies the data, in the kernel where it can; holes stay holes.
fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    let mut position = 0;
    let size = loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data after this position.
            Err(Errno::NXIO) => break rustix::fs::seek(from, SeekFrom::End(0)).map_err(failed("read", path))?,
            Err(e) => return Err(failed("read", path)(e)),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).map_err(failed("read", path))?;
        copy_range(from, to, start, end, path)?;
        position = end;
    };
    rustix::fs::ftruncate(to, size).map_err(failed("write", path))
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64, path: &[u8]) -> Result<()> {
    let mut at = start;
    while at < end {
        let (mut read_at, mut write_at) = (at, at);
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), want) {
            Ok(0) => return Ok(()),
            Ok(n) => at += n as u64,
            Err(Errno::INTR) => {}
            // Between file systems, or not for these files: through a buffer.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(e) => return Err(failed("copy", path)(e)),
        }
    }
    if at >= end {
        return Ok(());
    }
    let mut buffer = vec![0; 1 << 18];
    rustix::fs::seek(to, SeekFrom::Start(at)).map_err(failed("write", path))?;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match rustix::io::pread(from, &mut buffer[..want], at) {
            Ok(0) => break,
            Ok(n) => {
                write_all(to, &buffer[..n], path)?;
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(failed("read", path)(e)),
        }
    }
    Ok(())
}
