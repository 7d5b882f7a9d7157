//! Blobs over connections that break.

use super::client;
use super::fake::{Fake, Reply, Seen};
use crate::download::download;
use crate::session::{Access, Session};
use tare_model::image::{Descriptor, media};
use tare_model::{Digest, Kind, Result};

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

/// Fetches `content()` from a server that follows the script.
fn fetch(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> (Result<Vec<u8>>, Vec<Seen>) {
    let content = content();
    let blob = Descriptor::new(media::LAYER, Digest::of(&content), content.len() as u64);
    let fake = Fake::start(script);
    let (client, reference) = (client(), fake.reference("x"));
    let session = Session::new(&client.http, &reference, Access::Pull, &[]).unwrap();
    let mut got = Vec::new();
    let mut take = |data: hyper::body::Bytes| {
        got.extend_from_slice(&data);
        Ok(())
    };
    let result = client.run(download(&session, &blob, 0, &mut take));
    (result.map(|()| got), fake.seen())
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    // More breaks than attempts: each got further.
    let (got, seen) = fetch(|seen, n| {
        let reply = Reply::range(seen, &content());
        if n < 6 { reply.cut(100_000) } else { reply }
    });
    assert!(got.unwrap() == content());
    assert_eq!(seen.len(), 7);
    assert_eq!(seen[0].range_start(), None);
    assert!(seen.windows(2).all(|w| w[0].range_start() < w[1].range_start()));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_silent_server_is_left_and_asked_for_the_rest() {
    let (got, seen) = fetch(|seen, n| {
        let reply = Reply::range(seen, &content());
        if n == 0 { reply.stall(70_000) } else { reply }
    });
    assert!(got.unwrap() == content());
    assert_eq!(seen[1].range_start(), Some(70_000));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (got, seen) = fetch(|_, n| {
        let reply = Reply::ok(content());
        if n == 0 { reply.cut(123_456) } else { reply }
    });
    assert!(got.unwrap() == content());
    assert!(seen[1].range_start().is_some());
}

#[test]
fn a_rest_from_elsewhere_is_refused() {
    let (got, _) = fetch(|_, n| match n {
        0 => Reply::ok(content()).cut(1000),
        _ => Reply::new(206).header("Content-Range", "bytes 5-9/10").body("12345"),
    });
    assert_eq!(got.unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn lengths_must_be_those_of_the_manifest() {
    let long = || [content(), vec![0]].concat();
    let short = || content()[1..].to_vec();
    for (reply, requests) in [
        (Reply::ok(long()), 1),
        (Reply::ok(short()), 1),
        (Reply::ok(long()).chunked(), 1),
        // It may have been cut by a proxy: asked again for the last byte, as often as allowed.
        (Reply::ok(short()).chunked(), 3),
    ] {
        let (got, seen) = fetch(move |_, _| reply.clone());
        let e = got.unwrap_err();
        assert_eq!((e.kind(), seen.len()), (Kind::Corrupt, requests), "{e}");
    }
}

#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let (got, seen) = fetch(|_, _| Reply::ok(content()).cut(0));
    assert_eq!((got.unwrap_err().kind(), seen.len()), (Kind::Unavailable, 3));
}

#[test]
fn the_receiver_can_end_it() {
    let content = content();
    let blob = Descriptor::new(media::LAYER, Digest::of(&content), content.len() as u64);
    let fake = Fake::start(move |_, _| Reply::ok(content.clone()));
    let (client, reference) = (client(), fake.reference("x"));
    let session = Session::new(&client.http, &reference, Access::Pull, &[]).unwrap();
    let full = tare_model::Error::new(Kind::Exhausted, "write", "disk");
    let e = client.run(download(&session, &blob, 0, &mut |_| Err(full.clone()))).unwrap_err();
    assert_eq!((e, fake.seen().len()), (full, 1));
}
