//! Images through the kernel: what it shows of a layer's image is what it shows of the layer's tree of files.

mod layers;
mod order;
mod random;
mod tools;
mod varied;

use super::*;
use rustix::fd::BorrowedFd;
use std::fs::File;
use tare_format::erofs::Reader;

/// Both forms of one layer.
struct Both {
    _scratch: Scratch,
    tree: PathBuf,
    /// Where the images are: a file system that can be mounted from.
    images: Scratch,
    limits: UnpackLimits,
}

impl Both {
    fn new() -> Both {
        let scratch = Scratch::below(Path::new("/dev/shm"));
        let tree = scratch.dir("tree");
        Both { _scratch: scratch, tree, images: Scratch::new(), limits: UnpackLimits::default() }
    }

    fn image(&self) -> PathBuf {
        self.images.0.join("layer.erofs")
    }

    /// Unpacks into both forms over these layers, topmost first: the tree's result and the image's.
    fn unpack(&self, archive: &[u8], below: &[&Both]) -> (Result<Unpacked>, Result<Unpacked>) {
        let trees: Vec<Unmounted> = below.iter().map(|layer| Unmounted::Tree(open(&layer.tree))).collect();
        let find = Box::new(move |path: &[u8]| look_below(&trees, path));
        let fs = open(&self.tree);
        let tree = unpack(archive, Compression::None, &self.limits, &mut DirectorySink::new(fs.as_fd(), find));
        let unmounted = below
            .iter()
            .map(|layer| Unmounted::Image(Reader::new(File::open(layer.image()).unwrap()).unwrap()))
            .collect();
        (tree, self.index(archive, unmounted))
    }

    /// Unpacks into the image alone.
    fn index(&self, archive: &[u8], below: Vec<Unmounted>) -> Result<Unpacked> {
        let find = Box::new(move |path: &[u8]| look_below(&below, path));
        let create = |name: &str| {
            let path = self.images.0.join(name);
            File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
        };
        let mut sink = ImageSink::new(create("layer.erofs"), create("copies"), find).unwrap();
        let image = unpack(archive, Compression::None, &self.limits, &mut sink);
        image.map(|unpacked| Unpacked { index: sink.index(), ..unpacked })
    }

    /// Unpacks a good archive and compares all that the kernel shows.
    fn check(&self, archive: &[u8]) -> Unpacked {
        self.check_over(archive, &[])
    }

    fn check_over(&self, archive: &[u8], below: &[&Both]) -> Unpacked {
        let (tree, image) = self.unpack(archive, below);
        let (tree, image) = (tree.unwrap(), image.unwrap());
        assert_eq!(tree, Unpacked { index: None, ..image });
        assert_alike(open(&self.tree).as_fd(), mounted(&self.image()).as_fd());
        image
    }
}

/// The image, mounted nowhere in the tree of mounts.
fn mounted(image: &Path) -> OwnedFd {
    let fs = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&fs, "source", image).unwrap();
    rustix::mount::fsconfig_create(&fs).unwrap();
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap()
}

