//! Sparse files: EROFS has a list of addresses for them, one for each chunk of the file.
//!
//! Chunks are of one size, a power of two. Where the archive has the pieces on blocks and the chunks need not be too small, they are
//! addressed where they stand. Else they are copied, each widened with zeros to whole chunks; of all sizes of chunks the one is taken that
//! costs the fewest bytes: a terabyte with a line at its end comes to some MiB, whatever its place.

use super::layout::{BLOCK, BLOCK_BITS};
use super::tree::{Data, Place};
use crate::entry::{Entry, Extent};

/// Largest chunk, as a power of two: the format has five bits for what is above a block.
const LARGEST: u8 = BLOCK_BITS + 31;

/// How a file's content is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Where the archive has it.
    There(Data),
    /// In copies behind the archive.
    Copies(Copies),
}

/// How the pieces of a file are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    bits: u8,
    size: u64,
}

impl Plan {
    /// Of an entry's content that stands in the archive from this byte of the image on.
    pub fn of(entry: &Entry, at: u64) -> Plan {
        let Some(extents) = &entry.sparse else { return Plan::There(Data::Whole(at)) };
        let copies = Copies::cheapest(entry.size, extents);
        match there(entry.size, extents, at) {
            Some((bits, places)) if table(entry.size, bits) <= copies.cost(extents) => {
                Plan::There(Data::Pieces { bits, places })
            }
            _ => Plan::Copies(copies),
        }
    }
}

impl Copies {
    fn cheapest(size: u64, extents: &[Extent]) -> Copies {
        let all = (BLOCK_BITS..=LARGEST).map(|bits| Copies { bits, size });
        all.min_by_key(|copies| copies.cost(extents)).unwrap_or(Copies { bits: BLOCK_BITS, size })
    }

    /// Bytes of addresses and copies.
    fn cost(&self, extents: &[Extent]) -> u64 {
        let mut end = 0;
        let copied = extents.iter().filter(|e| e.length > 0).fold(0u64, |sum, extent| {
            let (from, to) = self.widened(extent);
            let from = from.max(end);
            end = end.max(to);
            sum.saturating_add(end - from.min(end))
        });
        table(self.size, self.bits).saturating_add(copied)
    }

    /// Where the whole chunks begin and end that hold a piece; cut at the file's last block.
    fn widened(&self, extent: &Extent) -> (u64, u64) {
        let chunk = 1u64 << self.bits;
        let last = self.size.checked_next_multiple_of(BLOCK).unwrap_or(self.size);
        let end = extent.offset.saturating_add(extent.length);
        (extent.offset & !(chunk - 1), end.checked_next_multiple_of(chunk).unwrap_or(last).min(last))
    }

    /// The pieces as they stand among copies, those that share chunks or follow one another as one; the first at this byte, and where the
    /// last one ends.
    pub fn places(&self, extents: &[Extent], mut at: u64) -> (Data, u64) {
        let mut places: Vec<Place> = Vec::new();
        for extent in extents.iter().filter(|e| e.length > 0) {
            let (begin, end) = self.widened(extent);
            match places.last_mut().filter(|p| begin <= p.offset + p.length) {
                Some(place) => {
                    at += (end - place.offset) - place.length;
                    place.length = end - place.offset;
                }
                None => {
                    places.push(Place { offset: begin, length: end - begin, at });
                    at += end - begin;
                }
            }
        }
        (Data::Pieces { bits: self.bits, places }, at)
    }
}

/// The largest chunks whose borders are those of all pieces, and the pieces; `None` if some do not stand on blocks.
fn there(size: u64, extents: &[Extent], at: u64) -> Option<(u8, Vec<Place>)> {
    let mut stored = at;
    let mut places: Vec<Place> = Vec::new();
    for extent in extents.iter().filter(|e| e.length > 0) {
        if !extent.offset.is_multiple_of(BLOCK) || !stored.is_multiple_of(BLOCK) {
            return None;
        }
        match places.last_mut().filter(|p| p.offset + p.length == extent.offset) {
            Some(last) => last.length += extent.length,
            None => places.push(Place { offset: extent.offset, length: extent.length, at: stored }),
        }
        stored += extent.length;
    }
    let mut bits = u32::from(LARGEST);
    for place in &places {
        let end = place.offset + place.length;
        bits = bits.min(place.offset.trailing_zeros());
        if end < size {
            bits = bits.min(end.trailing_zeros());
        }
    }
    (bits >= u32::from(BLOCK_BITS)).then(|| (u8::try_from(bits).unwrap_or(LARGEST), places))
}

/// Bytes of the addresses of a file of this size.
fn table(size: u64, bits: u8) -> u64 {
    4 * chunks(size, bits)
}

pub(super) fn chunks(size: u64, bits: u8) -> u64 {
    size.div_ceil(1 << bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryKind;

    fn plan(size: u64, extents: &[(u64, u64)]) -> Plan {
        let mut entry = Entry::new("x", EntryKind::File);
        entry.size = size;
        entry.sparse = Some(extents.iter().map(|&(offset, length)| Extent { offset, length }).collect());
        Plan::of(&entry, 8192)
    }

    #[test]
    fn pieces_on_blocks_stay_where_they_are() {
        let place = |offset, length, at| Place { offset, length, at };
        let there = |bits, places: &[Place]| Plan::There(Data::Pieces { bits, places: places.to_vec() });
        assert_eq!(
            plan(1 << 20, &[(0, 4096), (65536, 4096)]),
            there(12, &[place(0, 4096, 8192), place(65536, 4096, 12288)])
        );
        // The end of the file counts as a border; neighbours are one.
        assert_eq!(plan(8192 + 6, &[(4096, 4096), (8192, 6)]), there(12, &[place(4096, 4102, 8192)]));
        assert_eq!(plan(5 << 40, &[]), there(LARGEST, &[]));
    }

    #[test]
    fn what_is_on_no_block_or_too_far_away_is_copied_in_chunks_of_the_best_size() {
        for (size, extents, most) in [
            (1 << 20, [(100, 7)].as_slice(), 6 << 10),
            (10 << 40, &[((10 << 40) - 3, 3)], 14 << 20),
            (256 << 30, &[(0, 512)], 3 << 20),
            (64 << 30, &[(512, 1), (33 << 30, 5), (34 << 30, 4096)], 3 << 20),
        ] {
            let Plan::Copies(copies) = plan(size, extents) else { panic!("{size} {extents:?}") };
            let extents: Vec<Extent> = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
            assert!(copies.cost(&extents) <= most, "{size} {extents:?}: {} at {}", copies.cost(&extents), copies.bits);
            let (Data::Pieces { bits, places }, end) = copies.places(&extents, 512) else { panic!("whole") };
            assert_eq!(end - 512 + table(size, bits), copies.cost(&extents));
            for p in &places {
                assert!(p.offset % (1 << bits) == 0 && p.at % BLOCK == 0, "{p:?}");
            }
        }
    }
}
