//! A layer's tree on disk against its archive: every file, nothing more and nothing less.

use super::below::Below;
use super::directory::FindBelow;
use super::listing::sorted_names;
use super::node::{failed, file_type, from_reader, mtime_of, reopen, xattrs_of};
use super::sink::LayerSink;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use tare_format::erofs::{Data, Member, Tree, Unsettled};
use tare_format::layer::{join, show};
use tare_format::{Change, Entry, EntryKind};
use tare_model::{Error, Kind, Result};

/// Unit in which content is compared: holes and zeros are the same.
const UNIT: usize = 4096;
/// Set by the host's security modules, not by archives.
const HOSTS_OWN: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// What an archive says that a layer holds: a sink that keeps no content but its digest.
pub(crate) struct Expected<'a> {
    tree: Tree,
    contents: Vec<[u8; 32]>,
    below: Box<FindBelow<'a>>,
    asked_below: bool,
}

/// Digest of a file's content by its blocks that are not all zeros.
struct Blocks {
    hash: Sha256,
    block: Vec<u8>,
    number: u64,
}

/// What is compared with what; all differences are told, up to a number.
struct Comparison<'a> {
    root: BorrowedFd<'a>,
    contents: &'a [[u8; 32]],
    /// Device and inode of each file seen so far, by its number in the tree.
    seen: HashMap<usize, (u64, u64)>,
    /// And the other way round.
    files: HashMap<(u64, u64), usize>,
    found: Vec<String>,
}

impl<'a> Expected<'a> {
    /// Nothing so far; `below` finds the targets of hard links that lead into the layers below.
    pub(crate) fn new(below: Box<FindBelow<'a>>) -> Self {
        Expected { tree: Tree::default(), contents: Vec::new(), below, asked_below: false }
    }

    /// Whether it holds content of the layers below.
    pub(crate) fn asked_below(&self) -> bool {
        self.asked_below
    }

    /// How the tree at `root` differs, at most so many differences, each in words.
    ///
    /// # Errors
    /// What the kernel reports.
    pub(crate) fn differences(&self, root: BorrowedFd<'_>, at_most: usize) -> Result<Vec<String>> {
        let (seen, files) = (HashMap::new(), HashMap::new());
        let mut comparison = Comparison { root, contents: &self.contents, seen, files, found: Vec::new() };
        let mut waiting = vec![(Vec::new(), self.tree.root())];
        while let Some((path, member)) = waiting.pop() {
            comparison.one(&path, member)?;
            if comparison.found.len() >= at_most {
                break;
            }
            if member.kind() == EntryKind::Directory {
                comparison.names(&path, member, &mut waiting)?;
            }
        }
        comparison.found.truncate(at_most);
        Ok(comparison.found)
    }

    fn keep(&mut self, hash: [u8; 32]) -> Data {
        self.contents.push(hash);
        Data::Whole(self.contents.len() as u64 - 1)
    }

    fn content(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<Data> {
        let mut blocks = Blocks::default();
        let whole = [tare_format::Extent { offset: 0, length: entry.size }];
        for extent in entry.sparse.as_deref().unwrap_or(&whole) {
            let (mut at, end) = (extent.offset, extent.offset + extent.length);
            while at < end {
                let data = content.fill_buf().map_err(|e| from_reader("read content of", show(&entry.path), e))?;
                let n = usize::try_from(end - at).unwrap_or(usize::MAX).min(data.len());
                if n == 0 {
                    return Err(
                        Error::new(Kind::Corrupt, "read content of", show(&entry.path)).because("it ends too early")
                    );
                }
                blocks.put(at, &data[..n]);
                content.consume(n);
                at += n as u64;
            }
        }
        Ok(self.keep(blocks.finish()))
    }
}

impl LayerSink for Expected<'_> {
    fn put(&mut self, change: Change, _at: u64, content: &mut dyn BufRead) -> Result<()> {
        let data = match &change {
            Change::Put(entry) if entry.kind == EntryKind::File => self.content(entry, content)?,
            _ => Data::Whole(0),
        };
        self.tree.put(change, data)
    }

    fn weight(&self) -> u64 {
        self.tree.weight() + self.contents.len() as u64 * 32
    }

