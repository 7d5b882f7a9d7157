//! Images as the engine sees them: one more name than the store knows, and their files to look at.
//!
//! ```text
//! <run>/images/<id>/     an image's files, read-only: an overlay of its layers, in the mount namespace of who asked for it
//! ```
//!
//! Such a mount goes with `unmount` or with the host's next boot. While it is there the image is not removed.

use crate::layers::{Lower, Mounting};
use crate::rootfs::overlay;
use crate::starter::STARTER;
use crate::view::Change;
use crate::{Engine, record};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tare_kernel::mount::{Attributes, NODEV, NOSUID, RDONLY};
use tare_model::{Context, Digest, Error, Kind, Reference, Result};
use tare_store::{Image, layer};

/// An image whose files can be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountedImage {
    /// The image's id.
    #[serde(rename = "ID")]
    pub id: Digest,
    /// Its names; none if it has none.
    pub names: Vec<String>,
    /// Where.
    pub path: PathBuf,
}

impl Engine {
    /// Finds an image by reference, id or id prefix. `hello` is the starter image, made on first use.
    ///
    /// # Errors
    /// `Kind::NotFound` with the command that would fetch it.
    pub fn image(&self, name: &str) -> Result<Image> {
        match self.store.image(name) {
            Ok(image) if image.names.iter().any(|n| n.to_string() == STARTER) && is_starter(name) => self.starter(),
            Err(e) if e.kind() == Kind::NotFound && is_starter(name) => self.starter(),
            other => other,
        }
    }

    fn starter(&self) -> Result<Image> {
        let binary = std::fs::File::open("/proc/self/exe").map_err(|e| Error::io("open", "/proc/self/exe", e))?;
        match self.store.image(STARTER) {
            Ok(image) if crate::starter::is_of(&image, &binary)? => Ok(image),
            Ok(_) => crate::starter::make(&self.store, &binary),
            Err(e) if e.kind() == Kind::NotFound => crate::starter::make(&self.store, &binary),
            Err(e) => Err(e),
        }
    }

    /// Takes all names of an image away, or these; the image stays. Returns what was taken.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` for a name of another image.
    pub fn untag(&self, name: &str, names: &[Reference]) -> Result<Vec<Reference>> {
        let image = self.store.image(name)?;
        let names = if names.is_empty() { image.names.clone() } else { names.to_vec() };
        let whole = |r: &Reference| format!("{}:{}", r.name(), r.tag().unwrap_or("latest"));
        for wanted in &names {
            if !image.names.iter().any(|n| whole(n) == whole(wanted)) {
                let own: Vec<_> = image.names.iter().map(Reference::familiar).collect();
                return Err(Error::new(Kind::Invalid, "untag", wanted.familiar())
                    .because(format!("image {} has not this name", image.id.short()))
                    .hint(format!("its names: {}", if own.is_empty() { "none".to_owned() } else { own.join(", ") })));
            }
        }
        names.iter().try_for_each(|n| self.store.untag(n))?;
        Ok(names)
    }

    /// What makes the second image out of the first one, sorted by path.
    ///
    /// # Errors
    /// As [`Engine::image`]; what the kernel reports.
    pub fn image_diff(&self, before: &[Digest], after: &[Digest]) -> Result<Vec<Change>> {
        // Layers that both begin with show the same in both.
        let (before, after) = (self.plain_view(before)?, self.plain_view(after)?);
        let change = |c: layer::PathChange| Change {
            path: format!("/{}", String::from_utf8_lossy(&c.path)),
            kind: crate::changes::letter(c.kind),
        };
        Ok(layer::compare(before.as_fd(), after.as_fd())?.into_iter().map(change).collect())
    }

