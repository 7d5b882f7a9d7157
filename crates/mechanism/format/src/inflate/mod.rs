//! gzip (RFC 1952) undone: the decoder that layers are unpacked with.
//!
//! Most layers are gzip, and inflating is most of what unpacking one costs. This decoder is made for that one job: long streams,
//! from a reader that may wait for a network, into large buffers that go from thread to thread. What makes it fast:
//!
//! ```text
//! buffer:   | the 32 KiB before | room for what comes            | slack |
//!                                 ^ HISTORY                        no check for the end inside of a symbol
//! ```
//!
//! - Matches are copied within the one buffer; only its last 32 KiB are carried over to the next one.
//! - Bits are taken eight bytes at a time; one look at a table gives up to two literals, or all of a length.
//! - Bytes behind the end of the input are zeros, so that its end is looked at once for each piece of it.
//!
//! Invariants: no more than one buffer of input and the tables is held; damaged or hostile input gives an error and never a panic;
//! what comes out has been checked against the member's CRC-32 and length by the time that the end is told.

mod bits;
mod blocks;
#[cfg(test)]
mod fuzz;
mod table;
#[cfg(test)]
mod tests;

use bits::Input;
use blocks::Decoder;
use std::io::{self, Read};
use std::ops::Range;

/// Bytes at the start of each buffer that are kept for what was before it.
pub const HISTORY: usize = 32 << 10;
/// Bytes at the end of each buffer that are written to, but hold nothing between calls.
pub const SLACK: usize = 512;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

/// A stream of gzip members, one after another, as one content.
pub struct Gunzip<R> {
    input: Input<R>,
    decoder: Decoder,
    state: State,
    /// The last bytes of this member that were handed out, at the end of the array.
    history: Box<[u8]>,
    /// How many of them there are.
    known: usize,
    crc: crc32fast::Hasher,
    /// Bytes of this member, modulo 2^32.
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first member.
    Begin,
    /// Inside of a member.
    Member,
    /// After a member's last block.
    Trailer,
    End,
}

impl<R> std::fmt::Debug for Gunzip<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gunzip").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<R: Read> Gunzip<R> {
    /// Reads from `source` to its end.
    pub fn new(source: R) -> Self {
        Gunzip {
            input: Input::new(source),
            decoder: Decoder::default(),
            state: State::Begin,
            history: vec![0; HISTORY].into(),
            known: 0,
            crc: crc32fast::Hasher::new(),
            length: 0,
        }
    }

    /// The source.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.input.source
    }

    /// Decodes into `buffer` until it is full, and says which bytes of it are new: they begin at [`HISTORY`]. Empty at the end of
    /// the stream. What else the buffer holds does not matter.
    ///
    /// # Errors
    /// `InvalidData` for what is not gzip or damaged, `UnexpectedEof` for what ends too early, and what the source reports. The
    /// decoder is of no further use then.
    ///
    /// # Panics
    /// With a buffer that is not longer than [`HISTORY`] and [`SLACK`] together.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Range<usize>> {
        let end = buffer.len() - SLACK;
        assert!(end > HISTORY, "the buffer has no room");
        buffer[..HISTORY].copy_from_slice(&self.history);
        let mut at = HISTORY;
        // Bytes of the member before are of no use to the next one.
        let mut floor = HISTORY - self.known;
        let mut counted = at;
        while at < end {
            match self.state {
                State::Begin => {
                    self.header()?;
                    self.state = State::Member;
                    (self.crc, self.length, floor) = (crc32fast::Hasher::new(), 0, at);
                }
                State::Member => {
                    let over = self.decoder.run(&mut self.input, buffer, &mut at, end, floor);
                    // Zeros behind an end that comes too early may look like any damage.
                    self.input.check()?;
                    if over? {
                        self.state = State::Trailer;
                    }
                }
                State::Trailer => {
                    self.count(&buffer[counted..at]);
                    counted = at;
                    self.trailer()?;
                    self.state = if self.input.is_at_end()? { State::End } else { State::Begin };
                }
                State::End => break,
            }
        }
        self.count(&buffer[counted..at]);
        let from = at - HISTORY;
        self.history.copy_from_slice(&buffer[from..at]);
        self.known = (at - floor).min(HISTORY);
        Ok(HISTORY..at)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        // Modulo 2^32, as the trailer has it.
        self.length = self.length.wrapping_add(bytes.len() as u32);
    }

    fn header(&mut self) -> io::Result<()> {
        let mut fixed = [0; 10];
        for byte in &mut fixed {
            *byte = self.input.byte()?;
        }
        let [m0, m1, method, flags, ..] = fixed;
        if [m0, m1] != MAGIC || method != DEFLATE {
            return Err(damaged("this is not gzip"));
        }
        if flags & FEXTRA != 0 {
            let length = u16::from_le_bytes([self.input.byte()?, self.input.byte()?]);
            for _ in 0..length {
                self.input.byte()?;
            }
        }
        for flag in [FNAME, FCOMMENT] {
            if flags & flag != 0 {
                while self.input.byte()? != 0 {}
            }
        }
        if flags & FHCRC != 0 {
            self.input.byte()?;
            self.input.byte()?;
        }
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        for byte in &mut trailer {
            *byte = self.input.byte()?;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3] = trailer;
        let crc = std::mem::take(&mut self.crc).finalize();
        if u32::from_le_bytes([c0, c1, c2, c3]) != crc || u32::from_le_bytes([l0, l1, l2, l3]) != self.length {
            return Err(damaged("its checksum is not that of its content"));
        }
        Ok(())
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
