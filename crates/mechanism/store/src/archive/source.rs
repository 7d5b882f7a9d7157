//! Where an image's documents and blobs come from: an archive that was taken in, or a directory.

use super::{DOCKER, INDEX, LAYOUT};
use crate::layer::from_reader;
use crate::tree::{detect, read_document};
use crate::{Event, Lease, Limits, Progress};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read, Write as _};
use std::os::fd::BorrowedFd;
use tare_format::{Entry, EntryKind, layer, tar};
use tare_model::image::{Compression, Descriptor};
use tare_model::{Context as _, Digest, Error, Kind, Result};

/// An image archive has some hundred files; every one becomes a blob, so their number is bounded.
const MEMBERS_MAX: usize = 65_536;

/// Counts what is read.
struct Counted<'a, R> {
    from: R,
    read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// An archive on its way out of its compression, held to the limits.
struct Bounded<'a> {
    from: &'a mut dyn Read,
    /// Bytes that went into it.
    read: &'a Cell<u64>,
    out: u64,
    limits: Limits,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer).map_err(|e| match e.get_ref().is_some_and(|e| e.is::<Error>()) {
            true => e,
            false => io::Error::other(Error::io("decompress", "archive", e)),
        })?;
        self.out += n as u64;
        self.limits.check_image(self.out).map_err(io::Error::other)?;
        self.limits.layer.check_ratio(self.read.get(), self.out).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// Gives an image's parts.
pub(super) trait Source {
    /// A document at the top: `index.json`, `manifest.json`.
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Sees to it that the blob is in the store, held by the lease.
    fn fetch(&self, lease: &Lease, blob: &Descriptor) -> Result<()>;
    /// What a path of a docker archive holds.
    fn file(&self, path: &str) -> Result<(Digest, u64)>;
}

/// An archive whose files have all become blobs.
#[derive(Debug, Default)]
pub(super) struct Archive {
    documents: HashMap<String, Vec<u8>>,
    files: HashMap<Vec<u8>, Member>,
}

#[derive(Debug)]
enum Member {
    Blob(Digest, u64),
    /// Another path in the archive.
    Link(Vec<u8>),
}

impl Archive {
    /// Reads an archive to its end.
    pub(super) fn take_in(lease: &Lease, from: &mut dyn Read, progress: &dyn Progress) -> Result<Self> {
        let (compression, from) = detect(from)?;
        let (limits, read) = (*lease.store().limits(), Cell::new(0));
        let buffered = io::BufReader::with_capacity(1 << 20, Counted { from, read: &read });
        let bounded = |from: &mut dyn Read| {
            let bounded = Bounded { from, read: &read, out: 0, limits };
            Self::read(lease, io::BufReader::with_capacity(1 << 20, bounded), progress)
        };
        match compression {
            Compression::None => bounded(&mut { buffered }),
            Compression::Gzip => bounded(&mut flate2::bufread::MultiGzDecoder::new(buffered)),
            Compression::Zstd => {
                let mut plain = zstd::Decoder::with_buffer(buffered).during("read", "archive")?;
                plain.window_log_max(limits.layer.zstd_window_log).during("read", "archive")?;
                bounded(&mut plain)
            }
        }
    }

    fn read(lease: &Lease, from: impl BufRead, progress: &dyn Progress) -> Result<Self> {
        let mut archive = Archive::default();
        let mut tar = tar::Reader::new(from, tar::Limits::default());
        while let Some(entry) = tar.next()? {
            // An archive is never unpacked by name, but `./index.json` is `index.json`.
            let path = layer::clean_path(&entry.path)?;
            let member = match entry.kind {
                EntryKind::File => {
                    let name = std::str::from_utf8(&path).unwrap_or_default();
                    if matches!(name, LAYOUT | INDEX | DOCKER) {
                        let document = read_document(tar.content(), lease.store().limits(), name)?;
                        if archive.documents.insert(name.to_owned(), document).is_some() {
                            return Err(Error::new(Kind::Invalid, "read archive", name)
                                .because("the archive has it twice, so it says two things"));
                        }
                        continue;
                    }
                    take_file(lease, name, &entry, &mut tar.content(), progress)?
                }
                EntryKind::Hardlink => Member::Link(layer::clean_path(&entry.link)?),
                EntryKind::Symlink if !entry.link.starts_with(b"/") => {
                    let parent = layer::split(&path).0;
                    match beside(parent, &entry.link) {
                        Some(target) => Member::Link(target),
                        None => continue,
                    }
                }
                _ => continue,
            };
            archive.files.insert(path, member);
            if archive.files.len() > MEMBERS_MAX {
                return Err(Error::new(Kind::Exhausted, "read archive", "")
                    .because(format!("more than {MEMBERS_MAX} files: this is no image archive")));
            }
        }
        Ok(archive)
    }

    fn find(&self, path: &[u8]) -> Option<(Digest, u64)> {
        let mut path = path;
        // Docker's old archives link a layer to the same one of another image, once.
        for _ in 0..8 {
            match self.files.get(path)? {
                Member::Blob(digest, size) => return Some((*digest, *size)),
                Member::Link(target) => path = target,
            }
        }
        None
    }
}