    /// Mounts an image's files, read-only, at a path of the host, which is returned; once, however often it is asked for.
    ///
    /// # Errors
    /// As [`Engine::image`]; what the kernel reports.
    pub fn mount_image_at_host(&self, name: &str) -> Result<MountedImage> {
        let image = self.image(name)?;
        let path = self.image_mount_point(&image.id);
        record::make_private(&self.config.run.join("images"))?;
        if !is_mounted(&path) {
            // Held until the mount is there: from then on it is what keeps the image.
            let lease = self.store.lease()?;
            lease.hold(&image.diff_ids())?;
            let view = self.plain_view(&image.diff_ids())?;
            let attributes = Attributes { set: RDONLY | NOSUID | NODEV, ..Default::default() };
            tare_kernel::mount::set_attributes(view.as_fd(), c"", attributes, false).during("mount image", name)?;
            std::fs::create_dir_all(&path).during("create directory", path.display())?;
            move_mount(&view, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(|e| Error::io("mount image", path.display(), e))?;
        }
        Ok(mounted(&image, path))
    }

    /// Takes that mount away.
    ///
    /// # Errors
    /// `Kind::State` if there is none; `Kind::InUse` while somebody has a file of it open, unless `force`.
    pub fn unmount_image(&self, name: &str, force: bool) -> Result<Digest> {
        let image = self.store.image(name)?;
        self.unmount_image_id(&image.id, force).map(|()| image.id)
    }

    fn unmount_image_id(&self, id: &Digest, force: bool) -> Result<()> {
        let path = self.image_mount_point(id);
        if !is_mounted(&path) {
            return Err(Error::new(Kind::State, "unmount image", id.short()).because("it is not mounted"));
        }
        let flags = if force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        unmount(&path, flags | UnmountFlags::NOFOLLOW).map_err(|e| match e {
            Errno::BUSY => Error::new(Kind::InUse, "unmount image", id.short())
                .because(format!("somebody works in {}", path.display()))
                .hint("leave it, or add --force"),
            e => Error::io("unmount image", path.display(), e),
        })?;
        let _ = std::fs::remove_dir(&path);
        // The last one takes the place with it.
        let _ = std::fs::remove_dir(self.config.run.join("images"));
        Ok(())
    }

    /// The images that are mounted at a path of the host.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn mounted_images(&self) -> Result<Vec<MountedImage>> {
        let dir = match std::fs::read_dir(self.config.run.join("images")) {
            Ok(dir) => dir,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read directory", self.config.run.join("images").display(), e)),
        };
        let mut found = Vec::new();
        for entry in dir.flatten() {
            let Ok(id) = Digest::from_hex(&entry.file_name().to_string_lossy()) else { continue };
            if !is_mounted(&entry.path()) {
                continue;
            }
            match self.store.image(&id.to_string()) {
                Ok(image) => found.push(mounted(&image, entry.path())),
                // Removed by a tare that sees other mounts.
                Err(_) => found.push(MountedImage { id, names: Vec::new(), path: entry.path() }),
            }
        }
        found.sort_by_key(|m| m.id);
        Ok(found)
    }

    /// Refuses what is mounted, or unmounts it.
    pub(crate) fn let_go_of_image(&self, name: &str, force: bool) -> Result<()> {
        // Nothing is ever mounted for most roots: one look says so.
        if !self.config.run.join("images").exists() {
            return Ok(());
        }
        let Ok(image) = self.store.image(name) else { return Ok(()) };
        let path = self.image_mount_point(&image.id);
        let one_of_several = image.names.len() > 1 && name.parse().is_ok_and(|n: Reference| image.names.contains(&n));
        if one_of_several || !is_mounted(&path) {
            return Ok(());
        }
        if force {
            return self.unmount_image_id(&image.id, true);
        }
        Err(Error::new(Kind::InUse, "remove image", name)
            .because(format!("its files are mounted at {}", path.display()))
            .hint(format!("`tare image unmount {}` first, or add --force", image.id.short())))
    }

    fn image_mount_point(&self, id: &Digest) -> PathBuf {
        self.config.run.join("images").join(id.hex())
    }

    /// What an image's layers alone show, without the mount points of containers.
    fn plain_view(&self, layers: &[Digest]) -> Result<OwnedFd> {
        let lowers = self.mounted_layers(layers, Mounting::ForOne)?;
        let mut paths: Vec<PathBuf> = lowers.iter().map(|l: &Lower| l.path.clone()).collect();
        // An overlay without an upper directory wants two lower ones.
        let empty = self.config.root.join("init/empty");
        std::fs::create_dir_all(&empty).during("create directory", empty.display())?;
        paths.push(empty);
        if paths.len() == 1 {
            let more = self.config.root.join("init/empty/none");
            std::fs::create_dir_all(&more).during("create directory", more.display())?;
            paths.insert(0, more);
        }
        overlay(&paths, None, false)
    }
}

fn mounted(image: &Image, path: PathBuf) -> MountedImage {
    MountedImage { id: image.id, names: image.names.iter().map(Reference::familiar).collect(), path }
}

/// Whether something is mounted on a directory.
fn is_mounted(path: &Path) -> bool {
    let device = |p: &Path| {
        let stat = rustix::fs::statat(CWD, p, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(stat.st_dev)
    };
    matches!((device(path), path.parent().and_then(device)), (Some(a), Some(b)) if a != b)
}

pub(crate) fn is_starter(name: &str) -> bool {
    matches!(name, "hello" | "hello:latest" | "localhost/hello" | STARTER)
}
