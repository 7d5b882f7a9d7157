//! Where the layers' images are mounted: each once per host, however many containers stand on it.
//!
//! Two mounts of one image would hold its pages twice, and mounting 127 layers at each start takes longer than everything else.
//! So the images of a root are mounted in a mount namespace that nobody lives in and that the supervisors hold open:
//!
//! ```text
//! <run>/layers/lock      flock: shared by who takes mounts from there, exclusive by who changes what is there
//! <run>/layers/NAME.INO  a symbolic link to /proc/PID/fd/N of one who holds the namespace; one for each
//!
//! inside: an empty file system, and on /LAYER.DEVICE.FILE the image of a layer
//! ```
//!
//! A start enters it for some microseconds, clones the mounts that it needs, comes back, and puts the overlay on top. What a container
//! uses stays as long as the container does, whatever happens to the namespace. The host's own mount table has nothing of this,
//! so it is not copied into other namespaces, where it would keep removed layers on the disk.
//!
//! The namespace goes with its last holder, however that ends: the supervisor of the root's last container, which stays for some
//! moments so that a loop of short ones need not mount anew. It has no name in the file system: such a mount cannot be made
//! where mounts are shared with other namespaces, as on most hosts all of /run is.
//!
//! Whoever only looks at an image takes what is there, and mounts the rest for himself. What was mounted of a layer that is
//! removed is unmounted by its remover, or, should he be killed, by the next one.

mod namespace;

use crate::Engine;
use crate::held::HeldLayers;
use namespace::{Namespace, Wanted};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tare_model::{Context, Digest, Error, Result};
use tare_store::{Form, Placed};

/// For whom layers are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounting {
    /// For this container and those that come after it: what is mounted stays until the last of them has ended.
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

/// The same, for a program that is executed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayersHandover {
    name: String,
    number: i32,
}

/// Leaves out what lies below a layer whose root hides it: overlayfs does not ask roots.
fn cut_below_opaque(lowers: &mut Vec<Lower>) -> Result<()> {
    for n in 0..lowers.len() {
        let mut value = [0; 1];
        match rustix::fs::getxattr(&lowers[n].path, "trusted.overlay.opaque", &mut value[..]) {
            Ok(1) if value == *b"y" => {
                lowers.truncate(n + 1);
                break;
            }
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => {}
            Err(e) => return Err(Error::io("look up", lowers[n].path.display(), e)),
        }
    }
    Ok(())
}

impl Engine {
    /// These layers (bottom first) as lower directories, top first.
    pub(crate) fn mounted_layers(&self, diff_ids: &[Digest], mounting: Mounting) -> Result<Vec<Lower>> {
        let placed = self.store.lowers_of(diff_ids)?;
        let images = placed.iter().filter(|p| p.form == Form::Image);
        let wanted = images.map(|p| Wanted::of(p.diff_id, &p.path)).collect::<Result<Vec<_>>>()?;
        let mounts = match mounting {
            _ if wanted.is_empty() => Vec::new(),
            Mounting::ForAll => self.fetch_layers(&wanted)?,
            Mounting::ForOne => self.layers_namespace().borrow(&wanted)?,
        };
        let mut mounts = mounts.into_iter();
        let lower = |p: &Placed| match p.form {
            Form::Tree => Some(Lower::directory(p.path.clone())),
            Form::Image => mounts.next().map(Lower::mounted),
        };
        let mut lowers: Vec<Lower> = placed.iter().filter_map(lower).collect();
        cut_below_opaque(&mut lowers)?;
        Ok(lowers)
    }

    fn fetch_layers(&self, wanted: &[Wanted]) -> Result<Vec<OwnedFd>> {
        let namespace = self.layers_namespace();
        let Some(held) = self.layers.get() else {
            let name = tare_store::Store::new_id()?;
            let (mounts, found) = namespace.fetch(wanted, None, &name)?;
            if let Some(fd) = found {
                let _ = self.layers.set(HeldLayers { name, namespace: fd });
            }
            return Ok(mounts);
        };
        namespace.fetch(wanted, Some(held.namespace.as_fd()), &held.name).map(|(mounts, _)| mounts)
    }

    /// In a launcher, once its container runs: those who look for the mounts find them here, as the client will end.
    pub(crate) fn take_layers_over(&self) -> Result<()> {
        self.layers.get().map_or(Ok(()), |held| {
            self.layers_namespace().announce(&held.name, held.namespace.as_fd(), held.namespace.as_raw_fd())
        })
    }

    /// For the program that this process is about to execute.
    pub(crate) fn hand_layers_over(&self) -> Result<Option<LayersHandover>> {
        let Some(held) = self.layers.get() else { return Ok(None) };
        let number = tare_kernel::process::dup_inheritable(held.namespace.as_fd()).during("hand over", "descriptor")?;
        self.layers_namespace().announce(&held.name, held.namespace.as_fd(), number)?;
        Ok(Some(LayersHandover { name: held.name.clone(), number }))
    }

    /// What was handed over.
    pub(crate) fn adopt_layers(&self, from: Option<LayersHandover>) -> Result<()> {
        if let Some(LayersHandover { name, number }) = from {
            let namespace = tare_kernel::process::adopt(number).during("take over", "descriptor")?;
            let _ = self.layers.set(HeldLayers { name, namespace });
        }
        Ok(())
    }

    /// Whether this process keeps layers mounted for others.
    pub(crate) fn holds_layers(&self) -> bool {
        self.layers.get().is_some()
    }

    /// Before this process ends: nobody need look here for layers any more.
    pub(crate) fn withdraw_layers(&self) {
        if let Some(held) = self.layers.get() {
            self.layers_namespace().withdraw(&held.name, held.namespace.as_fd());
        }
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
