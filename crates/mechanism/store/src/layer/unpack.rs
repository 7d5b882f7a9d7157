//! The pipeline from compressed bytes to a sink.

use super::below::below_of;
use super::node::from_reader;
use super::sink::{LayerSink, Tap};
use super::{DirectorySink, Lowers};
use rustix::fd::BorrowedFd;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use tare_format::{Change, EntryKind, tar};
use tare_model::image::Compression;
use tare_model::{Digest, Error, Kind, Result};

/// Size of the buffers handed from thread to thread: large, because each hand-over may cost a wake-up.
const BUFFER: usize = 512 << 10;
/// Buffers under way at once.
const BUFFERS: usize = 8;

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
    /// Largest window of zstd as a power of two (27: 128 MiB, what `zstd` itself accepts).
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
            zstd_window_log: 27,
        }
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

/// Decompresses, hashes, reads the tar and feeds `sink`, with a second thread; buffers stay below 8 MiB. `blob` is read to
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
        let mut chunks = Chunks { filled, empty, current: Filled::default(), position: 0, total: 0, tap: sink.tap() };
        let consumed = consume(&mut chunks, limits, sink);
        // The other thread stops at its next buffer if it is not done.
        drop(chunks);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (size, entries) = consumed?;
        let diff_id = produced.ok_or_else(|| Error::new(Kind::Cancelled, "unpack layer", ""))?;
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

/// The decompressing side: the digest of all that came out, or `None` when it failed (the error is in the channel) or the
/// other side gave up.
fn produce(
    blob: impl Read,
    compression: Compression,
    limits: &UnpackLimits,
    full: &SyncSender<Result<Filled>>,
    emptied: &Receiver<Filled>,
) -> Option<Digest> {
    let mut input = BufReader::with_capacity(256 << 10, Counted { blob, read: 0, failure: None });
    let result = match compression {
        Compression::None => pump(input.get_mut(), |r| r, limits, full, emptied),
        Compression::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut input);
            pump(&mut decoder, |d| d.get_mut().get_mut(), limits, full, emptied)
        }
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&mut input)
            .and_then(|mut d| d.window_log_max(limits.zstd_window_log).map(|()| d))
            .map_err(|e| Error::io("decompress layer", "", e))
            .and_then(|mut decoder| pump(&mut decoder, |d| d.get_mut().get_mut(), limits, full, emptied)),
    };
    let result = result.and_then(|digest| {
        // What a reader hashes is whole only when it was read to its end.
        match io::copy(&mut input, &mut io::sink()) {
            Ok(_) => Ok(digest),
            Err(e) => Err(from_reader("read layer", "", e)),
        }
    });
    match result {
        Ok(digest) => digest,
        Err(e) => {
            // Nobody to tell: the other side has failed itself.
            let _ = full.send(Err(e));
            None
        }
    }
}

/// Moves everything that `decoder` gives into the channel. `source` is the way back to the counted input.
fn pump<D: Read, B: Read>(
    decoder: &mut D,
    source: impl Fn(&mut D) -> &mut Counted<B>,
    limits: &UnpackLimits,
    full: &SyncSender<Result<Filled>>,
    emptied: &Receiver<Filled>,
) -> Result<Option<Digest>> {
    let mut hash = Sha256::new();
    let mut out = 0u64;
    loop {
        // Allocated once, zeroed by the kernel at most.
        let mut buffer = emptied.try_recv().map_or_else(|_| vec![0; BUFFER], |empty| empty.bytes);
        let n = match fill(decoder, &mut buffer) {
            Ok(n) => n,
            Err(e) => {
                return Err(match source(decoder).failure.take() {
                    Some(failure) => failure,
                    None => Error::new(Kind::Corrupt, "decompress layer", "").because(e),
                });
            }
        };
        if n == 0 {
            return Ok(Some(Digest::from_bytes(hash.finalize().into())));
        }
        out += n as u64;
        let read = source(decoder).read;
        if out > limits.total {
            return Err(too_much("layer-bytes", format!("more than {} bytes", limits.total)));
        }
        if out > limits.ratio_from && out / limits.ratio > read {
            let why = format!("{out} bytes from {read}, more than {} for one", limits.ratio);
            return Err(too_much("layer-ratio", why));
        }
        hash.update(&buffer[..n]);
        if full.send(Ok(Filled { bytes: buffer, length: n })).is_err() {
            return Ok(None);
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn too_much(key: &str, what: String) -> Error {
    crate::limits::beyond("unpack layer", key, &format!("it unpacks to {what}"))
}

/// The blob, with the number of bytes read from it and its failure, which a decoder would report as its own.
struct Counted<B> {
    blob: B,
    read: u64,
    failure: Option<Error>,
}

impl<B: Read> Read for Counted<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.blob.read(buffer) {
            Ok(n) => {
                self.read += n as u64;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let kind = e.kind();
                let failure = from_reader("read layer", "", e);
                self.failure = Some(failure.clone());
                Err(io::Error::new(kind, failure))
            }
        }
    }
}

/// A buffer with what is in it. Its own length never changes, so that it is not zeroed again and again.
#[derive(Default)]
struct Filled {
    bytes: Vec<u8>,
    length: usize,
}

/// The buffers of the other thread as one stream.
struct Chunks {
    filled: Receiver<Result<Filled>>,
    empty: Sender<Filled>,
    current: Filled,
    position: usize,
    /// Bytes that came.
    total: u64,
    tap: Option<Tap>,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.length {
            let done = std::mem::take(&mut self.current);
            if !done.bytes.is_empty() {
                // The other thread may be finished and take no more.
                let _ = self.empty.send(done);
            }
            self.position = 0;
            match self.filled.recv() {
                Ok(Ok(buffer)) => {
                    if let Some(tap) = &mut self.tap {
                        tap.file.write_all_at(&buffer.bytes[..buffer.length], tap.at)?;
                        tap.at += buffer.length as u64;
                    }
                    self.total += buffer.length as u64;
                    self.current = buffer;
                }
                Ok(Err(e)) => return Err(io::Error::other(e)),
                Err(_) => {}
            }
        }
        Ok(&self.current.bytes[self.position..self.current.length])
    }

    fn consume(&mut self, n: usize) {
        self.position = (self.position + n).min(self.current.length);
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
