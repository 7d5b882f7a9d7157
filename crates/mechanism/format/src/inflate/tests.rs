use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

/// Gives at most `step` bytes at once.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.len().min(out.len()).min(self.1);
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

pub(super) fn gunzip(source: impl Read, room: usize) -> io::Result<Vec<u8>> {
    let mut gunzip = Gunzip::new(source);
    let mut buffer = vec![0xaa; HISTORY + SLACK + room];
    let mut all = Vec::new();
    loop {
        let new = gunzip.fill(&mut buffer)?;
        if new.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&buffer[new]);
    }
}

fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Text with repetitions near and far, runs, and pieces that cannot be compressed.
pub(super) fn mixed(length: usize) -> Vec<u8> {
    let words = noise(7, 40_000);
    let mut out: Vec<u8> = Vec::new();
    let mut i = 0;
    while out.len() < length {
        i += 1;
        let at = i * 7919 % 39_000;
        match i % 5 {
            0 => out.extend(words[at..at + i % 700].iter().map(|b| b % 13 + b'a')),
            1 => out.extend(std::iter::repeat_n(words[at], i % 90)),
            2 => out.extend(&words[at..at + i % 300]),
            3 => out.extend(b"abc".iter().cycle().take(i % 77)),
            _ => {
                let back = out.len().saturating_sub(1 + i * 104_729 % 33_000);
                let piece = out[back..out.len().min(back + i % 400)].to_vec();
                out.extend(piece);
            }
        }
    }
    out
}

#[test]
fn what_gzip_makes_comes_back() {
    let long = mixed(1_500_000);
    for data in [&long[..], &long[..1], &long[..70_000], b"", &noise(3, 200_000), &[0; 300_000]] {
        for level in [0, 1, 6, 9] {
            let packed = gzip(data, level);
            for (step, room) in [(usize::MAX, 1 << 20), (100_000, 70_000), (4093, 1)] {
                if room == 1 && data.len() > 100_000 {
                    continue;
                }
                assert!(gunzip(Slow(&packed, step), room).unwrap() == data, "{} {level} {step} {room}", data.len());
            }
        }
    }
    assert!(gunzip(Slow(&gzip(&long[..90_000], 6), 1), 777).unwrap() == long[..90_000]);
}

#[test]
fn members_follow_one_another_and_headers_may_be_long() {
    let (one, two) = (mixed(50_000), mixed(90_000));
    let mut packed = flate2::GzBuilder::new()
        .filename("name")
        .comment("said")
        .extra(vec![5; 3000])
        .write(Vec::new(), Compression::new(6));
    packed.write_all(&one).unwrap();
    let mut packed = packed.finish().unwrap();
    packed.extend(gzip(&[], 6));
    packed.extend(gzip(&two, 1));
    assert!(gunzip(Slow(&packed, 1000), 4096).unwrap() == [one, two].concat());
    // The window does not reach into the member before.
    let mut reaching = gzip(b"abcdefgh", 6);
    // A fixed block: one match of length 3 at distance 4, the end.
    reaching.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x03, 0x62, 0x00]);
    let error = gunzip(&reaching[..], 4096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn codes_of_all_lengths_are_read() {
    // Frequencies like Fibonacci's numbers make the longest codes.
    let mut data = Vec::new();
    let (mut a, mut b) = (1usize, 1);
    for symbol in 0..24u8 {
        data.extend(std::iter::repeat_n(symbol, a));
        (a, b) = (b, a + b);
    }
    let shuffled: Vec<u8> = (0..data.len()).map(|i| data[i * 48_611 % data.len()]).collect();
    for level in [1, 6, 9] {
        assert!(gunzip(&gzip(&shuffled, level)[..], 65_536).unwrap() == shuffled);
    }
}

#[test]
fn damage_is_an_error_and_an_early_end_is_told_as_one() {
    let data = mixed(40_000);
    let packed = gzip(&data, 6);
    for length in (0..packed.len()).step_by(97).chain(packed.len() - 20..packed.len()) {
        let error = gunzip(Slow(&packed[..length], 5000), 10_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {length}: {error}");
    }
    for at in (0..packed.len() * 8).step_by(131) {
        let mut bad = packed.clone();
        bad[at / 8] ^= 1 << (at % 8);
        // Some bits of the header mean nothing.
        if let Ok(same) = gunzip(&bad[..], 10_000) {
            assert!(same == data && at / 8 < 10, "bit {at}");
        }
    }
    for seed in 0..300 {
        let mut bad = packed[..10].to_vec();
        bad.extend(noise(seed * 7 + 1, 3000));
        assert!(gunzip(&bad[..], 5000).is_err());
    }
    let mut more = packed.clone();
    more.extend(b"more");
    assert_eq!(gunzip(&more[..], 5000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    more.extend(b"more and more");
    assert_eq!(gunzip(&more[..], 5000).unwrap_err().to_string(), "this is not gzip");
}

#[test]
fn errors_of_the_source_come_through() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let packed = gzip(&mixed(100_000), 6);
    assert_eq!(gunzip(packed[..5000].chain(Broken), 1 << 20).unwrap_err().to_string(), "broken");
}
