//! Registries that lie about images: each time one clear error, and nothing kept.

use super::client;
use super::fake::{Fake, Reply, Seen};
use super::images::{Blob, Entry, TestImage, assemble, image, layer, noise, tar};
use crate::{PullOptions, pull, push};
use tare_model::image::{Descriptor, Index, Platform, media};
use tare_model::{Digest, Error, Kind};
use tare_store::{Silent, Store};
use tempfile::TempDir;

/// Serves an image as `app:1`; `change` may answer instead.
fn serve(image: &TestImage, change: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let image = image.clone();
    Fake::start(move |seen, n| change(seen, n).unwrap_or_else(|| reply(&image, seen)))
}

fn reply(image: &TestImage, seen: &Seen) -> Reply {
    let by = |b: &&Blob| seen.target.ends_with(&b.descriptor.digest.to_string());
    if seen.target.ends_with("manifests/1") || by(&&image.manifest) {
        return Reply::manifest(media::MANIFEST, &image.manifest.bytes);
    }
    match image.layers.iter().chain([&image.config]).find(by) {
        Some(blob) => Reply::range(seen, &blob.bytes),
        None => Reply::new(404),
    }
}

/// The error of a pull, once it is sure that the store has nothing of the image.
fn refused(fake: &Fake, image: &TestImage) -> Error {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let e = pull(&client(), &store, &fake.reference("app:1"), &PullOptions::default(), &Silent).unwrap_err();
    assert!(store.images().unwrap().is_empty());
    // What was whole may stay until the next collection; what was not must not be there at all.
    for blob in &image.layers {
        if store.has_blob(&blob.descriptor.digest) {
            assert!(store.read_blob(&blob.descriptor.digest, 1 << 30).unwrap() == blob.bytes);
        }
    }
    e
}

fn sample() -> TestImage {
    image("amd64", &[tar(&[Entry::File("a", &noise(7, 900_000))]), tar(&[Entry::File("b", b"b")])])
}

#[test]
fn wrong_content_under_a_digest_is_refused() {
    let image = sample();
    let blob = &image.layers[0];
    let target = blob.descriptor.digest.to_string();
    let mut flipped = blob.bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    // Another layer of the same length, which unpacks well.
    let mut other = blob.bytes.clone();
    other[4] ^= 1; // the time in gzip's header
    for bytes in [flipped, other] {
        let target = target.clone();
        let fake = serve(&image, move |seen, _| seen.target.ends_with(&target).then(|| Reply::ok(bytes.clone())));
        let e = refused(&fake, &image);
        assert_eq!(e.kind(), Kind::Corrupt, "{e}");
        assert!(e.to_string().contains(&blob.descriptor.digest.hex()[..12]), "{e}");
    }
    let config = image.config.clone();
    let fake = serve(&image, move |seen, _| {
        let wrong = Reply::ok(vec![b' '; config.bytes.len()]);
        seen.target.ends_with(&config.descriptor.digest.to_string()).then_some(wrong)
    });
    assert_eq!(refused(&fake, &image).kind(), Kind::Corrupt);
}

#[test]
fn a_layer_that_is_not_what_the_config_promises_is_refused() {
    let (good, bad) = (tar(&[Entry::File("a", b"a")]), tar(&[Entry::File("a", b"evil")]));
    let image = assemble("amd64", vec![Digest::of(&good)], vec![layer(media::LAYER_GZIP, &bad)]);
    let e = refused(&serve(&image, |_, _| None), &image);
    assert_eq!(e.kind(), Kind::Corrupt);
    assert!(e.to_string().contains(&Digest::of(&bad).hex()), "{e}");

    let image = assemble("amd64", vec![], vec![layer(media::LAYER_GZIP, &bad)]);
    let e = refused(&serve(&image, |_, _| None), &image);
    assert!(e.to_string().contains("lists 0 layers, the manifest 1"), "{e}");

    let nonsense = Blob::new(media::LAYER_GZIP, b"this is not gzip".to_vec());
    let image = assemble("amd64", vec![Digest::of(b"x")], vec![nonsense]);
    assert_eq!(refused(&serve(&image, |_, _| None), &image).kind(), Kind::Corrupt);
}

