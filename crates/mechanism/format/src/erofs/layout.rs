//! Numbers and fixed structures of the format.

use crate::entry::EntryKind;

/// Bytes of a block: tar's, so that whatever stands in an archive stands on one.
pub const BLOCK: u64 = 512;
/// Where the archive begins, in bytes. Before it stands the superblock.
pub const ARCHIVE: u64 = 4096;

pub(super) const BLOCK_BITS: u8 = 9;
pub(super) const SUPER_OFFSET: usize = 1024;
pub(super) const SUPER_SIZE: usize = 128;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Unit of inode numbers, in bytes.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE: u64 = 64;
pub(super) const DIRENT: u64 = 12;
pub(super) const XATTR_HEADER: u64 = 12;
pub(super) const XATTR_ENTRY: u64 = 4;
/// An address of no block: a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// Inodes have their own times (not the superblock's).
pub(super) const COMPAT_MTIME: u32 = 2;
/// There are files in chunks.
pub(super) const INCOMPAT_CHUNKED: u32 = 4;

/// How the data of an inode is found; bits 1 to 3 of `i_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Whole blocks from an address on.
    Plain,
    /// All of it behind the inode, within its block.
    Inline,
    /// A list of addresses, one for each chunk.
    Chunks,
}

impl Layout {
    pub(super) fn number(self) -> u16 {
        match self {
            Layout::Plain => 0,
            Layout::Inline => 2,
            Layout::Chunks => 4,
        }
    }

    pub(super) fn of(number: u16) -> Option<Layout> {
        [Layout::Plain, Layout::Inline, Layout::Chunks].into_iter().find(|l| l.number() == number)
    }
}

/// `S_IFMT` bits of a mode, and the type in a directory's entry.
pub(super) fn type_bits(kind: EntryKind) -> (u16, u8) {
    match kind {
        EntryKind::File | EntryKind::Hardlink => (0o100_000, 1),
        EntryKind::Directory => (0o040_000, 2),
        EntryKind::CharDevice => (0o020_000, 3),
        EntryKind::BlockDevice => (0o060_000, 4),
        EntryKind::Fifo => (0o010_000, 5),
        EntryKind::Symlink => (0o120_000, 7),
    }
}

pub(super) fn kind_of(mode: u16) -> Option<EntryKind> {
    use EntryKind as K;
    let all = [K::File, K::Directory, K::CharDevice, K::BlockDevice, K::Fifo, K::Symlink];
    all.into_iter().find(|k| type_bits(*k).0 == mode & 0o170_000)
}

/// Prefixes of names of attributes, which are stored as a number.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Number of the prefix and the rest of the name; `None` for a name that the format cannot hold.
pub(super) fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        // The two lists are whole names.
        let whole = matches!(number, 2 | 3);
        (rest.is_empty() == whole && rest.len() <= 255).then_some((*number, rest))
    })
}

pub(super) fn whole_name(number: u8, rest: &[u8]) -> Option<Vec<u8>> {
    PREFIXES.iter().find(|(n, _)| *n == number).map(|(_, prefix)| [prefix, rest].concat())
}

/// Device number as the kernel's `new_encode_dev` has it: 12 bits of major, 20 of minor.
pub(super) fn encode_device((major, minor): (u32, u32)) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

pub(super) fn decode_device(n: u32) -> (u32, u32) {
    ((n & 0xf_ff00) >> 8, (n & 0xff) | ((n >> 12) & 0xf_ff00))
}

pub(super) fn align(n: u64, to: u64) -> u64 {
    n.div_ceil(to) * to
}
