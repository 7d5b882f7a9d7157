//! A container's root as an open directory, for reading and writing from outside.
//!
//! ```text
//!            with what is mounted inside                     without
//! runs       /proc/PID/root                                  a second mount of the same overlay, by open_tree
//! at rest    overlay and volumes, in a mount namespace of    the same layers as a read-only overlay
//!            their own that goes with the view
//! ```
//!
//! An upper directory must not be in two overlays at once (overlayfs.rst calls that undefined), so a container at rest
//! is locked meanwhile: nobody starts it.

use crate::elsewhere::Home;
use crate::layers::Mounting;
use crate::record::{Mounted, Record};
use crate::request::{MountKind, Source};
use crate::rootfs::Changes;
use crate::view::State;
use crate::{Engine, userns};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::path::{Path, PathBuf};
use tare_kernel::mount::{Attributes, PRIVATE, RDONLY, set_attributes};
use tare_kernel::process::{Namespaces, setns, unshare};
use tare_model::id_map::IdMaps;
use tare_model::{Context, Error, Kind, Result};
use tare_runtime::launch::{in_root, mkdir_in_root};

/// Whether volumes, binds and the rest of what is mounted inside are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    With,
    Without,
}

/// An open root; what holds it together goes with it.
#[derive(Debug)]
pub(super) struct RootView {
    root: OwnedFd,
    /// What the host's owners are inside.
    ids: Option<IdMaps>,
    /// Mounts live as long as their namespace.
    _namespace: Option<OwnedFd>,
    _rest: Option<Rest>,
}

/// Keeps a container at rest.
#[derive(Debug)]
struct Rest {
    run: PathBuf,
    _lock: OwnedFd,
}

impl Drop for Rest {
    fn drop(&mut self) {
        // As it was before; under the lock, which is given back after this.
        let _ = std::fs::remove_dir_all(&self.run);
    }
}

impl RootView {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(super) fn ids(&self) -> Option<&IdMaps> {
        self.ids.as_ref()
    }
}

impl Engine {
    /// Opens a container's root. The process must have one thread, as it visits mount namespaces.
    pub(super) fn open_root(&self, name: &str, mounts: Mounts) -> Result<RootView> {
        let (row, record) = self.find(name)?;
        match self.observe(&row)?.state {
            State::Running | State::Paused => self.running_root(&row.id, record.ids, mounts),
            State::Created | State::Exited => self.resting_root(&record, mounts),
        }
        .during("open root of container", name)
    }

    fn running_root(&self, id: &str, ids: Option<IdMaps>, mounts: Mounts) -> Result<RootView> {
        let (pidfd, view) = self.running(id, "open root of container")?;
        let proc = Path::new("/proc").join(view.pid.unwrap_or_default().to_string());
        let root = match mounts {
            Mounts::With => {
                let path = proc.join("root");
                rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Error::io("open", path.display(), e))?
            }
            Mounts::Without => {
                let path = proc.join("ns/mnt");
                let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Error::io("open", path.display(), e))?;
                let home = Home::remember()?;
                setns(namespace.as_fd(), Namespaces::MOUNT).during("join mount namespace of", "container")?;
                // Joining leads to the namespace's root: the container's.
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let tree = open_tree(CWD, "/", flags);
                home.back()?;
                tree.map_err(|e| Error::io("clone mount of", "root filesystem", e))?
            }
        };
        // The number was this container's when it was looked up, and still is: so it was in between.
        let gone = || Error::new(Kind::State, "open root of container", &view.name).because("it has just ended");
        tare_kernel::process::pidfd_signal(pidfd.as_fd(), 0).map_err(|_| gone())?;
        Ok(RootView { root, ids, _namespace: None, _rest: None })
    }

    fn resting_root(&self, record: &Record, mounts: Mounts) -> Result<RootView> {
        let dirs = self.dirs(&record.id);
        let busy = || {
            Error::new(Kind::State, "open root of container", record.name())
                .because("it is being started, stopped or copied from just now")
        };
        let lock = dirs.lock_within(std::time::Duration::from_millis(50))?.ok_or_else(busy)?;
        let rest = Rest { run: dirs.run.clone(), _lock: lock };
        let root = match (&record.request.source, mounts) {
            (Source::Rootfs(_), _) => self.mount_root(record)?.0,
            (Source::Image(_), Mounts::With) => {
                let changes = Changes::Writable { upper: &dirs.upper(), work: &dirs.state.join("work") };
                // Never volatile: that would forbid the start, which makes a mount of its own.
                self.mount_layers(record, changes, false, Mounting::ForOne)?.0
            }
            (Source::Image(_), Mounts::Without) => {
                self.mount_layers(record, Changes::ReadOnly { upper: &dirs.upper() }, false, Mounting::ForOne)?.0
            }
        };
        let namespace = match mounts {
            Mounts::With => Some(assemble(&root, &dirs.run, record)?),
            Mounts::Without => None,
        };
        Ok(RootView { root, ids: record.ids.clone(), _namespace: namespace, _rest: Some(rest) })
    }
}

