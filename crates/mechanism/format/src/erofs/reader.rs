//! Reading an image back: to verify it, and to look at layers that are not mounted. Every number is checked; nothing is trusted.

use super::layout::{
    ARCHIVE, BLOCK, BLOCK_BITS, DIRENT, HOLE, INCOMPAT_CHUNKED, INODE, Layout, MAGIC, SLOT, SUPER_OFFSET, SUPER_SIZE,
    XATTR_HEADER, decode_device, kind_of, whole_name,
};
use crate::entry::{EntryKind, Time};
use crate::layer::join;
use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use tare_model::{Error, Kind, Result};

/// Bytes of attributes of one inode, of a link's target, of a path, at most.
const ATTRIBUTES: u64 = 1 << 18;
const TARGET: u64 = 4095;
const PATH: usize = 4095;
/// Bytes of an entry of a directory.
const ENTRY: usize = DIRENT as usize;

/// Bytes at a place, as of a file.
pub trait ReadAt {
    /// Fills `out` from byte `at` on.
    ///
    /// # Errors
    /// What the source reports; `UnexpectedEof` where it has fewer bytes.
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()>;
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        (**self).read_exact_at(out, at)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        let begin = usize::try_from(at).unwrap_or(usize::MAX);
        let there = begin.checked_add(out.len()).and_then(|end| self.get(begin..end));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, at)
    }
}

/// An inode, as it stands in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number: where it stands.
    pub nid: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Bytes of content.
    pub size: u64,
    /// Number of names.
    pub links: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    layout: Layout,
    pointer: u32,
    /// Where what is behind it begins, in bytes.
    behind: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirent {
    /// The name.
    pub name: Vec<u8>,
    /// Its inode's number.
    pub nid: u64,
}

/// An image being read.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    root: u64,
    inodes: u64,
    size: u64,
    files: u64,
    archive: u64,
}

/// A file's content, read in order.
#[derive(Debug)]
pub struct Content<R> {
    reader: Reader<R>,
    inode: Inode,
    position: u64,
}

impl Reader<std::fs::File> {
    /// Another reader of the same file.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn reopen(&self) -> Result<Self> {
        Ok(Reader { source: self.source.try_clone().map_err(|e| failed(&e))?, ..*self })
    }
}

impl<R: ReadAt> Reader<R> {
    /// Reads the superblock.
    ///
    /// # Errors
    /// `Kind::Corrupt` if this is no image of the kind that we write; what the source reports.
    pub fn new(source: R) -> Result<Reader<R>> {
        let mut sb = [0; SUPER_SIZE];
        source.read_exact_at(&mut sb, SUPER_OFFSET as u64).map_err(|e| failed(&e))?;
        let f = Fields(&sb);
        if f.u32(0) != MAGIC {
            return Err(corrupt("it has no superblock"));
        }
        if sb[12] != BLOCK_BITS || f.u32(80) & !INCOMPAT_CHUNKED != 0 || sb[90] != 0 {
            return Err(corrupt("it was made by another program"));
        }
        let (size, inodes) = (u64::from(f.u32(36)) * BLOCK, u64::from(f.u32(40)) * BLOCK);
        if inodes >= size {
            return Err(corrupt("its inodes are beyond its end"));
        }
        let mut length = [0; 8];
        source.read_exact_at(&mut length, 0).map_err(|e| failed(&e))?;
        let archive = u64::from_le_bytes(length);
        if ARCHIVE
            .checked_add(archive)
            .and_then(|end| end.checked_next_multiple_of(BLOCK))
            .is_none_or(|end| end > inodes)
        {
            return Err(corrupt("its archive is longer than there is room"));
        }
        Ok(Reader { source, root: u64::from(f.u16(14)), inodes, size, files: f.u64(16), archive })
    }

