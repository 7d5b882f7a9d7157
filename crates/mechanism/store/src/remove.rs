//! `rmi`.

use crate::db::Writer;
use crate::image::{Rows, key, resolve, users};
use crate::sql::State as _;
use crate::{ContainerRow, Durability, Lease, Store};
use rusqlite::Connection;
use tare_model::{Digest, Error, Kind, Reference, Result};

/// What `rmi` took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names and repository digests that no longer point at it.
    pub untagged: Vec<Reference>,
    /// The image's id and the diff IDs of the layers that went with it.
    pub deleted: Vec<Digest>,
    /// Of these the layers: what is mounted of them must be let go of.
    pub layers: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
}

impl Store {
    /// `rmi` with docker's rules: a name among several is only taken away; the last name, or an id, removes the image
    /// and, before this returns, whatever nothing else refers to. `force` removes an image with several names by its
    /// id, and one that containers use: its layers then stay until they are gone.
    ///
    /// # Errors
    /// `Kind::InUse` naming the container or the names; as [`Store::image`].
    pub fn remove_image(&self, name_or_id: &str, force: bool) -> Result<Removed> {
        let grave = self.lease()?;
        let mut writer = self.writer()?;
        let plan = writer.read(|db| plan(db, name_or_id, force))?;
        let removed = match plan {
            Plan::Untag(names) => {
                writer.transaction(Durability::Durable, |tx| names.iter().try_for_each(|n| untag(tx, n)))?;
                Removed { untagged: names, ..Removed::default() }
            }
            Plan::Remove(id, rows) => self.bury_image(&mut writer, &grave, id, *rows)?,
        };
        drop(writer);
        grave.end()?;
        Ok(removed)
    }

    /// Removes an image with all its names, unless a container was made from it: `None` then, and if it is not there.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub fn remove_unused_image(&self, id: &Digest) -> Result<Option<Removed>> {
        let grave = self.lease()?;
        let mut writer = self.writer()?;
        let found = writer.read(|db| match Rows::read(db, *id) {
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            rows => Ok(users(db, id)?.is_empty().then_some(rows?)),
        })?;
        let Some(rows) = found else { return Ok(None) };
        let removed = self.bury_image(&mut writer, &grave, *id, rows)?;
        drop(writer);
        grave.end()?;
        Ok(Some(removed))
    }

    fn bury_image(&self, writer: &mut Writer<'_>, grave: &Lease, id: Digest, rows: Rows) -> Result<Removed> {
        let done = self.bury_orphans(writer, grave, rows.content(), None, |tx| {
            tx.execute("DELETE FROM images WHERE id = ?", [id.hex()]).state("write")?;
            Ok(())
        })?;
        let mut untagged = rows.names;
        untagged.extend(rows.digests);
        let deleted = std::iter::once(id).chain(done.layers.iter().copied()).collect();
        Ok(Removed { untagged, deleted, layers: done.layers, bytes: done.bytes })
    }
}

enum Plan {
    Untag(Vec<Reference>),
    Remove(Digest, Box<Rows>),
}

fn plan(db: &Connection, name_or_id: &str, force: bool) -> Result<Plan> {
    let found = resolve(db, name_or_id)?;
    let rows = Rows::read(db, found.id)?;
    let users = users(db, &found.id)?;
    let in_use =
        |why: String, hint: String| Err(Error::new(Kind::InUse, "remove image", name_or_id).because(why).hint(hint));
    match &found.by {
        Some(by) => {
            let names = untagged_by(by, &rows);
            if names.len() < rows.names.len() + rows.digests.len() {
                return Ok(Plan::Untag(names));
            }
        }
        None if !force && several(&rows) => {
            let names: Vec<_> = rows.names.iter().map(Reference::familiar).collect();
            return in_use(
                format!("it has several names: {}", names.join(", ")),
                "remove the names one by one, or add --force".to_owned(),
            );
        }
        None => {}
    }
    match users.first() {
        Some(ContainerRow { name, id, .. }) if !force => in_use(
            format!("container {name} ({}) uses it", crate::rows::short(id)),
            format!("`tare rm {name}` first, or add --force"),
        ),
        _ => Ok(Plan::Remove(found.id, Box::new(rows))),
    }
}

/// The name, and, if it was its repository's last tag, the digests of that repository.
fn untagged_by(by: &Reference, rows: &Rows) -> Vec<Reference> {
    if by.digest().is_some() {
        return rows.digests.iter().filter(|d| d.name() == by.name() && d.digest() == by.digest()).cloned().collect();
    }
    let mut names: Vec<_> = rows.names.iter().filter(|n| key(n) == key(by)).cloned().collect();
    let more_tags = rows.names.iter().any(|n| n.name() == by.name() && key(n) != key(by));
    if !more_tags {
        names.extend(rows.digests.iter().filter(|d| d.name() == by.name()).cloned());
    }
    names
}

/// Docker's rule: one tag, with or without digests of the same repository, is one name.
fn several(rows: &Rows) -> bool {
    let mut repositories: Vec<_> = rows.names.iter().chain(&rows.digests).map(Reference::name).collect();
    repositories.sort_unstable();
    repositories.dedup();
    rows.names.len() > 1 || repositories.len() > 1
}

fn untag(tx: &Connection, name: &Reference) -> Result<()> {
    match name.digest() {
        Some(digest) => tx.execute("DELETE FROM digests WHERE name = ? AND digest = ?", (name.name(), digest.hex())),
        None => tx.execute("DELETE FROM names WHERE name = ?", [key(name)]),
    }
    .state("write")?;
    Ok(())
}
