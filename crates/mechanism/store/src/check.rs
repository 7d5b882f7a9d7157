//! Looking for inconsistencies.

use crate::lease::{digests_in, names};
use crate::rows::{self, Candidates, Found, References, all_layers, found};
use crate::sql::State as _;
use crate::{Image, Store};
use rusqlite::Connection;
use std::io::{Read as _, Write as _};
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
}

impl Finding {
    fn broken(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { object: object.into(), problem: problem.into(), collectable: false }
    }

    fn garbage(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { object: object.into(), problem: problem.into(), collectable: true }
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
        let refs = writer.read(References::read)?;
        self.check_content(&mut writer, &refs, &mut findings)?;
        self.check_directories(&mut writer, &mut findings)?;
        drop(writer);
        for image in self.readable_images(&mut findings)? {
            if let Err(e) = self.read_blob(&image.manifest.digest, crate::limits::DOCUMENT_MAX) {
                findings.push(Finding::broken(format!("image {}", image.id), e.to_string()));
            }
        }
        if deep {
            for digest in refs.blobs {
                if let Some(problem) = self.damage(&digest)? {
                    findings.push(Finding::broken(format!("blob {digest}"), problem));
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
        let boot = crate::db::boot_id()?;
        let held = self.held_by_leases(None)?;
        for digest in refs.blobs.iter().filter(|d| !self.has_blob(d)) {
            findings.push(Finding::broken(format!("blob {digest}"), "an image needs it and it is missing"));
        }
        for diff_id in &refs.layers {
            let row = writer.read(|db| found(db, diff_id, &boot))?;
            if row == Found::No || self.placed(diff_id).is_none() {
                findings.push(Finding::broken(format!("layer {diff_id}"), "it is needed and it is missing"));
            }
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
        Ok(())
    }

    fn check_directories(&self, writer: &mut crate::db::Writer<'_>, findings: &mut Vec<Finding>) -> Result<()> {
        for dir in self.dead_leases()? {
            findings.push(Finding::garbage(dir.display().to_string(), "left by a process that died"));
        }
        for dir in self.stray_containers(writer)? {
            findings.push(Finding::garbage(dir.display().to_string(), "no container has this directory"));
        }
        for dir in self.stray_volumes(writer)? {
            let data = !names(&dir.join("_data"))?.is_empty();
            let finding = if data { Finding::broken } else { Finding::garbage };
            findings.push(finding(dir.display().to_string(), "no volume has this directory"));
        }
        for row in writer.read(rows::containers)? {
            if !self.container_dir(&row.id).is_dir() {
                findings.push(Finding::broken(format!("container {}", row.id), "its directory is missing"));
            }
        }
        for name in writer.read(|db| rows::strings(db, "SELECT name FROM volumes"))? {
            if !self.root().join("volumes").join(&name).join("_data").is_dir() {
                findings.push(Finding::broken(format!("volume {name}"), "its directory is missing"));
            }
        }
        Ok(())
    }

    fn readable_images(&self, findings: &mut Vec<Finding>) -> Result<Vec<Image>> {
        let ids = self.read(|db| rows::strings(db, "SELECT id FROM images"))?;
        let mut images = Vec::new();
        for id in ids {
            match self.image(&id) {
                Ok(image) => images.push(image),
                Err(e) => findings.push(Finding::broken(format!("image sha256:{id}"), e.to_string())),
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

fn database(db: &Connection, findings: &mut Vec<Finding>) -> Result<()> {
    let said: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).state("check")?;
    if said != "ok" {
        findings.push(Finding::broken("state.db", said));
    }
    let mut rows = db.prepare("PRAGMA foreign_key_check").state("check")?;
    let tables: Vec<String> = rows.query_map([], |row| row.get(0)).and_then(Iterator::collect).state("check")?;
    findings.extend(tables.into_iter().map(|t| Finding::broken("state.db", format!("a row of {t} refers to nothing"))));
    Ok(())
}
