//! Deflate's blocks.

use super::bits::{Input, eight};
use super::damaged;
use super::table::{FURTHER, LITERAL, LONG, NONE, SHORT, STOP, TWO, Table, literal, number};
use std::io::{self, Read};

/// The most bytes that a block's header takes, generously.
const HEADER: usize = 768;
/// Bytes that one round of the inner loop may look at.
const AHEAD: usize = 24;
/// The order in which a block's header has the lengths of the codes for code lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// What is known between two calls.
#[derive(Default)]
pub(super) struct Decoder {
    block: Block,
    last: bool,
    long: Table<4096>,
    short: Table<512>,
}

#[derive(Clone, Copy, Default)]
enum Block {
    /// Between two blocks.
    #[default]
    None,
    /// So many bytes are still to come as they are.
    Stored(usize),
    Coded,
}

impl Decoder {
    /// Decodes into `out` from `at` on, until `end` is reached (and maybe passed by less than [`super::SLACK`] bytes), or the last
    /// block has ended: then true. Bytes before `floor` are not the stream's.
    pub(super) fn run<R: Read>(
        &mut self,
        input: &mut Input<R>,
        out: &mut [u8],
        at: &mut usize,
        end: usize,
        floor: usize,
    ) -> io::Result<bool> {
        while *at < end {
            let over = match self.block {
                Block::None if self.last => {
                    self.last = false;
                    input.align();
                    return Ok(true);
                }
                Block::None => {
                    self.begin(input)?;
                    false
                }
                Block::Stored(left) => {
                    let n = stored(input, &mut out[*at..end], left)?;
                    *at += n;
                    self.block = Block::Stored(left - n);
                    left == n
                }
                Block::Coded => {
                    input.ensure(HEADER)?;
                    let over = self.coded(input, out, at, end, floor)?;
                    // Behind the end there are zeros for ever.
                    input.check()?;
                    over
                }
            };
            if over {
                self.block = Block::None;
            }
        }
        Ok(false)
    }

    fn begin<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<()> {
        input.ensure(HEADER)?;
        input.refill();
        self.last = input.take(1) == 1;
        self.block = match input.take(2) {
            0 => {
                input.align();
                input.refill();
                let (length, complement) = (input.take(16), input.take(16));
                input.align();
                if length ^ complement != 0xffff {
                    return Err(damaged("a stored block has two lengths"));
                }
                Block::Stored(length as usize)
            }
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                self.tables(&lengths, &[5; 32])?;
                Block::Coded
            }
            2 => {
                self.dynamic(input)?;
                Block::Coded
            }
            _ => return Err(damaged("a block of an unknown kind")),
        };
        input.check()
    }

    fn dynamic<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<()> {
        let literals = input.take(5) as usize + 257;
        let distances = input.take(5) as usize + 1;
        let count = input.take(4) as usize + 4;
        if literals > 286 {
            return Err(damaged("too many codes"));
        }
        let mut lengths = [0u8; 19];
        for place in &ORDER[..count] {
            input.refill();
            // At most seven.
            lengths[*place] = input.take(3) as u8;
        }
        let mut table = Table::<128>::default();
        table.build(7, &lengths, |symbol| literal(symbol as u8)).map_err(|_| damaged("no prefix code"))?;
        let mut all = [0u8; 286 + 32];
        let mut at = 0;
        let wanted = literals + distances;
        while at < wanted {
            input.refill();
            let entry = table.at(input.bits & 0x7f);
            if entry & NONE != 0 {
                return Err(damaged("a code that does not exist"));
            }
            input.take(entry & 0xff);
            let symbol = (entry >> 8) as u8;
            let (value, times) = match symbol {
                0..=15 => (symbol, 1),
                16 if at == 0 => return Err(damaged("nothing is there to be repeated")),
                16 => (all[at - 1], 3 + input.take(2) as usize),
                17 => (0, 3 + input.take(3) as usize),
                _ => (0, 11 + input.take(7) as usize),
            };
            if at + times > wanted {
                return Err(damaged("more code lengths than announced"));
            }
            all[at..at + times].fill(value);
            at += times;
        }
        if all[256] == 0 {
            return Err(damaged("a block without an end"));
        }
        let (long, short) = all[..wanted].split_at(literals);
        self.tables(long, short)
    }

    fn tables(&mut self, long: &[u8], short: &[u8]) -> io::Result<()> {
        let meaning = |symbol: usize| match symbol {
            // Below 256.
            0..256 => literal(symbol as u8),
            256 => STOP,
            _ => LENGTHS.get(symbol - 257).map_or(NONE, |&(base, addend)| number(base, addend)),
        };
        self.long.build(LONG, long, meaning).map_err(|_| damaged("no prefix code"))?;
        self.long.pair(LONG);
        let meaning = |symbol: usize| DISTANCES.get(symbol).map_or(NONE, |&(base, addend)| number(base, addend));
        self.short.build(SHORT, short, meaning).map_err(|_| damaged("no prefix code"))
    }

    /// Decodes symbols until the block, the room or what can be looked at ends; true if it was the block.
    fn coded<R: Read>(
        &self,
        input: &mut Input<R>,
        out: &mut [u8],
        out_at: &mut usize,
        end: usize,
        floor: usize,
    ) -> io::Result<bool> {
        let limit = if input.ended { input.end + 8 } else { input.end.saturating_sub(AHEAD) };
        // In registers while it runs.
        let (buffer, mut bits, mut count, mut from) = (&*input.buffer, input.bits, input.count, input.at);
        let mut at = *out_at;
        let mut result = Ok(false);
        macro_rules! refill {
            () => {
                bits |= eight(buffer, from) << count;
                from += ((63 - count) >> 3) as usize;
                count |= 56;
            };
        }
        macro_rules! take {
            ($entry:expr) => {
                bits >>= $entry & 0x3f;
                count -= $entry & 0x3f;
            };
        }
        macro_rules! look {
            () => {
                self.long.at(bits & ((1 << LONG) - 1))
            };
        }
        // Looked up before what comes before it is copied, so that neither waits for the other.
        refill!();
        let mut entry = look!();
        while at < end && from < limit {
            if entry & LITERAL != 0 {
                // Three looks take 33 bits at most, and the fourth needs 11.
                for _ in 0..3 {
                    if let Some(two) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                        *two = ((entry >> 8) as u16).to_le_bytes();
                    }
                    at += 1 + (entry & TWO != 0) as usize;
                    take!(entry);
                    entry = look!();
                    if entry & LITERAL == 0 {
                        break;
                    }
                }
                refill!();
                if entry & LITERAL != 0 {
                    continue;
                }
            }
            if entry & (FURTHER | STOP | NONE) != 0 {
                if entry & FURTHER != 0 {
                    let within = bits >> LONG & ((1 << (entry & 0xff)) - 1);
                    entry = self.long.at(u64::from(entry >> 8 & 0xfff) + within);
                }
                if entry & LITERAL != 0 {
                    out[at] = (entry >> 8) as u8;
                    at += 1;
                    take!(entry);
                    refill!();
                    entry = look!();
                    continue;
                }
                if entry & STOP != 0 {
                    take!(entry);
                    result = Ok(true);
                    break;
                }
                if entry & NONE != 0 {
                    result = Err(damaged("a code that does not exist"));
                    break;
                }
            }
            let length = value(entry, bits);
            take!(entry);
            let mut short = self.short.at(bits & ((1 << SHORT) - 1));
            if short & (FURTHER | NONE) != 0 {
                if short & FURTHER != 0 {
                    let within = bits >> SHORT & ((1 << (short & 0xff)) - 1);
                    short = self.short.at(u64::from(short >> 8 & 0xfff) + within);
                }
                if short & NONE != 0 {
                    result = Err(damaged("a code that does not exist"));
                    break;
                }
            }
            let distance = value(short, bits);
            take!(short);
            if distance > at - floor {
                result = Err(damaged("a reference to before the beginning"));
                break;
            }
            refill!();
            entry = look!();
            copy(out, at, distance, length);
            at += length;
        }
        (input.bits, input.count, input.at) = (bits, count, from);
        *out_at = at;
        result
    }
}

