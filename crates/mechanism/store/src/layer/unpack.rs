//! The pipeline from compressed bytes to a sink.

use super::Lowers;
use super::sink::LayerSink;
use rustix::fd::BorrowedFd;
use std::io::Read;
use tare_model::image::Compression;
use tare_model::{Digest, Result};

/// How much a layer may cost, against bombs.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Bytes of the tar stream, and of all files with their holes (256 GiB each).
    pub total: u64,
    /// Bytes out per byte in (1,000; deflate's own bound is 1,032), looked at once `ratio_from` bytes are out.
    pub ratio: u64,
    /// See `ratio` (1 GiB).
    pub ratio_from: u64,
    /// Entries (16 million).
    pub entries: u64,
    /// Largest window of zstd as a power of two (27: 128 MiB, what `zstd` itself accepts).
    pub zstd_window_log: u32,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        UnpackLimits { total: 256 << 30, ratio: 1000, ratio_from: 1 << 30, entries: 16 << 20, zstd_window_log: 27 }
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
    let _ = (blob, compression, limits, sink);
    todo!()
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
    let _ = (fs, blob, compression, expected, lower, limits);
    todo!()
}
