//! From a tree to the bytes of its index: first where everything goes, then all of it in one pass.

use super::layout::{
    ARCHIVE, BLOCK, BLOCK_BITS, COMPAT_MTIME, DIRENT, HOLE, INCOMPAT_CHUNKED, INODE, Layout, MAGIC, SLOT, SUPER_OFFSET,
    SUPER_SIZE, XATTR_ENTRY, XATTR_HEADER, align, encode_device, split_name, type_bits,
};
use super::tree::{Body, Data, Node, Place, ROOT, Tree};
use crate::entry::EntryKind;
use std::io::{self, Write};
use tare_model::{Error, Kind, Result};

/// What fits behind an inode wherever that stands: a block less one slot.
const INLINE: u64 = BLOCK - SLOT;
/// The first inode's place. Number 0 means no inode to some readers.
const FIRST: u64 = 64;
/// Chunks of one file, at most (4 MiB of addresses).
const CHUNKS: u64 = 1 << 20;
/// From here on a place is counted in the copies behind the archive, wherever these begin.
pub const IN_COPIES: u64 = 1 << 62;

/// Where one inode goes.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// Bytes from the beginning of the inodes.
    at: u64,
    /// Of its data, for directories and links that stand in blocks of their own: bytes from the beginning of those.
    data: u64,
    number: u32,
    links: u32,
}

/// An image's index, planned: the bytes before the archive and those behind it.
#[derive(Debug)]
pub struct Image<'a> {
    tree: &'a Tree,
    spots: Vec<Spot>,
    /// Nodes in the order of their inodes, each with its parent.
    order: Vec<(usize, usize)>,
    archive: u64,
    copies_at: u64,
    inodes_at: u64,
    blocks_at: u64,
    size: u64,
    chunked: bool,
}

