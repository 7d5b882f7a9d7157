//! Containers' rows: id, name, what they use.

use crate::db::{Durability, boot_id};
use crate::rows::{
    self, CONTAINER_COLUMNS, Candidates, ContainerRow, container_by_id, container_from_row, missing_container,
};
use crate::sql::State as _;
use crate::{AddressRequest, Store};
use rusqlite::{Connection, OptionalExtension as _};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// What [`Store::reserve_container`] needs.
#[derive(Debug, Clone)]
pub struct NewContainer<'a> {
    /// 64 lower-case hexadecimal digits ([`Store::new_id`]).
    pub id: &'a str,
    /// A name, or one is made up.
    pub name: Option<&'a str>,
    /// The image's id.
    pub image: Option<Digest>,
    /// Layers that it stands on, bottom first: kept as long as the container is.
    pub layers: &'a [Digest],
    /// Unix nanoseconds.
    pub created: i64,
    /// Ids of existing networks that it has a place in.
    pub networks: &'a [String],
    /// One for each network and family in which it has an address.
    pub addresses: &'a [AddressRequest],
    /// Names of existing volumes.
    pub volumes: &'a [String],
    /// `Durable` for create, `Lazy` for `run --rm`.
    pub durability: Durability,
}

/// What a container got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Its name.
    pub name: String,
    /// In the order of the requests.
    pub addresses: Vec<IpAddr>,
    /// Its directory, made.
    pub dir: PathBuf,
}

impl Store {
    /// A fresh container id: 64 random hexadecimal digits, among the first twelve at least one letter. Those twelve are the
    /// host name, and resolvers take one that is a number for an address.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn new_id() -> Result<String> {
        loop {
            let id = crate::random_hex()?;
            if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
                return Ok(id);
            }
        }
    }

    /// Reserves id, name, addresses, volumes and layers and makes the directory, all or nothing.
    ///
    /// # Errors
    /// `Kind::AlreadyExists` naming the holder of the name; `Kind::NotFound` for a volume, network or layer;
    /// `Kind::Exhausted` without a free address, `Kind::InUse` for one that is taken.
    pub fn reserve_container(&self, new: &NewContainer<'_>) -> Result<Reserved> {
        Digest::from_hex(new.id).during("create container", new.id)?;
        if let Some(name) = new.name {
            crate::name::check("name container", name)?;
        }
        let boot = boot_id()?;
        let dir = self.container_dir(new.id);
        let mut writer = self.writer()?;
        std::fs::DirBuilder::new().mode(0o700).create(&dir).during("create directory", dir.display())?;
        let reserved = writer.transaction(new.durability, |tx| {
            rows::require_layers(tx, new.layers, &boot)?;
            let name = insert(tx, new)?;
            if !new.addresses.is_empty() {
                crate::address::purge(tx, &boot)?;
            }
            let addresses: Result<Vec<_>> =
                new.addresses.iter().map(|request| crate::address::lease(tx, new.id, request)).collect();
            Ok(Reserved { name, addresses: addresses?, dir: dir.clone() })
        });
        if reserved.is_err() && !writer.is_uncertain() {
            drop(std::fs::remove_dir(&dir));
        }
        drop(writer);
        if new.durability == Durability::Durable
            && reserved.is_ok()
            && let Err(e) = crate::sync_dir(&self.root().join("containers"))
        {
            // All or nothing: who asked is told that nothing was made.
            drop(self.release_container(new.id, new.durability));
            drop(self.release_addresses(new.id));
            drop(std::fs::remove_dir(&dir));
            return Err(e);
        }
        reserved
    }

    /// Finds a container by id, name, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub fn container(&self, name_or_id: &str) -> Result<ContainerRow> {
        self.read(|db| find(db, name_or_id))
    }

    /// All containers, newest first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn containers(&self) -> Result<Vec<ContainerRow>> {
        self.read(rows::containers)
    }

    /// Gives a container (its full id) another name, durably.
    ///
    /// # Errors
    /// `Kind::AlreadyExists`, `Kind::NotFound`, `Kind::Invalid`.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        crate::name::check("rename container", name)?;
        self.write(Durability::Durable, |tx| {
            rows::require_container(tx, id)?;
            if let Some(holder) = holder_of(tx, name)? {
                return Err(taken(name, &holder));
            }
            tx.execute("UPDATE containers SET name = ? WHERE id = ?", (name, id)).state("write")?;
            Ok(())
        })
    }

    /// Forgets a container: name, layers and volumes are free; its addresses go into quarantine until
    /// [`Store::release_addresses`]. No error if it is not there. Its directory stays. If its image was removed by force
    /// meanwhile, its layers go now.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn release_container(&self, id: &str, durability: Durability) -> Result<()> {
        self.release_container_with(id, &[], durability)
    }

    /// The same together with those of these volumes that no other container uses: all of it, or nothing. Durable if one goes.
    ///
    /// # Errors
    /// State that cannot be written; system calls that fail.
    pub fn release_container_with(&self, id: &str, volumes: &[String], durability: Durability) -> Result<()> {
        let boot = boot_id()?;
        let mut writer = self.writer()?;
        let doomed =
            if volumes.is_empty() { Vec::new() } else { writer.read(|db| crate::volume::only_of(db, id, volumes))? };
        let durability = if doomed.is_empty() { durability } else { Durability::Durable };
        let forget = |tx: &Connection| {
            let row = container_by_id(tx, id)?;
            let layers = layers_of(tx, id)?;
            tx.execute("DELETE FROM containers WHERE id = ?", [id]).state("write")?;
            crate::address::quarantine(tx, id, &boot)?;
            doomed.iter().try_for_each(|volume| crate::volume::forget(tx, volume))?;
            match row {
                Some(row) if !rows::image_exists(tx, row.image)? => Ok(layers),
                _ => Ok(Vec::new()),
            }
        };
        let condemned = doomed.iter().try_for_each(|volume| self.condemn_volume(volume));
        let forgotten = condemned.and_then(|()| match durability {
            Durability::Durable => writer.transaction(durability, |tx| forget(tx)),
            Durability::Lazy => writer.background_transaction(|tx| forget(tx)),
        });
        if forgotten.is_err() && !writer.is_uncertain() {
            doomed.iter().for_each(|volume| self.spare_volume(volume));
        }
        let orphans = forgotten?;
        // Under the lock, or a new volume of the same name would go.
        let buried: Vec<_> = doomed.iter().map(|volume| self.bury_volume(volume)).collect();
        drop(writer);
        buried.into_iter().collect::<Result<()>>()?;
        if orphans.is_empty() {
            return Ok(());
        }
        let grave = self.lease()?;
        let candidates = Candidates { layers: orphans.into_iter().collect(), ..Default::default() };
        let mut writer = self.writer()?;
        self.bury_orphans(&mut writer, &grave, candidates, None, |_| Ok(()))?;
        Ok(())
    }

    /// Removes a container's directory: out of its place at once, its content when this returns. No error if it is not
    /// there.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn remove_container_dir(&self, id: &str) -> Result<()> {
        Digest::from_hex(id).during("remove container", id)?;
        // No lease: what is under tmp/ without one is garbage at once, and whoever collects it meanwhile does the same.
        let (from, grave) = (self.container_dir(id), self.fresh_tmp()?);
        match std::fs::rename(&from, &grave) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("remove", from.display(), e)),
            Ok(()) => crate::lease::remove_lease_dir(&grave),
        }
    }

    /// Diff IDs of the layers that a container (its full id) stands on, bottom first; none if it is not there.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn container_layers(&self, id: &str) -> Result<Vec<Digest>> {
        self.read(|db| layers_of(db, id))
    }

    /// `<root>/containers/<id>`.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root().join("containers").join(id)
    }
}

