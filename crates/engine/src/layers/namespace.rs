//! The mount namespace in which a root's layers are mounted: see the parent module.

use super::image;
use crate::record;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_change,
    move_mount, open_tree, unmount,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tare_kernel::process::{self, Namespaces};
use tare_model::{Context, Digest, Error, Kind, Result};

/// The magic number of the file system of namespaces.
const NSFS: i64 = 0x6e73_6673;

/// An image that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which layer it is.
    pub(super) layer: Digest,
    /// The image.
    pub(super) path: PathBuf,
    /// The name of its mount point: the layer and the number of the file, so that a mount of a file that was removed is never
    /// taken for one of its successor. As long as it is mounted no other file has its number.
    pub(super) name: String,
}

impl Wanted {
    /// # Errors
    /// A file that cannot be looked at.
    pub(super) fn of(layer: Digest, path: &Path) -> Result<Wanted> {
        let stat = rustix::fs::stat(path).map_err(|e| Error::io("look at", path.display(), e))?;
        let name = format!("{}.{:x}.{:x}", layer.hex(), stat.st_dev, stat.st_ino);
        Ok(Wanted { layer, path: path.to_owned(), name })
    }

    fn place(&self) -> String {
        format!("/{}", self.name)
    }
}

/// The files of the namespace, and what can be done with it.
#[derive(Debug)]
pub(super) struct Namespace {
    dir: PathBuf,
    file: PathBuf,
    lock: PathBuf,
    users: PathBuf,
}

impl Namespace {
    pub(super) fn of(run: &Path) -> Namespace {
        let dir = run.join("layers");
        Namespace { file: dir.join("ns"), lock: dir.join("lock"), users: dir.join("users"), dir }
    }

