//! Pulls that meet: of the same layers at once, or after one that broke off.

use super::fake::{Fake, Reply, Seen};
use super::images::{Blob, Entry, TestImage, assemble, gzip, image, layer, noise, tar};
use super::{client, quick};
use crate::{Client, Options, PullOptions, pull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tare_model::image::media;
use tare_model::{Digest, Kind};
use tare_store::{Event, Image, Progress, Silent, Store, Turn};
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// What is at an address of a registry that has this image.
fn serve(image: &TestImage, seen: &Seen) -> Reply {
    if seen.target.contains("/manifests/") {
        return Reply::manifest(media::MANIFEST, &image.manifest.bytes);
    }
    let wanted = |blob: &&Blob| seen.target.ends_with(&blob.descriptor.digest.to_string());
    match image.layers.iter().chain([&image.config]).find(wanted) {
        Some(blob) => Reply::range(seen, &blob.bytes),
        None => Reply::new(404),
    }
}

fn asked_for(fake: &Fake, blob: &Blob) -> Vec<Option<usize>> {
    let name = blob.descriptor.digest.to_string();
    fake.seen().iter().filter(|s| s.target.ends_with(&name)).map(Seen::range_start).collect()
}

fn get(fake: &Fake, store: &Store, client: &Client) -> tare_model::Result<Image> {
    pull(client, store, &fake.reference("x:1"), &PullOptions::default(), &Silent)
}

fn left(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("tmp")).unwrap().count()
}

/// Remembers what was begun.
#[derive(Default)]
struct Verbs(Mutex<Vec<&'static str>>);

impl Progress for Verbs {
    fn event(&self, event: &Event<'_>) {
        if let Event::Started { verb, .. } = event {
            self.0.lock().unwrap().push(verb);
        }
    }
}

#[test]
fn a_layer_that_several_pulls_want_is_fetched_once() {
    let image = image("amd64", &[tar(&[Entry::File("a", &noise(1, 900_000))]), tar(&[Entry::File("b", b"b")])]);
    let (served, slow) = (image.clone(), image.layers[0].descriptor.digest.to_string());
    let fake = Fake::start(move |seen, _| {
        if seen.target.ends_with(&slow) {
            std::thread::sleep(Duration::from_millis(200));
        }
        serve(&served, seen)
    });
    let (dir, _store) = store();
    let client = Client::new(Options { idle_timeout: Duration::from_secs(60), ..quick() }).unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            // Each as another process would have it.
            s.spawn(|| get(&fake, &Store::open(dir.path()).unwrap(), &client).unwrap());
        }
    });
    for blob in &image.layers {
        assert_eq!(asked_for(&fake, blob), [None], "{:?}", blob.descriptor);
    }
    assert_eq!(left(&Store::open(dir.path()).unwrap()), 0);
}

#[test]
fn who_waits_says_so_goes_on_where_a_dead_one_stopped_and_does_not_wait_for_ever() {
    let image = image("amd64", &[tar(&[Entry::File("a", &noise(1, 900_000))])]);
    let served = image.clone();
    let fake = Fake::start(move |seen, _| serve(&served, seen));
    let blob = &image.layers[0];

    // One that is stuck: nothing comes any more, and its turn is never given up.
    let (_dir, stuck) = store();
    let lease = stuck.lease().unwrap();
    let Turn::Ours(turn) = lease.turn(&blob.descriptor.digest).unwrap() else { panic!("nobody else is here") };
    let verbs = Verbs::default();
    let name = fake.reference("x:1");
    pull(&client(), &stuck, &name, &PullOptions::default(), &verbs).unwrap();
    assert_eq!(*verbs.0.lock().unwrap(), ["waiting", "download"]);
    drop(turn);

    // One that dies: what it has is kept by the next.
    let (_dir, store) = store();
    let lease = store.lease().unwrap();
    let Turn::Ours(mut turn) = lease.turn(&blob.descriptor.digest).unwrap() else { panic!("nobody else is here") };
    let mut part = turn.blob(&lease, blob.descriptor.size).unwrap();
    std::io::Write::write_all(&mut part, &blob.bytes[..500_000]).unwrap();
    turn.keep();
    drop((part, turn));
    get(&fake, &store, &client()).unwrap();
    assert_eq!(asked_for(&fake, blob).last(), Some(&Some(500_000)));
    assert!(store.read_blob(&blob.descriptor.digest, 1 << 30).unwrap() == blob.bytes);
    drop(lease);
    assert_eq!(left(&store), 0);
}

