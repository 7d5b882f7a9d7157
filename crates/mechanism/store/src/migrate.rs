//! Stores that an earlier tare has made, brought to the schema of this one.
//!
//! All steps are one durable transaction under the writers' lock: a kill leaves the old store.

use crate::definition;
use crate::sql::State as _;
use rusqlite::Connection;
use std::collections::BTreeMap;
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Error, Kind, Result};

/// Brings the tables from schema `from` to the newest; the caller records its number.
pub(crate) fn migrate(tx: &Connection, from: i64) -> Result<()> {
    if from < 2 {
        definitions_of_networks(tx)?;
    }
    if from < 3 {
        tx.execute_batch("ALTER TABLE layers ADD COLUMN index_digest TEXT").state("migrate")?;
    }
    Ok(())
}

/// A network's row in schema 1.
struct OldNetwork {
    bridge: String,
    subnet: Option<String>,
    gateway: Option<String>,
    labels: String,
    created: i64,
}

/// 1 → 2: networks are definitions with an id, containers list theirs, IPv6 has a prefix.
///
/// In schema 1 there was at most one network, the default one, under the name of its bridge.
fn definitions_of_networks(tx: &Connection) -> Result<()> {
    tx.execute_batch(
        "ALTER TABLE networks RENAME TO networks_1;
         CREATE TABLE networks (
             id         TEXT PRIMARY KEY,
             name       TEXT NOT NULL UNIQUE,
             definition TEXT NOT NULL
         ) WITHOUT ROWID;
         CREATE TABLE settings (
             key   TEXT PRIMARY KEY,
             value TEXT NOT NULL
         ) WITHOUT ROWID;
         ALTER TABLE containers ADD COLUMN networks TEXT NOT NULL DEFAULT '';",
    )
    .state("migrate")?;
    let mut rows = tx.prepare("SELECT name, subnet, gateway, labels, created FROM networks_1").state("migrate")?;
    let old: Vec<OldNetwork> = rows
        .query_map([], |r| {
            Ok(OldNetwork {
                bridge: r.get(0)?,
                subnet: r.get(1)?,
                gateway: r.get(2)?,
                labels: r.get(3)?,
                created: r.get(4)?,
            })
        })
        .and_then(Iterator::collect)
        .state("migrate")?;
    drop(rows);
    if let Some(OldNetwork { bridge, subnet, gateway, labels, created }) = old.into_iter().next() {
        let corrupt = || Error::new(Kind::Corrupt, "migrate network", &bridge).because("its subnet cannot be read");
        let net: IpNet = subnet.and_then(|s| s.parse().ok()).ok_or_else(corrupt)?;
        let labels: BTreeMap<String, String> = serde_json::from_str(&labels).unwrap_or_default();
        let v6 = IpNet::new(definition::ula(tx)?.address(), 64).ok_or_else(corrupt)?;
        let plain = |net: IpNet, gateway| Subnet { net: net.network(), gateway, range: None, reserved: Vec::new() };
        let network = Network {
            device: Some(bridge.clone()),
            subnets: vec![
                plain(net, gateway.and_then(|g| g.parse().ok()).or_else(|| net.first_host())),
                plain(v6, v6.first_host()),
            ],
            mtu: labels.get("mtu").and_then(|m| m.parse().ok()),
            created,
            ..Network::new("bridge", &crate::random_hex()?, Driver::Bridge)
        };
        definition::insert(tx, &network)?;
        tx.execute("UPDATE addresses SET network = ? WHERE network = ?", (&network.id, &bridge)).state("migrate")?;
        tx.execute(
            "UPDATE containers SET networks = ?1
             WHERE id IN (SELECT container FROM addresses WHERE network = ?1 AND boot IS NULL)",
            [&network.id],
        )
        .state("migrate")?;
    }
    tx.execute_batch("DROP TABLE networks_1").state("migrate")
}
