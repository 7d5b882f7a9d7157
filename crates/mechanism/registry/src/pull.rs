//! From a reference to an image in the store.

use crate::client::Client;
use crate::download::download;
use crate::manifest::{self, Chosen};
use crate::pipe::{Sender, pipe};
use crate::session::{Access, Session};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use tare_model::image::{Compression, Descriptor, ImageConfig, Manifest, Platform, media};
use tare_model::{Context, Digest, Error, Kind, Reference, Result};
use tare_store::layer::{Below, UnpackLimits, Unpacked};
use tare_store::{Event, Image, ImageLayer, LayerDraft, Lease, NewImage, Progress, Store};

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which image of an index; the host's own platform if not given. If given, an image without an index must fit, too.
    pub platform: Option<Platform>,
}

/// Fetches an image: what the store has already is not fetched again. Durable when it returns.
///
/// # Errors
/// `Kind::NotFound` (no such image; no such platform, with those there are), `Kind::Denied`, `Kind::Unavailable`, each
/// with a hint; `Kind::Corrupt` where content contradicts its digest, size or description; what the store gives.
pub fn pull(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    fetch(client, store, reference, options, progress).during("pull", reference)
}

fn fetch(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let session = Session::new(&client.http, reference, Access::Pull, &[])?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let limits = store.limits();
    let chosen = client.run(manifest::choose(&session, &platform, limits))?;
    check_kind(&chosen.manifest)?;
    limits.check_layers(chosen.manifest.layers.iter().map(|l| l.size))?;

    store.leased(|lease| fetch_under(lease, client, &session, &chosen, (reference, &platform), options, progress))
}

/// The rest, under a lease: `wanted` is what was asked for.
fn fetch_under(
    lease: &Lease,
    client: &Client,
    session: &Session<'_>,
    chosen: &Chosen,
    wanted: (&Reference, &Platform),
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let (store, (reference, platform)) = (lease.store(), wanted);
    let config_bytes = config(client, session, lease, &chosen.manifest.config)?;
    let config: ImageConfig = serde_json::from_slice(&config_bytes)
        .map_err(|e| Error::new(Kind::Invalid, "read image config", chosen.manifest.config.digest).because(e))?;
    if options.platform.is_some() && !config.architecture.is_empty() && !config.platform().runs_on(platform) {
        return Err(Error::new(Kind::NotFound, "choose platform", platform)
            .because(format!("the image is there for {} only", config.platform()))
            .hint("leave out --platform, or choose another image"));
    }
    let layers = pair_layers(&chosen.manifest, &config)?;
    lease.hold(&layers.iter().flat_map(|l| [l.blob.digest, l.diff_id]).collect::<Vec<_>>())?;

    Work::new(client, session, lease, &layers, &store.limits().layer, progress).run()?;
    let Chosen { bytes, descriptor, top, .. } = chosen;
    store.put_image(
        lease,
        &NewImage {
            manifest: bytes,
            media_type: &descriptor.media_type,
            config: &config_bytes,
            layers: &layers,
            names: &names(reference, top.digest),
        },
    )
}

/// The tag (docker leaves it out if there is a digest as well), and the digest that the registry has it under.
fn names(reference: &Reference, top: Digest) -> Vec<Reference> {
    let by_digest = reference.with_digest(top);
    if reference.digest().is_some() { vec![by_digest] } else { vec![reference.clone(), by_digest] }
}

/// Refuses what is no container image before anything of it is fetched.
fn check_kind(manifest: &Manifest) -> Result<()> {
    let kind = manifest.config.media_type.as_str();
    if !matches!(kind, media::CONFIG | media::DOCKER_CONFIG) {
        return Err(Error::new(Kind::Unsupported, "read manifest", "")
            .because(format!("it describes {kind:?}, not a container image")));
    }
    manifest.layers.iter().try_for_each(|l| Compression::of_media_type(&l.media_type).map(drop))
}

