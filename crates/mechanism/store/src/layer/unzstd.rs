//! zstd undone, with windows whose memory all decoders of the process share.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};
use tare_format::inflate::HISTORY;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// Bytes that are read at once.
const INPUT: usize = 256 << 10;
/// The longest head of a frame (RFC 8878, 3.1.1.1).
const HEAD: usize = 18;
const MAGIC: u32 = 0xfd2f_b528;
/// Bytes of windows that the process holds at once.
const WINDOWS: u64 = 40 << 20;

/// Windows in use, in bytes.
static IN_USE: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to a window of this many bytes.
struct Share(u64);

impl Share {
    /// Waits until there is room. One that is larger than all there may be gets it alone.
    fn of(bytes: u64) -> Share {
        let mut used = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + bytes > WINDOWS {
            used = FREED.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Share(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

/// A stream of zstd frames, skippable ones among them, as one content.
pub(super) struct Unzstd<R> {
    pub(super) source: R,
    input: Box<[u8]>,
    at: usize,
    end: usize,
    ended: bool,
    window_log: u32,
    /// What has the window; before its share, so that its memory is free when the share is.
    context: Option<DCtx<'static>>,
    share: Share,
    inside: bool,
}

impl<R: Read> Unzstd<R> {
    pub(super) fn new(source: R, window_log: u32) -> Self {
        let input = vec![0; INPUT].into();
        Unzstd { source, input, at: 0, end: 0, ended: false, window_log, context: None, share: Share(0), inside: false }
    }

    /// As `tare_format::inflate::Gunzip::fill`.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Range<usize>> {
        let mut filled = HISTORY;
        while filled < buffer.len() {
            if !self.inside {
                self.have(HEAD)?;
                if self.at == self.end {
                    break;
                }
                self.begin()?;
                self.inside = true;
            }
            self.have(1)?;
            let Some(context) = &mut self.context else { break };
            let mut from = InBuffer { src: &self.input[..self.end], pos: self.at };
            let before = filled;
            let mut to = OutBuffer::around_pos(buffer, filled);
            let left = context.decompress_stream(&mut to, &mut from).map_err(|code| damaged(get_error_name(code)))?;
            let (progress, pos) = (from.pos != self.at, from.pos);
            filled = to.pos();
            self.at = pos;
            self.inside = left != 0;
            if self.inside && !progress && filled == before {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed data ends too early"));
            }
        }
        Ok(HISTORY..filled)
    }

    /// Sees to it that the next frame's window fits.
    fn begin(&mut self) -> io::Result<()> {
        let window = window_of(&self.input[self.at..self.end]);
        if window > 1 << self.window_log {
            return Err(damaged(&format!(
                "it needs a window of {} MiB; {} MiB are allowed",
                window >> 20,
                1u64 << self.window_log >> 20
            )));
        }
        if self.context.is_some() && window <= self.share.0 {
            return Ok(());
        }
        // Given up first: two that hold and want more would wait for each other.
        self.context = None;
        self.share = Share(0);
        self.share = Share::of(window);
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context
            .set_parameter(DParameter::WindowLogMax(self.window_log))
            .map_err(|code| damaged(get_error_name(code)))?;
        self.context = Some(context);
        Ok(())
    }

    /// Reads until this many bytes are there, or the source has ended.
    fn have(&mut self, bytes: usize) -> io::Result<()> {
        if self.end - self.at >= bytes || self.ended {
            return Ok(());
        }
        self.input.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < bytes && !self.ended {
            match self.source.read(&mut self.input[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Bytes of the window that a frame asks for; 0 for what is no such frame, which the decoder judges.
fn window_of(head: &[u8]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (Some(magic), Some(&descriptor)) = (head.get(..4), head.get(4)) else { return 0 };
    if number(magic) != u64::from(MAGIC) {
        return 0;
    }
    if descriptor & 0x20 == 0 {
        let byte = head.get(5).copied().unwrap_or(0);
        let base = 1u64 << (10 + (byte >> 3));
        return base + base / 8 * u64::from(byte & 7);
    }
    // All in one segment: the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let content = number(head.get(5 + dictionary..5 + dictionary + size).unwrap_or_default());
    if size == 2 { content + 256 } else { content }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unzstd(data: &[u8], window_log: u32) -> io::Result<Vec<u8>> {
        let mut decoder = Unzstd::new(data, window_log);
        let mut buffer = vec![0; HISTORY + 100_000];
        let mut all = Vec::new();
        loop {
            let new = decoder.fill(&mut buffer)?;
            if new.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&buffer[new]);
        }
    }

    fn packed(data: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        io::copy(&mut &data[..], &mut encoder).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_of_all_kinds_are_one_content() {
        let data: Vec<u8> = (0..1_000_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let mut all = packed(&data, 20);
        // Skippable, empty, in one segment.
        all.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        all.extend(packed(b"", 20));
        all.extend(zstd::bulk::compress(b"short", 3).unwrap());
        all.extend(packed(&data, 22));
        let expected = [&data[..], b"short", &data].concat();
        assert!(unzstd(&all, 25).unwrap() == expected);
        assert_eq!(unzstd(&all[..all.len() - 1], 25).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        all.push(b'x');
        assert!(unzstd(&all, 25).is_err());
        assert!(unzstd(b"", 25).unwrap().is_empty());
    }

    #[test]
    fn windows_beyond_the_limit_are_refused_before_they_are_made() {
        let data = packed(&[7; 1000], 24);
        assert!(unzstd(&data, 24).is_ok());
        let why = unzstd(&data, 23).unwrap_err().to_string();
        assert_eq!(why, "it needs a window of 16 MiB; 8 MiB are allowed");
        // A frame in one segment: 1 GiB of content.
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40];
        assert_eq!(window_of(&head), 1 << 30);
        assert!(unzstd(&head, 25).is_err());
    }

    #[test]
    fn windows_that_grow_in_two_streams_wait_for_each_other_and_no_longer() {
        let grows = |a: u32, b: u32| [packed(&[1; 5000], a), packed(&[2; 5000], b)].concat();
        let (one, two) = (grows(24, 25), grows(24, 25));
        std::thread::scope(|s| {
            for data in [&one, &two, &one, &two] {
                s.spawn(move || assert_eq!(unzstd(data, 25).unwrap().len(), 10_000));
            }
        });
    }
}
