//! Manifests, tags, and what a user is told.

use super::fake::{Fake, Reply};
use super::{client, quick};
use crate::{Client, Options, Proxies, resolve, tags};
use tare_model::image::media;
use tare_model::{Digest, Kind};

const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

#[test]
fn the_head_of_an_answer_is_enough_and_is_not_required() {
    let fake = Fake::start(|_, _| Reply::manifest(media::INDEX, INDEX));
    let found = resolve(&client(), &fake.reference("a/b:t")).unwrap();
    assert_eq!((found.digest, found.size, found.media_type.as_str()), (Digest::of(INDEX), 34, media::INDEX));
    let seen = fake.seen();
    assert_eq!((seen.len(), seen[0].method.as_str(), seen[0].target.as_str()), (1, "HEAD", "/v2/a/b/manifests/t"));
    assert!(seen[0].header("accept").unwrap().contains(media::DOCKER_MANIFEST));
    assert!(seen[0].header("user-agent").unwrap().starts_with("tare/"));
    assert_eq!(seen[0].header("authorization"), None);

    let bare = Fake::start(|_, _| Reply::ok(INDEX).header("Content-Type", media::INDEX));
    assert_eq!(resolve(&client(), &bare.reference("a:t")).unwrap(), found);
    assert_eq!(bare.seen()[1].method, "GET");
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    let both = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
    let long = [b"{".to_vec(), vec![b' '; 4 << 20]].concat();
    let cases: Vec<(Reply, Kind, &str)> = vec![
        (Reply::ok(INDEX).header("Content-Type", media::MANIFEST), Kind::Invalid, "announced as"),
        (Reply::ok(INDEX).header("Content-Type", "application/json"), Kind::Invalid, "announced as"),
        (Reply::ok(&both[..]).header("Content-Type", media::INDEX), Kind::Invalid, "both a manifest and an index"),
        (Reply::ok("<html>").header("Content-Type", "text/html; charset=utf-8"), Kind::Invalid, "web page"),
        (Reply::ok(INDEX).header("Docker-Content-Digest", Digest::of(b"")), Kind::Corrupt, "expected sha256:e3b0c4"),
        (Reply::ok(long).header("Content-Type", media::INDEX).chunked(), Kind::Exhausted, "more than 4194304 bytes"),
        (Reply::ok("{").header("Content-Type", media::INDEX), Kind::Invalid, "EOF"),
    ];
    for (reply, kind, part) in cases {
        let fake = Fake::start(move |seen, _| if seen.method == "HEAD" { Reply::new(405) } else { reply.clone() });
        let e = resolve(&client(), &fake.reference("x")).unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(part), "{part}: {e:?}");
    }
}

#[test]
fn a_digest_in_the_reference_is_checked() {
    let fake = Fake::start(|_, _| Reply::manifest(media::INDEX, INDEX));
    let good = fake.reference(&format!("x@{}", Digest::of(INDEX)));
    assert_eq!(resolve(&client(), &good).unwrap().digest, Digest::of(INDEX));
    let other = fake.reference(&format!("x@{}", Digest::of(b"other")));
    assert_eq!(resolve(&client(), &other).unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn what_is_not_there_and_who_is_not_there_are_told_apart() {
    let fake = Fake::start(|_, _| {
        Reply::new(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
    });
    let e = resolve(&client(), &fake.reference("x:1")).unwrap_err();
    let a = fake.address;
    assert_eq!(
        e.to_string(),
        format!("resolve {a}/x:1: find image on {a}: it answered 404 Not Found: manifest unknown (MANIFEST_UNKNOWN)")
    );
    assert_eq!(e.kind(), Kind::NotFound);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = resolve(&client(), &format!("{closed}/x").parse().unwrap()).unwrap_err();
    assert_eq!(e.to_string(), format!("resolve {closed}/x:latest: reach {closed}: connection refused"));
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.first_hint().unwrap().contains(&format!("port {}", closed.port())));

    let options = Options { resolv_conf: "/nonexistent".into(), ..quick() };
    let e = resolve(&Client::new(options).unwrap(), &"no-such-host.invalid/x".parse().unwrap()).unwrap_err();
    assert!(e.to_string().contains("reach no-such-host.invalid:443: no name server is configured"), "{e}");
    assert!(e.first_hint().unwrap().contains("/nonexistent"));
}

#[test]
fn a_server_that_is_no_registry_is_recognised() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming() {
            stream.unwrap().write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        }
    });
    let e = resolve(&client(), &format!("{address}/x").parse().unwrap()).unwrap_err();
    assert!(e.to_string().contains(&address.to_string()), "{e}");
    assert!(e.first_hint().is_some(), "{e:?}");
}

