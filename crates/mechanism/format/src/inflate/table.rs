//! Tables of codes: the next bits are the place of what they mean.
//!
//! ```text
//! entry:  31       literals: 30 two of them, 15..8 the first, 23..16 the second
//!         29       a further table: 19..8 where it begins, 7..0 how many more bits it is for
//!         28       the block's end
//!         27       no code
//!         else     a number: 26..12 its base, 11..8 bits of the code, 5..0 bits of code and addend
//! literals: 5..0 bits to be taken; of two, 27..24 those of the first one
//! ```

/// Bits of the first look for lengths and literals.
pub(super) const LONG: u32 = 11;
/// Bits of the first look for distances.
pub(super) const SHORT: u32 = 8;
/// The largest code.
const MAX: usize = 15;

pub(super) const LITERAL: u32 = 1 << 31;
pub(super) const TWO: u32 = 1 << 30;
pub(super) const FURTHER: u32 = 1 << 29;
pub(super) const STOP: u32 = 1 << 28;
pub(super) const NONE: u32 = 1 << 27;

/// A table for a first look at `bits` bits; `N` is a power of two that holds it and all further ones.
pub(super) struct Table<const N: usize> {
    pub(super) entries: Box<[u32; N]>,
}

impl<const N: usize> Default for Table<N> {
    fn default() -> Self {
        Table { entries: Box::new([NONE; N]) }
    }
}

/// A set of code lengths that is no prefix code.
#[derive(Debug)]
pub(super) struct BadCode;

impl<const N: usize> Table<N> {
    /// The entry at a place that the caller has made small enough.
    #[inline(always)]
    pub(super) fn at(&self, place: u64) -> u32 {
        self.entries[place as usize & (N - 1)]
    }

    /// Makes the table for codes of these lengths (0: none); `meaning` gives the entry of each symbol, for a code of no bits.
    pub(super) fn build(&mut self, first: u32, lengths: &[u8], meaning: impl Fn(usize) -> u32) -> Result<(), BadCode> {
        let mut count = [0u16; MAX + 1];
        for &length in lengths {
            count[usize::from(length)] += 1;
        }
        count[0] = 0;
        let Some(longest) = (1..=MAX).rev().find(|&l| count[l] > 0) else {
            // No code at all: legal for distances that are never used.
            self.entries[..1 << first].fill(NONE);
            return Ok(());
        };
        let mut left = 1i32;
        for codes in &count[1..] {
            left = (left << 1) - i32::from(*codes);
            if left < 0 {
                return Err(BadCode);
            }
        }
        // One code alone is the only set that need not be complete.
        if left > 0 && longest > 1 {
            return Err(BadCode);
        }
        let mut place = [0usize; MAX + 2];
        for length in 1..=MAX {
            place[length + 1] = place[length] + usize::from(count[length]);
        }
        let mut sorted = [0u16; 320];
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, l)| **l > 0) {
            sorted[place[usize::from(length)]] = symbol as u16;
            place[usize::from(length)] += 1;
        }
        if left > 0 {
            self.entries[..1 << first].fill(NONE);
        }
        self.lay_out(first, longest, &mut count, &sorted, &|symbol, length| with_bits(meaning(symbol), length));
        Ok(())
    }

    /// Codes in ascending order of length, each at all places whose low bits are the code, reversed.
    fn lay_out(
        &mut self,
        first: u32,
        longest: usize,
        count: &mut [u16; MAX + 1],
        sorted: &[u16],
        entry: &dyn Fn(usize, u32) -> u32,
    ) {
        let (mut code, mut next, mut free) = (0usize, 0, 1usize << first);
        let mut table = (usize::MAX, 0, 0u32);
        for length in 1..=longest {
            while count[length] > 0 {
                let symbol = usize::from(sorted[next]);
                next += 1;
                let length_bits = length as u32;
                let value = entry(symbol, length_bits);
                if length_bits <= first {
                    let mut at = code;
                    while at < 1 << first {
                        self.entries[at] = value;
                        at += 1 << length;
                    }
                } else {
                    let prefix = code & ((1 << first) - 1);
                    if table.0 != prefix {
                        let bits = further_bits(first, length, longest, count);
                        table = (prefix, free, bits);
                        self.entries[prefix] = FURTHER | (free as u32) << 8 | bits;
                        free += 1 << bits;
                    }
                    let mut at = code >> first;
                    while at < 1 << table.2 {
                        self.entries[(table.1 + at) & (N - 1)] = value;
                        at += 1 << (length_bits - first);
                    }
                }
                count[length] -= 1;
                code = successor(code, length);
            }
        }
    }

    /// Joins literals that are found together by one look.
    pub(super) fn pair(&mut self, first: u32) {
        for place in 0..1usize << first {
            let one = self.entries[place];
            if one & (LITERAL | TWO) != LITERAL {
                continue;
            }
            let used = one & 0xff;
            // Entries further down may be pairs already: the second one's first literal counts.
            let two = self.entries[place >> used];
            let own = two >> 24 & 0xf;
            let bits = if two & TWO != 0 { own } else { two & 0xff };
            if two & LITERAL != 0 && used + bits <= first {
                self.entries[place] = LITERAL | TWO | used << 24 | (two & 0xff00) << 8 | one & 0xff00 | (used + bits);
            }
        }
    }
}

/// How many bits tell apart all codes that begin alike, the next of which has `length` bits.
fn further_bits(first: u32, length: usize, longest: usize, count: &[u16; MAX + 1]) -> u32 {
    let first = first as usize;
    let mut bits = length - first;
    let mut left = 1i32 << bits;
    while bits + first < longest {
        left -= i32::from(count[bits + first]);
        if left <= 0 {
            break;
        }
        bits += 1;
        left <<= 1;
    }
    bits as u32
}

/// The next code of this length, reversed as both are.
fn successor(code: usize, length: usize) -> usize {
    let mut bit = 1 << (length - 1);
    while code & bit != 0 {
        bit >>= 1;
    }
    if bit == 0 { 0 } else { (code & (bit - 1)) | bit }
}

/// The entry of a symbol, for a code of this length.
fn with_bits(meaning: u32, length: u32) -> u32 {
    match meaning & (LITERAL | STOP | NONE) {
        0 => meaning + (length << 8) + length,
        _ => meaning + length,
    }
}

/// A literal.
pub(super) fn literal(byte: u8) -> u32 {
    LITERAL | u32::from(byte) << 8
}

/// A number with so many bits to be added to it.
pub(super) fn number(base: u16, addend: u8) -> u32 {
    u32::from(base) << 12 | u32::from(addend)
}
