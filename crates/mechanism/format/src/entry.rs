//! One entry of an archive or layer, independent of how it is encoded.

/// What an entry makes. Sockets have no form in tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to [`Entry::link`], which is kept as it is and never resolved here.
    Symlink,
    /// Another name for the earlier entry [`Entry::link`] (a path from the root of the archive).
    Hardlink,
    /// A character device with [`Entry::device`].
    CharDevice,
    /// A block device with [`Entry::device`].
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// A moment: seconds since 1970 (may be negative) and nanoseconds after that second (0 to 999,999,999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

impl Time {
    /// Not later than `limit` seconds: SOURCE_DATE_EPOCH as reproducible builds use it.
    #[must_use]
    pub fn clamped(self, limit: Option<i64>) -> Time {
        match limit {
            Some(limit) if self.secs >= limit => Time { secs: limit, nanos: 0 },
            _ => self,
        }
    }
}

/// A piece of a sparse file that has data; everything between the pieces reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where the piece lies in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// One entry: everything about a file but its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, bytes as they are. From [`crate::tar::Reader`] it is raw; inside a [`crate::Change`] it is cleaned:
    /// relative, without `.` or `..`, empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky (`07777`).
    pub mode: u32,
    /// Owner, as a number; names are not looked up.
    pub uid: u32,
    /// Group, as a number.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Length of the file's content in bytes, holes included; 0 for all but files.
    pub size: u64,
    /// Target of a symbolic or hard link; empty for the others.
    pub link: Vec<u8>,
    /// Major and minor number of a device; (0, 0) for the others.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The pieces of a sparse file, ascending and without overlap; `None` for an ordinary one. The content that comes
    /// with the entry is then the pieces one after another.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// An entry of this kind with mode 0755 (directories) or 0644, owner root, time 0 and nothing else.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Entry {
            path: path.into(),
            kind,
            mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// The bytes of content that come with the entry: its size, or the sum of the pieces of a sparse file.
    pub fn stored_size(&self) -> u64 {
        match &self.sparse {
            Some(extents) => extents.iter().map(|e| e.length).sum(),
            None => self.size,
        }
    }
}
