//! Making the files of an archive beneath a directory, never outside of it.

use super::node::{
    Attributes, OPAQUE, create_file, create_special, failed, file_type, from_reader, is_whiteout, open_directory,
    stat_at, write_all,
};
use super::remove::remove_tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::BufRead;
use tare_format::layer::{is_within, join, show, split};
use tare_format::{Entry, EntryKind};
use tare_model::{Error, Kind, Result};

/// Parents kept open: those of the path written last. More than enough for real trees, and a bound for hostile ones.
const OPEN_PARENTS: usize = 32;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How the parents of an entry are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parents {
    /// Beneath the root, which is a layer's: links are followed only where they stay inside, and names in overlayfs form
    /// are understood.
    Layer,
    /// As a process chrooted into the root, which is a container's, sees this directory and what is below it.
    Container(Vec<u8>),
}

/// Whether a directory and another file may replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    Replace,
    Refuse,
}

/// What became of a hard link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Done,
    /// Its target is not in this tree.
    NoTarget,
}

pub(super) struct TreeWriter<'a> {
    root: BorrowedFd<'a>,
    parents: Parents,
    clash: Clash,
    /// Open parents, each within the one before it; by path from the root of the archive.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// What is put onto directories at the end: their content changes their time, and a setgid bit or a default ACL that
    /// came earlier would be inherited by their content.
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// Bytes of memory that these take.
    weight: u64,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, parents: Parents, clash: Clash) -> Self {
        TreeWriter { root, parents, clash, open: Vec::new(), directories: BTreeMap::new(), weight: 0 }
    }

    /// Makes anything but a hard link. Replaces what has the same name, except that two directories become one.
    pub(super) fn put(&mut self, mut entry: Entry, content: &mut dyn BufRead) -> Result<()> {
        let attributes = Attributes::take(&mut entry);
        let path = entry.path.as_slice();
        if entry.kind == EntryKind::Directory {
            if !path.is_empty() {
                self.directory(path)?;
            }
            self.weight += attributes.weight() + entry.path.len() as u64;
            if let Some(earlier) = self.directories.insert(entry.path, attributes) {
                self.weight = self.weight.saturating_sub(earlier.weight());
            }
            return Ok(());
        }
        let (parent, name) = split(path);
        self.parent(parent)?;
        if entry.kind == EntryKind::File {
            let file = self.replacing(path, |dir| create_file(dir, name))?;
            fill(file.as_fd(), &entry, content)?;
            attributes.put(file.as_fd(), path)
        } else {
            self.replacing(path, |dir| create_special(dir, name, &entry))?;
            attributes.put_at(self.parent(parent)?, name, entry.kind, path)
        }
    }

    /// Makes another name for a file of this tree.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<Linked> {
        let (target_parent, target_name) = split(target);
        let Some(from) = self.find_parent(target_parent)? else { return Ok(Linked::NoTarget) };
        match stat_at(from.as_fd(), target_name) {
            Ok(stat) if self.parents == Parents::Layer && is_whiteout(&stat) => return Ok(Linked::NoTarget),
            Ok(stat) if file_type(&stat) == FileType::Directory => {
                return Err(Error::new(Kind::Invalid, "link", show(path))
                    .because(format!("its target {} is a directory", show(target))));
            }
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(Linked::NoTarget),
            Err(e) => return Err(failed("look up", target)(e)),
        }
        if path == target {
            return Ok(Linked::Done);
        }
        let (parent, name) = split(path);
        self.parent(parent)?;
        match self.replacing(path, |dir| rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty())) {
            Ok(()) => Ok(Linked::Done),
            // The target was inside of the directory that made room for the link.
            Err(e) if e.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(Linked::NoTarget),
            Err(e) => Err(e),
        }
    }

    /// Hides a name of the layers below. Files of this layer are not touched by its own whiteouts (image-spec, layer.md).
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let dir = self.parent(parent)?;
        match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = stat_at(dir, name).map_err(failed("look up", path))?;
                if file_type(&stat) == FileType::Directory { self.opaque(path) } else { Ok(()) }
            }
            Err(e) => Err(failed("make whiteout", path)(e)),
        }
    }

    /// Hides what the layers below have in a directory.
    pub(super) fn opaque(&mut self, path: &[u8]) -> Result<()> {
        let dir = self.parent(path)?;
        rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).map_err(failed("make opaque", path))
    }

    /// About how many bytes of memory it holds. What is removed again counts on: an archive can do that for ever.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Puts the attributes of directories, deepest first.
    pub(super) fn finish(&mut self) -> Result<()> {
        while let Some((path, attributes)) = self.directories.pop_last() {
            let dir = match path.is_empty() {
                // The root may have been handed in as O_PATH.
                true => None,
                false => Some(self.parent(&path)?),
            };
            match dir {
                Some(dir) => attributes.put(dir, &path)?,
                None => attributes.put(self.open_root()?.as_fd(), &path)?,
            }
        }
        self.open.clear();
        Ok(())
    }

    fn open_root(&self) -> Result<OwnedFd> {
        let (path, resolve) = match &self.parents {
            Parents::Layer => (b".".as_slice(), ResolveFlags::BENEATH),
            Parents::Container(base) if base.is_empty() => (b".".as_slice(), ResolveFlags::IN_ROOT),
            Parents::Container(base) => (base.as_slice(), ResolveFlags::IN_ROOT),
        };
        rustix::fs::openat2(self.root, path, DIRECTORY, Mode::empty(), resolve).map_err(failed("open", path))
    }

    /// The directory at `path`, open; made with its parents if it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if self.open.last().is_none_or(|(open, _)| open != path) {
            while self.open.last().is_some_and(|(open, _)| !is_within(path, open)) {
                self.open.pop();
            }
            if self.open.is_empty() {
                let root = self.open_root()?;
                self.open.push((Vec::new(), root));
            }
            if self.open.last().is_some_and(|(open, _)| open != path) {
                self.descend(path)?;
            }
        }
        Ok(self.open.last().expect("the root was pushed above").1.as_fd())
    }

    /// Opens the rest of the way below the last open parent and keeps the end of it.
    fn descend(&mut self, path: &[u8]) -> Result<()> {
        let (base, start) = self.open.last().expect("the caller opened the root");
        let rest = if base.is_empty() { path } else { &path[base.len() + 1..] };
        let quick = match self.parents {
            Parents::Layer => rustix::fs::openat2(start, rest, DIRECTORY, Mode::empty(), STRICT),
            Parents::Container(_) => self.in_container(path),
        };
        let dir = match quick {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let base = base.clone();
                let mut dir = rustix::io::fcntl_dupfd_cloexec(start, 0).map_err(failed("open", path))?;
                let mut so_far = base;
                for name in rest.split(|&b| b == b'/') {
                    so_far = join(&so_far, name);
                    dir = self.step(dir.as_fd(), name, &so_far)?;
                }
                dir
            }
            Err(e) => return Err(failed("open", path)(e)),
        };
        if self.open.len() >= OPEN_PARENTS {
            self.open.pop();
        }
        self.open.push((path.to_vec(), dir));
        Ok(())
    }

    /// One directory further, made if it is missing.
    fn step(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
        for _ in 0..2 {
            let next = match self.parents {
                Parents::Layer => rustix::fs::openat2(dir, name, DIRECTORY, Mode::empty(), STRICT),
                Parents::Container(_) => self.in_container(path),
            };
            match next {
                Ok(next) => return Ok(next),
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(failed("create directory", path))?;
                    self.imply(path);
                }
                Err(Errno::NOTDIR) if self.parents == Parents::Layer && is_whiteout_at(dir, name) => {
                    self.directory_for_whiteout(dir, name, path)?;
                    self.imply(path);
                }
                // A link, as in a layer that has `lib -> usr/lib` and then `lib/x`: followed while it stays inside.
                Err(Errno::LOOP) if self.parents == Parents::Layer => return self.through_link(path),
                Err(Errno::NOTDIR) => {
                    return Err(Error::new(Kind::Invalid, "create", show(path))
                        .because("a file of the archive stands where one of its directories should be"));
                }
                Err(e) => return Err(failed("open", path)(e)),
            }
        }
        Err(failed("open", path)(Errno::NOENT))
    }

    fn through_link(&self, path: &[u8]) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(self.root, path, DIRECTORY, Mode::empty(), resolve).map_err(|e| match e {
            Errno::XDEV => Error::new(Kind::Invalid, "create", show(path))
                .because("one of its directories is a symbolic link that leaves the layer"),
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR => Error::new(Kind::Invalid, "create", show(path))
                .because("one of its directories is a symbolic link that leads nowhere in this layer"),
            e => failed("open", path)(e),
        })
    }

    /// A directory of a container is always resolved from the container's root: links start there.
    fn in_container(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let base: &[u8] = match &self.parents {
            Parents::Container(base) => base,
            Parents::Layer => b"",
        };
        let whole = [b"./", base, b"/", path].concat();
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(self.root, whole, DIRECTORY, Mode::empty(), resolve)
    }

    /// The directory at `path` if it is there: makes nothing.
    fn find_parent(&mut self, path: &[u8]) -> Result<Option<OwnedFd>> {
        if let Some((_, open)) = self.open.last().filter(|(open, _)| open == path) {
            return rustix::io::fcntl_dupfd_cloexec(open, 0).map(Some).map_err(failed("open", path));
        }
        let found = match self.parents {
            Parents::Layer => {
                let name = if path.is_empty() { b"." } else { path };
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(self.root, name, DIRECTORY, Mode::empty(), resolve)
            }
            Parents::Container(_) => self.in_container(path),
        };
        match found {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::XDEV | Errno::LOOP) => Err(Error::new(Kind::Invalid, "link to", show(path))
                .because("one of the directories is a symbolic link that leaves the tree")),
            Err(e) => Err(failed("open", path)(e)),
        }
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let is_layer = self.parents == Parents::Layer;
        let dir = self.parent(parent)?;
        match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed("create directory", path)(e)),
        }
        let stat = stat_at(dir, name).map_err(failed("look up", path))?;
        if file_type(&stat) == FileType::Directory {
            return Ok(());
        }
        if is_whiteout(&stat) && is_layer {
            let dir = rustix::io::fcntl_dupfd_cloexec(dir, 0).map_err(failed("open", path))?;
            return self.directory_for_whiteout(dir.as_fd(), name, path);
        }
        if self.clash == Clash::Refuse {
            return Err(Error::new(Kind::AlreadyExists, "create", show(path))
                .because("a file that is no directory cannot be replaced by a directory"));
        }
        self.replacing(path, |dir| rustix::fs::mkdirat(dir, name, Mode::RWXU))
    }

    /// A directory where the same layer hid one of that name: it shows nothing of the hidden one.
    fn directory_for_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        let make = || -> Result<(), Errno> {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
            let made = open_directory(dir, name)?;
            rustix::fs::fsetxattr(made, OPAQUE, b"y", XattrFlags::empty())
        };
        make().map_err(failed("create directory", path))
    }

    /// Makes a file in the parent of `path` (which must be open); what is in the way is removed first.
    fn replacing<T>(&mut self, path: &[u8], make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>) -> Result<T> {
        let parent = split(path).0;
        match make(self.parent(parent)?) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(failed("create", path)),
        }
        self.clear(path)?;
        make(self.parent(parent)?).map_err(failed("create", path))
    }

    /// Removes what stands at `path`, if anything does.
    pub(super) fn clear(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let is_directory = |stat: &Stat| file_type(stat) == FileType::Directory;
        let stat = stat_at(self.parent(parent)?, name);
        if stat.as_ref().is_ok_and(is_directory) {
            if self.clash == Clash::Refuse {
                return Err(Error::new(Kind::AlreadyExists, "create", show(path))
                    .because("a directory cannot be replaced by a file that is none"));
            }
            self.forget(path);
        }
        // An open parent may be what goes, or lie behind a link that goes.
        self.open.clear();
        remove_tree(self.parent(parent)?, name)
    }

    /// Notes a directory that no entry describes so far.
    pub(super) fn imply(&mut self, path: &[u8]) {
        if !self.directories.contains_key(path) {
            let implied = Attributes::implied();
            self.weight += implied.weight() + path.len() as u64;
            self.directories.insert(path.to_vec(), implied);
        }
    }

    /// Directories that are gone need no attributes.
    fn forget(&mut self, path: &[u8]) {
        self.directories.remove(path);
        let below = [path, b"/"].concat();
        while let Some((gone, _)) =
            self.directories.range(below.clone()..).next().filter(|(p, _)| p.starts_with(&below))
        {
            let gone = gone.clone();
            self.directories.remove(&gone);
        }
    }
}

