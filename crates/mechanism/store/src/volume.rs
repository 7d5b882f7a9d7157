//! Volumes: directories with a row.

use crate::db::Durability;
use crate::disk::Disk;
use crate::rows::{self, labels_of, labels_text};
use crate::sql::State as _;
use crate::{ContainerRow, Store};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tare_model::{Context as _, Error, Kind, Result};

/// What to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// A name; `None` makes an anonymous volume with a random one.
    pub name: Option<String>,
    /// It is an anonymous one although its name was chosen before ([`Store::volume_name`]).
    pub anonymous: bool,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its name.
    pub name: String,
    /// Made without a name.
    pub anonymous: bool,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// Unix nanoseconds.
    pub created: i64,
    /// `<root>/volumes/<name>/_data`.
    pub path: PathBuf,
}

/// Which unused volumes to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Only anonymous ones (docker's default).
    Anonymous,
    /// Named ones too.
    All,
}

/// Beside `_data`: the row goes or is gone, and so do the files.
const REMOVED: &str = "removed";

/// Whether a volume's directory that has no row is one that was being removed, and not somebody's data.
pub(crate) fn is_removed(dir: &Path) -> bool {
    dir.join(REMOVED).exists()
}

const COLUMNS: &str = "name, anonymous, labels, created";

impl Store {
    /// Makes a volume, durably, or returns the present one of that name. The flag says whether it was made now, that is
    /// whether an image's files may be copied into it.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed name.
    pub fn volume_create(&self, spec: &VolumeSpec) -> Result<(VolumeRow, bool)> {
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => Store::volume_name()?,
        };
        crate::name::check("create volume", &name)?;
        if let Some(there) = self.read(|db| find(db, self.root(), &name))? {
            return Ok((there, false));
        }
        let labels = labels_text(&spec.labels)?;
        let mut writer = self.writer()?;
        if let Some(there) = writer.read(|db| find(db, self.root(), &name))? {
            return Ok((there, false));
        }
        // The directory first: a row without one must not be seen. Both under the lock, as a removal does.
        let dir = self.root().join("volumes").join(&name);
        if is_removed(&dir) {
            self.bury_volume(&name)?;
        }
        let anonymous = spec.anonymous || spec.name.is_none();
        let made = make_directory(&dir).and_then(|()| {
            crate::sync_dir(&self.root().join("volumes"))?;
            writer.transaction(Durability::Durable, |tx| {
                let insert = format!("INSERT INTO volumes ({COLUMNS}) VALUES (?, ?, ?, ?)");
                tx.execute(&insert, (&name, anonymous, labels, crate::now())).state("write")?;
                Ok(find(tx, self.root(), &name)?.expect("it has just been inserted"))
            })
        });
        if made.is_err() && !writer.is_uncertain() {
            // Never more than what is empty: it may have been there before, with somebody's data.
            let _ = std::fs::remove_dir(dir.join("_data")).and_then(|()| std::fs::remove_dir(&dir));
        }
        made.map(|row| (row, true))
    }

    /// A name for an anonymous volume.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn volume_name() -> Result<String> {
        crate::random_hex()
    }

    /// Finds a volume.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn volume(&self, name: &str) -> Result<VolumeRow> {
        self.read(|db| find(db, self.root(), name))?.ok_or_else(|| missing(name))
    }

    /// All volumes by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeRow>> {
        self.read(|db| {
            let mut rows = db.prepare(&format!("SELECT {COLUMNS} FROM volumes ORDER BY name")).state("read")?;
            rows.query_map([], |row| from_row(row, self.root())).and_then(Iterator::collect).state("read")
        })
    }

    /// Removes a volume and its content, durably.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container.
    pub fn volume_remove(&self, name: &str) -> Result<()> {
        let grave = self.lease()?;
        let mut writer = self.writer()?;
        writer.read(|db| {
            require(db, name)?;
            match users(db, name)?.first() {
                None => Ok(()),
                Some(user) => Err(Error::new(Kind::InUse, "remove volume", name)
                    .because(format!("container {} ({}) uses it", user.name, rows::short(&user.id)))
                    .hint(format!("tare rm {}", user.name))),
            }
        })?;
        self.condemn_volume(name)?;
        let forgotten = writer.transaction(Durability::Durable, |tx| forget(tx, name));
        if forgotten.is_err() && !writer.is_uncertain() {
            self.spare_volume(name);
        }
        forgotten?;
        grave.bury(&self.root().join("volumes").join(name))?;
        drop(writer);
        grave.end()
    }

    /// Says on disk, before its row goes, that a volume's files are to go with it: data without a row is nobody's to remove
    /// otherwise, and would turn up in a new volume of the same name. While the row is there the mark means nothing.
    pub(crate) fn condemn_volume(&self, name: &str) -> Result<()> {
        let dir = self.root().join("volumes").join(name);
        match std::fs::File::create(dir.join(REMOVED)) {
            // A volume whose directory is lost has nothing to be marked.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.during("create", dir.join(REMOVED).display()).and_then(|_| crate::sync_dir(&dir)),
        }
        .inspect_err(|_| self.spare_volume(name))
    }

    /// Takes the mark away again.
    pub(crate) fn spare_volume(&self, name: &str) {
        let _ = std::fs::remove_file(self.root().join("volumes").join(name).join(REMOVED));
    }

    /// Removes the files of a volume whose row is gone: out of their place at once.
    pub(crate) fn bury_volume(&self, name: &str) -> Result<()> {
        let (from, grave) = (self.root().join("volumes").join(name), self.fresh_tmp()?);
        match std::fs::rename(&from, &grave) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("remove", from.display(), e)),
            Ok(()) => crate::lease::remove_lease_dir(&grave),
        }
    }

    /// Removes volumes that no container uses and for which `matches` holds; returns what went, each with the bytes that it took.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn volume_prune(&self, which: Prune, matches: &dyn Fn(&VolumeRow) -> bool) -> Result<Vec<(VolumeRow, u64)>> {
        let mut gone = Vec::new();
        for volume in self.volumes()? {
            if (which == Prune::Anonymous && !volume.anonymous) || !matches(&volume) {
                continue;
            }
            let bytes = self.volume_users(&volume.name)?.is_empty().then(|| Disk::default().bytes(&volume.path));
            match self.volume_remove(&volume.name) {
                Ok(()) => gone.push((volume, bytes.unwrap_or(0))),
                Err(e) if matches!(e.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(gone)
    }

    /// Containers that use a volume.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn volume_users(&self, name: &str) -> Result<Vec<ContainerRow>> {
        self.read(|db| users(db, name))
    }
}

