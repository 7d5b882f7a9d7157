//! A state.db that is lost or damaged, made anew: from what can still be read of the old one, and from the files.
//!
//! Files tell of images (manifests and configurations are blobs), layers (their digests are their names) and volumes (directories).
//! Only state.db knows names of images, networks, labels of volumes. Containers' descriptions are the engine's: it gives their
//! rows back with [`Store::restore_container`].

use crate::db::Durability;
use crate::image::{NewImage, parse_config};
use crate::lease::digests_in;
use crate::limits::DOCUMENT_MAX;
use crate::sql::State as _;
use crate::{ImageLayer, NewContainer, Store};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use tare_model::image::{Manifest, ManifestOrIndex, media};
use tare_model::{Digest, Result};

/// In the order in which rows refer to each other.
const TABLES: [&str; 10] = [
    "layers",
    "images",
    "image_layers",
    "names",
    "digests",
    "networks",
    "settings",
    "volumes",
    "containers",
    "addresses",
];

/// A setting that is there from the making of a new state.db until all is found that can be.
const UNFINISHED: &str = "rebuilding";
pub(crate) const REBUILDING: &str = "SELECT key FROM settings WHERE key = 'rebuilding'";

/// What can be read of one table.
struct Salvaged {
    table: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Store {
    /// Makes state.db anew; what was found and what is lost, in sentences. The old one stays as `state.db.damaged`.
    ///
    /// # Errors
    /// Files that cannot be read or changed.
    pub fn rebuild(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        let old = salvage(&self.root().join("state.db"));
        let known = old.iter().map(|t| t.rows.len()).sum::<usize>();
        self.replace_db(|tx| {
            old.iter().try_for_each(|table| fill(tx, table))?;
            tx.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, '')", [UNFINISHED]).state("write")?;
            Ok(())
        })?;
        done.push(match known {
            0 => "state.db: made anew; nothing could be read of the old one: names of images, networks, labels of volumes \
                  are lost"
                .to_owned(),
            n => format!("state.db: made anew, with {n} rows of the old one, which is state.db.damaged now"),
        });
        self.find_images(&mut done)?;
        let mut writer = self.writer()?;
        self.adopt_volumes(&mut writer, &mut done)?;
        Ok(done)
    }

    /// Images whose manifest and configuration are among the blobs and that have no row.
    fn find_images(&self, done: &mut Vec<String>) -> Result<()> {
        let lease = self.lease()?;
        let blobs: Vec<Digest> = digests_in(&self.root().join("blobs/sha256"))?.into_iter().collect();
        lease.hold(&blobs)?;
        for digest in blobs {
            let size = std::fs::metadata(self.blob_path(&digest)).map_or(u64::MAX, |m| m.len());
            if size > DOCUMENT_MAX {
                continue;
            }
            let Ok(bytes) = self.read_blob(&digest, DOCUMENT_MAX) else { continue };
            let Ok(ManifestOrIndex::Manifest(manifest)) = ManifestOrIndex::parse(&bytes) else { continue };
            if self.image_ids()?.contains(&manifest.config.digest) {
                continue;
            }
            match self.find_image(&lease, &bytes, &manifest) {
                Ok(()) => done.push(format!("image {}: found again, without its names", manifest.config.digest)),
                Err(e) => done.push(format!("image {}: lost: {e}", manifest.config.digest)),
            }
        }
        Ok(())
    }

    fn find_image(&self, lease: &crate::Lease, bytes: &[u8], manifest: &Manifest) -> Result<()> {
        let config = self.read_blob(&manifest.config.digest, DOCUMENT_MAX)?;
        let diff_ids = parse_config(&config)?.rootfs.diff_ids;
        let pairs = diff_ids.iter().zip(&manifest.layers);
        let layers: Vec<_> = pairs.map(|(d, b)| ImageLayer { diff_id: *d, blob: b.clone() }).collect();
        for (position, layer) in layers.iter().enumerate() {
            if !self.has_layer(&layer.diff_id)? {
                self.unpack_one(lease, layer, &diff_ids[..position])?;
            }
        }
        let media_type = manifest.media_type.as_deref().unwrap_or(media::MANIFEST);
        let new = NewImage { manifest: bytes, media_type, config: &config, layers: &layers, names: &[] };
        self.put_image(lease, &new).map(drop)
    }

    /// Gives a container that is described on disk its row back. Its addresses are free for others until it is started;
    /// networks and volumes that do not exist are left out. False if it has one.
    ///
    /// # Errors
    /// State that cannot be written; `Kind::AlreadyExists` if another container has its name.
    pub fn restore_container(&self, new: &NewContainer<'_>) -> Result<bool> {
        let layers: Vec<_> = new.layers.iter().map(Digest::hex).collect();
        self.write(Durability::Durable, |tx| {
            let name = crate::container::free_or_given(tx, new.name)?;
            let known = |query: &str, list: &[String]| -> Result<String> {
                let all = crate::rows::strings(tx, query)?;
                Ok(list.iter().filter(|x| all.contains(*x)).map(String::as_str).collect::<Vec<_>>().join(" "))
            };
            let volumes = known("SELECT name FROM volumes", new.volumes)?;
            let networks = known("SELECT id FROM networks", new.networks)?;
            let statement = "INSERT INTO containers (id, name, image, created, layers, volumes, networks)
                VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
            let image = new.image.map(|d| d.hex());
            let row = (new.id, &name, image, new.created, layers.join(" "), volumes, networks);
            Ok(tx.execute(statement, row).state("write")? == 1)
        })
    }

    /// Whether a rebuilding has begun and not ended: then directories of containers without rows are not garbage.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn is_rebuilding(&self) -> Result<bool> {
        self.read(|db| Ok(!crate::rows::strings(db, REBUILDING)?.is_empty()))
    }

    /// Says that everything has been found that could be.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn end_rebuilding(&self) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            tx.execute("DELETE FROM settings WHERE key = ?", [UNFINISHED]).state("write")?;
            Ok(())
        })
    }

    /// Ids that have a directory and no row.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn strays(&self) -> Result<Vec<String>> {
        let mut writer = self.writer()?;
        let dirs = self.stray_containers(&mut writer)?;
        Ok(dirs.iter().filter_map(|d| d.file_name()?.to_str().map(str::to_owned)).collect())
    }
}

/// Whatever of an old state.db can be read; each table up to its first damaged page.
fn salvage(path: &Path) -> Vec<Salvaged> {
    let Ok(db) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE) else { return Vec::new() };
    TABLES.iter().filter_map(|table| read_table(&db, table)).collect()
}

fn read_table(db: &Connection, table: &'static str) -> Option<Salvaged> {
    let mut statement = db.prepare(&format!("SELECT * FROM {table}")).ok()?;
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut salvaged = Salvaged { table, columns, rows: Vec::new() };
    let mut rows = statement.query([]).ok()?;
    while let Ok(Some(row)) = rows.next() {
        salvaged.rows.extend((0..salvaged.columns.len()).map(|i| row.get(i).ok()).collect::<Option<Vec<Value>>>());
    }
    Some(salvaged)
}

/// A row that contradicts the others, or the schema, is left out.
fn fill(tx: &Connection, old: &Salvaged) -> Result<()> {
    let places = vec!["?"; old.columns.len()].join(", ");
    let statement = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({places})", old.table, old.columns.join(", "));
    let Ok(mut insert) = tx.prepare(&statement) else { return Ok(()) };
    for row in &old.rows {
        let _ = insert.execute(rusqlite::params_from_iter(row));
    }
    Ok(())
}
