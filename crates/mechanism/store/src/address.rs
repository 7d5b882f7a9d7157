//! Addresses leased to containers.
//!
//! A leased address belongs to a container; when the container lets go, its device may still be there for some
//! milliseconds, so the address is quarantined until whoever removes devices says that they are gone, or until the host
//! has booted again.

use crate::Store;
use crate::sql::State as _;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::net::{IpAddr, Ipv4Addr};
use tare_model::address::{AddressRange, IpNet, address_of as address_from, number};
use tare_model::{Error, Kind, Result};

/// A wish for one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRequest {
    /// The network's id.
    pub network: String,
    /// The subnet: all addresses of it may be wanted.
    pub pool: IpNet,
    /// The part of it from which one is chosen; all of it where absent.
    pub range: Option<AddressRange>,
    /// Never handed out (gateway, …). The pool's first and, in IPv4, last address never are either.
    pub exclude: Vec<IpAddr>,
    /// This one and no other.
    pub wanted: Option<IpAddr>,
}

/// A leased or quarantined address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// The network's id.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The container that has it, or had it if quarantined.
    pub container: String,
    /// Let go by its container but maybe still on a device: not handed out.
    pub quarantined: bool,
}

impl Store {
    /// Frees all addresses that this container has or had, quarantined or not: its devices are gone.
    ///
    /// # Errors
    /// State that cannot be written.
    pub fn release_addresses(&self, container: &str) -> Result<()> {
        self.writer()?.background_transaction(|tx| {
            tx.execute("DELETE FROM addresses WHERE container = ?", [container]).state("write")?;
            Ok(())
        })
    }

    /// All leased and quarantined addresses of a network, or of all.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn addresses(&self, network: Option<&str>) -> Result<Vec<AddressRow>> {
        self.read(|db| rows(db, "?1 IS NULL OR network = ?1", network))
    }
}

fn rows(db: &Connection, condition: &str, parameter: Option<&str>) -> Result<Vec<AddressRow>> {
    let query = format!(
        "SELECT network, address, container, boot IS NOT NULL FROM addresses WHERE {condition} ORDER BY network, address"
    );
    let mut rows = db.prepare(&query).state("read")?;
    rows.query_map([parameter], from_row).and_then(Iterator::collect).state("read")
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AddressRow> {
    Ok(AddressRow {
        network: row.get(0)?,
        address: address_of(row.get_ref(1)?.as_blob()?),
        container: row.get(2)?,
        quarantined: row.get(3)?,
    })
}

/// Puts the addresses of a container in quarantine.
pub(crate) fn quarantine(tx: &Connection, container: &str, boot: &str) -> Result<()> {
    tx.execute("UPDATE addresses SET boot = ? WHERE container = ? AND boot IS NULL", (boot, container))
        .state("write")?;
    Ok(())
}

/// Ends quarantines of earlier boots of the host: no device outlives one. To be called before leasing.
pub(crate) fn purge(tx: &Connection, boot: &str) -> Result<()> {
    tx.execute("DELETE FROM addresses WHERE boot <> ?", [boot]).state("write")?;
    Ok(())
}

/// Leases an address inside of a transaction.
pub(crate) fn lease(tx: &Connection, container: &str, request: &AddressRequest) -> Result<IpAddr> {
    let address = match request.wanted {
        Some(wanted) => check_wanted(tx, request, wanted)?,
        None => free_address(tx, request)?,
    };
    tx.execute(
        "INSERT INTO addresses (network, address, container, boot) VALUES (?, ?, ?, NULL)",
        (&request.network, bytes(address), container),
    )
    .state("write")?;
    Ok(address)
}

fn check_wanted(tx: &Connection, request: &AddressRequest, wanted: IpAddr) -> Result<IpAddr> {
    let fail = |kind, why: String| Err(Error::new(kind, "lease address", wanted).because(why));
    if !request.pool.contains(wanted) {
        return fail(Kind::Invalid, format!("it is not in {}", request.pool));
    }
    if reserved(request).contains(&number(wanted)) {
        return fail(Kind::Invalid, format!("it is the gateway's, or reserved otherwise in {}", request.pool));
    }
    let holder: Option<String> = tx
        .query_row(
            "SELECT container FROM addresses WHERE network = ? AND address = ?",
            (&request.network, bytes(wanted)),
            |row| row.get(0),
        )
        .optional()
        .state("read")?;
    match holder {
        Some(holder) => {
            let name = crate::rows::container_by_id(tx, &holder)?.map(|c| c.name);
            let holder = name.unwrap_or_else(|| crate::rows::short(&holder).to_owned());
            fail(Kind::InUse, format!("container {holder} has it"))
        }
        None => Ok(wanted),
    }
}

/// The one after the highest leased address, so that addresses are reused late; past the pool's end the lowest gap.
fn free_address(tx: &Connection, request: &AddressRequest) -> Result<IpAddr> {
    let pool = request.range.unwrap_or(request.pool.into());
    let (first, last) = (number(pool.first()), number(pool.last()));
    let reserved = reserved(request);
    let at = |n: u128| address_from(n, request.pool.address());
    let bounds = (&request.network, bytes(at(first)), bytes(at(last)));
    let length = "length(address) = length(?2)";
    let highest: Option<Vec<u8>> = tx
        .query_row(
            &format!(
                "SELECT max(address) FROM addresses WHERE network = ?1 AND address BETWEEN ?2 AND ?3 AND {length}"
            ),
            bounds.clone(),
            |row| row.get(0),
        )
        .state("read")?;
    let after = highest.map_or(first, |h| number(address_of(&h)).saturating_add(1));
    if let Some(n) = (after..=last).take(reserved.len() + 1).find(|n| !reserved.contains(n)) {
        return Ok(at(n));
    }
    let mut rows = tx
        .prepare(&format!(
            "SELECT address FROM addresses WHERE network = ?1 AND address BETWEEN ?2 AND ?3 AND {length} ORDER BY address"
        ))
        .state("read")?;
    let mut next = first;
    let mut gap = |until: u128| {
        let found = (next..until).take(reserved.len() + 1).find(|n| !reserved.contains(n));
        next = until.saturating_add(1);
        found
    };
    for row in rows.query_map(bounds, |row| row.get::<_, Vec<u8>>(0)).state("read")? {
        if let Some(n) = gap(number(address_of(&row.state("read")?))) {
            return Ok(at(n));
        }
    }
    gap(last.saturating_add(1)).map(at).ok_or_else(|| {
        Error::new(Kind::Exhausted, "lease address", pool)
            .because("none is free")
            .hint("remove containers that are not needed, or use a network with a larger subnet")
    })
}

fn reserved(request: &AddressRequest) -> Vec<u128> {
    let (first, last) = request.pool.range();
    let mut reserved: Vec<_> = request.exclude.iter().map(|a| number(*a)).collect();
    // RFC 3021: a /31 has neither a network nor a broadcast address; a /32 is one host.
    if last - first > 1 {
        reserved.push(first);
        if request.pool.is_ipv4() {
            reserved.push(last);
        }
    }
    reserved
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn address_of(bytes: &[u8]) -> IpAddr {
    if let Ok(b) = <[u8; 4]>::try_from(bytes) {
        return IpAddr::from(b);
    }
    <[u8; 16]>::try_from(bytes).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::from)
}
