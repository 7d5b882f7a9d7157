//! Layers made here: from a tar stream, or from entries in memory (the starter image, tests).

use crate::{BlobWriter, Event, Image, ImageLayer, Lease, Progress, Silent, Store};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use tare_format::{Entry, EntryKind, tar};
use tare_model::image::{Compression, Descriptor, ImageConfig};
use tare_model::{Context as _, Error, Kind, Reference, Result};

/// Entries of a layer, in the order given.
pub type Tree = Vec<TreeEntry>;

/// One entry.
#[derive(Debug)]
pub struct TreeEntry {
    /// Relative path, `/` between components.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub node: TreeNode,
}

/// What an entry is.
#[derive(Debug)]
pub enum TreeNode {
    /// A directory.
    Dir,
    /// A regular file with this content.
    Bytes(Vec<u8>),
    /// A regular file with the content of this one, from its start.
    File(File),
    /// A symbolic link.
    Symlink(String),
}

/// A layer that is now in the store, held by the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// As images list it.
    pub layer: ImageLayer,
    /// Bytes of its regular files.
    pub size: u64,
    /// Entries of its archive.
    pub entries: u64,
}

impl Store {
    /// Unpacks a tar stream (any compression, detected) as a layer and keeps its blob: as it came if compressed,
    /// else compressed with `compress` (zstd at its fastest level). One pass.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid` for malformed streams, and what [`crate::layer::unpack`] refuses.
    pub fn add_layer(
        &self,
        lease: &Lease,
        tar: &mut (dyn Read + Send),
        compress: Compression,
        progress: &dyn Progress,
    ) -> Result<NewLayer> {
        let (compression, tar) = detect(tar)?;
        if (compression, compress) == (Compression::None, Compression::Gzip) {
            let mut tar = tar;
            let ((), made) = lease.make_layer(|out| copy(&mut tar, out, progress))?;
            return made.publish();
        }
        let encoding = if compression == Compression::None { compress } else { Compression::None };
        let mut blob = Encoder::new(lease.blob()?, encoding).during("write", "layer")?;
        let mut draft = lease.layer()?;
        let copy = Copying { from: tar, to: &mut blob, progress };
        let unpacked =
            draft.unpack(copy, compression, &self.limits().layer, Box::new(|_| Ok(None))).during("unpack", "layer")?;
        let (digest, size) = blob.finish().during("write", "layer")?.commit(None)?;
        draft.publish(&unpacked)?;
        let kept = if compression == Compression::None { compress } else { compression };
        let blob = Descriptor::new(kept.layer_media_type(), digest, size);
        let layer = ImageLayer { diff_id: unpacked.diff_id, blob };
        Ok(NewLayer { layer, size: unpacked.size, entries: unpacked.entries })
    }

    /// A layer from entries; the same entries give the same digest (time 0, order as given).
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn layer_from_tree(&self, lease: &Lease, tree: Tree, compress: Compression) -> Result<NewLayer> {
        let mut scratch = lease.scratch()?;
        let out = write_tree(tree, io::BufWriter::with_capacity(1 << 20, &scratch))?;
        out.into_inner().map_err(|e| Error::io("write", "scratch file", e.into_error()))?;
        scratch.rewind().during("read", "scratch file")?;
        self.add_layer(lease, &mut scratch, compress, &Silent)
    }

    /// A one-layer image from entries: the starter image. The same entries and config give the same image.
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn image_from_tree(
        &self,
        tree: Tree,
        compress: Compression,
        config: ImageConfig,
        name: &Reference,
    ) -> Result<Image> {
        self.leased(|lease| {
            let made = self.layer_from_tree(lease, tree, compress)?;
            self.image_from_layer(lease, None, Some(made.layer), config, std::slice::from_ref(name))
        })
    }
}

fn write_tree<W: Write>(tree: Tree, out: W) -> Result<W> {
    let mut tar = tar::Writer::new(out);
    for entry in tree {
        let kind = match entry.node {
            TreeNode::Dir => EntryKind::Directory,
            TreeNode::Bytes(_) | TreeNode::File(_) => EntryKind::File,
            TreeNode::Symlink(_) => EntryKind::Symlink,
        };
        let mut header = Entry::new(entry.path.clone().into_bytes(), kind);
        (header.mode, header.uid, header.gid) = (entry.mode, entry.uid, entry.gid);
        match entry.node {
            TreeNode::Dir => tar.entry(&header)?,
            TreeNode::Symlink(target) => {
                header.link = target.into_bytes();
                tar.entry(&header)?;
            }
            TreeNode::Bytes(bytes) => {
                header.size = bytes.len() as u64;
                tar.entry(&header)?;
                tar.write_all(&bytes).during("write", &entry.path)?;
            }
            TreeNode::File(mut file) => {
                file.rewind().during("read", &entry.path)?;
                header.size = file.metadata().during("stat", &entry.path)?.len();
                tar.entry(&header)?;
                io::copy(&mut file.take(header.size), &mut tar).during("write", &entry.path)?;
            }
        }
    }
    tar.finish()
}

/// A stream whose first bytes were looked at.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// The compression that a stream's first bytes show, and the stream with these bytes again.
pub(crate) fn detect<R: Read>(mut from: R) -> Result<(Compression, Whole<R>)> {
    let mut start = Vec::new();
    from.by_ref().take(6).read_to_end(&mut start).during("read", "archive")?;
    // Compressions that docker's engine also reads, and that no registry knows.
    let foreign = match start.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        _ => None,
    };
    if let Some(program) = foreign {
        return Err(Error::new(Kind::Unsupported, "read archive", "")
            .because(format!("it is compressed with {program}; only gzip and zstd are supported"))
            .hint(format!("`{program} -dc FILE`, and pipe the output in")));
    }
    Ok((Compression::of_magic(&start), io::Cursor::new(start).chain(from)))
}

fn copy(from: &mut impl Read, to: &mut dyn Write, progress: &dyn Progress) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = from.read(&mut buffer).during("read", "archive")?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).during("write", "layer")?;
        progress.event(&Event::Advanced { item: crate::archive::IMPORTED, bytes: n as u64 });
    }
}

/// Everything that is read is also written.
struct Copying<'a, R> {
    from: R,
    to: &'a mut Encoder,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.to.write_all(&buffer[..n])?;
        if n > 0 {
            self.progress.event(&Event::Advanced { item: crate::archive::IMPORTED, bytes: n as u64 });
        }
        Ok(n)
    }
}

enum Encoder {
    Plain(BlobWriter),
    Zstd(zstd::Encoder<'static, BlobWriter>),
}

impl Encoder {
    fn new(blob: BlobWriter, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None | Compression::Gzip => Encoder::Plain(blob),
            Compression::Zstd => Encoder::Zstd(zstd::Encoder::new(blob, 1)?),
        })
    }

    fn finish(self) -> io::Result<BlobWriter> {
        match self {
            Encoder::Plain(blob) => Ok(blob),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Plain(out) => out.write(bytes),
            Encoder::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses a stream that is longer than a manifest may be.
pub(crate) fn read_document(mut from: impl Read, limits: &crate::Limits, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref()
        .take(limits.manifest_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| crate::layer::from_reader("read", what, e))?;
    limits.check_manifest(bytes.len() as u64).during("read", what)?;
    Ok(bytes)
}
