//! The maps of sparse files: where the stored pieces belong (GNU tar's manual, "Storing Sparse Files").

use super::header::{self, Header, invalid, number};
use super::pax::decimal;
use crate::entry::Extent;
use tare_model::Result;

/// The pairs of an old GNU header or of one of its extension blocks; an unused pair ends the list.
pub(super) fn gnu_pairs(field: &[u8], out: &mut Vec<Extent>, limit: usize) -> Result<()> {
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            return Ok(());
        }
        let unsigned = |n: i64| u64::try_from(n).map_err(|_| invalid("a negative number in a sparse map"));
        let extent = Extent { offset: unsigned(number(&pair[..12])?)?, length: unsigned(number(&pair[12..])?)? };
        if out.len() >= limit {
            return Err(invalid("too many pieces in a sparse map"));
        }
        out.push(extent);
    }
    Ok(())
}

pub(super) fn gnu_real_size(header: &Header) -> Result<u64> {
    u64::try_from(header.number(header::GNU_REAL_SIZE)?).map_err(|_| invalid("a negative size"))
}

/// The map from a flat list of offsets and lengths.
pub(super) fn from_numbers(numbers: &[u64], limit: usize) -> Result<Vec<Extent>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > limit {
        return Err(invalid("an incomplete or too long sparse map"));
    }
    Ok(numbers.chunks_exact(2).map(|p| Extent { offset: p[0], length: p[1] }).collect())
}

/// The map of version 1.0: decimal lines at the start of the content, in whole blocks. Fed block by block.
#[derive(Default)]
pub(super) struct TextMap {
    line: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
}

impl TextMap {
    /// Takes a block; true when the map is complete (the rest of that block is padding).
    pub(super) fn feed(&mut self, block: &[u8], limit: usize) -> Result<bool> {
        for &b in block {
            if b != b'\n' {
                if self.line.len() >= 20 {
                    return Err(invalid("a malformed sparse map"));
                }
                self.line.push(b);
                continue;
            }
            let n = decimal(b"GNU.sparse map", &self.line)?;
            self.line.clear();
            match self.count {
                None if n > limit as u64 => return Err(invalid("too many pieces in a sparse map")),
                None => self.count = Some(n),
                Some(_) => self.numbers.push(n),
            }
            if self.count.is_some_and(|c| self.numbers.len() as u64 == 2 * c) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn finish(self, limit: usize) -> Result<Vec<Extent>> {
        from_numbers(&self.numbers, limit)
    }
}

/// Checks that the pieces ascend, do not overlap, end within the file and are as long as the stored content.
pub(super) fn check(extents: Vec<Extent>, real_size: u64, stored: u64) -> Result<Vec<Extent>> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for e in &extents {
        let this_end = e.offset.checked_add(e.length).ok_or_else(|| invalid("a sparse map beyond 64 bits"))?;
        if e.offset < end || this_end > real_size {
            return Err(invalid("a sparse map whose pieces overlap or lie outside of the file"));
        }
        end = this_end;
        sum += e.length;
    }
    if sum != stored {
        return Err(invalid("a sparse map that does not fit its content"));
    }
    Ok(extents.into_iter().filter(|e| e.length > 0).collect())
}
