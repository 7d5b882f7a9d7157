//! Paths inside a root, resolved so that no link leads out of it.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
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

/// Opens a directory inside the root, making what is missing of it with mode 0755.
///
/// # Errors
/// As openat2(2) and mkdirat(2).
pub fn mkdir_in_root(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let fail = |e| Error::io("make directory", path, e);
    match in_root(root.as_fd(), path, directory) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(fail),
    }
    let mut prefix = String::new();
    let mut current = in_root(root.as_fd(), "/", directory).map_err(fail)?;
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        prefix.push('/');
        prefix.push_str(part);
        current = match in_root(root.as_fd(), &prefix, directory) {
            Err(Errno::NOENT) => {
                match mkdirat(&current, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(fail(e)),
                }
                in_root(root.as_fd(), &prefix, directory)
            }
            other => other,
        }
        .map_err(fail)?;
    }
    Ok(current)
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
    match in_root_with(root.as_fd(), path, OFlags::PATH, more) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(Error::io("open mount point", path, e)),
    }
    if directory {
        return mkdir_in_root(root, path);
    }
    let (dir, name) = split(path);
    let parent = mkdir_in_root(root.as_fd(), dir)?;
    let fail = |e| Error::io("make mount point", path, e);
    match rustix::fs::mknodat(&parent, name, rustix::fs::FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(fail(e)),
    }
    in_root(root, path, OFlags::PATH).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let base = std::env::temp_dir().join(format!("tare-resolve-{}", std::process::id()));
        std::fs::create_dir_all(base.join("root/etc")).unwrap();
        std::fs::write(base.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../secret", base.join("root/etc/out")).unwrap();
        std::os::unix::fs::symlink("/etc", base.join("root/abs")).unwrap();
        let root = rustix::fs::open(base.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(in_root(&root, "/etc/out", OFlags::PATH).unwrap_err(), Errno::NOENT);
        assert_eq!(in_root(&root, "../../secret", OFlags::PATH).unwrap_err(), Errno::NOENT);
        mkdir_in_root(&root, "/abs/a/b").unwrap();
        assert!(base.join("root/etc/a/b").is_dir());
        std::fs::remove_dir_all(base).unwrap();
    }
}