impl<'a> Image<'a> {
    /// Plans the index over an archive of so many bytes and so many bytes of copies.
    ///
    /// # Errors
    /// `Kind::Unsupported` for what the format cannot hold: an attribute of a name or size that it does not know, a file of too
    /// many pieces, an image beyond 2 TiB.
    pub fn plan(tree: &'a Tree, archive: u64, copies: u64) -> Result<Image<'a>> {
        let copies_at = ARCHIVE + align(archive, BLOCK);
        let inodes_at = copies_at + align(copies, BLOCK);
        let mut image = Image {
            tree,
            spots: vec![Spot { at: u64::MAX, data: 0, number: 0, links: 0 }; tree.nodes.len()],
            order: Vec::with_capacity(tree.nodes.len()),
            archive,
            copies_at,
            inodes_at,
            blocks_at: 0,
            size: 0,
            chunked: false,
        };
        image.place()?;
        if image.size >= BLOCK << 32 {
            return Err(unsupported("an image of more than 2 TiB"));
        }
        Ok(image)
    }

    /// Where the copies stand in the image, in bytes; the archive ends before.
    pub fn copies_at(&self) -> u64 {
        self.copies_at
    }

    /// Where the index stands, in bytes.
    pub fn index_at(&self) -> u64 {
        self.inodes_at
    }

    /// The whole image, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What stands before the archive: [`ARCHIVE`] bytes. The first eight say how long the archive is: the kernel reads nothing
    /// there, and blocks do not tell.
    pub fn head(&self) -> Vec<u8> {
        let mut head = vec![0; usize::try_from(ARCHIVE).unwrap_or_default()];
        head[..8].copy_from_slice(&self.archive.to_le_bytes());
        let mut sb = Bytes(Vec::with_capacity(SUPER_SIZE));
        sb.u32(MAGIC).u32(0).u32(COMPAT_MTIME).u8(BLOCK_BITS).u8(0);
        sb.u16(u16::try_from(self.spots[ROOT].at / SLOT).unwrap_or_default());
        sb.u64(self.order.len() as u64).u64(0).u32(0);
        sb.u32(block(self.size)).u32(block(self.inodes_at)).u32(0);
        sb.0.resize(80, 0);
        sb.u32(if self.chunked { INCOMPAT_CHUNKED } else { 0 });
        sb.0.resize(SUPER_SIZE, 0);
        head[SUPER_OFFSET..SUPER_OFFSET + SUPER_SIZE].copy_from_slice(&sb.0);
        head
    }

    /// Writes the index: [`Image::index_at`] to [`Image::size`].
    ///
    /// # Errors
    /// What `out` reports.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        for &(number, parent) in &self.order {
            let spot = self.spots[number];
            pad(out, spot.at - at)?;
            let bytes = self.inode(number, parent);
            out.write_all(&bytes)?;
            at = spot.at + bytes.len() as u64;
        }
        pad(out, align(at, BLOCK) - at)?;
        for &(number, parent) in &self.order {
            let node = &self.tree.nodes[number];
            let data = match &node.body {
                Body::Directory(_) => self.directory(number, parent),
                Body::Symlink(target) => target.to_vec(),
                _ => continue,
            };
            if data.len() as u64 > INLINE {
                out.write_all(&data)?;
                pad(out, align(data.len() as u64, BLOCK) - data.len() as u64)?;
            }
        }
        Ok(())
    }

    fn place(&mut self) -> Result<()> {
        let (mut at, mut data) = (FIRST, 0);
        let mut waiting = vec![(ROOT, ROOT)];
        while let Some((number, parent)) = waiting.pop() {
            let node = &self.tree.nodes[number];
            let mut links = node.links;
            if let Body::Directory(children) = &node.body {
                links = 2;
                for &child in children.values().rev() {
                    links += u32::from(self.tree.nodes[child].kind == EntryKind::Directory);
                    // Of several names the first counts.
                    waiting.push((child, number));
                }
            }
            if self.spots[number].at != u64::MAX {
                continue;
            }
            let own = INODE + xattr_size(node)?;
            let (inline, blocks) = self.behind(number, node)?;
            while inline > 0 && (at + own) % BLOCK + inline > BLOCK && !self.in_chunks(node) {
                at += SLOT;
            }
            let spot = Spot { at, data, number: u32::try_from(self.order.len() + 1).unwrap_or(u32::MAX), links };
            self.spots[number] = spot;
            self.order.push((number, parent));
            at = align(at + own + inline, SLOT);
            data += blocks;
        }
        self.blocks_at = self.inodes_at + align(at, BLOCK);
        self.size = self.blocks_at + data;
        Ok(())
    }

    fn in_chunks(&self, node: &Node) -> bool {
        matches!(&node.body, Body::File { data: Data::Pieces(_), .. })
    }

    /// Bytes behind the inode, and bytes in blocks of its own.
    fn behind(&mut self, number: usize, node: &Node) -> Result<(u64, u64)> {
        let length = match &node.body {
            Body::Directory(_) => directory_size(self.names(number)),
            Body::Symlink(target) => target.len() as u64,
            Body::File { size, data: Data::Pieces(pieces) } => {
                self.chunked = true;
                return Ok((4 * chunk_count(*size, chunk_bits(*size, pieces)?), 0));
            }
            _ => 0,
        };
        Ok(if length <= INLINE { (length, 0) } else { (0, align(length, BLOCK)) })
    }

    /// The names of a directory in the order of its entries, `.` and `..` among them.
    fn names(&self, number: usize) -> impl Iterator<Item = (&[u8], Option<usize>)> + Clone {
        let children = match &self.tree.nodes[number].body {
            Body::Directory(children) => Some(children),
            _ => None,
        };
        let all = || children.into_iter().flatten().map(|(name, child)| (&**name, Some(*child)));
        let dots = [(b".".as_slice(), None), (b"..".as_slice(), None)];
        // Only names that begin with a byte below the dot come before.
        let before = all().take_while(|(name, _)| *name < b".".as_slice());
        let between =
            all().skip_while(|(name, _)| *name < b".".as_slice()).take_while(|(name, _)| *name < b"..".as_slice());
        let after = all().skip_while(|(name, _)| *name < b"..".as_slice());
        before.chain([dots[0]]).chain(between).chain([dots[1]]).chain(after)
    }

    fn directory(&self, number: usize, parent: usize) -> Vec<u8> {
        let mut out = Bytes(Vec::new());
        let mut names = self.names(number);
        let block_size = usize::try_from(BLOCK).unwrap_or_default();
        loop {
            let count = fitting(names.clone().map(|(name, _)| name.len() as u64));
            if count == 0 {
                return out.0;
            }
            let filled = out.0.len().div_ceil(block_size) * block_size;
            out.0.resize(filled, 0);
            let mut name_at = count as u64 * DIRENT;
            let mut texts = Vec::new();
            for (name, child) in names.by_ref().take(count) {
                let target = child.unwrap_or(if name == b"." { number } else { parent });
                out.u64(self.spots[target].at / SLOT).u16(u16::try_from(name_at).unwrap_or_default());
                out.u8(type_bits(self.tree.nodes[target].kind).1).u8(0);
                texts.extend_from_slice(name);
                name_at += name.len() as u64;
            }
            out.0.extend_from_slice(&texts);
        }
    }

    /// The inode, its attributes, and what stands behind it.
    fn inode(&self, number: usize, parent: usize) -> Vec<u8> {
        let (node, spot) = (&self.tree.nodes[number], self.spots[number]);
        let (mut size, mut layout, mut pointer, mut behind) = (0, Layout::Plain, 0, Vec::new());
        match &node.body {
            Body::Directory(_) | Body::Symlink(_) => {
                let data = match &node.body {
                    Body::Symlink(target) => target.to_vec(),
                    _ => self.directory(number, parent),
                };
                size = data.len() as u64;
                if size <= INLINE {
                    (layout, behind) = (Layout::Inline, data);
                } else {
                    pointer = block(self.blocks_at + spot.data);
                }
            }
            Body::File { size: whole, data: Data::Whole(at) } => {
                size = *whole;
                pointer = if size == 0 { 0 } else { block(self.located(*at)) };
            }
            Body::File { size: whole, data: Data::Pieces(pieces) } => {
                (size, layout) = (*whole, Layout::Chunks);
                // Planned before: it did not fail then.
                let bits = chunk_bits(size, pieces).unwrap_or(BLOCK_BITS.into());
                pointer = bits - u32::from(BLOCK_BITS);
                behind = self.chunks(size, bits, pieces);
            }
            Body::Device(device) => pointer = encode_device(*device),
            Body::Nothing => {}
        }
        let xattrs = xattrs(node);
        let mut out = Bytes(Vec::with_capacity(128));
        out.u16(1 | layout.number() << 1);
        let units = (xattrs.len() as u64).saturating_sub(XATTR_HEADER) / 4 + u64::from(!xattrs.is_empty());
        out.u16(u16::try_from(units).unwrap_or_default());
        out.u16(type_bits(node.kind).0 | node.mode).u16(0).u64(size).u32(pointer).u32(spot.number);
        out.u32(node.uid).u32(node.gid).u64(node.mtime.secs.cast_unsigned()).u32(node.mtime.nanos).u32(spot.links);
        out.0.resize(usize::try_from(INODE).unwrap_or_default(), 0);
        out.0.extend_from_slice(&xattrs);
        out.0.extend_from_slice(&behind);
        out.0
    }

    fn located(&self, at: u64) -> u64 {
        if at >= IN_COPIES { self.copies_at + at - IN_COPIES } else { at }
    }

    fn chunks(&self, size: u64, bits: u32, pieces: &[Place]) -> Vec<u8> {
        let mut out = Bytes(Vec::new());
        let mut pieces = pieces.iter().peekable();
        for chunk in 0..chunk_count(size, bits) {
            let offset = chunk << bits;
            while pieces.next_if(|p| p.offset + p.length <= offset).is_some() {}
            match pieces.peek().filter(|p| p.offset <= offset) {
                Some(p) => out.u32(block(self.located(p.at) + offset - p.offset)),
                None => out.u32(HOLE),
            };
        }
        out.0
    }
}

