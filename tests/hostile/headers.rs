//! Headers that are none, streams that end, and what follows the end.

use crate::ground::both;
use crate::image::{GZIP, Image, Layer, ZSTD, digest};
use crate::tar::{Header, Tar, gzip};

#[test]
fn headers_without_sense_are_refused() {
    both(|g| {
        let mut wrong = Tar::new().file("f", "x").end();
        wrong[148] ^= 1;
        g.refuses_layer("checksum", wrong, "wrong checksum");
        g.refuses_layer("noise", vec![0xff; 2048], "not octal|wrong checksum|beyond 64 bits");
        g.refuses_layer("text", "this is no archive, ".repeat(100).into_bytes(), "not octal|wrong checksum");
        let with = |at: usize, bytes: &[u8]| {
            let mut header = Header::new(b"f", b'3', 0);
            header.put(329, b"0000001\0").put(337, b"0000003\0");
            Tar::new().raw(header.put(at, bytes), b"").end()
        };
        g.refuses_layer("type", with(156, b"Z"), "unknown entry type");
        g.refuses_layer("mode", with(100, b"rwxr-xr-"), "a number that is not octal");
        g.refuses_layer("negative owner", with(108, &[0xff; 8]), "an owner beyond 32 bits");
        g.refuses_layer("large owner", with(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]), "an owner beyond 32 bits");
        g.refuses_layer("device", with(329, &[0x80, 0, 0, 1, 0, 0, 0, 0]), "a device number beyond 32 bits");
        let mut negative = Header::new(b"f", b'0', 0);
        negative.put(124, &[0xff; 12]);
        g.refuses_layer("negative size", Tar::new().raw(&mut negative, b"").end(), "a negative size");
        let mut huge = Header::new(b"f", b'0', 0);
        huge.put(124, &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        g.refuses_layer("size beyond 64 bits", Tar::new().raw(&mut huge, b"").end(), "a number beyond 64 bits");
        let hole = [Tar::new().file("a", "x").0, vec![0; 512], Tar::new().file("b", "x").end()].concat();
        g.refuses_layer("zeros between", hole, "a block of zeros between two entries");
    });
}

#[test]
fn streams_that_end_early_are_refused() {
    both(|g| {
        let whole = Tar::new().entry(b"f", b'0', b"", &[7; 3000]).end();
        for length in [1, 100, 511, 513, 1024, 3000] {
            g.refuses_layer(
                &format!("{length} bytes"),
                whole[..length].to_vec(),
                "ends too early|ends inside of a file",
            );
        }
        let header = Tar::new().raw(&mut Header::new(b"f", b'0', 1 << 20), b"").0;
        g.refuses_layer("content", header, "ends too early|ends inside of a file");
        let packed = gzip(
            &Tar::new().entry(b"f", b'0', b"", &(0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).end(),
        );
        for length in [10, 11, packed.len() / 2, packed.len() - 9, packed.len() - 1] {
            let image = Image::of(&[Layer::sealed(packed[..length].to_vec(), GZIP)]);
            g.refuses_image(&format!("{length} bytes of gzip"), &image, "decompress|ends too early|ends inside");
        }
        let zstd = zstd::encode_all(&whole[..], 1).unwrap();
        for length in [4, 6, zstd.len() / 2, zstd.len() - 1] {
            let image = Image::of(&[Layer::sealed(zstd[..length].to_vec(), ZSTD)]);
            g.refuses_image(&format!("{length} bytes of zstd"), &image, "decompress|ends too early|ends inside");
        }
        let mut spoilt = packed;
        let middle = spoilt.len() / 2;
        spoilt[middle] ^= 0x55;
        g.refuses_image("spoilt gzip", &Image::of(&[Layer::sealed(spoilt, GZIP)]), "decompress|checksum|octal|ends");
    });
}

#[test]
fn what_follows_the_end_counts_for_the_digest_only() {
    both(|g| {
        let tar = Tar::new().file("f", "x").end();
        let longer = [tar.clone(), vec![0xaa; 5000]].concat();
        assert_eq!(g.shows("garbage", vec![longer.clone()]), ["f"]);
        // The diff ID of what stands before the garbage is not that of the layer.
        let lie = Layer { diff_id: digest(&tar), ..Layer::plain(longer) };
        g.refuses_image("garbage", &Image::of(&[lie]), "diff ID|digest");
        let behind =
            Layer { blob: [gzip(&tar), b"garbage".to_vec()].concat(), media_type: GZIP, diff_id: digest(&tar) };
        let out = g.endures("garbage behind gzip", &["load", "--quiet"], Some(&Image::of(&[behind]).archive()));
        assert!(out.code != 0 || g.stored().len() == 4, "{}", out.stderr);
        // No end at all is how some tools write.
        assert_eq!(g.shows("no end", vec![Tar::new().file("f", "x").file("g", "x").0]), ["f", "g"]);
        assert!(g.shows("nothing", vec![Vec::new()]).is_empty());
    });
}

#[test]
fn media_types_that_lie_are_refused() {
    both(|g| {
        let tar = Tar::new().file("f", "x").end();
        let lie = |blob: Vec<u8>, media_type| Image::of(&[Layer { blob, media_type, diff_id: digest(&tar) }]);
        g.refuses_image("tar as gzip", &lie(tar.clone(), GZIP), "decompress");
        g.refuses_image("tar as zstd", &lie(tar.clone(), ZSTD), "decompress");
        g.refuses_image("gzip as tar", &lie(gzip(&tar), crate::image::LAYER), "checksum|octal|ends too early");
        g.refuses_image("gzip as zstd", &lie(gzip(&tar), ZSTD), "decompress");
        for (media_type, words) in [
            ("application/vnd.oci.image.layer.v1.tar+encrypted", "encrypted layers are not supported"),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", "non-distributable"),
            ("text/html\u{1b}[31m", "unknown media type"),
            ("../../etc/passwd\nsecond line", "unknown media type"),
            ("", "unknown media type"),
        ] {
            g.refuses_image(media_type, &lie(tar.clone(), media_type), words);
        }
    });
}
