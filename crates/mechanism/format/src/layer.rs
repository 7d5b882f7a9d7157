//! What an archive's entry means in a layer (OCI image-spec, layer.md): a file to put, or something below to hide.

mod pending;

pub use pending::Pending;

use crate::entry::{Entry, EntryKind};
use std::fmt;
use tare_model::{Error, Kind, Result};

/// Prefix of a name that hides its namesake in the layers below.
pub const WHITEOUT: &[u8] = b".wh.";
/// Name of the entry that hides everything that the layers below have in its directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of AUFS's own files, which mean nothing to others.
const AUFS: &[u8] = b".wh..wh.";
/// The kernel takes no longer path (`PATH_MAX` with its NUL) and no longer name (`NAME_MAX`).
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;

/// One change that a layer makes to the layers below it. All paths are cleaned (see [`clean_path`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Put this file; its parents may be missing.
    Put(Entry),
    /// Hide what the layers below have at this path.
    Whiteout(Vec<u8>),
    /// Hide all that the layers below have inside this directory (empty: the root).
    Opaque(Vec<u8>),
    /// Nothing: a bookkeeping file of AUFS.
    Ignored,
}

impl Change {
    /// Reads the meaning of an entry as it came from an archive.
    ///
    /// # Errors
    /// `Kind::Invalid`: see [`clean_path`]; also a root that is not a directory, a hard link's target that leaves the
    /// layer, a symbolic link's target that is empty or too long, a whiteout without a name or with something in it.
    pub fn of(mut entry: Entry) -> Result<Change> {
        let path = clean_path(&entry.path)?;
        let (parent, name) = split(&path);
        if path.split(|&b| b == b'/').any(|c| c.starts_with(AUFS) && c != OPAQUE) {
            return Ok(Change::Ignored);
        }
        if parent.split(|&b| b == b'/').any(|c| c.starts_with(WHITEOUT)) {
            return Err(bad(&entry.path, "a whiteout cannot contain anything"));
        }
        if name == OPAQUE {
            return Ok(Change::Opaque(parent.to_vec()));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(bad(&entry.path, "a whiteout must name a file"));
            }
            return Ok(Change::Whiteout(join(parent, hidden)));
        }
        match entry.kind {
            EntryKind::Hardlink => {
                entry.link = clean_path(&entry.link).map_err(|e| e.during("read entry", show(&path)))?
            }
            EntryKind::Symlink if entry.link.is_empty() => return Err(bad(&path, "a symbolic link without a target")),
            EntryKind::Symlink if entry.link.len() > PATH_MAX || entry.link.contains(&0) => {
                return Err(bad(&path, "the target of the symbolic link is too long or contains NUL"));
            }
            _ => {}
        }
        if path.is_empty() && entry.kind != EntryKind::Directory {
            return Err(bad(&entry.path, "the root of a layer must be a directory"));
        }
        entry.path = path;
        Ok(Change::Put(entry))
    }
}

/// The path relative to the layer's root: without leading slash, `.`, empty parts or `..`; empty for the root itself.
/// `..` is taken back literally (`a/../b` is `b`), as all engines do.
///
/// # Errors
/// `Kind::Invalid` when it is empty, contains NUL, climbs above the root, or is longer than the kernel allows (4095
/// bytes, 255 for a name).
pub fn clean_path(path: &[u8]) -> Result<Vec<u8>> {
    if path.is_empty() {
        return Err(bad(path, "an empty name"));
    }
    if path.contains(&0) {
        return Err(bad(path, "a name that contains NUL"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(bad(path, "the name leaves the layer"));
                }
            }
            _ if part.len() > NAME_MAX => return Err(bad(path, "a name longer than 255 bytes")),
            _ => parts.push(part),
        }
    }
    let clean = parts.join(&b'/');
    if clean.len() > PATH_MAX {
        return Err(bad(path, "a path longer than 4095 bytes"));
    }
    Ok(clean)
}

/// Parent (empty for the root) and last name of a cleaned path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (&[], path),
    }
}

/// `parent/name`, or `name` where the parent is the root (empty).
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Whether `path` is `root` or lies below it; both cleaned.
pub fn is_within(path: &[u8], root: &[u8]) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A path for messages: quoted, cut at 200 bytes, bytes that are not UTF-8 replaced.
pub fn show(path: &[u8]) -> impl fmt::Display + '_ {
    struct Show<'a>(&'a [u8]);
    impl fmt::Display for Show<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let cut = &self.0[..self.0.len().min(200)];
            write!(f, "{:?}{}", String::from_utf8_lossy(cut), if cut.len() < self.0.len() { "…" } else { "" })
        }
    }
    Show(path)
}

fn bad(path: &[u8], why: &str) -> Error {
    Error::new(Kind::Invalid, "read entry", show(path)).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &[u8], kind: EntryKind, link: &[u8]) -> Result<Change> {
        let mut entry = Entry::new(path, kind);
        entry.link = link.to_vec();
        Change::of(entry)
    }

    #[test]
    fn paths_are_cleaned_and_never_leave_the_layer() {
        for (path, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("./", ""),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean_path(path.as_bytes()).unwrap(), want.as_bytes(), "{path}");
        }
        let long = "x/".repeat(2100);
        let wide = "x".repeat(256);
        for bad in ["", "..", "../x", "a/../../x", "/..", "a\0b", &long, &wide] {
            assert_eq!(clean_path(bad.as_bytes()).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn whiteouts_hide_names_and_directories() {
        let file = |path: &str| change(path.as_bytes(), EntryKind::File, b"");
        assert_eq!(file("a/.wh.b").unwrap(), Change::Whiteout(b"a/b".to_vec()));
        assert_eq!(file(".wh.b").unwrap(), Change::Whiteout(b"b".to_vec()));
        assert_eq!(file("a/.wh..wh..opq").unwrap(), Change::Opaque(b"a".to_vec()));
        assert_eq!(file(".wh..wh..opq").unwrap(), Change::Opaque(Vec::new()));
        assert_eq!(file(".wh..wh.plnk/1.2").unwrap(), Change::Ignored);
        assert_eq!(file(".wh..wh.aufs").unwrap(), Change::Ignored);
        for bad in [".wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
            assert_eq!(file(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn links_are_checked() {
        assert!(change(b"a", EntryKind::Hardlink, b"../../etc/shadow").is_err());
        assert!(change(b"a", EntryKind::Hardlink, b"").is_err());
        assert!(change(b"a", EntryKind::Symlink, b"").is_err());
        assert!(change(b"./", EntryKind::File, b"").is_err());
        let Change::Put(e) = change(b"a", EntryKind::Hardlink, b"/b/./c").unwrap() else { panic!("not put") };
        assert_eq!(e.link, b"b/c");
        // A symbolic link may say anything: nobody follows it here.
        assert!(change(b"a", EntryKind::Symlink, b"/etc/shadow").is_ok());
    }

    #[test]
    fn lying_within_goes_by_whole_names() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
    }
}
