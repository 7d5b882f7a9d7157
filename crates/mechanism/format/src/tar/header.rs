//! The 512-byte header: fields, numbers, checksum.

use super::BLOCK;
use crate::entry::{Entry, EntryKind};
use crate::layer::{is_within, show};
use tare_model::{Error, Kind, Result};

/// A header block, with its fields by name (offsets: POSIX pax(1), table "ustar Header Block").
#[derive(Clone)]
pub(super) struct Header(pub(super) [u8; BLOCK]);

pub(super) const NAME: std::ops::Range<usize> = 0..100;
pub(super) const MODE: std::ops::Range<usize> = 100..108;
pub(super) const UID: std::ops::Range<usize> = 108..116;
pub(super) const GID: std::ops::Range<usize> = 116..124;
pub(super) const SIZE: std::ops::Range<usize> = 124..136;
pub(super) const MTIME: std::ops::Range<usize> = 136..148;
pub(super) const CHECKSUM: std::ops::Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: std::ops::Range<usize> = 157..257;
pub(super) const MAGIC: std::ops::Range<usize> = 257..265;
pub(super) const MAJOR: std::ops::Range<usize> = 329..337;
pub(super) const MINOR: std::ops::Range<usize> = 337..345;
pub(super) const PREFIX: std::ops::Range<usize> = 345..500;
/// Old GNU sparse: four pairs of offset and length, a flag that more follow, the real size.
pub(super) const GNU_SPARSE: std::ops::Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;

pub(super) const USTAR_MAGIC: &[u8; 8] = b"ustar\x0000";
const GNU_MAGIC: &[u8; 8] = b"ustar  \0";

impl Header {
    pub(super) fn zeroed() -> Self {
        Header([0; BLOCK])
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&b| b == 0)
    }

    /// Checks the sum; historic writers summed signed bytes.
    pub(super) fn verify(&self) -> Result<()> {
        let bad = |why: &str| Error::new(Kind::Corrupt, "read tar header", "").because(why);
        let stored = self.number(CHECKSUM)?;
        let sums = |f: fn(u8) -> i64| -> i64 {
            self.0.iter().enumerate().map(|(i, &b)| f(if CHECKSUM.contains(&i) { b' ' } else { b })).sum()
        };
        if stored == sums(i64::from) || stored == sums(|b| i64::from(b.cast_signed())) {
            Ok(())
        } else {
            Err(bad("wrong checksum: not a tar archive, or damaged"))
        }
    }

    pub(super) fn field(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.0[range]
    }

    /// A text field, up to its NUL.
    pub(super) fn text(&self, range: std::ops::Range<usize>) -> &[u8] {
        until_nul(self.field(range))
    }

    pub(super) fn number(&self, range: std::ops::Range<usize>) -> Result<i64> {
        number(self.field(range))
    }

    pub(super) fn size(&self) -> Result<u64> {
        u64::try_from(self.number(SIZE)?).map_err(|_| invalid("a negative size"))
    }

    pub(super) fn is_gnu(&self) -> bool {
        self.field(MAGIC) == GNU_MAGIC
    }

    /// The name, with ustar's prefix. GNU headers use the prefix's place for other things.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(NAME);
        let has_prefix = self.field(MAGIC).starts_with(b"ustar\0");
        match self.text(PREFIX) {
            prefix if has_prefix && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    /// The kind that the type letter says; a V7 file whose name ends in a slash is a directory.
    pub(super) fn kind(&self, path: &[u8]) -> Result<EntryKind> {
        Ok(match self.0[TYPE] {
            0 | b'0' | b'7' | b'S' if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::Hardlink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                return Err(Error::new(Kind::Unsupported, "read tar entry", show(path))
                    .because(format!("unknown entry type {:?}", char::from(other))));
            }
        })
    }

    /// Writes a number in octal, or says that it does not fit.
    pub(super) fn set_octal(&mut self, range: std::ops::Range<usize>, value: u64) -> bool {
        let digits = range.len() - 1;
        if value >= 1 << (3 * digits) {
            return false;
        }
        let text = format!("{value:0digits$o}");
        self.0[range.start..range.end - 1].copy_from_slice(text.as_bytes());
        true
    }

    pub(super) fn set_text(&mut self, range: std::ops::Range<usize>, text: &[u8]) {
        self.0[range.start..range.start + text.len()].copy_from_slice(text);
    }

    /// Places the path in name, or in prefix and name; false when it fits neither.
    pub(super) fn set_path(&mut self, path: &[u8]) -> bool {
        if path.len() <= NAME.len() {
            self.set_text(NAME, path);
            return true;
        }
        // The split must be at a slash and leave a name: the latest one that keeps the prefix short enough.
        let head = &path[..path.len().min(PREFIX.len() + 1)];
        let Some(cut) = head.iter().rposition(|&b| b == b'/') else { return false };
        let (prefix, name) = (&path[..cut], &path[cut + 1..]);
        if prefix.is_empty() || name.is_empty() || name.len() > NAME.len() {
            return false;
        }
        self.set_text(PREFIX, prefix);
        self.set_text(NAME, name);
        true
    }

    pub(super) fn seal(&mut self) {
        self.0[CHECKSUM].fill(b' ');
        let sum: u64 = self.0.iter().map(|&b| u64::from(b)).sum();
        let text = format!("{sum:06o}\0 ");
        self.0[CHECKSUM].copy_from_slice(text.as_bytes());
    }
}

