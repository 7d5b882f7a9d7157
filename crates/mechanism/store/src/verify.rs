//! Proving every byte of an image on disk.
//!
//! ```text
//! blob               its digest and its length
//! config             its digest is the image's id; it lists the layers that the rows list
//! manifest           its digest; it lists the config and the blobs that the rows list
//! layer.erofs        archive: the diff ID; head, copies and index: the digest that was recorded when it was made;
//!                    between the archive and the next block: zeros; nothing behind its end
//! fs/                the archive, from the verified blob: each file's content, mode, owner, time, attributes, links
//! ```
//!
//! What is damaged is set aside, so that nothing new stands on it and the next pull brings it anew: `<name>.damaged` beside
//! its place. Containers that run keep what they have. If it turns out to be whole after all (a cable, a memory
//! module), the next verification puts it back.

use crate::blob::Hasher;
use crate::image::{Rows, parse_config};
use crate::layer::{Expected, UnpackLimits, unpack};
use crate::limits::DOCUMENT_MAX;
use crate::sql::State as _;
use crate::{Event, Form, ImageLayer, Lease, Placed, Progress, Store};
use rusqlite::OptionalExtension as _;
use sha2::Digest as _;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tare_format::erofs::{ARCHIVE, BLOCK, Reader};
use tare_model::image::{Compression, Descriptor, ManifestOrIndex};
use tare_model::{Context as _, Digest, Error, Kind, Reference, Result};

/// Ending of the name of what was found damaged.
pub(crate) const DAMAGED: &str = "damaged";
/// What is in the store has been found good once, perhaps under other limits.
pub(crate) const UNLIMITED: UnpackLimits = UnpackLimits {
    total: u64::MAX,
    ratio: u64::MAX,
    ratio_from: u64::MAX,
    entries: u64::MAX,
    metadata: u64::MAX,
    zstd_window_log: 31,
};
/// So a problem begins that says that nothing can be said.
const UNCLEAR: &str = "it cannot be judged";
/// Differences of one tree that are told.
const DIFFERENCES: usize = 5;

/// Something of an image that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// `blob sha256:…`, `layer sha256:…`, `image sha256:…`.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
    /// Ids of the images that have it.
    pub images: Vec<Digest>,
}

/// What a verification came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Images looked at.
    pub images: usize,
    /// Layers, each once.
    pub layers: usize,
    /// Blobs, each once.
    pub blobs: usize,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// Of it, the layers that were set aside: what is mounted of them must be let go of.
    pub set_aside: Vec<Digest>,
}

/// What is known of an object so far.
enum Whole {
    Yes,
    /// Not kept: its layer can give the archive again.
    Absent,
    No(String),
    /// It cannot be told before something else is whole.
    Unclear(String),
}

impl Store {
    /// Verifies images (their ids), every byte of them. `set_aside`: what is damaged is moved out of its place.
    ///
    /// # Errors
    /// `Kind::NotFound` for an image that is not there; state that cannot be read. What is damaged is no error.
    pub fn verify(&self, ids: &[Digest], set_aside: bool, progress: &dyn Progress) -> Result<Verified> {
        let lease = self.lease()?;
        let images = self.read(|db| ids.iter().map(|id| Rows::read(db, *id)).collect::<Result<Vec<_>>>())?;
        let held: HashSet<_> =
            images.iter().flat_map(|i| i.content().layers.into_iter().chain(i.content().blobs)).collect();
        lease.hold(&held.into_iter().collect::<Vec<_>>())?;
        let verification = Verification {
            store: self,
            lease: &lease,
            images: &images,
            set_aside,
            progress,
            verified: Verified { images: images.len(), ..Verified::default() },
            blobs: BTreeMap::new(),
            bad: HashSet::new(),
        };
        verification.run()
    }
}

struct Verification<'a> {
    store: &'a Store,
    lease: &'a Lease,
    images: &'a [Rows],
    set_aside: bool,
    progress: &'a dyn Progress,
    verified: Verified,
    /// Whether each is whole.
    blobs: BTreeMap<Digest, bool>,
    /// Layers that are not.
    bad: HashSet<Digest>,
}

