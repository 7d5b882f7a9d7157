//! All layers of one pull: fetched and unpacked at once, each as soon as a processor is free for it.
//!
//! ```text
//! jobs, largest first ──► [slots: as many as processors, and one more]
//!   ask for the blob's turn ─────────► another pull has it: the slot is free while this one waits
//!   fetch │ unpack │ write, each in a thread
//!   links whose target lies below ───► those layers are not there yet: the slot is free while this one waits
//!   publish
//! ```
//!
//! Nothing else waits for another layer, and whoever waits for layers below gives its turn up first, so that two pulls of the same
//! layers in another order do not wait for each other. Memory: a slot has at most some 5 MiB of buffers, whatever a layer's size.

use crate::client::Client;
use crate::download::download;
use crate::pipe::{Sender, pipe};
use crate::session::Session;
use hyper::body::Bytes;
use std::collections::HashSet;
use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};
use tare_model::image::Compression;
use tare_model::{Context, Digest, Error, Kind, Result};
use tare_store::layer::{Below, UnpackLimits, Unpacked};
use tare_store::{Event, Fetch, ImageLayer, LayerDraft, Lease, Progress, Turn};

/// How often one who waits for another pull looks whether it is done.
const LOOK: Duration = Duration::from_millis(25);

/// What is needed for every layer.
pub(crate) struct Setting<'a> {
    pub(crate) client: &'a Client,
    pub(crate) session: &'a Session<'a>,
    pub(crate) lease: &'a Lease,
    pub(crate) layers: &'a [ImageLayer],
    pub(crate) limits: &'a UnpackLimits,
    pub(crate) progress: &'a dyn Progress,
}

/// Sees to it that all layers are in the store, as blobs and unpacked.
///
/// # Errors
/// As [`crate::pull`]: of several failures the first.
pub(crate) fn have_layers(setting: Setting<'_>) -> Result<()> {
    let work = Work::new(setting);
    let slots = work.setting.client.http.options.parallel.clamp(1, work.order.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..slots {
            scope.spawn(|| work.take_jobs(scope));
        }
        work.take_jobs(scope);
    });
    match work.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

struct Work<'a> {
    setting: Setting<'a>,
    /// Indexes into `layers`, largest first; a layer that occurs twice is here once, at its lowest place.
    order: Vec<usize>,
    /// Something failed: all others end soon.
    stop: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many of `order` have been taken.
    taken: usize,
    /// Layers in place.
    done: HashSet<Digest>,
    failure: Option<Error>,
}

/// One layer while it is worked on.
struct Job<'a> {
    index: usize,
    layer: &'a ImageLayer,
    item: String,
    turn: Mutex<Option<Fetch>>,
    /// The blob is in its place, or will not be.
    received: AtomicBool,
    /// The blob's beginning is what an earlier fetch has left.
    resumed: AtomicBool,
}

