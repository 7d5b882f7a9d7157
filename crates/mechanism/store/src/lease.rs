//! Leases: what is being made is not garbage.
//!
//! A lease is a directory under `tmp/` whose descriptor its process keeps locked. It needs no rows: when the process
//! dies the lock is free, and the next collection removes the directory with all that was unfinished in it.

use crate::Store;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// Protects content from collection while it is being made; ends when the last clone is dropped.
#[derive(Clone)]
pub struct Lease(Arc<Held>);

struct Held {
    store: Store,
    dir: PathBuf,
    next: AtomicU64,
    /// Bytes of the files of all layers unpacked so far.
    unpacked: AtomicU64,
    // The lock is on the open file description: closing it ends the lease.
    _lock: OwnedFd,
}

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be removed now is removed by gc, which finds the lock free.
        drop(remove_lease_dir(&self.dir));
    }
}

impl Lease {
    /// The store that it belongs to.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Protects these blobs and layers (diff IDs) until the lease ends. Ask `has_blob` and `has_layer` *after* this.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn hold(&self, digests: &[Digest]) -> Result<()> {
        let missing: Vec<_> =
            digests.iter().map(|d| self.holds().join(d.hex())).filter(|path| !path.exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // Under the writers' lock: a collection either sees this, or has already renamed away what it takes.
        let _writer = self.0.store.writer()?;
        match std::fs::create_dir(self.holds()) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.during("create directory", self.holds().display())?,
        }
        for path in missing {
            File::create(&path).during("create", path.display())?;
        }
        Ok(())
    }

    /// A scratch file without a name, on the store's file system.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn scratch(&self) -> Result<File> {
        let path = self.fresh_path("s");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.during("create", path.display())?;
        std::fs::remove_file(&path).during("remove", path.display())?;
        Ok(file)
    }

    /// Counts what a layer unpacked to, against the limit of an image: what one lease makes is one image, or an archive of some.
    pub(crate) fn count_unpacked(&self, bytes: u64) -> Result<()> {
        let before = self.0.unpacked.fetch_add(bytes, Ordering::Relaxed);
        self.store().limits().check_image(before.saturating_add(bytes))
    }

    /// A name in the lease's directory that nobody has used.
    pub(crate) fn fresh_path(&self, prefix: &str) -> PathBuf {
        self.0.dir.join(format!("{prefix}{}", self.0.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Moves something out of its place, to be removed when the lease ends. Whether it was there.
    pub(crate) fn bury(&self, path: &Path) -> Result<bool> {
        let to = self.fresh_path("gone");
        match std::fs::rename(path, &to) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.during("remove", path.display()).map(|()| true),
        }
    }

    /// Ends the lease and reports what could not be removed; without this, dropping it ends it.
    pub(crate) fn end(self) -> Result<()> {
        remove_lease_dir(&self.0.dir)
    }

    pub(crate) fn held(&self) -> Result<HashSet<Digest>> {
        let mut held = HashSet::new();
        read_holds(&self.holds(), &mut held)?;
        Ok(held)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    fn holds(&self) -> PathBuf {
        self.0.dir.join("holds")
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.0.dir).finish()
    }
}

impl Store {
    /// A new lease.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn lease(&self) -> Result<Lease> {
        let dir = self.fresh_tmp()?;
        // Made and locked under the writers' lock, or a collection would see it unlocked.
        let _writer = self.writer()?;
        std::fs::create_dir(&dir).during("create directory", dir.display())?;
        let lock = open_lease(&dir)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| Error::io("lock", dir.display(), e))?;
        Ok(Lease(Arc::new(Held {
            store: self.clone(),
            dir,
            next: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// A new name under `tmp/`. A directory there that nobody locks is a dead lease: garbage.
    pub(crate) fn fresh_tmp(&self) -> Result<PathBuf> {
        Ok(self.root().join("tmp").join(&crate::random_hex()?[..16]))
    }

    /// What living leases hold, but for `own`. To be asked under the writers' lock.
    pub(crate) fn held_by_leases(&self, own: Option<&Lease>) -> Result<HashSet<Digest>> {
        let mut held = HashSet::new();
        for dir in self.lease_dirs()? {
            if own.is_some_and(|o| o.dir() == dir) {
                continue;
            }
            // Shared, so that two who ask at once do not take each other for the owner.
            if !try_lock(&dir, FlockOperation::NonBlockingLockShared)?.is_some_and(|l| l.is_free()) {
                read_holds(&dir.join("holds"), &mut held)?;
            }
        }
        Ok(held)
    }

    /// Removes leases of processes that no longer live; how many.
    pub(crate) fn remove_dead_leases(&self) -> Result<usize> {
        let writer = self.writer()?;
        let mut dead = Vec::new();
        for dir in self.lease_dirs()? {
            if let Some(Probe::Free(lock)) = try_lock(&dir, FlockOperation::NonBlockingLockExclusive)? {
                dead.push((dir, lock));
            }
        }
        drop(writer);
        for (dir, _lock) in &dead {
            remove_lease_dir(dir)?;
        }
        Ok(dead.len())
    }

    pub(crate) fn lease_dirs(&self) -> Result<Vec<PathBuf>> {
        let tmp = self.root().join("tmp");
        names(&tmp).map(|names| names.into_iter().map(|n| tmp.join(n)).collect())
    }

    /// Leases whose process is dead. To be asked under the writers' lock.
    pub(crate) fn dead_leases(&self) -> Result<Vec<PathBuf>> {
        let mut dead = Vec::new();
        for dir in self.lease_dirs()? {
            if try_lock(&dir, FlockOperation::NonBlockingLockShared)?.is_some_and(|l| l.is_free()) {
                dead.push(dir);
            }
        }
        Ok(dead)
    }
}

/// Removes a lease's directory; no error if it is not there.
pub(crate) fn remove_lease_dir(dir: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
    let parent = match open_lease(parent) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        other => other?,
    };
    loop {
        // Not std's, which holds a descriptor for each level: what was refused may be as deep as a path is long.
        match crate::layer::remove_tree(parent.as_fd(), name.as_bytes()) {
            // Somebody else removes it as well.
            Err(e) if e.kind() == Kind::NotFound => {
                if !dir.exists() {
                    return Ok(());
                }
            }
            other => return other.during("remove", dir.display()),
        }
    }
}

enum Probe {
    Free(OwnedFd),
    Taken,
}

impl Probe {
    fn is_free(&self) -> bool {
        matches!(self, Probe::Free(_))
    }
}

/// `None` if the lease just went.
fn try_lock(dir: &Path, how: FlockOperation) -> Result<Option<Probe>> {
    let fd = match open_lease(dir) {
        Ok(fd) => fd,
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match rustix::fs::flock(&fd, how) {
        Ok(()) => Ok(Some(Probe::Free(fd))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(Probe::Taken)),
        Err(e) => Err(Error::io("lock", dir.display(), e)),
    }
}

fn open_lease(dir: &Path) -> Result<OwnedFd> {
    rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", dir.display(), e))
}

fn read_holds(dir: &Path, into: &mut HashSet<Digest>) -> Result<()> {
    let names = names(dir)?;
    into.extend(names.iter().filter_map(|name| Digest::from_hex(name).ok()));
    Ok(())
}

pub(crate) fn digests_in(dir: &Path) -> Result<HashSet<Digest>> {
    Ok(names(dir)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
}

/// The names in a directory; none if it is not there. What is not UTF-8 was not made by tare.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.during("read directory", dir.display())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(|e| Error::io("read directory", dir.display(), e))?.file_name().into_string());
    }
    Ok(names)
}