/// Layer descriptors with the diff IDs that the config promises for them.
fn pair_layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<ImageLayer>> {
    let (blobs, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if blobs.len() != diff_ids.len() {
        return Err(Error::new(Kind::Corrupt, "read image config", manifest.config.digest).because(format!(
            "it lists {} layers, the manifest {}",
            diff_ids.len(),
            blobs.len()
        )));
    }
    let pair = |(blob, diff_id): (&Descriptor, &Digest)| ImageLayer { diff_id: *diff_id, blob: blob.clone() };
    Ok(blobs.iter().zip(diff_ids).map(pair).collect())
}

fn config(client: &Client, session: &Session<'_>, lease: &Lease, blob: &Descriptor) -> Result<Vec<u8>> {
    lease.store().limits().check_config(blob.size)?;
    lease.hold(&[blob.digest])?;
    // Verified; one that is damaged here is fetched anew.
    if let Ok(bytes) = lease.store().read_blob(&blob.digest, blob.size) {
        return Ok(bytes);
    }
    let mut bytes = Vec::new();
    client.run(download(session, blob, &mut |data| {
        bytes.extend_from_slice(&data);
        Ok(())
    }))?;
    let found = Digest::of(&bytes);
    if found != blob.digest {
        return Err(Error::new(Kind::Corrupt, "fetch image config", blob.digest).because(format!("received {found}")));
    }
    Ok(bytes)
}

/// All layers of one pull, spread over some threads.
struct Work<'a> {
    client: &'a Client,
    session: &'a Session<'a>,
    lease: &'a Lease,
    layers: &'a [ImageLayer],
    limits: &'a UnpackLimits,
    progress: &'a dyn Progress,
    /// Indexes into `layers`, ascending; a layer that occurs twice is here once.
    jobs: Vec<usize>,
    next: AtomicUsize,
    /// Something failed: all others end soon.
    stop: AtomicBool,
    state: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Default)]
struct Outcome {
    /// Positions in `jobs` whose layer is in place.
    done: HashSet<usize>,
    failure: Option<Error>,
}