    /// Bytes of the archive, which begins at [`ARCHIVE`].
    pub fn archive_size(&self) -> u64 {
        self.archive
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of inodes.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The root directory.
    ///
    /// # Errors
    /// `Kind::Corrupt`; what the source reports.
    pub fn root(&self) -> Result<Inode> {
        let root = self.inode(self.root)?;
        if root.kind == EntryKind::Directory { Ok(root) } else { Err(corrupt("its root is no directory")) }
    }

    /// The inode of this number.
    ///
    /// # Errors
    /// `Kind::Corrupt`; what the source reports.
    pub fn inode(&self, nid: u64) -> Result<Inode> {
        let at = nid
            .checked_mul(SLOT)
            .and_then(|n| n.checked_add(self.inodes))
            .ok_or_else(|| corrupt("an inode beyond its end"))?;
        let bytes = self.bytes(at, INODE)?;
        let f = Fields(&bytes);
        let format = f.u16(0);
        let layout = Layout::of(format >> 1 & 7).filter(|_| format & 1 == 1 && format >> 4 == 0);
        let layout = layout.ok_or_else(|| corrupt("an inode of an unknown form"))?;
        let kind = kind_of(f.u16(4)).ok_or_else(|| corrupt("an inode of no type"))?;
        let pointer = f.u32(16);
        let units = u64::from(f.u16(2));
        let own = if units == 0 { 0 } else { XATTR_HEADER + (units - 1) * 4 };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        Ok(Inode {
            nid,
            kind,
            mode: u32::from(f.u16(4) & 0o7777),
            uid: f.u32(24),
            gid: f.u32(28),
            mtime: Time { secs: f.u64(32).cast_signed(), nanos: f.u32(40) },
            size: i64::try_from(f.u64(8)).map_err(|_| corrupt("a size beyond 63 bits"))?.cast_unsigned(),
            links: f.u32(44),
            device: if is_device { decode_device(pointer) } else { (0, 0) },
            xattrs: self.xattrs(at + INODE, own)?,
            layout,
            pointer,
            behind: at + INODE + own,
        })
    }

    /// The names of a directory, in order, without `.` and `..`.
    ///
    /// # Errors
    /// `Kind::Corrupt`, also where names are out of order; what the source reports.
    pub fn list(&self, directory: &Inode) -> Result<Vec<Dirent>> {
        let mut out: Vec<Dirent> = Vec::new();
        for n in 0..self.blocks_of(directory)? {
            for (name, nid) in Names::of(&self.block_of(directory, n)?)?.iter() {
                let name = name?;
                if name == b"." || name == b".." {
                    continue;
                }
                if out.last().is_some_and(|last| last.name.as_slice() >= name) {
                    return Err(corrupt("a directory out of order"));
                }
                out.push(Dirent { name: name.to_vec(), nid });
            }
        }
        Ok(out)
    }

    /// The inode of this name in a directory, if it is there; reads a few of its blocks.
    ///
    /// # Errors
    /// `Kind::Corrupt`; what the source reports.
    pub fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<Inode>> {
        let (mut low, mut high) = (0, self.blocks_of(directory)?);
        if name == b"." || name == b".." {
            return Ok(None);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.block_of(directory, middle)?;
            let names = Names::of(&block)?;
            if name < names.get(0)?.0 {
                high = middle;
                continue;
            }
            let (mut first, mut end) = (0, names.count);
            while first + 1 < end {
                let at = first + (end - first) / 2;
                if names.get(at)?.0 <= name { first = at } else { end = at }
            }
            match names.get(first)? {
                (there, nid) if there == name => return self.inode(nid).map(Some),
                _ if first + 1 < names.count => return Ok(None),
                // It may be in one of the next.
                _ => low = middle + 1,
            }
        }
        Ok(None)
    }

    /// Visits all files from the root on: `visit` gets the path (empty for the root) and the inode.
    ///
    /// # Errors
    /// `Kind::Corrupt`, also for a directory with two names, as in a loop, and where directories overlap; what `visit` and the source
    /// report.
    pub fn walk(&self, mut visit: impl FnMut(&[u8], &Inode) -> Result<()>) -> Result<()> {
        let mut seen = HashSet::new();
        // Each of its own: together they are smaller than the image.
        let mut room = self.size;
        let top: Rc<[u8]> = Rc::new([]);
        let mut waiting = vec![(top, Dirent { name: Vec::new(), nid: self.root()?.nid })];
        while let Some((parent, entry)) = waiting.pop() {
            let path = join(&parent, &entry.name);
            if path.len() > PATH {
                return Err(corrupt("a path that is too long"));
            }
            let inode = self.inode(entry.nid)?;
            visit(&path, &inode)?;
            if inode.kind != EntryKind::Directory {
                continue;
            }
            room = room.checked_sub(inode.size).ok_or_else(|| corrupt("directories that overlap"))?;
            if !seen.insert(inode.nid) {
                return Err(corrupt("a directory that has two names"));
            }
            let path: Rc<[u8]> = path.into();
            waiting.extend(self.list(&inode)?.into_iter().rev().map(|entry| (Rc::clone(&path), entry)));
        }
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Kind::Corrupt`; what the source reports.
    pub fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        if link.kind != EntryKind::Symlink || link.size > TARGET {
            return Err(corrupt("a link that is none"));
        }
        self.whole(link)
    }

    /// A file's content, read with a reader of its own.
    pub fn into_content(self, file: Inode) -> Content<R> {
        Content { reader: self, inode: file, position: 0 }
    }

    fn blocks_of(&self, directory: &Inode) -> Result<u64> {
        if directory.kind != EntryKind::Directory || directory.size > self.size {
            return Err(corrupt("a directory that is none"));
        }
        Ok(directory.size.div_ceil(BLOCK))
    }

    fn block_of(&self, directory: &Inode, n: u64) -> Result<Vec<u8>> {
        let at = match directory.layout {
            Layout::Inline => directory.behind,
            Layout::Plain => u64::from(directory.pointer) * BLOCK,
            Layout::Chunks => return Err(corrupt("a directory in chunks")),
        };
        self.bytes(at + n * BLOCK, (directory.size - n * BLOCK).min(BLOCK))
    }

    fn whole(&self, inode: &Inode) -> Result<Vec<u8>> {
        match inode.layout {
            Layout::Inline => self.bytes(inode.behind, inode.size),
            Layout::Plain => self.bytes(u64::from(inode.pointer) * BLOCK, inode.size),
            Layout::Chunks => Err(corrupt("a link in chunks")),
        }
    }

    fn xattrs(&self, at: u64, length: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut out = Vec::new();
        if length == 0 {
            return Ok(out);
        }
        let bytes = self.bytes(at, length)?;
        let shared = usize::from(bytes[4]);
        let mut rest = bytes.get(usize::try_from(XATTR_HEADER).unwrap_or_default()..).unwrap_or_default();
        if shared != 0 {
            return Err(corrupt("shared attributes"));
        }
        while let [name_length, prefix, low, high, more @ ..] = rest {
            let (name_length, value_length) =
                (usize::from(*name_length), usize::from(u16::from_le_bytes([*low, *high])));
            let name = more.get(..name_length).and_then(|rest| whole_name(*prefix, rest));
            let value = more.get(name_length..name_length + value_length);
            let (Some(name), Some(value)) = (name, value) else { return Err(corrupt("an attribute without sense")) };
            out.push((name, value.to_vec()));
            rest = rest.get((4 + name_length + value_length).next_multiple_of(4)..).unwrap_or_default();
        }
        out.sort();
        Ok(out)
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        if at.checked_add(length).is_none_or(|end| end > self.size) || length > ATTRIBUTES + XATTR_HEADER {
            return Err(corrupt("something beyond its end"));
        }
        let mut out = vec![0; usize::try_from(length).unwrap_or_default()];
        self.source.read_exact_at(&mut out, at).map_err(|e| failed(&e))?;
        Ok(out)
    }

    /// Where the data at `position` of a file is, and how much follows in one piece; `None` for a hole.
    fn locate(&self, inode: &Inode, position: u64) -> Result<(Option<u64>, u64)> {
        let left = inode.size - position;
        match inode.layout {
            Layout::Inline => Ok((Some(inode.behind + position), left)),
            Layout::Plain => Ok((Some(u64::from(inode.pointer) * BLOCK + position), left)),
            Layout::Chunks => {
                let bits = (inode.pointer & 31) + u32::from(BLOCK_BITS);
                let chunk = position >> bits;
                let at = chunk
                    .checked_mul(4)
                    .and_then(|n| n.checked_add(inode.behind))
                    .ok_or_else(|| corrupt("a chunk beyond its end"))?;
                let entry = Fields(&self.bytes(at, 4)?).u32(0);
                let within = position - (chunk << bits);
                let here = ((1 << bits) - within).min(left);
                Ok(((entry != HOLE).then(|| u64::from(entry) * BLOCK + within), here))
            }
        }
    }
}

impl<R: ReadAt> io::Read for Content<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.inode.size || out.is_empty() {
            return Ok(0);
        }
        let (place, there) = self.reader.locate(&self.inode, self.position).map_err(io::Error::other)?;
        let n = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..n];
        match place {
            Some(at) if at.checked_add(n as u64).is_none_or(|end| end > self.reader.size) => {
                return Err(io::Error::other(corrupt("data beyond its end")));
            }
            Some(at) => self.reader.source.read_exact_at(out, at)?,
            None => out.fill(0),
        }
        self.position += n as u64;
        Ok(n)
    }
}

/// One block of a directory.
struct Names<'b> {
    block: &'b [u8],
    count: usize,
}

impl<'b> Names<'b> {
    fn of(block: &'b [u8]) -> Result<Names<'b>> {
        let names_at = usize::from(Fields(block).u16(8));
        if names_at < ENTRY || names_at % ENTRY != 0 || names_at > block.len() {
            return Err(corrupt("a directory without sense"));
        }
        Ok(Names { block, count: names_at / ENTRY })
    }

    /// Name and inode of an entry.
    fn get(&self, n: usize) -> Result<(&'b [u8], u64)> {
        let f = Fields(self.block);
        let end = if n + 1 < self.count { f.u16((n + 1) * ENTRY + 8).into() } else { self.block.len() };
        let name = self.block.get(f.u16(n * ENTRY + 8).into()..end);
        let name = name.ok_or_else(|| corrupt("a name outside of its block"))?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        if name.is_empty() || name.len() > 255 || name.contains(&b'/') {
            return Err(corrupt("a directory with a name that is none"));
        }
        Ok((name, f.u64(n * ENTRY)))
    }

    fn iter(&self) -> impl Iterator<Item = (Result<&'b [u8]>, u64)> {
        (0..self.count).map(|n| match self.get(n) {
            Ok((name, nid)) => (Ok(name), nid),
            Err(e) => (Err(e), 0),
        })
    }
}

/// Little-endian numbers at places; zero beyond the end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(Kind::Corrupt, "read layer image", "").because(why)
}

fn failed(e: &io::Error) -> Error {
    let copy = e.raw_os_error().map_or_else(|| io::Error::from(e.kind()), io::Error::from_raw_os_error);
    Error::io("read layer image", "", copy)
}
