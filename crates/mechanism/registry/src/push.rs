//! From an image in the store to a registry.

use crate::client::Client;
use crate::http;
use crate::session::{Access, Call, Session};
use crate::upload::upload;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tare_model::image::{Descriptor, Manifest, ManifestOrIndex};
use tare_model::{Context, Error, Kind, Reference, Result};
use tare_store::{Event, Image, Lease, Progress, Store};

/// Sends an image under this name, byte for byte as it is in the store: blobs that the registry lacks, then the config,
/// then the manifest. Records the digest under which the registry has it, and returns it.
///
/// # Errors
/// `Kind::Denied`, `Kind::Unavailable`, each with a hint; `Kind::Invalid` for a reference whose digest is another one;
/// `Kind::NotFound` or `Kind::Corrupt` where the store lacks a blob of it.
pub fn push(
    client: &Client,
    store: &Store,
    image: &Image,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    send(client, store, image, reference, progress).during("push", reference)
}

fn send(
    client: &Client,
    store: &Store,
    image: &Image,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    let lease = store.lease()?;
    let sent = send_held(client, store, &lease, image, reference, progress);
    // With what had to be compressed again for it.
    let ended = store.end_lease(lease);
    sent.and_then(|sent| ended.map(|()| sent))
}

fn send_held(
    client: &Client,
    store: &Store,
    lease: &Lease,
    image: &Image,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    if let Some(digest) = reference.digest().filter(|d| *d != image.manifest.digest) {
        return Err(Error::new(Kind::Invalid, "push to digest", digest)
            .because(format!("the image's is {}", image.manifest.digest))
            .hint("push to a tag"));
    }
    let blobs = image.layers.iter().map(|l| l.blob.digest);
    lease.hold(&blobs.chain([image.manifest.digest, image.id]).collect::<Vec<_>>())?;
    let bytes = store.read_blob(&image.manifest.digest, image.manifest.size)?;
    let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(&bytes)? else {
        return Err(Error::new(Kind::Corrupt, "read manifest", image.manifest.digest).because("it is an index"));
    };

    let from = neighbour(image, reference);
    let session = Session::new(&client.http, reference, Access::Push, from.as_slice())?;
    let blobs = Blobs { client, session: &session, store, from, progress };
    match blobs.send_all(&manifest) {
        // What the registry has already need not be here.
        Err(e) if e.kind() == Kind::NotFound && image.layers.iter().any(|l| !store.has_blob(&l.blob.digest)) => {
            let whole = store.with_blobs(lease, image, progress)?;
            if whole.layers == image.layers && image.layers.iter().any(|l| !store.has_blob(&l.blob.digest)) {
                return Err(e);
            }
            return send_held(client, store, lease, &whole, reference, progress);
        }
        sent => sent?,
    }
    let found = client.run(put_manifest(&session, &image.manifest, bytes))?;
    store.add_digest(&image.id, reference, found.digest)?;
    Ok(found)
}

/// Another repository on the same registry that has this image: its blobs need not travel again.
fn neighbour<'a>(image: &'a Image, to: &Reference) -> Option<&'a str> {
    let mut known = image.digests.iter().filter(|r| r.host() == to.host());
    known.find(|r| r.repository() != to.repository()).map(Reference::repository)
}

struct Blobs<'a> {
    client: &'a Client,
    session: &'a Session<'a>,
    store: &'a Store,
    from: Option<&'a str>,
    progress: &'a dyn Progress,
}

impl Blobs<'_> {
    fn send_all(&self, manifest: &Manifest) -> Result<()> {
        let mut seen = HashSet::new();
        let layers: Vec<_> = manifest.layers.iter().filter(|l| seen.insert(l.digest)).collect();
        let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let take = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(e) = self.send(layer) {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                }
            }
        };
        let threads = self.client.http.options.parallel.clamp(1, layers.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(take);
            }
            take();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => self.send(&manifest.config),
        }
    }

    fn send(&self, blob: &Descriptor) -> Result<()> {
        let item = blob.digest.short();
        self.progress.event(&Event::Started { item: &item, verb: "upload", total: Some(blob.size) });
        let open = || self.store.open_blob(&blob.digest);
        let advanced = |bytes| self.progress.event(&Event::Advanced { item: &item, bytes });
        let outcome = upload(self.client, self.session, blob, self.from, &open, &advanced)?;
        self.progress.event(&Event::Finished { item: &item, outcome });
        Ok(())
    }
}

async fn put_manifest(session: &Session<'_>, manifest: &Descriptor, bytes: Vec<u8>) -> Result<Descriptor> {
    let reference = session.reference;
    let name = reference.tag().map_or_else(|| manifest.digest.to_string(), str::to_owned);
    let mut call = Call::new("put manifest to", Method::PUT, session.uri(&format!("manifests/{name}"))?);
    call.headers.insert(CONTENT_TYPE, http::header(&manifest.media_type)?);
    call.body = bytes.into();
    let answer = session.expect(&call, &[StatusCode::CREATED, StatusCode::OK]).await?;
    let told = http::text(answer.response.headers(), "docker-content-digest").map(str::to_owned);
    if let Some(told) = told.filter(|t| *t != manifest.digest.to_string()) {
        return Err(Error::new(Kind::Corrupt, "put manifest to", &answer.server)
            .because(format!("sent {}, the registry has {told}", manifest.digest)));
    }
    Ok(Descriptor::new(&manifest.media_type, manifest.digest, manifest.size))
}
