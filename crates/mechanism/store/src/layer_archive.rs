//! The archive of a layer, given out again as it came.

use crate::{Form, Store};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use tare_format::erofs::{ARCHIVE, Reader};
use tare_model::{Context as _, Digest, Result};

/// The tar stream of which the layer's diff ID is the digest, read from its beginning. Not verified on the way.
#[derive(Debug)]
pub struct Archive {
    file: File,
    at: u64,
    end: u64,
}

impl Archive {
    pub(crate) fn new(file: File, at: u64, length: u64) -> Self {
        Archive { file, at, end: at.saturating_add(length) }
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.end - self.at
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if n == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Store {
    /// The archive of an unpacked layer; `None` if it is not there or a tree, which does not hold one.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a damaged image; system calls that fail.
    pub fn archive(&self, diff_id: &Digest) -> Result<Option<Archive>> {
        let Some(placed) = self.placed(diff_id).filter(|p| p.form == Form::Image) else { return Ok(None) };
        let file = File::open(&placed.path).during("open", placed.path.display())?;
        let length = Reader::new(file.try_clone().during("open", placed.path.display())?)
            .during("read layer", diff_id)?
            .archive_size();
        Ok(Some(Archive::new(file, ARCHIVE, length)))
    }
}
