use super::{Root, assert_sound, child, container, in_child, pool};
use crate::{AddressRequest, Durability, NewContainer, Store};
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Error, Kind, Result};

const PROCESSES: usize = 16;

fn network(name: &str, device: Option<&str>, subnets: &[IpNet]) -> Network {
    let subnet = |net: &IpNet| Subnet { net: *net, gateway: net.first_host(), range: None, reserved: Vec::new() };
    Network {
        device: device.map(str::to_owned),
        subnets: subnets.iter().map(subnet).collect(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        created: 5,
        ..Network::new(name, &Store::new_id().unwrap(), Driver::Bridge)
    }
}

fn requests(network: &Network) -> Vec<AddressRequest> {
    let one = |s: &Subnet| AddressRequest {
        network: network.id.clone(),
        pool: s.net,
        range: s.range,
        exclude: s.gateway.into_iter().collect(),
        wanted: None,
    };
    network.subnets.iter().map(one).collect()
}

/// The first /64 of the prefix and the first /24 of 10.20.0.0/16 that none of the others has.
fn choose(name: &str, others: &[Network], prefix: IpNet) -> Network {
    let free = |from: IpNet, bits: u8, step: u128| {
        let mut nets = (0..256).filter_map(|i| IpNet::new(from.nth(i * step)?, bits));
        nets.find(|n| !others.iter().any(|o| o.subnets.iter().any(|s| s.net.overlaps(*n)))).unwrap()
    };
    let v4 = free("10.20.0.0/16".parse().unwrap(), 24, 1 << 8);
    let v6 = free(prefix, 64, 1 << 64);
    network(name, Some(&format!("tn-{name}")), &[v4, v6])
}

#[test]
fn networks_are_defined_found_and_kept_while_in_use() {
    let root = Root::new();
    let store = &root.store;
    let defined = store.create_network(|others, prefix| Ok(choose("back", others, prefix))).unwrap();
    let v6 = defined.v6().unwrap().net;
    assert!(v6.prefix() == 64 && v6.to_string().starts_with("fd"), "{v6}");
    for query in ["back", &defined.id, &defined.id[..12], &defined.id[..6]] {
        assert_eq!(store.network(query).unwrap(), defined, "{query}");
    }
    let e = store.network("front").unwrap_err();
    assert_eq!((e.kind(), e.first_hint()), (Kind::NotFound, Some("`tare network ls` lists all networks")));
    assert_eq!(store.network("").unwrap_err().kind(), Kind::NotFound);
    // Neither its name nor its device may be another's; what is refused leaves nothing.
    let again = |name: &str, device: &str| {
        store.create_network(|_, _| Ok(network(name, Some(device), &[]))).unwrap_err().to_string()
    };
    assert!(again("back", "other").ends_with("a network of this name exists"));
    assert!(again("front", "tn-back").ends_with("network back has a bridge named \"tn-back\""));
    assert!(store.create_network(|_, _| Err(Error::new(Kind::Invalid, "x", ""))).is_err());
    assert_eq!(store.networks().unwrap(), std::slice::from_ref(&defined));
    // The prefix is this root's, for all networks and later processes.
    let front = root.reopen().create_network(|others, prefix| Ok(choose("front", others, prefix))).unwrap();
    let prefix = IpNet::new(v6.address(), 48).unwrap();
    assert!(prefix.includes(front.v6().unwrap().net) && !v6.overlaps(front.v6().unwrap().net));
    assert_eq!(store.ensure_network("front", |_, _| unreachable!("it is there")).unwrap(), front);
    assert_ne!(Root::new().store.create_network(|o, p| Ok(choose("x", o, p))).unwrap().v6().unwrap().net, v6);

    let id = Store::new_id().unwrap();
    let networks = [defined.id.clone()];
    let addresses = requests(&defined);
    let new = NewContainer { networks: &networks, addresses: &addresses, ..container(&id, Some("web")) };
    store.reserve_container(&new).unwrap();
    let e = store.remove_network("back").unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (Kind::InUse, "remove network back: a container is in it: web"));
    assert!(e.first_hint().unwrap().contains("tare network disconnect back web"), "{e:?}");
    assert_eq!(store.network_users(&defined.id).unwrap()[0].id, id);
    store.release_container(&id, Durability::Durable).unwrap();
    store.remove_network("back").unwrap();
    assert_eq!(store.network("back").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.addresses(None).unwrap(), []);
    // A container cannot get a place in what is no more.
    let other = Store::new_id().unwrap();
    let new = NewContainer { networks: &networks, addresses: &addresses, ..container(&other, None) };
    assert_eq!(store.reserve_container(&new).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn places_are_taken_and_left_one_by_one() {
    let root = Root::new();
    let store = &root.store;
    let make = |name: &str| store.create_network(|others, prefix| Ok(choose(name, others, prefix))).unwrap();
    let (a, b) = (make("a"), make("b"));
    let id = Store::new_id().unwrap();
    store.reserve_container(&container(&id, None)).unwrap();
    let first = store.join_network(&id, &a.id, &requests(&a)).unwrap();
    assert_eq!(first.len(), 2);
    assert!(first[0].is_ipv4() && a.v6().unwrap().net.contains(first[1]));
    assert_eq!(store.join_network(&id, &a.id, &requests(&a)).unwrap_err().kind(), Kind::AlreadyExists);
    store.join_network(&id, &b.id, &[]).unwrap();
    assert_eq!(store.container(&id).unwrap().networks, [a.id.clone(), b.id.clone()]);
    assert_eq!(store.remove_network(&b.id).unwrap_err().kind(), Kind::InUse, "a place without an address is one, too");
    store.leave_network(&id, &a.id).unwrap();
    assert_eq!(store.container(&id).unwrap().networks, std::slice::from_ref(&b.id));
    assert_eq!(store.addresses(None).unwrap(), []);
    // One that cannot be had leaves no place.
    let taken = AddressRequest { wanted: Some("10.20.0.1".parse().unwrap()), ..requests(&a).remove(0) };
    assert_eq!(store.join_network(&id, &a.id, &[taken]).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.container(&id).unwrap().networks, std::slice::from_ref(&b.id));
    assert_eq!(store.join_network(&id, &"0".repeat(64), &[]).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn addresses_are_chosen_from_the_range_and_wanted_from_the_subnet() {
    let root = Root::new();
    let store = &root.store;
    let id = Store::new_id().unwrap();
    store.reserve_container(&container(&id, Some("web"))).unwrap();
    let mut request = pool("10.7.0.0/24");
    request.range = Some("10.7.0.64/30".parse().unwrap());
    request.exclude.push("10.7.0.65".parse().unwrap());
    let next = || store.lease_address(&id, &request).map(|a| a.to_string());
    // Unlike the subnet's, the range's first and last address are like any other.
    assert_eq!([next().unwrap(), next().unwrap(), next().unwrap()], ["10.7.0.64", "10.7.0.66", "10.7.0.67"]);
    let e = next().unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (Kind::Exhausted, "lease address 10.7.0.64/30: none is free"));
    let wanted = |a: &str| {
        let request = AddressRequest { wanted: Some(a.parse().unwrap()), ..request.clone() };
        store.lease_address(&id, &request).map(|a| a.to_string()).map_err(|e| e.to_string())
    };
    assert_eq!(wanted("10.7.0.200").unwrap(), "10.7.0.200");
    assert_eq!(wanted("10.7.0.200").unwrap_err(), "lease address 10.7.0.200: container web has it");
    assert!(wanted("10.7.0.255").is_err() && wanted("10.7.0.65").is_err() && wanted("10.7.1.1").is_err());
}

/// In each process: networks made and removed, containers that come, take a second place, leave it, and go.
#[test]
#[ignore = "a child of sixteen_processes_neither_lose_nor_double_anything"]
fn child_networks() {
    let Some((store, number)) = in_child() else { return };
    let shared = store.network("shared").unwrap();
    let own = format!("own{number}");
    let own = store.create_network(|others, prefix| Ok(choose(&own, others, prefix))).unwrap();
    match store.create_network(|others, prefix| Ok(choose("wanted-by-all", others, prefix))) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), Kind::AlreadyExists),
    }
    let lasting = store.ensure_network("lasting", |others, prefix| Ok(choose("lasting", others, prefix))).unwrap();
    for i in 0..16 {
        // Another connection each time, as every command has.
        let store = Store::open(store.root()).unwrap();
        let id = Store::new_id().unwrap();
        let networks = [shared.id.clone(), own.id.clone()];
        let addresses = [requests(&shared), requests(&own)].concat();
        let new = NewContainer { networks: &networks, addresses: &addresses, ..container(&id, None) };
        let got = store.reserve_container(&new).unwrap();
        let rows = store.addresses(None).unwrap().into_iter();
        let held: HashSet<IpAddr> = rows.filter(|row| row.container == id).map(|row| row.address).collect();
        assert_eq!(held, got.addresses.into_iter().collect(), "what was answered is what is recorded");
        store.join_network(&id, &lasting.id, &requests(&lasting)).unwrap();
        match i % 4 {
            // Stays as it is.
            0 => {}
            1 => store.leave_network(&id, &shared.id).unwrap(),
            // Gone, its device not yet.
            2 => store.release_container(&id, Durability::Lazy).unwrap(),
            _ => {
                store.release_container(&id, Durability::Durable).unwrap();
                store.release_addresses(&id).unwrap();
            }
        }
    }
}