fn make_directory(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).during("create", dir.display())?;
    let data = dir.join("_data");
    match std::fs::DirBuilder::new().mode(0o755).create(&data) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.during("create", data.display())?,
    }
    crate::sync_dir(dir)
}

/// Takes a volume's row away.
pub(crate) fn forget(tx: &Connection, name: &str) -> Result<()> {
    tx.execute("DELETE FROM volumes WHERE name = ?", [name]).state("write")?;
    Ok(())
}

/// Those of these volumes that are there and that no container but this one (its full id) uses.
pub(crate) fn only_of(db: &Connection, container: &str, names: &[String]) -> Result<Vec<String>> {
    let mut only = Vec::new();
    for name in names {
        let there =
            db.query_row("SELECT 1 FROM volumes WHERE name = ?", [name], |_| Ok(())).optional().state("read")?;
        if there.is_some() && users(db, name)?.iter().all(|user| user.id == container) {
            only.push(name.clone());
        }
    }
    Ok(only)
}

fn users(db: &Connection, name: &str) -> Result<Vec<ContainerRow>> {
    let mut users = rows::containers(db)?;
    users.retain(|c| c.volumes.iter().any(|v| v == name));
    Ok(users)
}

/// Refuses a volume that is not there.
pub(crate) fn require(db: &Connection, name: &str) -> Result<()> {
    let there = db.query_row("SELECT 1 FROM volumes WHERE name = ?", [name], |_| Ok(())).optional();
    there.state("read")?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, "find volume", name).because("no such volume").hint(format!("tare volume create {name}"))
}

fn find(db: &Connection, root: &Path, name: &str) -> Result<Option<VolumeRow>> {
    let query = format!("SELECT {COLUMNS} FROM volumes WHERE name = ?");
    db.query_row(&query, [name], |row| from_row(row, root)).optional().state("read")
}

fn from_row(row: &Row<'_>, root: &Path) -> rusqlite::Result<VolumeRow> {
    let name: String = row.get(0)?;
    Ok(VolumeRow {
        path: root.join("volumes").join(&name).join("_data"),
        name,
        anonymous: row.get(1)?,
        labels: labels_of(row.get_ref(2)?.as_str()?),
        created: row.get(3)?,
    })
}
