//! Putting right what can be put right without losing anything.

use crate::check::ORPHAN_ADDRESSES;
use crate::check::open_to_others;
use crate::db::{DIRECTORIES, Durability, Writer};
use crate::layer::Unpacked;
use crate::rows::{self, References};
use crate::sql::State as _;
use crate::verify::{UNLIMITED, aside};
use crate::{ImageLayer, Lease, Store};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use tare_format::erofs::{ARCHIVE, Reader};
use tare_model::image::Compression;
use tare_model::{Context as _, Digest, Result};

impl Store {
    /// Mends whatever [`Store::check`] calls repairable, but for state.db itself ([`Store::rebuild`]); what was done, in sentences.
    ///
    /// # Errors
    /// State or files that cannot be read or changed. What cannot be mended is no error: the next check tells.
    pub fn repair(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        self.repair_directories(&mut done)?;
        let mut writer = self.writer()?;
        self.adopt_volumes(&mut writer, &mut done)?;
        repair_relations(&mut writer, &mut done)?;
        let refs = writer.read(References::read)?;
        let missing = self.missing_layers(&mut writer, &refs)?;
        drop(writer);
        if !missing.is_empty() {
            self.unpack_again(&missing, &mut done)?;
        }
        Ok(done)
    }

    fn repair_directories(&self, done: &mut Vec<String>) -> Result<()> {
        for directory in DIRECTORIES {
            let path = self.root().join(directory);
            let Ok(meta) = std::fs::symlink_metadata(&path) else {
                std::fs::DirBuilder::new().mode(0o700).create(&path).during("create directory", path.display())?;
                done.push(format!("{}: made", path.display()));
                continue;
            };
            let private = meta.permissions().mode() & open_to_others(directory) == 0;
            let own = std::os::unix::fs::MetadataExt::uid(&meta) == rustix::process::geteuid().as_raw();
            if !meta.is_dir() || (private && own) {
                continue;
            }
            std::os::unix::fs::chown(&path, Some(rustix::process::geteuid().as_raw()), None)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)))
                .during("change mode of", path.display())?;
            done.push(format!("{}: nobody but its owner reaches it now", path.display()));
        }
        Ok(())
    }

    /// Volumes' directories with data and without a row: they may be somebody's, so they are volumes again.
    pub(crate) fn adopt_volumes(&self, writer: &mut Writer<'_>, done: &mut Vec<String>) -> Result<()> {
        for dir in self.stray_volumes(writer)? {
            let Some(name) = dir.file_name().and_then(|n| n.to_str()) else { continue };
            let data = dir.join("_data");
            if crate::name::check("repair volume", name).is_err() || crate::lease::names(&data)?.is_empty() {
                continue;
            }
            // A name that nobody typed.
            let anonymous = Digest::from_hex(name).is_ok();
            let insert = "INSERT INTO volumes (name, anonymous, labels, created) VALUES (?, ?, ?, ?)";
            let labels = rows::labels_text(&BTreeMap::new())?;
            writer.transaction(Durability::Durable, |tx| {
                tx.execute(insert, (name, anonymous, labels, crate::now())).state("write")?;
                Ok(())
            })?;
            done.push(format!("volume {name}: found again, without its labels"));
        }
        Ok(())
    }

    /// Unpacks layers from their blobs, or, where the blob is gone, from the archive in what is left of them.
    fn unpack_again(&self, missing: &[Digest], done: &mut Vec<String>) -> Result<()> {
        let lease = self.lease()?;
        for id in self.image_ids()? {
            let rows = self.read(|db| crate::image::Rows::read(db, id))?;
            for (position, layer) in rows.layers.iter().enumerate() {
                if missing.contains(&layer.diff_id) && !self.has_layer(&layer.diff_id)? {
                    let below: Vec<_> = rows.layers[..position].iter().map(|l| l.diff_id).collect();
                    if self.unpack_one(&lease, layer, &below)? {
                        done.push(format!("layer {}: unpacked again", layer.diff_id));
                    }
                }
            }
        }
        // Rows must not say that they are whole before they are on disk.
        let layers = self.root().join("layers");
        rustix::fs::syncfs(crate::layers::open_dir(&layers)?)
            .map_err(|e| tare_model::Error::io("sync", layers.display(), e))?;
        let boot = crate::db::boot_id()?;
        self.write(Durability::Durable, |tx| {
            for diff_id in missing {
                let update = "UPDATE layers SET boot = NULL WHERE diff_id = ? AND boot = ?";
                tx.execute(update, (diff_id.hex(), &boot)).state("write")?;
            }
            Ok(())
        })
    }

    /// Whether it could be unpacked.
    pub(crate) fn unpack_one(&self, lease: &Lease, layer: &ImageLayer, below: &[Digest]) -> Result<bool> {
        lease.hold(&[layer.diff_id, layer.blob.digest])?;
        let blob = self.open_blob(&layer.blob.digest).ok();
        if let (Some(blob), Ok(compression)) = (blob, Compression::of_media_type(&layer.blob.media_type))
            && self.unpack_from(lease, layer, below, blob, compression).is_ok()
        {
            return Ok(true);
        }
        let place = self.layer_dir(&layer.diff_id);
        for dir in [aside(&place), place] {
            let Ok(file) = File::open(dir.join(crate::layers::IMAGE)) else { continue };
            let Ok(length) = file.try_clone().map_err(drop).and_then(|f| Reader::new(f).map_err(drop)) else {
                continue;
            };
            let archive = crate::Archive::new(file, ARCHIVE, length.archive_size());
            if self.unpack_from(lease, layer, below, archive, Compression::None).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn unpack_from(
        &self,
        lease: &Lease,
        layer: &ImageLayer,
        below: &[Digest],
        from: impl Read + Send,
        compression: Compression,
    ) -> Result<()> {
        let mut draft = lease.layer()?;
        let find = Box::new(|path: &[u8]| self.look_below(below, path));
        let unpacked: Unpacked = draft.unpack(from, compression, &UNLIMITED, find)?;
        if unpacked.diff_id != layer.diff_id {
            return Err(tare_model::Error::new(tare_model::Kind::Corrupt, "unpack layer", layer.diff_id));
        }
        draft.publish(&unpacked)
    }
}

fn repair_relations(writer: &mut Writer<'_>, done: &mut Vec<String>) -> Result<()> {
    let known = writer.read(|db| rows::strings(db, "SELECT id FROM networks"))?;
    let containers = writer.read(rows::containers)?;
    let orphans = writer.read(|db| rows::strings(db, ORPHAN_ADDRESSES))?;
    let lost = |c: &crate::ContainerRow| c.networks.iter().any(|n| !known.contains(n));
    if orphans.is_empty() && !containers.iter().any(lost) {
        return Ok(());
    }
    writer.transaction(Durability::Durable, |tx| {
        for id in &orphans {
            tx.execute("DELETE FROM addresses WHERE container = ?", [id]).state("write")?;
            done.push(format!("container {id}: it does not exist; its addresses are free"));
        }
        for container in containers.iter().filter(|c| lost(c)) {
            let left: Vec<&str> =
                container.networks.iter().filter(|n| known.contains(*n)).map(String::as_str).collect();
            tx.execute("UPDATE containers SET networks = ? WHERE id = ?", (left.join(" "), &container.id))
                .state("write")?;
            done.push(format!("container {}: it has left networks that do not exist", container.name));
        }
        Ok(())
    })
}