    /// Says that somebody stands on these layers, until it is closed everywhere.
    pub(super) fn enlist(&self) -> Result<OwnedFd> {
        record::make_private(&self.dir)?;
        let fd = lock(&self.users, FlockOperation::LockShared)?;
        // Who lingers sees that somebody has come, even if he has gone already.
        let now = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        };
        rustix::fs::futimens(&fd, &now).map_err(|e| Error::io("touch", self.users.display(), e))?;
        Ok(fd)
    }

    /// A mount of each of these images, in order: a clone of what is mounted there, and is mounted there if it was not.
    pub(super) fn fetch(&self, images: &[Wanted]) -> Result<Vec<OwnedFd>> {
        record::make_private(&self.dir)?;
        let mut held = lock(&self.lock, FlockOperation::LockShared)?;
        for _ in 0..3 {
            let missing = match self.open()? {
                Some(namespace) => match inside(&namespace, || clone_all(images))? {
                    Ok(mounts) => return Ok(mounts),
                    Err(missing) => missing,
                },
                None => images.iter().collect(),
            };
            drop(held);
            let exclusive = lock(&self.lock, FlockOperation::LockExclusive)?;
            let namespace = match self.open()? {
                Some(there) => there,
                None => self.make()?,
            };
            add(&namespace, &missing)?;
            // Still ours: nobody can take them away before they are cloned.
            held = exclusive;
        }
        Err(Error::new(Kind::System, "mount layers", "").because("they are removed as fast as they are mounted"))
    }

    /// A mount of each of these images, in order: a clone of what is mounted there, else one of its own, which goes with it.
    pub(super) fn borrow(&self, images: &[Wanted]) -> Result<Vec<OwnedFd>> {
        let mut there = Vec::new();
        // Others would see where this thread goes.
        if process::is_single_threaded().unwrap_or(false) && self.dir.exists() {
            let _held = lock(&self.lock, FlockOperation::LockShared)?;
            if let Some(namespace) = self.open()? {
                there = inside(&namespace, || images.iter().map(clone_one).collect())?;
            }
        }
        there.resize_with(images.len(), || None);
        let each = images.iter().zip(there);
        each.map(|(image, there)| there.map_or_else(|| image::mount(&image.path), Ok)).collect()
    }

    /// Names of mount points.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let _held = lock(&self.lock, FlockOperation::LockShared)?;
        self.open()?.map_or_else(|| Ok(Vec::new()), |namespace| inside(&namespace, listed))
    }

    /// Unmounts what `stale` picks; how many.
    pub(super) fn sweep(&self, stale: impl Fn(&str) -> bool) -> Result<usize> {
        if !self.dir.exists() {
            return Ok(0);
        }
        let _held = lock(&self.lock, FlockOperation::LockExclusive)?;
        let Some(namespace) = self.open()? else { return Ok(0) };
        let names = inside(&namespace, listed)?;
        let stale: Vec<String> = names.into_iter().filter(|name| stale(name)).collect();
        if stale.is_empty() {
            return Ok(0);
        }
        inside(&namespace, || {
            for name in &stale {
                let at = format!("/{name}");
                match unmount(at.as_str(), UnmountFlags::DETACH) {
                    // A mount point whose maker was killed has nothing on it.
                    Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
                    Err(e) => return Err(Error::io("unmount layer", name, e)),
                }
                let _ = rustix::fs::rmdir(at.as_str());
            }
            Ok(())
        })?;
        Ok(stale.len())
    }

    /// Takes the namespace away if nobody is enlisted; with `since`, if nobody was after that. Whether it is gone.
    pub(super) fn release(&self, since: Option<SystemTime>) -> Result<bool> {
        if !self.file.exists() {
            return Ok(true);
        }
        let Some(_held) = try_lock(&self.lock)? else { return Ok(false) };
        let Some(users) = try_lock(&self.users)? else { return Ok(false) };
        if let Some(since) = since {
            let touched = std::fs::File::from(users.try_clone().during("duplicate", "lock")?).metadata();
            if touched.and_then(|m| m.modified()).is_ok_and(|t| t > since) {
                return Ok(true);
            }
        }
        if self.open()?.is_some() {
            match unmount(&self.file, UnmountFlags::DETACH) {
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(e) => return Err(Error::io("unmount", self.file.display(), e)),
            }
        }
        if self.is_set_apart() {
            unmount(&self.dir, UnmountFlags::DETACH).map_err(|e| Error::io("unmount", self.dir.display(), e))?;
        }
        // The file stays: removing it would also unmount what is on it where other mounts are seen.
        Ok(true)
    }

    /// The namespace, if it is there.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let fd = match rustix::fs::open(&self.file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open", self.file.display(), e)),
        };
        let on = rustix::fs::fstatfs(&fd).map_err(|e| Error::io("look at", self.file.display(), e))?;
        // A plain file: its maker was killed, the host was restarted, or it was made where other mounts are seen.
        Ok((on.f_type == NSFS).then_some(fd))
    }

    /// Makes it: a process of its own enters a new one, takes everything of the host's out of it, and waits until it has a name.
    fn make(&self) -> Result<OwnedFd> {
        let fail = |e| Error::io("make mount namespace for", self.dir.display(), e);
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
        let (stay, done) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
        let child = process::clone(Namespaces::MOUNT, None, || {
            // Without an end of its own that could be written to, it ends with its parent.
            let _ = process::close_all_but(3, &[theirs.as_fd(), stay.as_fd()]);
            let errno = empty_root(&self.dir).err().map_or(0, Errno::raw_os_error);
            let _ = rustix::io::write(&theirs, &errno.to_ne_bytes());
            let _ = rustix::io::read(&stay, &mut [0u8; 1]);
            process::exit_now(0)
        })
        .during("clone", "maker of a mount namespace")?;
        drop((theirs, stay));
        let mut word = [0u8; 4];
        let made = match rustix::io::read(&ours, &mut word) {
            Ok(4) if word == [0; 4] => self.bind(&PathBuf::from(format!("/proc/{}/ns/mnt", child.pid))),
            Ok(4) => Err(fail(Errno::from_raw_os_error(i32::from_ne_bytes(word)))),
            Ok(_) => Err(Error::new(Kind::System, "make mount namespace for", self.dir.display())
                .because("its maker was killed")),
            Err(e) => Err(fail(e)),
        };
        drop(done);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        made?;
        self.open()?.ok_or_else(|| Error::new(Kind::System, "open", self.file.display()))
    }

    /// Gives it a name. The kernel does not copy a mount of a mount namespace anywhere, so it cannot stand where mounts are
    /// shared with others, as on most hosts all of /run is: then its directory is set apart first.
    fn bind(&self, namespace: &Path) -> Result<()> {
        let fail = |e| Error::io("make mount namespace for", self.dir.display(), e);
        drop(std::fs::File::create(&self.file).during("create", self.file.display())?);
        match mount_bind(namespace, &self.file) {
            Err(Errno::INVAL) => {}
            other => return other.map_err(fail),
        }
        if !self.is_set_apart() {
            mount_bind(&self.dir, &self.dir).map_err(fail)?;
        }
        mount_change(&self.dir, MountPropagationFlags::PRIVATE).map_err(fail)?;
        mount_bind(namespace, &self.file).map_err(fail)
    }

    fn is_set_apart(&self) -> bool {
        rustix::fs::statx(CWD, &self.dir, AtFlags::empty(), StatxFlags::TYPE)
            .is_ok_and(|s| s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
}

fn lock(path: &Path, how: FlockOperation) -> Result<OwnedFd> {
    let fd = open_lock(path)?;
    loop {
        match rustix::fs::flock(&fd, how) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| fd).map_err(|e| Error::io("lock", path.display(), e)),
        }
    }
}

