//! From an overlay's upper directory to a layer.

use super::Lowers;
use super::archive_writer::{ArchiveWriter, is_directory, open_node};
use super::listing::sorted_names;
use super::node::Found;
use super::node::{capability_of, check_depth, failed, is_opaque, is_whiteout, mtime_of, reopen};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, Stat};
use std::collections::BTreeSet;
use std::io::Write;
use tare_format::layer::{OPAQUE, WHITEOUT, join, show};
use tare_format::{Entry, EntryKind};
use tare_model::{Error, Kind, Result};

/// Paths (with everything below them) that never enter a layer: the init layer's files, mount points.
#[derive(Debug, Clone, Default)]
pub struct Excluded {
    paths: BTreeSet<Vec<u8>>,
}

impl Excluded {
    /// From paths in any spelling ("/etc/hosts", "dev/").
    ///
    /// # Errors
    /// `Kind::Invalid` for paths that leave the root.
    pub fn new<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let paths = paths.into_iter().map(|p| tare_format::layer::clean_path(p.as_ref())).collect::<Result<_>>()?;
        Ok(Excluded { paths })
    }

    /// Whether this cleaned path, or a directory above it, is excluded.
    pub fn contains(&self, path: &[u8]) -> bool {
        (0..=path.len()).filter(|&i| i == path.len() || path[i] == b'/').any(|i| self.paths.contains(&path[..i]))
    }
}

/// How a layer is made.
#[derive(Debug, Clone)]
pub struct DiffOptions<'a> {
    /// What stays out.
    pub excluded: &'a Excluded,
    /// No time later than this many seconds since 1970 (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diffed {
    /// Bytes of file content in the layer.
    pub content: u64,
    /// Number of entries, whiteouts included; 0 for a layer that changes nothing.
    pub entries: u64,
}

/// Writes the layer that turns the view below into what a container sees: sorted, deterministic, whiteouts as `.wh.`
/// entries, hard links kept, sockets left out. Directories appear only if they or something inside changed.
///
/// # Errors
/// What the kernel and `out` report; `Kind::Unsupported` for an upper directory of an overlay mounted with redirect_dir
/// or metacopy, and for files whose name starts with `.wh.`, which a layer cannot hold.
pub fn diff(
    upper: BorrowedFd<'_>,
    lower: &Lowers<'_>,
    options: &DiffOptions<'_>,
    out: &mut dyn Write,
) -> Result<Diffed> {
    let archive = ArchiveWriter::new(out, options.clamp_mtime);
    let mut walk = Walk { archive, lower, options, pending: Vec::new() };
    walk.root(upper)?;
    let diffed = Diffed { content: walk.archive.content, entries: walk.archive.entries };
    walk.archive.finish()?;
    Ok(diffed)
}

struct Walk<'a, W: Write> {
    archive: ArchiveWriter<W>,
    lower: &'a Lowers<'a>,
    options: &'a DiffOptions<'a>,
    /// The directories above the current place that have no entry yet: they get one with the first thing inside.
    pending: Vec<Entry>,
}

impl<W: Write> Walk<'_, W> {
    fn root(&mut self, upper: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::fstat(upper).map_err(failed("look up", b""))?;
        let below = self.lower.lookup(b"")?;
        // The root changes its time with everything in it; a layer says something about it only if it must.
        if below.is_some_and(|below| is_changed(&stat, &below.stat)) {
            let entry = self.archive.directory(upper, &stat, b"")?;
            self.archive.bare(&entry)?;
        }
        let dir = reopen(upper, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", b""))?;
        self.contents(dir, b"", true)?;
        Ok(())
    }

    /// What is in a directory; `shines` says whether the layers below show through it. Returns whether something excluded
    /// was in it.
    fn contents(&mut self, dir: OwnedFd, path: &[u8], shines: bool) -> Result<bool> {
        check_depth(path)?;
        let mut excluded = false;
        for name in sorted_names(dir.as_fd(), path)? {
            let below = join(path, &name);
            if self.options.excluded.contains(&below) {
                excluded = true;
                continue;
            }
            let Some((node, stat)) = open_node(dir.as_fd(), &name, &below)? else { continue };
            if is_whiteout(&stat) {
                if shines && self.lower.lookup(&below)?.is_some() {
                    self.mark(path, &[WHITEOUT, &name].concat())?;
                }
                continue;
            }
            if name.starts_with(WHITEOUT) {
                return Err(Error::new(Kind::Unsupported, "write layer", show(&below))
                    .because("a name that starts with \".wh.\" means in a layer that a file is removed")
                    .hint("rename the file"));
            }
            if is_directory(&stat) {
                self.directory(node, &stat, &below, shines)?;
            } else {
                self.flush()?;
                self.archive.file(node.as_fd(), &stat, &below)?;
            }
        }
        Ok(excluded)
    }

    fn directory(&mut self, node: OwnedFd, stat: &Stat, path: &[u8], shines: bool) -> Result<()> {
        // One descriptor for each level of the tree, not two.
        let dir = reopen(node.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
        drop(node);
        let entry = self.archive.directory(dir.as_fd(), stat, path)?;
        let below = if shines { self.lower.lookup(path)?.filter(Found::is_directory) } else { None };
        let opaque = below.is_some() && is_opaque(dir.as_fd()).map_err(failed("look up", path))?;
        let mtime = entry.mtime;
        self.pending.push(entry);
        let changed = match &below {
            None => true,
            Some(below) => opaque || is_changed(stat, &below.stat) || capabilities_differ(dir.as_fd(), below, path)?,
        };
        if changed {
            self.flush()?;
        }
        if opaque {
            self.mark(path, OPAQUE)?;
        }
        let excluded = self.contents(dir, path, below.is_some() && !opaque)?;
        // Still without entry: nothing inside changed. Its time counts unless an excluded file may have changed it.
        if self.pending.last().is_some_and(|e| e.path == path) {
            let clamp = self.options.clamp_mtime;
            if !excluded && below.is_some_and(|b| mtime_of(&b.stat).clamped(clamp) != mtime) {
                self.flush()?;
            } else {
                self.pending.pop();
            }
        }
        Ok(())
    }

    /// An empty file with a meaning.
    fn mark(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        self.flush()?;
        let mut entry = Entry::new(join(parent, name), EntryKind::File);
        entry.mode = 0;
        self.archive.bare(&entry)
    }

    fn flush(&mut self) -> Result<()> {
        for entry in self.pending.drain(..) {
            self.archive.bare(&entry)?;
        }
        Ok(())
    }
}

/// Whether a file has other attributes than its namesake below; times, sizes and contents are not looked at.
pub(super) fn is_changed(now: &Stat, before: &Stat) -> bool {
    let of = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev);
    of(now) != of(before)
}

pub(super) fn capabilities_differ(now: BorrowedFd<'_>, before: &Found, path: &[u8]) -> Result<bool> {
    let now = capability_of(now).map_err(failed("look up", path))?;
    let before = capability_of(before.fd.as_fd()).map_err(failed("look up", path))?;
    Ok(now != before)
}