/// Puts the root, and on it the container's volumes and binds, into a mount namespace of their own.
fn assemble(root: &OwnedFd, at: &Path, record: &Record) -> Result<OwnedFd> {
    let home = Home::remember()?;
    unshare(Namespaces::MOUNT).during("make", "mount namespace")?;
    let build = || -> Result<OwnedFd> {
        let private = Attributes { propagation: PRIVATE, ..Default::default() };
        // Nothing of what follows may be seen by the host.
        set_attributes(CWD, c"/", private, true).during("make private", "/")?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(root, "", CWD, at, flags).map_err(|e| Error::io("attach", "root filesystem", e))?;
        for mounted in &record.mounts {
            attach(root, mounted, record.ids.as_ref()).during("mount", &mounted.request.target)?;
        }
        if record.request.read_only {
            let attributes = Attributes { set: RDONLY, ..Default::default() };
            set_attributes(root.as_fd(), c"", attributes, false).during("make read-only", "root filesystem")?;
        }
        rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open", "mount namespace", e))
    };
    let built = build();
    home.back()?;
    built
}

fn attach(root: &OwnedFd, mounted: &Mounted, ids: Option<&IdMaps>) -> Result<()> {
    let (Some(source), false) = (&mounted.source, matches!(mounted.request.kind, MountKind::Tmpfs { .. })) else {
        // Memory holds nothing while nothing runs.
        return Ok(());
    };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if !matches!(mounted.request.kind, MountKind::Bind { recursive: false, .. }) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source.as_path(), flags).map_err(|e| Error::io("bind", source.display(), e))?;
    let set = if mounted.request.read_only { RDONLY } else { 0 };
    set_attributes(tree.as_fd(), c"", Attributes { set, ..Default::default() }, true)
        .during("set attributes of", source.display())?;
    if let (Some(ids), true) = (ids, mounted.request.kind.maps_ids()) {
        userns::map(&tree, ids, source)?;
    }
    let target = place(root, &mounted.request.target, &tree)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &target, "", flags).map_err(|e| Error::io("attach", source.display(), e))
}

/// The place to mount at, made if missing, as a start would.
fn place(root: &OwnedFd, target: &str, tree: &OwnedFd) -> Result<OwnedFd> {
    let fail = |e| Error::io("open", target, e);
    match in_root(root, target, OFlags::PATH) {
        Err(rustix::io::Errno::NOENT) => {}
        other => return other.map_err(fail),
    }
    let stat = rustix::fs::fstat(tree).map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return mkdir_in_root(root, target);
    }
    let (parent, name) = target.trim_end_matches('/').rsplit_once('/').unwrap_or(("/", target));
    let parent = mkdir_in_root(root, parent)?;
    match rustix::fs::mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(fail(e)),
    }
    in_root(root, target, OFlags::PATH).map_err(fail)
}
