//! One file at a time: what it is, its extended attributes, putting all attributes onto it.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::io;
use tare_format::layer::show;
use tare_format::{Entry, EntryKind, Time};
use tare_model::{Error, Kind, Result};

/// Overlayfs's mark on a directory that hides what is below; its value is `y`.
pub(super) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const CAPABILITY: &[u8] = b"security.capability";

/// A file in a stack of layers.
#[derive(Debug)]
pub struct Found {
    /// The file itself (`O_PATH | O_NOFOLLOW`).
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

/// What overlayfs itself reads; never taken from an archive or written into one.
pub(super) fn is_overlays_own(xattr: &[u8]) -> bool {
    xattr.starts_with(b"trusted.overlay.") || xattr.starts_with(b"user.overlay.")
}

/// Words a kernel error about a path of the tree.
pub(super) fn failed(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
    let object = show(path).to_string();
    move |errno| Error::io(operation, object, errno)
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// How overlayfs says that a name is gone.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// A path that reaches the file behind a descriptor, also one of `O_PATH`: for the calls that take no such descriptor.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens for reading what an `O_PATH` descriptor names. Does not wait for the writer of a pipe.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(proc_path(fd), flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

/// A directory directly in `parent`, for reading; a link there is an error.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// `path` beneath `root` (empty: the root itself) as `O_PATH`, no link followed anywhere.
pub(super) fn find_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<Found, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // NO_SYMLINKS would also refuse a link as the last name, which is wanted here; so the parent is opened first.
    let fd = match path.iter().rposition(|&b| b == b'/') {
        Some(cut) => {
            let parent = rustix::fs::openat2(
                root,
                &path[..cut],
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                resolve | ResolveFlags::NO_SYMLINKS,
            )?;
            rustix::fs::openat2(parent, &path[cut + 1..], flags, Mode::empty(), resolve)?
        }
        None => rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?,
    };
    let stat = rustix::fs::fstat(&fd)?;
    Ok(Found { fd, stat })
}

/// The extended attributes of the file behind any descriptor, sorted, overlayfs's own included.
pub(super) fn xattrs_of(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let node = proc_path(fd);
    let names = match grown(|buffer| rustix::fs::listxattr(node.as_str(), buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(failed("list extended attributes of", path)(e)),
    };
    let mut found = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        match grown(|buffer| rustix::fs::getxattr(node.as_str(), name, buffer)) {
            Ok(value) => found.push((name.to_vec(), value)),
            // Removed meanwhile, or shown but not readable.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed("read extended attribute of", path)(e)),
        }
    }
    found.sort();
    Ok(found)
}

/// One attribute, if it is there.
pub(super) fn xattr_of(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let node = proc_path(fd);
    match grown(|buffer| rustix::fs::getxattr(node.as_str(), name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn is_opaque(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(xattr_of(fd, OPAQUE)?.is_some_and(|v| v == b"y"))
}

pub(super) fn capability_of(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Errno> {
    xattr_of(fd, CAPABILITY)
}

/// The kernel says ERANGE when the buffer is too small; attributes are at most 64 KiB.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(n) => return Ok(small[..n].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut large = vec![0; 1 << 16];
    let n = read(&mut large)?;
    large.truncate(n);
    Ok(large)
}

/// Everything about an existing file that an archive keeps: the kernel's view of `stat`, without link or attributes.
/// `None` for a socket.
pub(super) fn entry_of(path: &[u8], stat: &Stat, clamp: Option<i64>) -> Option<Entry> {
    let kind = match file_type(stat) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Fifo => EntryKind::Fifo,
        _ => return None,
    };
    let mut entry = Entry::new(path, kind);
    entry.mode = stat.st_mode & 0o7777;
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.mtime = mtime_of(stat).clamped(clamp);
    match kind {
        EntryKind::File => entry.size = u64::try_from(stat.st_size).unwrap_or(0),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        _ => {}
    }
    Some(entry)
}

pub(super) fn mtime_of(stat: &Stat) -> Time {
    Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// The attributes of a file, to be put onto another.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Those that an entry wants, taken out of it.
    pub(super) fn take(entry: &mut Entry) -> Self {
        let xattrs = std::mem::take(&mut entry.xattrs);
        Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
    }

    pub(super) fn of(stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        Attributes { mode, uid, gid, mtime: mtime_of(stat), xattrs }
    }

    /// Of a directory that no entry describes.
    pub(super) fn implied() -> Self {
        Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }

    /// About how many bytes of memory they take, as a value in a map.
    pub(super) fn weight(&self) -> u64 {
        128 + self.xattrs.iter().map(|(name, value)| (48 + name.len() + value.len()) as u64).sum::<u64>()
    }

    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.mtime.secs, tv_nsec: self.mtime.nanos.into() },
        }
    }