#[test]
fn a_rate_limit_is_waited_for_if_short_and_told_otherwise() {
    let fake = Fake::start(|_, n| match n {
        0 => Reply::new(429).header("Retry-After", 0),
        _ => Reply::manifest(media::INDEX, INDEX),
    });
    assert!(resolve(&client(), &fake.reference("x")).is_ok());

    let fake = Fake::start(|_, _| {
        Reply::new(429)
            .header("Retry-After", 3600)
            .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#)
    });
    let e = resolve(&client(), &fake.reference("x")).unwrap_err();
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.to_string().contains("rate limit is reached") && e.to_string().contains("pull rate limit"), "{e}");
    assert!(e.first_hint().unwrap().starts_with("wait 3600 seconds"));
}

#[test]
fn a_registry_that_is_broken_for_a_moment_is_asked_again() {
    let fake = Fake::start(|_, n| match n {
        0 => Reply::new(503),
        // Lost before the first byte of the answer's body, and in the middle.
        1 => Reply::ok("{}").cut(0),
        2 => Reply::ok("{}").cut(1),
        _ => Reply::ok(r#"{"tags":["1"]}"#),
    });
    assert_eq!(tags(&client(), &fake.reference("x")).unwrap(), ["1"]);
    let fake = Fake::start(|_, _| Reply::new(502).body("<html>"));
    let e = tags(&client(), &fake.reference("x")).unwrap_err();
    assert_eq!((e.kind(), fake.seen().len()), (Kind::Unavailable, 3));
}

#[test]
fn tags_come_in_pages() {
    let fake = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/a/tags/list" => {
            Reply::ok(r#"{"name":"a","tags":["1","2"]}"#).header("Link", "</v2/a/tags/list?last=2&n=2>; rel=\"next\"")
        }
        "/v2/a/tags/list?last=2&n=2" => Reply::ok(r#"{"name":"a","tags":["3"]}"#),
        _ => Reply::ok(r#"{"name":"b","tags":null}"#),
    });
    assert_eq!(tags(&client(), &fake.reference("a")).unwrap(), ["1", "2", "3"]);
    assert!(tags(&client(), &fake.reference("b")).unwrap().is_empty());
}

#[test]
fn a_proxy_gets_whole_addresses_and_its_password_and_nobody_elses() {
    let proxy = Fake::start(|_, _| Reply::manifest(media::INDEX, INDEX));
    let fake = Fake::start(|_, _| Reply::new(307).header("Location", "http://storage.example/m?sig=1"));
    let proxies = Proxies { http: Some(format!("http://u:p@{}", proxy.address)), ..Proxies::default() };
    let found = resolve(&Client::new(Options { proxies, ..quick() }).unwrap(), &fake.reference("x")).unwrap();
    assert_eq!(found.digest, Digest::of(INDEX));
    assert_eq!(fake.seen()[0].header("proxy-authorization"), None);
    let seen = &proxy.seen()[0];
    assert_eq!(seen.target, "http://storage.example/m?sig=1");
    assert_eq!(seen.header("proxy-authorization"), Some("Basic dTpw"));
}
