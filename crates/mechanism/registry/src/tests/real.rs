//! Whole images from and to docker-registry, checked by skopeo.

use super::docker_registry::Registry;
use super::images::{Entry, TestImage, image, noise, tar, write_layout};
use super::{client, quick};
use crate::{Client, Credentials, Options, Proxies, PullOptions, pull, push, resolve, tags};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use tare_model::image::Platform;
use tare_model::{Digest, Kind, Reference};
use tare_store::{Event, Progress, Silent, Store};
use tempfile::TempDir;

/// What became of each item, and the bytes that it moved.
#[derive(Default)]
struct Record(Mutex<BTreeMap<String, (u64, &'static str)>>);

impl Progress for Record {
    fn event(&self, event: &Event<'_>) {
        let mut all = self.0.lock().unwrap();
        match *event {
            Event::Started { item, .. } => drop(all.entry(item.to_owned()).or_default()),
            Event::Advanced { item, bytes } => all.entry(item.to_owned()).or_default().0 += bytes,
            Event::Finished { item, outcome } => all.entry(item.to_owned()).or_default().1 = outcome,
        }
    }
}

impl Record {
    fn outcomes(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().values().map(|(_, outcome)| *outcome).collect()
    }
}

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// Four layers in three compressions; the last one links to a file of the first.
fn sample() -> TestImage {
    image(
        "amd64",
        &[
            tar(&[Entry::File("base", b"base"), Entry::File("big", &noise(1, 3_000_000))]),
            tar(&[Entry::File("big2", &noise(2, 2_000_000))]),
            tar(&[Entry::File("plain", &noise(3, 700_000))]),
            tar(&[Entry::Hardlink("link", "base"), Entry::File("top", b"top")]),
        ],
    )
}

/// Pushes an index of two platforms as `NAME:1`; returns its digest and the image for amd64.
fn serve(registry: &Registry, name: &str, credentials: Option<&str>) -> (Digest, TestImage) {
    let (layout, amd64) = (TempDir::new().unwrap(), sample());
    let arm64 = image("arm64", &[tar(&[Entry::File("arm", b"x")])]);
    let images = [(platform("linux/arm64/v8"), arm64), (platform("linux/amd64"), amd64.clone())];
    let index = write_layout(layout.path(), &images);
    registry.push_layout(layout.path(), &format!("{name}:1"), credentials);
    (index, amd64)
}

#[test]
fn an_image_keeps_its_digest_from_registry_to_store_to_registry_to_store() {
    let registry = Registry::start();
    let (index, amd64) = serve(&registry, "team/app", None);
    let (_dir, first) = store();
    let (client, name, record) = (client(), registry.reference("team/app:1"), Record::default());

    let pulled = pull(&client, &first, &name, &PullOptions::default(), &record).unwrap();
    assert_eq!(pulled.manifest.digest, amd64.manifest.descriptor.digest);
    assert_eq!(pulled.id, amd64.config.descriptor.digest);
    assert_eq!(pulled.digests, [name.with_digest(index)]);
    assert_eq!(pulled.names, std::slice::from_ref(&name));
    for (layer, (bytes, outcome)) in
        amd64.layers.iter().map(|l| (l, *record.0.lock().unwrap().get(&l.descriptor.digest.short()).unwrap()))
    {
        assert_eq!((bytes, outcome), (layer.descriptor.size, "done"));
        assert!(first.read_blob(&layer.descriptor.digest, 1 << 30).unwrap() == layer.bytes);
    }
    let at = |i: usize| first.placed(&pulled.layers[i].diff_id).unwrap().path;
    assert!(std::fs::read(at(0).join("big")).unwrap() == noise(1, 3_000_000));
    assert_eq!(std::fs::read(at(3).join("link")).unwrap(), b"base");
    assert_eq!(std::fs::metadata(at(2).join("plain")).unwrap().size(), 700_000);

    // To a neighbour: the blobs are mounted; again: they are there; elsewhere: they are sent.
    let other = registry.reference("other/app:2");
    let record = Record::default();
    let sent = push(&client, &first, &pulled, &other, &record).unwrap();
    assert_eq!(sent.digest, amd64.manifest.descriptor.digest);
    assert_eq!(record.outcomes(), ["mounted"; 5]);
    let record = Record::default();
    push(&client, &first, &pulled, &other, &record).unwrap();
    assert_eq!(record.outcomes(), ["exists"; 5]);
    let elsewhere = Registry::start();
    let record = Record::default();
    push(&client, &first, &pulled, &elsewhere.reference("app:3"), &record).unwrap();
    assert_eq!(record.outcomes(), ["done"; 5]);
    for raw in [registry.inspect_raw("other/app:2"), elsewhere.inspect_raw("app:3")] {
        assert!(raw == amd64.manifest.bytes);
    }
    let known = first.image(&pulled.id.to_string()).unwrap().digests;
    assert!(known.contains(&elsewhere.reference("app:3").with_digest(sent.digest)), "{known:?}");

    let (_dir, second) = store();
    let by_digest = elsewhere.reference("app").with_digest(sent.digest);
    let again = pull(&client, &second, &by_digest, &PullOptions::default(), &Silent).unwrap();
    assert_eq!((again.id, again.manifest.digest), (pulled.id, pulled.manifest.digest));
    assert_eq!((again.names, again.digests), (vec![], vec![by_digest]));
    assert_eq!(std::fs::read(second.placed(&again.layers[3].diff_id).unwrap().path.join("top")).unwrap(), b"top");
    assert_eq!(tags(&client, &other).unwrap(), ["2"]);
    assert_eq!(resolve(&client, &name).unwrap().digest, index);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let registry = Registry::start();
    serve(&registry, "app", None);
    let (_dir, store) = store();
    let (client, name) = (client(), registry.reference("app:1"));
    pull(&client, &store, &name, &PullOptions::default(), &Silent).unwrap();
    let record = Record::default();
    pull(&client, &store, &name, &PullOptions::default(), &record).unwrap();
    assert_eq!(record.outcomes(), ["exists"; 4]);

    // A second image that shares three layers costs only the fourth.
    let mut tars = vec![
        tar(&[Entry::File("base", b"base"), Entry::File("big", &noise(1, 3_000_000))]),
        tar(&[Entry::File("big2", &noise(2, 2_000_000))]),
        tar(&[Entry::File("plain", &noise(3, 700_000))]),
    ];
    tars.push(tar(&[Entry::File("new", b"new")]));
    tars.push(tars[3].clone());
    let layout = TempDir::new().unwrap();
    write_layout(layout.path(), &[(platform("linux/amd64"), image("amd64", &tars))]);
    registry.push_layout(layout.path(), "app:2", None);
    let record = Record::default();
    let image = pull(&client, &store, &registry.reference("app:2"), &PullOptions::default(), &record).unwrap();
    assert_eq!(image.layers.len(), 5);
    let moved: u64 = record.0.lock().unwrap().values().map(|(bytes, _)| bytes).sum();
    assert!(moved < 5000, "{moved}");
}

#[test]
fn the_platform_is_chosen_and_others_are_named() {
    let registry = Registry::start();
    serve(&registry, "app", None);
    let (_dir, store) = store();
    let (client, name) = (client(), registry.reference("app:1"));
    let on = |text: &str| PullOptions { platform: Some(platform(text)) };
    let image = pull(&client, &store, &name, &on("linux/arm64"), &Silent).unwrap();
    assert_eq!((image.config.architecture.as_str(), image.layers.len()), ("arm64", 1));
    let e = pull(&client, &store, &name, &on("linux/s390x"), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.to_string().contains("linux/s390x: the image is there for linux/arm64/v8, linux/amd64"), "{e}");
    let single = name.with_digest(image.manifest.digest);
    let e = pull(&client, &store, &single, &on("linux/amd64"), &Silent).unwrap_err();
    assert!(e.to_string().contains("linux/arm64 only"), "{e}");
}

#[test]
fn a_password_opens_a_private_registry_in_both_directions() {
    let registry = Registry::with_password();
    serve(&registry, "app", Some("user:secret"));
    let (_dir, store) = store();
    let name = registry.reference("app:1");
    let login = |password: &str| {
        let credentials = Credentials::default().with_password(&registry.address.to_string(), "user", password);
        Client::new(Options { credentials, ..quick() }).unwrap()
    };
    let e = pull(&client(), &store, &name, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    assert!(e.to_string().contains("401") && e.first_hint().unwrap().contains("docker login"), "{e:?}");
    let e = pull(&login("wrong"), &store, &name, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    let image = pull(&login("secret"), &store, &name, &PullOptions::default(), &Silent).unwrap();
    push(&login("secret"), &store, &image, &registry.reference("copy:1"), &Silent).unwrap();
    let e = push(&client(), &store, &image, &registry.reference("copy:2"), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::Denied);
    let e =
        pull(&login("secret"), &store, &registry.reference("app:none"), &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.to_string().contains("manifest unknown"), "{e}");
}

/// Options for a registry that calls itself `registry.test`.
fn named(registry: &Registry) -> (Options, Reference) {
    let hosts = registry.dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 registry.test\n").unwrap();
    let name = format!("registry.test:{}/app:1", registry.address.port()).parse().unwrap();
    (Options { hosts, ca_bundles: Vec::new(), ..quick() }, name)
}

#[test]
fn https_needs_an_authority_that_is_trusted() {
    let registry = Registry::with_tls();
    let (options, name) = named(&registry);
    let e = resolve(&Client::new(options.clone()).unwrap(), &name).unwrap_err();
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.to_string().contains("TLS") && e.first_hint().unwrap().contains("certificate authority"), "{e:?}");

    let ca = std::fs::read(registry.dir.path().join("ca.pem")).unwrap();
    let trusting = Options { extra_ca: ca, ..options.clone() };
    let e = resolve(&Client::new(trusting).unwrap(), &name).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound, "{e}");
    let bundle = Options { ca_bundles: vec![registry.dir.path().join("ca.pem")], ..options };
    assert_eq!(resolve(&Client::new(bundle).unwrap(), &name).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(Client::new(Options { extra_ca: b"x".to_vec(), ..quick() }).unwrap_err().kind(), Kind::Invalid);

    let plain = Registry::start();
    let (options, name) = named(&plain);
    let e = resolve(&Client::new(options).unwrap(), &name).unwrap_err();
    assert!(e.first_hint().unwrap().contains("does not speak TLS"), "{e:?}");
}

#[test]
fn https_goes_through_a_proxys_tunnel() {
    let registry = Registry::with_tls();
    let (options, name) = named(&registry);
    let (proxy, asked) = tunnel(registry.address);
    let options = Options {
        extra_ca: std::fs::read(registry.dir.path().join("ca.pem")).unwrap(),
        // The proxy resolves names, not we.
        hosts: "/nonexistent".into(),
        proxies: Proxies { https: Some(format!("http://u:p@{proxy}")), ..Proxies::default() },
        ..options
    };
    assert_eq!(resolve(&Client::new(options).unwrap(), &name).unwrap_err().kind(), Kind::NotFound);
    let head = asked.recv().unwrap();
    assert!(head.starts_with(&format!("CONNECT registry.test:{} HTTP/1.1\r\n", registry.address.port())), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dTpw\r\n"), "{head}");
}

/// A proxy that connects whoever asks with `to`, and tells what it was asked.
fn tunnel(to: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut client, &mut byte).unwrap();
                head.push(byte[0]);
            }
            tell.send(String::from_utf8(head).unwrap()).unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let server = TcpStream::connect(to).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, asked)
}
