//! From a blob's bytes to the archive's, whatever is between them.

use super::node::from_reader;
use super::unzstd::Unzstd;
use std::io::{self, Read};
use std::ops::Range;
use tare_format::inflate::{Gunzip, SLACK};
use tare_model::image::Compression;
use tare_model::{Error, Kind};

use tare_format::inflate::HISTORY;

/// Bytes of content in one buffer: large, because each hand-over may cost a wake-up.
const CONTENT: usize = 512 << 10;
/// Length of the buffers that are filled.
pub(super) const BUFFER: usize = HISTORY + CONTENT + SLACK;

/// Decompresses a blob into buffers.
pub(super) enum Decompress<B> {
    None(Counted<B>),
    Gzip(Box<Gunzip<Counted<B>>>),
    Zstd(Unzstd<Counted<B>>),
}

impl<B: Read> Decompress<B> {
    pub(super) fn new(blob: B, compression: Compression, zstd_window_log: u32) -> Self {
        let counted = Counted { blob, read: 0, failure: None };
        match compression {
            Compression::None => Decompress::None(counted),
            Compression::Gzip => Decompress::Gzip(Box::new(Gunzip::new(counted))),
            Compression::Zstd => Decompress::Zstd(Unzstd::new(counted, zstd_window_log)),
        }
    }

    /// Fills a buffer of [`BUFFER`] bytes and says which of them are new; none at the end, when the blob has been read to its own.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<Range<usize>, Error> {
        let filled = match self {
            Decompress::None(input) => fill(input, &mut buffer[HISTORY..]).map(|n| HISTORY..HISTORY + n),
            Decompress::Gzip(gunzip) => gunzip.fill(buffer),
            Decompress::Zstd(unzstd) => unzstd.fill(buffer),
        };
        filled.map_err(|e| match self.input().failure.take() {
            Some(failure) => failure,
            None => Error::new(Kind::Corrupt, "decompress layer", "").because(e),
        })
    }

    /// Bytes of the blob that were read.
    pub(super) fn read(&mut self) -> u64 {
        self.input().read
    }

    fn input(&mut self) -> &mut Counted<B> {
        match self {
            Decompress::None(input) => input,
            Decompress::Gzip(gunzip) => gunzip.get_mut(),
            Decompress::Zstd(unzstd) => &mut unzstd.source,
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

/// The blob, with the number of bytes read from it and its failure, which a decoder would report as its own.
pub(super) struct Counted<B> {
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