/// What a number's entry and the bits after its code come to.
#[inline(always)]
fn value(entry: u32, bits: u64) -> usize {
    let code_and_addend = bits & ((1 << (entry & 0x3f)) - 1);
    (entry >> 12) as usize + (code_and_addend >> (entry >> 8 & 0xf)) as usize
}

/// Repeats `length` bytes (at most 258) from `distance` before `at`; may write up to 16 bytes more.
#[inline(always)]
fn copy(out: &mut [u8], at: usize, distance: usize, length: usize) {
    // One check for all that follows.
    let Some(window) = out.get_mut(at - distance..at + length + 16) else { return };
    let mut to = distance;
    let stop = distance + length;
    if distance >= 16 {
        let mut from = 0;
        while to < stop {
            let Some(chunk) = window.get(from..).and_then(<[u8]>::first_chunk::<16>).copied() else { return };
            if let Some(place) = window.get_mut(to..).and_then(<[u8]>::first_chunk_mut) {
                *place = chunk;
            }
            (from, to) = (from + 16, to + 16);
        }
    } else if distance >= 8 {
        let mut from = 0;
        while to < stop {
            let chunk = eight(window, from).to_le_bytes();
            if let Some(place) = window.get_mut(to..).and_then(<[u8]>::first_chunk_mut) {
                *place = chunk;
            }
            (from, to) = (from + 8, to + 8);
        }
    } else if distance == 1 {
        let byte = window[0];
        window[1..stop].fill(byte);
    } else {
        for to in to..stop {
            window[to] = window[to - distance];
        }
    }
}

/// Bytes of a stored block; how many.
fn stored<R: Read>(input: &mut Input<R>, out: &mut [u8], left: usize) -> io::Result<usize> {
    if left == 0 {
        return Ok(0);
    }
    input.ensure(1)?;
    let n = left.min(out.len()).min(input.end.saturating_sub(input.at));
    if n == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed data ends too early"));
    }
    out[..n].copy_from_slice(&input.buffer[input.at..input.at + n]);
    input.at += n;
    Ok(n)
}
