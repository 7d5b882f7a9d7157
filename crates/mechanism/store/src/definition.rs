//! Networks' rows: the definition as JSON, and the IPv6 prefix of all of them. Below the migration as well as the verbs.

use crate::sql::State as _;
use rusqlite::{Connection, OptionalExtension as _};
use std::net::Ipv6Addr;
use tare_model::address::IpNet;
use tare_model::network::Network;
use tare_model::{Error, Kind, Result};

/// Bits of the IPv6 prefix that one root has for its networks.
const ULA_BITS: u8 = 48;

/// Key of that prefix among the settings.
const ULA: &str = "ipv6-prefix";

pub(crate) fn insert(tx: &Connection, network: &Network) -> Result<()> {
    let definition = serde_json::to_string(network)
        .map_err(|e| Error::new(Kind::Invalid, "store network", &network.name).because(e))?;
    tx.execute(
        "INSERT INTO networks (id, name, definition) VALUES (?, ?, ?)",
        (&network.id, &network.name, definition),
    )
    .state("write")?;
    Ok(())
}

/// This root's IPv6 prefix; made at the first question.
pub(crate) fn ula(tx: &Connection) -> Result<IpNet> {
    let known: Option<String> =
        tx.query_row("SELECT value FROM settings WHERE key = ?", [ULA], |row| row.get(0)).optional().state("read")?;
    if let Some(known) = known.and_then(|text| text.parse().ok()) {
        return Ok(known);
    }
    // RFC 4193, 3.1: fd, 40 random bits, 16 bits of subnets.
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    rustix::rand::getrandom(&mut octets[1..6], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("read random bytes", "", e))?;
    let prefix = IpNet::new(Ipv6Addr::from(octets).into(), ULA_BITS).expect("48 is no more than 128");
    tx.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (ULA, prefix.to_string()))
        .state("write")?;
    Ok(prefix)
}

pub(crate) fn all(db: &Connection) -> Result<Vec<Network>> {
    let mut rows = db.prepare("SELECT definition FROM networks ORDER BY name").state("read")?;
    let texts: Vec<String> = rows.query_map([], |row| row.get(0)).and_then(Iterator::collect).state("read")?;
    texts.iter().map(|text| read(text)).collect()
}

pub(crate) fn read(text: &str) -> Result<Network> {
    serde_json::from_str(text).map_err(|e| Error::new(Kind::Corrupt, "read network", "state.db").because(e))
}
