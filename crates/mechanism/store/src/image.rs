//! Images and their names.

use crate::db::{Durability, boot_id};
use crate::layers::open_dir;
use crate::limits::DOCUMENT_MAX;
use crate::rows::{self, Candidates, Found, found, image_exists};
use crate::sql::State as _;
use crate::{ContainerRow, Lease, Store};
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashSet};
use tare_model::image::{Descriptor, ImageConfig, Manifest, ManifestOrIndex, RootFs, media};
use tare_model::{Context as _, Digest, Error, Kind, Reference, Result};

/// An image: config, manifest, layers, names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config, as docker has it.
    pub id: Digest,
    /// Its manifest's blob.
    pub manifest: Descriptor,
    /// Names with tags, sorted.
    pub names: Vec<Reference>,
    /// `HOST/REPOSITORY@DIGEST` under which registries have it, sorted.
    pub digests: Vec<Reference>,
    /// The config as far as tare knows its fields.
    pub config: ImageConfig,
    /// The config as it is.
    pub config_raw: Vec<u8>,
    /// Bottom first.
    pub layers: Vec<ImageLayer>,
    /// Bytes of its layers' files.
    pub size: u64,
    /// When the config says it was made, else 0: Unix nanoseconds.
    pub created: i64,
}

impl Image {
    /// The layers' diff IDs, bottom first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|l| l.diff_id).collect()
    }
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// Digest of the uncompressed tar stream.
    pub diff_id: Digest,
    /// The blob it came as.
    pub blob: Descriptor,
}

/// What [`Store::put_image`] needs.
#[derive(Debug, Clone)]
pub struct NewImage<'a> {
    /// The manifest document, byte for byte.
    pub manifest: &'a [u8],
    /// Its media type.
    pub media_type: &'a str,
    /// The config document, byte for byte.
    pub config: &'a [u8],
    /// Bottom first; the blobs and the unpacked layers are in the store, held by the lease. Of a layer that is an
    /// image the blob may be missing.
    pub layers: &'a [ImageLayer],
    /// Names to point at it. A tag becomes a name, a digest a repository digest; both may be in one reference.
    pub names: &'a [Reference],
}

impl Store {
    /// The layers of an image for overlayfs, top first.
    ///
    /// # Errors
    /// `Kind::NotFound` for a layer that is not there.
    pub fn lowers(&self, image: &Image) -> Result<Vec<crate::Placed>> {
        self.lowers_of(&image.diff_ids())
    }

    /// Makes an image visible, durably, in one transaction. Writes the blobs of manifest and config.
    ///
    /// The id is the config's digest, so the same image may come with another manifest (its layers compressed in another
    /// way). One manifest is kept: the newer one if it came from a registry (a name has a digest), else the older.
    ///
    /// # Errors
    /// `Kind::Corrupt` where manifest, config and layers contradict each other; `Kind::NotFound` for a missing blob or
    /// layer.
    pub fn put_image(&self, lease: &Lease, new: &NewImage<'_>) -> Result<Image> {
        let id = Digest::of(new.config);
        check_new(new).during("store image", id)?;
        let manifest = lease.put_blob(new.manifest)?;
        lease.put_blob(new.config)?;
        let missing = |what| Error::new(Kind::NotFound, "store image", id).because(what);
        let there = |l: &&ImageLayer| self.has_blob(&l.blob.digest) || self.has_archive(&l.diff_id);
        if let Some(layer) = new.layers.iter().find(|l| !there(l)) {
            return Err(missing(format!("blob {} is not in the store", layer.blob.digest)));
        }
        self.sync_layers(new.layers)?;
        // What the row refers to must be there after a power cut: the renames too.
        crate::sync_dir(&self.root().join("blobs/sha256"))?;
        let config = parse_config(new.config)?;
        let rows = self.write(Durability::Durable, |tx| {
            let from_registry = new.names.iter().any(|n| n.digest().is_some());
            if from_registry || !image_exists(tx, Some(id))? {
                let row = (id.hex(), manifest.hex(), new.media_type, new.manifest.len(), created(&config));
                // Not REPLACE: that would delete the row first, and with it its names.
                let statement = "INSERT INTO images VALUES (?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT DO UPDATE SET manifest = ?2, manifest_type = ?3, manifest_size = ?4, created = ?5";
                tx.execute(statement, row).state("write")?;
                put_layers(tx, id, new.layers)?;
            }
            mark_synced(tx, new.layers)?;
            new.names.iter().try_for_each(|name| put_name(tx, id, name))?;
            // Here: another process may remove it at once.
            Rows::read(tx, id)
        })?;
        self.drop_blobs(lease, new.layers)?;
        self.assemble(rows)
    }

