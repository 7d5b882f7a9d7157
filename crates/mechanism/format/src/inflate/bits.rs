//! The input: bits out of bytes, lowest first.

use std::io::{self, Read};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;
/// Zeros behind the last byte, so that looking ahead needs no check: more than a block's header takes.
pub(super) const PADDING: usize = 1024;

/// Bytes of a reader, and the bits that were taken out of them.
pub(super) struct Input<R> {
    pub(super) source: R,
    pub(super) buffer: Box<[u8]>,
    /// The next byte that is not in `bits`.
    pub(super) at: usize,
    /// The end of what was read.
    pub(super) end: usize,
    /// Whether the source has ended.
    pub(super) ended: bool,
    /// Bits that come next, lowest first; those above `count` are either those that follow or zeros.
    pub(super) bits: u64,
    pub(super) count: u32,
}

/// Eight bytes from `at` on.
#[inline(always)]
pub(super) fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        let buffer = vec![0; BUFFER + PADDING].into();
        Input { source, buffer, at: 0, end: 0, ended: false, bits: 0, count: 0 }
    }

    /// Sees to it that `bytes` (at most [`PADDING`]) can be looked at; behind the source's end there are zeros.
    pub(super) fn ensure(&mut self, bytes: usize) -> io::Result<()> {
        if self.end - self.at.min(self.end) >= bytes || self.ended {
            return Ok(());
        }
        self.give_back();
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < bytes && !self.ended {
            match self.source.read(&mut self.buffer[self.end..BUFFER]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer[self.end..self.end + PADDING].fill(0);
        Ok(())
    }

    /// Whole bytes that were taken ahead go back.
    fn give_back(&mut self) {
        self.at -= (self.count / 8) as usize;
        self.count %= 8;
        self.bits &= (1 << self.count) - 1;
    }

    /// Goes on at the next whole byte.
    pub(super) fn align(&mut self) {
        self.give_back();
        (self.bits, self.count) = (0, 0);
    }

    /// Sees to it that at least 56 bits are there. `ensure` has been asked for the bytes.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        self.bits |= eight(&self.buffer, self.at) << self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    /// Takes `n` bits, of those that are there.
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        let value = self.bits & ((1 << n) - 1);
        self.bits >>= n;
        self.count -= n;
        // At most 16 bits are asked for.
        value as u32
    }

    /// Fails if more has been taken than there is.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.at * 8 > self.end * 8 + self.count as usize {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed data ends too early"));
        }
        Ok(())
    }

    /// One byte, after [`align`](Input::align).
    pub(super) fn byte(&mut self) -> io::Result<u8> {
        self.ensure(1)?;
        self.at += 1;
        self.check()?;
        Ok(self.buffer[self.at - 1])
    }

    /// Whether nothing follows; after [`align`](Input::align).
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        self.ensure(1)?;
        Ok(self.at >= self.end)
    }
}
