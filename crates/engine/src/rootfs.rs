//! A container's root filesystem: overlay of [upper | init layer | layers], as a detached mount.
//!
//! The init layer holds what must exist for a container and must never enter a commit: the mount points /dev, /proc,
//! /sys and the three files of /etc. It holds nothing else, and nothing of one container, so that one directory serves
//! all images whose own such directories look alike: `<root>/init/<signature>`. See docs/adr for the choice.

use crate::layers::{Lower, Mounting};
use crate::record::{Dirs, Record};
use crate::request::Source;
use crate::{Engine, compat, userns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tare_kernel::mount::{Attributes, PRIVATE};
use tare_model::{Context, Digest, Error, Result};

/// Paths that the init layer or the mounts over it stand for: never part of a change.
pub(crate) const INIT_PATHS: [&str; 6] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];
const INIT_DIRS: [&str; 4] = ["dev", "proc", "sys", "etc"];
const INIT_FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

impl Engine {
    /// Mounts the container's root for a start, detached: visible nowhere until somebody moves it.
    /// What comes with it may be closed at once, but each of its mounts takes the kernel some time then.
    pub(crate) fn mount_root(&self, record: &Record) -> Result<(OwnedFd, Vec<Lower>)> {
        match &record.request.source {
            Source::Rootfs(path) => {
                let root = bind_root(path)?;
                record.ids.iter().try_for_each(|ids| userns::map(&root, ids, path))?;
                Ok((root, Vec::new()))
            }
            Source::Image(_) => {
                let dirs = self.dirs(&record.id);
                let changes = Changes::Writable { upper: &dirs.upper(), work: &dirs.state.join("work") };
                self.mount_layers(record, changes, record.request.remove, Mounting::ForAll)
            }
        }
    }

    /// The container's layers and its changes on them, as its users see them.
    pub(crate) fn mount_layers(
        &self,
        record: &Record,
        changes: Changes<'_>,
        volatile: bool,
        mounting: Mounting,
    ) -> Result<(OwnedFd, Vec<Lower>)> {
        let mut lowers = self.lowers(record, mounting)?;
        if let Some(ids) = &record.ids {
            lowers = Engine::mapped_lowers(lowers, ids)?;
        }
        let root = match changes {
            Changes::Writable { upper, work } => overlay(&paths(&lowers), Some((upper, work)), volatile),
            Changes::ReadOnly { upper } => overlay(&[&[upper.to_owned()], &paths(&lowers)[..]].concat(), None, false),
        };
        root.map(|root| (root, lowers))
    }

    /// The read-only layers under the container's changes, top first, the init layer among them.
    pub(crate) fn lowers(&self, record: &Record, mounting: Mounting) -> Result<Vec<Lower>> {
        let mut layers = self.mounted_layers(&record.layers, mounting)?;
        layers.insert(0, Lower::directory(self.init_layer(&record.layers, &paths(&layers))?));
        Ok(layers)
    }

    /// What the image alone shows, read-only: to compare with, and to copy from.
    pub(crate) fn mount_image(&self, layers: &[Digest]) -> Result<OwnedFd> {
        let mounted = self.mounted_layers(layers, Mounting::ForOne)?;
        let lowers = paths(&mounted);
        let init = self.init_layer(layers, &lowers)?;
        // A single lower directory without an upper one is not an overlay: the init layer makes at least two.
        overlay(&[&lowers[..], &[init]].concat(), None, false)
    }

    /// The init layer for these layers (bottom first), which `lowers` shows (top first). Layers do not change, so what was found of a
    /// stack is kept for this boot: four look-ups in each of many layers take longer than all the rest.
    fn init_layer(&self, layers: &[Digest], lowers: &[PathBuf]) -> Result<PathBuf> {
        let stack: Vec<String> = layers.iter().map(Digest::hex).collect();
        let kept = self.config.run.join("init").join(&Digest::of(stack.concat().as_bytes()).hex()[..32]);
        if let Ok(name) = std::fs::read_link(&kept) {
            let path = self.config.root.join("init").join(name);
            if path.is_dir() {
                return Ok(path);
            }
            let _ = std::fs::remove_file(&kept);
        }
        let path = self.init_layer_of(lowers)?;
        // Whoever cannot keep it looks again.
        if let Some(name) = path.file_name()
            && crate::record::make_private(&self.config.run.join("init")).is_ok()
        {
            let _ = std::os::unix::fs::symlink(name, &kept);
        }
        Ok(path)
    }

