//! Where the layers' images are mounted: each once per host, however many containers stand on it.
//!
//! Two mounts of one image would hold its pages twice, and mounting 127 layers at each start takes longer than everything else.
//! So the images of a root are mounted in a mount namespace that nobody lives in, named by the file `<run>/layers/ns`:
//!
//! ```text
//! <run>/layers/ns      a mount namespace: an empty file system, and on /HEX the image of the layer HEX
//! <run>/layers/lock    flock: shared by who takes mounts from there, exclusive by who changes what is there
//! ```
//!
//! A start enters it for some microseconds, clones the mounts that it needs, comes back, and puts the overlay on top. What a container
//! uses stays as long as the container does, whatever happens to the namespace. The host's own mount table is not touched, so
//! nothing of this is copied into other namespaces, where it would keep removed layers on the disk.
//!
//! The namespace goes with the root's last container; an image that is removed is unmounted first.

use crate::{Engine, record};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_change, move_mount,
    open_tree, unmount,
};
use std::path::{Path, PathBuf};
use tare_kernel::process::{self, Namespaces};
use tare_model::{Context, Digest, Error, Kind, Result};
use tare_store::{Form, Placed};

/// The magic number of the file system of namespaces.
const NSFS: i64 = 0x6e73_6673;

/// The magic number of EROFS.
const EROFS: i64 = 0xe0f5_e1e2;

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
    pub(crate) fn mounted_layers(&self, diff_ids: &[Digest]) -> Result<Vec<Lower>> {
        let placed = self.store.lowers_of(diff_ids)?;
        let images: Vec<&Placed> = placed.iter().filter(|p| p.form == Form::Image).collect();
        let mut mounts = if images.is_empty() { Vec::new() } else { self.image_mounts(&images)? }.into_iter();
        let lower = |p: &Placed| match p.form {
            Form::Tree => Some(Lower::directory(p.path.clone())),
            Form::Image => mounts.next().map(Lower::mounted),
        };
        Ok(placed.iter().filter_map(lower).collect())
    }

    /// A mount of each of these images, in order.
    fn image_mounts(&self, images: &[&Placed]) -> Result<Vec<OwnedFd>> {
        let place = Namespace::of(&self.config.run)?;
        let mut lock = place.lock(FlockOperation::LockShared)?;
        for _ in 0..3 {
            let missing = match place.open()? {
                Some(namespace) => match inside(&namespace, || clone_all(images))? {
                    Ok(mounts) => return Ok(mounts),
                    Err(missing) => missing,
                },
                None => images.to_vec(),
            };
            drop(lock);
            let held = place.lock(FlockOperation::LockExclusive)?;
            let namespace = match place.open()? {
                Some(there) => there,
                None => place.make()?,
            };
            add(&namespace, &missing)?;
            // Still ours: nobody can take them away before they are cloned.
            lock = held;
        }
        Err(Error::new(Kind::System, "mount layers", "").because("they are removed as fast as they are mounted"))
    }

    /// Lets go of layers that are removed: until then the kernel would keep their space.
    pub(crate) fn unmount_layers(&self, gone: &[Digest]) -> Result<()> {
        let place = Namespace::of(&self.config.run)?;
        let _lock = place.lock(FlockOperation::LockExclusive)?;
        let Some(namespace) = place.open()? else { return Ok(()) };
        inside(&namespace, || {
            for layer in gone {
                let at = format!("/{}", layer.hex());
                match unmount(at.as_str(), UnmountFlags::DETACH) {
                    Ok(()) => drop(rustix::fs::rmdir(at.as_str())),
                    Err(Errno::NOENT | Errno::INVAL) => {}
                    Err(e) => return Err(Error::io("unmount", at, e)),
                }
            }
            Ok(())
        })
    }

    /// Takes the namespace away if no container of this root is there any more.
    pub(crate) fn release_layers(&self) -> Result<()> {
        let place = Namespace::of(&self.config.run)?;
        if !place.file.exists() {
            return Ok(());
        }
        // Who holds it is starting one.
        let Some(_lock) = place.try_lock()? else { return Ok(()) };
        let used = std::fs::read_dir(self.config.run.join("containers")).is_ok_and(|mut dir| dir.next().is_some());
        if used {
            return Ok(());
        }
        match unmount(&place.file, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(Error::io("unmount", place.file.display(), e)),
        }
        let _ = std::fs::remove_file(&place.file);
        Ok(())
    }
}

/// The files of the namespace.
struct Namespace {
    dir: PathBuf,
    file: PathBuf,
    lock: PathBuf,
}

impl Namespace {
    fn of(run: &Path) -> Result<Namespace> {
        let dir = run.join("layers");
        record::make_private(&dir)?;
        Ok(Namespace { file: dir.join("ns"), lock: dir.join("lock"), dir })
    }

