//! Records of one log file: `<time> stdout|stderr F|P <text>`, found from any place in the file.

use crate::view::LogLine;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use tare_model::{Error, Result};

/// Bytes read at once. A record is at most 16 KiB of text and its head.
const BLOCK: usize = 64 << 10;
/// A range this small is searched line by line.
const SMALL: u64 = 2 * BLOCK as u64;

/// Reads a record without its line end; `None` for what is none.
pub(super) fn parse(record: &[u8]) -> Option<LogLine> {
    let mut parts = record.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.to_owned();
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let whole = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let mut text = parts.next()?.to_vec();
    if whole {
        text.push(b'\n');
    }
    Some(LogLine { time, stderr, text })
}

/// A part of a log file, read forwards from its start.
#[derive(Debug)]
pub(super) struct Span {
    file: File,
    inode: (u64, u64),
    /// Where reading goes on; always at the start of a record.
    start: u64,
    /// Where searching ends: behind the last whole record when it was opened, or earlier. Reading goes beyond.
    end: u64,
    /// Bytes from `start` on that are read already.
    buffer: Vec<u8>,
    used: usize,
}

/// Errors of reading, worded once.
pub(super) trait State<T> {
    fn read_log(self) -> Result<T>;
}

impl<T> State<T> for std::io::Result<T> {
    fn read_log(self) -> Result<T> {
        self.map_err(|e| Error::io("read", "log", e))
    }
}

impl Span {
    pub(super) fn new(file: File) -> Result<Span> {
        let meta = file.metadata().read_log()?;
        let mut span =
            Span { file, inode: (meta.dev(), meta.ino()), start: 0, end: meta.len(), buffer: Vec::new(), used: 0 };
        // A record that is being written just now is not there yet.
        span.end = span.start_of_last(meta.len())?;
        Ok(span)
    }

    pub(super) fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// Whether there was something between start and end when it was opened.
    pub(super) fn has_any(&self) -> bool {
        self.start < self.end
    }

    /// The next whole record without its line end; `None` at what is now the file's end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(n) = self.buffer[self.used..].iter().position(|b| *b == b'\n') {
                let record = self.buffer[self.used..self.used + n].to_vec();
                self.used += n + 1;
                return Ok(Some(record));
            }
            self.start += self.used as u64;
            self.buffer.drain(..self.used);
            self.used = 0;
            let have = self.buffer.len();
            self.buffer.resize(have + BLOCK, 0);
            let n = self.file.read_at(&mut self.buffer[have..], self.start + have as u64).read_log()?;
            self.buffer.truncate(have + n);
            if n == 0 {
                return Ok(None);
            }
        }
    }

    /// Begins at the first record whose time does not satisfy `before`, which holds for all records up to some point.
    pub(super) fn skip_while(&mut self, before: impl Fn(&[u8]) -> bool) -> Result<()> {
        self.start = self.first_after(before)?;
        Ok(())
    }

    /// Ends, for [`tail_start`], before the first record whose time does not satisfy `before`.
    pub(super) fn end_where(&mut self, before: impl Fn(&[u8]) -> bool) -> Result<()> {
        self.end = self.first_after(before)?;
        Ok(())
    }

    fn first_after(&self, before: impl Fn(&[u8]) -> bool) -> Result<u64> {
        let (mut low, mut high) = (self.start, self.end);
        while high - low > SMALL {
            let middle = low + (high - low) / 2;
            let block = self.block(middle, high)?;
            let Some(line_end) = block.iter().position(|b| *b == b'\n') else { break };
            let record = &block[line_end + 1..];
            let at = middle + line_end as u64 + 1;
            if at >= high {
                break;
            }
            if before(time_of(record)) { low = at } else { high = at }
        }
        // Line by line from here.
        while low < high {
            let block = self.block(low, high)?;
            let mut rest = &block[..];
            while let Some(line_end) = rest.iter().position(|b| *b == b'\n') {
                if !before(time_of(rest)) {
                    return Ok(low);
                }
                low += line_end as u64 + 1;
                rest = &rest[line_end + 1..];
            }
            if rest.len() == block.len() {
                // No line end in a whole block: not a log of ours.
                return Ok(high);
            }
        }
        Ok(high)
    }

    fn block(&self, at: u64, end: u64) -> Result<Vec<u8>> {
        let mut block = vec![0; usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK)];
        let mut have = 0;
        while have < block.len() {
            match self.file.read_at(&mut block[have..], at + have as u64).read_log()? {
                0 => break,
                n => have += n,
            }
        }
        block.truncate(have);
        Ok(block)
    }

    /// The start of a last record without line end; `end` if there is none.
    fn start_of_last(&self, end: u64) -> Result<u64> {
        let from = end.saturating_sub(BLOCK as u64);
        let block = self.block(from, end)?;
        let behind = block.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        Ok(from + behind as u64)
    }
}

fn time_of(record: &[u8]) -> &[u8] {
    let end = record.iter().position(|b| *b == b' ').unwrap_or(record.len());
    &record[..end]
}

/// Makes the last `lines` lines of all spans together the ones to read, and says in which span they begin. Reads no more
/// of the files than these lines.
pub(super) fn tail_start(spans: &mut [Span], lines: usize) -> Result<usize> {
    let mut counter = Counter { left: lines, open: [false; 2] };
    for (i, span) in spans.iter_mut().enumerate().rev() {
        if let Some(at) = span.walk_back(&mut counter)? {
            span.start = at;
            return Ok(i);
        }
    }
    Ok(0)
}

/// Counts lines from the end: one may be in pieces, and the two streams' pieces interleave.
struct Counter {
    left: usize,
    /// For each stream, whether the line to which earlier pieces belong is counted already.
    open: [bool; 2],
}

impl Counter {
    /// Whether this record, met on the way back, still belongs to the wanted lines.
    fn takes(&mut self, record: &[u8]) -> bool {
        let Some(line) = parse(record) else { return true };
        let ends = line.text.last() == Some(&b'\n');
        let open = &mut self.open[usize::from(line.stderr)];
        if ends || !*open {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            *open = true;
        }
        true
    }
}

impl Span {
    /// Walks back from the end; where the wanted records begin, if it is within this span.
    fn walk_back(&self, counter: &mut Counter) -> Result<Option<u64>> {
        let mut position = self.end;
        // Bytes from `position` to the start of the last record that was taken.
        let mut buffer: Vec<u8> = Vec::new();
        let mut taken = self.end;
        loop {
            // The record that ends at `taken`: behind the line end before its own.
            let body = &buffer[..buffer.len().saturating_sub(1)];
            let record_start = match body.iter().rposition(|b| *b == b'\n') {
                Some(n) => n + 1,
                None if position <= self.start => 0,
                None => {
                    let from = position.saturating_sub(BLOCK as u64).max(self.start);
                    let mut block = self.block(from, position)?;
                    block.append(&mut buffer);
                    buffer = block;
                    position = from;
                    continue;
                }
            };
            if buffer.is_empty() {
                return Ok(None);
            }
            if !counter.takes(&body[record_start..]) {
                return Ok(Some(taken));
            }
            taken = position + record_start as u64;
            buffer.truncate(record_start);
        }
    }
}