#[test]
fn what_is_no_image_is_refused_before_it_is_fetched() {
    for (blob, part) in [
        (Blob::new("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", vec![0]), "encrypted"),
        (Blob::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", vec![0]), "non-distributable"),
        (Blob::new("text/plain", vec![0]), "unknown media type"),
    ] {
        let image = assemble("amd64", vec![Digest::of(b"x")], vec![blob]);
        let fake = serve(&image, |_, _| None);
        let e = refused(&fake, &image);
        assert!(e.kind() == Kind::Unsupported && e.to_string().contains(part), "{e}");
        assert_eq!(fake.seen().len(), 1);
    }
    let mut image = sample();
    let text = String::from_utf8(image.manifest.bytes).unwrap();
    let chart = text.replace(media::CONFIG, "application/vnd.cncf.helm.config.v1+json");
    image.manifest = Blob::new(media::MANIFEST, chart.into_bytes());
    let e = refused(&serve(&image, |_, _| None), &image);
    assert!(e.kind() == Kind::Unsupported && e.to_string().contains("helm"), "{e}");
}

#[test]
fn an_index_must_describe_what_it_lists() {
    let image = sample();
    let host = Some(Platform::host());
    let honest = Descriptor { platform: host, ..image.manifest.descriptor.clone() };
    for (entry, kind) in [
        (Descriptor { size: honest.size + 1, ..honest.clone() }, Kind::Corrupt),
        (Descriptor { media_type: media::DOCKER_MANIFEST.into(), ..honest.clone() }, Kind::Invalid),
        (Descriptor { media_type: media::INDEX.into(), ..honest.clone() }, Kind::Invalid),
        (Descriptor { digest: Digest::of(b"gone"), ..honest.clone() }, Kind::NotFound),
    ] {
        let index =
            Index { schema_version: 2, media_type: None, manifests: vec![entry], annotations: Default::default() };
        let index = serde_json::to_vec(&index).unwrap();
        let fake = serve(&image, move |seen, _| {
            seen.target.ends_with("manifests/1").then(|| Reply::manifest(media::INDEX, &index))
        });
        let e = refused(&fake, &image);
        assert_eq!(e.kind(), kind, "{e}");
    }
}

#[test]
fn a_pull_survives_broken_connections_and_fails_as_a_whole() {
    let image = sample();
    let target = image.layers[0].descriptor.digest.to_string();
    let first = target.clone();
    let fake = serve(&image, {
        let image = image.clone();
        move |seen, n| (seen.target.ends_with(&first) && n < 6).then(|| reply(&image, seen).cut(200_000))
    });
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pulled = pull(&client(), &store, &fake.reference("app:1"), &PullOptions::default(), &Silent).unwrap();
    assert!(
        std::fs::read(store.placed(&pulled.layers[0].diff_id).unwrap().path.join("a")).unwrap() == noise(7, 900_000)
    );

    let fake = serve(&image, move |seen, _| seen.target.ends_with(&target).then(|| Reply::new(404)));
    let e = refused(&fake, &image);
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.to_string().contains(&format!("fetch {} from", image.layers[0].descriptor.digest.short())), "{e}");
}

#[test]
fn an_upload_is_begun_again_when_the_connection_is_lost() {
    let image = sample();
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let source = serve(&image, |_, _| None);
    let pulled = pull(&client(), &store, &source.reference("app:1"), &PullOptions::default(), &Silent).unwrap();
    let fake = Fake::start(|seen, n| match seen.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "up/1?state=a%2Fb"),
        // Those that come early are lost.
        "PUT" if n < 8 && seen.target.contains("/up/") => Reply::hang_up(),
        _ => Reply::new(201),
    });
    let sent = push(&client(), &store, &pulled, &fake.reference("app:2"), &Silent).unwrap();
    assert_eq!(sent.digest, image.manifest.descriptor.digest);
    let puts: Vec<Seen> = fake.seen().into_iter().filter(|s| s.is("PUT", "/v2/app/blobs/uploads/up/1")).collect();
    for blob in image.layers.iter().chain([&image.config]) {
        let digest = blob.descriptor.digest.to_string().replace(':', "%3A");
        let whole = |s: &&Seen| s.target.ends_with(&format!("?state=a%2Fb&digest={digest}")) && s.body == blob.bytes;
        assert!(puts.iter().any(|s| whole(&s)), "{digest}");
    }
    let manifest = fake.seen().pop().unwrap();
    assert!(manifest.is("PUT", "/v2/app/manifests/2") && manifest.body == image.manifest.bytes);
    assert_eq!(manifest.header("content-type"), Some(media::MANIFEST));
}
