//! Networks: who is in which, and what the rows of [`definition`] may become.

use crate::address::{AddressRequest, lease, purge};
use crate::db::{Durability, boot_id};
use crate::rows;
use crate::sql::State as _;
use crate::{ContainerRow, Store, definition};
use rusqlite::{Connection, OptionalExtension as _};
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::network::Network;
use tare_model::{Error, Kind, Result};

impl Store {
    /// Finds a network by name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub fn network(&self, name_or_id: &str) -> Result<Network> {
        self.read(|db| find(db, name_or_id))
    }

    /// All networks by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.read(definition::all)
    }

    /// Defines a network, durably. `define` gets all networks that are there and this root's IPv6 prefix (a random one of
    /// RFC 4193, made once), and decides while nobody else can; it must not do I/O.
    ///
    /// # Errors
    /// What `define` says; `Kind::AlreadyExists` if its name or its device's name is taken.
    pub fn create_network(&self, define: impl FnOnce(&[Network], IpNet) -> Result<Network>) -> Result<Network> {
        self.write(Durability::Durable, |tx| {
            let others = definition::all(tx)?;
            let network = define(&others, definition::ula(tx)?)?;
            let taken =
                |what: String| Err(Error::new(Kind::AlreadyExists, "create network", &network.name).because(what));
            if others.iter().any(|o| o.name == network.name || o.id == network.id) {
                return taken("a network of this name exists".to_owned());
            }
            if let Some(other) = others.iter().find(|o| o.device.is_some() && o.device == network.device) {
                let device = network.device.as_deref().unwrap_or_default();
                return taken(format!("network {} has a bridge named \"{device}\"", other.name));
            }
            definition::insert(tx, &network)?;
            Ok(network)
        })
    }

    /// The network of this name; defined as with [`Store::create_network`] where there is none.
    ///
    /// # Errors
    /// As [`Store::create_network`].
    pub fn ensure_network(
        &self,
        name: &str,
        define: impl FnOnce(&[Network], IpNet) -> Result<Network>,
    ) -> Result<Network> {
        self.write(Durability::Durable, |tx| {
            let others = definition::all(tx)?;
            if let Some(there) = others.iter().find(|o| o.name == name) {
                return Ok(there.clone());
            }
            let network = define(&others, definition::ula(tx)?)?;
            definition::insert(tx, &network)?;
            Ok(network)
        })
    }

    /// Forgets a network (its id), durably.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming the containers that have a place in it, running or not.
    pub fn remove_network(&self, id: &str) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            let network = find(tx, id)?;
            let users = users(tx, &network.id)?;
            if !users.is_empty() {
                let names: Vec<_> = users.iter().map(|c| c.name.as_str()).collect();
                return Err(Error::new(Kind::InUse, "remove network", &network.name)
                    .because(format!("{} in it: {}", counted(names.len()), names.join(", ")))
                    .hint(format!(
                        "disconnect them (tare network disconnect {} {}), or remove them with it (tare network rm -f {})",
                        network.name, names[0], network.name
                    )));
            }
            tx.execute("DELETE FROM networks WHERE id = ?", [&network.id]).state("write")?;
            // In quarantine: of containers that are gone.
            tx.execute("DELETE FROM addresses WHERE network = ?", [&network.id]).state("write")?;
            Ok(())
        })
    }

    /// The containers that have a place in a network (its id), by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn network_users(&self, id: &str) -> Result<Vec<ContainerRow>> {
        self.read(|db| users(db, id))
    }

    /// Gives a container (its full id) a place in one more network (its id), with addresses. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound` without such a container or network; `Kind::AlreadyExists` if it has a place there;
    /// `Kind::Exhausted` and `Kind::InUse` as for addresses.
    pub fn join_network(&self, container: &str, network: &str, addresses: &[AddressRequest]) -> Result<Vec<IpAddr>> {
        let boot = boot_id()?;
        self.write(Durability::Durable, |tx| {
            let mut networks = networks_of(tx, container)?;
            require(tx, network)?;
            if networks.iter().any(|n| n == network) {
                return Err(Error::new(Kind::AlreadyExists, "connect to network", network)
                    .because(format!("container {} is in it already", rows::short(container))));
            }
            networks.push(network.to_owned());
            set_networks(tx, container, &networks)?;
            purge(tx, &boot)?;
            addresses.iter().map(|request| lease(tx, container, request)).collect()
        })
    }

    /// Takes a container's place in a network away, its addresses with it: its device there must be gone. Durable. No
    /// error if it has none.
    ///
    /// # Errors
    /// `Kind::NotFound` without such a container.
    pub fn leave_network(&self, container: &str, network: &str) -> Result<()> {
        self.write(Durability::Durable, |tx| {
            let mut networks = networks_of(tx, container)?;
            networks.retain(|n| n != network);
            set_networks(tx, container, &networks)?;
            tx.execute("DELETE FROM addresses WHERE container = ? AND network = ?", (container, network))
                .state("write")?;
            Ok(())
        })
    }
}

/// Refuses a network (its id) that is not there.
pub(crate) fn require(db: &Connection, id: &str) -> Result<()> {
    let there = db.query_row("SELECT 1 FROM networks WHERE id = ?", [id], |_| Ok(())).optional().state("read")?;
    there.ok_or_else(|| missing(rows::short(id)))
}

fn find(db: &Connection, name_or_id: &str) -> Result<Network> {
    let exact = "SELECT definition FROM networks WHERE id = ?1 OR name = ?1 ORDER BY name = ?1 DESC LIMIT 1";
    let found: Option<String> = db.query_row(exact, [name_or_id], |row| row.get(0)).optional().state("read")?;
    if let Some(text) = found {
        return definition::read(&text);
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if name_or_id.is_empty() || name_or_id.len() >= 64 || !name_or_id.bytes().all(hex) {
        return Err(missing(name_or_id));
    }
    // `g` comes right after the last hexadecimal digit.
    let begins = "SELECT definition FROM networks WHERE id > ?1 AND id < ?1 || 'g' LIMIT 2";
    let mut rows = db.prepare(begins).state("read")?;
    let found: Vec<String> =
        rows.query_map([name_or_id], |row| row.get(0)).and_then(Iterator::collect).state("read")?;
    match &found[..] {
        [one] => definition::read(one),
        [] => Err(missing(name_or_id)),
        _ => Err(Error::new(Kind::Invalid, "find network", name_or_id)
            .because("several networks' ids begin so")
            .hint("type more of the id")),
    }
}

fn missing(name_or_id: &str) -> Error {
    Error::new(Kind::NotFound, "find network", name_or_id)
        .because("no such network")
        .hint("`tare network ls` lists all networks")
}

fn users(db: &Connection, id: &str) -> Result<Vec<ContainerRow>> {
    let mut users = rows::containers(db)?;
    users.retain(|c| c.networks.iter().any(|n| n == id));
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(users)
}

fn networks_of(tx: &Connection, container: &str) -> Result<Vec<String>> {
    Ok(rows::container_by_id(tx, container)?.ok_or_else(|| rows::missing_container(container))?.networks)
}

fn set_networks(tx: &Connection, container: &str, networks: &[String]) -> Result<()> {
    tx.execute("UPDATE containers SET networks = ? WHERE id = ?", (networks.join(" "), container)).state("write")?;
    Ok(())
}

fn counted(containers: usize) -> String {
    if containers == 1 { "a container is".to_owned() } else { format!("{containers} containers are") }
}
