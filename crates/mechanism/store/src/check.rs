//! Looking for inconsistencies.

use crate::db::DIRECTORIES;
use crate::image::Rows;
use crate::lease::{digests_in, names};
use crate::rows::{self, Candidates, Found, References, all_layers, found};
use crate::sql::State as _;
use crate::verify::mend;
use crate::{Image, Store};
use rusqlite::Connection;
use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use tare_model::{Digest, Result};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it concerns: `image sha256:…`, `blob …`, `container …`.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it is only garbage, which [`Store::gc`] removes.
    pub collectable: bool,
    /// Whether [`Store::repair`] mends it, without loss.
    pub repairable: bool,
    /// What to do about it: a command, or a sentence.
    pub mend: String,
}

impl Finding {
    /// Something that is lost, at least here.
    pub fn broken(object: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        let (object, problem, mend) = (object.into(), problem.into(), mend.into());
        Finding { object, problem, collectable: false, repairable: false, mend }
    }

    /// Something that nothing refers to.
    pub fn garbage(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { collectable: true, ..Finding::broken(object, problem, "tare system prune") }
    }

    /// Something that can be put right.
    pub fn repairable(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { repairable: true, ..Finding::broken(object, problem, "tare system check --repair") }
    }

    /// Whether neither [`Store::gc`] nor [`Store::repair`] mends it.
    pub fn is_loss(&self) -> bool {
        !self.collectable && !self.repairable
    }
}

impl Store {
    /// Lists inconsistencies; with `deep` reads every blob again. What living leases hold is not garbage.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn check(&self, deep: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut writer = self.writer()?;
        writer.read(|db| database(db, &mut findings))?;
        writer.read(|db| relations(db, &mut findings))?;
        let refs = writer.read(References::read)?;
        self.check_content(&mut writer, &refs, &mut findings)?;
        self.check_directories(&mut writer, &mut findings)?;
        drop(writer);
        for image in self.readable_images(&mut findings)? {
            if let Err(e) = self.read_blob(&image.manifest.digest, crate::limits::DOCUMENT_MAX) {
                let mend = self.read(|db| Rows::read(db, image.id))?;
                findings.push(Finding::broken(
                    format!("image {}", image.id),
                    e.to_string(),
                    crate::verify::mend(&[&mend]),
                ));
            }
        }
        if deep {
            for digest in refs.blobs {
                if let Some(problem) = self.damage(&digest)? {
                    let images = self.read(all_rows)?;
                    let having: Vec<_> = images.iter().filter(|i| i.content().blobs.contains(&digest)).collect();
                    findings.push(Finding::broken(format!("blob {digest}"), problem, mend(&having)));
                }
            }
        }
        findings.sort_by(|a, b| (a.collectable, &a.object).cmp(&(b.collectable, &b.object)));
        Ok(findings)
    }

    fn check_content(
        &self,
        writer: &mut crate::db::Writer<'_>,
        refs: &References,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let held = self.held_by_leases(None)?;
        let images = writer.read(all_rows)?;
        let of = |has: &dyn Fn(&Rows) -> bool| mend(&images.iter().filter(|i| has(i)).collect::<Vec<_>>());
        // Of a layer that is an image the blob need not be kept: the image has its archive.
        let without: HashSet<Digest> = images
            .iter()
            .flat_map(|i| &i.layers)
            .filter(|l| self.has_archive(&l.diff_id))
            .map(|l| l.blob.digest)
            .collect();
        for digest in refs.blobs.iter().filter(|d| !self.has_blob(d) && !without.contains(d)) {
            let mend = of(&|i| i.content().blobs.contains(digest));
            findings.push(Finding::broken(format!("blob {digest}"), "an image needs it and it is missing", mend));
        }
        for diff_id in &self.missing_layers(writer, refs)? {
            let object = format!("layer {diff_id}");
            let blob = images.iter().flat_map(|i| &i.layers).find(|l| l.diff_id == *diff_id);
            findings.push(if blob.is_some_and(|l| self.has_blob(&l.blob.digest)) || self.layer_dir(diff_id).exists() {
                Finding::repairable(object, "it is needed and not unpacked, or was not written out before a power cut")
            } else {
                let mend = of(&|i| i.content().layers.contains(diff_id));
                Finding::broken(object, "it is needed and it is missing", mend)
            });
        }
        let mut there = Candidates {
            blobs: digests_in(&self.root().join("blobs/sha256"))?,
            layers: digests_in(&self.root().join("layers"))?,
        };
        there.layers.extend(writer.read(all_layers)?);
        for digest in there.blobs.difference(&refs.blobs).filter(|d| !held.contains(d)) {
            findings.push(Finding::garbage(format!("blob {digest}"), "nothing refers to it"));
        }
        for diff_id in there.layers.difference(&refs.layers).filter(|d| !held.contains(d)) {
            findings.push(Finding::garbage(format!("layer {diff_id}"), "nothing refers to it"));
        }
        for path in self.damaged(writer)? {
            findings.push(Finding::garbage(path.display().to_string(), "it was found damaged and set aside"));
        }
        Ok(())
    }

    /// Layers that an image or a container needs and that are not there, or not to be trusted.
    pub(crate) fn missing_layers(&self, writer: &mut crate::db::Writer<'_>, refs: &References) -> Result<Vec<Digest>> {
        let boot = crate::db::boot_id()?;
        let mut missing = Vec::new();
        for diff_id in &refs.layers {
            let row = writer.read(|db| found(db, diff_id, &boot))?;
            if row == Found::No || self.placed(diff_id).is_none() {
                missing.push(*diff_id);
            }
        }
        missing.sort_unstable();
        Ok(missing)
    }

    fn check_directories(&self, writer: &mut crate::db::Writer<'_>, findings: &mut Vec<Finding>) -> Result<()> {
        for dir in self.dead_leases()? {
            findings.push(Finding::garbage(dir.display().to_string(), "left by a process that died"));
        }
        for dir in self.stray_containers(writer)? {
            findings.push(Finding::garbage(dir.display().to_string(), "no container has this directory"));
        }
        for dir in self.stray_volumes(writer)? {
            let data = !crate::volume::is_removed(&dir) && !names(&dir.join("_data"))?.is_empty();
            let finding = if data { Finding::repairable } else { Finding::garbage };
            findings.push(finding(dir.display().to_string(), "no volume has this directory"));
        }
        for row in writer.read(rows::containers)? {
            if !self.container_dir(&row.id).is_dir() {
                let mend = format!("tare rm -f {}: its changes are lost", row.name);
                findings.push(Finding::broken(format!("container {}", row.id), "its directory is missing", mend));
            }
        }
        for name in writer.read(|db| rows::strings(db, "SELECT name FROM volumes"))? {
            let data = self.root().join("volumes").join(&name).join("_data");
            if !data.is_dir() {
                let mend = format!("bring back {} from a copy, or tare volume rm {name}", data.display());
                findings.push(Finding::broken(format!("volume {name}"), "its directory is missing", mend));
            }
        }
        for directory in DIRECTORIES {
            let path = self.root().join(directory);
            match std::fs::symlink_metadata(&path) {
                Ok(meta) if !meta.is_dir() => {
                    findings.push(Finding::broken(path.display().to_string(), "it is no directory", "move it away"));
                }
                Ok(meta)
                    if meta.permissions().mode() & open_to_others(directory) != 0
                        || meta.uid() != rustix::process::geteuid().as_raw() =>
                {
                    let problem = "others than its owner reach it: layers hold programs with other users' rights";
                    findings.push(Finding::repairable(path.display().to_string(), problem));
                }
                Ok(_) => {}
                Err(_) => findings.push(Finding::repairable(path.display().to_string(), "it is missing")),
            }
        }
        Ok(())
    }

    fn readable_images(&self, findings: &mut Vec<Finding>) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for rows in self.read(all_rows)? {
            match self.image(&rows.id.to_string()) {
                Ok(image) => images.push(image),
                Err(e) => findings.push(Finding::broken(format!("image {}", rows.id), e.to_string(), mend(&[&rows]))),
            }
        }
        Ok(images)
    }

    /// What is wrong with a blob's content; a missing one is not asked about here.
    fn damage(&self, digest: &Digest) -> Result<Option<String>> {
        let Ok(mut file) = self.open_blob(digest) else { return Ok(None) };
        let mut hash = crate::blob::Hasher::default();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.write_all(&buffer[..n]).expect("hashing cannot fail"),
                Err(e) => return Ok(Some(e.to_string())),
            }
        }
        let (found, _) = hash.finish();
        Ok((found != *digest).then(|| format!("its content has the digest {found}")))
    }
}

