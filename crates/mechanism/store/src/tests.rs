//! On a real disk, with real processes.

use crate::db::boot_id;
use crate::layer::Unpacked;
use crate::{AddressRequest, Durability, ImageLayer, Lease, NewContainer, NewImage, Store, VolumeSpec, address};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tare_model::image::{Descriptor, ImageConfig, RootFs, media};
use tare_model::{Digest, Kind, Reference, Result};

mod archives;
mod concurrent;
mod images;
mod killed;
mod networks;
mod property;
mod repair;
mod state;
mod verify;

/// A root directory that goes with the test.
pub(crate) struct Root {
    dir: PathBuf,
    pub(crate) store: Store,
}

impl Root {
    pub(crate) fn new() -> Root {
        let dir = std::env::temp_dir().join(format!("tare-store-{}", &crate::random_hex().unwrap()[..16]));
        Root { store: Store::open(&dir).unwrap(), dir }
    }

    pub(crate) fn reopen(&self) -> Store {
        Store::open(&self.dir).unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Store {
    /// Leases one more address for a container that is there.
    fn lease_address(&self, container: &str, request: &AddressRequest) -> Result<IpAddr> {
        let boot = boot_id()?;
        self.write(Durability::Lazy, |tx| {
            crate::rows::require_container(tx, container)?;
            address::purge(tx, &boot)?;
            address::lease(tx, container, request)
        })
    }
}

/// A layer of one file, unpacked by hand, and its blob (which need not be a tar archive here).
pub(crate) fn layer(lease: &Lease, content: &str) -> ImageLayer {
    let diff_id = Digest::of(content.as_bytes());
    let draft = lease.layer().unwrap();
    std::fs::write(draft.tree().join("file"), content).unwrap();
    draft.publish(&Unpacked { diff_id, size: content.len() as u64, entries: 1, index: None }).unwrap();
    let mut blob = lease.blob().unwrap();
    write!(blob, "blob of {content}").unwrap();
    let (digest, size) = blob.commit(None).unwrap();
    ImageLayer { diff_id, blob: Descriptor::new(media::LAYER_GZIP, digest, size) }
}

pub(crate) fn image(store: &Store, layers: &[&str], names: &[&str]) -> crate::Image {
    let lease = store.lease().unwrap();
    let layers: Vec<_> = layers.iter().map(|c| layer(&lease, c)).collect();
    let config = ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootFs { diff_ids: layers.iter().map(|l| l.diff_id).collect(), ..RootFs::default() },
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = serde_json::to_vec(&crate::image::manifest_of(&config, &layers)).unwrap();
    let names: Vec<Reference> = names.iter().map(|n| n.parse().unwrap()).collect();
    let new =
        NewImage { manifest: &manifest, media_type: media::MANIFEST, config: &config, layers: &layers, names: &names };
    store.put_image(&lease, &new).unwrap()
}

pub(crate) fn container<'a>(id: &'a str, name: Option<&'a str>) -> NewContainer<'a> {
    NewContainer {
        id,
        name,
        image: None,
        layers: &[],
        created: crate::now(),
        networks: &[],
        addresses: &[],
        volumes: &[],
        durability: Durability::Lazy,
    }
}

pub(crate) fn pool(cidr: &str) -> AddressRequest {
    AddressRequest { network: "net".into(), pool: cidr.parse().unwrap(), range: None, exclude: vec![], wanted: None }
}

/// Runs this test binary again with `role` as its only test; the environment is inherited.
pub(crate) fn child(role: &str, root: &std::path::Path, argument: &str) -> std::process::Child {
    #[expect(clippy::disallowed_methods, reason = "the test needs other processes")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("TARE_TEST_ROOT", root)
        .env("TARE_TEST_ARGUMENT", argument)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .spawn()
        .unwrap()
}

/// In a child: the store and the argument that `child` gave; `None` when somebody runs all ignored tests by hand.
pub(crate) fn in_child() -> Option<(Store, String)> {
    let root = std::env::var_os("TARE_TEST_ROOT")?;
    let argument = std::env::var_os("TARE_TEST_ARGUMENT")?.into_string().ok()?;
    Some((Store::open(std::path::Path::new(&root)).unwrap(), argument))
}

/// Nothing is broken and, after a collection, nothing is left over.
pub(crate) fn assert_sound(store: &Store) {
    let broken: Vec<_> = store.check(true).unwrap().into_iter().filter(|f| !f.collectable).collect();
    assert_eq!(broken, []);
    store.gc().unwrap();
    assert_eq!(store.check(true).unwrap(), []);
}

#[test]
fn relative_roots_are_refused() {
    assert_eq!(Store::open(std::path::Path::new("x")).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn a_container_and_its_volume_survive_reopening() {
    let root = Root::new();
    let (volume, made) =
        root.store.volume_create(&VolumeSpec { name: Some("data".into()), ..Default::default() }).unwrap();
    assert!(made && volume.path.is_dir());
    let id = Store::new_id().unwrap();
    let volumes = ["data".to_owned()];
    root.store.reserve_container(&NewContainer { volumes: &volumes, ..container(&id, Some("web")) }).unwrap();
    let store = root.reopen();
    assert_eq!(store.container("web").unwrap().volumes, volumes);
    assert_sound(&store);
}

/// Not an assertion about time but a record of it:
/// `cargo nextest run --release -p tare-store --run-ignored all measure --no-capture`. But where it says so no other
/// process has the store open, so each opening reads the log, as on an idle host.
#[test]
#[ignore = "a measurement"]
fn measure_opening_reading_and_writing() {
    let root = Root::new();
    image(&root.reopen(), &["a", "b", "c", "d", "e", "f", "g", "h"], &["debian:12"]);
    time("open, read image, close", &mut || drop(root.reopen().image("debian:12").unwrap()));
    let mut current = String::new();
    let reserve = |store: &Store, durability| {
        let image = store.image("debian:12").unwrap();
        let (id, layers) = (Store::new_id().unwrap(), image.diff_ids());
        let addresses = [pool("10.9.0.0/16")];
        let new = NewContainer {
            layers: &layers,
            addresses: &addresses,
            image: Some(image.id),
            durability,
            ..container(&id, None)
        };
        store.reserve_container(&new).unwrap();
        id
    };
    let mut took = [vec![], vec![], vec![]];
    for _ in 0..301 {
        let start = Instant::now();
        let id = reserve(&root.reopen(), Durability::Lazy);
        took[0].push(start.elapsed());
        let start = Instant::now();
        root.reopen().release_container(&id, Durability::Lazy).unwrap();
        took[1].push(start.elapsed());
        let start = Instant::now();
        let store = root.reopen();
        store.remove_container_dir(&id).unwrap();
        store.release_addresses(&id).unwrap();
        drop(store);
        took[2].push(start.elapsed());
    }
    let [reserved, released, removed] = took;
    report("open, read image, reserve (lazy), close", reserved);
    report("open, release (lazy), close: nobody waits", released);
    report("open, remove directory, release address, close: nobody waits", removed);
    time("open, read image, reserve (durable), close", &mut || current = reserve(&root.reopen(), Durability::Durable));
    let store = root.reopen();
    time("read image, store open", &mut || drop(store.image("debian:12").unwrap()));
    time("list 301 containers, store open", &mut || drop(store.containers().unwrap()));
}

fn time(what: &str, f: &mut dyn FnMut()) {
    let mut once = || {
        let start = Instant::now();
        f();
        start.elapsed()
    };
    report(what, (0..301).map(|_| once()).collect());
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let us = |part: usize| took[took.len() * part / 100].as_micros();
    println!("{what}: median {} µs, p90 {} µs, p99 {} µs", us(50), us(90), us(99));
}
