//! Paths inside a root, resolved so that no link leads out of it.

use crate::defence::{self, Defence};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2};
use rustix::io::Errno;
use tare_model::{Error, Result};

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a path as if `root` were the root directory (openat2(2), RESOLVE_IN_ROOT).
///
/// # Errors
/// As openat2(2). EAGAIN, which a rename elsewhere can cause, is tried again.
pub fn in_root(root: impl AsFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    in_root_with(root, path, flags, ResolveFlags::empty())
}

pub(super) fn in_root_with(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.trim_start_matches('/').is_empty() { "." } else { path };
    for _ in 0..128 {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT | more) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a directory inside the root, making what is missing of it with mode 0755. Links are followed as if the root
/// were the root directory, also where they lead to nothing yet.
///
/// # Errors
/// As openat2(2) and mkdirat(2).
pub fn mkdir_in_root(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    match in_root(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => make(root.as_fd(), path, Last::Directory, ResolveFlags::empty()),
        other => other.map_err(|e| Error::io("make directory", path, e)),
    }
}

/// What [`make`] makes of the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Directory,
    /// An empty regular file.
    File,
}

/// Walks a path component by component and makes what is missing. Each look-up begins at the root and allows no links;
/// they are read and followed here, so that one which leads to nothing names the place of what is made. Whatever is
/// exchanged meanwhile, nothing is made outside of the root. With NO_SYMLINKS in `more`, a link is an error.
fn make(root: BorrowedFd<'_>, path: &str, last: Last, more: ResolveFlags) -> Result<OwnedFd> {
    const LONGEST_CHAIN: usize = 40;
    let fail = |e| Error::io(if last == Last::File { "make file" } else { "make directory" }, path, e);
    let components =
        |path: &str| path.split('/').filter(|p| !matches!(*p, "" | ".")).map(str::to_owned).rev().collect();
    let mut ahead: Vec<String> = components(path);
    let mut behind: Vec<String> = Vec::new();
    let mut links = 0;
    let mut current = open_plain(root, &behind)?;
    while let Some(part) = ahead.pop() {
        if part == ".." {
            behind.pop();
            current = open_plain(root, &behind)?;
            continue;
        }
        behind.push(part);
        let part = behind.last().expect("it was pushed just before").as_str();
        let found = match look(root, &behind) {
            Err(Errno::NOENT) => {
                let made = match last {
                    Last::File if ahead.is_empty() => {
                        mknodat(&current, part, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
                    }
                    _ => mkdirat(&current, part, Mode::from_raw_mode(0o755)),
                };
                match made {
                    Ok(()) | Err(Errno::EXIST) => look(root, &behind),
                    Err(e) => Err(e),
                }
            }
            other => other,
        }
        .map_err(fail)?;
        let stat = rustix::fs::fstat(&found).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            current = found;
            continue;
        }
        links += 1;
        if links > LONGEST_CHAIN || more.contains(ResolveFlags::NO_SYMLINKS) {
            return Err(fail(Errno::LOOP));
        }
        let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(fail)?;
        let target = target.into_string().map_err(|_| fail(Errno::ILSEQ))?;
        behind.pop();
        if target.starts_with('/') {
            behind.clear();
        }
        current = open_plain(root, &behind)?;
        ahead.extend::<Vec<String>>(components(&target));
    }
    Ok(current)
}

/// Opens what is at a path without links; the last component may be one, and is opened itself.
fn look(root: BorrowedFd<'_>, parts: &[String]) -> rustix::io::Result<OwnedFd> {
    in_root_with(root, &parts.join("/"), OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
}

fn open_plain(root: BorrowedFd<'_>, parts: &[String]) -> Result<OwnedFd> {
    let path = parts.join("/");
    in_root_with(root, &path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
        .map_err(|e| Error::io("open directory", path, e))
}

/// Splits into directory and last component.
pub(super) fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some((dir, name)) => (if dir.is_empty() { "/" } else { dir }, name),
        None => ("/", path),
    }
}

/// Opens (O_PATH) the place where something is mounted, making it if missing: a directory or an empty file.
///
/// # Errors
/// As openat2(2), mkdirat(2), mknodat(2).
pub(super) fn mount_point(root: impl AsFd, path: &str, directory: bool, more: ResolveFlags) -> Result<OwnedFd> {
    if !defence::stands(Defence::MountTarget) {
        return trusting_mount_point(root.as_fd(), path, directory);
    }
    match in_root_with(root.as_fd(), path, OFlags::PATH, more) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(Error::io("open mount point", path, e)),
    }
    make(root.as_fd(), path, if directory { Last::Directory } else { Last::File }, more)
}

