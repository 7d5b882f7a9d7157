//! Extended attributes as they stand behind an inode; what the kernel would refuse to set is refused here, or left out as the
//! directory sink of the store leaves it out.

use super::layout::{XATTR_ENTRY, split_name, whole_name};
use crate::entry::{Entry, EntryKind};
use crate::layer::show;
use std::collections::HashMap;
use std::sync::Arc;
use tare_model::{Error, Kind, Result};

/// Overlayfs's mark on a directory that hides what is below.
pub(super) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// What the kernel allows: bytes of a name, of a value; and what an inode's counter holds, in units of 4 bytes.
const NAME: usize = 255;
const VALUE: usize = 1 << 16;
const UNITS: usize = u16::MAX as usize - 64;

/// Encoded sets of attributes, each kept once; number 0 is the empty one.
#[derive(Default)]
pub(super) struct Sets {
    sets: Vec<Arc<[u8]>>,
    known: HashMap<Arc<[u8]>, u32>,
    size: usize,
}

impl Sets {
    pub(super) fn intern(&mut self, set: &[u8]) -> u32 {
        if set.is_empty() {
            return 0;
        }
        if let Some(&there) = self.known.get(set) {
            return there;
        }
        let set: Arc<[u8]> = set.into();
        self.size += set.len();
        self.sets.push(Arc::clone(&set));
        let id = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.known.insert(set, id);
        id
    }

    pub(super) fn get(&self, id: u32) -> &[u8] {
        (id as usize).checked_sub(1).and_then(|at| self.sets.get(at)).map_or(&[], |set| set)
    }

    /// Bytes of all of them.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of memory.
    pub(super) fn weight(&self) -> usize {
        // Counters, and the two places that refer to it.
        self.size + self.sets.len() * 64
    }
}

/// An entry's attributes without overlayfs's own, sorted by name. An access list changes the mode, as setting it would.
pub(super) fn encode(entry: &Entry, mode: &mut u16) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (name, value) in &entry.xattrs {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let bad = |why: &str| {
            Error::new(Kind::Invalid, "index entry", show(&entry.path))
                .because(format!("its extended attribute {} {why}", show(name)))
        };
        let Some((prefix, rest)) = split_name(name) else { continue };
        match prefix {
            // Only files and directories have them.
            USER if !matches!(entry.kind, EntryKind::File | EntryKind::Directory) => continue,
            ACCESS | DEFAULT => {
                if entry.kind == EntryKind::Symlink {
                    continue;
                }
                let list = AccessList::parse(value).ok_or_else(|| bad("is no access list"))?;
                if prefix == DEFAULT && entry.kind != EntryKind::Directory && !list.is_empty() {
                    return Err(bad("is for directories only"));
                }
                if prefix == ACCESS && !list.is_empty() {
                    *mode = *mode & !0o777 | list.mode;
                }
                if list.is_empty() || prefix == ACCESS && list.is_mode {
                    continue;
                }
            }
            _ if rest.is_empty() => return Err(bad("has no name")),
            _ => {}
        }
        if name.len() > NAME || value.len() > VALUE - 1 {
            return Err(bad("is too long"));
        }
        push(&mut out, prefix, rest, value);
    }
    if out.len() / 4 > UNITS {
        return Err(Error::new(Kind::Unsupported, "index entry", show(&entry.path))
            .because("its extended attributes together are longer than 256 KiB"));
    }
    Ok(out)
}

pub(super) fn push(out: &mut Vec<u8>, prefix: u8, rest: &[u8], value: &[u8]) {
    // Both lengths were checked.
    out.extend([u8::try_from(rest.len()).unwrap_or_default(), prefix]);
    out.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// What [`push`] wrote, one after another.
pub(super) fn decode(mut set: &[u8]) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
    std::iter::from_fn(move || {
        let &[name, prefix, low, high, ref rest @ ..] = set else { return None };
        let (name, rest) = rest.split_at_checked(name.into())?;
        let value = rest.get(..usize::from(u16::from_le_bytes([low, high])))?;
        set = set.get((4 + name.len() + value.len()).next_multiple_of(4)..).unwrap_or_default();
        Some((whole_name(prefix, name)?, value))
    })
}

