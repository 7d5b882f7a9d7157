use super::{Root, assert_sound, container, image, layer};
use crate::{Durability, NewContainer, NewImage, Store};
use std::io::Write as _;
use tare_model::image::{Descriptor, ImageConfig, media};
use tare_model::{Digest, Kind, Reference};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn blobs_are_verified_when_written_and_when_read() {
    let root = Root::new();
    let lease = root.store.lease().unwrap();
    let content = b"some content";
    let right = Descriptor::new("x", Digest::of(content), content.len() as u64);
    for wrong in [
        Descriptor { size: 11, ..right.clone() },
        Descriptor { size: 13, ..right.clone() },
        Descriptor { digest: Digest::of(b"other"), ..right.clone() },
    ] {
        let mut blob = lease.blob().unwrap();
        blob.write_all(content).unwrap();
        assert_eq!(blob.commit(Some(&wrong)).unwrap_err().kind(), Kind::Corrupt);
        assert!(!root.store.has_blob(&wrong.digest));
    }
    let mut blob = lease.blob().unwrap();
    blob.write_all(content).unwrap();
    assert_eq!(blob.len(), 12);
    blob.commit(Some(&right)).unwrap();
    assert_eq!(root.store.read_blob(&right.digest, 12).unwrap(), content);
    assert_eq!(root.store.read_blob(&right.digest, 11).unwrap_err().kind(), Kind::Exhausted);
    for at in 0..content.len() {
        let mut damaged = content.to_vec();
        damaged[at] ^= 1;
        std::fs::write(root.store.blob_path(&right.digest), damaged).unwrap();
        assert_eq!(root.store.read_blob(&right.digest, 12).unwrap_err().kind(), Kind::Corrupt);
    }
    assert_eq!(lease.put_blob(content).unwrap(), right.digest, "a damaged blob is written anew");
    assert_eq!(root.store.read_blob(&right.digest, 12).unwrap(), content);
    assert_eq!(root.store.read_blob(&Digest::of(b""), 1).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn images_are_found_by_name_digest_id_and_prefix() {
    let root = Root::new();
    let d = Digest::of(b"index at the registry");
    let one = image(&root.store, &["a", "b"], &["debian:12", &format!("127.0.0.1:5000/deb:x@{d}")]);
    let two = image(&root.store, &["a", "c"], &["app"]);
    assert_eq!(one.names, [reference("127.0.0.1:5000/deb:x"), reference("debian:12")]);
    assert_eq!(one.digests, [reference(&format!("127.0.0.1:5000/deb@{d}"))]);
    assert_eq!((one.size, root.store.layer_sizes(&one).unwrap()), (2, vec![1, 1]));
    let find = |query: &str| root.store.image(query).map(|i| i.id).map_err(|e| e.kind());
    for query in [
        "debian:12".to_owned(),
        "docker.io/library/debian:12".into(),
        one.id.to_string(),
        one.id.hex(),
        one.id.short(),
        format!("sha256:{}", one.id.short()),
        format!("127.0.0.1:5000/deb@{d}"),
        format!("127.0.0.1:5000/deb:other@{d}"),
    ] {
        assert_eq!(find(&query), Ok(one.id), "{query}");
    }
    assert_eq!(find("app"), Ok(two.id));
    for (query, kind) in [
        ("debian", Kind::NotFound),
        (&format!("debian@{d}"), Kind::NotFound),
        (&Digest::of(b"").hex(), Kind::NotFound),
        ("sha256:", Kind::NotFound),
        ("a b", Kind::Invalid),
        ("", Kind::Invalid),
    ] {
        let found = find(query);
        assert!(found == Err(kind) || (query == "sha256:" && found.is_err()), "{query}: {found:?}");
    }
    let e = root.store.image("nginx").unwrap_err();
    assert_eq!(e.first_hint(), Some("tare pull nginx"));
    let ids: Vec<_> = root.store.images().unwrap().into_iter().map(|i| i.id).collect();
    assert!(ids.len() == 2 && ids.contains(&one.id) && ids.contains(&two.id));
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let root = Root::new();
    let mut first = std::collections::HashMap::new();
    for i in 0.. {
        let id = image(&root.store, &[&i.to_string()], &[]).id.hex();
        if first.insert(id[..1].to_owned(), ()).is_some() {
            assert_eq!(root.store.image(&id[..1]).unwrap_err().kind(), Kind::Invalid);
            return;
        }
    }
}

#[test]
fn lowers_are_top_first_and_each_only_once() {
    let root = Root::new();
    let i = image(&root.store, &["a", "b", "a", "c"], &[]);
    let of = |c: &str| root.store.layer_dir(&Digest::of(c.as_bytes())).join("fs");
    let lowers: Vec<_> = root.store.lowers(&i).unwrap().into_iter().map(|l| l.path).collect();
    assert_eq!(lowers, [of("c"), of("a"), of("b")]);
    assert_eq!(std::fs::read_to_string(of("c").join("file")).unwrap(), "c");
}

#[test]
fn documents_that_contradict_each_other_are_refused() {
    let root = Root::new();
    let lease = root.store.lease().unwrap();
    let (a, b) = (layer(&lease, "a"), layer(&lease, "b"));
    let config = |layers: &[&crate::ImageLayer]| {
        let mut c = ImageConfig::default();
        c.rootfs.diff_ids = layers.iter().map(|l| l.diff_id).collect();
        serde_json::to_vec(&c).unwrap()
    };
    let manifest = |config: &[u8], layers: &[crate::ImageLayer]| {
        serde_json::to_vec(&crate::image::manifest_of(config, layers)).unwrap()
    };
    let both = [a.clone(), b.clone()];
    let swapped = [b.clone(), a.clone()];
    let right = config(&[&a, &b]);
    let put = |manifest: &[u8], config: &[u8], layers: &[crate::ImageLayer]| {
        let new = NewImage { manifest, media_type: media::MANIFEST, config, layers, names: &[] };
        root.store.put_image(&lease, &new).map_err(|e| e.kind())
    };
    assert_eq!(put(&manifest(&right, &both), &config(&[&b, &a]), &both), Err(Kind::Corrupt));
    assert_eq!(put(&manifest(&right, &swapped), &right, &both), Err(Kind::Corrupt));
    assert_eq!(put(&manifest(&right, &both[..1]), &right, &both), Err(Kind::Corrupt));
    assert_eq!(put(&manifest(&right, &both), &right, &both[..1]), Err(Kind::Corrupt));
    let mut absent = both.clone();
    absent[1].diff_id = Digest::of(b"absent");
    let config_absent = config(&[&absent[0], &absent[1]]);
    assert_eq!(put(&manifest(&config_absent, &absent), &config_absent, &absent), Err(Kind::NotFound));
    assert!(put(&manifest(&right, &both), &right, &both).is_ok());
}

#[test]
fn rmi_takes_names_first_and_shared_layers_last() {
    let root = Root::new();
    let store = &root.store;
    let d = Digest::of(b"at the registry");
    let one = image(store, &["base", "one"], &[&format!("r.test/one:1@{d}"), "r.test/one:2"]);
    let two = image(store, &["base", "two"], &["two"]);
    let removed = store.remove_image("r.test/one:1", false).unwrap();
    assert_eq!((removed.untagged, removed.deleted), (vec![reference("r.test/one:1")], vec![]));
    assert_eq!(store.image(&one.id.hex()).unwrap().digests.len(), 1);
    store.tag("r.test/one:2", &reference("again")).unwrap();
    let e = store.remove_image(&one.id.short(), false).unwrap_err();
    assert_eq!(e.kind(), Kind::InUse);
    assert!(e.to_string().contains("again:latest, r.test/one:2"), "{e}");
    store.untag(&reference("again")).unwrap();
    let removed = store.remove_image("r.test/one:2", false).unwrap();
    assert_eq!(removed.untagged, [reference("r.test/one:2"), reference(&format!("r.test/one@{d}"))]);
    assert_eq!(removed.deleted, [one.id, one.layers[1].diff_id]);
    assert!(!store.layer_dir(&one.layers[1].diff_id).exists() && !store.has_blob(&one.layers[1].blob.digest));
    assert!(!store.has_blob(&one.id) && !store.has_blob(&one.manifest.digest));
    assert!(store.has_layer(&one.layers[0].diff_id).unwrap() && store.has_blob(&one.layers[0].blob.digest));
    assert_eq!(store.check(true).unwrap(), []);
    store.remove_image(&two.id.short(), false).unwrap();
    for dir in ["layers", "blobs/sha256", "tmp"] {
        assert_eq!(crate::lease::names(&store.root().join(dir)).unwrap(), Vec::<String>::new(), "{dir}");
    }
}

#[test]
fn a_container_keeps_its_layers_when_the_image_is_forced_away() {
    let root = Root::new();
    let store = &root.store;
    let i = image(store, &["a", "b"], &["app", "other/app"]);
    let (id, layers) = (Store::new_id().unwrap(), i.diff_ids());
    let new = NewContainer { image: Some(i.id), layers: &layers, ..container(&id, Some("web")) };
    store.reserve_container(&new).unwrap();
    assert_eq!(store.image_users(&i.id).unwrap()[0].name, "web");
    assert_eq!(store.remove_image("app", false).unwrap().untagged, [reference("app")]);
    let e = store.remove_image("other/app", false).unwrap_err();
    assert_eq!((e.kind(), e.first_hint()), (Kind::InUse, Some("`tare rm web` first, or add --force")));
    assert_eq!(store.remove_image("other/app", true).unwrap().deleted, [i.id]);
    store.gc().unwrap();
    assert!(layers.iter().all(|l| store.has_layer(l).unwrap()));
    assert_eq!(store.check(true).unwrap(), []);
    store.release_container(&id, Durability::Lazy).unwrap();
    assert!(layers.iter().all(|l| !store.layer_dir(l).exists()));
    store.remove_container_dir(&id).unwrap();
    assert_eq!(store.check(true).unwrap(), []);
}

#[test]
fn a_name_moves_and_a_registry_s_manifest_wins() {
    let root = Root::new();
    let store = &root.store;
    let old = image(store, &["old"], &["app"]);
    let new = image(store, &["new"], &["app"]);
    assert_eq!((store.image("app").unwrap().id, store.image(&old.id.hex()).unwrap().names), (new.id, vec![]));
    let lease = store.lease().unwrap();
    let mut blob = lease.blob().unwrap();
    blob.write_all(b"the same layer, compressed in another way").unwrap();
    let (digest, size) = blob.commit(None).unwrap();
    let layers =
        [crate::ImageLayer { diff_id: new.layers[0].diff_id, blob: Descriptor::new(media::LAYER_ZSTD, digest, size) }];
    let manifest = serde_json::to_vec(&crate::image::manifest_of(&new.config_raw, &layers)).unwrap();
    let put = |name: Reference| {
        let new = NewImage {
            manifest: &manifest,
            media_type: media::MANIFEST,
            config: &new.config_raw,
            layers: &layers,
            names: &[name],
        };
        store.put_image(&lease, &new).unwrap()
    };
    assert_eq!(put(reference("loaded")).manifest, new.manifest);
    let pulled = put(reference(&format!("r.test/x:1@{}", Digest::of(&manifest))));
    assert_eq!((pulled.manifest.digest, pulled.layers.as_slice()), (Digest::of(&manifest), layers.as_slice()));
    assert_eq!(pulled.names.len(), 3);
    drop(lease);
    assert_sound(store);
}

#[test]
fn commit_adds_a_layer_and_keeps_what_is_below() {
    let root = Root::new();
    let base = image(&root.store, &["a"], &["base"]);
    let lease = root.store.lease().unwrap();
    let new = layer(&lease, "changed");
    let config = ImageConfig { author: Some("me".into()), ..base.config.clone() };
    let made =
        root.store.image_from_layer(&lease, Some(&base), Some(new.clone()), config, &[reference("made")]).unwrap();
    assert_eq!(made.layers, [base.layers[0].clone(), new]);
    assert_eq!(made.config.author.as_deref(), Some("me"));
    let manifest = root.store.read_blob(&made.manifest.digest, 1 << 20).unwrap();
    assert_eq!(manifest.len() as u64, made.manifest.size);
    drop(lease);
    root.store.remove_image("base", false).unwrap();
    assert_eq!(root.store.check(true).unwrap(), []);
}

#[test]
fn check_finds_what_is_missing_or_damaged() {
    let root = Root::new();
    let i = image(&root.store, &["a", "b"], &["app"]);
    std::fs::write(root.store.blob_path(&i.layers[0].blob.digest), "damaged").unwrap();
    std::fs::remove_dir_all(root.store.layer_dir(&i.layers[1].diff_id)).unwrap();
    std::fs::remove_file(root.store.blob_path(&i.manifest.digest)).unwrap();
    let found: Vec<_> = root.store.check(true).unwrap().into_iter().map(|f| f.object).collect();
    for object in [
        format!("blob {}", i.layers[0].blob.digest),
        format!("layer {}", i.layers[1].diff_id),
        format!("blob {}", i.manifest.digest),
    ] {
        assert!(found.contains(&object), "{object} in {found:?}");
    }
    assert!(!root.store.has_layer(&i.layers[1].diff_id).unwrap());
}

#[test]
fn layers_that_were_not_synced_mean_nothing_after_a_reboot() {
    let root = Root::new();
    let lease = root.store.lease().unwrap();
    let l = layer(&lease, "a");
    assert!(root.store.has_layer(&l.diff_id).unwrap());
    root.store
        .write(Durability::Lazy, |tx| Ok(tx.execute("UPDATE layers SET boot = 'an earlier one'", []).unwrap()))
        .unwrap();
    assert!(!root.store.has_layer(&l.diff_id).unwrap());
    std::fs::write(root.store.layer_dir(&l.diff_id).join("fs").join("file"), "").unwrap();
    layer(&lease, "a");
    assert!(root.store.has_layer(&l.diff_id).unwrap());
    assert_eq!(std::fs::read_to_string(root.store.layer_dir(&l.diff_id).join("fs").join("file")).unwrap(), "a");
}

#[test]
fn usage_counts_shared_layers_once() {
    let root = Root::new();
    let one = image(&root.store, &["base", "one"], &["one"]);
    image(&root.store, &["base", "two"], &["two"]);
    let id = Store::new_id().unwrap();
    let layers = one.diff_ids();
    root.store
        .reserve_container(&NewContainer { image: Some(one.id), layers: &layers, ..container(&id, None) })
        .unwrap();
    let usage = root.store.usage().unwrap();
    // Of each image two layers, of which one is shared.
    let on_disk = |path: &std::path::Path| crate::disk::Disk::default().bytes(path);
    let layer = on_disk(&root.store.layer_dir(&one.layers[0].diff_id));
    assert!(layer > 0);
    assert_eq!((usage.layers.count, usage.layers.active), (2, 1));
    assert_eq!((usage.layers.bytes, usage.layers.reclaimable), (3 * layer, layer));
    assert_eq!((usage.blobs.count, usage.blobs.active), (7, 4));
    let blob = on_disk(&root.store.blob_path(&one.id));
    assert_eq!((usage.blobs.bytes, usage.blobs.reclaimable), (7 * blob, 3 * blob));
    for image in &usage.images {
        assert_eq!((image.bytes, image.shared, image.blobs), (2 * layer + 4 * blob, layer + blob, 4 * blob));
        assert_eq!(image.containers, usize::from(image.id == one.id));
    }
    assert_eq!((usage.images.len(), usage.containers.len(), usage.unreferenced), (2, 1, 0));
    assert_eq!(usage.total(), on_disk(root.store.root()));
}

#[test]
fn an_image_with_a_damaged_config_can_be_removed() {
    let root = Root::new();
    let i = image(&root.store, &["a"], &["app"]);
    std::fs::write(root.store.blob_path(&i.id), "{}").unwrap();
    let e = root.store.image("app").unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt);
    assert_eq!(e.first_hint(), Some("remove the image with `tare rmi --force` and pull it again"));
    root.store.remove_image("app", true).unwrap();
    assert_sound(&root.store);
}

#[test]
fn an_image_that_lost_a_layer_is_whole_after_it_is_made_again() {
    let root = Root::new();
    let i = image(&root.store, &["a", "b"], &["app"]);
    std::fs::remove_dir_all(root.store.layer_dir(&i.layers[1].diff_id)).unwrap();
    std::fs::write(root.store.blob_path(&i.layers[0].blob.digest), "damaged").unwrap();
    assert_eq!(image(&root.store, &["a", "b"], &["app"]), i);
    assert_eq!(root.store.check(true).unwrap(), []);
}