    /// Finds an image by name, `NAME@DIGEST`, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `Kind::NotFound` with the hint `tare pull NAME`; `Kind::Invalid` if several ids begin so.
    pub fn image(&self, name_or_id: &str) -> Result<Image> {
        let rows = self.read(|db| Rows::read(db, resolve(db, name_or_id)?.id))?;
        self.assemble(rows)
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// State that cannot be read; an image whose config blob is damaged.
    pub fn images(&self) -> Result<Vec<Image>> {
        let rows = self.read(|db| {
            let ids = rows::strings(db, "SELECT id FROM images")?;
            ids.iter().map(|hex| Rows::read(db, Digest::from_hex(hex)?)).collect::<Result<Vec<_>>>()
        })?;
        let mut images = rows.into_iter().map(|r| self.assemble(r)).collect::<Result<Vec<_>>>()?;
        images.sort_by_key(|i| (std::cmp::Reverse(i.created), i.id));
        Ok(images)
    }

    /// The id of an image, found as [`Store::image`] finds it, even if its content is damaged.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn image_id(&self, name_or_id: &str) -> Result<Digest> {
        self.read(|db| resolve(db, name_or_id).map(|found| found.id))
    }

    /// The ids of all images, those among them whose config is damaged.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn image_ids(&self) -> Result<Vec<Digest>> {
        let mut ids: Vec<_> = self.read(|db| rows::strings(db, "SELECT id FROM images"))?.into_iter().collect();
        ids.sort_unstable();
        ids.iter().map(|hex| Digest::from_hex(hex)).collect()
    }

    /// Points `name` at the image, durably; a name that pointed elsewhere is moved.
    ///
    /// # Errors
    /// As [`Store::image`]; `Kind::Invalid` for a reference with a digest.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::new(Kind::Invalid, "tag", name.familiar()).because("a tag cannot contain a digest"));
        }
        self.write(Durability::Durable, |tx| put_name(tx, resolve(tx, image)?.id, name))
    }

    /// Takes a name away, durably; the image stays, even without a name.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn untag(&self, name: &Reference) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            match tx.execute("DELETE FROM names WHERE name = ?", [key(name)]).state("write")? {
                0 => Err(missing(&name.familiar())),
                _ => Ok(()),
            }
        })
    }

    /// Records under which digest a registry has the image (after a push), durably.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn add_digest(&self, image: &Digest, name: &Reference, digest: Digest) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            let id = resolve(tx, &image.to_string())?.id;
            put_name(tx, id, &name.with_digest(digest))
        })
    }

    /// Containers made from this image.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn image_users(&self, id: &Digest) -> Result<Vec<ContainerRow>> {
        self.read(|db| users(db, id))
    }

    /// An image of `base`'s layers and perhaps one more: commit, import, build. Writes config and manifest; sets the
    /// config's `rootfs`, and its platform if it has none. The new layer's blob and its unpacked form are in the store,
    /// held by the lease.
    ///
    /// # Errors
    /// As [`Store::put_image`].
    pub fn image_from_layer(
        &self,
        lease: &Lease,
        base: Option<&Image>,
        layer: Option<ImageLayer>,
        mut config: ImageConfig,
        names: &[Reference],
    ) -> Result<Image> {
        let mut layers = base.map(|b| b.layers.clone()).unwrap_or_default();
        layers.extend(layer);
        config.rootfs = RootFs { diff_ids: layers.iter().map(|l| l.diff_id).collect(), ..RootFs::default() };
        if config.architecture.is_empty() {
            let host = tare_model::image::Platform::host();
            (config.architecture, config.os, config.variant) = (host.architecture, host.os, host.variant);
        }
        if let Some(base) = base {
            // The base may have been removed since it was looked up; held, its content stays while we look.
            let digests: Vec<_> = base.layers.iter().flat_map(|l| [l.diff_id, l.blob.digest]).collect();
            lease.hold(&digests)?;
        }
        let config = to_json(&config)?;
        let manifest = to_json(&manifest_of(&config, &layers))?;
        let new =
            NewImage { manifest: &manifest, media_type: media::MANIFEST, config: &config, layers: &layers, names };
        self.put_image(lease, &new)
    }

    /// Makes the unpacked layers survive a power cut.
    fn sync_layers(&self, layers: &[ImageLayer]) -> Result<()> {
        let boot = boot_id()?;
        let found = self.read(|db| layers.iter().map(|l| found(db, &l.diff_id, &boot)).collect::<Result<Vec<_>>>())?;
        if let Some(i) = found.iter().position(|f| *f == Found::No) {
            return Err(Error::new(Kind::NotFound, "store image", "")
                .because(format!("layer {} is not in the store", layers[i].diff_id)));
        }
        if found.contains(&Found::Unsynced) {
            let dir = self.root().join("layers");
            rustix::fs::syncfs(open_dir(&dir)?).map_err(|e| Error::io("sync", dir.display(), e))?;
        }
        Ok(())
    }

    fn assemble(&self, rows: Rows) -> Result<Image> {
        let config_raw = self.read_blob(&rows.id, DOCUMENT_MAX)?;
        let config = parse_config(&config_raw)?;
        Ok(Image {
            id: rows.id,
            manifest: rows.manifest,
            names: rows.names,
            digests: rows.digests,
            config,
            config_raw,
            size: rows.sizes.iter().sum(),
            layers: rows.layers,
            created: rows.created,
        })
    }

    /// Bytes of the files of each layer, bottom first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>> {
        Ok(self.read(|db| Rows::read(db, image.id))?.sizes)
    }
}

