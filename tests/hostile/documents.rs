//! Digests that are none, manifests that lie, indexes that go round, and JSON that costs.

use crate::ground::both;
use crate::image::{INDEX, Image, Layer, MANIFEST, descriptor, digest};
use crate::tar::Tar;
use serde_json::{Value, json};

fn layer() -> Layer {
    Layer::plain(Tar::new().file("f", "x").end())
}

fn image() -> Image {
    Image::of(&[layer()])
}

const NO_DIGESTS: [&str; 9] = [
    "sha256:../x",
    "../../../../etc/passwd",
    "sha256:abc",
    "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    "sha256:e3b0c44298fc1c149afbf4c8996fb924/7ae41e4649b934ca495991b7852b85",
    "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    "",
];

const NO_DIGEST: &str = "digest|algorithm";

#[test]
fn digests_that_are_none_are_refused_in_manifests() {
    both(|g| {
        for bad in NO_DIGESTS {
            g.refuses_image(bad, &image().change(|m| m["layers"][0]["digest"] = bad.into()), NO_DIGEST);
            g.refuses_image(bad, &image().change(|m| m["config"]["digest"] = bad.into()), NO_DIGEST);
        }
    });
}

#[test]
fn digests_that_are_none_are_refused_in_configs_and_indexes() {
    both(|g| {
        for bad in NO_DIGESTS {
            g.refuses_image(bad, &Image::of(&[Layer { diff_id: bad.into(), ..layer() }]), NO_DIGEST);
            let mut index = json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, b"x")]});
            index["manifests"][0]["digest"] = bad.into();
            g.refuses(bad, &["load", "--quiet"], Some(&image().archive_with(index.to_string().as_bytes())), NO_DIGEST);
        }
    });
}

#[test]
fn digests_that_are_none_are_refused_in_names() {
    both(|g| {
        for name in
            ["x@sha256:../x", "x@sha256:abc", "x@md5:00", "../x", "x/../y", "x:../y", "x\n", "x@", "UPPER/\u{1b}[31m"]
        {
            g.refuses(name, &["pull", name], None, "parse");
        }
    });
}

#[test]
fn a_document_is_a_manifest_or_an_index() {
    both(|g| {
        let both_at_once = image().change(|m| m["manifests"] = json!([descriptor(MANIFEST, b"x")]));
        g.refuses_image("CVE-2021-41190", &both_at_once, "both a manifest and an index");
        let says_index = image().change(|m| m["mediaType"] = INDEX.into());
        g.refuses_image("says index", &says_index, "says index and holds layers");
        let other = image().change(|m| m["mediaType"] = "text/plain".into());
        g.refuses_image("says text", &other, "media type|Content-Type");
        let neither = image().manifest(br#"{"schemaVersion": 2}"#);
        g.refuses_image("neither", &neither, "neither a manifest nor an index");
        let old = image().change(|m| m["schemaVersion"] = 1.into());
        g.refuses_image("schema 1", &old, "schema 1 is obsolete");
        for version in [json!(3), json!(-1), json!(2.5), json!("2"), Value::Null] {
            let image = image().change(|m| m["schemaVersion"] = version.clone());
            g.refuses_image(&format!("version {version}"), &image, "schemaVersion|schema version|invalid|expected");
        }
        // The same key twice means one thing to this reader and another to the next; letters of another size do as well.
        let text = String::from_utf8(image().top).unwrap();
        for more in [r#""layers":[]"#, r#""Layers":[]"#, r#""MANIFESTS":[]"#, r#""config":{}"#, r#""mediaType":"x""#] {
            let twice = image().manifest(format!("{},{more}}}", text.strip_suffix('}').unwrap()).as_bytes());
            g.refuses_image(more, &twice, "duplicate|twice|upper");
        }
    });
}

#[test]
fn sizes_that_lie_are_refused() {
    both(|g| {
        for (what, by) in [("larger", 1i64), ("smaller", -1)] {
            for part in ["layer", "config"] {
                let lie = image().change(|m| {
                    let place = if part == "layer" { &mut m["layers"][0] } else { &mut m["config"] };
                    place["size"] = (place["size"].as_i64().unwrap() + by).into();
                });
                g.refuses_image(&format!("{part} {what}"), &lie, "bytes");
            }
            let mut manifest = descriptor(MANIFEST, &image().top);
            manifest["size"] = (manifest["size"].as_i64().unwrap() + by).into();
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}).to_string();
            g.refuses(what, &["load", "--quiet"], Some(&image().archive_with(index.as_bytes())), "bytes");
        }
        for size in [json!(-1), json!(1.5), json!("1"), json!(u64::MAX), json!(1e300), Value::Null] {
            let lie = image().change(|m| m["layers"][0]["size"] = size.clone());
            g.refuses_image(&size.to_string(), &lie, "size|bytes|invalid|expected");
            let lie = image().change(|m| m["config"]["size"] = size.clone());
            g.refuses_image(&size.to_string(), &lie, "size|bytes|invalid|expected");
        }
        let lie = image().change(|m| m["layers"][0]["size"] = (2u64 << 40).into());
        g.refuses_image("two terabytes", &lie, "image-bytes");
    });
}

