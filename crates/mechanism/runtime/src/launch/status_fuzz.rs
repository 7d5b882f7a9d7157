//! The status protocol against whoever has taken the other end over.

use super::*;
use crate::mutate::{LONG, Random, SHORT, rounds, spoil};
use std::time::Duration;

/// What an honest end says.
fn packets() -> Vec<Vec<u8>> {
    let error = Error::new(Kind::System, "mount", "/x").because("why").hint("do").during("start", "c");
    vec![
        b"r".to_vec(),
        b"h".to_vec(),
        b"w\xc3\xa4 warning".to_vec(),
        [b"e".as_slice(), &serde_json::to_vec(&error).unwrap()].concat(),
        b"g".to_vec(),
        b"m".to_vec(),
        b"h4711".to_vec(),
        listener::PACKET.to_vec(),
        Vec::new(),
        format!("e{}", r#"{"cause":{"error":"#.repeat(2000)).into_bytes(),
        vec![b'w'; 20_000],
    ]
}

/// A socket on whose other end this was said before it was closed.
fn said(random: &mut Random, honest: &[Vec<u8>]) -> OwnedFd {
    let (ours, theirs) = pair(false).unwrap();
    for _ in 0..random.below(12) {
        let mut packet = random.pick(honest).clone();
        if random.below(2) == 0 {
            spoil(random, &mut packet);
        }
        packet.truncate(LIMIT);
        // An empty packet reads as the end, and a full queue is enough.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = send(&theirs, &packet, flags);
    }
    ours.socket
}

fn fuzz(seed: u64, time: Duration) {
    let honest = packets();
    let count = rounds(seed, time, |random| {
        for packet in &honest {
            let mut packet = packet.clone();
            spoil(random, &mut packet);
            // What is understood can be said again.
            if let Ok(Said::Error(e)) = parse(&packet) {
                let again = [b"e".as_slice(), &serde_json::to_vec(&e).unwrap()].concat();
                assert_eq!(parse(&again).unwrap(), Said::Error(e));
            }
        }
        let mut warnings = Vec::new();
        let mut channel = Channel::over(said(random, &honest));
        let mut hooks = 0;
        let ready = channel.wait_ready(1, &mut warnings, || {
            hooks += 1;
            Ok(())
        });
        if ready.is_ok() {
            let _ = channel.start(&mut warnings, || died("x"));
        }
        assert!(hooks <= 1 && warnings.len() <= MOST_MESSAGES);
        let socket = said(random, &honest);
        let child = Reporter(socket.as_fd());
        let _ = (child.wait_mapped(), child.rendezvous(), child.wait_go(), child.is_alone());
    });
    assert!(count > 100, "{count} rounds");
}

#[test]
fn a_hostile_end_makes_no_panic() {
    fuzz(1, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_a_hostile_end_makes_no_panic() {
    fuzz(2, LONG);
}

#[test]
fn a_child_that_never_ends_to_talk_is_not_listened_to_for_ever() {
    let (channel, theirs) = pair(false).unwrap();
    let mut channel = channel;
    let talker = std::thread::spawn(move || while send(&theirs, b"wx", SendFlags::NOSIGNAL).is_ok() {});
    let mut warnings = Vec::new();
    let e = channel.wait_ready(1, &mut warnings, || Ok(())).unwrap_err();
    assert_eq!((e.kind(), warnings.len()), (Kind::Corrupt, MOST_MESSAGES));
    drop(channel);
    talker.join().unwrap();
}