    /// Onto an open file or directory, all but the time. The order matters: a change of owner takes away setuid bits and
    /// capabilities, so mode and attributes come after it.
    fn put_but_time(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .map_err(failed("change owner of", path))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).map_err(failed("change mode of", path))?;
        self.put_xattrs(path, |name, value| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))
    }

    /// Onto an open file or directory (not `O_PATH`), after its content.
    pub(super) fn put(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
        self.put_but_time(fd, path)?;
        rustix::fs::futimens(fd, &self.times()).map_err(failed("set time of", path))
    }

    /// Onto a link, device or pipe by its name, which is never followed.
    pub(super) fn put_at(&self, dir: BorrowedFd<'_>, name: &[u8], kind: EntryKind, path: &[u8]) -> Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(dir, name, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)), nofollow)
            .map_err(failed("change owner of", path))?;
        if kind != EntryKind::Symlink || !self.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed("open", path))?;
            // A descriptor, so that nobody can put a link in the way between these calls.
            let node = proc_path(fd.as_fd());
            if kind != EntryKind::Symlink {
                rustix::fs::chmod(node.as_str(), Mode::from_raw_mode(self.mode))
                    .map_err(failed("change mode of", path))?;
            }
            self.put_xattrs(path, |name, value| rustix::fs::setxattr(node.as_str(), name, value, XattrFlags::empty()))?;
        }
        rustix::fs::utimensat(dir, name, &self.times(), nofollow).map_err(failed("set time of", path))
    }

    /// Attributes that this file system or kind of file cannot have are left out, as other engines do; but a program
    /// without its capabilities would be broken.
    fn put_xattrs(&self, path: &[u8], set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>) -> Result<()> {
        for (name, value) in self.xattrs.iter().filter(|(name, _)| !is_overlays_own(name)) {
            match set(name, value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::PERM) if name != CAPABILITY => {}
                Err(e) => {
                    return Err(Error::io("set extended attribute of", show(path), e).hint(format!(
                        "the attribute is {}; the file system of the root directory must support it",
                        show(name)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// A new regular file that only we can open.
pub(super) fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Makes a link, device or pipe; the mode comes with the attributes.
pub(super) fn create_special(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let device = rustix::fs::makedev(entry.device.0, entry.device.1);
    let (kind, device) = match entry.kind {
        EntryKind::Symlink => return rustix::fs::symlinkat(entry.link.as_slice(), dir, name),
        EntryKind::CharDevice => (FileType::CharacterDevice, device),
        EntryKind::BlockDevice => (FileType::BlockDevice, device),
        _ => (FileType::Fifo, 0),
    };
    rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)
}

pub(super) fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], path: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(failed("write", path)(e)),
        }
    }
    Ok(())
}

/// An error that a reader gave: one of ours that travels inside comes out again.
pub(crate) fn from_reader(operation: &'static str, object: impl std::fmt::Display, error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => Error::io(operation, object, error),
    }
}

/// A tree deeper than any path can be; it could not be written into a layer that anybody can read.
pub(super) fn check_depth(path: &[u8]) -> Result<()> {
    if path.len() > 4095 {
        return Err(
            Error::new(Kind::Unsupported, "read directory", show(path)).because("its path is longer than 4095 bytes")
        );
    }
    Ok(())
}