#[test]
fn sixteen_processes_neither_lose_nor_double_anything() {
    let root = Root::new();
    let store = &root.store;
    store
        .create_network(|_, prefix| {
            let v6 = IpNet::new(prefix.nth(0xff << 64).unwrap(), 64).unwrap();
            Ok(network("shared", None, &["10.19.0.0/21".parse().unwrap(), v6]))
        })
        .unwrap();
    let run = |i: usize| child("tests::networks::child_networks", store.root(), &i.to_string());
    let mut children: Vec<_> = (0..PROCESSES).map(run).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let networks = store.networks().unwrap();
    assert_eq!(networks.len(), PROCESSES + 3);
    let subnets: Vec<_> = networks.iter().flat_map(|n| &n.subnets).map(|s| s.net).collect();
    for (i, a) in subnets.iter().enumerate() {
        assert!(subnets[i + 1..].iter().all(|b| !a.overlaps(*b)), "{a} was given twice");
    }
    let containers = store.containers().unwrap();
    assert_eq!(containers.len(), PROCESSES * 8);
    let rows = store.addresses(None).unwrap();
    let distinct: HashSet<_> = rows.iter().map(|r| (&r.network, r.address)).collect();
    assert_eq!(distinct.len(), rows.len());
    let id = |name: &str| networks.iter().find(|n| n.name == name).unwrap().id.clone();
    let held = |network: &str, quarantined| {
        rows.iter().filter(|r| r.network == network && r.quarantined == quarantined).count()
    };
    // Two of each container with a place; those in quarantine are not handed out, and not forgotten.
    let (shared, lasting) = (id("shared"), id("lasting"));
    assert_eq!((held(&shared, false), held(&shared, true)), (PROCESSES * 4 * 2, PROCESSES * 4 * 2));
    assert_eq!((held(&lasting, false), held(&lasting, true)), (PROCESSES * 8 * 2, PROCESSES * 4 * 2));
    for row in &rows {
        let net = networks.iter().find(|n| n.id == row.network).unwrap();
        assert!(net.subnets.iter().any(|s| s.net.contains(row.address) && s.gateway != Some(row.address)), "{row:?}");
        let known = containers.iter().any(|c| c.id == row.container && c.networks.contains(&row.network));
        assert!(known || row.quarantined, "{row:?} is nobody's");
    }
    assert_sound(store);
}

