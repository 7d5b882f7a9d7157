//! Decompression, digests, limits, failures of the source.

use super::*;
use std::io::Read;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn unpack_blob(blob: impl Read + Send, compression: Compression, limits: &UnpackLimits) -> Result<Unpacked> {
    let scratch = Scratch::new();
    let fs = open(&scratch.0);
    unpack_directory(fs.as_fd(), blob, compression, None, &Lowers::none(), limits)
}

fn limits() -> UnpackLimits {
    UnpackLimits::default()
}

#[test]
fn the_diff_id_covers_every_byte_of_the_stream() {
    let mut stream = archive(&[(file("a"), &[5; 1_000_000])]);
    stream.extend_from_slice(&[0; 10240]);
    stream.extend_from_slice(b"trailing bytes after the end of the archive");
    let want = Digest::of(&stream);
    let (head, tail) = stream.split_at(734_567);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let zstd = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
    for (blob, compression) in [
        (stream.clone(), Compression::None),
        (gzip(&stream), Compression::Gzip),
        ([gzip(head), gzip(tail)].concat(), Compression::Gzip),
        ([zstd(head), zstd(tail), skippable.to_vec()].concat(), Compression::Zstd),
    ] {
        let unpacked = unpack_blob(blob.as_slice(), compression, &limits()).unwrap();
        assert_eq!(unpacked, Unpacked { diff_id: want, size: 1_000_000, entries: 1, index: None });
    }
}

#[test]
fn an_empty_layer_is_a_layer() {
    assert_eq!(unpack_blob(gzip(&[0; 1024]).as_slice(), Compression::Gzip, &limits()).unwrap().entries, 0);
    assert_eq!(unpack_blob(b"".as_slice(), Compression::None, &limits()).unwrap().diff_id, Digest::of(b""));
}

#[test]
fn damage_is_told_from_a_failing_source() {
    let stream: Vec<u8> = (0..120_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blob = gzip(&archive(&[(file("a"), &stream)]));
    let mut flipped = blob.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    for bad in [&blob[..blob.len() / 2], &flipped, b"no gzip at all"] {
        let e = unpack_blob(bad, Compression::Gzip, &limits()).unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt, "{e}");
    }
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(std::io::Error::other(tare_model::Error::new(Kind::Unavailable, "fetch", "x"))),
                n => Ok(n),
            }
        }
    }
    for compression in [Compression::Gzip, Compression::None] {
        let e = unpack_blob(Broken(&blob[..200_000]), compression, &limits()).unwrap_err();
        assert!(matches!((e.kind(), compression), (Kind::Unavailable, _) | (Kind::Invalid, Compression::None)), "{e}");
    }
}

#[test]
fn a_wrong_diff_id_is_corrupt() {
    let scratch = Scratch::new();
    let (fs, other) = (open(&scratch.0), Digest::of(b"other"));
    let stream = archive(&[(file("a"), b"")]);
    let e =
        unpack_directory(fs.as_fd(), stream.as_slice(), Compression::None, Some(&other), &Lowers::none(), &limits())
            .unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt);
}

#[test]
fn bombs_stop_at_the_limits() {
    let bomb = gzip(&archive(&[(file("zeros"), &vec![0; 6 << 20])]));
    let stops = |blob: &[u8], compression, limits: UnpackLimits| {
        let e = unpack_blob(blob, compression, &limits).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted, "{e}");
        e.to_string()
    };
    let total = UnpackLimits { total: 3 << 20, ..limits() };
    assert!(stops(&bomb, Compression::Gzip, total).contains("bytes"));
    let ratio = UnpackLimits { ratio: 100, ratio_from: 1 << 20, ..limits() };
    assert!(stops(&bomb, Compression::Gzip, ratio).contains("more than 100 for one"));
    let entries = UnpackLimits { entries: 2, ..limits() };
    let three = archive(&[(file("1"), b""), (file("2"), b""), (file("3"), b"")]);
    assert!(stops(&three, Compression::None, entries).contains("2 entries"));
    // A sparse file of 10 TB: a few bytes in the archive, in PAX 1.0.
    let mut head = file("GNUSparseFile.0/huge");
    head.size = 512;
    let mut blob = archive(&[(head, &[b"1\n0\n0\n".as_slice(), &[0; 506]].concat())]);
    let records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n38 GNU.sparse.realsize=10000000000000\n".to_vec();
    let mut pax = archive(&[(file("pax"), &records)]);
    pax.truncate(1024);
    pax[156] = b'x';
    pax[148..156].fill(b' ');
    let sum: u32 = pax[..512].iter().map(|&b| u32::from(b)).sum();
    pax[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    blob.splice(0..0, pax);
    assert!(stops(&blob, Compression::None, limits()).contains("files of more than"));
}

/// Damaged layers into a real directory: an answer or an error, never a panic, never a byte outside. Deterministic.
#[test]
fn mutated_layers_never_leave_their_directory() {
    // Thousands of small files: in memory, where there is such a file system.
    let scratch = Scratch::below(Path::new("/dev/shm"));
    let outside = scratch.dir("outside");
    std::fs::write(outside.join("victim"), b"unharmed").unwrap();
    let before = scan(&outside, Times::All);
    let seed = archive(&[
        (dir("a"), b""),
        (file("a/b"), b"content"),
        (link("s", EntryKind::Symlink, "../outside"), b""),
        (link("h", EntryKind::Hardlink, "a/b"), b""),
        (file("a/.wh.c"), b""),
        (file("s/victim"), b"x"),
        (dir("a/d/e"), b""),
        (file(".wh..wh..opq"), b""),
    ]);
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..1500 {
        let mut bytes = seed.clone();
        for _ in 0..=random(6) {
            let block = random(bytes.len() / 512) * 512;
            match random(3) {
                0 => bytes[block + random(20)] = b"abdesh/.\0w"[random(10)],
                1 => bytes[block + 156] = b"0123456xL"[random(9)],
                _ => {
                    let copy = bytes[block..block + 512].to_vec();
                    bytes.splice(block..block, copy);
                }
            }
        }
        for start in (0..bytes.len() - 511).step_by(512) {
            if &bytes[start + 257..start + 262] == b"ustar" {
                bytes[start + 148..start + 156].fill(b' ');
                let sum: u32 = bytes[start..start + 512].iter().map(|&b| u32::from(b)).sum();
                bytes[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let fs = scratch.dir(&round.to_string());
        let _ = unpack_plain(&fs, &bytes, &Lowers::none());
        remove_tree(open(&scratch.0).as_fd(), round.to_string().as_bytes()).unwrap();
    }
    assert_same(&before, &scan(&outside, Times::All));
}
