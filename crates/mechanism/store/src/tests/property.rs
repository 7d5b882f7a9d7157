//! Whatever is done in whatever order: what is on disk is what something refers to, at once and after a collection.

use super::{Root, assert_sound, container, image};
use crate::lease::names;
use crate::mutate::Random;
use crate::{Durability, NewContainer, Store, VolumeSpec};
use std::collections::BTreeSet;
use tare_model::{Digest, Kind};

/// What images and containers refer to, from what the store tells of them one by one.
fn referenced(store: &Store) -> [BTreeSet<String>; 4] {
    let mut all: [BTreeSet<String>; 4] = Default::default();
    for image in store.images().unwrap() {
        all[0].extend(image.layers.iter().map(|l| l.blob.digest.hex()));
        all[0].extend([image.id.hex(), image.manifest.digest.hex()]);
        all[1].extend(image.diff_ids().iter().map(Digest::hex));
    }
    for row in store.containers().unwrap() {
        all[1].extend(store.container_layers(&row.id).unwrap().iter().map(Digest::hex));
        all[2].insert(row.id);
    }
    all[3].extend(store.volumes().unwrap().into_iter().map(|v| v.name));
    all
}

fn on_disk(store: &Store) -> [BTreeSet<String>; 4] {
    ["blobs/sha256", "layers", "containers", "volumes"]
        .map(|dir| names(&store.root().join(dir)).unwrap().into_iter().collect())
}

fn step(store: &Store, random: &mut Random) {
    let (images, containers) = (store.images().unwrap(), store.containers().unwrap());
    let expected = |e: &tare_model::Error| matches!(e.kind(), Kind::InUse | Kind::NotFound);
    match random.below(10) {
        0..=2 => {
            let contents = ["a", "b", "c", "d", "e"];
            let layers: Vec<&str> = (0..=random.below(3)).map(|_| contents[random.below(5)]).collect();
            image(store, &layers, &[["one", "two", "three"][random.below(3)]]);
        }
        3 | 4 if !images.is_empty() => {
            let chosen = &images[random.below(images.len())];
            let force = random.below(2) == 0;
            let removed = store.remove_image(&chosen.id.to_string(), force);
            assert!(removed.as_ref().err().is_none_or(expected), "{removed:?}");
        }
        5 if !images.is_empty() => {
            let chosen = &images[random.below(images.len())];
            store.tag(&chosen.id.to_string(), &["four", "five"][random.below(2)].parse().unwrap()).unwrap();
        }
        6 if !images.is_empty() => {
            let chosen = &images[random.below(images.len())];
            let (id, layers) = (Store::new_id().unwrap(), chosen.diff_ids());
            let new = NewContainer { image: Some(chosen.id), layers: &layers, ..container(&id, None) };
            store.reserve_container(&new).unwrap();
        }
        7 if !containers.is_empty() => {
            let id = &containers[random.below(containers.len())].id;
            store.release_container(id, Durability::Durable).unwrap();
            store.remove_container_dir(id).unwrap();
        }
        8 => {
            let name = Some(["vol", "vox"][random.below(2)].to_owned());
            store.volume_create(&VolumeSpec { name, ..VolumeSpec::default() }).unwrap();
        }
        _ => {
            let removed = store.volume_remove(["vol", "vox"][random.below(2)]);
            assert!(removed.as_ref().err().is_none_or(expected), "{removed:?}");
        }
    }
}

#[test]
fn what_is_on_disk_is_what_is_referred_to() {
    let seed = crate::now().unsigned_abs();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let root = Root::new();
    let store = &root.store;
    for _ in 0..150 {
        step(store, &mut random);
        assert_eq!(on_disk(store), referenced(store));
    }
    let before = referenced(store);
    assert_eq!(store.gc().unwrap(), crate::Collected::default(), "there is nothing to collect");
    assert_eq!((referenced(store), on_disk(store)), (before.clone(), before));
    assert_sound(store);

    // What a process that was killed has left goes, and nothing else.
    let stray = Digest::of(b"stray");
    std::fs::write(store.blob_path(&stray), "stray").unwrap();
    std::fs::create_dir_all(store.layer_dir(&stray).join("fs")).unwrap();
    std::fs::create_dir(store.root().join("containers").join(Store::new_id().unwrap())).unwrap();
    std::fs::create_dir_all(store.root().join("tmp/0123456789abcdef/l0/fs")).unwrap();
    let lease = store.lease().unwrap();
    let held = lease.put_blob(b"being made").unwrap();
    let unreferenced = store.usage().unwrap().unreferenced;
    assert!(unreferenced > 0);
    let before = referenced(store);
    let gone = store.gc().unwrap();
    assert_eq!((gone.blobs, gone.layers, gone.leases, gone.directories), (vec![stray], vec![stray], 1, 1));
    assert!(store.has_blob(&held), "a living lease protects it");
    drop(lease);
    store.gc().unwrap();
    assert_eq!((referenced(store), on_disk(store), store.usage().unwrap().unreferenced), (before.clone(), before, 0));
}
