//! Reading: one entry after another, content as a stream, nothing kept.

use super::BLOCK;
use super::header::{self, Header, invalid};
use super::pax::Records;
use super::sparse::{self, TextMap};
use crate::entry::{Entry, EntryKind, Extent, Time};
use crate::layer::show;
use std::io::{self, BufRead, Read};
use tare_model::{Error, Kind, Result};

/// How much an archive may make its reader remember.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all extended headers and long names of one entry (1 MiB).
    pub extended: u64,
    /// Pieces of one sparse file (65,536).
    pub extents: usize,
    /// Extended headers in a row before an entry (64).
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { extended: 1 << 20, extents: 1 << 16, headers: 64 }
    }
}

/// A tar archive being read. `next` gives the entries in order, [`content`](Reader::content) the bytes of the current
/// one; what was not read of it is skipped. After the end, `into_inner` gives back the source, which may hold more.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Stored bytes of the current entry that were not read yet, and the zeros that fill its last block.
    remaining: u64,
    padding: u64,
    global: Records,
    done: bool,
    /// Bytes taken from the source.
    position: u64,
}

impl<R: BufRead> Reader<R> {
    /// Starts reading at the archive's first byte.
    pub fn new(source: R, limits: Limits) -> Self {
        Reader { source, limits, remaining: 0, padding: 0, global: Records::default(), done: false, position: 0 }
    }

