//! Unpacked layers and their rows.
//!
//! Syncing tens of thousands of small files is one `syncfs`, so it is done once per image ([`Store::put_image`]) and not
//! per layer. Until then a layer's row carries the boot id: after a power cut, files may be there without content.

use crate::db::{Durability, boot_id};
use crate::rows::{Found, found};
use crate::sql::State as _;
use crate::{Lease, Store};
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tare_model::{Context as _, Digest, Error, Result};

/// A layer being unpacked: a directory that nobody else sees until [`LayerDraft::publish`]. Made by [`Lease::layer`];
/// dropped without being published, it goes with its lease.
pub struct LayerDraft {
    lease: Lease,
    dir: PathBuf,
    fs: PathBuf,
    fd: OwnedFd,
}

impl LayerDraft {
    /// The root of the layer's tree, to unpack into.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its path, for messages and mounts.
    pub fn path(&self) -> &Path {
        &self.fs
    }

    /// Gives the layer its name; held by the lease from then on. `size`: bytes of its regular files.
    /// If another process published the same layer meanwhile, that one stays and this draft goes.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn publish(self, diff_id: Digest, size: u64) -> Result<()> {
        let store = self.lease.store();
        self.lease.hold(&[diff_id])?;
        let boot = boot_id()?;
        let place = store.layer_dir(&diff_id);
        let mut writer = store.writer()?;
        if writer.read(|db| found(db, &diff_id, &boot))? != Found::No && place.exists() {
            return Ok(());
        }
        // A directory without a trusted row is what a power cut left.
        self.lease.bury(&place)?;
        std::fs::rename(&self.dir, &place).during("rename", place.display())?;
        writer.transaction(Durability::Lazy, |tx| {
            // Not REPLACE: that would delete the row first, which images may refer to.
            let statement = "INSERT INTO layers (diff_id, size, boot) VALUES (?1, ?2, ?3)
                ON CONFLICT DO UPDATE SET size = ?2, boot = ?3";
            tx.execute(statement, (diff_id.hex(), i64::try_from(size).unwrap_or(i64::MAX), boot)).state("write")?;
            Ok(())
        })
    }
}

impl fmt::Debug for LayerDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LayerDraft").field(&self.fs).finish()
    }
}

impl Lease {
    /// A new, empty layer directory to unpack into.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn layer(&self) -> Result<LayerDraft> {
        let dir = self.fresh_path("l");
        let fs = dir.join("fs");
        std::fs::create_dir(&dir).during("create directory", dir.display())?;
        std::fs::create_dir(&fs).during("create directory", fs.display())?;
        let fd = open_dir(&fs)?;
        // What overlayfs shows as the container's `/` when the layer says nothing about it, whatever the umask.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(|e| Error::io("chmod", fs.display(), e))?;
        Ok(LayerDraft { lease: self.clone(), dir, fs, fd })
    }
}

impl Store {
    /// Whether the layer is unpacked and whole. Hold it with a lease first if it matters that it stays.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool> {
        let boot = boot_id()?;
        Ok(self.read(|db| found(db, diff_id, &boot))? != Found::No && self.layer_dir(diff_id).is_dir())
    }

    /// The root of a layer's tree: `<root>/layers/<hex>/fs`.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("fs")
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    /// The directories of layers for overlayfs, top first; given bottom first, as images list them. A layer that occurs several times is given once, at
    /// its highest place: the lower one shows nothing of its own, and overlayfs refuses the same directory twice.
    pub fn lowers_of(&self, diff_ids: &[Digest]) -> Vec<PathBuf> {
        let mut seen = HashSet::new();
        diff_ids.iter().rev().filter(|d| seen.insert(**d)).map(|d| self.layer_path(d)).collect()
    }
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", path.display(), e))
}
