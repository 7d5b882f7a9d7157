//! What the parts of the store read of each other's tables: at the bottom, so that containers, images, layers, volumes and
//! addresses need not know one another. Nothing here writes.

use crate::sql::State as _;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::{BTreeMap, HashSet};
use tare_model::{Digest, Error, Kind, Result};

/// A container's row. The rest is in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image's id; the image may be gone.
    pub image: Option<Digest>,
    /// Unix nanoseconds.
    pub created: i64,
    /// Volumes that it uses.
    pub volumes: Vec<String>,
    /// Ids of the networks that it has a place in.
    pub networks: Vec<String>,
}

pub(crate) const CONTAINER_COLUMNS: &str = "id, name, image, created, volumes, networks";

pub(crate) fn containers(db: &Connection) -> Result<Vec<ContainerRow>> {
    let query = format!("SELECT {CONTAINER_COLUMNS} FROM containers ORDER BY created DESC, id");
    let mut rows = db.prepare(&query).state("read")?;
    rows.query_map([], container_from_row).and_then(Iterator::collect).state("read")
}

pub(crate) fn container_by_id(db: &Connection, id: &str) -> Result<Option<ContainerRow>> {
    let query = format!("SELECT {CONTAINER_COLUMNS} FROM containers WHERE id = ?");
    db.query_row(&query, [id], container_from_row).optional().state("read")
}

pub(crate) fn container_from_row(row: &Row<'_>) -> rusqlite::Result<ContainerRow> {
    Ok(ContainerRow {
        id: row.get(0)?,
        name: row.get(1)?,
        image: row.get_ref(2)?.as_str_or_null()?.and_then(|hex| Digest::from_hex(hex).ok()),
        created: row.get(3)?,
        volumes: words(row, 4)?,
        networks: words(row, 5)?,
    })
}

fn words(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    Ok(row.get_ref(column)?.as_str()?.split_whitespace().map(str::to_owned).collect())
}

/// Refuses an id that is not there.
pub(crate) fn require_container(db: &Connection, id: &str) -> Result<()> {
    if container_by_id(db, id)?.is_some() { Ok(()) } else { Err(missing_container(id)) }
}

pub(crate) fn missing_container(name_or_id: &str) -> Error {
    Error::new(Kind::NotFound, "find container", name_or_id)
        .because("no such container")
        .hint("`tare ps -a` lists all containers")
}

/// The first 12 digits of an id, as people type it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Whether there is an image of this id.
pub(crate) fn image_exists(db: &Connection, id: Option<Digest>) -> Result<bool> {
    let Some(id) = id else { return Ok(false) };
    let row = db.query_row("SELECT 1 FROM images WHERE id = ?", [id.hex()], |_| Ok(())).optional().state("read")?;
    Ok(row.is_some())
}

/// What state.db says about a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or something that an earlier boot did not finish.
    No,
    /// Whole, but a power cut could still damage it.
    Unsynced,
    /// Whole.
    Synced,
}

pub(crate) fn found(db: &Connection, diff_id: &Digest, boot: &str) -> Result<Found> {
    let made: Option<Option<String>> = db
        .query_row("SELECT boot FROM layers WHERE diff_id = ?", [diff_id.hex()], |row| row.get(0))
        .optional()
        .state("read")?;
    Ok(match made {
        Some(None) => Found::Synced,
        Some(Some(made)) if made == boot => Found::Unsynced,
        _ => Found::No,
    })
}

/// Refuses a stack of which a layer is missing. Asks the database only: under the writers' lock it knows.
pub(crate) fn require_layers(db: &Connection, diff_ids: &[Digest], boot: &str) -> Result<()> {
    for diff_id in diff_ids {
        if found(db, diff_id, boot)? == Found::No {
            return Err(Error::new(Kind::NotFound, "find layer", diff_id)
                .because("it is not in the store")
                .hint("pull the image again"));
        }
    }
    Ok(())
}

/// Bytes of a layer's files.
pub(crate) fn layer_size(db: &Connection, diff_id: &Digest) -> Result<u64> {
    let size = db.query_row("SELECT size FROM layers WHERE diff_id = ?", [diff_id.hex()], |row| row.get(0));
    Ok(size.optional().state("read")?.unwrap_or(0))
}

pub(crate) fn all_layers(db: &Connection) -> Result<HashSet<Digest>> {
    Ok(strings(db, "SELECT diff_id FROM layers")?.iter().filter_map(|hex| Digest::from_hex(hex).ok()).collect())
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

pub(crate) fn strings(db: &Connection, query: &str) -> Result<HashSet<String>> {
    let mut rows = db.prepare(query).state("read")?;
    rows.query_map([], |row| row.get(0)).and_then(Iterator::collect).state("read")
}

pub(crate) fn labels_text(labels: &BTreeMap<String, String>) -> Result<String> {
    serde_json::to_string(labels).map_err(|e| Error::new(Kind::Invalid, "store labels", "").because(e))
}

pub(crate) fn labels_of(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}
