//! Where the layers' images are mounted: each once per host, however many containers stand on it.
//!
//! Two mounts of one image would hold its pages twice, and mounting 127 layers at each start takes longer than everything else.
//! So the images of a root are mounted in a mount namespace that nobody lives in, named by the file `<run>/layers/ns`:
//!
//! ```text
//! <run>/layers/ns      a mount namespace: an empty file system, and on /LAYER.DEVICE.FILE the image of a layer
//! <run>/layers/lock    flock: shared by who takes mounts from there, exclusive by who changes what is there
//! <run>/layers/users   flock: shared by every start and every supervisor, exclusive by who takes the namespace away
//! ```
//!
//! A start enters it for some microseconds, clones the mounts that it needs, comes back, and puts the overlay on top. What a container
//! uses stays as long as the container does, whatever happens to the namespace. The host's own mount table has nothing of this but
//! the namespace's name, so it is not copied into other namespaces, where it would keep removed layers on the disk.
//!
//! The namespace goes with the root's last container, some moments after it, so that a loop of short ones need not mount anew.
//! Whoever only looks at an image takes what is there, and mounts the rest for himself. What was mounted of a layer that is
//! removed is unmounted by its remover, or, should he be killed, by the next one.

mod image;
mod namespace;

use crate::Engine;
use namespace::{Namespace, Wanted};
use rustix::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tare_model::{Digest, Result};
use tare_store::{Form, Placed};

/// How often the namespace is tried to be taken from somebody who has just been killed, a millisecond apart.
const TRIES: usize = 5;

/// For whom layers are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounting {
    /// For this container and those that come after it: what is mounted stays until the last of them has ended. The caller has
    /// enlisted: [`Engine::use_layers`].
    ForAll,
    /// For one look: what is mounted goes with it.
    ForOne,
}

/// A lower directory of an overlay.
#[derive(Debug)]
pub(crate) struct Lower {
    /// Names it, as long as `mount` is open if there is one.
    pub(crate) path: PathBuf,
    /// A detached mount of our own.
    pub(crate) mount: Option<OwnedFd>,
}

impl Lower {
    pub(crate) fn directory(path: PathBuf) -> Lower {
        Lower { path, mount: None }
    }

    pub(crate) fn mounted(mount: OwnedFd) -> Lower {
        Lower { path: PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())), mount: Some(mount) }
    }
}

impl Engine {
    /// These layers (bottom first) as lower directories, top first.
    pub(crate) fn mounted_layers(&self, diff_ids: &[Digest], mounting: Mounting) -> Result<Vec<Lower>> {
        let placed = self.store.lowers_of(diff_ids)?;
        let images = placed.iter().filter(|p| p.form == Form::Image);
        let wanted = images.map(|p| Wanted::of(p.diff_id, &p.path)).collect::<Result<Vec<_>>>()?;
        let mounts = match mounting {
            _ if wanted.is_empty() => Vec::new(),
            Mounting::ForAll => self.layers_namespace().fetch(&wanted)?,
            Mounting::ForOne => self.layers_namespace().borrow(&wanted)?,
        };
        let mut mounts = mounts.into_iter();
        let lower = |p: &Placed| match p.form {
            Form::Tree => Some(Lower::directory(p.path.clone())),
            Form::Image => mounts.next().map(Lower::mounted),
        };
        Ok(placed.iter().filter_map(lower).collect())
    }

    /// Keeps what is mounted for containers until this is closed, by all who have a copy. Before the layers are mounted.
    pub(crate) fn use_layers(&self) -> Result<OwnedFd> {
        self.layers_namespace().enlist()
    }

    /// Takes the namespace away unless a container uses it or, with `since`, one has since then.
    pub(crate) fn release_layers(&self, since: Option<SystemTime>) -> Result<()> {
        let namespace = self.layers_namespace();
        for _ in 0..TRIES {
            // Who was killed lets go of one descriptor after the other. Somebody else who comes now will release it.
            if namespace.release(since)? || since.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets go of layers that were removed: until then the kernel keeps the space of those that are mounted. For whoever has
    /// removed layers, after that; how many were mounted.
    ///
    /// # Errors
    /// What unmounting fails with.
    pub fn let_go_of_layers(&self) -> Result<usize> {
        self.layers_namespace().sweep(|name| self.is_stale(name))
    }

    /// Layers that are mounted and not in the store any more: their remover was killed before he let go of them.
    ///
    /// # Errors
    /// What looking fails with.
    pub fn stale_layers(&self) -> Result<Vec<String>> {
        let mut names = self.layers_namespace().names()?;
        names.retain(|name| self.is_stale(name));
        Ok(names.into_iter().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect())
    }

    fn is_stale(&self, name: &str) -> bool {
        let layer = name.split('.').next().and_then(|hex| Digest::from_hex(hex).ok());
        let placed = layer.and_then(|layer| self.store.placed(&layer)).filter(|p| p.form == Form::Image);
        placed.and_then(|p| Wanted::of(p.diff_id, &p.path).ok()).is_none_or(|wanted| wanted.name != name)
    }

    fn layers_namespace(&self) -> Namespace {
        Namespace::of(&self.config.run)
    }
}
