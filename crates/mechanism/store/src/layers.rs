//! Unpacked layers and their rows.
//!
//! Syncing tens of thousands of small files is one `syncfs`, so it is done once per image ([`Store::put_image`]) and not
//! per layer. Until then a layer's row carries the boot id: after a power cut, files may be there without content.

use crate::db::{Durability, boot_id};
use crate::layer::{Below, DirectorySink, FindBelow, ImageSink, Unmounted, UnpackLimits, Unpacked, look_below, unpack};
use crate::rows::{Found, found};
use crate::sql::State as _;
use crate::{Lease, Store};
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use tare_format::erofs::Reader;
use tare_model::image::Compression;
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// What helps when a layer is not what was written.
const DAMAGED: &str = "tare image verify --all says which images have it";

/// What an unpacked layer is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `fs/`, a tree of files: for every kernel.
    Tree,
    /// `layer.erofs`, one file: the layer's archive with an EROFS index over it, to be mounted.
    Image,
}

/// Decides in which form this host unpacks layers.
pub type ChooseForm = Box<dyn Fn() -> Result<Form> + Send + Sync>;

/// An unpacked layer in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Which it is.
    pub diff_id: Digest,
    /// What it is.
    pub form: Form,
    /// The tree's root, or the image.
    pub path: PathBuf,
}

pub(crate) const TREE: &str = "fs";
pub(crate) const IMAGE: &str = "layer.erofs";

/// A layer being unpacked: a directory that nobody else sees until [`LayerDraft::publish`]. Made by [`Lease::layer`];
/// dropped without being published, it goes with its lease.
pub struct LayerDraft {
    lease: Lease,
    dir: PathBuf,
    form: Form,
}

impl LayerDraft {
    /// Unpacks a blob into it, once. `below` finds the targets of hard links that lead into the layers below.
    ///
    /// # Errors
    /// As [`unpack`].
    pub fn unpack<'a>(
        &'a mut self,
        blob: impl Read + Send,
        compression: Compression,
        limits: &UnpackLimits,
        below: Box<FindBelow<'a>>,
    ) -> Result<Unpacked> {
        match self.form {
            Form::Tree => {
                let path = self.dir.join(TREE);
                std::fs::create_dir(&path).during("create directory", path.display())?;
                let fd = open_dir(&path)?;
                // What overlayfs shows as the container's `/` when the layer says nothing about it, whatever the umask.
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                    .map_err(|e| Error::io("chmod", path.display(), e))?;
                let unpacked = unpack(blob, compression, limits, &mut DirectorySink::new(fd.as_fd(), below))?;
                self.lease.count_unpacked(unpacked.size).map(|()| unpacked)
            }
            Form::Image => {
                let path = self.dir.join(IMAGE);
                let file = File::options().write(true).create_new(true).open(&path).during("create", path.display())?;
                let mut sink = ImageSink::new(file, self.lease.scratch()?, below)?;
                let unpacked = unpack(blob, compression, limits, &mut sink)?;
                self.lease.count_unpacked(unpacked.size)?;
                Ok(Unpacked { index: sink.index(), ..unpacked })
            }
        }
    }

    /// An empty tree to be filled by hand.
    #[cfg(test)]
    pub(crate) fn tree(&self) -> PathBuf {
        let path = self.dir.join(TREE);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Gives the layer its name; held by the lease from then on.
    /// If another process published the same layer meanwhile, that one stays and this draft goes.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn publish(self, unpacked: &Unpacked) -> Result<()> {
        let Unpacked { diff_id, size, index, .. } = *unpacked;
        let store = self.lease.store();
        self.lease.hold(&[diff_id])?;
        let boot = boot_id()?;
        let place = store.layer_dir(&diff_id);
        let mut writer = store.writer()?;
        if writer.read(|db| found(db, &diff_id, &boot))? != Found::No && place.exists() {
            return Ok(());
        }
        // A directory without a trusted row is what a power cut left.
        self.lease.bury(&place)?;
        std::fs::rename(&self.dir, &place).during("rename", place.display())?;
        writer.transaction(Durability::Lazy, |tx| {
            // Not REPLACE: that would delete the row first, which images may refer to.
            let statement = "INSERT INTO layers (diff_id, size, boot, index_digest) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT DO UPDATE SET size = ?2, boot = ?3, index_digest = ?4";
            let row = (diff_id.hex(), i64::try_from(size).unwrap_or(i64::MAX), boot, index.map(|i| i.hex()));
            tx.execute(statement, row).state("write")?;
            Ok(())
        })
    }
}