    fn finish(&mut self, _archive: u64) -> Result<()> {
        // As the sinks do it: a second name for the same file below is a link to the first.
        let mut settled: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for Unsettled { path, target } in self.tree.unsettled() {
            if self.tree.link(&path, &target)? {
                continue;
            }
            self.asked_below = true;
            if let Some(copy) = settled.get(&target)
                && self.tree.link(&path, copy)?
            {
                continue;
            }
            let Some(Below { mut entry, mut content }) = (self.below)(&target)? else {
                return Err(Error::new(Kind::Invalid, "link", show(&path))
                    .because(format!("its target {} is in none of the layers", show(&target))));
            };
            entry.path.clone_from(&path);
            entry.sparse = None;
            let data = match entry.kind {
                EntryKind::File => self.content(&entry, &mut content)?,
                _ => Data::Whole(0),
            };
            self.tree.put(Change::Put(entry), data)?;
            settled.insert(target, path);
        }
        Ok(())
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks { hash: Sha256::new(), block: Vec::with_capacity(UNIT), number: 0 }
    }
}

impl Blocks {
    /// Bytes from `at` on; ascending.
    fn put(&mut self, mut at: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (number, within) = (at / UNIT as u64, usize::try_from(at % UNIT as u64).unwrap_or(0));
            if number != self.number {
                self.flush();
                self.number = number;
            }
            let n = data.len().min(UNIT - within);
            self.block.resize(within, 0);
            self.block.extend_from_slice(&data[..n]);
            (at, data) = (at + n as u64, &data[n..]);
        }
    }

    fn flush(&mut self) {
        // Zeros at the end of a block are as good as none.
        let length = self.block.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        if length > 0 {
            self.hash.update(self.number.to_le_bytes());
            self.hash.update((length as u64).to_le_bytes());
            self.hash.update(&self.block[..length]);
        }
        self.block.clear();
    }

    fn finish(mut self) -> [u8; 32] {
        self.flush();
        self.hash.finalize().into()
    }
}