fn insert(tx: &Connection, new: &NewContainer<'_>) -> Result<String> {
    for volume in new.volumes {
        crate::volume::require(tx, volume)?;
    }
    for network in new.networks {
        crate::network::require(tx, network)?;
    }
    let name = free_or_given(tx, new.name)?;
    let layers: Vec<_> = new.layers.iter().map(Digest::hex).collect();
    tx.execute(
        "INSERT INTO containers (id, name, image, created, layers, volumes, networks) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            new.id,
            &name,
            new.image.map(|d| d.hex()),
            new.created,
            layers.join(" "),
            new.volumes.join(" "),
            new.networks.join(" "),
        ),
    )
    .state("write")?;
    Ok(name)
}

/// The name that is wanted, if nobody has it; else one that is made up.
pub(crate) fn free_or_given(tx: &Connection, name: Option<&str>) -> Result<String> {
    match name {
        Some(name) => match holder_of(tx, name)? {
            Some(holder) => Err(taken(name, &holder)),
            None => Ok(name.to_owned()),
        },
        None => free_name(tx),
    }
}

fn free_name(tx: &Connection) -> Result<String> {
    for attempt in 0..1000 {
        let mut random = [0; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::io("read random bytes", "", e))?;
        let name = crate::name::made_up(random, attempt);
        if holder_of(tx, &name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Error::new(Kind::Exhausted, "make up a name", "").hint("give one with --name"))
}

fn holder_of(db: &Connection, name: &str) -> Result<Option<String>> {
    db.query_row("SELECT id FROM containers WHERE name = ?", [name], |row| row.get(0)).optional().state("read")
}

fn taken(name: &str, holder: &str) -> Error {
    Error::new(Kind::AlreadyExists, "name container", format!("{name:?}"))
        .because(format!("container {} has this name", rows::short(holder)))
        .hint(format!("remove it with `tare rm {name}`, or use another name"))
}

fn layers_of(db: &Connection, id: &str) -> Result<Vec<Digest>> {
    let text = db.query_row("SELECT layers FROM containers WHERE id = ?", [id], |row| row.get::<_, String>(0));
    text.optional().state("read")?.unwrap_or_default().split_whitespace().map(Digest::from_hex).collect()
}

fn find(db: &Connection, name_or_id: &str) -> Result<ContainerRow> {
    let exact =
        format!("SELECT {CONTAINER_COLUMNS} FROM containers WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1");
    if let Some(row) = db.query_row(&exact, [name_or_id], container_from_row).optional().state("read")? {
        return Ok(row);
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if name_or_id.is_empty() || name_or_id.len() >= 64 || !name_or_id.bytes().all(hex) {
        return Err(missing_container(name_or_id));
    }
    // `g` comes right after the last hexadecimal digit.
    let begins = format!("SELECT {CONTAINER_COLUMNS} FROM containers WHERE id > ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut rows = db.prepare(&begins).state("read")?;
    let mut found: Vec<_> = rows
        .query_map([name_or_id], container_from_row)
        .and_then(Iterator::collect::<rusqlite::Result<_>>)
        .state("read")?;
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Error::new(Kind::Invalid, "find container", name_or_id)
            .because("several containers' ids begin so")
            .hint("type more of the id")),
        _ => Err(missing_container(name_or_id)),
    }
}
