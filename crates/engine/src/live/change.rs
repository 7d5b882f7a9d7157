//! One change of a container's networks at a time, and what is left of one whose maker was killed.
//!
//! A file in the container's directory is there for as long as a change is being made, and locked by whoever makes it. One
//! that nobody has locked says that a change was left half done: leases that the description does not name are given back
//! then, and devices of networks that it does not name are taken away.

use crate::record::Dirs;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::path::PathBuf;
use tare_model::{Error, Result};

/// The right to change a container's networks and ports. The file goes with it unless its holder is killed.
#[derive(Debug)]
pub(crate) struct Change {
    path: PathBuf,
    _file: OwnedFd,
    /// It could not be brought to its end: the next one to look has to.
    stays: bool,
    /// The last change was not brought to an end.
    pub(crate) unfinished: bool,
}

impl Change {
    /// Waits until nobody else changes the container.
    pub(crate) fn begin(dirs: &Dirs) -> Result<Change> {
        let path = dirs.state.join("change");
        loop {
            let (file, unfinished) = open(&path).map_err(|e| Error::io("open", path.display(), e))?;
            loop {
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(Error::io("lock", path.display(), e)),
                }
            }
            // Whoever had it has removed it: a lock that nobody can find is none. That one was brought to its end.
            if crate::record::is_at(&file, &path) {
                return Ok(Change { path, _file: file, stays: false, unfinished });
            }
        }
    }

    /// Takes over what somebody left half done, if that is so. Costs one system call where it is not.
    pub(crate) fn left_behind(dirs: &Dirs) -> Result<Option<Change>> {
        let path = dirs.state.join("change");
        let file = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open", path.display(), e)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if crate::record::is_at(&file, &path) => {
                Ok(Some(Change { path, _file: file, stays: false, unfinished: true }))
            }
            Ok(()) | Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::io("lock", path.display(), e)),
        }
    }

    /// From here on it is half done: if it ends so, that is for the next one to look.
    pub(crate) fn half_done(&mut self) {
        self.stays = true;
    }

    /// It is brought to its end, or undone.
    pub(crate) fn whole(&mut self) {
        self.stays = false;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.stays {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The file, and whether it was there.
fn open(path: &std::path::Path) -> rustix::io::Result<(OwnedFd, bool)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    loop {
        match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            made => return made.map(|file| (file, false)),
        }
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            found => return found.map(|file| (file, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn dirs(root: &std::path::Path) -> Dirs {
        Dirs { state: root.to_owned(), run: root.join("run") }
    }

    #[test]
    fn changes_come_one_after_another_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Change::begin(&dirs(dir.path())).unwrap();
        assert!(!first.unfinished);
        assert!(Change::left_behind(&dirs(dir.path())).unwrap().is_none(), "it is being made");
        let (tell, told) = channel();
        let other = dirs(dir.path());
        let second = std::thread::spawn(move || {
            let change = Change::begin(&other).unwrap();
            tell.send(()).unwrap();
            drop(change);
        });
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "two at once");
        drop(first);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        second.join().unwrap();
        assert!(!dir.path().join("change").exists());
    }

    #[test]
    fn what_a_killed_one_left_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Change::left_behind(&dirs(dir.path())).unwrap().is_none());
        std::fs::write(dir.path().join("change"), "").unwrap();
        let mut found = Change::left_behind(&dirs(dir.path())).unwrap().unwrap();
        assert!(found.unfinished);
        found.half_done();
        drop(found);
        assert!(Change::begin(&dirs(dir.path())).unwrap().unfinished);
    }
}