/// The manifest of a config and its layers, in OCI media types.
pub(crate) fn manifest_of(config: &[u8], layers: &[ImageLayer]) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        config: Descriptor::new(media::CONFIG, Digest::of(config), config.len() as u64),
        layers: layers.iter().map(|l| l.blob.clone()).collect(),
        annotations: BTreeMap::new(),
    }
}

pub(crate) fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::new(Kind::Invalid, "write document", "").because(e))
}

/// Reads an image config.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Kind::Invalid, "parse image config", Digest::of(bytes)).because(e))
}

fn check_new(new: &NewImage<'_>) -> Result<()> {
    let bad = |why: &str| Err(Error::new(Kind::Corrupt, "verify image", "").because(why));
    let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(new.manifest)? else {
        return bad("the manifest is an index");
    };
    let id = Digest::of(new.config);
    if manifest.config.digest != id || manifest.config.size != new.config.len() as u64 {
        return bad("the manifest describes another config");
    }
    let config = parse_config(new.config)?;
    if !config.rootfs.diff_ids.iter().eq(new.layers.iter().map(|l| &l.diff_id)) {
        return bad("the config lists other layers");
    }
    let same = |(a, b): (&Descriptor, &ImageLayer)| a.digest == b.blob.digest && a.size == b.blob.size;
    if manifest.layers.len() != new.layers.len() || !manifest.layers.iter().zip(new.layers).all(same) {
        return bad("the manifest lists other layers");
    }
    Ok(())
}

fn created(config: &ImageConfig) -> i64 {
    let at = config.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    at.and_then(|t| i64::try_from(t.as_nanosecond()).ok()).unwrap_or(0)
}

fn mark_synced(tx: &Connection, layers: &[ImageLayer]) -> Result<()> {
    let mut update =
        tx.prepare("UPDATE layers SET boot = NULL WHERE diff_id = ? AND boot IS NOT NULL").state("write")?;
    layers.iter().try_for_each(|l| update.execute([l.diff_id.hex()]).state("write").map(drop))
}

fn put_layers(tx: &Connection, id: Digest, layers: &[ImageLayer]) -> Result<()> {
    tx.execute("DELETE FROM image_layers WHERE image = ?", [id.hex()]).state("write")?;
    let mut insert = tx.prepare("INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)").state("write")?;
    for (position, layer) in layers.iter().enumerate() {
        let blob = &layer.blob;
        insert
            .execute((
                id.hex(),
                position,
                layer.diff_id.hex(),
                blob.digest.hex(),
                &blob.media_type,
                as_integer(blob.size),
            ))
            .state("write")?;
    }
    Ok(())
}

fn as_integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn put_name(tx: &Connection, id: Digest, name: &Reference) -> Result<()> {
    if name.tag().is_some() {
        tx.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (key(name), id.hex())).state("write")?;
    }
    if let Some(digest) = name.digest() {
        let row = (name.name(), digest.hex(), id.hex());
        tx.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", row).state("write")?;
    }
    Ok(())
}

/// A name as it is stored: `HOST/REPOSITORY:TAG`.
pub(crate) fn key(name: &Reference) -> String {
    format!("{}:{}", name.name(), name.tag().unwrap_or("latest"))
}

pub(crate) fn users(db: &Connection, id: &Digest) -> Result<Vec<ContainerRow>> {
    let mut users = rows::containers(db)?;
    users.retain(|c| c.image == Some(*id));
    Ok(users)
}

/// What a person meant.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) id: Digest,
    /// The name by which it was found; `None` for an id.
    pub(crate) by: Option<Reference>,
}

