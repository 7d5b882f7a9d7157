//! Documents, digests and names that nobody meant.

use crate::image::{ImageConfig, ManifestOrIndex, media};
use crate::mutate::{LONG, Random, SHORT, change, rounds, spoil};
use crate::{Digest, Reference};
use serde_json::{Value, json};
use std::time::Duration;

fn documents() -> [Value; 3] {
    let descriptor =
        |media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(b"x").to_string(), "size": 7});
    let mut entry = descriptor(media::MANIFEST);
    entry["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "x:1"});
    [
        json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": descriptor(media::CONFIG),
            "layers": [descriptor(media::LAYER_GZIP), descriptor(media::LAYER_ZSTD)], "annotations": {"a": "b"}}),
        json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry, descriptor(media::MANIFEST)]}),
        json!({"created": "2026-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": {"User": "1:2", "Env": ["A=b"], "Cmd": ["x"], "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}},
                "Labels": {"a": "b"}, "Healthcheck": {"Test": ["NONE"]}, "StopSignal": "SIGTERM"},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"y").to_string()]},
            "history": [{"created_by": "x", "empty_layer": true}]}),
    ]
}

fn check(text: &[u8]) {
    if let Ok(document) = ManifestOrIndex::parse(text) {
        let again = match &document {
            ManifestOrIndex::Manifest(manifest) => serde_json::to_vec(manifest),
            ManifestOrIndex::Index(index) => serde_json::to_vec(index),
        };
        let again = again.expect("a document can be written");
        assert_eq!(ManifestOrIndex::parse(&again).as_ref(), Ok(&document), "{}", String::from_utf8_lossy(text));
        let own = document.media_type(None).expect("it has just been parsed");
        assert!(
            (own.contains("manifest") || own.contains("index")) && document.media_type(Some("text/plain")).is_err()
        );
        if let ManifestOrIndex::Index(index) = &document {
            let _ = index.choose(&crate::image::Platform::host());
        }
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(text) {
        let again = serde_json::to_vec(&config).expect("a config can be written");
        assert_eq!(serde_json::from_slice::<ImageConfig>(&again).expect("it was one"), config);
    }
}

fn fuzz_documents(seed: u64, time: Duration) {
    let documents = documents();
    assert!(documents[..2].iter().all(|d| ManifestOrIndex::parse(d.to_string().as_bytes()).is_ok()));
    assert!(serde_json::from_value::<ImageConfig>(documents[2].clone()).is_ok());
    let count = rounds(seed, time, |random| {
        let mut document = random.pick(&documents).clone();
        (0..=random.below(3)).for_each(|_| change(random, &mut document));
        let mut text = document.to_string().into_bytes();
        check(&text);
        spoil(random, &mut text);
        check(&text);
    });
    assert!(count > 1000, "{count} rounds");
}

const NAMES: [&str; 9] = [
    "debian",
    "docker.io/library/debian:12",
    "127.0.0.1:5000/a/b_c--d/e.f:Tag_1.x",
    "[::1]:5000/x",
    "localhost/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "index.docker.io/a:1",
    "x:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

fn fuzz_names(seed: u64, time: Duration) {
    let count = rounds(seed, time, |random: &mut Random| {
        let mut bytes = random.pick(&NAMES).as_bytes().to_vec();
        if random.below(3) == 0 {
            bytes.extend_from_slice(random.pick(&NAMES).as_bytes());
        }
        spoil(random, &mut bytes);
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len() + 1);
            bytes.insert(at, *random.pick(b"/:@.-_[]%\n\0A~"));
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(reference) = text.parse::<Reference>() {
            let whole = reference.to_string();
            assert_eq!(whole.parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
            // Both end up in addresses and in file names.
            let safe = |c: char| c.is_ascii_alphanumeric() || "/:@.-_[]".contains(c);
            assert!(
                whole.chars().all(safe) && whole.split('/').all(|part| !matches!(part, "" | "." | "..")),
                "{text:?}"
            );
            assert_eq!(reference.familiar().parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
        }
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
        }
        if let Ok(digest) = Digest::from_hex(&text) {
            assert_eq!(digest.hex(), text);
        }
    });
    assert!(count > 1000, "{count} rounds");
}

#[test]
fn hostile_documents_make_no_panic() {
    fuzz_documents(1, SHORT);
}

#[test]
fn hostile_names_make_no_panic() {
    fuzz_names(1, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_hostile_documents_make_no_panic() {
    fuzz_documents(2, LONG);
}

#[test]
#[ignore = "two minutes"]
fn long_hostile_names_make_no_panic() {
    fuzz_names(2, LONG);
}