impl Data {
    /// Where an entry's content is that stands in the archive from this byte of the image on; `None` if it cannot be addressed in
    /// whole blocks and has to be copied.
    pub fn of(entry: &crate::Entry, at: u64) -> Option<Data> {
        let Some(extents) = &entry.sparse else { return Some(Data::Whole(at)) };
        let mut stored = at;
        let mut pieces: Vec<Place> = Vec::with_capacity(extents.len());
        for extent in extents.iter().filter(|e| e.length > 0) {
            if extent.offset % BLOCK != 0 || stored % BLOCK != 0 {
                return None;
            }
            let end = extent.offset + extent.length;
            if end % BLOCK != 0 && end != entry.size {
                return None;
            }
            match pieces.last_mut().filter(|p| p.offset + p.length == extent.offset && p.at + p.length == stored) {
                Some(last) => last.length += extent.length,
                None => pieces.push(Place { offset: extent.offset, length: extent.length, at: stored }),
            }
            stored += extent.length;
        }
        Some(Data::Pieces(pieces.into()))
    }
}

/// The largest chunk whose borders are also those of all pieces, as a power of two.
fn chunk_bits(size: u64, pieces: &[Place]) -> Result<u32> {
    let mut bits = u32::from(BLOCK_BITS) + 31;
    for piece in pieces {
        let end = piece.offset + piece.length;
        bits = bits.min(piece.offset.trailing_zeros());
        if end < size {
            bits = bits.min(end.trailing_zeros());
        }
    }
    if chunk_count(size, bits) > CHUNKS {
        return Err(unsupported("a sparse file with pieces too small for its size"));
    }
    Ok(bits)
}

