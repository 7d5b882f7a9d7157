//! Layers on the real file system, as root, checked through the kernel: what an overlay shows is what counts.

mod hostile;
mod images;
mod pipeline;
mod round_trip;
mod trees;

use super::*;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tare_format::{Entry, EntryKind, tar};
use tare_model::image::Compression;
use tare_model::{Digest, Kind, Result};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Scratch::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("tare-layer-{}-{n}", std::process::id());
        let mut path = parent.join(&name);
        if std::fs::create_dir(&path).is_err() {
            path = std::env::temp_dir().join(&name);
            std::fs::create_dir(&path).unwrap();
        }
        Scratch(path)
    }

    /// A new directory in it, mode 0755, time 0 as a layer's root has it.
    fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = open(self.0.parent().unwrap());
        remove_tree(parent.as_fd(), self.0.file_name().unwrap().as_bytes()).unwrap();
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn bytes(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn set_time(path: &Path, secs: i64, nanos: i64) {
    let stamp = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos as _ };
    let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// `cap_net_raw+ep`, as vfs_cap_data of revision 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree with one of everything.
fn make_varied(root: &Path) {
    let w = |name: &str, data: &[u8]| std::fs::write(root.join(name), data).unwrap();
    for (dir, mode) in [("bin", 0o755), ("etc", 0o755), ("etc/deep", 0o700), ("tmp", 0o1777), ("shared", 0o2775)] {
        std::fs::create_dir(root.join(dir)).unwrap();
        std::fs::set_permissions(root.join(dir), PermissionsExt::from_mode(mode)).unwrap();
    }
    w("bin/su", b"program");
    std::os::unix::fs::chown(root.join("bin/su"), Some(10), Some(20)).unwrap();
    std::fs::set_permissions(root.join("bin/su"), PermissionsExt::from_mode(0o6755)).unwrap();
    w("bin/ping", &[1; 100_000]);
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("bin/ping", "security.capability", &CAPABILITY);
    set("bin/ping", "user.note", b"a\0b");
    set("etc", "user.dir", b"x");
    w("etc/passwd", b"root:x:0:0\n");
    std::fs::hard_link(root.join("etc/passwd"), root.join("etc/deep/same")).unwrap();
    std::fs::hard_link(root.join("etc/passwd"), root.join("aaa")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../nowhere", root.join("etc/dangling")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(7), Some(4_000_000)).unwrap();
    set("link", "trusted.on-link", b"1");
    std::fs::write(root.join(bytes(b"not \xff utf-8")), b"raw").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"island", 2 << 20).unwrap();
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("disk", FileType::BlockDevice, rustix::fs::makedev(7, 300)),
    ] {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    std::fs::create_dir(root.join("empty")).unwrap();
    w("shared/file", b"");
    for (i, path) in ["etc/passwd", "link", "pipe", "bin", "etc", "shared", "tmp", "empty"].into_iter().enumerate() {
        set_time(&root.join(path), 1_600_000_000 + i as i64, 123_456_789);
    }
    set_time(&root.join("null"), -5, 500_000_000);
}

/// Everything that can be seen of a tree, a line for each path. Times of directories only where `Times::All`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    All,
    NotOfDirectories,
}

fn scan(root: &Path, times: Times) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut links = HashMap::new();
    scan_into(root, b"", times, &mut links, &mut found);
    found
}

