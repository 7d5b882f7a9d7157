//! Streams that nobody meant: flate2 and this decoder must say the same of each.

use super::tests::{gunzip, mixed};
use crate::mutate::{Random, spoil};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

const ROUNDS: u64 = 20_000;
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

fn deflate(data: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 2 + 1000);
    let status = Compress::new(Compression::new(level), false).compress_vec(data, &mut out, FlushCompress::Finish);
    assert_eq!(status.unwrap(), Status::StreamEnd);
    out
}

/// The content, and how many bytes of the body it took; `None` for what is damaged or has no end.
fn judge(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut inflate = Decompress::new(false);
    // No body gives more than 1,032 bytes for one.
    let mut out = Vec::with_capacity(body.len() * 1032 + 1000);
    let status = inflate.decompress_vec(body, &mut out, FlushDecompress::Finish);
    let used = usize::try_from(inflate.total_in()).unwrap();
    (status.ok()? == Status::StreamEnd).then_some((out, used))
}

/// Bits, mostly of the first block's codes; or anything.
fn damage(random: &mut Random, body: &mut Vec<u8>) {
    match random.below(4) {
        0 => spoil(random, body),
        1 => {
            let at = random.below(body.len() * 8);
            body[at / 8] ^= 1 << (at % 8);
        }
        _ => {
            for _ in 0..=random.below(3) {
                let at = random.below(body.len().min(90) * 8);
                body[at / 8] ^= 1 << (at % 8);
            }
        }
    }
}

#[test]
fn spoilt_streams_are_to_us_what_they_are_to_flate2() {
    let data = mixed(60_000);
    let honest: Vec<Vec<u8>> = [0usize, 1, 40, 300, 3000, 9000]
        .iter()
        .flat_map(|length| [0, 1, 6, 9].map(|level| deflate(&data[data.len() - length..], level)))
        .collect();
    let (mut whole, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let mut random = Random::new(41 ^ (round << 20));
        let mut body = random.pick(&honest).clone();
        damage(&mut random, &mut body);
        let room = 1 + random.below(20_000);
        let judged = judge(&body);
        let mut stream = HEAD.to_vec();
        match &judged {
            Some((content, used)) => {
                stream.extend(&body[..*used]);
                stream.extend(crc32fast::hash(content).to_le_bytes());
                stream.extend((content.len() as u32).to_le_bytes());
                whole += 1;
            }
            None => {
                stream.extend(&body);
                refused += 1;
            }
        }
        match (gunzip(&stream[..], room), judged) {
            (Ok(ours), Some((theirs, _))) => assert!(ours == theirs, "round {round}: other content"),
            (Err(_), None) => {}
            (Err(e), Some(_)) => panic!("round {round}: refused by us only: {e}"),
            (Ok(_), None) => panic!("round {round}: refused by flate2 only"),
        }
    }
    assert!(whole > 100 && refused > 100, "{whole} were whole, {refused} were not");
}
