//! Differences between kernels, found out at run time.

use crate::elsewhere::Home;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree,
};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use tare_kernel::process::{Namespaces, unshare};
use tare_model::{Context, Error, Kind, Result};

/// Lower directories of one overlay, at most (OVL_MAX_STACK in the kernel's fs/overlayfs/params.h).
const LOWERS: usize = 500;
/// Bytes of one value that fsconfig(2) takes, without its end.
const VALUE: usize = 255;

/// An overlay to be mounted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    /// Top first.
    pub(crate) lowers: &'a [PathBuf],
    /// Upper and work directory; none makes it read-only.
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
    /// Further options, with their values.
    pub(crate) options: &'a [(&'static str, Option<&'static str>)],
}

/// A detached overlay.
///
/// Up to Linux 6.4 a file system context takes any option unread, and complains in the host's log when the mount is created. It
/// is known by what it does not take: a descriptor.
///
/// # Errors
/// `Kind::Unsupported` for more layers than overlayfs stacks, and without overlayfs; what mounting fails with, with the kernel's own
/// words if it has some.
pub(crate) fn overlay(overlay: &Overlay<'_>) -> Result<OwnedFd> {
    if overlay.lowers.len() > LOWERS {
        return Err(Error::new(Kind::Unsupported, "mount", "overlay")
            .because(format!("it has {} layers, and overlayfs stacks {LOWERS} at most", overlay.lowers.len()))
            .hint("fewer layers: `tare export CONTAINER | tare import - NAME` makes one of them all"));
    }
    let fs = context()?;
    let unread = fsconfig_set_fd(fs.as_fd(), "lowerdir+", fs.as_fd()) == Err(Errno::OPNOTSUPP);
    // What it says of that is nobody's business.
    let _ = tare_runtime::launch::kernel_words(&fs);
    if unread {
        return overlay.at_once();
    }
    let mut lowers = overlay.lowers.iter();
    match lowers.next().map_or(Ok(()), |first| fsconfig_set_string(fs.as_fd(), "lowerdir+", first.as_path())) {
        // Linux 6.5 and 6.6 do not know the option, or the directory cannot be one: then the older way says so, too.
        Err(Errno::INVAL) => return overlay.at_once(),
        Err(e) => return Err(worded(&fs, e)),
        Ok(()) => {}
    }
    lowers
        .try_for_each(|lower| fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_path()))
        .and_then(|()| overlay.finish(&fs))
        .map_err(|e| worded(&fs, e))
}

impl Overlay<'_> {
    /// All lower directories in one value, as numbers of open descriptors relative to /proc/self/fd.
    fn at_once(&self) -> Result<OwnedFd> {
        let opened = self.lowers.iter().map(|path| Opened::of(path)).collect::<rustix::io::Result<Vec<_>>>();
        let opened = opened.map_err(|e| Error::io("open", "layers", e))?;
        let names: Vec<String> = opened.iter().map(|lower| lower.number.to_string()).collect();
        let names = names.join(":");
        if names.len() > VALUE {
            return self.by_page(&names);
        }
        let fs = context()?;
        let home = open_directory(Path::new(".")).map_err(|e| Error::io("open", ".", e))?;
        rustix::process::chdir("/proc/self/fd").map_err(|e| Error::io("change to", "/proc/self/fd", e))?;
        // Up to Linux 6.4 the names are resolved when the mount is created: until then they must hold.
        let made = fsconfig_set_string(fs.as_fd(), "lowerdir", names).and_then(|()| self.finish(&fs));
        rustix::process::fchdir(&home).map_err(|e| Error::io("return to", "own directory", e))?;
        made.map_err(|e| worded(&fs, e))
    }

    /// What comes behind the lower directories.
    fn finish(&self, fs: &OwnedFd) -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(fs.as_fd(), "source", "overlay")?;
        if let Some((upper, work)) = self.upper {
            fsconfig_set_string(fs.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(fs.as_fd(), "workdir", work)?;
        }
        for (key, value) in self.options {
            match value {
                Some(value) => fsconfig_set_string(fs.as_fd(), *key, *value)?,
                None => fsconfig_set_flag(fs.as_fd(), *key)?,
            }
        }
        fsconfig_create(fs.as_fd())?;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    }

    /// By mount(2), whose options fill a page where one value of fsconfig(2) has 255 bytes. It mounts somewhere: in a mount namespace
    /// that is left again at once, over a directory that is there for certain; a clone of the mount outlives that.
    fn by_page(&self, names: &str) -> Result<OwnedFd> {
        let fail = |e| Error::io("mount", "overlay", e);
        let mut text = format!("lowerdir={names}");
        let mut held = Vec::new();
        if let Some((upper, work)) = self.upper {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                let fd = Opened::of(path).map_err(|e| Error::io("open", path.display(), e))?;
                text.push_str(&format!(",{key}={}", fd.number));
                held.push(fd);
            }
        }
        for (key, value) in self.options {
            text.push(',');
            text.push_str(key);
            text.extend(value.map(|value| format!("={value}")));
        }
        let text = CString::new(text).map_err(|_| fail(Errno::INVAL))?;
        let home = Home::remember()?;
        unshare(Namespaces::MOUNT).during("mount", "overlay")?;
        let attempt = || -> rustix::io::Result<OwnedFd> {
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            rustix::process::chdir("/proc/self/fd")?;
            mount("overlay", "/proc", "overlay", MountFlags::empty(), Some(text.as_c_str()))?;
            open_tree(CWD, "/proc", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        };
        let made = attempt();
        home.back()?;
        made.map_err(|e| match e {
            Errno::INVAL | Errno::TOOBIG => fail(e).hint("the kernel's log says why: dmesg | grep overlayfs | tail"),
            e => fail(e),
        })
    }
}

