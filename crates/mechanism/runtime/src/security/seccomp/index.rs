//! Two ways into the table of numbers, both laid out by the compiler: by name, and by number.
//!
//! A profile names some four hundred calls, and each start compiles one: searching the sorted table by halves and sorting
//! the calls of each architecture took most of that time.

use super::syscalls::{NO, TABLE};

const ROWS: usize = TABLE.len();
const SLOTS: usize = 2048;
const FREE: u16 = u16::MAX;
/// Numbers below this stand for themselves; above are the private calls of arm, from [`PRIVATE`] on.
const DENSE: usize = 560;
const PRIVATE: u32 = 0xf_0000;
const NUMBERS: usize = DENSE + 16;

/// Rows by the hash of their name, the next free slot where one is taken.
static BY_NAME: [u16; SLOTS] = by_name();
/// Rows of each column by ascending number, then how many those are.
static BY_NUMBER: [([u16; ROWS], usize); 5] = [by_number(0), by_number(1), by_number(2), by_number(3), by_number(4)];

/// The row of a call's name.
pub(super) fn row(name: &str) -> Option<usize> {
    let mut slot = hash(name.as_bytes());
    loop {
        let row = BY_NAME[slot];
        if row == FREE {
            return None;
        }
        if TABLE[usize::from(row)].0 == name {
            return Some(usize::from(row));
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The rows that a column has a number in, by ascending number.
pub(super) fn rows(column: usize) -> impl Iterator<Item = usize> {
    let (rows, count) = &BY_NUMBER[column];
    rows[..*count].iter().map(|&row| usize::from(row))
}

/// FNV-1a, folded.
const fn hash(name: &[u8]) -> usize {
    let (mut h, mut i) = (0x811c_9dc5_u32, 0);
    while i < name.len() {
        h = (h ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    ((h ^ h >> 16) as usize) % SLOTS
}

const fn by_name() -> [u16; SLOTS] {
    let (mut slots, mut row) = ([FREE; SLOTS], 0);
    while row < ROWS {
        let mut slot = hash(TABLE[row].0.as_bytes());
        while slots[slot] != FREE {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = row as u16;
        row += 1;
    }
    slots
}

/// Sorted by counting: where each number's rows begin is the count of all rows with lower ones.
const fn by_number(column: usize) -> ([u16; ROWS], usize) {
    let mut begins = [0_usize; NUMBERS + 1];
    let mut row = 0;
    while row < ROWS {
        if TABLE[row].1[column] != NO {
            begins[place(TABLE[row].1[column]) + 1] += 1;
        }
        row += 1;
    }
    let mut number = 0;
    while number < NUMBERS {
        begins[number + 1] += begins[number];
        number += 1;
    }
    let (count, mut sorted) = (begins[NUMBERS], [0; ROWS]);
    row = 0;
    while row < ROWS {
        if TABLE[row].1[column] != NO {
            let place = place(TABLE[row].1[column]);
            sorted[begins[place]] = row as u16;
            begins[place] += 1;
        }
        row += 1;
    }
    (sorted, count)
}

const fn place(number: u32) -> usize {
    if number < DENSE as u32 { number as usize } else { (number - PRIVATE) as usize + DENSE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_name_and_number() {
        for (i, (name, _)) in TABLE.iter().enumerate() {
            assert_eq!(row(name), Some(i), "{name}");
        }
        for none in ["", "reads", "no_such_call", "READ"] {
            assert_eq!(row(none), None);
        }
        for column in 0..5 {
            let found: Vec<usize> = rows(column).collect();
            assert!(found.windows(2).all(|w| TABLE[w[0]].1[column] <= TABLE[w[1]].1[column]), "column {column}");
            let mut named: Vec<usize> = (0..ROWS).filter(|&i| TABLE[i].1[column] != NO).collect();
            let mut found = found;
            found.sort_unstable();
            named.sort_unstable();
            assert_eq!(found, named);
        }
    }
}