/// A relative link's target as a path from the top; `None` if it leaves the archive.
fn beside(parent: &[u8], link: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = parent.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    for part in link.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join(&b'/'))
}

fn take_file(
    lease: &Lease,
    name: &str,
    entry: &Entry,
    content: &mut impl Read,
    progress: &dyn Progress,
) -> Result<Member> {
    if entry.sparse.is_some() {
        return Err(Error::new(Kind::Unsupported, "read archive", name).because("it is stored as a sparse file"));
    }
    let promised = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
    if let Some(digest) = promised {
        lease.hold(&[digest])?;
        if lease
            .store()
            .open_blob(&digest)
            .and_then(|f| f.metadata().during("stat", name))
            .is_ok_and(|m| m.len() == entry.size)
        {
            return Ok(Member::Blob(digest, entry.size));
        }
    }
    let item = promised.map_or_else(|| name.to_owned(), |d| d.short());
    progress.event(&Event::Started { item: &item, verb: "load", total: Some(entry.size) });
    let mut blob = lease.blob()?;
    copy(content, &mut blob, &item, progress)?;
    let expected = promised.map(|digest| Descriptor::new("", digest, entry.size));
    let (digest, size) = blob.commit(expected.as_ref()).during("load", name)?;
    progress.event(&Event::Finished { item: &item, outcome: "done" });
    Ok(Member::Blob(digest, size))
}

fn copy(from: &mut impl Read, to: &mut crate::BlobWriter, item: &str, progress: &dyn Progress) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = from.read(&mut buffer).map_err(|e| from_reader("read", item, e))?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).during("write blob", item)?;
        progress.event(&Event::Advanced { item, bytes: n as u64 });
    }
}

impl Source for Archive {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.documents.get(name).cloned())
    }

    fn fetch(&self, lease: &Lease, blob: &Descriptor) -> Result<()> {
        // It was read before, or the store had it, which an archive without shared layers may rely on.
        lease.hold(&[blob.digest])?;
        match size_here(lease, &blob.digest) {
            Some(size) => check_size(blob, size),
            None => Err(Error::new(Kind::NotFound, "load blob", blob.digest).because("the archive does not have it")),
        }
    }

    fn file(&self, path: &str) -> Result<(Digest, u64)> {
        let clean = layer::clean_path(path.as_bytes())?;
        self.find(&clean)
            .ok_or_else(|| Error::new(Kind::NotFound, "load", path).because("the archive does not have this file"))
    }
}

/// The size of a blob that the store has.
fn size_here(lease: &Lease, digest: &Digest) -> Option<u64> {
    lease.store().open_blob(digest).ok()?.metadata().ok().map(|m| m.len())
}

fn check_size(blob: &Descriptor, size: u64) -> Result<()> {
    if size == blob.size {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, "load blob", blob.digest)
        .because(format!("it has {size} bytes, and {} were announced", blob.size)))
}

/// An OCI layout directory.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) progress: Progressing<'a>,
    pub(super) limits: Limits,
}

/// A progress that can be printed for debugging.
pub(super) struct Progressing<'a>(pub(super) &'a dyn Progress);

impl std::fmt::Debug for Progressing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Layout<'_> {
    fn open(&self, path: &str) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat2(self.dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) => {
                let kind = rustix::fs::fstat(&fd).map(|s| FileType::from_raw_mode(s.st_mode));
                match kind.map_err(|e| Error::io("open", path, e))? {
                    FileType::RegularFile => Ok(Some(File::from(fd))),
                    _ => Err(Error::new(Kind::Invalid, "open", path).because("it is no regular file")),
                }
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io("open", path, e)),
        }
    }
}

impl Source for Layout<'_> {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.open(name)?.map(|file| read_document(file, &self.limits, name)).transpose()
    }

    fn fetch(&self, lease: &Lease, blob: &Descriptor) -> Result<()> {
        lease.hold(&[blob.digest])?;
        if let Some(size) = size_here(lease, &blob.digest) {
            return check_size(blob, size);
        }
        let path = format!("blobs/sha256/{}", blob.digest.hex());
        let missing = || Error::new(Kind::NotFound, "load blob", blob.digest).because("the layout does not have it");
        let file = self.open(&path)?.ok_or_else(missing)?;
        let item = blob.digest.short();
        self.progress.0.event(&Event::Started { item: &item, verb: "load", total: Some(blob.size) });
        let mut out = lease.blob()?;
        copy(&mut file.take(blob.size.saturating_add(1)), &mut out, &item, self.progress.0)?;
        out.commit(Some(blob))?;
        self.progress.0.event(&Event::Finished { item: &item, outcome: "done" });
        Ok(())
    }

    fn file(&self, path: &str) -> Result<(Digest, u64)> {
        Err(Error::new(Kind::Unsupported, "load", path).because("docker's archives are read as archives only"))
    }
}
