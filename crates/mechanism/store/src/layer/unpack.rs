//! The pipeline from compressed bytes to a sink.

use super::below::below_of;
use super::decompress::{BUFFER, Decompress};
use super::node::from_reader;
use super::sink::{LayerSink, Tap};
use super::{DirectorySink, Lowers};
use rustix::fd::BorrowedFd;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use tare_format::{Change, EntryKind, tar};
use tare_model::image::Compression;
use tare_model::{Digest, Error, Kind, Result};

/// Buffers under way at once.
const BUFFERS: usize = 4;

/// How much a layer may cost, against bombs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the tar stream, and of all files with their holes (256 GiB each).
    pub total: u64,
    /// Bytes out per byte in (1,000; deflate's own bound is 1,032), looked at once `ratio_from` bytes are out.
    pub ratio: u64,
    /// See `ratio` (1 GiB).
    pub ratio_from: u64,
    /// Entries (4 million).
    pub entries: u64,
    /// Bytes of memory for what is remembered until the layer is whole: names, attributes, directories (1 GiB).
    pub metadata: u64,
    /// Largest window of zstd as a power of two (25: 32 MiB; those that are open at once have 40 MiB together).
    pub zstd_window_log: u32,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        UnpackLimits {
            total: 256 << 30,
            ratio: 1000,
            ratio_from: 1 << 30,
            entries: 4 << 20,
            metadata: 1 << 30,
            zstd_window_log: 25,
        }
    }
}

impl UnpackLimits {
    /// Refuses what has become too much of too little.
    pub(crate) fn check_ratio(&self, read: u64, out: u64) -> Result<()> {
        if out > self.ratio_from && out / self.ratio > read {
            let why = format!("{out} bytes from {read}, more than {} for one", self.ratio);
            return Err(too_much("layer-ratio", why));
        }
        Ok(())
    }
}

/// What a layer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the whole decompressed stream.
    pub diff_id: Digest,
    /// Bytes of file content, holes included.
    pub size: u64,
    /// Number of entries in the archive.
    pub entries: u64,
    /// Digest of what stands beside the archive in an image; `None` for a tree.
    pub index: Option<Digest>,
}

/// Decompresses, hashes, reads the tar and feeds `sink`, with a second thread; buffers stay below 4 MiB. `blob` is read to
/// its end, and what follows the archive's end in the stream counts for the diff ID.
///
/// # Errors
/// `Kind::Corrupt` for damaged data, `Kind::Invalid` for hostile or malformed entries, `Kind::Exhausted` beyond `limits`,
/// and what the sink and the reader report (an error of ours may travel inside `io::Error::other`).
pub fn unpack(
    blob: impl Read + Send,
    compression: Compression,
    limits: &UnpackLimits,
    sink: &mut dyn LayerSink,
) -> Result<Unpacked> {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(blob, compression, limits, &full, &emptied));
        let (current, tap) = (Filled::default(), sink.tap());
        let mut chunks = Chunks { filled, empty, current, position: 0, total: 0, hash: Sha256::new(), tap };
        let consumed = consume(&mut chunks, limits, sink);
        // The other thread stops at its next buffer if it is not done.
        let hash = std::mem::take(&mut chunks.hash);
        drop(chunks);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (size, entries) = consumed?;
        produced.ok_or_else(|| Error::new(Kind::Cancelled, "unpack layer", ""))?;
        let diff_id = Digest::from_bytes(hash.finalize().into());
        Ok(Unpacked { diff_id, size, entries, index: None })
    })
}

/// Unpacks a layer's blob into the empty directory `fs`. With `expected` (the diff ID of the image's configuration) a blob
/// that turns out to be another layer is an error. `lower` are the layers below, for hard links into them
/// ([`Lowers::none`] if there are none). Not synced; when it fails, what was written so far is left in `fs`.
///
/// # Errors
/// As [`unpack`]; `Kind::Corrupt` for a wrong diff ID.
pub fn unpack_directory(
    fs: BorrowedFd<'_>,
    blob: impl Read + Send,
    compression: Compression,
    expected: Option<&Digest>,
    lower: &Lowers<'_>,
    limits: &UnpackLimits,
) -> Result<Unpacked> {
    let below = |path: &[u8]| lower.lookup(path)?.map(|found| below_of(&found, path)).transpose();
    let unpacked = unpack(blob, compression, limits, &mut DirectorySink::new(fs, Box::new(below)))?;
    match expected {
        Some(expected) if *expected != unpacked.diff_id => Err(Error::new(Kind::Corrupt, "verify layer", expected)
            .because(format!("its content has the digest {}", unpacked.diff_id))),
        _ => Ok(unpacked),
    }
}