    /// The next entry, or `None` at the end: two blocks of zeros, or the end of the source.
    ///
    /// # Errors
    /// `Kind::Corrupt` for damage or a source that ends too early, `Kind::Invalid` for fields without sense or beyond the
    /// limits, `Kind::Unsupported` for entry types that are not known, and what the source reports.
    #[expect(clippy::should_implement_trait, reason = "an iterator's items could not lend the content")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut records = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut budget = self.limits.extended;
        for _ in 0..=self.limits.headers {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.0[header::TYPE] {
                b'x' => {
                    let text = self.extended(&header, &mut budget)?;
                    records.read(&text, self.limits.extents)?;
                }
                b'g' => {
                    let text = self.extended(&header, &mut budget)?;
                    self.global.read_global(&text, self.limits.extents)?;
                    records = self.global.clone();
                }
                b'L' => long_name = Some(header::until_nul(&self.extended(&header, &mut budget)?).to_vec()),
                b'K' => long_link = Some(header::until_nul(&self.extended(&header, &mut budget)?).to_vec()),
                // A volume's label is no file.
                b'V' => self.begin_content(header.size()?),
                _ => return self.entry(&header, records, long_name, long_link).map(Some),
            }
        }
        Err(invalid("too many extended headers in a row"))
    }

    /// The stored bytes of the current entry: its content, or a sparse file's pieces one after another.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// Bytes from the archive's first one to what is read next: after [`Reader::next`], to the entry's content.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The source, positioned after what was read so far.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn entry(
        &mut self,
        header: &Header,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = [records.sparse.name.clone(), long_name, records.path.clone()].into_iter().flatten().next();
        let path = path.unwrap_or_else(|| header.path());
        let kind = header.kind(&path)?;
        let at = |e: Error| e.during("read tar entry", show(&path));
        let id = |pax: Option<i64>, field| -> Result<u32> {
            let n = pax.map_or_else(|| header.number(field), Ok)?;
            // -1 means "leave as it is" to chown(2).
            u32::try_from(n).ok().filter(|&n| n != u32::MAX).ok_or_else(|| invalid("an owner beyond 32 bits"))
        };
        let device = |field| -> Result<u32> {
            u32::try_from(header.number(field)?).map_err(|_| invalid("a device number beyond 32 bits"))
        };
        let mut entry = Entry::new(Vec::new(), kind);
        entry.mode = u32::try_from(header.number(header::MODE).map_err(at)? & 0o7777).unwrap_or(0);
        entry.uid = id(records.uid, header::UID).map_err(at)?;
        entry.gid = id(records.gid, header::GID).map_err(at)?;
        entry.mtime = match records.mtime {
            Some(t) => t,
            None => Time { secs: header.number(header::MTIME).map_err(at)?, nanos: 0 },
        };
        match kind {
            EntryKind::Symlink | EntryKind::Hardlink => {
                entry.link = long_link.or(records.link.clone()).unwrap_or_else(|| header.text(header::LINK).to_vec());
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                entry.device = (device(header::MAJOR).map_err(at)?, device(header::MINOR).map_err(at)?);
            }
            _ => {}
        }
        // Links, devices and directories carry no content whatever their size says, but for GNU's list of a directory.
        let stored = match (kind, header.0[header::TYPE]) {
            (EntryKind::File, _) | (_, b'D') => records.size.map_or_else(|| header.size(), Ok).map_err(at)?,
            _ => 0,
        };
        self.begin_content(stored);
        if kind == EntryKind::File {
            entry.size = stored;
            if let Some((extents, size)) = self.sparse_map(header, &records).map_err(at)? {
                entry.sparse = Some(sparse::check(extents, size, self.remaining).map_err(at)?);
                entry.size = size;
            }
        }
        entry.xattrs = last_of_each(records.xattrs);
        entry.path = path;
        Ok(entry)
    }

    /// The pieces and the real size, if the entry is sparse in any of the four ways.
    fn sparse_map(&mut self, header: &Header, records: &Records) -> Result<Option<(Vec<Extent>, u64)>> {
        let limit = self.limits.extents;
        if header.0[header::TYPE] == b'S' && header.is_gnu() {
            let mut extents = Vec::new();
            sparse::gnu_pairs(header.field(header::GNU_SPARSE), &mut extents, limit)?;
            let mut more = header.0[header::GNU_EXTENDED] != 0;
            while more {
                let block = self.block()?.ok_or_else(truncated)?;
                sparse::gnu_pairs(&block[..504], &mut extents, limit)?;
                // Blocks whose pairs are all unused would not run into the limit.
                more = block[504] != 0 && block[0] != 0;
            }
            return Ok(Some((extents, sparse::gnu_real_size(header)?)));
        }
        let s = &records.sparse;
        if s.major == Some(1) && s.minor.unwrap_or(0) == 0 {
            let size = s.real_size.ok_or_else(|| invalid("a sparse file without a size"))?;
            let mut map = TextMap::default();
            loop {
                if self.remaining < BLOCK as u64 {
                    return Err(invalid("an incomplete sparse map"));
                }
                let block = self.block()?.ok_or_else(truncated)?;
                self.remaining -= BLOCK as u64;
                if map.feed(&block, limit)? {
                    return Ok(Some((map.finish(limit)?, size)));
                }
            }
        }
        match (&s.numbers, s.real_size) {
            (Some(numbers), Some(size)) => Ok(Some((sparse::from_numbers(numbers, limit)?, size))),
            (None, None) => Ok(None),
            _ if s.major.is_some_and(|m| m > 1) => Err(invalid("a sparse file of an unknown version")),
            _ => Err(invalid("an incomplete sparse map")),
        }
    }

    /// The content of an extended header or long name.
    fn extended(&mut self, header: &Header, budget: &mut u64) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > *budget {
            return Err(Error::new(Kind::Invalid, "read tar header", "").because(format!(
                "an extended header of {size} bytes: the limit is {} for all of an entry",
                self.limits.extended
            )));
        }
        *budget -= size;
        self.begin_content(size);
        let mut text = Vec::new();
        self.content().read_to_end(&mut text).map_err(|e| reading(&e))?;
        Ok(text)
    }

    fn begin_content(&mut self, stored: u64) {
        self.remaining = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut rest = u128::from(self.remaining) + u128::from(self.padding);
        (self.remaining, self.padding) = (0, 0);
        while rest > 0 {
            let available = self.source.fill_buf().map_err(|e| reading(&e))?.len();
            if available == 0 {
                return Err(truncated());
            }
            let n = usize::try_from(rest).unwrap_or(usize::MAX).min(available);
            self.source.consume(n);
            self.position += n as u64;
            rest -= n as u128;
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        if self.done {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.done = true;
            return Ok(None);
        };
        let header = Header(block);
        if !header.is_zero() {
            header.verify()?;
            return Ok(Some(header));
        }
        self.done = true;
        match self.block()? {
            Some(second) if !Header(second).is_zero() => {
                Err(Error::new(Kind::Corrupt, "read tar header", "").because("a block of zeros between two entries"))
            }
            _ => Ok(None),
        }
    }

    /// 512 bytes; `None` at the end of the source.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(n) => {
                    filled += n;
                    self.position += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(reading(&e)),
            }
        }
        Ok(Some(block))
    }
}

/// The bytes of one entry; an early end of the source is an `UnexpectedEof`.
#[derive(Debug)]
pub struct Content<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> BufRead for Content<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.reader.source.fill_buf()?;
        if available.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside of a file"));
        }
        let n = usize::try_from(self.reader.remaining).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..n])
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(usize::try_from(self.reader.remaining).unwrap_or(usize::MAX));
        self.reader.remaining -= n as u64;
        self.reader.position += n as u64;
        self.reader.source.consume(n);
    }
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

fn truncated() -> Error {
    Error::new(Kind::Corrupt, "read tar archive", "").because("it ends too early")
}

/// Sorted by name; of several with the same name the last.
fn last_of_each(mut xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    xattrs.reverse();
    xattrs.sort_by(|a, b| a.0.cmp(&b.0));
    xattrs.dedup_by(|later, first| later.0 == first.0);
    xattrs
}

/// A failure of the source: an error of ours that travelled inside an `io::Error` comes out again.
fn reading(e: &io::Error) -> Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => {
            let copy = e.raw_os_error().map(io::Error::from_raw_os_error);
            Error::io("read tar archive", "", copy.unwrap_or_else(|| io::Error::new(e.kind(), e.to_string())))
        }
    }
}