/// As [`mount_point`] without its defence: what a runtime does that joins the two paths and believes in the result.
fn trusting_mount_point(root: BorrowedFd<'_>, path: &str, directory: bool) -> Result<OwnedFd> {
    let fail = |e| Error::io("open mount point", path, e);
    let path = path.trim_matches('/');
    for (i, _) in path.match_indices('/').chain([(path.len(), "")]).filter(|(i, _)| *i > 0) {
        let made = if directory || i < path.len() {
            mkdirat(root, &path[..i], Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::openat(root, path, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    let path = if path.is_empty() { "." } else { path };
    rustix::fs::openat(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    struct Scratch(PathBuf);

    impl Scratch {
        /// A directory with `root/` in it, and a descriptor of that.
        fn new(name: &str) -> (Scratch, OwnedFd) {
            let base = std::env::temp_dir().join(format!("tare-resolve-{name}-{}", std::process::id()));
            std::fs::create_dir_all(base.join("root/etc")).unwrap();
            let root = rustix::fs::open(base.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            (Scratch(base), root)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn same(fd: &OwnedFd, path: &Path) -> bool {
        let (a, b) = (rustix::fs::fstat(fd).unwrap(), rustix::fs::lstat(path).unwrap());
        (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let (base, root) = Scratch::new("out");
        std::fs::write(base.path("secret"), "x").unwrap();
        symlink("../../secret", base.path("root/etc/out")).unwrap();
        symlink("/etc", base.path("root/abs")).unwrap();
        assert_eq!(in_root(&root, "/etc/out", OFlags::PATH).unwrap_err(), Errno::NOENT);
        assert_eq!(in_root(&root, "../../secret", OFlags::PATH).unwrap_err(), Errno::NOENT);
        mkdir_in_root(&root, "/abs/a/b").unwrap();
        assert!(base.path("root/etc/a/b").is_dir());
    }

    #[test]
    fn a_mount_point_behind_a_link_to_nothing_is_made_where_it_leads() {
        let (base, root) = Scratch::new("dangling");
        symlink("/run/deep", base.path("root/etc/dir")).unwrap();
        symlink("../../../../run/file", base.path("root/etc/file")).unwrap();
        let made = mount_point(&root, "/etc/dir/x", true, ResolveFlags::empty()).unwrap();
        assert!(same(&made, &base.path("root/run/deep/x")));
        let made = mount_point(&root, "/etc/file", false, ResolveFlags::empty()).unwrap();
        assert!(same(&made, &base.path("root/run/file")) && base.path("root/run/file").is_file());
        assert!(!base.path("run").exists());
    }

    #[test]
    fn links_in_a_circle_end_with_an_error() {
        let (base, root) = Scratch::new("circle");
        symlink("/b/x", base.path("root/a")).unwrap();
        symlink("/a", base.path("root/b")).unwrap();
        assert_eq!(mkdir_in_root(&root, "/a/y").unwrap_err().errno(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn nothing_is_made_through_links_where_none_may_be() {
        let (base, root) = Scratch::new("none");
        symlink("/etc", base.path("root/sys")).unwrap();
        let e = mount_point(&root, "/sys/fs/cgroup", true, ResolveFlags::NO_SYMLINKS).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::LOOP.raw_os_error()));
        assert!(!base.path("root/etc/fs").exists());
    }

    /// Mount targets are exchanged for a link by somebody who is faster (CVE-2021-30465): whatever is opened is inside.
    #[test]
    fn a_racing_exchange_stays_inside() {
        let (base, root) = Scratch::new("race");
        let outside = base.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(base.path("root/d")).unwrap();
        symlink(&outside, base.path("root/l")).unwrap();
        symlink("../../outside", base.path("root/m")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for other in ["l", "m"] {
                        rustix::fs::renameat_with(dir(&base), "d", dir(&base), other, flags).unwrap();
                        rustix::fs::renameat_with(dir(&base), "d", dir(&base), other, flags).unwrap();
                    }
                }
            });
            for i in 0..400 {
                if let Ok(fd) = mount_point(&root, &format!("/d/{i}"), i % 2 == 0, ResolveFlags::empty()) {
                    let shown = rustix::fs::readlink(format!("/proc/self/fd/{}", fd_number(&fd)), Vec::new()).unwrap();
                    let shown = shown.into_string().unwrap();
                    assert!(shown.starts_with(base.path("root").to_str().unwrap()), "{shown}");
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    fn dir(base: &Scratch) -> OwnedFd {
        rustix::fs::open(base.path("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn fd_number(fd: &OwnedFd) -> i32 {
        rustix::fd::AsRawFd::as_raw_fd(fd)
    }
}