/// Compares two trees (whiteouts but for their time): names, types, modes, owners, times to the nanosecond, sizes, numbers of links, which names are one file, devices,
/// targets, all extended attributes, and every byte.
fn assert_alike(left: BorrowedFd<'_>, right: BorrowedFd<'_>) {
    // Different files of the left are different ones of the right, or the numbers of links would not agree.
    let mut same = HashMap::new();
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let open = |root: BorrowedFd<'_>| {
            let path = if path.is_empty() { b".".as_slice() } else { &path };
            rustix::fs::openat(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .unwrap_or_else(|e| panic!("{shown}: {e}"))
        };
        let (a, b) = (open(left), open(right));
        let (x, y) = (rustix::fs::fstat(&a).unwrap(), rustix::fs::fstat(&b).unwrap());
        let seen = |s: &rustix::fs::Stat| {
            let kind = FileType::from_raw_mode(s.st_mode);
            let size = if kind == FileType::Directory { 0 } else { s.st_size };
            let time = if node::is_whiteout(s) { (0, 0) } else { (s.st_mtime, s.st_mtime_nsec) };
            (s.st_mode, s.st_uid, s.st_gid, time, size, s.st_nlink, s.st_rdev)
        };
        assert_eq!(seen(&x), seen(&y), "{shown}: mode, owner, group, time, size, links, device");
        if let Some(&there) = same.get(&x.st_ino) {
            assert_eq!(there, y.st_ino, "{shown} is another file");
            continue;
        }
        same.insert(x.st_ino, y.st_ino);
        let xattrs = |fd: &OwnedFd| {
            let found = node::xattrs_of(fd.as_fd(), &path).unwrap();
            found.into_iter().map(|(name, value)| (String::from_utf8(name).unwrap(), value)).collect::<Vec<_>>()
        };
        assert_eq!(xattrs(&a), xattrs(&b), "{shown}");
        match FileType::from_raw_mode(x.st_mode) {
            FileType::Directory => {
                let (names, others) = (
                    listing::sorted_names(reopened(&a).as_fd(), &path),
                    listing::sorted_names(reopened(&b).as_fd(), &path),
                );
                let names = names.unwrap();
                assert_eq!(names, others.unwrap(), "{shown}");
                waiting.extend(names.iter().map(|name| tare_format::layer::join(&path, name)));
            }
            FileType::Symlink => {
                let target = |fd: &OwnedFd| rustix::fs::readlinkat(fd, c"", Vec::new()).unwrap();
                assert_eq!(target(&a), target(&b), "{shown}");
            }
            FileType::RegularFile => assert_same_bytes(&File::from(reopened(&a)), &File::from(reopened(&b)), &shown),
            _ => {}
        }
    }
}

fn reopened(fd: &OwnedFd) -> OwnedFd {
    node::reopen(fd.as_fd(), OFlags::RDONLY).unwrap()
}

/// Every byte; of large holes a sample.
fn assert_same_bytes(a: &File, b: &File, shown: &str) {
    const PIECE: u64 = 256 << 10;
    let size = a.metadata().unwrap().len();
    let (mut x, mut y) = (vec![0; PIECE as usize], vec![1; PIECE as usize]);
    let mut at = 0;
    while at < size {
        let n = PIECE.min(size - at) as usize;
        a.read_exact_at(&mut x[..n], at).unwrap();
        b.read_exact_at(&mut y[..n], at).unwrap_or_else(|e| panic!("{shown} at {at}: {e}"));
        assert!(x[..n] == y[..n], "{shown} differs between {at} and {}", at + n as u64);
        at += PIECE;
        let data = rustix::fs::seek(a, rustix::fs::SeekFrom::Data(at.min(size)));
        let next = data.unwrap_or(size) / PIECE * PIECE;
        if next > at + (64 << 20) {
            // Here and there, and just before the next data.
            at += ((next - at) / 16).max(PIECE) / PIECE * PIECE;
            at = at.min(next - PIECE);
        }
    }
}

/// A header of PAX records before an entry.
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        text.extend(format!("{length}{rest}").into_bytes());
    }
    let mut head = archive(&[(file("PaxHeaders/x"), &text)]);
    head.truncate(512 + text.len().next_multiple_of(512));
    head[156] = b'x';
    head[148..156].fill(b' ');
    let sum: u32 = head[..512].iter().map(|&b| u32::from(b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

/// A sparse file in GNU's form 1.0, without the end of an archive; its pieces are filled with bytes that tell where they are.
fn sparse(path: &str, size: u64, pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut content = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        content += &format!("{offset}\n{length}\n");
    }
    let mut content = content.into_bytes();
    content.resize(content.len().next_multiple_of(512), 0);
    for (offset, length) in pieces {
        content.extend((0..*length).map(|i| (((offset + i) * 7 + (offset + i) / 251) % 255) as u8 + 1));
    }
    let mut out = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", path),
        ("GNU.sparse.realsize", &size.to_string()),
    ]);
    out.extend(without_end(archive(&[(file("GNUSparseFile.0/x"), &content)])));
    out
}

fn without_end(mut archive: Vec<u8>) -> Vec<u8> {
    archive.truncate(archive.len() - 1024);
    archive
}

fn ended(mut archive: Vec<u8>) -> Vec<u8> {
    archive.extend([0; 1024]);
    archive
}