fn scan_into(
    root: &Path,
    path: &[u8],
    times: Times,
    links: &mut HashMap<u64, Vec<u8>>,
    found: &mut BTreeMap<Vec<u8>, String>,
) {
    let mut names: Vec<_> =
        std::fs::read_dir(root.join(bytes(path))).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let below = tare_format::layer::join(path, name.as_bytes());
        let full = root.join(bytes(&below));
        let m = full.symlink_metadata().unwrap();
        let mut line = format!("{:o} {}:{}", m.mode(), m.uid(), m.gid());
        if !m.is_dir() || times == Times::All {
            line += &format!(" {}.{:09}", m.mtime(), m.mtime_nsec());
        }
        if m.is_file() {
            line += &format!(" {} {}", m.len(), Digest::of(&std::fs::read(&full).unwrap()).short());
        }
        if m.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&full).unwrap());
        }
        line += &format!(" dev {}", m.rdev());
        if !m.is_dir() {
            let first = links.entry(m.ino()).or_insert_with(|| below.clone());
            line += &format!(" same as {:?}", String::from_utf8_lossy(first));
        }
        let node = rustix::fs::open(&full, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for (name, value) in node::xattrs_of(node.as_fd(), &below).unwrap() {
            if !name.starts_with(b"trusted.overlay.") {
                line += &format!(" {}={value:?}", String::from_utf8_lossy(&name));
            }
        }
        let is_dir = m.is_dir();
        found.insert(below.clone(), line);
        if is_dir {
            scan_into(root, &below, times, links, found);
        }
    }
}

fn assert_same(left: &BTreeMap<Vec<u8>, String>, right: &BTreeMap<Vec<u8>, String>) {
    for path in left.keys().chain(right.keys()) {
        let name = String::from_utf8_lossy(path);
        assert_eq!(left.get(path), right.get(path), "{name}");
    }
}

/// An overlay that is nowhere in the tree of mounts. `lowers` topmost first.
struct Overlay(OwnedFd);

impl Overlay {
    fn new(lowers: &[&Path], upper: Option<(&Path, &Path)>) -> Self {
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        let set = |key: &str, value: &Path| rustix::mount::fsconfig_set_string(&fs, key, value).unwrap();
        lowers.iter().for_each(|lower| set("lowerdir+", lower));
        if let Some((upper, work)) = upper {
            set("upperdir", upper);
            set("workdir", work);
            for off in ["redirect_dir", "metacopy", "index", "xino"] {
                set(off, Path::new("off"));
            }
        }
        rustix::mount::fsconfig_create(&fs).unwrap();
        let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        Overlay(mount)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.0.as_raw_fd()))
    }
}

/// An archive from entries and contents.
fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (entry, content) in entries {
        let mut entry = entry.clone();
        entry.size = content.len() as u64;
        writer.entry(&entry).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str) -> Entry {
    Entry::new(path, EntryKind::File)
}

fn dir(path: &str) -> Entry {
    Entry::new(path, EntryKind::Directory)
}

fn link(path: &str, kind: EntryKind, target: &str) -> Entry {
    let mut e = Entry::new(path, kind);
    e.link = target.into();
    e
}

fn unpack_plain(fs: &Path, archive: &[u8], lower: &Lowers<'_>) -> Result<Unpacked> {
    let fs = open(fs);
    unpack_directory(fs.as_fd(), archive, Compression::None, None, lower, &UnpackLimits::default())
}

/// What is known of a layer's archive.
#[derive(Debug, PartialEq)]
struct Layer {
    diff_id: Digest,
    content: u64,
    entries: u64,
}

fn make_layer(upper: &Path, lower: &Lowers<'_>, excluded: &[&str], compression: Compression) -> (Layer, Vec<u8>) {
    let excluded = Excluded::new(excluded).unwrap();
    let options = DiffOptions { excluded: &excluded, clamp_mtime: None };
    let mut tar = Vec::new();
    let Diffed { content, entries } = diff(open(upper).as_fd(), lower, &options, &mut tar).unwrap();
    let layer = Layer { diff_id: Digest::of(&tar), content, entries };
    let mut blob = Vec::new();
    match compression {
        Compression::None => blob = tar,
        Compression::Gzip => seal::gzip(&mut blob, None, |out| {
            out.write_all(&tar).unwrap();
            Ok(())
        })
        .unwrap(),
        Compression::Zstd => blob = zstd::encode_all(&tar[..], 1).unwrap(),
    }
    (layer, blob)
}

fn names_in(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Reader::new(BufReader::new(archive), tar::Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    names
}