pub(crate) fn resolve(db: &Connection, name_or_id: &str) -> Result<Resolved> {
    let bare = name_or_id.strip_prefix("sha256:");
    if let Ok(id) = Digest::from_hex(bare.unwrap_or(name_or_id)) {
        return if image_exists(db, Some(id))? { Ok(Resolved { id, by: None }) } else { Err(missing(name_or_id)) };
    }
    let reference = if bare.is_some() { None } else { name_or_id.parse::<Reference>().ok() };
    if let Some(by) = reference
        && let Some(id) = by_reference(db, &by)?
    {
        return Ok(Resolved { id, by: Some(by) });
    }
    let prefix = bare.unwrap_or(name_or_id);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(hex) {
        // Says what is wrong with a malformed name.
        name_or_id.parse::<Reference>()?;
        return Err(missing(name_or_id));
    }
    // `g` comes right after the last hexadecimal digit.
    let mut rows = db.prepare("SELECT id FROM images WHERE id > ?1 AND id < ?1 || 'g' LIMIT 2").state("read")?;
    let found: Vec<String> = rows.query_map([prefix], |r| r.get(0)).and_then(Iterator::collect).state("read")?;
    match found.as_slice() {
        [] => Err(missing(name_or_id)),
        [one] => Ok(Resolved { id: Digest::from_hex(one)?, by: None }),
        _ => Err(Error::new(Kind::Invalid, "find image", name_or_id)
            .because("several images' ids begin so")
            .hint("type more of the id")),
    }
}

fn by_reference(db: &Connection, reference: &Reference) -> Result<Option<Digest>> {
    // With a digest, the tag beside it only says what it was when somebody wrote it down.
    let found: Option<String> = match reference.digest() {
        Some(digest) => db.query_row(
            "SELECT image FROM digests WHERE name = ? AND digest = ?",
            (reference.name(), digest.hex()),
            |r| r.get(0),
        ),
        None => db.query_row("SELECT image FROM names WHERE name = ?", [key(reference)], |r| r.get(0)),
    }
    .optional()
    .state("read")?;
    found.map(|hex| Digest::from_hex(&hex)).transpose()
}

pub(crate) fn missing(name_or_id: &str) -> Error {
    Error::new(Kind::NotFound, "find image", name_or_id)
        .because("no such image here")
        .hint(format!("tare pull {name_or_id}"))
}

/// All that state.db has about an image.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) id: Digest,
    pub(crate) manifest: Descriptor,
    pub(crate) created: i64,
    pub(crate) names: Vec<Reference>,
    pub(crate) digests: Vec<Reference>,
    pub(crate) layers: Vec<ImageLayer>,
    sizes: Vec<u64>,
}

impl Rows {
    pub(crate) fn read(db: &Connection, id: Digest) -> Result<Rows> {
        let hex = id.hex();
        let (manifest, manifest_type, size, created): (String, String, u64, i64) = db
            .query_row("SELECT manifest, manifest_type, manifest_size, created FROM images WHERE id = ?", [&hex], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })
            .optional()
            .state("read")?
            .ok_or_else(|| missing(&id.to_string()))?;
        let mut rows = db.prepare("SELECT name FROM names WHERE image = ? ORDER BY name").state("read")?;
        let names: Vec<String> = rows.query_map([&hex], |r| r.get(0)).and_then(Iterator::collect).state("read")?;
        let mut rows = db
            .prepare("SELECT name || '@sha256:' || digest FROM digests WHERE image = ? ORDER BY name, digest")
            .state("read")?;
        let digests: Vec<String> = rows.query_map([&hex], |r| r.get(0)).and_then(Iterator::collect).state("read")?;
        let mut layers = Vec::new();
        let mut sizes = Vec::new();
        let mut rows = db
            .prepare(
                "SELECT diff_id, size, blob, blob_type, blob_size FROM image_layers JOIN layers USING (diff_id)
                    WHERE image = ? ORDER BY position",
            )
            .state("read")?;
        let read = rows.query_map([&hex], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)));
        for row in read.state("read")? {
            let (diff_id, size, blob, blob_type, blob_size): (String, u64, String, String, u64) = row.state("read")?;
            let blob = Descriptor::new(&blob_type, Digest::from_hex(&blob)?, blob_size);
            layers.push(ImageLayer { diff_id: Digest::from_hex(&diff_id)?, blob });
            sizes.push(size);
        }
        Ok(Rows {
            id,
            manifest: Descriptor::new(&manifest_type, Digest::from_hex(&manifest)?, size),
            created,
            names: names.iter().map(|n| n.parse()).collect::<Result<_>>()?,
            digests: digests.iter().map(|n| n.parse()).collect::<Result<_>>()?,
            layers,
            sizes,
        })
    }

    /// Everything on disk that belongs to it.
    pub(crate) fn content(&self) -> Candidates {
        let mut blobs: HashSet<_> = self.layers.iter().map(|l| l.blob.digest).collect();
        blobs.extend([self.id, self.manifest.digest]);
        Candidates { blobs, layers: self.layers.iter().map(|l| l.diff_id).collect() }
    }
}
