//! Differences between kernels, found out at run time.

use crate::elsewhere::Home;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdir, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    move_mount, open_tree,
};
use std::ffi::{CStr, CString};
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
    /// All lower directories in one value, as numbers of open descriptors relative to /proc/self/fd, where that is enough.
    fn at_once(&self) -> Result<OwnedFd> {
        if self.lowers.iter().any(|lower| detached(lower).is_some()) {
            return self.attached();
        }
        let opened = self.lowers.iter().map(|path| open_directory(path)).collect::<rustix::io::Result<Vec<_>>>();
        let opened = opened.map_err(|e| Error::io("open", "layers", e))?;
        let names: Vec<String> = opened.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
        let names = names.join(":");
        if names.len() > VALUE {
            return self.attached();
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

    /// In a mount namespace of its own, which is left again at once, with every lower directory attached under a short name: up to
    /// Linux 6.14 detached mounts are no lower directories (`clone_private_mount` asks that they be in the caller's namespace),
    /// and up to 6.6 all names have to fit into one value. That of mount(2) may fill a page. The overlay has its own clones of all
    /// that it needs, and a clone of its mount outlives the namespace.
    fn attached(&self) -> Result<OwnedFd> {
        let mut text =
            format!("lowerdir={}", (0..self.lowers.len()).map(|i| i.to_string()).collect::<Vec<_>>().join(":"));
        if let Some((upper, work)) = self.upper {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                text.push_str(&format!(",{key}="));
                text.push_str(&escaped(path)?);
            }
        }
        for (key, value) in self.options {
            text.push(',');
            text.push_str(key);
            text.extend(value.map(|value| format!("={value}")));
        }
        let fail = |e| Error::io("mount", "overlay", e);
        let text = CString::new(text).map_err(|_| fail(Errno::INVAL))?;
        let home = Home::remember()?;
        unshare(Namespaces::MOUNT).during("mount", "overlay")?;
        let made = self.attach(&text);
        home.back()?;
        made.map_err(|e| match e {
            Errno::INVAL | Errno::TOOBIG => fail(e).hint("the kernel's log says why: dmesg | grep overlayfs | tail"),
            e => fail(e),
        })
    }

    fn attach(&self, options: &CStr) -> rustix::io::Result<OwnedFd> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let descriptors = open_directory(Path::new("/proc/self/fd"))?;
        // A directory that is there for certain.
        mount("tare", "/proc", "tmpfs", MountFlags::empty(), Some(c"mode=0700,size=16m"))?;
        rustix::process::chdir("/proc")?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        for (i, lower) in self.lowers.iter().enumerate() {
            let at = i.to_string();
            mkdir(&at, Mode::RWXU)?;
            match detached(lower) {
                Some(number) => {
                    move_mount(&descriptors, number, CWD, &at, MoveMountFlags::MOVE_MOUNT_F_SYMLINKS)?;
                }
                None => {
                    let tree = open_tree(CWD, lower, clone)?;
                    move_mount(&tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                }
            }
        }
        mkdir("overlay", Mode::RWXU)?;
        mount("overlay", "overlay", "overlay", MountFlags::empty(), Some(options))?;
        open_tree(CWD, "overlay", clone)
    }
}

/// The number of the descriptor that a path stands for: a mount that is attached nowhere.
fn detached(path: &Path) -> Option<&str> {
    path.strip_prefix("/proc/self/fd").ok()?.to_str()
}

/// As a value among mount(2)'s options.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| {
        Error::new(Kind::Invalid, "mount", "overlay").because(format!("{} is not UTF-8", path.display()))
    })?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | ',' | ':') {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(out)
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

    fn looks_right(mounted: &OwnedFd) {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/self/fd/{}/{name}", mounted.as_raw_fd())).unwrap();
        assert_eq!((read("bottom"), read("top")), ("b".to_owned(), "t".to_owned()));
    }

    /// A work directory of an overlay that was volatile is refused.
    fn anew(work: &Path) {
        std::fs::remove_dir_all(work).unwrap();
        std::fs::create_dir(work).unwrap();
    }

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
        for count in [3, LOWERS] {
            let lowers: Vec<PathBuf> = (0..count).map(|i| make(&format!("{count}-{i}"))).collect();
            std::fs::write(lowers[count - 1].join("bottom"), "b").unwrap();
            std::fs::write(lowers[0].join("top"), "t").unwrap();
            let options = [("redirect_dir", Some("off")), ("volatile", None)];
            for upper in [None, Some((upper.as_path(), work.as_path()))] {
                let plan = Overlay { lowers: &lowers, upper, options: &options[..1 + usize::from(upper.is_some())] };
                let before = rustix::process::getcwd(Vec::new()).unwrap();
                for way in
                    [overlay as fn(&Overlay<'_>) -> Result<OwnedFd>, |plan| plan.at_once(), |plan| plan.attached()]
                {
                    looks_right(&way(&plan).unwrap());
                    // As images of layers and mapped directories are given.
                    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    let mounts: Vec<OwnedFd> = lowers.iter().map(|l| open_tree(CWD, l, clone).unwrap()).collect();
                    let names: Vec<PathBuf> =
                        mounts.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()).into()).collect();
                    anew(&work);
                    looks_right(&way(&Overlay { lowers: &names, ..plan }).unwrap());
                    anew(&work);
                }
                assert_eq!(rustix::process::getcwd(Vec::new()).unwrap(), before);
            }
        }
        let many: Vec<PathBuf> = (0..=LOWERS).map(|_| dir.path().to_owned()).collect();
        let e = overlay(&Overlay { lowers: &many, upper: None, options: &[] }).unwrap_err().to_string();
        assert!(e.contains("501 layers") && e.contains("500"), "{e}");
    }
}
