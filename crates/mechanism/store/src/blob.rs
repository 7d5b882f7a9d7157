//! Blobs: content as it came, under its digest.
use crate::Store;
use std::fs::File;
use std::io;
use tare_model::image::Descriptor;
use tare_model::{Digest, Result};

/// A blob being written: hashed on the way, invisible until [`BlobWriter::commit`]. Made by [`crate::Lease::blob`].
pub struct BlobWriter(());

impl BlobWriter {
    /// How many bytes have been written so far.
    pub fn len(&self) -> u64 { todo!() }
    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    /// Syncs the blob and gives it its name; held by the lease from then on. Returns digest and size.
    ///
    /// # Errors
    /// `Kind::Corrupt` if digest or size is not the expected one.
    pub fn commit(self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> { todo!() }
}

impl io::Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { todo!() }
    fn flush(&mut self) -> io::Result<()> { Ok(()) }
}

impl Store {
    /// Whether the blob is there. Hold it with a lease first if it matters that it stays.
    pub fn has_blob(&self, digest: &Digest) -> bool { todo!() }
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> { todo!() }
    /// The whole blob, verified; refuses more than `max` bytes.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Corrupt` if its content has another digest; `Kind::Exhausted` beyond `max`.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> { todo!() }
}
