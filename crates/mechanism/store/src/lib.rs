//! What tare keeps on disk: blobs, layers, images, containers, addresses, networks, volumes.
//!
//! ```text
//! <root>/
//!   state.db                 SQLite, WAL: which images, names, layers, containers, addresses, networks, volumes exist
//!   lock                     flock: held by whoever writes state.db or moves something into or out of its place
//!   blobs/sha256/<hex>       content as it came (manifests, configs, layers, mostly compressed), verified, synced
//!   layers/<diff id>/        one unpacked layer, in one of two forms: see [`layer`]
//!     layer.erofs              its archive with an EROFS index over it
//!     fs/                      a tree of files, in overlayfs form
//!   containers/<id>/         one container's files; made here, filled by others
//!   volumes/<name>/_data     one volume
//!   tmp/<lease>/             locked (flock) by the process that is making something; goes with it
//!     b<n> l<n>/               blobs and layers being written
//!     gone<n>                  what is being removed: renamed out of its place first
//!     holds/<hex>              blobs and layers that must not be collected meanwhile
//!   tmp/fetch-<hex>/         a blob on its way here, locked by the one who fetches it: see `fetch`
//! ```
//!
//! Invariants. Nothing is visible before it is whole: it is written aside, verified, synced, then renamed; rows come
//! last when something is made and go first, durably, when something is removed. So a kill or a power cut at any point
//! leaves files without rows, which [`Store::gc`] removes, and never rows without files. A blob under its name is
//! whole; so is a layer with a row, if the row does not name an earlier boot of the host. No transaction is held during I/O. A layer is kept while an image or a container
//! refers to it, a blob while an image does, both while a living lease holds them. Two processes that make the same
//! thing both succeed.
//!
//! [`layer`] reads and writes one layer's bytes, [`archive`] whole images. Nothing here prints, reads the environment
//! or knows what a running container is.

mod address;
pub mod archive;
mod blob;
mod bounds;
mod check;
mod collect;
mod container;
mod db;
mod definition;
mod disk;
mod fetch;
mod image;
mod kept;
pub mod layer;
mod layer_archive;
mod layers;
mod lease;
mod limits;
mod made;
mod migrate;
#[cfg(test)]
#[path = "../../runtime/src/mutate.rs"]
#[expect(dead_code, reason = "documents are the runtime's, bytes the network's; random trees are made here")]
mod mutate;
mod name;
mod network;
mod progress;
mod rebuild;
mod remove;
mod repair;
mod rows;
mod sql;
mod tree;
mod usage;
mod verify;
mod volume;

pub use address::{AddressRequest, AddressRow};
pub use blob::BlobWriter;
pub use check::Finding;
pub use collect::Collected;
pub use container::{NewContainer, Reserved};
pub use db::Durability;
pub use fetch::{Fetch, Turn};
pub use image::{Image, ImageLayer, NewImage};
pub use layer_archive::Archive;
pub use layers::{ChooseForm, Form, LayerDraft, Placed};
pub use lease::Lease;
pub use limits::Limits;
pub use made::Made;
pub use progress::{Event, Progress, Silent};
pub use remove::Removed;
pub use rows::ContainerRow;
pub use tree::{NewLayer, Tree, TreeEntry, TreeNode};
pub use usage::{ContainerUsage, ImageUsage, Usage, UsageItem, VolumeUsage};
pub use verify::{Damage, Verified};
pub use volume::{Prune, VolumeRow, VolumeSpec};

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use tare_model::{Context as _, Error, Result};

/// One root directory. Cheap to clone; may be used from several threads. Must not be carried into a child process.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    root: PathBuf,
    /// state.db's write-ahead log.
    log: PathBuf,
    db: Mutex<Option<rusqlite::Connection>>,
    lock: OnceLock<OwnedFd>,
    choose_form: OnceLock<ChooseForm>,
    form: OnceLock<Form>,
    limits: OnceLock<Limits>,
    keep_blobs: OnceLock<bool>,
}

impl Store {
    /// The store at `root`. Nothing is opened or made before the first question: that one makes the directories and
    /// state.db if they are not there, and refuses what a newer tare has written (`Kind::Unsupported`).
    ///
    /// # Errors
    /// `Kind::Invalid` if `root` is not absolute.
    pub fn open(root: &Path) -> Result<Store> {
        if !root.is_absolute() {
            return Err(Error::new(tare_model::Kind::Invalid, "open store", root.display())
                .because("the root directory must be an absolute path"));
        }
        Ok(Store(Arc::new(Inner {
            root: root.to_owned(),
            log: root.join("state.db-wal"),
            db: Mutex::new(None),
            lock: OnceLock::new(),
            choose_form: OnceLock::new(),
            form: OnceLock::new(),
            limits: OnceLock::new(),
            keep_blobs: OnceLock::new(),
        })))
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn blob_path(&self, digest: &tare_model::Digest) -> PathBuf {
        self.0.root.join("blobs/sha256").join(digest.hex())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}

/// Makes renames into and out of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    std::fs::File::open(path).and_then(|f| f.sync_all()).during("sync", path.display())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// 64 random hexadecimal digits.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0; 32];
    let mut got = 0;
    while got < bytes.len() {
        got += rustix::rand::getrandom(&mut bytes[got..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::io("read random bytes", "", e))?;
    }
    Ok(tare_model::Digest::from_bytes(bytes).hex())
}

#[cfg(test)]
mod tests;
