//! Networks' rows.

use crate::Store;
use crate::db::{Durability, State as _};
use crate::rows::{labels_of, labels_text, short};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// `bridge`, …
    pub driver: String,
    /// Where its addresses come from.
    pub subnet: Option<IpNet>,
    /// The host's address in it.
    pub gateway: Option<IpAddr>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// Unix nanoseconds.
    pub created: i64,
}

const COLUMNS: &str = "name, driver, subnet, gateway, labels, created";

impl Store {
    /// Finds a network.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn network(&self, name: &str) -> Result<NetworkRow> {
        self.read(|db| find(db, name))?
            .ok_or_else(|| Error::new(Kind::NotFound, "find network", name).because("no such network"))
    }

    /// All networks by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkRow>> {
        self.read(|db| {
            let mut rows = db.prepare(&format!("SELECT {COLUMNS} FROM networks ORDER BY name")).state("read")?;
            rows.query_map([], from_row).and_then(Iterator::collect).state("read")
        })
    }

    /// Records a network, durably, unless one of that name is there; returns the one that is there afterwards.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn put_network_if_absent(&self, network: &NetworkRow) -> Result<NetworkRow> {
        if let Some(there) = self.read(|db| find(db, &network.name))? {
            return Ok(there);
        }
        self.write(Durability::Durable, |tx| {
            tx.execute(
                &format!("INSERT INTO networks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"),
                (
                    &network.name,
                    &network.driver,
                    network.subnet.map(|s| s.to_string()),
                    network.gateway.map(|g| g.to_string()),
                    labels_text(&network.labels)?,
                    network.created,
                ),
            )
            .state("write")?;
            Ok(find(tx, &network.name)?.expect("it was there or has just been inserted"))
        })
    }

    /// Forgets a network, durably.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container that has an address in it.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            let user: Option<String> = tx
                .query_row("SELECT container FROM addresses WHERE network = ? AND boot IS NULL", [name], |r| r.get(0))
                .optional()
                .state("read")?;
            if let Some(user) = user {
                return Err(Error::new(Kind::InUse, "remove network", name)
                    .because(format!("container {} has an address in it", short(&user)))
                    .hint(format!("tare rm {}", short(&user))));
            }
            if tx.execute("DELETE FROM networks WHERE name = ?", [name]).state("write")? == 0 {
                return Err(Error::new(Kind::NotFound, "remove network", name).because("no such network"));
            }
            tx.execute("DELETE FROM addresses WHERE network = ?", [name]).state("write")?;
            Ok(())
        })
    }
}

fn find(db: &Connection, name: &str) -> Result<Option<NetworkRow>> {
    let query = format!("SELECT {COLUMNS} FROM networks WHERE name = ?");
    db.query_row(&query, [name], from_row).optional().state("read")
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<NetworkRow> {
    Ok(NetworkRow {
        name: row.get(0)?,
        driver: row.get(1)?,
        subnet: row.get::<_, Option<String>>(2)?.and_then(|s| s.parse().ok()),
        gateway: row.get::<_, Option<String>>(3)?.and_then(|s| s.parse().ok()),
        labels: labels_of(row.get_ref(4)?.as_str()?),
        created: row.get(5)?,
    })
}