const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn is_whiteout_at(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    stat_at(dir, name).is_ok_and(|stat| is_whiteout(&stat))
}

/// Writes a file's content; the holes of a sparse one stay holes.
fn fill(file: BorrowedFd<'_>, entry: &Entry, content: &mut dyn BufRead) -> Result<()> {
    let path = entry.path.as_slice();
    let Some(extents) = &entry.sparse else {
        return copy_some(file, entry.size, content, path);
    };
    for extent in extents {
        rustix::fs::seek(file, SeekFrom::Start(extent.offset)).map_err(failed("write", path))?;
        copy_some(file, extent.length, content, path)?;
    }
    rustix::fs::ftruncate(file, entry.size).map_err(failed("write", path))
}

fn copy_some(file: BorrowedFd<'_>, mut length: u64, content: &mut dyn BufRead, path: &[u8]) -> Result<()> {
    while length > 0 {
        let data = content.fill_buf().map_err(|e| from_reader("read content of", show(path), e))?;
        if data.is_empty() {
            return Err(Error::new(Kind::Corrupt, "read content of", show(path)).because("it ends too early"));
        }
        let n = usize::try_from(length).unwrap_or(usize::MAX).min(data.len());
        write_all(file, &data[..n], path)?;
        content.consume(n);
        length -= n as u64;
    }
    Ok(())
}
