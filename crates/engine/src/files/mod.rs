//! A container's files for those outside: `export` and `cp`, whether it runs or not.

mod root;

use crate::{Engine, time};
use root::{Mounts, RootView};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tare_model::{Error, Kind, Result};
use tare_runtime::launch::in_root;
use tare_store::layer::{ExtractOptions, Ownership, Replace, TreeOptions, extract_into, tar_tree};

/// What a path inside a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Last component of the path.
    pub name: String,
    /// File type and permission bits, as st_mode of stat(2).
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, RFC 3339.
    pub modified: String,
    /// Where a symbolic link leads.
    pub link_target: Option<String>,
}

/// How `cp` copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Follow a symbolic link that the source is.
    pub follow_links: bool,
    /// Keep owners; otherwise everything belongs to the caller, or to root inside of a container.
    pub archive: bool,
}

impl Stat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }
}

impl Engine {
    /// Writes a container's whole filesystem as a tar archive: without what is mounted inside.
    ///
    /// # Errors
    /// What the kernel and `out` report.
    pub fn export(&self, name: &str, epoch: Option<i64>, out: &mut dyn Write) -> Result<()> {
        let root = self.open_root(name, Mounts::Without)?;
        let options = TreeOptions { clamp_mtime: epoch, ..owners_inside(&root) };
        tar_tree(root.fd(), b"", &options, out).map_err(|e| e.during("export container", name))
    }

    /// What a path inside a container is; `None` if there is nothing. A link is followed if the path ends with `/`.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn stat_path(&self, name: &str, path: &str) -> Result<Option<Stat>> {
        let root = self.open_root(name, Mounts::With)?;
        match open_inside(&root, path, false) {
            Ok(node) => stat(&node, path).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(Error::io("look up", path, e)),
        }
    }

    /// Writes a file or directory of a container as a tar archive, entered under its own name; with a path that ends
    /// with `/.` only a directory's contents. What is mounted inside is seen.
    ///
    /// # Errors
    /// `Kind::NotFound`; what the kernel and `out` report.
    pub fn copy_out(&self, name: &str, path: &str, follow_links: bool, out: &mut dyn Write) -> Result<Stat> {
        let root = self.open_root(name, Mounts::With)?;
        let node = source(open_inside(&root, path, follow_links), name, path)?;
        let stat = stat(&node, path)?;
        let entry = if wants_contents(path) { "" } else { &stat.name };
        tar_tree(node.as_fd(), entry.as_bytes(), &owners_inside(&root), out)?;
        Ok(stat)
    }

    /// Unpacks a tar archive into an existing directory of a container. With `archive`, owners are those in it;
    /// otherwise everything belongs to root inside. What is mounted inside is written to.
    ///
    /// # Errors
    /// `Kind::NotFound` if there is no such directory; `Kind::Invalid` for malformed archives.
    pub fn copy_in(&self, name: &str, path: &str, archive: &mut dyn Read, keep_owners: bool) -> Result<()> {
        let root = self.open_root(name, Mounts::With)?;
        extract_into(root.fd(), path.as_bytes(), archive, &into_container(&root, keep_owners))
            .map_err(|e| e.during("copy to container", name))
    }

    /// Copies from a container to the host by `cp`'s rules: a target that is a directory receives the source under its
    /// own name, one that does not exist becomes it, and `SOURCE/.` means the contents.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` where a directory meets a file.
    pub fn copy_to_host(&self, name: &str, path: &str, to: &Path, options: CopyOptions) -> Result<()> {
        let root = self.open_root(name, Mounts::With)?;
        let node = source(open_inside(&root, path, options.follow_links), name, path)?;
        let stat = stat(&node, path)?;
        let to = std::path::absolute(to).map_err(|e| Error::io("find", to.display(), e))?;
        let place = place(&stat, wants_contents(path), Target::on_host(&to))?;
        let host = open_root_of_host()?;
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let ownership = if options.archive { Ownership::Archive } else { Ownership::Fixed { uid, gid } };
        let options = ExtractOptions { ownership, owners: None, replace: Replace::SameSort };
        transfer(node.as_fd(), &place, &owners_inside(&root), host.as_fd(), &options)
    }

    /// Copies from the host to a container, by the same rules.
    ///
    /// # Errors
    /// As [`Engine::copy_to_host`].
    pub fn copy_from_host(&self, from: &Path, name: &str, path: &str, options: CopyOptions) -> Result<()> {
        let text = from.as_os_str().to_string_lossy();
        let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow(&text, options.follow_links);
        let node = rustix::fs::open(from, flags, Mode::empty()).map_err(|e| Error::io("copy", from.display(), e))?;
        let stat = stat(&node, &text)?;
        let root = self.open_root(name, Mounts::With)?;
        let place = place(&stat, wants_contents(&text), Target::inside(&root, path)?)?;
        let into = into_container(&root, options.archive);
        transfer(node.as_fd(), &place, &TreeOptions::default(), root.fd(), &into)
    }
}

