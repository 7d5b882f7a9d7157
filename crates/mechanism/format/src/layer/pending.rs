//! Hard links that came before their target.

use super::is_within;
use crate::entry::{Entry, EntryKind};
use std::collections::BTreeMap;

/// The hard links of a layer whose target it does not have so far. Entries that replace some are found by their names: an
/// archive of nothing but such links takes no longer than any other of its length.
#[derive(Debug, Default)]
pub struct Pending {
    /// By path, with the place in the archive's order.
    links: BTreeMap<Vec<u8>, (u64, Entry)>,
    next: u64,
    weight: u64,
}

impl Pending {
    /// Adds one; an earlier one of the same name goes.
    pub fn push(&mut self, link: Entry) {
        self.weight += weight(&link);
        self.next += 1;
        self.links.insert(link.path.clone(), (self.next, link));
    }

    /// Forgets what stood where this entry comes: the last one of a name counts.
    pub fn replaced_by(&mut self, entry: &Entry) {
        if self.links.is_empty() {
            return;
        }
        if entry.path.is_empty() {
            // The root is a directory, which replaces nothing.
            return;
        }
        self.links.remove(&entry.path);
        if entry.kind == EntryKind::Directory {
            return;
        }
        let from = [&entry.path[..], b"/"].concat();
        while let Some((path, _)) = self.links.range(from.clone()..).next().filter(|(p, _)| is_within(p, &entry.path)) {
            let path = path.clone();
            self.links.remove(&path);
        }
    }

    /// All of them in the archive's order; none is left.
    pub fn take(&mut self) -> Vec<Entry> {
        let mut links: Vec<_> = std::mem::take(&mut self.links).into_values().collect();
        links.sort_by_key(|(place, _)| *place);
        self.weight = 0;
        links.into_iter().map(|(_, link)| link).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// About how many bytes of memory they take, those that were replaced included.
    pub fn weight(&self) -> u64 {
        self.weight
    }
}

fn weight(link: &Entry) -> u64 {
    let texts = 2 * link.path.len() + link.link.len();
    let attributes: usize = link.xattrs.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    (size_of::<Entry>() + 64 + texts + attributes) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &str) -> Entry {
        Entry { link: b"target".to_vec(), ..Entry::new(path, EntryKind::Hardlink) }
    }

    #[test]
    fn what_replaces_a_name_replaces_all_below_it() {
        let mut pending = Pending::default();
        let names = |p: &mut Pending| -> Vec<String> {
            p.take().into_iter().map(|e| String::from_utf8(e.path).unwrap()).collect()
        };
        ["b", "a/x/1", "a/x", "a-", "a0", "a/y", "b"].into_iter().for_each(|p| pending.push(link(p)));
        pending.replaced_by(&Entry::new("a/x", EntryKind::Directory));
        assert_eq!(pending.len(), 5);
        pending.replaced_by(&Entry::new("a", EntryKind::File));
        assert!(pending.weight() > 0);
        assert_eq!(names(&mut pending), ["a-", "a0", "b"]);
        assert!(pending.is_empty());
        pending.push(link("a/x"));
        pending.replaced_by(&Entry::new("", EntryKind::Directory));
        assert_eq!(names(&mut pending), ["a/x"]);
    }
}
