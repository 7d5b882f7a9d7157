//! Little that becomes much.

use crate::ground::{Ground, both};
use crate::image::{GZIP, Image, Layer, ZSTD};
use crate::tar::{Header, Tar, gzip};
use std::io::Write as _;

const TEN_TERABYTES: u64 = 10 << 40;

#[test]
fn ten_terabytes_are_refused_however_they_are_claimed() {
    both(|g| {
        let size = TEN_TERABYTES.to_string();
        let plain = Tar::new().raw(&mut Header::new(b"f", b'0', TEN_TERABYTES), b"x");
        g.refuses_layer("plain", plain.end(), "layer-bytes");
        let pax = Tar::new().pax(&[("size", size.as_bytes())]).file("f", "x");
        g.refuses_layer("PAX", pax.end(), "layer-bytes");
        // Old GNU: one piece of one byte at the end.
        let mut old = Header::new(b"f", b'S', 1);
        let number = |n: u64| [&[0x80, 0, 0, 0][..], &n.to_be_bytes()].concat();
        old.put(386, &number(TEN_TERABYTES - 1)).put(398, &number(1)).put(483, &number(TEN_TERABYTES));
        g.refuses_layer("old GNU", Tar::new().raw(&mut old, b"x").end(), "layer-bytes");
        let last = (TEN_TERABYTES - 1).to_string();
        let zero: &[(&str, &[u8])] = &[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", last.as_bytes()),
            ("GNU.sparse.numbytes", b"1"),
        ];
        g.refuses_layer("0.0", Tar::new().pax(zero).file("f", "x").end(), "layer-bytes");
        let map = format!("{last},1");
        let one: &[(&str, &[u8])] = &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        g.refuses_layer("0.1", Tar::new().pax(one).file("f", "x").end(), "layer-bytes");
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size.as_bytes())];
        let mut content = format!("1\n{last}\n1\n").into_bytes();
        content.resize(512, 0);
        content.push(b'x');
        g.refuses_layer("1.0", Tar::new().pax(records).entry(b"f", b'0', b"", &content).end(), "layer-bytes");
    });
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    both(|g| {
        let map = |map: &str, size: &str, content: &str| {
            let records: &[(&str, &[u8])] = &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
            Tar::new().pax(records).file("f", content).end()
        };
        for (what, tar) in [
            ("overlapping", map("0,4,2,4", "100", "12345678")),
            ("descending", map("50,4,0,4", "100", "12345678")),
            ("beyond the end", map("98,4", "100", "1234")),
            ("more than is there", map("0,40", "100", "1234")),
            ("less than is there", map("0,2", "100", "1234")),
            ("odd", map("0,4,5", "100", "1234")),
            ("beyond 64 bits", map("18446744073709551615,18446744073709551615", "100", "1234")),
            ("no number", map("0,x", "100", "1234")),
        ] {
            g.refuses_layer(what, tar, "sparse map|PAX record");
        }
        let major = |n: &[u8]| {
            Tar::new().pax(&[("GNU.sparse.major", n), ("GNU.sparse.realsize", b"100")]).file("f", "1234").end()
        };
        g.refuses_layer("an incomplete map", major(b"1"), "sparse map");
        g.refuses_layer("an unknown version", major(b"2"), "unknown version|sparse map");
        let mut many = Header::new(b"f", b'S', 1);
        many.put(386, b"00000000000\0").put(398, b"00000000001\0").put(483, b"00000000001\0");
        many.0[482] = 1;
        let block = [b"00000000001\x0000000000000\0".repeat(21), vec![1; 8]].concat();
        let tar = Tar::new().raw(&mut many, &block.repeat(4000)).end();
        g.refuses_layer("too many pieces", tar, "too many pieces");
    });
}

/// A layer of one file of so many zeros.
fn zeros(mut out: impl std::io::Write, megabytes: u64) {
    let mut header = Header::new(b"zeros", b'0', megabytes << 20);
    out.write_all(&header.seal().0).unwrap();
    let block = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| out.write_all(&block).unwrap());
    out.write_all(&[0; 1024]).unwrap();
}

fn zipped(megabytes: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    zeros(&mut encoder, megabytes);
    encoder.finish().unwrap()
}

