//! A table whose keys are never used twice: what an event queue names after its subject is gone is not mistaken.

use std::fmt;

/// Entries by number; a number that was given back names nothing until 16 million others have had its place.
pub(crate) struct Slots<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    used: usize,
    /// The generation of the next new place.
    born: u32,
}

/// Bits of a key that tell the place; the generation lies above, and the upper 8 bits are the caller's.
const PLACE: u32 = 24;
const GENERATIONS: u32 = 0x00ff_ffff;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { entries: Vec::new(), free: Vec::new(), used: 0, born: 0 }
    }
}

impl<T> Slots<T> {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Puts an entry in; below 2^56.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        self.used += 1;
        if let Some(place) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(place as usize)
        {
            entry.1 = Some(value);
            return u64::from(entry.0) << PLACE | u64::from(place);
        }
        self.entries.push((self.born, Some(value)));
        u64::from(self.born) << PLACE | (self.entries.len() - 1) as u64
    }

    fn place(&self, key: u64) -> Option<usize> {
        let place = (key & ((1 << PLACE) - 1)) as usize;
        let generation = (key >> PLACE) as u32 & GENERATIONS;
        self.entries.get(place).is_some_and(|e| e.0 == generation).then_some(place)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        self.entries[self.place(key)?].1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let place = self.place(key)?;
        self.entries[place].1.as_mut()
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let place = self.place(key)?;
        let entry = &mut self.entries[place];
        let value = entry.1.take()?;
        entry.0 = (entry.0 + 1) & GENERATIONS;
        self.used -= 1;
        self.free.push(place as u32);
        if self.used == 0 && self.entries.len() > 64 {
            // A burst is over: its room goes back, and later places begin where no old key can be taken for a new one.
            let oldest = self.entries.iter().map(|e| e.0).max().unwrap_or(0);
            self.born = (oldest + 1) & GENERATIONS;
            self.entries.truncate(64);
            self.entries.shrink_to_fit();
            self.free.retain(|place| *place < 64);
            self.free.shrink_to_fit();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (0_u64..).zip(&self.entries).filter_map(|(place, (generation, value))| {
            value.as_ref().map(|value| (u64::from(*generation) << PLACE | place, value))
        })
    }
}

impl<T> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} used of {}", self.used, self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_back_names_nothing() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((slots.get(a), slots.get(b), slots.len()), (Some(&'a'), Some(&'b'), 2));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        let c = slots.insert('c');
        assert_ne!(a, c);
        assert_eq!((slots.get(a), slots.get(c)), (None, Some(&'c')));
        *slots.get_mut(b).unwrap() = 'd';
        assert_eq!(slots.iter().map(|(k, v)| (k, *v)).collect::<Vec<_>>(), [(c, 'c'), (b, 'd')]);
    }

    #[test]
    fn room_of_a_burst_is_given_back() {
        let mut slots = Slots::default();
        let keys: Vec<u64> = (0..1000).map(|n| slots.insert(n)).collect();
        for key in &keys {
            slots.remove(*key).unwrap();
        }
        assert_eq!((slots.len(), slots.entries.len()), (0, 64));
        let again = slots.insert(1);
        assert!(!keys.contains(&again));
    }
}
