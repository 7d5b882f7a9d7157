//! What is broken is found, and mended where nothing is lost by it.

use super::{Root, container, image};
use crate::{Durability, Finding, NewContainer, Store, VolumeSpec};
use tare_model::Kind;

fn objects(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| f.object.clone()).collect()
}

#[test]
fn directories_volumes_and_rows_are_put_right() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = Root::new();
    let store = &root.store;
    image(store, &["a"], &["app"]);
    let id = Store::new_id().unwrap();
    store.reserve_container(&container(&id, Some("box"))).unwrap();
    store.volume_create(&VolumeSpec { name: Some("data".into()), ..VolumeSpec::default() }).unwrap();
    std::fs::write(store.volume("data").unwrap().path.join("file"), "kept").unwrap();
    let gone = Store::new_id().unwrap();
    store
        .write(Durability::Durable, |tx| {
            tx.execute("DELETE FROM volumes", []).unwrap();
            tx.execute("UPDATE containers SET networks = 'nowhere'", []).unwrap();
            tx.execute("INSERT INTO addresses VALUES ('nowhere', x'0a000001', ?, NULL)", [&gone]).unwrap();
            Ok(())
        })
        .unwrap();
    let layers = store.root().join("layers");
    std::fs::set_permissions(&layers, std::fs::Permissions::from_mode(0o755)).unwrap();
    let findings = store.check(false).unwrap();
    assert!(findings.iter().all(|f| f.repairable && f.mend == "tare system check --repair"), "{findings:?}");
    let expected = [
        format!("container {id}"),
        format!("container {gone}"),
        layers.display().to_string(),
        store.root().join("volumes/data").display().to_string(),
    ];
    for object in &expected {
        assert!(objects(&findings).contains(object), "{object}: {findings:?}");
    }
    assert_eq!(store.repair().unwrap().len(), 4);
    assert_eq!(store.check(true).unwrap(), []);
    assert_eq!(std::fs::read_to_string(store.volume("data").unwrap().path.join("file")).unwrap(), "kept");
    assert_eq!(store.repair().unwrap(), [""; 0]);
}

#[test]
fn without_its_database_a_store_is_not_opened_as_an_empty_one() {
    let root = Root::new();
    image(&root.store, &["a"], &["app"]);
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(root.store.root().join(name));
    }
    for _ in 0..2 {
        let e = root.reopen().images().unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt);
        assert!(e.to_string().contains("state.db is missing, but there is content"), "{e}");
        assert!(e.first_hint().unwrap().contains("tare system check --repair"), "{e}");
        assert!(root.reopen().gc().is_err(), "nothing is taken for garbage");
    }
}

#[test]
fn a_damaged_database_is_made_anew_from_what_can_be_read_of_it() {
    let root = Root::new();
    let made = image(&root.store, &["a", "b"], &["app:1"]);
    let id = Store::new_id().unwrap();
    let layers = made.diff_ids();
    let new = NewContainer { image: Some(made.id), layers: &layers, ..container(&id, Some("box")) };
    root.store.reserve_container(&new).unwrap();
    root.store.volume_create(&VolumeSpec { name: Some("data".into()), ..VolumeSpec::default() }).unwrap();
    let store = root.reopen();
    let done = store.rebuild().unwrap();
    assert!(done[0].contains("rows of the old one"), "{done:?}");
    assert_eq!(store.image("app:1").unwrap(), made);
    assert_eq!(store.container("box").unwrap().id, id);
    assert_eq!(store.volume("data").unwrap().name, "data");
    let stray = store.root().join("containers").join(Store::new_id().unwrap());
    std::fs::create_dir(&stray).unwrap();
    store.gc().unwrap();
    assert!(stray.exists() && store.is_rebuilding().unwrap(), "it may be a container that is not found yet");
    store.end_rebuilding().unwrap();
    store.gc().unwrap();
    assert!(!stray.exists());
    assert_eq!(store.check(true).unwrap(), []);
    assert!(store.root().join("state.db.damaged").exists());

    // Of one that is nothing but noise, files alone tell.
    drop(store);
    std::fs::write(root.store.root().join("state.db"), "no database at all, only text").unwrap();
    let _ = std::fs::remove_file(root.store.root().join("state.db-wal"));
    let store = root.reopen();
    assert_eq!(store.images().unwrap_err().kind(), Kind::Corrupt);
    let done = store.rebuild().unwrap();
    assert!(done[0].contains("nothing could be read of the old one"), "{done:?}");
}
