//! The mount namespace in which a root's layers are mounted: see the parent module.

use crate::elsewhere::inside;
use crate::layer_image as image;
use crate::record;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tare_kernel::process::{self, Namespaces};
use tare_model::{Context, Digest, Error, Kind, Result};

/// Says inside which namespace it is.
const MARK: &str = "/.layers";

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

/// The namespace's directory, and what can be done with it.
#[derive(Debug)]
pub(super) struct Namespace {
    dir: PathBuf,
    lock: PathBuf,
}

impl Namespace {
    pub(super) fn of(run: &Path) -> Namespace {
        let dir = run.join("layers");
        Namespace { lock: dir.join("lock"), dir }
    }

    /// A mount of each of these images, in order: a clone of what is mounted there, and is mounted there if it was not. `held` is
    /// the namespace, if this process holds it already; what is returned with the mounts is to be, and [`Namespace::announce`]d
    /// under this name.
    pub(super) fn fetch(
        &self,
        images: &[Wanted],
        held: Option<BorrowedFd<'_>>,
        name: &str,
    ) -> Result<(Vec<OwnedFd>, Option<OwnedFd>)> {
        record::make_private(&self.dir)?;
        let mut lock = flock(&self.lock, FlockOperation::LockShared)?;
        let mut found = match held {
            Some(_) => None,
            None => self.find()?,
        };
        for _ in 0..3 {
            let missing = match held.or(found.as_ref().map(AsFd::as_fd)) {
                Some(namespace) => match inside(namespace, || clone_all(images))? {
                    Ok(mounts) => {
                        if let Some(new) = &found {
                            self.announce(name, new.as_fd(), new.as_raw_fd())?;
                        }
                        return Ok((mounts, found));
                    }
                    Err(missing) => missing,
                },
                None => images.iter().collect(),
            };
            drop(lock);
            let exclusive = flock(&self.lock, FlockOperation::LockExclusive)?;
            if held.is_none() && found.is_none() {
                // Somebody may have made it meanwhile.
                found = Some(match self.find()? {
                    Some(there) => there,
                    None => make(&self.dir)?,
                });
            }
            if let Some(namespace) = held.or(found.as_ref().map(AsFd::as_fd)) {
                add(namespace, &missing)?;
            }
            // Still ours: nobody can take them away before they are cloned.
            lock = exclusive;
        }
        Err(Error::new(Kind::System, "mount layers", "").because("they are removed as fast as they are mounted"))
    }

    /// A mount of each of these images, in order: a clone of what is mounted there, else one of its own, which goes with it.
    pub(super) fn borrow(&self, images: &[Wanted]) -> Result<Vec<OwnedFd>> {
        let mut there: Vec<Option<OwnedFd>> = Vec::new();
        // Others would see where this thread goes.
        if process::is_single_threaded().unwrap_or(false) && self.dir.exists() {
            let _held = flock(&self.lock, FlockOperation::LockShared)?;
            if let Some(namespace) = self.find()? {
                there = inside(namespace.as_fd(), || images.iter().map(clone_one).collect())?;
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
        let _held = flock(&self.lock, FlockOperation::LockShared)?;
        let all =
            self.find_all()?.iter().map(|namespace| inside(namespace.as_fd(), listed)).collect::<Result<Vec<_>>>()?;
        Ok(all.concat())
    }

    /// Unmounts what `stale` picks; how many.
    pub(super) fn sweep(&self, stale: impl Fn(&str) -> bool) -> Result<usize> {
        if !self.dir.exists() {
            return Ok(0);
        }
        let _held = flock(&self.lock, FlockOperation::LockExclusive)?;
        let mut count = 0;
        for namespace in self.find_all()? {
            let mut names = inside(namespace.as_fd(), listed)?;
            names.retain(|name| stale(name));
            if !names.is_empty() {
                inside(namespace.as_fd(), || names.iter().try_for_each(|name| remove(name)))?;
            }
            count += names.len();
        }
        Ok(count)
    }

    /// Tells others that this process holds the namespace under this number, and will for some time.
    pub(super) fn announce(&self, name: &str, namespace: BorrowedFd<'_>, number: RawFd) -> Result<()> {
        let place = self.link(name, namespace)?;
        let aside = self.dir.join(format!(".{name}"));
        let target = format!("/proc/{}/fd/{number}", rustix::process::getpid().as_raw_nonzero());
        let _ = std::fs::remove_file(&aside);
        std::os::unix::fs::symlink(target, &aside).during("make", aside.display())?;
        // Whoever looks finds either the old place or the new one.
        std::fs::rename(&aside, &place).during("make", place.display())
    }

    /// Takes back what was announced.
    pub(super) fn withdraw(&self, name: &str, namespace: BorrowedFd<'_>) {
        let _ = self.link(name, namespace).map(std::fs::remove_file);
    }

    fn link(&self, name: &str, namespace: BorrowedFd<'_>) -> Result<PathBuf> {
        let stat = rustix::fs::fstat(namespace).map_err(|e| Error::io("look at", "mount namespace of layers", e))?;
        Ok(self.dir.join(format!("{name}.{}", stat.st_ino)))
    }

    /// The namespace.
    fn find(&self) -> Result<Option<OwnedFd>> {
        let entries = std::fs::read_dir(&self.dir).during("read", self.dir.display())?;
        Ok(entries.flatten().find_map(|entry| self.follow(&entry)))
    }

    /// All there are. Two are possible: if somebody was killed while he made one, another may not have found it.
    fn find_all(&self) -> Result<Vec<OwnedFd>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir).during("read", self.dir.display())?.flatten() {
            let number = number_in(&entry.file_name());
            if !found.contains_key(&number) {
                found.extend(self.follow(&entry).map(|fd| (number, fd)));
            }
        }
        Ok(found.into_values().collect())
    }