#[test]
fn bombs_are_refused_by_ratio_and_by_size() {
    let gz = zipped(64);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zeros(&mut encoder, 64);
    let zst = encoder.finish().unwrap();
    both(|g| {
        for (limits, words) in [
            ("layer-ratio = 100\nlayer-ratio-from = \"1m\"", "layer-ratio"),
            ("layer-bytes = \"4m\"", "layer-bytes"),
            ("image-bytes = \"16m\"", "image-bytes"),
        ] {
            g.limits(limits);
            g.refuses("gzip", &["import", "-", "x"], Some(&gz), words);
            g.refuses("zstd", &["import", "-", "x"], Some(&zst), words);
            g.refuses_image("gzip", &Image::of(&[Layer::sealed(gz.clone(), GZIP)]), words);
            g.refuses_image("zstd", &Image::of(&[Layer::sealed(zst.clone(), ZSTD)]), words);
        }
        // Each layer within its limit, all of them not.
        g.limits("image-bytes = \"100m\"");
        let layer = |tar: Vec<u8>| Layer::plain(tar);
        let one = |n: u8| layer(Tar::new().entry(&[b'f', n], b'0', b"", &vec![n; 30 << 20]).end());
        g.refuses_image("together", &Image::of(&[one(b'a'), one(b'b'), one(b'c'), one(b'd')]), "image-bytes");
        // An archive that is a bomb itself.
        g.limits("layer-ratio = 100\nlayer-ratio-from = \"1m\"");
        g.refuses("archive", &["load", "--quiet"], Some(&gz), "layer-ratio");
        g.refuses("archive", &["load", "--quiet"], Some(&zst), "layer-ratio");
        g.limits("image-bytes = \"16m\"");
        g.refuses("archive", &["load", "--quiet"], Some(&gz), "image-bytes");
        g.refuses("archive", &["load", "--quiet"], Some(&zst), "image-bytes");
    });
}

#[test]
fn a_window_of_two_gibibytes_is_refused() {
    both(|g| {
        // RFC 8878: magic, no flags, window 2^(10 + 21), one raw last block of five bytes.
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, (5 << 3) | 1, 0, 0][..], b"hello"].concat();
        g.refuses_image("window", &Image::of(&[Layer::sealed(frame.clone(), ZSTD)]), "too much memory|window");
        g.refuses("window", &["import", "-", "x"], Some(&frame), "too much memory|window");
        g.refuses("window", &["load", "--quiet"], Some(&frame), "too much memory|window");
    });
}

#[test]
fn names_and_attributes_are_bounded() {
    both(|g| {
        let long = "x".repeat(2 << 20);
        g.refuses_layer(
            "GNU name",
            Tar::new().long(b'L', long.as_bytes()).file("f", "").end(),
            "an extended header of",
        );
        g.refuses_layer(
            "GNU target",
            Tar::new().long(b'K', long.as_bytes()).symlink("f", "x").end(),
            "an extended header of",
        );
        g.refuses_layer(
            "PAX",
            Tar::new().pax(&[("comment", long.as_bytes())]).file("f", "").end(),
            "an extended header of",
        );
        let claim = Tar::new().raw(&mut Header::new(b"x", b'x', 1 << 60), b"").end();
        g.refuses_layer("a claim", claim, "an extended header of");
        let row = (0..70).fold(Tar::new(), |tar, _| tar.pax(&[("comment", b"x")])).file("f", "");
        g.refuses_layer("in a row", row.end(), "too many extended headers");
        // Two thousand directories with every entry.
        g.limits("layer-metadata = \"16m\"");
        let deep = (0..300).fold(Tar::new(), |tar, i| tar.file(&format!("{i}/{}x", "d/".repeat(1500)), ""));
        g.refuses("deep", &["import", "-", "x"], Some(&gzip(&deep.end())), "layer-metadata");
        let attributes = (0..8000).fold(Tar::new(), |tar, i| {
            let value = format!("{i:03000}");
            tar.pax(&[("SCHILY.xattr.user.x", value.as_bytes())]).dir(&format!("d{i}"))
        });
        g.refuses("attributes", &["import", "-", "x"], Some(&gzip(&attributes.end())), "layer-metadata");
        let links = (0..120_000).fold(Tar::new(), |tar, i| tar.hard_link(&format!("l{i}"), "nothing"));
        g.refuses("links", &["import", "-", "x"], Some(&gzip(&links.end())), "layer-metadata");
        g.limits("layer-entries = 1000");
        let entries = (0..1001).fold(Tar::new(), |tar, _| tar.file("same", ""));
        g.refuses_layer("entries", entries.end(), "layer-entries");
    });
}

/// An archive of so many empty files in one directory, compressed.
fn crowd(count: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = Header::new(b"crowd/0000000000", b'0', 0);
    for i in 0..count {
        header.put(6, format!("{i:010}").as_bytes());
        encoder.write_all(&header.seal().0).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap()
}

fn takes_a_crowd(g: &Ground, count: u32) {
    let before = g.stored();
    g.succeeds(&["import", "-", "crowd"], Some(&crowd(count)));
    let image = g.succeeds(&["inspect", "--type", "image", "crowd"], None);
    assert!(image.contains("crowd"), "{image}");
    g.succeeds(&["rmi", "crowd"], None);
    assert_eq!(g.stored(), before);
}

#[test]
fn a_hundred_thousand_entries_in_a_directory_are_taken() {
    takes_a_crowd(&Ground::new("erofs"), 100_000);
    takes_a_crowd(&Ground::new("overlay"), 20_000);
}

#[test]
#[ignore = "minutes"]
fn long_a_million_entries_in_a_directory_are_taken() {
    both(|g| takes_a_crowd(g, 1_000_000));
}