#[test]
fn content_that_is_not_what_was_promised_is_refused() {
    both(|g| {
        let other = Tar::new().file("f", "y").end();
        let mut swapped = image();
        swapped.blobs.insert(digest(&layer().blob), other);
        g.refuses_image("another layer", &swapped, "digest");
        let mut swapped = image();
        let config =
            serde_json::from_slice::<Value>(&image().top).unwrap()["config"]["digest"].as_str().unwrap().to_owned();
        let mut text = swapped.blobs[&config].clone();
        let middle = text.len() / 2;
        text[middle] ^= 1;
        swapped.blobs.insert(config, text);
        g.refuses_image("another config", &swapped, "digest|received");
        g.refuses_image("wrong diff ID", &Image::of(&[Layer { diff_id: digest(b"other"), ..layer() }]), "diff ID");
        for count in [0, 2, 5] {
            let diff_ids = vec![layer().diff_id; count];
            let config =
                json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
            let image = Image::of_parts(&[layer()], config.to_string().as_bytes());
            g.refuses_image(&format!("{count} diff IDs"), &image, "different numbers of layers|layers, the manifest");
        }
        let mut gone = image();
        gone.blobs.remove(&layer().diff_id);
        g.refuses_image("no layer", &gone, "does not have it|404");
    });
}

#[test]
fn indexes_within_indexes_end() {
    both(|g| {
        let mut nested = image();
        for depth in 1..=7 {
            let entry = descriptor(if depth == 1 { MANIFEST } else { INDEX }, &nested.top);
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry], "annotations": {"n": depth.to_string()}});
            let text = index.to_string().into_bytes();
            nested.blobs.insert(digest(&text), text.clone());
            (nested.top, nested.media_type) = (text, INDEX.to_owned());
        }
        g.refuses_image("seven deep", &nested, "nested too deeply");
        // Types that lie on the way.
        let mut lie = image();
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(INDEX, &lie.top)]}).to_string();
        lie.blobs.insert(digest(index.as_bytes()), index.clone().into_bytes());
        (lie.top, lie.media_type) = (index.into_bytes(), INDEX.to_owned());
        g.refuses_image("a manifest announced as an index", &lie, "announced as");
        for text in [
            r#"{"schemaVersion":2,"manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":null}"#,
            r#"{"schemaVersion":2,"manifests":5}"#,
        ] {
            let empty = Image {
                top: text.into(),
                media_type: INDEX.into(),
                blobs: [(digest(text.as_bytes()), text.into())].into(),
            };
            g.refuses_image(text, &empty, "choose platform|invalid type|expected");
        }
    });
}

#[test]
fn documents_beyond_the_limits_name_them() {
    both(|g| {
        let padded = |text: &str, n: usize| [text.as_bytes(), &vec![b' '; n]].concat();
        let top = String::from_utf8(image().top).unwrap();
        g.refuses_image("a manifest of 5 MiB", &image().manifest(&padded(&top, 5 << 20)), "manifest-bytes");
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [layer().diff_id]}}).to_string();
        g.refuses_image("a config of 5 MiB", &Image::of_parts(&[layer()], &padded(&config, 5 << 20)), "config-bytes");
        let many: Vec<Layer> = (0..501).map(|_| layer()).collect();
        g.refuses_image("501 layers", &Image::of(&many), "layers under [limits]");
        g.limits("layers = 2\nmanifest-bytes = 2000\nconfig-bytes = 500");
        g.refuses_image("three layers", &Image::of(&[layer(), layer(), layer()]), "layers under [limits]");
        g.refuses_image("a manifest of 3 kB", &image().manifest(&padded(&top, 3000)), "manifest-bytes");
        g.refuses_image("a config of 1 kB", &Image::of_parts(&[layer()], &padded(&config, 1000)), "config-bytes");
        g.limits("manifest-bytes = \"16m\"\nconfig-bytes = \"16m\"");
        g.succeeds(&["load", "--quiet"], Some(&Image::of_parts(&[layer()], &padded(&config, 5 << 20)).archive()));
        // What is here stays readable when the limits are lowered.
        g.limits("config-bytes = 10");
        assert!(g.succeeds(&["images"], None).lines().count() == 2);
    });
}

#[test]
fn json_that_costs_is_refused() {
    both(|g| {
        let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
        let objects = br#"{"a":"#.repeat(200_000);
        let key = |value: &[u8]| [br#"{"schemaVersion":2,"x":"#, value, b"}"].concat();
        let many = [b"[".to_vec(), b"0,".repeat(2 << 20 >> 1), b"0]".to_vec()].concat();
        for (what, text) in [
            ("deep lists", deep.clone()),
            ("deep objects", objects.clone()),
            ("deep within", key(&deep)),
            ("1e999", key(b"1e999")),
            ("a long number", key(&b"9".repeat(1 << 20))),
            ("many numbers", key(&many)),
            ("not UTF-8", key(b"\"\xff\xfe\"")),
            ("half a surrogate", key(br#""\ud800""#)),
            ("nothing", Vec::new()),
            ("NUL", vec![0; 100]),
            ("a list", b"[]".to_vec()),
            ("a number", b"5".to_vec()),
            ("two documents", [key(b"1"), key(b"2")].concat()),
        ] {
            g.refuses_image(what, &image().manifest(&text), "parse manifest");
            g.refuses_image(what, &Image::of_parts(&[layer()], &text), "config|layers");
            g.refuses(what, &["load", "--quiet"], Some(&image().archive_with(&text)), "index.json");
        }
        let twice = format!(
            r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{0}"]}},"rootfs":{{"diff_ids":[]}}}}"#,
            layer().diff_id
        );
        g.refuses_image("a config with two lists", &Image::of_parts(&[layer()], twice.as_bytes()), "duplicate");
    });
}