impl fmt::Debug for LayerDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerDraft").field("dir", &self.dir).field("form", &self.form).finish_non_exhaustive()
    }
}

impl Lease {
    /// A new, empty layer to unpack into, of the form that the store makes ([`Store::unpack_as`]).
    ///
    /// # Errors
    /// What choosing the form fails with;     /// System calls that fail.
    pub fn layer(&self) -> Result<LayerDraft> {
        let form = self.store().form()?;
        let dir = self.fresh_path("l");
        std::fs::create_dir(&dir).during("create directory", dir.display())?;
        Ok(LayerDraft { lease: self.clone(), dir, form })
    }
}

impl Store {
    /// Whether the layer is unpacked and whole. Hold it with a lease first if it matters that it stays.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool> {
        let boot = boot_id()?;
        Ok(self.read(|db| found(db, diff_id, &boot))? != Found::No && self.layer_dir(diff_id).is_dir())
    }

    /// Decides, when it is first needed, in which form layers are unpacked from now on; trees if nobody says so. Both are used,
    /// whichever is there.
    pub fn unpack_as(&self, choose: ChooseForm) {
        let _ = self.0.choose_form.set(choose);
    }

    fn form(&self) -> Result<Form> {
        if let Some(form) = self.0.form.get() {
            return Ok(*form);
        }
        let form = self.0.choose_form.get().map_or(Ok(Form::Tree), |choose| choose())?;
        Ok(*self.0.form.get_or_init(|| form))
    }

    /// Where a layer is; `None` if it is not there.
    pub fn placed(&self, diff_id: &Digest) -> Option<Placed> {
        let dir = self.layer_dir(diff_id);
        let forms = [(Form::Image, IMAGE), (Form::Tree, TREE)].map(|(form, name)| (form, dir.join(name)));
        let (form, path) = forms.into_iter().find(|(_, path)| path.exists())?;
        Some(Placed { diff_id: *diff_id, form, path })
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    /// The layers for overlayfs, top first; given bottom first, as images list them. A layer that occurs several times is given
    /// once, at its highest place: the lower one shows nothing of its own, and overlayfs refuses the same directory twice.
    ///
    /// # Errors
    /// `Kind::NotFound` for a layer that is not there.
    pub fn lowers_of(&self, diff_ids: &[Digest]) -> Result<Vec<Placed>> {
        let mut seen = HashSet::new();
        let distinct = diff_ids.iter().rev().filter(|d| seen.insert(**d));
        distinct.map(|d| self.placed(d).ok_or_else(|| missing(d))).collect()
    }

    /// The layer, to be looked at without mounting it.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Corrupt` for a damaged image; system calls that fail.
    pub fn unmounted(&self, diff_id: &Digest) -> Result<Unmounted> {
        let placed = self.placed(diff_id).ok_or_else(|| missing(diff_id))?;
        match placed.form {
            Form::Tree => open_dir(&placed.path).map(Unmounted::Tree),
            Form::Image => {
                let file = File::open(&placed.path).during("open", placed.path.display())?;
                let damaged = |e: Error| e.during("look into layer", diff_id).hint(DAMAGED);
                Reader::new(file).map(Unmounted::Image).map_err(damaged)
            }
        }
    }

    /// What these layers (bottom first) show at a cleaned path.
    ///
    /// # Errors
    /// As [`Store::unmounted`] and [`look_below`].
    pub fn look_below(&self, diff_ids: &[Digest], path: &[u8]) -> Result<Option<Below>> {
        let layers = diff_ids.iter().rev().map(|d| self.unmounted(d)).collect::<Result<Vec<_>>>()?;
        look_below(&layers, path)
    }
}

fn missing(diff_id: &Digest) -> Error {
    Error::new(Kind::NotFound, "find layer", diff_id).because("it is not in the store").hint("pull the image again")
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", path.display(), e))
}
