use super::{Root, assert_sound, child, container, image, in_child, pool};
use crate::{Durability, NewContainer, Store};
use std::collections::HashSet;
use tare_model::{Digest, Kind};

const PROCESSES: usize = 16;

/// In each process: many containers with made-up names and addresses from one small pool, and one name that all want.
#[test]
#[ignore = "a child of processes_reserve_at_once"]
fn child_reserves() {
    let Some((store, number)) = in_child() else { return };
    let addresses = [pool("10.7.0.0/23")];
    let mut got = 0;
    for i in 0..30 {
        let id = Store::new_id().unwrap();
        let new = NewContainer { addresses: &addresses, ..container(&id, None) };
        store.reserve_container(&new).unwrap();
        if i % 3 == 0 {
            store.release_container(&id, Durability::Lazy).unwrap();
            store.remove_container_dir(&id).unwrap();
            store.release_addresses(&id).unwrap();
        } else {
            got += 1;
        }
        // Another connection each time, as every command has.
        let again = Store::open(store.root()).unwrap();
        assert!(again.container(&id).is_ok() || i % 3 == 0);
    }
    let id = Store::new_id().unwrap();
    match store.reserve_container(&container(&id, Some("the-one"))) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), Kind::AlreadyExists),
    }
    assert_eq!(got, 20, "process {number}");
}

#[test]
fn processes_reserve_at_once() {
    let root = Root::new();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|i| child("tests::concurrent::child_reserves", root.store.root(), &i.to_string())).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let containers = root.store.containers().unwrap();
    assert_eq!(containers.len(), PROCESSES * 20 + 1);
    let names: HashSet<_> = containers.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), containers.len());
    let addresses = root.store.addresses(Some("net")).unwrap();
    let distinct: HashSet<_> = addresses.iter().map(|a| a.address).collect();
    assert_eq!((distinct.len(), addresses.len()), (PROCESSES * 20, PROCESSES * 20));
    assert_sound(&root.store);
}

/// In each process: the same images made, used, removed and collected, over and over.
#[test]
#[ignore = "a child of processes_make_and_remove_the_same_images"]
fn child_makes_and_removes() {
    let Some((store, number)) = in_child() else { return };
    let number: usize = number.parse().unwrap();
    for i in 0..12 {
        let name = format!("app{}", (number + i) % 3);
        // While its lease lives, nobody may take away what has just been made.
        let made = image(&store, &["base", &name], &[&name]);
        let (id, layers) = (Store::new_id().unwrap(), made.diff_ids());
        let new = NewContainer { image: Some(made.id), layers: &layers, ..container(&id, None) };
        match store.reserve_container(&new) {
            Ok(_) => {
                for lower in store.lowers_of(&layers).unwrap() {
                    assert!(lower.path.join("file").exists(), "a container's layer is gone");
                }
                store.release_container(&id, Durability::Lazy).unwrap();
                store.remove_container_dir(&id).unwrap();
            }
            // Removed by another process after it was made.
            Err(e) => assert_eq!(e.kind(), Kind::NotFound, "{e}"),
        }
        match store.remove_image(&name, i % 2 == 0) {
            Ok(_) => {}
            Err(e) => assert!(matches!(e.kind(), Kind::NotFound | Kind::InUse), "{e}"),
        }
        if i % 4 == number % 4 {
            store.gc().unwrap();
        }
    }
}

#[test]
fn processes_make_and_remove_the_same_images() {
    let root = Root::new();
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|i| child("tests::concurrent::child_makes_and_removes", root.store.root(), &i.to_string()))
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_sound(&root.store);
}

#[test]
fn sixteen_open_a_new_store_at_once() {
    for _ in 0..5 {
        let root = Root::new();
        std::thread::scope(|scope| {
            for _ in 0..PROCESSES {
                scope.spawn(|| {
                    let store = root.reopen();
                    let id = Store::new_id().unwrap();
                    store.reserve_container(&container(&id, None)).unwrap();
                    store.lease().unwrap().hold(&[Digest::of(id.as_bytes())]).unwrap();
                });
            }
        });
        assert_eq!(root.store.containers().unwrap().len(), PROCESSES);
    }
}

#[test]
fn a_collection_spares_what_a_lease_holds() {
    let root = Root::new();
    let lease = root.store.lease().unwrap();
    let held = super::layer(&lease, "held");
    let other = root.reopen();
    other.gc().unwrap();
    assert!(other.has_layer(&held.diff_id).unwrap() && other.has_blob(&held.blob.digest));
    assert_eq!(other.check(true).unwrap(), []);
    drop(lease);
    let gone = other.gc().unwrap();
    assert_eq!((gone.layers, gone.blobs), (vec![held.diff_id], vec![held.blob.digest]));
    assert_sound(&other);
}