/// The permissions that nobody else may have there. The root itself may be looked at: what matters lies in directories below.
pub(crate) fn open_to_others(directory: &str) -> u32 {
    if directory.is_empty() { 0o022 } else { 0o077 }
}

/// All images' rows.
fn all_rows(db: &Connection) -> Result<Vec<Rows>> {
    let ids = rows::strings(db, "SELECT id FROM images")?;
    ids.iter().map(|hex| Rows::read(db, Digest::from_hex(hex)?)).collect()
}

/// Addresses and places of containers in networks.
fn relations(db: &Connection, findings: &mut Vec<Finding>) -> Result<()> {
    let mut known = HashSet::new();
    let mut rows = db.prepare("SELECT id, name, definition FROM networks").state("read")?;
    let all = rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).state("read")?;
    for row in all {
        let (id, name, definition): (String, String, String) = row.state("read")?;
        if crate::definition::read(&definition).is_err() {
            let mend = format!("tare network rm {name}, and create it again");
            findings.push(Finding::broken(format!("network {name}"), "its definition cannot be read", mend));
        }
        known.insert(id);
    }
    let containers = rows::containers(db)?;
    for container in &containers {
        for network in container.networks.iter().filter(|n| !known.contains(*n)) {
            let problem = format!("it has a place in network {network}, which does not exist");
            findings.push(Finding::repairable(format!("container {}", container.id), problem));
        }
    }
    for orphan in rows::strings(db, ORPHAN_ADDRESSES)? {
        let problem = "it has an address and does not exist";
        findings.push(Finding::repairable(format!("container {orphan}"), problem));
    }
    Ok(())
}

/// Containers that are gone and still have an address, of this boot or none: what is in quarantine ends with the boot.
pub(crate) const ORPHAN_ADDRESSES: &str =
    "SELECT container FROM addresses WHERE boot IS NULL AND container NOT IN (SELECT id FROM containers)";

fn database(db: &Connection, findings: &mut Vec<Finding>) -> Result<()> {
    let said: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).state("check")?;
    if said != "ok" {
        findings.push(Finding::repairable("state.db", said));
    }
    let mut rows = db.prepare("PRAGMA foreign_key_check").state("check")?;
    let tables: Vec<String> = rows.query_map([], |row| row.get(0)).and_then(Iterator::collect).state("check")?;
    findings
        .extend(tables.into_iter().map(|t| Finding::repairable("state.db", format!("a row of {t} refers to nothing"))));
    Ok(())
}