    fn lock(&self, how: FlockOperation) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let fail = |e| Error::io("lock", self.lock.display(), e);
        let fd = rustix::fs::open(&self.lock, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
        rustix::fs::flock(&fd, how).map_err(fail)?;
        Ok(fd)
    }

    fn try_lock(&self) -> Result<Option<OwnedFd>> {
        match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(e) if e.errno() == Some(Errno::WOULDBLOCK.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The namespace, if it is there.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let fd = match rustix::fs::open(&self.file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::io("open", self.file.display(), e)),
        };
        let on = rustix::fs::fstatfs(&fd).map_err(|e| Error::io("look at", self.file.display(), e))?;
        // A plain file: its maker was killed, or it was made where other mounts are seen.
        Ok((on.f_type == NSFS).then_some(fd))
    }

    /// Makes it: a process of its own enters a new one, takes everything of the host's out of it, and waits until it has a name.
    fn make(&self) -> Result<OwnedFd> {
        let fail = |e| Error::io("make mount namespace for", self.dir.display(), e);
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
        let (stay, done) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
        let child = process::clone(Namespaces::MOUNT, None, || {
            let made = empty_root(&self.dir);
            let _ = rustix::io::write(&theirs, &[u8::from(made.is_err())]);
            let _ = rustix::io::read(&stay, &mut [0u8; 1]);
            process::exit_now(0)
        })
        .during("clone", "maker of a mount namespace")?;
        drop((theirs, stay));
        let mut word = [1u8];
        let told = rustix::io::read(&ours, &mut word).map_err(fail)?;
        let bound = if told == 1 && word[0] == 0 {
            std::fs::File::create(&self.file).during("create", self.file.display())?;
            mount_bind(format!("/proc/{}/ns/mnt", child.pid), &self.file).map_err(fail)
        } else {
            Err(Error::new(Kind::System, "make mount namespace for", self.dir.display())
                .because("its root could not be emptied"))
        };
        let _ = rustix::io::write(&done, &[0]);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        bound?;
        self.open()?.ok_or_else(|| Error::new(Kind::System, "open", self.file.display()))
    }
}

/// In a new mount namespace: nothing is left but an empty file system.
fn empty_root(dir: &Path) -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount(
        "tare",
        dir,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Some(c"mode=0700,size=16m"),
    )?;
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

/// All of them, or those that are not there.
fn clone_all<'a>(images: &[&'a Placed]) -> Result<Result<Vec<OwnedFd>, Vec<&'a Placed>>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let (mut mounts, mut missing) = (Vec::with_capacity(images.len()), Vec::new());
    for image in images {
        match open_tree(CWD, format!("/{}", image.diff_id.hex()), flags) {
            // Whoever makes the directory may be killed before it is mounted on.
            Ok(mount) if rustix::fs::fstatfs(&mount).is_ok_and(|on| on.f_type == EROFS) => mounts.push(mount),
            Ok(_) => missing.push(*image),
            Err(Errno::NOENT) => missing.push(*image),
            Err(e) => return Err(Error::io("open layer", image.diff_id, e)),
        }
    }
    Ok(if missing.is_empty() { Ok(mounts) } else { Err(missing) })
}

/// Mounts images that are not there yet.
fn add(namespace: &OwnedFd, images: &[&Placed]) -> Result<()> {
    let made = images.iter().map(|image| mount_image(&image.path)).collect::<Result<Vec<_>>>()?;
    inside(namespace, || {
        for (image, mount) in images.iter().zip(&made) {
            let at = format!("/{}", image.diff_id.hex());
            let fail = |e| Error::io("mount layer", image.diff_id, e);
            match rustix::fs::mkdir(at.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) if rustix::fs::statfs(at.as_str()).is_ok_and(|on| on.f_type == EROFS) => continue,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(fail(e)),
            }
            move_mount(mount, "", CWD, at.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(fail)?;
        }
        Ok(())
    })
}

/// A detached mount of a layer's image.
fn mount_image(path: &Path) -> Result<OwnedFd> {
    let attempt = || -> rustix::io::Result<OwnedFd> {
        let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(fs.as_fd(), "source", path)?;
        fsconfig_create(fs.as_fd())?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    attempt().map_err(|e| Error::io("mount layer image", path.display(), e))
}

/// In which form this host wants layers: images where it mounts them straight from their file (Linux 6.12 and later, not in a user
/// namespace).
pub(crate) fn form_for_this_host() -> Form {
    let release = rustix::system::uname();
    let version = release.release().to_string_lossy();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let known = crate::config::read_or_empty(Path::new("/proc/filesystems")).lines().any(|l| l.ends_with("\terofs"));
    let initial =
        crate::config::read_or_empty(Path::new("/proc/self/uid_map")).split_whitespace().eq(["0", "0", "4294967295"]);
    if version >= (6, 12) && known && initial { Form::Image } else { Form::Tree }
}
