//! Blobs: content as it came, under its digest.

use crate::{Lease, Store};
use sha2::Digest as _;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use tare_model::image::Descriptor;
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// Counts and hashes what is written to it.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    hash: sha2::Sha256,
    len: u64,
}

impl Hasher {
    /// The digest and the number of bytes.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.finalize().into()), self.len)
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob being written: hashed on the way, invisible until [`BlobWriter::commit`]. Made by [`Lease::blob`].
/// Dropped without that, it goes with its lease.
pub struct BlobWriter {
    lease: Lease,
    path: PathBuf,
    file: File,
    hash: Hasher,
}

impl BlobWriter {
    pub(crate) fn new(lease: &Lease) -> Result<Self> {
        let path = lease.fresh_path("b");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.during("create", path.display())?;
        Ok(BlobWriter { lease: lease.clone(), path, file, hash: Hasher::default() })
    }

    /// A blob in a file of its own, which may hold the beginning of it already; more than `size` bytes are no beginning.
    pub(crate) fn go_on(lease: &Lease, path: PathBuf, size: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.during("create", path.display())?;
        if file.metadata().during("look at", path.display())?.len() > size {
            file.set_len(0).during("empty", path.display())?;
        }
        Ok(BlobWriter { lease: lease.clone(), path, file, hash: Hasher::default() })
    }

    /// Reads what the file held already, as if it were written now, and hands it on. To be asked before anything is written.
    ///
    /// # Errors
    /// System calls that fail; what `each` gives.
    pub fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = self.file.read(&mut buffer).during("read", self.path.display())?;
            if n == 0 {
                return Ok(());
            }
            self.hash.write_all(&buffer[..n]).during("hash", self.path.display())?;
            each(&buffer[..n])?;
        }
    }

    /// How many bytes have been written so far.
    pub fn len(&self) -> u64 {
        self.hash.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.hash.len == 0
    }

    /// Syncs the blob and gives it its name; held by the lease from then on. Returns digest and size.
    ///
    /// # Errors
    /// `Kind::Corrupt` if digest or size is not the expected one; system calls that fail.
    pub fn commit(self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let (digest, len) = self.hash.finish();
        if let Some(want) = expected {
            check(want, digest, len).inspect_err(|_| drop(std::fs::remove_file(&self.path)))?;
        }
        self.file.sync_data().during("sync", self.path.display())?;
        // Held before it is there, or a collection in between would take it.
        self.lease.hold(&[digest])?;
        let to = self.lease.store().blob_path(&digest);
        // Over one that is there already: the same content, or repaired.
        std::fs::rename(&self.path, &to).during("rename", to.display())?;
        Ok((digest, len))
    }
}

fn check(want: &Descriptor, digest: Digest, len: u64) -> Result<()> {
    let bad = |why: String| Err(Error::new(Kind::Corrupt, "verify blob", want.digest).because(why));
    if len != want.size {
        return bad(format!("{len} bytes came instead of {}", want.size));
    }
    if digest != want.digest {
        return bad(format!("its content has the digest {digest}"));
    }
    Ok(())
}

impl io::Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.write_all(&bytes[..n])?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter").field("path", &self.path).field("len", &self.hash.len).finish_non_exhaustive()
    }
}

impl Lease {
    /// A new blob.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn blob(&self) -> Result<BlobWriter> {
        BlobWriter::new(self)
    }

    /// Writes a whole small blob; nothing is written if it is there.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.hold(&[digest])?;
        if self.store().read_blob(&digest, bytes.len() as u64).is_ok() {
            return Ok(digest);
        }
        let mut blob = self.blob()?;
        blob.write_all(bytes).during("write blob", digest)?;
        Ok(blob.commit(None)?.0)
    }
}

impl Store {
    /// Whether the blob is there. Hold it with a lease first if it matters that it stays.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Opens a blob for reading. Its content is not verified again.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.blob_path(digest)).during("open blob", digest)
    }

    /// The whole blob, verified; refuses more than `max` bytes.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Corrupt` if its content has another digest; `Kind::Exhausted` beyond `max`.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open_blob(digest)?.take(max.saturating_add(1)).read_to_end(&mut bytes);
        if read.during("read blob", digest)? as u64 > max {
            return Err(Error::new(Kind::Exhausted, "read blob", digest).because(format!("more than {max} bytes")));
        }
        if Digest::of(&bytes) != *digest {
            return Err(Error::new(Kind::Corrupt, "read blob", digest)
                .because("its content on disk has another digest")
                .hint("remove the image with `tare rmi --force` and pull it again"));
        }
        Ok(bytes)
    }
}