/// Exclusively, unless somebody has it.
fn try_lock(path: &Path) -> Result<Option<OwnedFd>> {
    let fd = open_lock(path)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(Error::io("lock", path.display(), e)),
    }
}

fn open_lock(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| Error::io("open", path.display(), e))
}

/// In a new mount namespace: nothing is left but an empty file system.
fn empty_root(dir: &Path) -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tare", dir, "tmpfs", flags, Some(c"mode=0700,size=16m"))?;
    rustix::process::chdir(dir)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)
}

/// Does something in another mount namespace. Root and working directory are afterwards what they were.
fn inside<T>(namespace: &OwnedFd, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let open = |path: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
    };
    let (root, cwd) = (open("/")?, open(".")?);
    let home = rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", "mount namespace", e))?;
    process::setns(namespace.as_fd(), Namespaces::MOUNT).during("enter", "mount namespace of layers")?;
    let out = act();
    process::setns(home.as_fd(), Namespaces::MOUNT).during("leave", "mount namespace of layers")?;
    let back = || -> rustix::io::Result<()> {
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&cwd)
    };
    back().map_err(|e| Error::io("come back from", "mount namespace of layers", e))?;
    out
}

/// Inside: names of mount points.
fn listed() -> Result<Vec<String>> {
    let entries = std::fs::read_dir("/").during("read", "mount namespace of layers")?;
    Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
}

/// Inside: a clone of an image's mount, if it is there.
fn clone_one(image: &Wanted) -> Result<Option<OwnedFd>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(CWD, image.place(), flags) {
        // Whoever makes the directory may be killed before it is mounted on.
        Ok(mount) => Ok(rustix::fs::fstatfs(&mount).is_ok_and(|on| image::is_mounted(&on)).then_some(mount)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("open layer", image.layer, e)),
    }
}

/// Inside: all of them, or those that are not there.
fn clone_all(images: &[Wanted]) -> Result<Result<Vec<OwnedFd>, Vec<&Wanted>>> {
    let (mut mounts, mut missing) = (Vec::with_capacity(images.len()), Vec::new());
    for image in images {
        match clone_one(image)? {
            Some(mount) => mounts.push(mount),
            None => missing.push(image),
        }
    }
    Ok(if missing.is_empty() { Ok(mounts) } else { Err(missing) })
}

/// Mounts images that are not there yet.
fn add(namespace: &OwnedFd, images: &[&Wanted]) -> Result<()> {
    let made = images.iter().map(|image| image::mount(&image.path)).collect::<Result<Vec<_>>>()?;
    inside(namespace, || {
        for (image, mount) in images.iter().zip(&made) {
            let at = image.place();
            let fail = |e| Error::io("mount layer", image.layer, e);
            match rustix::fs::mkdir(at.as_str(), Mode::RWXU) {
                Ok(()) => {}
                // Another was faster.
                Err(Errno::EXIST) if rustix::fs::statfs(at.as_str()).is_ok_and(|on| image::is_mounted(&on)) => continue,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(fail(e)),
            }
            move_mount(mount, "", CWD, at.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(fail)?;
        }
        Ok(())
    })
}