impl<'a> Work<'a> {
    fn new(setting: Setting<'a>) -> Self {
        let layers = setting.layers;
        let mut seen = HashSet::new();
        let mut order: Vec<_> =
            (0..layers.len()).filter(|i| seen.insert((layers[*i].blob.digest, layers[*i].diff_id))).collect();
        // The one that takes longest must not be the last to begin.
        order.sort_by_key(|i| std::cmp::Reverse(layers[*i].blob.size));
        Work { setting, order, stop: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<usize> {
        let mut state = self.state();
        let next = self.order.get(state.taken).copied().filter(|_| !self.stop.load(Ordering::Relaxed));
        state.taken += usize::from(next.is_some());
        next
    }

    /// One slot: layer after layer.
    fn take_jobs<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        while let Some(index) = self.next() {
            let layer = &self.setting.layers[index];
            let job = Job {
                index,
                layer,
                item: layer.blob.digest.short(),
                turn: Mutex::new(None),
                received: AtomicBool::new(false),
                resumed: AtomicBool::new(false),
            };
            let result = self.layer(&job, scope);
            let mut state = self.state();
            match result {
                Ok(()) => drop(state.done.insert(layer.diff_id)),
                Err(e) => {
                    self.stop.store(true, Ordering::Relaxed);
                    // Those that were told to stop have nothing to say.
                    if state.failure.as_ref().is_none_or(|f| f.kind() == Kind::Cancelled) {
                        state.failure = Some(e);
                    }
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The caller is going to wait: somebody else takes its slot.
    fn leave_slot<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.state().taken < self.order.len() {
            scope.spawn(move || self.take_jobs(scope));
        }
    }

    fn stopped(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Cancelled, "pull", "layer")),
            false => Ok(()),
        }
    }

    fn layer<'s>(&'s self, job: &Job<'_>, scope: &'s Scope<'s, '_>) -> Result<()> {
        let layer = job.layer;
        let start = |verb| {
            self.setting.progress.event(&Event::Started { item: &job.item, verb, total: Some(layer.blob.size) });
        };
        let mut there = self.there(layer)?;
        if there != (true, true) {
            self.take_turn(job, scope)?;
            there = self.there(layer)?;
        }
        let store = self.setting.lease.store();
        let outcome = match there {
            (true, true) => {
                start("download");
                "exists"
            }
            (true, false) => {
                start("unpack");
                job.received.store(true, Ordering::Relaxed);
                let file = store.open_blob(&layer.blob.digest)?;
                let mut draft = self.setting.lease.layer()?;
                let reader = Counted { inner: file, item: &job.item, work: self };
                let unpacked = self.unpack(job, &mut draft, reader, scope)?;
                draft.publish(&unpacked)?;
                "done"
            }
            (false, true) => {
                start("download");
                self.receive(job, None, &AtomicBool::new(false))?;
                "done"
            }
            (false, false) => {
                start("download");
                let got = self.receive_and_unpack(job, scope);
                match got {
                    // A power cut may have spoilt what was kept: it is gone now, and all of the blob comes anew.
                    Err(e) if e.kind() == Kind::Corrupt && job.resumed.load(Ordering::Relaxed) => {
                        start("download");
                        self.receive_and_unpack(job, scope)?;
                    }
                    other => other?,
                }
                "done"
            }
        };
        self.setting.progress.event(&Event::Finished { item: &job.item, outcome });
        Ok(())
    }

    /// Whether the blob (or the layer, which does without it) and the layer are in the store.
    fn there(&self, layer: &ImageLayer) -> Result<(bool, bool)> {
        let store = self.setting.lease.store();
        let blob = store.has_blob(&layer.blob.digest) || store.does_without(&layer.diff_id)?;
        Ok((blob, store.has_layer(&layer.diff_id)?))
    }