impl<'a> Work<'a> {
    fn new(
        client: &'a Client,
        session: &'a Session<'a>,
        lease: &'a Lease,
        layers: &'a [ImageLayer],
        limits: &'a UnpackLimits,
        progress: &'a dyn Progress,
    ) -> Self {
        let mut seen = HashSet::new();
        let jobs = (0..layers.len()).filter(|i| seen.insert((layers[*i].blob.digest, layers[*i].diff_id))).collect();
        Work {
            client,
            session,
            lease,
            layers,
            limits,
            progress,
            jobs,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn run(self) -> Result<()> {
        let threads = self.client.http.options.parallel.clamp(1, self.jobs.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| self.take_jobs());
            }
            self.take_jobs();
        });
        match self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// Jobs are taken bottom layer first, so whoever waits for a layer below waits for one that is being worked on.
    fn take_jobs(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let position = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&index) = self.jobs.get(position) else { return };
            let result = self.layer(position, &self.layers[index]);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => drop(state.done.insert(position)),
                Err(e) => {
                    self.stop.store(true, Ordering::Relaxed);
                    // Those that were told to stop have nothing to say.
                    if state.failure.as_ref().is_none_or(|f| f.kind() == Kind::Cancelled) {
                        state.failure = Some(e);
                    }
                }
            }
            self.changed.notify_all();
        }
    }

    fn layer(&self, position: usize, layer: &ImageLayer) -> Result<()> {
        let store = self.lease.store();
        let item = layer.blob.digest.short();
        let start = |verb| {
            self.progress.event(&Event::Started { item: &item, verb, total: Some(layer.blob.size) });
        };
        let outcome = match (
            store.has_blob(&layer.blob.digest) || store.does_without(&layer.diff_id)?,
            store.has_layer(&layer.diff_id)?,
        ) {
            (true, true) => {
                start("download");
                "exists"
            }
            (true, false) => {
                start("unpack");
                let file = store.open_blob(&layer.blob.digest)?;
                let mut draft = self.lease.layer()?;
                let reader = Counted { inner: file, item: &item, progress: self.progress, stop: &self.stop };
                let unpacked = self.unpack(position, layer, &mut draft, reader)?;
                draft.publish(&unpacked)?;
                "done"
            }
            (false, true) => {
                start("download");
                self.receive(layer, None, &AtomicBool::new(false))?;
                "done"
            }
            (false, false) => {
                start("download");
                self.receive_and_unpack(position, layer)?;
                "done"
            }
        };
        self.progress.event(&Event::Finished { item: &item, outcome });
        Ok(())
    }

    fn receive_and_unpack(&self, position: usize, layer: &ImageLayer) -> Result<()> {
        let mut draft = self.lease.layer()?;
        let (sender, reader) = pipe();
        let abandoned = AtomicBool::new(false);
        let (received, unpacked) = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(layer, Some(sender), &abandoned));
            let unpacked = self.unpack(position, layer, &mut draft, reader);
            // Damaged content is most often a damaged transfer: let the digest tell. Anything else is final.
            if unpacked.as_ref().is_err_and(|e| e.kind() != Kind::Corrupt) {
                abandoned.store(true, Ordering::Relaxed);
            }
            (receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), unpacked)
        });
        match (received, unpacked) {
            (Ok(()), Ok(unpacked)) => draft.publish(&unpacked),
            (Ok(()), Err(e)) => Err(e),
            (Err(e), Err(reason)) if e.kind() == Kind::Cancelled => Err(reason),
            (Err(e), _) => Err(e),
        }
    }

    /// Fetches a blob into the store, and hands it on.
    fn receive(&self, layer: &ImageLayer, mut to: Option<Sender>, abandoned: &AtomicBool) -> Result<()> {
        let item = layer.blob.digest.short();
        let mut blob = self.lease.blob()?;
        self.client.run(download(self.session, &layer.blob, &mut |data| {
            if self.stop.load(Ordering::Relaxed) || abandoned.load(Ordering::Relaxed) {
                return Err(Error::new(Kind::Cancelled, "fetch", &item));
            }
            blob.write_all(&data).during("write blob", layer.blob.digest)?;
            self.progress.event(&Event::Advanced { item: &item, bytes: data.len() as u64 });
            if to.as_mut().is_some_and(|sender| sender.send(data).is_err()) {
                to = None;
            }
            Ok(())
        }))?;
        if let Some(sender) = to {
            // A reader that is gone has its own error to report.
            let _ = sender.finish();
        }
        blob.commit(Some(&layer.blob)).map(drop)
    }

    fn unpack(
        &self,
        position: usize,
        layer: &ImageLayer,
        draft: &mut LayerDraft,
        reader: impl Read + Send,
    ) -> Result<Unpacked> {
        let compression = Compression::of_media_type(&layer.blob.media_type)?;
        let below = Box::new(|path: &[u8]| self.find_below(position, path));
        let unpacked =
            draft.unpack(reader, compression, self.limits, below).during("unpack layer", layer.diff_id.short())?;
        if unpacked.diff_id != layer.diff_id {
            return Err(Error::new(Kind::Corrupt, "unpack layer", layer.diff_id)
                .because(format!("the content's diff ID is {}", unpacked.diff_id)));
        }
        Ok(unpacked)
    }

    /// Looks for a hard link's target in the layers below, once they are there.
    fn find_below(&self, position: usize, path: &[u8]) -> Result<Option<Below>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while (0..position).any(|below| !state.done.contains(&below)) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(Kind::Cancelled, "wait for", "the layers below"));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let below: Vec<_> = self.layers[..self.jobs[position]].iter().map(|l| l.diff_id).collect();
        self.lease.store().look_below(&below, path)
    }
}

/// A blob of the store on its way to be unpacked.
struct Counted<'a, R> {
    inner: R,
    item: &'a str,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::new(Kind::Cancelled, "unpack layer", self.item)));
        }
        let n = self.inner.read(buffer)?;
        self.progress.event(&Event::Advanced { item: self.item, bytes: n as u64 });
        Ok(n)
    }
}
