//! Finding and removing what nothing refers to.

use crate::db::{Durability, State as _, Writer};
use crate::{Lease, Store};
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::Path;
use tare_model::{Context as _, Digest, Error, Result};

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
    /// Bytes freed: blobs as they are on disk, layers as their regular files add up.
    pub bytes: u64,
}

/// Blobs and layers that may be garbage.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<Digest>,
}

/// What rows refer to.
#[derive(Debug, Default)]
pub(crate) struct References {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<Digest>,
}

impl References {
    pub(crate) fn read(db: &Connection) -> Result<Self> {
        let mut refs = References::default();
        let mut rows = db.prepare("SELECT id, manifest FROM images").state("read")?;
        for row in rows.query_map([], |r| Ok([r.get(0)?, r.get(1)?])).state("read")? {
            let row: [String; 2] = row.state("read")?;
            refs.blobs.extend(row.iter().filter_map(|hex| Digest::from_hex(hex).ok()));
        }
        let mut rows = db.prepare("SELECT diff_id, blob FROM image_layers").state("read")?;
        for row in rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).state("read")? {
            let (diff_id, blob): (String, String) = row.state("read")?;
            refs.layers.extend(Digest::from_hex(&diff_id));
            refs.blobs.extend(Digest::from_hex(&blob));
        }
        let mut rows = db.prepare("SELECT layers FROM containers").state("read")?;
        for row in rows.query_map([], |r| r.get::<_, String>(0)).state("read")? {
            refs.layers.extend(row.state("read")?.split_whitespace().filter_map(|hex| Digest::from_hex(hex).ok()));
        }
        Ok(refs)
    }
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
        Ok(done)
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
                done.bytes += crate::layers::size(tx, diff_id)?;
                tx.execute("DELETE FROM layers WHERE diff_id = ?", [diff_id.hex()]).state("write")?;
            }
            Ok(())
        })?;
        for diff_id in sorted(candidates.layers) {
            grave.bury(&self.layer_dir(&diff_id))?;
            done.layers.push(diff_id);
        }
        for digest in sorted(candidates.blobs) {
            let path = self.blob_path(&digest);
            let size = std::fs::metadata(&path).map_or(0, |m| m.len());
            if grave.bury(&path)? {
                done.bytes += size;
                done.blobs.push(digest);
            }
        }
        Ok(done)
    }

    /// Gives up a lease and, at once, whatever only it held.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub(crate) fn end_lease(&self, lease: Lease) -> Result<()> {
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
        for path in self.stray_containers(writer)? {
            n += usize::from(grave.bury(&path)?);
        }
        for path in self.stray_volumes(writer)? {
            if names(&path.join("_data"))?.is_empty() {
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

pub(crate) fn strings(db: &Connection, query: &str) -> Result<HashSet<String>> {
    let mut rows = db.prepare(query).state("read")?;
    rows.query_map([], |row| row.get(0)).and_then(Iterator::collect).state("read")
}

pub(crate) fn all_layers(db: &Connection) -> Result<HashSet<Digest>> {
    Ok(strings(db, "SELECT diff_id FROM layers")?.iter().filter_map(|hex| Digest::from_hex(hex).ok()).collect())
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

fn sorted(set: HashSet<Digest>) -> Vec<Digest> {
    let mut v: Vec<_> = set.into_iter().collect();
    v.sort_unstable();
    v
}
