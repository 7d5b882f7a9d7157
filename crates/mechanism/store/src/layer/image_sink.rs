//! The image sink: a layer as one file, its own archive with an EROFS index behind it.

use super::below::Below;
use super::directory::FindBelow;
use super::node::from_reader;
use super::sink::{LayerSink, Tap};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use tare_format::erofs::{ARCHIVE, BLOCK, Copies, Data, IN_COPIES, Image, Plan, Tree, Unsettled};
use tare_format::layer::show;
use tare_format::{Change, Entry, EntryKind, Extent};
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// Makes a layer's image in `file`: see `tare_format::erofs`.
pub struct ImageSink<'a> {
    file: File,
    /// What cannot be addressed where it stands; its own file until the archive's length is known.
    copies: File,
    copied: u64,
    tree: Tree,
    below: Box<FindBelow<'a>>,
    tap: Option<Tap>,
    /// Bytes of the archive.
    archive: u64,
    index: Option<Digest>,
}

impl std::fmt::Debug for ImageSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageSink").field("tree", &self.tree).field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl<'a> ImageSink<'a> {
    /// A sink into an empty file; `copies` is an empty scratch file.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn new(file: File, copies: File, below: Box<FindBelow<'a>>) -> Result<Self> {
        let tap = Some(Tap { file: file.try_clone().during("duplicate", "layer image")?, at: ARCHIVE });
        Ok(ImageSink { file, copies, copied: 0, tree: Tree::default(), below, tap, archive: 0, index: None })
    }

    /// Digest of all of the image but the archive (which has the diff ID), once it is finished: copies, index, head.
    pub fn index(&self) -> Option<Digest> {
        self.index
    }

    /// Copies a sparse file's pieces to where `plan` has them.
    fn copy_pieces(&mut self, plan: Copies, entry: &Entry, content: &mut dyn BufRead) -> Result<Data> {
        let extents: &[Extent] = entry.sparse.as_deref().unwrap_or_default();
        let (data, end) = plan.places(extents, IN_COPIES + self.copied);
        let Data::Pieces { places, .. } = &data else { return Ok(data) };
        let mut places = places.iter().peekable();
        for extent in extents.iter().filter(|e| e.length > 0) {
            while places.next_if(|p| p.offset + p.length <= extent.offset).is_some() {}
            let Some(place) = places.peek() else { break };
            let at = place.at - IN_COPIES + extent.offset - place.offset;
            self.write_copy(at, extent.length, content, &entry.path)?;
        }
        self.copied = end - IN_COPIES;
        Ok(data)
    }

    fn copy_whole(&mut self, size: u64, content: &mut dyn BufRead, path: &[u8]) -> Result<Data> {
        let at = self.copied;
        self.write_copy(at, size, content, path)?;
        self.copied = (at + size).next_multiple_of(BLOCK);
        Ok(Data::Whole(IN_COPIES + at))
    }

    fn write_copy(&mut self, mut at: u64, mut length: u64, content: &mut dyn BufRead, path: &[u8]) -> Result<()> {
        while length > 0 {
            let data = content.fill_buf().map_err(|e| from_reader("read content of", show(path), e))?;
            if data.is_empty() {
                return Err(Error::new(Kind::Corrupt, "read content of", show(path)).because("it ends too early"));
            }
            let n = usize::try_from(length).unwrap_or(usize::MAX).min(data.len());
            self.copies.write_all_at(&data[..n], at).during("write", show(path))?;
            content.consume(n);
            (at, length) = (at + n as u64, length - n as u64);
        }
        Ok(())
    }

    /// `settled`: what came from below so far, by target. Another name for the same is a link to it, not a further copy.
    fn settle(&mut self, link: Unsettled, settled: &mut HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
        let Unsettled { path, target } = link;
        if self.tree.link(&path, &target)? {
            return Ok(());
        }
        if let Some(copy) = settled.get(&target)
            && self.tree.link(&path, copy)?
        {
            return Ok(());
        }
        let Some(Below { mut entry, mut content }) = (self.below)(&target)? else {
            return Err(Error::new(Kind::Invalid, "link", show(&path))
                .because(format!("its target {} is neither in this layer nor in those below", show(&target))));
        };
        let data = match entry.kind {
            EntryKind::File => self.copy_whole(entry.size, &mut content, &path)?,
            _ => Data::Whole(0),
        };
        entry.path.clone_from(&path);
        self.tree.put(Change::Put(entry), data)?;
        settled.insert(target, path);
        Ok(())
    }

    fn write_index(&mut self) -> io::Result<Digest> {
        let image = Image::plan(&self.tree, self.archive, self.copied).map_err(io::Error::other)?;
        let mut hash = Sha256::new();
        self.file.seek(SeekFrom::Start(image.copies_at()))?;
        let mut copies = &self.copies;
        copies.rewind()?;
        let mut buffer = vec![0; 256 << 10];
        let mut left = image.index_at() - image.copies_at();
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            // The last block may be short: zeros follow.
            let n = copies.read(&mut buffer[..wanted])?;
            let data = if n == 0 {
                buffer[..wanted].fill(0);
                &buffer[..wanted]
            } else {
                &buffer[..n]
            };
            hash.update(data);
            self.file.write_all(data)?;
            left -= data.len() as u64;
        }
        image.write(&mut Hashing { file: &self.file, hash: &mut hash })?;
        let head = image.head();
        hash.update(&head);
        self.file.write_all_at(&head, 0)?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

impl LayerSink for ImageSink<'_> {
    fn tap(&mut self) -> Option<Tap> {
        self.tap.take()
    }

    fn put(&mut self, change: Change, at: u64, content: &mut dyn BufRead) -> Result<()> {
        let data = match &change {
            Change::Put(entry) if entry.kind == EntryKind::File => match Plan::of(entry, ARCHIVE + at) {
                Plan::There(data) => data,
                Plan::Copies(plan) => self.copy_pieces(plan, entry, content)?,
            },
            _ => Data::Whole(0),
        };
        self.tree.put(change, data)
    }

    fn weight(&self) -> u64 {
        self.tree.weight()
    }

    fn finish(&mut self, archive: u64) -> Result<()> {
        self.archive = archive;
        let mut settled = HashMap::new();
        for link in self.tree.unsettled() {
            self.settle(link, &mut settled)?;
        }
        let written = self.write_index().map_err(|e| from_reader("write", "layer image", e))?;
        self.index = Some(written);
        Ok(())
    }
}

struct Hashing<'a> {
    file: &'a File,
    hash: &'a mut Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.file.write(data)?;
        self.hash.update(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