impl Comparison<'_> {
    fn differs(&mut self, path: &[u8], what: impl std::fmt::Display) {
        self.found.push(format!("{}: {what}", show(&[b"/", path].concat())));
    }

    /// The file itself, without what a directory holds.
    fn one(&mut self, path: &[u8], member: Member<'_>) -> Result<()> {
        let Some(fd) = self.open(path)? else {
            self.differs(path, "it is missing");
            return Ok(());
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed("look up", path))?;
        if kind_of(&stat) != Some(member.kind()) {
            self.differs(path, "it is something else");
            return Ok(());
        }
        if member.device() == Some((0, 0)) && stat.st_rdev == 0 && member.kind() == EntryKind::CharDevice {
            // A whiteout has nothing but its name.
            return Ok(());
        }
        let (device, inode) = (stat.st_dev, stat.st_ino);
        let same = *self.seen.entry(member.number()).or_insert((device, inode)) == (device, inode)
            && *self.files.entry((device, inode)).or_insert(member.number()) == member.number();
        if !same {
            self.differs(path, "its hard links are others");
        }
        self.attributes(path, member, &stat);
        self.xattrs(path, member, &fd)?;
        match member.kind() {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(failed("read link", path))?;
                if member.target() != Some(target.as_bytes()) {
                    self.differs(path, format!("it leads to {}", show(target.as_bytes())));
                }
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                if member.device() != Some(device) {
                    self.differs(path, format!("it is the device {}:{}", device.0, device.1));
                }
            }
            EntryKind::File => self.content(path, member, &stat, &fd)?,
            _ => {}
        }
        Ok(())
    }

    fn attributes(&mut self, path: &[u8], member: Member<'_>, stat: &Stat) {
        let mode = stat.st_mode & 0o7777;
        // A link's mode is the kernel's business.
        if member.kind() != EntryKind::Symlink && mode != member.mode() {
            self.differs(path, format!("its mode is {mode:o}, not {:o}", member.mode()));
        }
        let owner = (stat.st_uid, stat.st_gid);
        if owner != member.owner() {
            let (uid, gid) = member.owner();
            self.differs(path, format!("its owner is {}:{}, not {uid}:{gid}", owner.0, owner.1));
        }
        let (have, want) = (mtime_of(stat), member.mtime());
        if have != want {
            self.differs(
                path,
                format!("its time is {}.{:09}, not {}.{:09}", have.secs, have.nanos, want.secs, want.nanos),
            );
        }
    }

    fn xattrs(&mut self, path: &[u8], member: Member<'_>, fd: &OwnedFd) -> Result<()> {
        let mut have: BTreeMap<Vec<u8>, Vec<u8>> = xattrs_of(fd.as_fd(), path)?.into_iter().collect();
        for (name, value) in member.xattrs() {
            match have.remove(&name) {
                Some(there) if there == value => {}
                Some(_) => self.differs(path, format!("its attribute {} is another", show(&name))),
                // What the file system cannot keep was left out when the layer was unpacked.
                None if self.cannot_have(fd, &name, member.kind()) => {}
                None => self.differs(path, format!("its attribute {} is missing", show(&name))),
            }
        }
        have.retain(|name, _| !HOSTS_OWN.contains(&name.as_slice()));
        if let Some(name) = have.into_keys().next() {
            self.differs(path, format!("it has an attribute {} that is not in the archive", show(&name)));
        }
        Ok(())
    }

    /// As `Attributes::put_xattrs` decides.
    fn cannot_have(&self, fd: &OwnedFd, name: &[u8], kind: EntryKind) -> bool {
        if name == b"security.capability" {
            return false;
        }
        // user.* is for files and directories alone; what the file system itself refuses, it also refuses to look for.
        let plain = matches!(kind, EntryKind::File | EntryKind::Directory);
        (name.starts_with(b"user.") && !plain)
            || matches!(
                rustix::fs::getxattr(super::node::proc_path(fd.as_fd()), name, &mut [0u8; 0][..]),
                Err(Errno::OPNOTSUPP)
            )
    }

    fn content(&mut self, path: &[u8], member: Member<'_>, stat: &Stat, fd: &OwnedFd) -> Result<()> {
        let Some((size, Data::Whole(number))) = member.content() else { return Ok(()) };
        if u64::try_from(stat.st_size).ok() != Some(size) {
            self.differs(path, format!("it has {} bytes, not {size}", stat.st_size));
            return Ok(());
        }
        let wanted = usize::try_from(number).ok().and_then(|n| self.contents.get(n));
        match self.hash(path, fd) {
            Ok(hash) if Some(&hash) == wanted => {}
            Ok(_) => self.differs(path, "its content is another"),
            // A disk that cannot give it back.
            Err(e) => self.differs(path, e),
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "a part of `content`")]
    fn hash(&self, path: &[u8], fd: &OwnedFd) -> Result<[u8; 32]> {
        let fail = || failed("read", path);
        let file = reopen(fd.as_fd(), OFlags::RDONLY).map_err(fail())?;
        let mut blocks = Blocks::default();
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        loop {
            at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return Ok(blocks.finish()),
                // No holes are told here: all of it is data.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(e) => return Err(fail()(e)),
            };
            let end = rustix::fs::seek(&file, SeekFrom::Hole(at)).unwrap_or(u64::MAX);
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                match rustix::io::pread(&file, &mut buffer[..wanted], at) {
                    Ok(0) => return Ok(blocks.finish()),
                    Ok(n) => {
                        blocks.put(at, &buffer[..n]);
                        at += n as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(fail()(e)),
                }
            }
        }
    }

    /// The names in a directory, in both directions; those that are to be there wait for their turn.
    fn names<'m>(&mut self, path: &[u8], member: Member<'m>, waiting: &mut Vec<(Vec<u8>, Member<'m>)>) -> Result<()> {
        let Some(fd) =
            self.open(path)?.filter(|fd| rustix::fs::fstat(fd).is_ok_and(|s| s.st_mode & 0o170_000 == 0o040_000))
        else {
            return Ok(());
        };
        let dir = reopen(fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
        let there = sorted_names(dir.as_fd(), path)?;
        let mut wanted = member.children().peekable();
        for name in there {
            while wanted.next_if(|(next, _)| *next < name.as_slice()).is_some() {}
            if wanted.peek().is_none_or(|(next, _)| *next != name.as_slice()) {
                self.differs(&join(path, &name), "it is not in the archive");
            }
        }
        // Sorted, so that the first of several differences is the same each time.
        waiting.extend(member.children().map(|(name, child)| (join(path, name), child)));
        Ok(())
    }

    /// `O_PATH`; nothing is followed. `None` if it is not there.
    fn open(&self, path: &[u8]) -> Result<Option<OwnedFd>> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        match super::node::find_beneath(self.root, path) {
            Ok(found) => Ok(Some(found.fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(failed("look up", path)(e)),
        }
    }
}

fn kind_of(stat: &Stat) -> Option<EntryKind> {
    match file_type(stat) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Directory),
        FileType::Symlink => Some(EntryKind::Symlink),
        FileType::CharacterDevice => Some(EntryKind::CharDevice),
        FileType::BlockDevice => Some(EntryKind::BlockDevice),
        FileType::Fifo => Some(EntryKind::Fifo),
        _ => None,
    }
}
