//! Bytes on disk, as du(1) counts them.
//!
//! Blocks of everything, directories too; a file with several names once. Nothing depends on how deep a tree is or how long its paths
//! are: a container's processes can make trees that no path reaches.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// So many directories below the one that is held open are reached by one path: its length stays below `PATH_MAX`, and descriptors
/// below their limit.
const STRIDE: usize = 15;

/// A count. What it has seen under one name it does not count under another.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Device and inode of files that have several names.
    seen: HashSet<(u64, u64)>,
}

/// A directory to be read: a path below one that is open.
struct Waiting {
    anchor: Arc<OwnedFd>,
    path: Vec<u8>,
    level: usize,
}

impl Disk {
    /// Bytes of a file, or of a directory with all below it. What vanishes meanwhile, or cannot be read, is passed over.
    pub(crate) fn bytes(&mut self, path: &Path) -> u64 {
        let Ok(stat) = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return 0 };
        let mut total = self.own(&stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return total;
        }
        let Some(top) = open(CWD, path.as_os_str().as_bytes()) else { return total };
        let mut waiting = vec![Waiting { anchor: Arc::new(top), path: b".".to_vec(), level: 0 }];
        while let Some(next) = waiting.pop() {
            total += self.directory(&next, &mut waiting);
        }
        total
    }

    /// Bytes of one file or directory alone.
    pub(crate) fn alone(&mut self, path: &Path) -> u64 {
        rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| self.own(&stat))
    }

    fn own(&mut self, stat: &Stat) -> u64 {
        let several = stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
        if several && !self.seen.insert((stat.st_dev, stat.st_ino)) {
            return 0;
        }
        u64::try_from(stat.st_blocks).unwrap_or(0) * 512
    }

    /// What stands in a directory, without what stands in those below, which then wait.
    fn directory(&mut self, at: &Waiting, waiting: &mut Vec<Waiting>) -> u64 {
        let Some(dir) = open(at.anchor.as_fd(), &at.path) else { return 0 };
        let dir = Arc::new(dir);
        let mut total = 0;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 1 << 15];
        let mut raw = RawDir::new(dir.as_fd(), &mut buffer);
        while let Some(Ok(entry)) = raw.next() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            total += self.own(&stat);
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            waiting.push(if at.level < STRIDE {
                let path = [&at.path, b"/".as_slice(), name.to_bytes()].concat();
                Waiting { anchor: at.anchor.clone(), path, level: at.level + 1 }
            } else {
                Waiting { anchor: dir.clone(), path: name.to_bytes().to_vec(), level: 1 }
            });
        }
        total
    }
}

fn open(at: impl AsFd, path: &[u8]) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_with_several_names_count_once_and_holes_not_at_all() {
        let root = crate::tests::Root::new();
        let path = root.store.root();
        std::fs::create_dir_all(path.join("a")).unwrap();
        std::fs::write(path.join("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(path.join("a/file"), path.join("again")).unwrap();
        std::fs::File::create(path.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let blocks = |name: &str| std::fs::metadata(path.join(name)).unwrap().blocks() * 512;
        let whole = ["", "a", "a/file", "sparse"].map(blocks).iter().sum::<u64>();
        assert_eq!(Disk::default().bytes(path), whole);
        let mut disk = Disk::default();
        let (first, second) = (disk.bytes(&path.join("a")), disk.bytes(&path.join("again")));
        assert_eq!((first, second), (blocks("a") + blocks("a/file"), 0));
    }

    #[test]
    fn depth_is_not_limited_by_paths_or_descriptors() {
        let root = crate::tests::Root::new();
        let path = root.store.root();
        std::fs::create_dir(path).unwrap();
        let mut at = open(CWD, path.as_os_str().as_bytes()).unwrap();
        let name = vec![b'n'; 200];
        let mut blocks = u64::try_from(rustix::fs::fstat(&at).unwrap().st_blocks).unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, name.as_slice(), Mode::RWXU).unwrap();
            // A neighbour that keeps the level busy.
            rustix::fs::mkdirat(&at, "beside", Mode::RWXU).unwrap();
            let beside = rustix::fs::statat(&at, "beside", AtFlags::empty()).unwrap().st_blocks;
            at = open(&at, &name).unwrap();
            blocks += u64::try_from(beside + rustix::fs::fstat(&at).unwrap().st_blocks).unwrap();
        }
        assert_eq!(Disk::default().bytes(path), blocks * 512);
        crate::layer::remove_tree(CWD.as_fd(), path.as_os_str().as_bytes()).unwrap();
    }
}
