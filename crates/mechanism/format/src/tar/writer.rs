//! Writing: ustar headers, PAX records only for what does not fit; equal entries give equal bytes.

use super::BLOCK;
use super::header::{self, Header, letter, pax_name};
use super::pax::Encoder;
use crate::entry::{Entry, EntryKind};
use crate::layer::show;
use std::io::{self, Write};
use tare_model::{Error, Kind, Result};

/// A tar archive being written: `entry`, then exactly `entry.size` bytes through [`io::Write`], and so on, `finish`.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    remaining: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Starts an archive at the current position of `out`.
    pub fn new(out: W) -> Self {
        Writer { out, remaining: 0, padding: 0 }
    }

    /// Writes an entry's header. A file's whole content must follow, holes as zeros: `entry.sparse` is not looked at.
    /// Directories get a trailing slash; the root (an empty path) is `./`.
    ///
    /// # Errors
    /// `Kind::State` when the previous entry's content is not complete, `Kind::Unsupported` for an attribute name that
    /// tar cannot hold, and what `out` reports.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.end_entry()?;
        let mut path = entry.path.clone();
        if entry.kind == EntryKind::Directory && !path.ends_with(b"/") {
            path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
        }
        let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
        let mut header = Header::zeroed();
        let mut pax = Encoder::default();
        if !header.set_path(&path) {
            header.set_text(header::NAME, &path[..path.len().min(100)]);
            pax.add(b"path", path.as_slice());
        }
        if entry.link.len() > header::LINK.len() {
            pax.add(b"linkpath", entry.link.as_slice());
        }
        header.set_text(header::LINK, &entry.link[..entry.link.len().min(100)]);
        header.set_octal(header::MODE, u64::from(entry.mode & 0o7777));
        for (range, key, value) in [
            (header::UID, b"uid".as_slice(), u64::from(entry.uid)),
            (header::GID, b"gid", u64::from(entry.gid)),
            (header::SIZE, b"size", size),
        ] {
            if !header.set_octal(range.clone(), value) {
                header.set_octal(range, 0);
                pax.add(key, value.to_string());
            }
        }
        let whole = u64::try_from(entry.mtime.secs).unwrap_or(0);
        let fits = header.set_octal(header::MTIME, whole);
        if !fits {
            header.set_octal(header::MTIME, 0);
        }
        if !fits || entry.mtime.secs < 0 || entry.mtime.nanos != 0 {
            pax.add_time(entry.mtime);
        }
        pax.add_xattrs(entry)?;
        let (major, minor) = entry.device;
        if !header.set_octal(header::MAJOR, u64::from(major)) || !header.set_octal(header::MINOR, u64::from(minor)) {
            return Err(Error::new(Kind::Unsupported, "write entry", show(&entry.path))
                .because("its device number does not fit into a tar header"));
        }
        let records = pax.finish();
        if !records.is_empty() {
            self.records(&pax_name(&path), &records)?;
        }
        header.0[header::TYPE] = letter(entry);
        self.block(header)?;
        self.begin_content(size);
        Ok(())
    }

    /// Ends the archive and gives back the output.
    ///
    /// # Errors
    /// `Kind::State` when the last entry's content is not complete, and what `out` reports.
    pub fn finish(mut self) -> Result<W> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK]).map_err(writing)?;
        Ok(self.out)
    }

    fn records(&mut self, name: &[u8], records: &[u8]) -> Result<()> {
        let mut header = Header::zeroed();
        header.set_text(header::NAME, name);
        header.set_octal(header::MODE, 0o644);
        for range in [header::UID, header::GID, header::MTIME, header::MAJOR, header::MINOR] {
            header.set_octal(range, 0);
        }
        header.set_octal(header::SIZE, records.len() as u64);
        header.0[header::TYPE] = b'x';
        self.block(header)?;
        self.begin_content(records.len() as u64);
        self.write_all(records).map_err(writing)?;
        self.end_entry()
    }

    fn block(&mut self, mut header: Header) -> Result<()> {
        header.0[header::MAGIC].copy_from_slice(header::USTAR_MAGIC);
        header.seal();
        self.out.write_all(&header.0).map_err(writing)
    }

    fn begin_content(&mut self, size: u64) {
        self.remaining = size;
        self.padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    }

    fn end_entry(&mut self) -> Result<()> {
        if self.remaining > 0 {
            return Err(Error::new(Kind::State, "write tar archive", "")
                .because(format!("{} bytes of the last file are missing", self.remaining)));
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding]).map_err(writing)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(data.len());
        if n == 0 && !data.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more content than the entry's size"));
        }
        let n = self.out.write(&data[..n])?;
        self.remaining -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn writing(e: io::Error) -> Error {
    Error::io("write tar archive", "", e)
}
