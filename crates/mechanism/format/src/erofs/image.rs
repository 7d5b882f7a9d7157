//! From a tree to the bytes of its index: first where everything goes, then all of it in one pass.

use super::layout::{
    ARCHIVE, BLOCK, BLOCK_BITS, COMPAT_MTIME, DIRENT, HOLE, INCOMPAT_CHUNKED, INODE, Layout, MAGIC, SLOT, SUPER_OFFSET,
    SUPER_SIZE, XATTR_HEADER, align, split_name, type_bits,
};
use super::sparse::chunks;
use super::tree::{Body, EACH_NODE, Id, Node, Place, ROOT, Tree};
use super::xattrs::{OPAQUE, push, pushed};
use std::io::{self, Write};
use tare_model::{Error, Kind, Result};

/// What fits behind an inode wherever that stands: a block less one slot.
const INLINE: u64 = BLOCK - SLOT;
/// The first inode's place. Number 0 means no inode to some readers.
const FIRST: u64 = 64;
/// Bytes handed over at once.
const BUFFER: usize = 1 << 20;
/// From here on a place is counted in the copies behind the archive, wherever these begin.
pub const IN_COPIES: u64 = 1 << 62;

// What the tree counts for it.
const _: () = assert!(size_of::<Spot>() + size_of::<(Id, Id)>() <= EACH_NODE);

/// Where one inode goes.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// Slots from the beginning of the inodes; 0 for none.
    nid: u32,
    /// Of its data, for directories and links that stand in blocks of their own: blocks from the beginning of those.
    data: u32,
    number: u32,
    links: u32,
    /// Of a directory: its names in `Image::names`.
    names: (u32, u32),
}