    fn init_layer_of(&self, layers: &[PathBuf]) -> Result<PathBuf> {
        let mut signature = String::new();
        let mut dirs = Vec::new();
        for name in INIT_DIRS {
            match seen_in(layers, name) {
                // A link or a file in that place is the image's business: mounting there will say what is wrong.
                Some(m) if !m.is_dir() => {}
                Some(m) => dirs.push((name, m.mode() & 0o7777, m.uid(), m.gid())),
                None => dirs.push((name, 0o755, 0, 0)),
            }
        }
        for (name, mode, uid, gid) in &dirs {
            use std::fmt::Write;
            let _ = writeln!(signature, "{name} {mode:o} {uid} {gid}");
        }
        let base = self.config.root.join("init");
        let path = base.join(&Digest::of(signature.as_bytes()).hex()[..16]);
        if path.is_dir() {
            return Ok(path);
        }
        let aside = base.join(format!(".{}", tare_store::Store::new_id()?));
        let make = || -> std::io::Result<()> {
            std::fs::create_dir_all(&aside)?;
            for (name, mode, uid, gid) in &dirs {
                let dir = aside.join(name);
                std::fs::create_dir(&dir)?;
                if *name == "etc" {
                    for file in INIT_FILES {
                        std::fs::write(aside.join(file), "")?;
                        std::fs::set_permissions(aside.join(file), std::fs::Permissions::from_mode(0o644))?;
                    }
                }
                std::os::unix::fs::chown(&dir, Some(*uid), Some(*gid))?;
                std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(*mode))?;
            }
            std::fs::rename(&aside, &path)
        };
        match make() {
            Ok(()) => Ok(path),
            Err(_) if path.is_dir() => {
                // Another process made the same one first.
                let _ = std::fs::remove_dir_all(&aside);
                Ok(path)
            }
            Err(e) => {
                let _ = std::fs::remove_dir_all(&aside);
                Err(Error::io("make init layer", path.display(), e))
            }
        }
    }
}

fn paths(lowers: &[Lower]) -> Vec<PathBuf> {
    lowers.iter().map(|l| l.path.clone()).collect()
}

/// What lies over a container's layers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Changes<'a> {
    /// Directories of an overlay.
    Writable {
        /// Its changes.
        upper: &'a Path,
        /// Its scratch.
        work: &'a Path,
    },
    /// A directory of changes, for looking at.
    ReadOnly {
        /// Its changes.
        upper: &'a Path,
    },
}

/// What the stack shows at a path of one component, without a mount.
fn seen_in(layers: &[PathBuf], name: &str) -> Option<std::fs::Metadata> {
    for layer in layers {
        match std::fs::symlink_metadata(layer.join(name)) {
            // A whiteout: a character device 0:0 (overlayfs.rst).
            Ok(m) if m.rdev() == 0 && m.mode() & 0o170_000 == 0o020_000 => return None,
            Ok(m) => return Some(m),
            Err(_) => {}
        }
    }
    None
}

/// A detached overlay. `upper`: upper and work directory; none makes it read-only.
pub(crate) fn overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, volatile: bool) -> Result<OwnedFd> {
    // What a later reader of the upper directory alone could not understand is not made.
    let mut options = vec![("redirect_dir", Some("off")), ("metacopy", Some("off")), ("index", Some("off"))];
    if volatile {
        // The changes go with the container: unmounting need not write them out.
        options.push(("volatile", None));
    }
    compat::overlay(&compat::Overlay { lowers, upper, options: &options })
}

pub(crate) fn bind_root(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags).map_err(|e| Error::io("use as root filesystem", path.display(), e))?;
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, true)
        .during("use as root filesystem", path.display())?;
    Ok(tree)
}

/// Fills an empty volume with what the image has at its target.
pub(crate) fn copy_up(root: &OwnedFd, target: &str, data: &Path) -> Result<()> {
    // Two containers may want to fill it at once. Not the directory itself: who has the volume could lock that for ever.
    let above = data.parent().unwrap_or(data);
    let lock = rustix::fs::open(above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| Error::io("open", above.display(), e))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| Error::io("lock", above.display(), e))?;
    let mut entries = std::fs::read_dir(data).during("read", data.display())?;
    if entries.next().is_some() {
        return Ok(());
    }
    let from = match tare_runtime::launch::in_root(root, target, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(_) => return Ok(()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to =
        rustix::fs::open(data, flags, rustix::fs::Mode::empty()).map_err(|e| Error::io("open", data.display(), e))?;
    tare_store::layer::copy_tree(from.as_fd(), to.as_fd()).during("fill volume", data.display())
}

impl Engine {
    /// Fills the container's volumes that want it, before anything runs.
    pub(crate) fn fill_volumes(&self, root: &OwnedFd, record: &Record) -> Result<()> {
        let mut stored = None;
        for mount in &record.mounts {
            if let crate::request::MountKind::Volume { copy_up: true, subpath: None, .. } = &mount.request.kind
                && let Some(source) = &mount.source
            {
                let from = match (&record.ids, &record.request.source) {
                    // A volume holds owners as an image does, not as this container's range shows them.
                    (Some(_), Source::Image(_)) => match &stored {
                        Some(image) => image,
                        None => stored.insert(self.mount_image(&record.layers)?),
                    },
                    _ => root,
                };
                copy_up(from, &mount.request.target, source)?;
            }
        }
        Ok(())
    }
}

impl Dirs {
    /// The directory of the container's own changes.
    pub(crate) fn upper(&self) -> PathBuf {
        self.state.join("upper")
    }
}