/// Owners leave a container as it has them.
fn owners_inside(root: &RootView) -> TreeOptions<'_> {
    TreeOptions { owners: root.ids(), ..TreeOptions::default() }
}

fn into_container(root: &RootView, keep_owners: bool) -> ExtractOptions<'_> {
    let ownership = if keep_owners { Ownership::Archive } else { Ownership::Fixed { uid: 0, gid: 0 } };
    ExtractOptions { ownership, owners: root.ids(), replace: Replace::SameSort }
}

fn open_root_of_host() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/", flags, Mode::empty()).map_err(|e| Error::io("open", "/", e))
}

fn nofollow(path: &str, follow: bool) -> OFlags {
    // A path that ends so can only mean what the link leads to.
    if follow || path.ends_with('/') || path.ends_with("/.") { OFlags::empty() } else { OFlags::NOFOLLOW }
}

fn open_inside(root: &RootView, path: &str, follow: bool) -> rustix::io::Result<OwnedFd> {
    in_root(root.fd(), path, OFlags::PATH | nofollow(path, follow))
}

fn source(node: rustix::io::Result<OwnedFd>, container: &str, path: &str) -> Result<OwnedFd> {
    node.map_err(|e| Error::io("copy", format!("{container}:{path}"), e))
}

/// `DIR/.`: what is in it, and not itself. The root has no name under which it could be copied.
fn wants_contents(path: &str) -> bool {
    path.ends_with("/.") || path == "." || path.chars().all(|c| c == '/')
}

fn stat(node: &OwnedFd, path: &str) -> Result<Stat> {
    let s = rustix::fs::fstat(node).map_err(|e| Error::io("look up", path, e))?;
    let link = FileType::from_raw_mode(s.st_mode) == FileType::Symlink;
    let target = || rustix::fs::readlinkat(node, "", Vec::new()).ok().map(|t| t.to_string_lossy().into_owned());
    Ok(Stat {
        name: base_name(path).to_owned(),
        mode: s.st_mode,
        size: u64::try_from(s.st_size).unwrap_or(0),
        modified: time::rfc3339(s.st_mtime, u32::try_from(s.st_mtime_nsec).unwrap_or(0)),
        link_target: if link { target() } else { None },
    })
}

/// The last component, `.` and slashes at the end aside; `/` for the root.
fn base_name(path: &str) -> &str {
    let mut path = path;
    loop {
        let shorter = path.strip_suffix("/.").unwrap_or(path).trim_end_matches('/');
        if shorter == path {
            break;
        }
        path = shorter;
    }
    match path.rsplit('/').next() {
        None | Some("" | "." | "..") => "/",
        Some(name) => name,
    }
}

/// What is at the place to copy to.
struct Target {
    path: PathBuf,
    /// It ends with a slash: only a directory will do.
    directory_meant: bool,
    kind: Option<FileType>,
}

impl Target {
    fn on_host(path: &Path) -> Target {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok();
        // A link's target is overwritten, not the link.
        let real = meta.as_ref().and_then(|_| path.canonicalize().ok());
        Target {
            directory_meant: ends_with_slash(path.as_os_str()),
            kind: meta.map(|m| FileType::from_raw_mode(m.mode())),
            path: real.unwrap_or_else(|| path.to_owned()),
        }
    }

    fn inside(root: &RootView, path: &str) -> Result<Target> {
        let absolute = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let mut target = Target { directory_meant: path.ends_with('/'), kind: None, path: PathBuf::from(&absolute) };
        match in_root(root.fd(), &absolute, OFlags::PATH) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io("look up", path, e))?;
                target.kind = Some(FileType::from_raw_mode(stat.st_mode));
                target.path = behind_links(root, absolute)?;
                Ok(target)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(target),
            Err(e) => Err(Error::io("look up", path, e)),
        }
    }
}

/// Where the last component leads, as long as it is a link.
fn behind_links(root: &RootView, mut path: String) -> Result<PathBuf> {
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(node) = in_root(root.fd(), &path, OFlags::PATH | OFlags::NOFOLLOW) else { break };
        let Ok(link) = rustix::fs::readlinkat(&node, "", Vec::new()) else { break };
        let link = link.to_string_lossy();
        path = if link.starts_with('/') {
            link.into_owned()
        } else {
            let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(p, _)| p);
            format!("{parent}/{link}")
        };
    }
    Ok(PathBuf::from(path))
}

