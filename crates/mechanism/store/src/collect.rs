//! Finding and removing what nothing refers to.

use crate::db::{Durability, Writer};
use crate::disk::Disk;
use crate::lease::{digests_in, names};
use crate::rebuild::REBUILDING;
use crate::rows::{self, Candidates, References, all_layers, strings};
use crate::sql::State as _;
use crate::verify::DAMAGED;
use crate::{Form, Lease, Store};
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::Path;
use tare_model::{Digest, Result};

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Layers, by diff ID.
    pub layers: Vec<Digest>,
    /// Leases of dead processes.
    pub leases: usize,
    /// Directories of containers, and empty ones of volumes, without a row.
    pub directories: usize,
    /// Bytes freed: as they are on disk, but layers that are trees as their regular files add up.
    pub bytes: u64,
}

impl Store {
    /// Removes whatever no image, container or living lease refers to. A volume's directory without a row is only
    /// removed if it is empty: it may be somebody's data, and [`Store::check`] reports it.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub fn gc(&self) -> Result<Collected> {
        let leases = self.remove_dead_leases()?;
        let grave = self.lease()?;
        let mut writer = self.writer()?;
        let mut candidates = Candidates::default();
        candidates.blobs.extend(digests_in(&self.root().join("blobs/sha256"))?);
        candidates.layers.extend(digests_in(&self.root().join("layers"))?);
        candidates.layers.extend(writer.read(all_layers)?);
        let mut done = self.bury_orphans(&mut writer, &grave, candidates, None, |_| Ok(()))?;
        done.leases = leases;
        done.directories = self.bury_strays(&mut writer, &grave)?;
        done.bytes += self.bury_damaged(&mut writer, &grave)?;
        drop(writer);
        grave.end()?;
        Ok(done)
    }

    /// What a verification has set aside, unless containers that stand on it may be running; bytes.
    fn bury_damaged(&self, writer: &mut Writer<'_>, grave: &Lease) -> Result<u64> {
        let mut bytes = 0;
        for path in self.damaged(writer)? {
            bytes += Disk::default().bytes(&path);
            grave.bury(&path)?;
        }
        Ok(bytes)
    }

    /// See [`Store::bury_damaged`].
    pub(crate) fn damaged(&self, writer: &mut Writer<'_>) -> Result<Vec<std::path::PathBuf>> {
        let used = writer.read(|db| strings(db, "SELECT layers FROM containers"))?;
        let used: HashSet<&str> = used.iter().flat_map(|layers| layers.split_whitespace()).collect();
        let mut found = Vec::new();
        for (dir, keep) in [("blobs/sha256", false), ("layers", true)] {
            let dir = self.root().join(dir);
            for name in names(&dir)? {
                let hex = name.strip_suffix(DAMAGED).and_then(|hex| hex.strip_suffix('.'));
                if hex.is_some_and(|hex| Digest::from_hex(hex).is_ok() && !(keep && used.contains(hex))) {
                    found.push(dir.join(name));
                }
            }
        }
        Ok(found)
    }

    /// In one durable transaction does `first` and forgets those of the candidates that nothing refers to afterwards;
    /// then moves them to the grave. What `own` alone holds counts as garbage.
    ///
    /// Rows go first, and durably: a power cut must not bring back a row whose files are gone.
    pub(crate) fn bury_orphans(
        &self,
        writer: &mut Writer<'_>,
        grave: &Lease,
        mut candidates: Candidates,
        own: Option<&Lease>,
        first: impl FnOnce(&Connection) -> Result<()>,
    ) -> Result<Collected> {
        let held = self.held_by_leases(own)?;
        let mut done = Collected::default();
        writer.transaction(Durability::Durable, |tx| {
            first(tx)?;
            let refs = References::read(tx)?;
            candidates.blobs.retain(|d| !refs.blobs.contains(d) && !held.contains(d));
            candidates.layers.retain(|d| !refs.layers.contains(d) && !held.contains(d));
            for diff_id in &candidates.layers {
                done.bytes += match self.placed(diff_id) {
                    Some(placed) if placed.form == Form::Image => Disk::default().alone(&placed.path),
                    _ => rows::layer_size(tx, diff_id)?,
                };
                tx.execute("DELETE FROM layers WHERE diff_id = ?", [diff_id.hex()]).state("write")?;
            }
            Ok(())
        })?;
        // Their rows are gone: one that cannot be moved keeps no other from going.
        let mut failed = None;
        for diff_id in sorted(candidates.layers) {
            match grave.bury(&self.layer_dir(&diff_id)) {
                Ok(_) => done.layers.push(diff_id),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        for digest in sorted(candidates.blobs) {
            let path = self.blob_path(&digest);
            let size = Disk::default().alone(&path);
            match grave.bury(&path) {
                Ok(true) => {
                    done.bytes += size;
                    done.blobs.push(digest);
                }
                Ok(false) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Does something under a lease. If it fails, whatever only that lease held goes at once.
    ///
    /// # Errors
    /// As `work`.
    pub fn leased<T>(&self, work: impl FnOnce(&Lease) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        let done = work(&lease);
        if done.is_err() {
            // What cannot be removed now is found by a collection: the first failure is the one to tell of.
            drop(self.end_lease(lease));
        }
        done
    }

    /// Gives up a lease and, at once, whatever only it held.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub fn end_lease(&self, lease: Lease) -> Result<()> {
        let held = lease.held()?;
        let candidates = Candidates { blobs: held.clone(), layers: held };
        let mut writer = self.writer()?;
        self.bury_orphans(&mut writer, &lease, candidates, Some(&lease), |_| Ok(()))?;
        drop(writer);
        Ok(())
    }

    /// Directories of containers and volumes that have no row; how many.
    fn bury_strays(&self, writer: &mut Writer<'_>, grave: &Lease) -> Result<usize> {
        let mut n = 0;
        let rebuilding = !writer.read(|db| strings(db, REBUILDING))?.is_empty();
        for path in self.stray_containers(writer)?.into_iter().filter(|_| !rebuilding) {
            n += usize::from(grave.bury(&path)?);
        }
        for path in self.stray_volumes(writer)? {
            if crate::volume::is_removed(&path) || names(&path.join("_data"))?.is_empty() {
                n += usize::from(grave.bury(&path)?);
            }
        }
        Ok(n)
    }

    pub(crate) fn stray_containers(&self, writer: &mut Writer<'_>) -> Result<Vec<std::path::PathBuf>> {
        let rows = writer.read(|db| strings(db, "SELECT id FROM containers"))?;
        strays(&self.root().join("containers"), &rows)
    }

    pub(crate) fn stray_volumes(&self, writer: &mut Writer<'_>) -> Result<Vec<std::path::PathBuf>> {
        let rows = writer.read(|db| strings(db, "SELECT name FROM volumes"))?;
        strays(&self.root().join("volumes"), &rows)
    }
}

fn strays(dir: &Path, rows: &HashSet<String>) -> Result<Vec<std::path::PathBuf>> {
    Ok(names(dir)?.into_iter().filter(|name| !rows.contains(name)).map(|name| dir.join(name)).collect())
}

fn sorted(set: HashSet<Digest>) -> Vec<Digest> {
    let mut v: Vec<_> = set.into_iter().collect();
    v.sort_unstable();
    v
}