/// Bytes that [`push`] adds.
pub(super) fn pushed(rest: &[u8], value: &[u8]) -> u64 {
    (XATTR_ENTRY + (rest.len() + value.len()) as u64).next_multiple_of(4)
}

const USER: u8 = 1;
const ACCESS: u8 = 2;
const DEFAULT: u8 = 3;

/// A POSIX access control list, as the kernel checks one (fs/posix_acl.c, `posix_acl_from_xattr` and `posix_acl_valid`).
struct AccessList {
    /// Permission bits that say the same, or most of it.
    mode: u16,
    /// Whether the bits say all of it.
    is_mode: bool,
    entries: usize,
}

impl AccessList {
    fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn parse(value: &[u8]) -> Option<AccessList> {
        let mut list = AccessList { mode: 0, is_mode: true, entries: 0 };
        if value.is_empty() {
            return Some(list);
        }
        let entries = value.strip_prefix(&[2, 0, 0, 0])?;
        if entries.len() % 8 != 0 {
            return None;
        }
        let (mut state, mut mask, mut named) = (Tag::User, None, false);
        for entry in entries.chunks_exact(8) {
            let (tag, perm) = (u16::from_le_bytes([entry[0], entry[1]]), u16::from_le_bytes([entry[2], entry[3]]));
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            if perm > 7 {
                return None;
            }
            state = match (tag, state) {
                (1, Tag::User) => Tag::Named,
                (2, Tag::Named) => Tag::Named,
                (4, Tag::Named) => Tag::Groups,
                (8, Tag::Groups) => Tag::Groups,
                (16, Tag::Groups) => Tag::Other,
                (32, Tag::Other) => Tag::End,
                (32, Tag::Groups) if !named => Tag::End,
                _ => return None,
            };
            match tag {
                1 => list.mode |= perm << 6,
                4 => list.mode |= perm << 3,
                16 => mask = Some(perm),
                32 => list.mode |= perm,
                _ => {
                    named = true;
                    if id == u32::MAX {
                        return None;
                    }
                }
            }
            list.entries += 1;
        }
        if let Some(mask) = mask {
            list.mode = list.mode & !0o070 | mask << 3;
        }
        list.is_mode = !named && mask.is_none();
        (list.entries == 0 || matches!(state, Tag::End)).then_some(list)
    }
}

/// What may come next in a list.
#[derive(Clone, Copy)]
enum Tag {
    User,
    Named,
    Groups,
    Other,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0];
        for (tag, perm) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(if matches!(tag, 2 | 8) { 7u32 } else { u32::MAX }.to_le_bytes());
        }
        out
    }

    #[test]
    fn access_lists_are_checked_as_the_kernel_does() {
        let parse = |entries: &[(u16, u16)]| AccessList::parse(&list(entries)).map(|l| (l.mode, l.is_mode));
        assert_eq!(parse(&[(1, 6), (4, 4), (32, 4)]), Some((0o644, true)));
        assert_eq!(parse(&[(1, 6), (2, 7), (4, 4), (16, 5), (32, 0)]), Some((0o650, false)));
        assert_eq!(parse(&[(1, 6), (4, 4), (8, 7), (16, 1), (32, 0)]), Some((0o610, false)));
        for bad in [
            [(1, 6), (4, 4)].as_slice(),
            &[(4, 4), (1, 6), (32, 0)],
            // Named ones need a mask.
            &[(1, 6), (2, 7), (4, 4), (32, 0)],
            &[(1, 8), (4, 4), (32, 0)],
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert!(AccessList::parse(b"\x01\0\0\0").is_none());
        assert!(AccessList::parse(b"").is_some_and(|l| l.is_empty()));
    }
}