/// A directory that can be named by a number.
struct Opened {
    number: i32,
    /// None if somebody else keeps it open.
    _own: Option<OwnedFd>,
}

impl Opened {
    fn of(path: &Path) -> rustix::io::Result<Opened> {
        let number = path.strip_prefix("/proc/self/fd").ok().and_then(|rest| rest.to_str()?.parse().ok());
        match number {
            Some(number) => Ok(Opened { number, _own: None }),
            None => open_directory(path).map(|fd| Opened { number: fd.as_raw_fd(), _own: Some(fd) }),
        }
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn context() -> Result<OwnedFd> {
    fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
        Errno::NODEV => Error::new(Kind::Unsupported, "mount", "overlay")
            .because("this kernel has no overlayfs")
            .hint("modprobe overlay"),
        e => Error::io("mount", "overlay", e),
    })
}

fn worded(fs: &OwnedFd, e: Errno) -> Error {
    let error = Error::io("mount", "overlay", e);
    match tare_runtime::launch::kernel_words(fs) {
        Some(words) => error.because(words),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way makes the same overlay, with more layers than the older one has room for in one value.
    #[test]
    fn many_layers_are_stacked_in_every_way() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (upper, work) = (make("upper"), make("work, with: signs"));
        for count in [3, 200, LOWERS] {
            let lowers: Vec<PathBuf> = (0..count).map(|i| make(&format!("{count}-{i}"))).collect();
            std::fs::write(lowers[count - 1].join("bottom"), "b").unwrap();
            std::fs::write(lowers[0].join("top"), "t").unwrap();
            let options = [("redirect_dir", Some("off")), ("volatile", None)];
            for upper in [None, Some((upper.as_path(), work.as_path()))] {
                let plan = Overlay { lowers: &lowers, upper, options: &options[..1 + usize::from(upper.is_some())] };
                let before = rustix::process::getcwd(Vec::new()).unwrap();
                for mounted in [overlay(&plan), plan.at_once()] {
                    let mounted = mounted.unwrap();
                    let read = |name: &str| {
                        let path = format!("/proc/self/fd/{}/{name}", mounted.as_raw_fd());
                        std::fs::read_to_string(path).unwrap()
                    };
                    assert_eq!((read("bottom"), read("top")), ("b".to_owned(), "t".to_owned()), "{count}");
                    drop(mounted);
                    let _ = std::fs::remove_dir_all(work.join("work"));
                }
                assert_eq!(rustix::process::getcwd(Vec::new()).unwrap(), before);
            }
        }
        let many: Vec<PathBuf> = (0..=LOWERS).map(|_| dir.path().to_owned()).collect();
        let e = overlay(&Overlay { lowers: &many, upper: None, options: &[] }).unwrap_err().to_string();
        assert!(e.contains("501 layers") && e.contains("500"), "{e}");
    }
}