/// What the first version wrote.
const SCHEMA_1: &str = "
CREATE TABLE images (id TEXT PRIMARY KEY, manifest TEXT NOT NULL, manifest_type TEXT NOT NULL, manifest_size INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE image_layers (image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL, diff_id TEXT NOT NULL REFERENCES layers, blob TEXT NOT NULL, blob_type TEXT NOT NULL, blob_size INTEGER NOT NULL, PRIMARY KEY (image, position)) WITHOUT ROWID;
CREATE TABLE names (name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE digests (name TEXT NOT NULL, digest TEXT NOT NULL, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, PRIMARY KEY (name, digest)) WITHOUT ROWID;
CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT, created INTEGER NOT NULL, layers TEXT NOT NULL, volumes TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE addresses (network TEXT NOT NULL, address BLOB NOT NULL, container TEXT NOT NULL, boot TEXT, PRIMARY KEY (network, address)) WITHOUT ROWID;
CREATE TABLE networks (name TEXT PRIMARY KEY, driver TEXT NOT NULL, subnet TEXT, gateway TEXT, labels TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE volumes (name TEXT PRIMARY KEY, anonymous INTEGER NOT NULL, labels TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id = 1952543333;
PRAGMA user_version = 1;
";

/// A store of the first version with these further rows.
fn old_store(rows: &str) -> Result<Root> {
    let root = Root::new();
    for dir in ["blobs/sha256", "layers", "containers", "volumes", "tmp"] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root.store.root().join(dir)).unwrap();
    }
    let db = rusqlite::Connection::open(root.store.root().join("state.db")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.execute_batch(SCHEMA_1).unwrap();
    db.execute_batch(rows).unwrap();
    Ok(root)
}

#[test]
fn a_store_of_the_first_version_is_brought_to_this_one() {
    let (here, gone) = ("a".repeat(64), "b".repeat(64));
    let root = old_store(&format!(
        "INSERT INTO networks VALUES ('tare-abcdef', 'bridge', '10.112.16.0/20', '10.112.16.1', '{{\"mtu\":\"1400\"}}', 77);
         INSERT INTO containers VALUES ('{here}', 'web', NULL, 1, '', ''), ('{gone}', 'off', NULL, 2, '', '');
         INSERT INTO addresses VALUES ('tare-abcdef', x'0a701002', '{here}', NULL), ('tare-abcdef', x'0a701003', '{gone}', 'b');"
    ))
    .unwrap();
    for id in [&here, &gone] {
        std::fs::create_dir(root.store.root().join("containers").join(id)).unwrap();
    }
    let network = root.store.network("bridge").unwrap();
    assert_eq!(network.device.as_deref(), Some("tare-abcdef"));
    assert_eq!((network.mtu, network.created, network.driver), (Some(1400), 77, Driver::Bridge));
    let v4 = network.v4().unwrap();
    assert_eq!((v4.net.to_string().as_str(), v4.gateway), ("10.112.16.0/20", Some("10.112.16.1".parse().unwrap())));
    assert!(network.v6().is_some_and(|s| s.net.prefix() == 64 && s.gateway == s.net.first_host()));
    let networks = |id: &str| root.store.container(id).unwrap().networks;
    assert_eq!((networks(&here), networks(&gone)), (vec![network.id.clone()], vec![]));
    let rows = root.store.addresses(Some(&network.id)).unwrap();
    assert_eq!(rows.iter().map(|r| r.quarantined).collect::<Vec<_>>(), [false, true]);
    // What follows is as in a store that was always new.
    let id = Store::new_id().unwrap();
    let (networks, addresses) = ([network.id.clone()], requests(&network));
    let new = NewContainer { networks: &networks, addresses: &addresses, ..container(&id, None) };
    assert_eq!(root.store.reserve_container(&new).unwrap().addresses[0].to_string(), "10.112.16.3");
    assert_eq!(root.reopen().network("bridge").unwrap(), network, "once, not at every opening");
    let next = root.store.create_network(|o, p| Ok(choose("next", o, p))).unwrap();
    let prefix = IpNet::new(network.v6().unwrap().net.address(), 48).unwrap();
    assert!(prefix.includes(next.v6().unwrap().net) && next.v6() != network.v6());
    assert_sound(&root.store);
}

#[test]
fn many_who_open_an_old_store_at_once_agree() {
    let root =
        old_store("INSERT INTO networks VALUES ('tare0', 'bridge', '10.112.0.0/20', '10.112.0.1', '{}', 1);").unwrap();
    let seen: Vec<Network> = std::thread::scope(|scope| {
        let open = || scope.spawn(|| root.reopen().network("bridge").unwrap());
        let opened: Vec<_> = (0..PROCESSES).map(|_| open()).collect();
        opened.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(seen.iter().all(|n| *n == seen[0]));
}

#[test]
fn an_old_store_that_cannot_be_understood_stays_as_it_is() {
    let root = old_store("INSERT INTO networks VALUES ('tare0', 'bridge', 'nonsense', NULL, '{}', 1);").unwrap();
    let e = root.store.networks().unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt);
    let db = rusqlite::Connection::open(root.store.root().join("state.db")).unwrap();
    let version: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    let subnet: String = db.query_row("SELECT subnet FROM networks", [], |r| r.get(0)).unwrap();
    assert_eq!((version, subnet.as_str()), (1, "nonsense"));
}