fn ends_with_slash(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/")
}

/// Where an archive of the source is unpacked, and under which name it is entered.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    /// Empty for a directory's contents.
    name: Vec<u8>,
}

/// `cp`'s rules, as docker has them.
fn place(source: &Stat, contents: bool, target: Target) -> Result<Place> {
    let refuse = |kind, why: &str| Err(Error::new(kind, "copy to", target.path.display()).because(why));
    let becomes = || {
        let name = target.path.file_name().unwrap_or_default().as_bytes().to_vec();
        let directory = target.path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Place { directory, name })
    };
    match (source.is_dir(), target.kind) {
        (true, Some(FileType::Directory)) if contents => Ok(Place { directory: target.path, name: Vec::new() }),
        (_, Some(FileType::Directory)) => Ok(Place { directory: target.path, name: source.name.as_bytes().to_vec() }),
        (true, Some(_)) => refuse(Kind::Invalid, "a directory cannot be copied onto a file"),
        (false, Some(_)) if target.directory_meant => refuse(Kind::Invalid, "it is not a directory"),
        (false, None) if target.directory_meant => refuse(Kind::NotFound, "there is no such directory"),
        (true, None) | (false, Some(_) | None) => becomes(),
    }
}

/// Archives and unpacks at once.
fn transfer(
    node: BorrowedFd<'_>,
    place: &Place,
    from: &TreeOptions<'_>,
    into: BorrowedFd<'_>,
    options: &ExtractOptions<'_>,
) -> Result<()> {
    let (read_end, write_end) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::io("create", "pipe", e))?;
    let directory = place.directory.as_os_str().as_bytes();
    std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            let mut out = std::io::BufWriter::with_capacity(64 << 10, File::from(write_end));
            tar_tree(node, &place.name, from, &mut out)?;
            out.flush().map_err(|e| Error::io("copy", "", e))
        });
        let mut archive = File::from(read_end);
        let unpacked = extract_into(into, directory, &mut archive, options);
        // Without a reader the writer ends, too.
        drop(archive);
        let written =
            written.join().map_err(|_| Error::new(Kind::System, "copy", "").because("its thread panicked"))?;
        match (written, unpacked) {
            // What the reader met is what stopped the writer.
            (Err(w), Err(u)) if w.errno() == Some(Errno::PIPE.raw_os_error()) => Err(u),
            (Err(w), _) => Err(w),
            (Ok(()), unpacked) => unpacked,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, kind: FileType) -> Stat {
        let mode = kind.as_raw_mode() | 0o755;
        Stat { name: name.into(), mode, size: 0, modified: String::new(), link_target: None }
    }

    fn target(path: &str, kind: Option<FileType>) -> Target {
        Target { path: path.into(), directory_meant: path.ends_with('/'), kind }
    }

    fn placed(source: &Stat, contents: bool, path: &str, kind: Option<FileType>) -> Result<(String, String)> {
        let p = place(source, contents, target(path, kind))?;
        Ok((p.directory.display().to_string(), String::from_utf8(p.name).unwrap()))
    }

    #[test]
    fn files_and_directories_go_where_docker_puts_them() {
        use FileType::{Directory as D, RegularFile as F};
        let (file, dir) = (stat("f", F), stat("d", D));
        let at = |d: &str, n: &str| (d.to_owned(), n.to_owned());
        assert_eq!(placed(&file, false, "/x/new", None).unwrap(), at("/x", "new"));
        assert_eq!(placed(&file, false, "/x/old", Some(F)).unwrap(), at("/x", "old"));
        assert_eq!(placed(&file, false, "/x", Some(D)).unwrap(), at("/x", "f"));
        assert_eq!(placed(&file, false, "/x/", None).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(placed(&dir, false, "/x/new", None).unwrap(), at("/x", "new"));
        assert_eq!(placed(&dir, false, "/x", Some(D)).unwrap(), at("/x", "d"));
        assert_eq!(placed(&dir, true, "/x", Some(D)).unwrap(), at("/x", ""));
        assert_eq!(placed(&dir, true, "/x/new", None).unwrap(), at("/x", "new"));
        assert_eq!(placed(&dir, false, "/x/f", Some(F)).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn names_of_paths() {
        for (path, name) in
            [("/a/b", "b"), ("a", "a"), ("/a/b/", "b"), ("/a/b/.", "b"), ("/a/./", "a"), ("/", "/"), (".", "/")]
        {
            assert_eq!(base_name(path), name, "{path}");
        }
        assert!(wants_contents("/a/.") && wants_contents("/") && wants_contents(".") && !wants_contents("/a/"));
    }
}