/// The type letter of a kind.
pub(super) fn letter(entry: &Entry) -> u8 {
    match entry.kind {
        EntryKind::File => b'0',
        EntryKind::Hardlink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

/// A number: octal text with blanks or NULs around, or base-256 (GNU), big-endian two's complement under the top bit.
pub(super) fn number(field: &[u8]) -> Result<i64> {
    match field.first() {
        Some(&first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let fill: u8 = if negative { 0xff } else { 0 };
            let first = if negative { first } else { first & 0x7f };
            let (high, low) = field.split_at(field.len().saturating_sub(8));
            // Everything above 64 bits must repeat the sign.
            let mut high = high.to_vec();
            let mut bytes = [fill; 8];
            bytes[8 - low.len()..].copy_from_slice(low);
            match high.first_mut() {
                Some(h) => *h = first,
                None => bytes[8 - low.len()] = first,
            }
            let value = i64::from_be_bytes(bytes);
            if high.iter().any(|&b| b != fill) || (value < 0) != negative {
                return Err(invalid("a number beyond 64 bits"));
            }
            Ok(value)
        }
        _ => {
            let blank = |b: &u8| *b == b' ' || *b == 0;
            let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
            let text = &field[start..];
            let text = &text[..text.iter().position(blank).unwrap_or(text.len())];
            text.iter().try_fold(0i64, |value, &b| match b {
                b'0'..=b'7' => value
                    .checked_mul(8)
                    .and_then(|v| v.checked_add(i64::from(b - b'0')))
                    .ok_or_else(|| invalid("a number beyond 64 bits")),
                _ => Err(invalid("a number that is not octal")),
            })
        }
    }
}

pub(super) fn invalid(why: &str) -> Error {
    Error::new(Kind::Invalid, "read tar header", "").because(why)
}

/// A name for the block that carries an entry's PAX records; only old readers ever see it.
pub(super) fn pax_name(path: &[u8]) -> Vec<u8> {
    debug_assert!(is_within(path, b""));
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let base = trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default();
    [b"PaxHeaders/".as_slice(), &base[..base.len().min(80)]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_forms() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"77777777777 ").unwrap(), 8 * (1 << 30) - 1);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]).unwrap(), 8 << 30);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert_eq!(number(&[0x80, 0x20, 0, 0, 0, 0, 0, 1]).unwrap(), (0x20 << 48) + 1);
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]).unwrap(), -2);
        assert!(number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(b"0x12\0").is_err());
        assert!(number(b"99999999").is_err());
    }

    #[test]
    fn a_long_path_is_split_at_a_slash_or_refused() {
        let mut h = Header::zeroed();
        let path = [b"d".repeat(150), b"n".repeat(100)].join(&b'/');
        assert!(h.set_path(&path));
        h.0[MAGIC].copy_from_slice(USTAR_MAGIC);
        assert_eq!(h.path(), path);
        assert!(!Header::zeroed().set_path(&b"n".repeat(101)));
        assert!(!Header::zeroed().set_path(&[b"d".repeat(156), b"n".to_vec()].join(&b'/')));
    }
}
