//! Who fetches a blob: one at a time, over all processes that share the store.
//!
//! ```text
//! tmp/fetch-<hex>/   locked (flock) by whoever fetches it: as a lease's directory, garbage when nobody locks it
//!   part               what has come so far; whoever comes next goes on behind it
//! ```
//!
//! A lock that is refused is asked for again by whoever wants it, who sees meanwhile whether `part` grows: the kernel's own waiting
//! could not be given up when it does not.

use crate::Lease;
use crate::blob::BlobWriter;
use crate::lease::remove_lease_dir;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tare_model::{Context as _, Digest, Error, Result};

const PART: &str = "part";

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// The caller's, until it drops this.
    Ours(Fetch),
    /// Another one's, who has this many bytes so far.
    Theirs {
        /// How many.
        bytes: u64,
    },
}

/// The right to fetch one blob.
#[derive(Debug)]
pub struct Fetch {
    dir: PathBuf,
    keep: bool,
    // Closing it gives the turn to the next one.
    _lock: OwnedFd,
}

impl Lease {
    /// Asks for the right to fetch a blob. Whoever gets it looks first whether the blob is there by now.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn turn(&self, digest: &Digest) -> Result<Turn> {
        let dir = self.store().root().join("tmp").join(format!("fetch-{}", digest.hex()));
        loop {
            match std::fs::create_dir(&dir) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.during("create directory", dir.display())?,
            }
            let failed = |e| Error::io("lock", dir.display(), e);
            let lock = match open(&dir) {
                // Whoever had it is done.
                Err(Errno::NOENT) => continue,
                other => other.map_err(failed)?,
            };
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    return Ok(Turn::Theirs { bytes: std::fs::metadata(dir.join(PART)).map_or(0, |m| m.len()) });
                }
                other => other.map_err(failed)?,
            }
            // It may have been removed between opening and locking; then the lock means nothing.
            let (ours, there) = (rustix::fs::fstat(&lock).map_err(failed)?, rustix::fs::stat(&dir));
            if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)) {
                return Ok(Turn::Ours(Fetch { dir, keep: false, _lock: lock }));
            }
        }
    }
}

impl Fetch {
    /// The blob to be written, behind what an earlier fetch has left of it, if that is not more than `size` bytes.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn blob(&self, lease: &Lease, size: u64) -> Result<BlobWriter> {
        BlobWriter::go_on(lease, self.dir.join(PART), size)
    }

    /// What has come stays for the next one, or until a collection.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed by gc, which finds the lock free.
            drop(remove_lease_dir(&self.dir));
        }
    }
}

fn open(dir: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Root;
    use std::io::Write as _;

    fn ours(lease: &Lease, digest: &Digest) -> Fetch {
        match lease.turn(digest).unwrap() {
            Turn::Ours(fetch) => fetch,
            Turn::Theirs { .. } => panic!("somebody else has the turn"),
        }
    }

    #[test]
    fn one_at_a_time_and_the_next_goes_on_behind_what_is_there() {
        let root = Root::new();
        let store = root.store.clone();
        let lease = store.lease().unwrap();
        let digest = Digest::of(b"one two");
        let mut first = ours(&lease, &digest);
        let mut blob = first.blob(&lease, 7).unwrap();
        blob.write_all(b"one ").unwrap();
        assert!(matches!(lease.turn(&digest).unwrap(), Turn::Theirs { bytes: 4 }));
        // A living one is not collected.
        store.gc().unwrap();
        first.keep();
        drop((blob, first));
        let second = ours(&lease, &digest);
        let mut blob = second.blob(&lease, 7).unwrap();
        let mut earlier = Vec::new();
        blob.replay(&mut |bytes| {
            earlier.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!((&earlier[..], blob.len()), (&b"one "[..], 4));
        blob.write_all(b"two").unwrap();
        assert_eq!(blob.commit(None).unwrap(), (digest, 7));
        drop(second);
        assert!(!store.root().join("tmp").join(format!("fetch-{}", digest.hex())).exists());
        assert_eq!(store.read_blob(&digest, 100).unwrap(), b"one two");
    }

    #[test]
    fn what_is_longer_than_the_blob_is_no_part_of_it_and_what_nobody_wants_is_collected() {
        let root = Root::new();
        let store = root.store.clone();
        let lease = store.lease().unwrap();
        let digest = Digest::of(b"x");
        let mut first = ours(&lease, &digest);
        first.blob(&lease, 100).unwrap().write_all(b"much more").unwrap();
        first.keep();
        drop(first);
        let mut second = ours(&lease, &digest);
        let mut blob = second.blob(&lease, 1).unwrap();
        blob.replay(&mut |_| panic!("nothing is there")).unwrap();
        assert!(blob.is_empty());
        second.keep();
        drop((blob, second));
        assert_eq!(store.gc().unwrap().leases, 1);
        drop(lease);
        assert_eq!(std::fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn many_at_once_each_get_their_turn() {
        let root = Root::new();
        let lease = root.store.lease().unwrap();
        let digest = Digest::of(b"x");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..20 {
                        let turn = loop {
                            match lease.turn(&digest).unwrap() {
                                Turn::Ours(fetch) => break fetch,
                                Turn::Theirs { .. } => std::thread::yield_now(),
                            }
                        };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
    }
}