/// The tar side: bytes of content and number of entries.
fn consume(chunks: &mut Chunks, limits: &UnpackLimits, sink: &mut dyn LayerSink) -> Result<(u64, u64)> {
    let (mut size, mut entries) = (0u64, 0u64);
    let mut archive = tar::Reader::new(&mut *chunks, tar::Limits::default());
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entry.kind == EntryKind::File {
            size = size.saturating_add(entry.size);
        }
        if entries > limits.entries {
            return Err(too_much("layer-entries", format!("more than {} entries", limits.entries)));
        }
        if size > limits.total {
            return Err(too_much("layer-bytes", format!("files of more than {} bytes", limits.total)));
        }
        let at = archive.position();
        sink.put(Change::of(entry)?, at, &mut archive.content())?;
        if sink.weight() > limits.metadata {
            let why = format!("more than {} bytes of names and attributes", limits.metadata);
            return Err(too_much("layer-metadata", why));
        }
    }
    loop {
        let rest = chunks.fill_buf().map_err(|e| from_reader("read layer", "", e))?.len();
        if rest == 0 {
            break;
        }
        chunks.consume(rest);
    }
    sink.finish(chunks.total)?;
    Ok((size, entries))
}

/// The decompressing side. `None` when it failed (the error is in the channel) or the other side gave up.
fn produce(
    blob: impl Read,
    compression: Compression,
    limits: &UnpackLimits,
    full: &SyncSender<Result<Filled>>,
    emptied: &Receiver<Filled>,
) -> Option<()> {
    let mut decoder = Decompress::new(blob, compression, limits.zstd_window_log);
    let mut out = 0u64;
    loop {
        // Allocated once, zeroed by the kernel at most.
        let mut buffer = emptied.try_recv().map_or_else(|_| vec![0; BUFFER], |empty| empty.bytes);
        let next = decoder.fill(&mut buffer).and_then(|new| {
            out += new.len() as u64;
            check_volume(out, decoder.read(), limits).map(|()| new)
        });
        match next {
            Ok(new) if new.is_empty() => return Some(()),
            Ok(new) => full.send(Ok(Filled { bytes: buffer, new })).ok()?,
            Err(e) => {
                // Nobody to tell: the other side has failed itself.
                let _ = full.send(Err(e));
                return None;
            }
        }
    }
}

fn check_volume(out: u64, read: u64, limits: &UnpackLimits) -> Result<()> {
    if out > limits.total {
        return Err(too_much("layer-bytes", format!("more than {} bytes", limits.total)));
    }
    limits.check_ratio(read, out)
}

fn too_much(key: &str, what: String) -> Error {
    crate::bounds::beyond("unpack layer", key, &format!("it unpacks to {what}"))
}

/// A buffer with what is in it. Its own length never changes, so that it is not zeroed again and again.
#[derive(Default)]
struct Filled {
    bytes: Vec<u8>,
    new: Range<usize>,
}

/// The buffers of the other thread as one stream.
struct Chunks {
    filled: Receiver<Result<Filled>>,
    empty: Sender<Filled>,
    current: Filled,
    position: usize,
    /// Bytes that came.
    total: u64,
    /// Of all of them.
    hash: Sha256,
    tap: Option<Tap>,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.new.end {
            let done = std::mem::take(&mut self.current);
            if !done.bytes.is_empty() {
                // The other thread may be finished and take no more.
                let _ = self.empty.send(done);
            }
            self.position = 0;
            match self.filled.recv() {
                Ok(Ok(buffer)) => {
                    let new = &buffer.bytes[buffer.new.clone()];
                    self.hash.update(new);
                    if let Some(tap) = &mut self.tap {
                        let written = tap.file.write_all_at(new, tap.at);
                        written.map_err(|e| io::Error::other(Error::io("write", "layer image", e)))?;
                        tap.at += new.len() as u64;
                    }
                    self.total += new.len() as u64;
                    self.position = buffer.new.start;
                    self.current = buffer;
                }
                Ok(Err(e)) => return Err(io::Error::other(e)),
                Err(_) => {}
            }
        }
        Ok(&self.current.bytes[self.position..self.current.new.end])
    }

    fn consume(&mut self, n: usize) {
        self.position = (self.position + n).min(self.current.new.end);
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}