fn chunk_count(size: u64, bits: u32) -> u64 {
    size.div_ceil(1 << bits)
}

/// How many of these names, from the first on, a block of a directory holds.
fn fitting(lengths: impl Iterator<Item = u64>) -> usize {
    let mut used = 0;
    lengths
        .take_while(|length| {
            used += DIRENT + length;
            used <= BLOCK
        })
        .count()
}

fn directory_size<'n>(names: impl Iterator<Item = (&'n [u8], Option<usize>)>) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for (name, _) in names {
        let one = DIRENT + name.len() as u64;
        if used + one > BLOCK {
            whole += BLOCK;
            used = 0;
        }
        used += one;
    }
    whole + used
}

fn xattr_size(node: &Node) -> Result<u64> {
    let mut size = 0;
    for (name, value) in node.all_xattrs() {
        let (_, rest) = split_name(name).ok_or_else(|| {
            unsupported("an extended attribute of this name").hint(format!("it is {}", crate::layer::show(name)))
        })?;
        if value.len() > 0xffff {
            return Err(unsupported("an extended attribute of more than 64 KiB"));
        }
        size += align(XATTR_ENTRY + (rest.len() + value.len()) as u64, 4);
    }
    if size / 4 >= u64::from(u16::MAX) {
        return Err(unsupported("extended attributes of more than 256 KiB"));
    }
    Ok(if size == 0 { 0 } else { XATTR_HEADER + size })
}

fn xattrs(node: &Node) -> Vec<u8> {
    let mut out = Bytes(Vec::new());
    for (name, value) in node.all_xattrs() {
        if out.0.is_empty() {
            out.0.resize(usize::try_from(XATTR_HEADER).unwrap_or_default(), 0);
        }
        let Some((prefix, rest)) = split_name(name) else { continue };
        out.u8(u8::try_from(rest.len()).unwrap_or_default())
            .u8(prefix)
            .u16(u16::try_from(value.len()).unwrap_or_default());
        out.0.extend_from_slice(rest);
        out.0.extend_from_slice(value);
        let whole = out.0.len().div_ceil(4) * 4;
        out.0.resize(whole, 0);
    }
    out.0
}

/// The number of the block at this byte; images are smaller than 2^32 of them.
fn block(at: u64) -> u32 {
    u32::try_from(at / BLOCK).unwrap_or(HOLE)
}

fn unsupported(what: &str) -> Error {
    Error::new(Kind::Unsupported, "index layer", "").because(what)
}

fn pad(out: &mut impl Write, mut count: u64) -> io::Result<()> {
    const ZEROS: [u8; 512] = [0; 512];
    while count > 0 {
        let n = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..n])?;
        count -= n as u64;
    }
    Ok(())
}

/// Little-endian numbers, one after another.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    fn u16(&mut self, n: u16) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }

    fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }

    fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }
}