    /// What a holder has announced, if he is still there. The number of a process may be another's by now, which has other
    /// descriptors. A link that leads nowhere is removed: its holder was killed.
    fn follow(&self, link: &std::fs::DirEntry) -> Option<OwnedFd> {
        let number = number_in(&link.file_name())?;
        let path = link.path();
        match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => {
                let is_it = process::namespace_kind(fd.as_fd()) == Some(Namespaces::MOUNT)
                    && rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_ino == number);
                is_it.then_some(fd)
            }
            Err(Errno::NOENT | Errno::SRCH) => {
                let _ = std::fs::remove_file(&path);
                None
            }
            // Not ours to look at.
            Err(_) => None,
        }
    }
}

/// The number of the namespace that a link is for.
fn number_in(name: &OsStr) -> Option<u64> {
    let (random, number) = name.to_str()?.split_once('.')?;
    if random.is_empty() { None } else { number.parse().ok() }
}

/// A mount namespace with nothing in it. A process of its own enters a new one, takes everything of the host's out of it, and waits
/// until its maker has got hold of it.
fn make(dir: &Path) -> Result<OwnedFd> {
    let fail = |e| Error::io("make mount namespace for", dir.display(), e);
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
    let (stay, done) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
    let child = process::clone(Namespaces::MOUNT, None, || {
        // Without an end of its own that could be written to, it ends with its parent.
        let _ = process::close_all_but(3, &[theirs.as_fd(), stay.as_fd()]);
        let errno = empty_root(dir).err().map_or(0, Errno::raw_os_error);
        let _ = rustix::io::write(&theirs, &errno.to_ne_bytes());
        let _ = rustix::io::read(&stay, &mut [0u8; 1]);
        process::exit_now(0)
    })
    .during("clone", "maker of a mount namespace")?;
    drop((theirs, stay));
    let mut word = [0u8; 4];
    let made = match rustix::io::read(&ours, &mut word) {
        Ok(4) if word == [0; 4] => {
            let path = format!("/proc/{}/ns/mnt", child.pid);
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
        }
        Ok(4) => Err(fail(Errno::from_raw_os_error(i32::from_ne_bytes(word)))),
        Ok(_) => {
            Err(Error::new(Kind::System, "make mount namespace for", dir.display()).because("its maker was killed"))
        }
        Err(e) => Err(fail(e)),
    };
    drop(done);
    let end = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
    let _ = rustix::process::waitid(end, rustix::process::WaitIdOptions::EXITED);
    made
}

fn flock(path: &Path, how: FlockOperation) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let fd =
        rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| Error::io("open", path.display(), e))?;
    loop {
        match rustix::fs::flock(&fd, how) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| fd).map_err(|e| Error::io("lock", path.display(), e)),
        }
    }
}

/// In a new mount namespace: nothing is left but an empty file system.
fn empty_root(dir: &Path) -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tare", dir, "tmpfs", flags, Some(c"mode=0700,size=16m"))?;
    rustix::process::chdir(dir)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::fs::mkdir(MARK, Mode::empty())
}

/// Inside: names of mount points.
fn listed() -> Result<Vec<String>> {
    let entries = std::fs::read_dir("/").during("read", "mount namespace of layers")?;
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

/// Inside: unmounts a layer.
fn remove(name: &str) -> Result<()> {
    let at = format!("/{name}");
    match unmount(at.as_str(), UnmountFlags::DETACH) {
        // A mount point whose maker was killed has nothing on it.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(e) => return Err(Error::io("unmount layer", name, e)),
    }
    let _ = rustix::fs::rmdir(at.as_str());
    Ok(())
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
fn add(namespace: BorrowedFd<'_>, images: &[&Wanted]) -> Result<()> {
    let made = images.iter().map(|image| image::mount(&image.path)).collect::<Result<Vec<_>>>()?;
    inside(namespace, || {
        for (image, mount) in images.iter().zip(&made) {
            let at = image.place();
            let fail = |e| Error::io("mount layer", image.layer, e);
            // Never in a namespace of somebody else's.
            rustix::fs::access(MARK, rustix::fs::Access::EXISTS).map_err(fail)?;
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