impl Verification<'_> {
    fn run(mut self) -> Result<Verified> {
        let mut layers = HashSet::new();
        for image in self.images {
            let manifest = self.blob(&image.manifest, None)?;
            // A config's length is what its digest says.
            let size = std::fs::metadata(self.store.blob_path(&image.id)).map_or(0, |m| m.len());
            let config = self.blob(&Descriptor::new("", image.id, size), None)?;
            if manifest
                && config
                && let Err(e) = self.documents(image)
            {
                self.damaged(format!("image {}", image.id), e.to_string(), |i| i.id == image.id);
            }
            for (position, layer) in image.layers.iter().enumerate() {
                let blob = self.blob(&layer.blob, Some(layer))?;
                if layers.insert(layer.diff_id) {
                    self.layer(layer, &image.layers[..position], blob)?;
                }
            }
        }
        self.verified.layers = layers.len();
        self.verified.blobs = self.blobs.len();
        Ok(self.verified)
    }

    /// Whether rows, manifest and config speak of the same image.
    fn documents(&self, image: &Rows) -> Result<()> {
        let bad = |why: &str| Err(Error::new(Kind::Corrupt, "verify image", image.id).because(why));
        let config = parse_config(&self.store.read_blob(&image.id, DOCUMENT_MAX)?)?;
        if !config.rootfs.diff_ids.iter().eq(image.layers.iter().map(|l| &l.diff_id)) {
            return bad("its config lists other layers than state.db");
        }
        let bytes = self.store.read_blob(&image.manifest.digest, DOCUMENT_MAX)?;
        let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(&bytes)? else {
            return bad("its manifest is an index");
        };
        let blobs = manifest.layers.iter().map(|l| (l.digest, l.size));
        if manifest.config.digest != image.id || !blobs.eq(image.layers.iter().map(|l| (l.blob.digest, l.blob.size))) {
            return bad("its manifest lists other content than state.db");
        }
        Ok(())
    }

    /// Whether a blob is there and whole.
    fn blob(&mut self, blob: &Descriptor, of: Option<&ImageLayer>) -> Result<bool> {
        if let Some(known) = self.blobs.get(&blob.digest) {
            return Ok(*known);
        }
        let path = self.store.blob_path(&blob.digest);
        let found = self.back_if(&path, |this, path| this.look_at_blob(path, blob))?;
        let whole = match found {
            Whole::Yes => true,
            Whole::Absent if of.is_some_and(|l| self.store.has_archive(&l.diff_id)) => false,
            Whole::Absent => {
                self.damaged(format!("blob {}", blob.digest), "it is missing".to_owned(), |i| i.has_blob(&blob.digest));
                false
            }
            Whole::No(problem) | Whole::Unclear(problem) => {
                self.damaged(format!("blob {}", blob.digest), problem, |i| i.has_blob(&blob.digest));
                self.put_aside(&path)?;
                false
            }
        };
        self.blobs.insert(blob.digest, whole);
        Ok(whole)
    }

    fn look_at_blob(&mut self, path: &Path, blob: &Descriptor) -> Whole {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Whole::Absent,
            Err(e) => return Whole::No(e.to_string()),
        };
        let item = blob.digest.short();
        self.progress.event(&Event::Started { item: &item, verb: "verify", total: Some(blob.size) });
        let (mut hash, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hash.write_all(&buffer[..n]).expect("hashing cannot fail");
                    self.advance(&item, n as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Whole::No(e.to_string()),
            }
        }
        let (digest, length) = hash.finish();
        let outcome = if digest == blob.digest { "done" } else { "damaged" };
        self.progress.event(&Event::Finished { item: &item, outcome });
        if digest != blob.digest {
            return Whole::No(format!("its content has the digest {digest}"));
        }
        if length != blob.size {
            return Whole::No(format!("it has {length} bytes, not {}", blob.size));
        }
        Whole::Yes
    }

    fn layer(&mut self, layer: &ImageLayer, below: &[ImageLayer], blob: bool) -> Result<()> {
        let dir = self.store.layer_dir(&layer.diff_id);
        let found = self.back_if(&dir, |this, _| this.look_at_layer(layer, below, blob))?;
        self.bad.insert(layer.diff_id);
        let unclear = matches!(found, Whole::Unclear(_));
        let problem = match found {
            Whole::Yes => {
                self.bad.remove(&layer.diff_id);
                return Ok(());
            }
            Whole::Absent => "it is missing".to_owned(),
            Whole::No(problem) | Whole::Unclear(problem) => problem,
        };
        self.damaged(format!("layer {}", layer.diff_id), problem, |i| {
            i.layers.iter().any(|l| l.diff_id == layer.diff_id)
        });
        if self.set_aside && !unclear && dir.exists() {
            self.put_aside(&dir)?;
            self.verified.set_aside.push(layer.diff_id);
        }
        Ok(())
    }

    fn look_at_layer(&mut self, layer: &ImageLayer, below: &[ImageLayer], blob: bool) -> Whole {
        let Some(placed) = self.store.placed(&layer.diff_id) else { return Whole::Absent };
        let item = layer.diff_id.short();
        self.progress.event(&Event::Started { item: &item, verb: "verify", total: None });
        let problem = match placed.form {
            Form::Image => self.image_file(&placed, &item),
            Form::Tree if !blob => {
                Ok(Some("its blob is missing or damaged, so there is nothing to compare its files with".to_owned()))
            }
            Form::Tree => self.tree(&placed, layer, below),
        };
        let outcome = if matches!(problem, Ok(None)) { "done" } else { "damaged" };
        self.progress.event(&Event::Finished { item: &item, outcome });
        match problem {
            Ok(None) => Whole::Yes,
            Ok(Some(problem)) if problem.starts_with(UNCLEAR) => Whole::Unclear(problem),
            Ok(Some(problem)) => Whole::No(problem),
            Err(e) => Whole::No(e.to_string()),
        }
    }

    /// What is wrong with an image.
    fn image_file(&mut self, placed: &Placed, item: &str) -> Result<Option<String>> {
        let bad = |why: &str| Ok(Some(why.to_owned()));
        let recorded: Option<Option<String>> = self.store.read(|db| {
            let query = "SELECT index_digest FROM layers WHERE diff_id = ?";
            db.query_row(query, [placed.diff_id.hex()], |r| r.get(0)).optional().state("read")
        })?;
        let Some(recorded) = recorded.flatten() else { return bad("state.db has no digest of its index") };
        let file = File::open(&placed.path).during("open", placed.path.display())?;
        let reader = Reader::new(file.try_clone().during("open", placed.path.display())?)?;
        if file.metadata().during("look at", placed.path.display())?.len() != reader.size() {
            return bad("it has another length than its head says");
        }
        let end = ARCHIVE + reader.archive_size();
        let copies = end.next_multiple_of(BLOCK);
        let archive = self.hash(&file, ARCHIVE..end, item, sha2::Sha256::new())?;
        if Digest::from_bytes(archive.finalize().into()) != placed.diff_id {
            return bad("its archive has another digest");
        }
        let mut between = vec![0; usize::try_from(copies - end).unwrap_or(0)];
        file.read_exact_at(&mut between, end).during("read", placed.path.display())?;
        if between.iter().any(|b| *b != 0) {
            return bad("there is something between its archive and its index");
        }
        let index = self.hash(&file, copies..reader.size(), item, sha2::Sha256::new())?;
        let index = self.hash(&file, 0..ARCHIVE, item, index)?;
        if Digest::from_bytes(index.finalize().into()).hex() != recorded {
            return bad("its index has another digest than when it was made");
        }
        Ok(None)
    }

    fn hash(
        &mut self,
        file: &File,
        range: std::ops::Range<u64>,
        item: &str,
        mut hash: sha2::Sha256,
    ) -> Result<sha2::Sha256> {
        let mut buffer = vec![0; 1 << 20];
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact_at(&mut buffer[..wanted], at).during("read layer", item)?;
            hash.update(&buffer[..wanted]);
            at += wanted as u64;
            self.advance(item, wanted as u64);
        }
        Ok(hash)
    }

    /// What is wrong with a tree.
    fn tree(&mut self, placed: &Placed, layer: &ImageLayer, below: &[ImageLayer]) -> Result<Option<String>> {
        let below: Vec<_> = below.iter().map(|l| l.diff_id).collect();
        let layers_below = below.clone();
        let store = self.store;
        let find = move |path: &[u8]| store.look_below(&below, path);
        let mut expected = Expected::new(Box::new(find));
        let blob = self.store.open_blob(&layer.blob.digest)?;
        let compression = Compression::of_media_type(&layer.blob.media_type)?;
        let bad_below = layers_below.iter().any(|d| self.bad.contains(d));
        let unclear =
            || Ok(Some(format!("{UNCLEAR} before the layers below it are whole: it has hard links into them")));
        let unpacked = match unpack(blob, compression, &UNLIMITED, &mut expected) {
            Err(_) if expected.asked_below() && bad_below => return unclear(),
            other => other?,
        };
        if unpacked.diff_id != layer.diff_id {
            return Ok(Some(format!("its blob unpacks to {}", unpacked.diff_id)));
        }
        self.verified.bytes += unpacked.size;
        let root = crate::layers::open_dir(&placed.path)?;
        let mut differences = expected.differences(root.as_fd(), DIFFERENCES + 1)?;
        if differences.is_empty() {
            return Ok(None);
        }
        if expected.asked_below() && bad_below {
            return unclear();
        }
        if differences.len() > DIFFERENCES {
            differences.truncate(DIFFERENCES);
            differences.push("and more".to_owned());
        }
        Ok(Some(differences.join("; ")))
    }

    fn advance(&mut self, item: &str, bytes: u64) {
        self.verified.bytes += bytes;
        self.progress.event(&Event::Advanced { item, bytes });
    }

    /// Looks at what is at `path`; if nothing is, but something that was set aside, at that: it comes back if it is whole.
    fn back_if(&mut self, path: &Path, look: impl Fn(&mut Self, &Path) -> Whole) -> Result<Whole> {
        let aside = aside(path);
        if path.exists() || !aside.exists() || !self.set_aside {
            return Ok(look(self, path));
        }
        let move_to = |from: &Path, to: &Path| std::fs::rename(from, to).during("rename", from.display());
        let writer = self.store.writer()?;
        move_to(&aside, path)?;
        drop(writer);
        let found = look(self, path);
        if !matches!(found, Whole::Yes) {
            let _writer = self.store.writer()?;
            move_to(path, &aside)?;
        }
        Ok(found)
    }

    fn put_aside(&self, path: &Path) -> Result<()> {
        if !self.set_aside || !path.exists() {
            return Ok(());
        }
        let _writer = self.store.writer()?;
        let to = aside(path);
        // What was set aside before is of no more use than this.
        self.lease.bury(&to)?;
        std::fs::rename(path, &to).during("rename", path.display())?;
        crate::sync_dir(path.parent().unwrap_or(path))
    }

    fn damaged(&mut self, object: String, problem: String, has: impl Fn(&Rows) -> bool) {
        let having: Vec<&Rows> = self.images.iter().filter(|i| has(i)).collect();
        let mend = mend(&having);
        self.verified.damages.push(Damage { object, problem, mend, images: having.iter().map(|i| i.id).collect() });
    }
}

impl Rows {
    fn has_blob(&self, digest: &Digest) -> bool {
        self.content().blobs.contains(digest)
    }
}

/// Where something goes that is damaged.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension(DAMAGED)
}

/// What brings damaged content of these images back.
pub(crate) fn mend(images: &[&Rows]) -> String {
    let names = |of: fn(&Rows) -> &Vec<Reference>| images.iter().flat_map(move |i| of(i).iter()).next();
    match (names(|i| &i.names), names(|i| &i.digests), images.first()) {
        (Some(name), _, _) => format!("tare pull {}", name.familiar()),
        (None, Some(digest), _) => format!("tare pull {}", digest.familiar()),
        (None, None, Some(image)) => format!("load or build image {} again", image.id.short()),
        (None, None, None) => "tare system prune".to_owned(),
    }
}