    /// Waits until nobody else fetches this layer, or until whoever does has not got on for a while: then both do.
    fn take_turn<'s>(&'s self, job: &Job<'_>, scope: &'s Scope<'s, '_>) -> Result<()> {
        let patience = self.setting.client.http.options.idle_timeout;
        let (mut seen, mut since, mut waiting) = (0, Instant::now(), false);
        loop {
            match self.setting.lease.turn(&job.layer.blob.digest)? {
                Turn::Ours(fetch) => {
                    *job.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetch);
                    return Ok(());
                }
                Turn::Theirs { bytes } if bytes != seen => (seen, since) = (bytes, Instant::now()),
                Turn::Theirs { .. } if since.elapsed() >= patience => return Ok(()),
                Turn::Theirs { .. } => {}
            }
            if !waiting {
                waiting = true;
                let (item, total) = (&job.item, Some(job.layer.blob.size));
                self.setting.progress.event(&Event::Started { item, verb: "waiting", total });
                self.leave_slot(scope);
            }
            self.stopped()?;
            std::thread::sleep(LOOK);
        }
    }

    fn receive_and_unpack<'s>(&'s self, job: &Job<'_>, scope: &'s Scope<'s, '_>) -> Result<()> {
        let mut draft = self.setting.lease.layer()?;
        let (sender, reader) = pipe();
        let abandoned = AtomicBool::new(false);
        let (received, unpacked) = std::thread::scope(|threads| {
            let receiver = threads.spawn(|| {
                let received = self.receive(job, Some(sender), &abandoned);
                job.received.store(true, Ordering::Relaxed);
                self.changed.notify_all();
                received
            });
            let unpacked = self.unpack(job, &mut draft, reader, scope);
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

    /// Fetches a blob into the store, and hands it on. What an earlier fetch has left of it is not fetched again.
    fn receive(&self, job: &Job<'_>, mut to: Option<Sender>, abandoned: &AtomicBool) -> Result<()> {
        let blob = &job.layer.blob;
        let turn = || job.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = match &*turn() {
            Some(fetch) => fetch.blob(self.setting.lease, blob.size)?,
            None => self.setting.lease.blob()?,
        };
        let mut pass_on = |data: Bytes| {
            if self.stop.load(Ordering::Relaxed) || abandoned.load(Ordering::Relaxed) {
                return Err(Error::new(Kind::Cancelled, "fetch", &job.item));
            }
            self.setting.progress.event(&Event::Advanced { item: &job.item, bytes: data.len() as u64 });
            if to.as_mut().is_some_and(|sender| sender.send(data).is_err()) {
                to = None;
            }
            Ok(())
        };
        writer.replay(&mut |bytes| pass_on(Bytes::copy_from_slice(bytes)))?;
        job.resumed.store(!writer.is_empty(), Ordering::Relaxed);
        let fetched = self.setting.client.run(download(self.setting.session, blob, writer.len(), &mut |data| {
            writer.write_all(&data).during("write blob", blob.digest)?;
            pass_on(data)
        }));
        if let Err(e) = fetched {
            if self.is_worth_keeping(&e)
                && let Some(fetch) = &mut *turn()
            {
                fetch.keep();
            }
            return Err(e);
        }
        if let Some(sender) = to {
            // A reader that is gone has its own error to report.
            let _ = sender.finish();
        }
        writer.commit(Some(blob)).map(drop)
    }

    /// Whether the next pull will be glad of what has come: not if there is no room for it, or it is wrong.
    fn is_worth_keeping(&self, error: &Error) -> bool {
        match error.kind() {
            Kind::Unavailable => true,
            // Set together with `stop`.
            Kind::Cancelled => self.state().failure.as_ref().is_some_and(|f| f.kind() == Kind::Unavailable),
            _ => false,
        }
    }

    fn unpack<'s>(
        &'s self,
        job: &Job<'_>,
        draft: &mut LayerDraft,
        reader: impl Read + Send,
        scope: &'s Scope<'s, '_>,
    ) -> Result<Unpacked> {
        let layer = job.layer;
        let compression = Compression::of_media_type(&layer.blob.media_type)?;
        let below = Box::new(|path: &[u8]| self.find_below(job, path, scope));
        let unpacked = draft
            .unpack(reader, compression, self.setting.limits, below)
            .during("unpack layer", layer.diff_id.short())?;
        if unpacked.diff_id != layer.diff_id {
            return Err(Error::new(Kind::Corrupt, "unpack layer", layer.diff_id)
                .because(format!("the content's diff ID is {}", unpacked.diff_id)));
        }
        Ok(unpacked)
    }

    /// Looks for a hard link's target in the layers below, once they are there.
    fn find_below<'s>(&'s self, job: &Job<'_>, path: &[u8], scope: &'s Scope<'s, '_>) -> Result<Option<Below>> {
        let below: Vec<_> = self.setting.layers[..job.index].iter().map(|l| l.diff_id).collect();
        let mut state = self.state();
        let mut waiting = false;
        while below.iter().any(|layer| !state.done.contains(layer)) {
            self.stopped()?;
            if !std::mem::replace(&mut waiting, true) {
                drop(state);
                self.leave_slot(scope);
                state = self.state();
                continue;
            }
            if job.received.load(Ordering::Relaxed) {
                // Another pull may have these layers in another order.
                drop(job.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.setting.lease.store().look_below(&below, path)
    }
}

/// A blob of the store on its way to be unpacked.
struct Counted<'a, R> {
    inner: R,
    item: &'a str,
    work: &'a Work<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.stopped().map_err(io::Error::other)?;
        let n = self.inner.read(buffer)?;
        self.work.setting.progress.event(&Event::Advanced { item: self.item, bytes: n as u64 });
        Ok(n)
    }
}
