//! A root filesystem becomes an image.
//!
//! The archive's files make the layer, not the archive: how they were packed (order, format, names of users, entries that later ones
//! replace) leaves no trace, so that the same files give the same digest. The stream is written to a scratch file while it comes,
//! and its files from there into an archive of our own, sorted.

use crate::layer::{LayerSink, Tap, unpack};
use crate::{Event, Image, Lease, NewLayer, Progress, Store};
use std::fs::File;
use std::io::{self, BufRead, Read, Seek as _, Write};
use std::os::unix::fs::FileExt as _;
use tare_format::erofs::{Data, Place, Tree};
use tare_format::layer::show;
use tare_format::{Change, Entry, EntryKind, Time, tar};
use tare_model::image::{Compression, History, ImageConfig};
use tare_model::{Context as _, Error, Kind, Reference, Result};

/// Holes of sparse files that are written out as zeros, in bytes altogether (1 GiB). An archive with more is kept as it came.
const HOLES: u64 = 1 << 30;

/// What an import records.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The image's name.
    pub name: Option<Reference>,
    /// Config to start from; platform and time are filled in if they are missing.
    pub config: ImageConfig,
    /// Comment of the one history entry.
    pub message: Option<String>,
    /// Seconds since 1970 (SOURCE_DATE_EPOCH): the image is of then, and nothing in it is younger.
    pub epoch: Option<i64>,
}

impl Store {
    /// Makes an image of a root filesystem's tar stream (maybe compressed).
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid` for malformed streams, and what [`unpack`] refuses.
    pub fn import(&self, tar: &mut (dyn Read + Send), import: Import, progress: &dyn Progress) -> Result<Image> {
        self.leased(|lease| self.import_under(lease, tar, import, progress))
    }

    fn import_under(
        &self,
        lease: &Lease,
        tar: &mut (dyn Read + Send),
        import: Import,
        progress: &dyn Progress,
    ) -> Result<Image> {
        progress.event(&Event::Started { item: super::IMPORTED, verb: "import", total: None });
        let made = sorted_layer(lease, tar, import.epoch, progress)?;
        progress.event(&Event::Finished { item: super::IMPORTED, outcome: "done" });
        let mut config = import.config;
        let now = || match import.epoch {
            Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string(),
            None => jiff::Timestamp::now().to_string(),
        };
        let created = config.created.get_or_insert_with(now).clone();
        config.history.push(History {
            created: Some(created),
            comment: Some(import.message.unwrap_or_else(|| "imported".to_owned())),
            ..History::default()
        });
        let names: Vec<_> = import.name.into_iter().collect();
        self.image_from_layer(lease, None, Some(made.layer), config, &names)
    }
}

fn sorted_layer(
    lease: &Lease,
    tar: &mut (dyn Read + Send),
    epoch: Option<i64>,
    progress: &dyn Progress,
) -> Result<NewLayer> {
    let (compression, tar) = crate::tree::detect(tar)?;
    let mut scratch = lease.scratch()?;
    let mut spool =
        Spool { file: scratch.try_clone().during("duplicate", "scratch file")?, tree: Tree::default(), holes: 0 };
    unpack(Told { from: tar, progress }, compression, &lease.store().limits().layer, &mut spool)
        .during("unpack", "layer")?;
    if spool.holes > HOLES {
        scratch.rewind().during("read", "scratch file")?;
        return lease.store().add_layer(lease, &mut scratch, Compression::Gzip, progress);
    }
    let write = |out: &mut dyn Write| {
        let mut archive = tar::Writer::new(out);
        spool.tree.each(&mut |mut entry, data| {
            if !belongs(&entry) {
                return Ok(());
            }
            // The root changes its time with everything in it.
            entry.mtime = if entry.path.is_empty() { Time::default() } else { entry.mtime.clamped(epoch) };
            archive.entry(&entry)?;
            match data {
                Some(data) => content(&scratch, &entry, data, &mut archive),
                None => Ok(()),
            }
        })?;
        archive.finish().map(drop)
    };
    lease.make_layer(write)?.1.publish()
}

/// A root without a word of its own, and whiteouts of nothing, say nothing.
fn belongs(entry: &Entry) -> bool {
    let whiteout = entry.kind == EntryKind::CharDevice && entry.device == (0, 0);
    let plain = (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0) && entry.xattrs.is_empty();
    !(whiteout || entry.path.is_empty() && plain)
}

fn content(from: &File, entry: &Entry, data: &Data, to: &mut impl Write) -> Result<()> {
    let whole;
    let places: &[Place] = match data {
        Data::Whole(at) => {
            whole = [Place { offset: 0, length: entry.size, at: *at }];
            &whole
        }
        Data::Pieces { places, .. } => places,
    };
    let failed = |e| Error::io("write", show(&entry.path), e);
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    for place in places {
        zeros(place.offset - at, to).map_err(failed)?;
        let mut done = 0;
        while done < place.length {
            let n = usize::try_from(place.length - done).unwrap_or(usize::MAX).min(buffer.len());
            from.read_exact_at(&mut buffer[..n], place.at + done).during("read", "scratch file")?;
            to.write_all(&buffer[..n]).map_err(failed)?;
            done += n as u64;
        }
        at = place.offset + place.length;
    }
    zeros(entry.size - at, to).map_err(failed)
}

fn zeros(mut count: u64, to: &mut impl Write) -> io::Result<()> {
    let block = [0; 64 << 10];
    while count > 0 {
        let n = usize::try_from(count).unwrap_or(usize::MAX).min(block.len());
        to.write_all(&block[..n])?;
        count -= n as u64;
    }
    Ok(())
}

/// Keeps the archive, and what it comes to.
struct Spool {
    file: File,
    tree: Tree,
    holes: u64,
}

impl LayerSink for Spool {
    fn tap(&mut self) -> Option<Tap> {
        self.file.try_clone().ok().map(|file| Tap { file, at: 0 })
    }

    fn put(&mut self, change: Change, at: u64, _: &mut dyn BufRead) -> Result<()> {
        let data = match &change {
            Change::Put(entry) if entry.kind == EntryKind::File => match &entry.sparse {
                Some(extents) => {
                    let mut at = at;
                    let place = |e: &tare_format::Extent| {
                        let place = Place { offset: e.offset, length: e.length, at };
                        at += e.length;
                        place
                    };
                    let places: Vec<Place> = extents.iter().map(place).collect();
                    self.holes += entry.size - places.iter().map(|p| p.length).sum::<u64>();
                    // No image is made: chunks do not count.
                    Data::Pieces { bits: 9, places }
                }
                None => Data::Whole(at),
            },
            _ => Data::Whole(0),
        };
        self.tree.put(change, data)
    }

    fn weight(&self) -> u64 {
        self.tree.weight()
    }

    fn finish(&mut self, _: u64) -> Result<()> {
        for link in self.tree.unsettled() {
            if !self.tree.link(&link.path, &link.target)? {
                return Err(Error::new(Kind::Invalid, "link", show(&link.path))
                    .because(format!("its target {} is not in the archive", show(&link.target))));
            }
        }
        Ok(())
    }
}

/// Says how much was read.
struct Told<'a, R> {
    from: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        if n > 0 {
            self.progress.event(&Event::Advanced { item: super::IMPORTED, bytes: n as u64 });
        }
        Ok(n)
    }
}
