use super::{Root, assert_sound, container, pool};
use crate::{Durability, NewContainer, Prune, Store, VolumeSpec};
use tare_model::{Digest, Kind};

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let root = Root::new();
    root.store.containers().unwrap();
    let path = root.store.root().join("state.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let e = root.reopen().containers().unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported);
    assert!(e.to_string().contains("it has schema 99, and this tare knows 3"), "{e}");
    assert_eq!(e.first_hint(), Some("use the tare that wrote it, or another root directory (--root)"));
    let version: i64 =
        rusqlite::Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn what_is_no_database_is_reported_as_corrupt() {
    let root = Root::new();
    std::fs::create_dir_all(root.store.root()).unwrap();
    std::fs::write(root.store.root().join("state.db"), [b'x'; 8192]).unwrap();
    assert_eq!(root.store.containers().unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn closing_leaves_the_log_and_the_next_one_reads_it() {
    let root = Root::new();
    let id = Store::new_id().unwrap();
    root.store.reserve_container(&container(&id, Some("kept"))).unwrap();
    let store = root.reopen();
    let path = root.store.root().to_owned();
    let dir = std::mem::ManuallyDrop::new(root);
    assert_eq!(store.container("kept").unwrap().id, id);
    assert!(std::fs::metadata(path.join("state.db-wal")).unwrap().len() > 0);
    drop(std::mem::ManuallyDrop::into_inner(dir));
}

#[test]
fn a_taken_name_names_its_holder() {
    let root = Root::new();
    let (a, b) = (Store::new_id().unwrap(), Store::new_id().unwrap());
    root.store.reserve_container(&container(&a, Some("web"))).unwrap();
    let e = root.store.reserve_container(&container(&b, Some("web"))).unwrap_err();
    assert_eq!(e.kind(), Kind::AlreadyExists);
    assert!(e.to_string().contains(&a[..12]), "{e}");
    assert_eq!(e.first_hint(), Some("remove it with `tare rm web`, or use another name"));
    assert!(!root.store.container_dir(&b).exists());
    root.store.reserve_container(&container(&b, Some("db"))).unwrap();
    assert_eq!(root.store.rename_container(&b, "web").unwrap_err().kind(), Kind::AlreadyExists);
    root.store.rename_container(&b, "db2").unwrap();
    assert_eq!(root.store.container("db2").unwrap().id, b);
    assert_eq!(root.store.rename_container(&Store::new_id().unwrap(), "x1").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn containers_are_found_by_name_id_and_prefix() {
    let root = Root::new();
    let ids = [format!("ab{}", "0".repeat(62)), format!("ac{}", "0".repeat(62))];
    root.store.reserve_container(&container(&ids[0], Some("ac"))).unwrap();
    root.store.reserve_container(&container(&ids[1], Some("other"))).unwrap();
    let id = |query: &str| root.store.container(query).map(|c| c.id).map_err(|e| e.kind());
    assert_eq!(id("ab"), Ok(ids[0].clone()));
    assert_eq!(id("ac"), Ok(ids[0].clone()), "a name comes before a prefix");
    assert_eq!(id("ac0"), Ok(ids[1].clone()));
    assert_eq!(id(&ids[1]), Ok(ids[1].clone()));
    assert_eq!(id("a"), Err(Kind::Invalid));
    for missing in ["", "zz", "abc", "f", "%", "a*"] {
        assert_eq!(id(missing), Err(Kind::NotFound), "{missing}");
    }
}

#[test]
fn addresses_are_handed_out_once_and_come_back_late() {
    let root = Root::new();
    let id = Store::new_id().unwrap();
    let mut request = pool("10.7.0.0/29");
    request.exclude.push("10.7.0.1".parse().unwrap());
    let addresses = vec![request.clone(); 3];
    let got = root.store.reserve_container(&NewContainer { addresses: &addresses, ..container(&id, None) }).unwrap();
    let texts: Vec<_> = got.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.7.0.2", "10.7.0.3", "10.7.0.4"]);
    let free = "DELETE FROM addresses WHERE address = x'0a070003'";
    assert_eq!(root.store.write(Durability::Lazy, |tx| Ok(tx.execute(free, []).unwrap())).unwrap(), 1);
    let next = || root.store.lease_address(&id, &request).map(|a| a.to_string());
    assert_eq!(next().unwrap(), "10.7.0.5");
    assert_eq!(next().unwrap(), "10.7.0.6");
    assert_eq!(next().unwrap(), "10.7.0.3", "the gap, when the end is reached");
    assert_eq!(next().unwrap_err().kind(), Kind::Exhausted);
    root.store.release_container(&id, Durability::Lazy).unwrap();
    assert!(root.store.addresses(Some("net")).unwrap().iter().all(|a| a.quarantined));
    let other = Store::new_id().unwrap();
    root.store.reserve_container(&container(&other, None)).unwrap();
    let e = root.store.lease_address(&other, &request).unwrap_err();
    assert_eq!(e.kind(), Kind::Exhausted, "quarantined addresses are not handed out");
    root.store.release_addresses(&id).unwrap();
    assert_eq!(root.store.lease_address(&other, &request).unwrap().to_string(), "10.7.0.2");
    let taken = crate::AddressRequest { wanted: Some("10.7.0.2".parse().unwrap()), ..request.clone() };
    assert_eq!(root.store.lease_address(&other, &taken).unwrap_err().kind(), Kind::InUse);
    for outside in ["10.8.0.1", "10.7.0.1", "10.7.0.7", "10.7.0.0"] {
        let request = crate::AddressRequest { wanted: Some(outside.parse().unwrap()), ..request.clone() };
        assert_eq!(root.store.lease_address(&other, &request).unwrap_err().kind(), Kind::Invalid, "{outside}");
    }
}

#[test]
fn a_quarantine_ends_with_the_boot() {
    let root = Root::new();
    let id = Store::new_id().unwrap();
    let addresses = [pool("10.7.0.0/30"), pool("10.7.0.0/30")];
    root.store.reserve_container(&NewContainer { addresses: &addresses, ..container(&id, None) }).unwrap();
    root.store.release_container(&id, Durability::Lazy).unwrap();
    let other = Store::new_id().unwrap();
    root.store.reserve_container(&container(&other, None)).unwrap();
    assert_eq!(root.store.lease_address(&other, &addresses[0]).unwrap_err().kind(), Kind::Exhausted);
    root.store
        .write(Durability::Lazy, |tx| Ok(tx.execute("UPDATE addresses SET boot = 'an earlier one'", []).unwrap()))
        .unwrap();
    assert_eq!(root.store.lease_address(&other, &addresses[0]).unwrap().to_string(), "10.7.0.1");
}

#[test]
fn both_families_are_leased_side_by_side() {
    let root = Root::new();
    let id = Store::new_id().unwrap();
    let addresses = [pool("10.7.0.0/24"), pool("fd00:7::/64"), pool("fd00:7::/64"), pool("10.7.0.0/24")];
    let got = root.store.reserve_container(&NewContainer { addresses: &addresses, ..container(&id, None) }).unwrap();
    let texts: Vec<_> = got.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.7.0.1", "fd00:7::1", "fd00:7::2", "10.7.0.2"]);
}

#[test]
fn a_failed_reservation_leaves_nothing() {
    let root = Root::new();
    let id = Store::new_id().unwrap();
    let addresses = vec![pool("10.7.0.0/30"); 3];
    let new = NewContainer { addresses: &addresses, ..container(&id, Some("web")) };
    assert_eq!(root.store.reserve_container(&new).unwrap_err().kind(), Kind::Exhausted);
    let layers = [Digest::of(b"not there")];
    let new = NewContainer { layers: &layers, ..container(&id, Some("web")) };
    assert_eq!(root.store.reserve_container(&new).unwrap_err().kind(), Kind::NotFound);
    let volumes = ["none".to_owned()];
    let new = NewContainer { volumes: &volumes, ..container(&id, Some("web")) };
    assert_eq!(root.store.reserve_container(&new).unwrap_err().first_hint(), Some("tare volume create none"));
    assert_eq!((root.store.containers().unwrap(), root.store.addresses(None).unwrap()), (vec![], vec![]));
    assert_sound(&root.store);
}

#[test]
fn volumes_in_use_stay() {
    let root = Root::new();
    let store = &root.store;
    let named = VolumeSpec { name: Some("data".into()), ..Default::default() };
    let (data, _) = store.volume_create(&named).unwrap();
    assert!(!store.volume_create(&named).unwrap().1);
    let (anonymous, _) = store.volume_create(&VolumeSpec::default()).unwrap();
    assert!(anonymous.anonymous && !data.anonymous);
    std::fs::write(data.path.join("file"), "precious").unwrap();
    let id = Store::new_id().unwrap();
    let volumes = ["data".to_owned()];
    store.reserve_container(&NewContainer { volumes: &volumes, ..container(&id, Some("web")) }).unwrap();
    let e = store.volume_remove("data").unwrap_err();
    assert_eq!((e.kind(), e.first_hint()), (Kind::InUse, Some("tare rm web")));
    assert_eq!(store.volume_users("data").unwrap()[0].id, id);
    let prune = |which, wanted: &dyn Fn(&crate::VolumeRow) -> bool| {
        let gone = store.volume_prune(which, wanted).unwrap();
        gone.into_iter().map(|(volume, _)| volume).collect::<Vec<_>>()
    };
    assert_eq!(prune(Prune::Anonymous, &|_| true), [anonymous]);
    assert_eq!(prune(Prune::All, &|_| true), []);
    store.release_container(&id, Durability::Durable).unwrap();
    store.remove_container_dir(&id).unwrap();
    assert_eq!(prune(Prune::All, &|v| v.name != "data"), []);
    assert_eq!(prune(Prune::All, &|_| true), std::slice::from_ref(&data));
    assert!(!data.path.exists());
    for bad in ["../../x", "a/b", "", "..", ".x"] {
        let spec = VolumeSpec { name: Some(bad.into()), ..Default::default() };
        assert_eq!(store.volume_create(&spec).unwrap_err().kind(), Kind::Invalid, "{bad}");
    }
    assert_sound(store);
}

#[test]
fn data_without_a_row_is_reported_and_kept() {
    let root = Root::new();
    root.store.volumes().unwrap();
    let lost = root.store.root().join("volumes/lost/_data");
    std::fs::create_dir_all(&lost).unwrap();
    std::fs::create_dir_all(root.store.root().join("volumes/empty/_data")).unwrap();
    std::fs::write(lost.join("file"), "precious").unwrap();
    assert_eq!(root.store.gc().unwrap().directories, 1);
    assert!(lost.join("file").exists());
    let findings = root.store.check(false).unwrap();
    assert_eq!((findings.len(), findings[0].collectable), (1, false));
}
