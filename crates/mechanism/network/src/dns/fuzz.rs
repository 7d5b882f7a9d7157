//! Messages and names files that nobody meant.

use super::answer::{Zone, answer, failed, no_such_name};
use super::message::{Code, Query, Reject};
use super::names::Names;
use crate::mutate::{LONG, Random, SHORT, rounds, spoil};
use std::time::Duration;

/// Questions of real clients: dig (with cookie), glibc, musl, one with DO and padding, PTR of both families.
fn honest() -> Vec<Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect()
    };
    vec![
        hex(
            "12ab 0120 0001 0000 0000 0001 03776562 00 0001 0001 00 0029 04d0 0000 0000 000c 000a 0008 0102030405060708",
        ),
        hex("0001 0100 0001 0000 0000 0000 03776562 04626c7565 00 001c 0001"),
        hex("ffff 0100 0001 0000 0000 0000 06 6e6f626f6479 07 6578616d706c65 03 6f7267 00 00ff 0001"),
        hex("3344 0120 0001 0000 0000 0001 04 706f6f6c 00 0001 0001 00 0029 1000 0000 8000 0008 000c 0004 00000000"),
        hex("5566 0100 0001 0000 0000 0000 01 32 01 30 01 30 02 3130 07 696e2d61646472 04 61727061 00 000c 0001"),
        [
            hex("7788 0100 0001 0000 0000 0000"),
            b"\x012\x010".to_vec(),
            b"\x010".repeat(26),
            b"\x010\x010\x01d\x01f\x03ip6\x04arpa\0\0\x0c\0\x01".to_vec(),
        ]
        .concat(),
    ]
}

fn names_text() -> String {
    let mut text = format!("{} 10.0.0.2,fd00::2 web front\n", "a".repeat(64));
    for n in 3..90 {
        text += &format!("{n:064x} 10.0.0.{n},fd00::{n:x} w{n} pool Pool-{n}\n");
    }
    text
}

/// Reads a whole answer: true if every record ends where it says and nothing is left.
fn is_whole(message: &[u8]) -> bool {
    let number = |at: usize| message.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let read = || -> Option<usize> {
        let skip = |mut at: usize| loop {
            match *message.get(at)? {
                0 => return Some(at + 1),
                0xc0.. => return Some(at + 2),
                length => at += 1 + usize::from(length),
            }
        };
        let mut at = 12;
        for _ in 0..number(4)? {
            at = skip(at)? + 4;
        }
        for _ in 0..number(6)? + number(8)? + number(10)? {
            at = skip(at)?;
            at += 10 + number(at + 8)?;
        }
        Some(at)
    };
    read() == Some(message.len())
}

fn check(message: &[u8], zones: &[Zone<'_>], random: &mut Random) {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Reject::Silent) => return,
        Err(Reject::Reply(reply)) => {
            assert!(is_whole(&reply) && reply[..2] == message[..2], "{reply:x?}");
            return;
        }
    };
    let limit = [query.limit(), 65535][random.below(2)];
    let known = answer(&query, zones, random.below(1 << 20), limit);
    let bad_version = query.reply(Code::BadVersion, 512).finish();
    for reply in known.into_iter().chain([no_such_name(&query), failed(&query), bad_version]) {
        assert!(reply.len() <= limit && is_whole(&reply), "{message:x?} {reply:x?}");
        assert_eq!(reply[..2], message[..2]);
        let accepted = query.is_answered_by(query.id, &reply);
        assert!(accepted, "{message:x?} {reply:x?}");
        // What we write is never taken for a question: no two servers talk for ever.
        assert_eq!(Query::parse(&reply), Err(Reject::Silent));
    }
    // Its own name is that of the question, whatever is in it.
    let _ = query.is_answered_by(query.id, message);
}

fn fuzz(seed: u64, time: Duration) {
    let (honest, text) = (honest(), names_text());
    let good = Names::new(text.clone());
    for message in &honest {
        assert!(Query::parse(message).is_ok(), "{message:x?}");
    }
    let known = |m: &Vec<u8>| {
        let zones = [Zone { network: "blue", names: &good }];
        answer(&Query::parse(m).unwrap(), &zones, 0, 512).is_some()
    };
    assert_eq!(honest.iter().map(known).collect::<Vec<_>>(), [true, true, false, true, true, true]);
    let count = rounds(seed, time, |random| {
        let mut bytes = text.as_bytes()[..random.below(600)].to_vec();
        spoil(random, &mut bytes);
        let spoiled = Names::new(String::from_utf8_lossy(&bytes).into_owned());
        let zones = [Zone { network: "blue", names: &good }, Zone { network: "Gr.een", names: &spoiled }];
        for message in &honest {
            let mut message = message.clone();
            spoil(random, &mut message);
            check(&message, &zones, random);
        }
        let noise: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
        check(&noise, &zones, random);
        // Random bytes behind a header that lets them in.
        let count = random.below(4) as u8;
        let mut noise = [&[0, 1, 1, 0, 0, 1, 0, count, 0, 0, 0, 1], &noise[..]].concat();
        if noise.len() > 12 {
            noise[12] &= 0x3f;
        }
        check(&noise, &zones, random);
        assert_eq!(spoiled.find("a").count() + spoiled.find("").count(), spoiled.find("A").count());
    });
    assert!(count > 1000, "{count} rounds");
}

#[test]
fn hostile_messages_and_files_make_no_panic() {
    fuzz(1, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_hostile_messages_and_files_make_no_panic() {
    fuzz(2, LONG);
}
