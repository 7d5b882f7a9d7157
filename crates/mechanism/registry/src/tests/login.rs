//! Who is shown which credential.

use super::fake::{Fake, Reply, Seen};
use super::quick;
use crate::download::download;
use crate::session::{Access, Session};
use crate::{Client, Credentials, Options, resolve};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_model::image::{Descriptor, media};
use tare_model::{Digest, Kind};

const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;
/// `user:secret`
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn with(config: String) -> Client {
    Client::new(Options { credentials: Credentials::parse(&config).unwrap(), ..quick() }).unwrap()
}

fn password(fake: &Fake) -> Client {
    with(format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, fake.address))
}

/// A registry that wants a token from `tokens`; `good` says which.
fn guarded(tokens: &Fake, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Fake {
    let challenge = format!(r#"Bearer realm="{}",service="reg"#, tokens.url("token"));
    Fake::start(move |seen: &Seen, _| match seen.header("authorization").and_then(|a| a.strip_prefix("Bearer ")) {
        Some(token) if good(token) => Reply::manifest(media::INDEX, INDEX),
        _ => Reply::new(401)
            .header("WWW-Authenticate", format!(r#"{challenge}",scope="repository:a/b:pull""#))
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#),
    })
}

#[test]
fn a_token_is_fetched_with_the_password_once_and_only_the_token_is_shown() {
    let tokens = Fake::start(|_, _| Reply::ok(r#"{"token":"t1","expires_in":300}"#));
    let fake = guarded(&tokens, |t| t == "t1");
    let client = password(&fake);
    for _ in 0..2 {
        resolve(&client, &fake.reference("a/b")).unwrap();
    }
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    assert_eq!(asked[0].target, "/token?service=reg&scope=repository%3Aa%2Fb%3Apull&account=user");
    assert!(fake.seen().iter().all(|s| s.header("authorization") != Some(BASIC)));
}

#[test]
fn an_anonymous_token_needs_no_credentials() {
    let tokens = Fake::start(|_, _| Reply::ok(r#"{"access_token":"t1"}"#));
    let fake = guarded(&tokens, |t| t == "t1");
    resolve(&Client::new(quick()).unwrap(), &fake.reference("a/b")).unwrap();
    assert_eq!(tokens.seen()[0].header("authorization"), None);
}

#[test]
fn a_refused_token_is_replaced_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let n = count.clone();
    let tokens = Fake::start(move |_, _| {
        Reply::ok(format!(r#"{{"token":"t{}","expires_in":300}}"#, n.fetch_add(1, Ordering::Relaxed)))
    });
    let fake = guarded(&tokens, |t| t == "t1");
    let client = Client::new(quick()).unwrap();
    assert_eq!(resolve(&client, &fake.reference("a/b")).unwrap().digest, Digest::of(INDEX));
    assert_eq!(fake.seen().len(), 3);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let never = guarded(&tokens, |_| false);
    let e = resolve(&client, &never.reference("a/b")).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    assert!(e.to_string().contains("authentication required"), "{e}");
}

#[test]
fn an_identity_token_is_exchanged_in_a_form() {
    let tokens = Fake::start(|_, _| Reply::ok(r#"{"access_token":"t1"}"#));
    let fake = guarded(&tokens, |t| t == "t1");
    let client = with(format!(r#"{{"auths":{{"{}":{{"identitytoken":"id/1"}}}}}}"#, fake.address));
    resolve(&client, &fake.reference("a/b")).unwrap();
    let asked = &tokens.seen()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "grant_type=refresh_token&service=reg&client_id=tare&scope=repository%3Aa%2Fb%3Apull&refresh_token=id%2F1"
    );
}

#[test]
fn a_token_server_that_refuses_is_quoted() {
    let tokens = Fake::start(|_, _| Reply::new(401).body(r#"{"details":"incorrect username or password"}"#));
    let fake = guarded(&tokens, |_| true);
    let e = resolve(&password(&fake), &fake.reference("a/b")).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    assert!(e.to_string().contains(&format!("get token from {}", tokens.address)), "{e}");
    assert!(e.to_string().contains("incorrect username or password"), "{e}");
    assert!(e.first_hint().unwrap().contains(&format!("docker login {}", fake.address)));
}

#[test]
fn basic_challenges_are_answered_or_explained() {
    let fake = Fake::start(|seen, _| match seen.header("authorization") {
        Some(BASIC) => Reply::manifest(media::INDEX, INDEX),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    });
    resolve(&password(&fake), &fake.reference("x")).unwrap();
    assert_eq!(fake.seen().len(), 2);

    let e = resolve(&Client::new(quick()).unwrap(), &fake.reference("x")).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    assert!(e.first_hint().unwrap().contains(&format!("docker login {}", fake.address)));

    let helper = with(format!(r#"{{"credHelpers":{{"{}":"vault"}}}}"#, fake.address));
    let e = resolve(&helper, &fake.reference("x")).unwrap_err();
    assert!(e.first_hint().unwrap().contains("docker-credential-vault"), "{e:?}");

    let wrong = Options {
        credentials: Credentials::default().with_password(&fake.address.to_string(), "user", "wrong"),
        ..quick()
    };
    let before = fake.seen().len();
    let e = resolve(&Client::new(wrong).unwrap(), &fake.reference("x")).unwrap_err();
    assert!(e.first_hint().unwrap().contains("check that the user"), "{e:?}");
    // HEAD and GET, each without and with the password: it is not tried over and over.
    assert!(fake.seen().len() - before <= 4);
}

#[test]
fn a_redirect_takes_no_credentials_along() {
    let content = b"content".to_vec();
    let blob = Descriptor::new(media::LAYER, Digest::of(&content), content.len() as u64);
    let storage = {
        let content = content.clone();
        Fake::start(move |seen, _| Reply::range(seen, &content))
    };
    let target = storage.url("bucket/blob?sig=x");
    let fake = Fake::start(move |seen, _| match seen.header("authorization") {
        Some(BASIC) if seen.target.ends_with("/here") => Reply::new(302).header("Location", &target),
        Some(BASIC) => Reply::new(307).header("Location", "/v2/x/here"),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let (client, reference) = (password(&fake), fake.reference("x"));
    let session = Session::new(&client.http, &reference, Access::Pull, &[]).unwrap();
    let mut got = Vec::new();
    let mut take = |data: hyper::body::Bytes| {
        got.extend_from_slice(&data);
        Ok(())
    };
    client.run(download(&session, &blob, 0, &mut take)).unwrap();
    assert_eq!(got, content);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    // Within the registry the redirect keeps them.
    assert_eq!(fake.seen().last().unwrap().header("authorization"), Some(BASIC));
}

#[test]
fn redirects_end() {
    let fake = Fake::start(|_, _| Reply::new(302).header("Location", "/v2/again"));
    let e = resolve(&Client::new(quick()).unwrap(), &fake.reference("x")).unwrap_err();
    assert!(e.to_string().contains("redirects more than 10 times"), "{e}");
}

#[test]
fn a_password_goes_to_no_token_server_in_the_clear() {
    let fake = Fake::start(|_, _| {
        Reply::new(401).header("WWW-Authenticate", r#"Bearer realm="http://tokens.example/t",service="s""#)
    });
    let e = resolve(&password(&fake), &fake.reference("x")).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    assert!(e.to_string().contains("without HTTPS"), "{e}");
}