#[test]
fn a_pull_that_failed_goes_on_where_it_stopped_and_what_was_spoilt_comes_anew() {
    let image = image("amd64", &[tar(&[Entry::File("a", &noise(1, 900_000))])]);
    let (served, broken) = (image.clone(), Arc::new(AtomicUsize::new(0)));
    let (blob, count) = (image.layers[0].clone(), broken.clone());
    let layer = blob.descriptor.digest.to_string();
    let fake = Fake::start(move |seen, _| match seen.target.ends_with(&layer) {
        true if count.load(Ordering::Relaxed) == 0 => match seen.range_start() {
            None => serve(&served, seen).cut(300_000),
            Some(_) => Reply::hang_up(),
        },
        _ => serve(&served, seen),
    });
    let (_dir, store) = store();
    assert_eq!(get(&fake, &store, &client()).unwrap_err().kind(), Kind::Unavailable);
    let part = store.root().join("tmp").join(format!("fetch-{}", blob.descriptor.digest.hex())).join("part");
    let length = std::fs::metadata(&part).unwrap().len();
    assert!((1..=300_000).contains(&length), "{length}");
    broken.store(1, Ordering::Relaxed);
    // As a power cut may leave it.
    let kept = std::fs::read(&part).unwrap();
    std::fs::write(&part, vec![0; kept.len()]).unwrap();
    get(&fake, &store, &client()).unwrap();
    let asked = asked_for(&fake, &blob);
    let length = usize::try_from(length).unwrap();
    assert_eq!(asked[asked.len() - 2..], [Some(length), None]);
    assert!(store.read_blob(&blob.descriptor.digest, 1 << 30).unwrap() == blob.bytes);
    assert_eq!(left(&store), 0);
}

#[test]
fn links_into_layers_that_come_later_are_settled_with_one_slot_as_well() {
    // The layer with the link is the largest, so it is begun first.
    let tars = [
        tar(&[Entry::File("base", b"base")]),
        tar(&[Entry::File("other", &noise(4, 50_000))]),
        tar(&[Entry::Hardlink("link", "base"), Entry::File("big", &noise(1, 900_000))]),
    ];
    let image = image("amd64", &tars);
    let served = image.clone();
    let fake = Fake::start(move |seen, _| serve(&served, seen));
    let (_dir, store) = store();
    let client = Client::new(Options { parallel: 1, ..quick() }).unwrap();
    let pulled = get(&fake, &store, &client).unwrap();
    let place = store.placed(&pulled.layers[2].diff_id).unwrap().path;
    assert_eq!(std::fs::read(place.join("link")).unwrap(), b"base");
}

#[test]
fn layers_of_several_members_and_frames_are_ordinary_layers() {
    let content = tar(&[Entry::File("a", &noise(1, 300_000)), Entry::File("b", b"b")]);
    // eStargz: a member for each piece, and an empty one as footer. zstd:chunked: frames, and skippable ones between them.
    let members: Vec<u8> = content.chunks(40_000).map(gzip).chain([gzip(b"")]).flatten().collect();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"note"].concat();
    let frames = content.chunks(40_000).map(|c| zstd::encode_all(c, 1).unwrap());
    let frames: Vec<u8> = frames.flat_map(|f| [f, skippable.clone()].concat()).collect();
    for (media_type, bytes) in [(media::LAYER_GZIP, members), (media::LAYER_ZSTD, frames)] {
        let image = assemble("amd64", vec![Digest::of(&content)], vec![Blob::new(media_type, bytes)]);
        let served = image.clone();
        let fake = Fake::start(move |seen, _| serve(&served, seen));
        let (_dir, store) = store();
        let pulled = get(&fake, &store, &client()).unwrap();
        let place = store.placed(&pulled.layers[0].diff_id).unwrap().path;
        assert!(std::fs::read(place.join("a")).unwrap() == noise(1, 300_000));
    }
}

#[test]
fn what_cannot_be_read_as_a_layer_is_named_before_anything_is_fetched() {
    let content = tar(&[Entry::File("a", b"a")]);
    for (media_type, why) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encrypted"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "non-distributable"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "non-distributable"),
    ] {
        let mut blob = layer(media::LAYER_GZIP, &content);
        blob.descriptor.media_type = media_type.into();
        let digest = blob.descriptor.digest;
        let image = assemble("amd64", vec![Digest::of(&content)], vec![blob]);
        let served = image.clone();
        let fake = Fake::start(move |seen, _| serve(&served, seen));
        let (_dir, store) = store();
        let e = get(&fake, &store, &client()).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported);
        let text = e.to_string();
        assert!(text.contains(why) && text.contains(media_type) && text.contains(&digest.short()), "{text}");
        assert!(fake.seen().iter().all(|s| s.target.contains("/manifests/")));
    }
}