/// An image's index, planned: the bytes before the archive and those behind it.
#[derive(Debug)]
pub struct Image<'a> {
    tree: &'a Tree,
    spots: Vec<Spot>,
    /// Nodes in the order of their inodes, each with its parent.
    order: Vec<(Id, Id)>,
    /// Numbers of names: those of a directory together, sorted.
    names: Vec<u32>,
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
    /// `Kind::Unsupported` for an image beyond 2 TiB, `Kind::State` while a hard link is not settled.
    pub fn plan(tree: &'a Tree, archive: u64, copies: u64) -> Result<Image<'a>> {
        let copies_at = ARCHIVE + align(archive, BLOCK);
        let inodes_at = copies_at + align(copies, BLOCK);
        let nowhere = Spot { nid: 0, data: 0, number: 0, links: 0, names: (0, 0) };
        let mut image = Image {
            tree,
            spots: vec![nowhere; tree.nodes.len()],
            order: Vec::with_capacity(tree.nodes.len()),
            names: Vec::new(),
            archive,
            copies_at,
            inodes_at,
            blocks_at: 0,
            size: 0,
            chunked: false,
        };
        image.sort();
        image.place()?;
        if image.size >= BLOCK << 32 {
            return Err(too_large());
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

    /// Number of inodes.
    pub fn inodes(&self) -> u64 {
        self.order.len() as u64
    }

    /// What stands before the archive: [`ARCHIVE`] bytes. The first eight say how long the archive is: the kernel reads nothing
    /// there, and blocks do not tell.
    pub fn head(&self) -> Vec<u8> {
        let mut head = Bytes(Vec::with_capacity(usize::try_from(ARCHIVE).unwrap_or_default()));
        head.u64(self.archive);
        head.0.resize(SUPER_OFFSET, 0);
        head.u32(MAGIC).u32(0).u32(COMPAT_MTIME).u8(BLOCK_BITS).u8(0);
        // It stands first.
        head.u16(u16::try_from(self.spots[ROOT as usize].nid).unwrap_or_default());
        head.u64(self.inodes()).u64(0).u32(0);
        head.u32(block(self.size)).u32(block(self.inodes_at)).u32(0);
        head.0.resize(SUPER_OFFSET + 80, 0);
        head.u32(if self.chunked { INCOMPAT_CHUNKED } else { 0 });
        debug_assert!(head.0.len() < SUPER_OFFSET + SUPER_SIZE);
        head.0.resize(usize::try_from(ARCHIVE).unwrap_or_default(), 0);
        head.0
    }

    /// Writes the index: [`Image::index_at`] to [`Image::size`], 1 MiB at once.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = Buffer { out, bytes: Bytes(Vec::with_capacity(BUFFER + BUFFER / 8)), gone: 0 };
        let mut block = Block::default();
        for &(id, parent) in &self.order {
            buffer.fill(u64::from(self.spots[id as usize].nid) * SLOT)?;
            self.inode(id, parent, &mut buffer, &mut block)?;
        }
        buffer.fill(self.blocks_at - self.inodes_at)?;
        for &(id, parent) in &self.order {
            match self.tree.nodes[id as usize].body {
                Body::Directory { .. } if self.directory_size(id, parent) > INLINE => {
                    self.directory(id, parent, &mut buffer.bytes, &mut block);
                }
                Body::Symlink { text, length } if u64::from(length) > INLINE => {
                    buffer.bytes.0.extend_from_slice(self.tree.bytes(text, length.into()));
                }
                _ => continue,
            }
            buffer.fill(align(buffer.position(), BLOCK))?;
        }
        buffer.flush()
    }

    /// Puts the names in order: by directory, then by name.
    fn sort(&mut self) {
        let used = || self.tree.names.iter().enumerate().filter(|(_, name)| name.is_used());
        for (_, name) in used() {
            self.spots[name.parent as usize].names.1 += 1;
        }
        let mut begin = 0;
        for spot in &mut self.spots {
            let count = spot.names.1;
            spot.names = (begin, 0);
            begin += count;
        }
        self.names.resize(begin as usize, 0);
        for (n, name) in used() {
            let (begin, count) = &mut self.spots[name.parent as usize].names;
            self.names[(*begin + *count) as usize] = u32::try_from(n).unwrap_or(u32::MAX);
            *count += 1;
        }
        for spot in self.spots.iter().filter(|spot| spot.names.1 > 1) {
            let (begin, count) = (spot.names.0 as usize, spot.names.1 as usize);
            let text = |n: u32| self.tree.text(&self.tree.names[n as usize]);
            // Most archives are sorted already: then this is one comparison for each.
            self.names[begin..begin + count].sort_by(|a, b| text(*a).cmp(text(*b)));
        }
    }

    fn place(&mut self) -> Result<()> {
        let (mut at, mut data) = (FIRST, 0);
        let mut waiting = vec![(ROOT, ROOT)];
        while let Some((id, parent)) = waiting.pop() {
            if self.spots[id as usize].nid != 0 {
                // Of several names the first counts.
                continue;
            }
            let node = &self.tree.nodes[id as usize];
            let mut links = node.links;
            if let Body::Directory { .. } = node.body {
                links = 2;
                let (begin, count) = self.spots[id as usize].names;
                for &name in self.names[begin as usize..(begin + count) as usize].iter().rev() {
                    let child = self.tree.names[name as usize].node;
                    links += u32::from(matches!(self.tree.nodes[child as usize].body, Body::Directory { .. }));
                    waiting.push((child, id));
                }
            }
            let own = INODE + self.xattr_size(node);
            let (inline, blocks) = match node.body {
                Body::Directory { .. } => beside(self.directory_size(id, parent)),
                Body::Symlink { length, .. } => beside(length.into()),
                Body::Sparse { size, pieces } => {
                    self.chunked = true;
                    (4 * chunks(size, self.tree.sparse[pieces as usize].0), 0)
                }
                Body::Pending => {
                    return Err(Error::new(Kind::State, "index layer", "").because("a hard link is not settled"));
                }
                _ => (0, 0),
            };
            let in_one_block = !matches!(node.body, Body::Sparse { .. });
            while in_one_block && inline > 0 && (at + own) % BLOCK + inline > BLOCK {
                at += SLOT;
            }
            let spot = &mut self.spots[id as usize];
            spot.nid = u32::try_from(at / SLOT).map_err(|_| too_large())?;
            spot.data = u32::try_from(data / BLOCK).map_err(|_| too_large())?;
            spot.number = u32::try_from(self.order.len() + 1).unwrap_or(u32::MAX);
            spot.links = links;
            self.order.push((id, parent));
            at = align(at + own + inline, SLOT);
            data += blocks;
        }
        self.blocks_at = self.inodes_at + align(at, BLOCK);
        self.size = self.blocks_at + data;
        Ok(())
    }

    /// Calls `f` with the names of a directory in the order of its entries, `.` and `..` among them.
    fn each_name(&self, id: Id, parent: Id, mut f: impl FnMut(&[u8], Id)) {
        // Only names that begin with a byte below the dot come before them.
        let mut dots = [(b".".as_slice(), id), (b"..".as_slice(), parent)].into_iter().peekable();
        let (begin, count) = self.spots[id as usize].names;
        for &name in &self.names[begin as usize..(begin + count) as usize] {
            let name = &self.tree.names[name as usize];
            let text = self.tree.text(name);
            while let Some((dot, target)) = dots.next_if(|(dot, _)| *dot < text) {
                f(dot, target);
            }
            f(text, name.node);
        }
        dots.for_each(|(dot, target)| f(dot, target));
    }

    fn directory_size(&self, id: Id, parent: Id) -> u64 {
        let (mut whole, mut used) = (0, 0);
        self.each_name(id, parent, |name, _| {
            let one = DIRENT + name.len() as u64;
            if used + one > BLOCK {
                whole += BLOCK;
                used = 0;
            }
            used += one;
        });
        whole + used
    }

    fn directory(&self, id: Id, parent: Id, out: &mut Bytes, block: &mut Block) {
        let begin = out.0.len();
        self.each_name(id, parent, |name, child| {
            if block.size + DIRENT + name.len() as u64 > BLOCK {
                block.write(out);
                let filled = (out.0.len() - begin).next_multiple_of(BLOCK as usize);
                out.0.resize(begin + filled, 0);
            }
            let kind = type_bits(self.tree.nodes[child as usize].kind).1;
            block.push(name, self.spots[child as usize].nid, kind);
        });
        block.write(out);
    }

    /// The inode, its attributes, and what stands behind it.
    fn inode(&self, id: Id, parent: Id, buffer: &mut Buffer<'_, impl Write>, block_of: &mut Block) -> io::Result<()> {
        let (node, spot) = (&self.tree.nodes[id as usize], &self.spots[id as usize]);
        let own_block = || block(self.blocks_at) + spot.data;
        let (size, layout, pointer) = match node.body {
            Body::Directory { .. } => match self.directory_size(id, parent) {
                size if size > INLINE => (size, Layout::Plain, own_block()),
                size => (size, Layout::Inline, 0),
            },
            Body::Symlink { length, .. } if u64::from(length) > INLINE => (length.into(), Layout::Plain, own_block()),
            Body::Symlink { length, .. } => (length.into(), Layout::Inline, 0),
            Body::File { size, at } => (size, Layout::Plain, if size == 0 { 0 } else { block(self.located(at)) }),
            Body::Sparse { size, pieces } => {
                (size, Layout::Chunks, u32::from(self.tree.sparse[pieces as usize].0 - BLOCK_BITS))
            }
            Body::Device(device) => (0, Layout::Plain, device),
            Body::Nothing | Body::Pending => (0, Layout::Plain, 0),
        };
        let attributes = self.xattr_size(node);
        let units = if attributes == 0 { 0 } else { (attributes - XATTR_HEADER) / 4 + 1 };
        let out = &mut buffer.bytes;
        out.u16(1 | layout.number() << 1).u16(u16::try_from(units).unwrap_or_default());
        out.u16(type_bits(node.kind).0 | node.mode).u16(0).u64(size).u32(pointer).u32(spot.number);
        out.u32(node.uid).u32(node.gid).u64(node.mtime.secs.cast_unsigned()).u32(node.mtime.nanos).u32(spot.links);
        out.u64(0).u64(0);
        if attributes > 0 {
            out.u64(0).u32(0);
            out.0.extend_from_slice(self.tree.xattrs.get(node.xattrs));
            if let Some((prefix, rest)) = split_name(OPAQUE.0).filter(|_| node.opaque) {
                push(&mut out.0, prefix, rest, OPAQUE.1);
            }
        }
        match node.body {
            Body::Directory { .. } if size <= INLINE => self.directory(id, parent, out, block_of),
            Body::Symlink { text, length } if size <= INLINE => {
                out.0.extend_from_slice(self.tree.bytes(text, length.into()));
            }
            Body::Sparse { size, pieces } => {
                let (bits, pieces) = &self.tree.sparse[pieces as usize];
                self.chunks(size, *bits, pieces, buffer)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn located(&self, at: u64) -> u64 {
        if at >= IN_COPIES { self.copies_at + at - IN_COPIES } else { at }
    }

    fn chunks(&self, size: u64, bits: u8, pieces: &[Place], buffer: &mut Buffer<'_, impl Write>) -> io::Result<()> {
        let mut pieces = pieces.iter().peekable();
        for chunk in 0..chunks(size, bits) {
            let offset = chunk << bits;
            while pieces.next_if(|p| p.offset + p.length <= offset).is_some() {}
            buffer.bytes.u32(match pieces.peek().filter(|p| p.offset <= offset) {
                Some(p) => block(self.located(p.at) + offset - p.offset),
                None => HOLE,
            });
            if chunk % 4096 == 0 {
                buffer.spill()?;
            }
        }
        Ok(())
    }

    fn xattr_size(&self, node: &Node) -> u64 {
        let mut size = self.tree.xattrs.get(node.xattrs).len() as u64;
        if node.opaque {
            size += split_name(OPAQUE.0).map_or(0, |(_, rest)| pushed(rest, OPAQUE.1));
        }
        if size == 0 { 0 } else { XATTR_HEADER + size }
    }
}

/// Of data of this length: bytes behind the inode, and bytes in blocks of its own.
fn beside(length: u64) -> (u64, u64) {
    if length <= INLINE { (length, 0) } else { (0, align(length, BLOCK)) }
}

/// The number of the block at this byte; images are smaller than 2^32 of them.
fn block(at: u64) -> u32 {
    u32::try_from(at / BLOCK).unwrap_or(HOLE)
}

fn too_large() -> Error {
    Error::new(Kind::Unsupported, "index layer", "")
        .because("an image of more than 2 TiB")
        .hint("unpack this layer as a tree of files: --snapshotter overlay")
}

/// The names of one block of a directory.
#[derive(Default)]
struct Block {
    entries: Vec<(u32, u8, u8)>,
    texts: Vec<u8>,
    size: u64,
}

impl Block {
    fn push(&mut self, name: &[u8], nid: u32, kind: u8) {
        self.entries.push((nid, kind, u8::try_from(name.len()).unwrap_or_default()));
        self.texts.extend_from_slice(name);
        self.size += DIRENT + name.len() as u64;
    }

    fn write(&mut self, out: &mut Bytes) {
        let mut name_at = u16::try_from(self.entries.len() as u64 * DIRENT).unwrap_or_default();
        for (nid, kind, length) in self.entries.drain(..) {
            out.u64(nid.into()).u16(name_at).u8(kind).u8(0);
            name_at += u16::from(length);
        }
        out.0.append(&mut self.texts);
        self.size = 0;
    }
}

/// What goes out in large pieces.
struct Buffer<'w, W> {
    out: &'w mut W,
    bytes: Bytes,
    /// Bytes handed over.
    gone: u64,
}

impl<W: Write> Buffer<'_, W> {
    fn position(&self) -> u64 {
        self.gone + self.bytes.0.len() as u64
    }

    /// Zeros up to this place.
    fn fill(&mut self, to: u64) -> io::Result<()> {
        debug_assert!(to >= self.position() && to - self.position() <= BLOCK);
        let zeros = usize::try_from(to.saturating_sub(self.position())).unwrap_or_default();
        self.bytes.0.resize(self.bytes.0.len() + zeros, 0);
        self.spill()
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.bytes.0.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes.0)?;
        self.gone += self.bytes.0.len() as u64;
        self.bytes.0.clear();
        Ok(())
    }
}

/// Little-endian numbers, one after another.
#[derive(Debug)]
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
