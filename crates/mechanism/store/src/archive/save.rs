//! Writing archives.

use super::{DOCKER, DockerImage, INDEX, LAYOUT, NAME, REF_NAME};
use crate::blob::Hasher;
use crate::image::to_json;
use crate::layer::{LayerSink, Tap, unpack};
use crate::{Event, Image, ImageLayer, Lease, Progress, Store};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use tare_format::{Change, Entry, EntryKind, tar};
use tare_model::image::{Compression, Descriptor, Index, media};
use tare_model::{Context as _, Digest, Error, Kind, Reference, Result};

const BLOBS: &str = "blobs/sha256";

/// An image to save, and the names under which the archive has it (often none: then it is loaded without a name).
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// Names in the archive.
    pub names: Vec<Reference>,
}

/// How images are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout with docker's `manifest.json` beside: everybody reads it.
    #[default]
    Both,
    /// An OCI layout and nothing else.
    Oci,
    /// Docker's own: `manifest.json`, configs, uncompressed layers.
    Docker,
}

impl Store {
    /// Writes images as an archive. The same images give the same bytes.
    ///
    /// # Errors
    /// `Kind::NotFound` for a missing blob; `Kind::Corrupt` for a damaged one, after it was written; the writer's.
    pub fn save(&self, images: &[Saved], format: Format, out: &mut dyn Write, progress: &dyn Progress) -> Result<()> {
        let mut place = Archive(tar::Writer::new(io::BufWriter::with_capacity(1 << 20, out)));
        self.save_to(&mut place, images, format, progress)?;
        place.0.finish()?.flush().during("write", "archive")
    }

    /// Writes images as files of a directory, which exists: an OCI layout. What is of that name there is replaced.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_layout(&self, images: &[Saved], dir: &Path, progress: &dyn Progress) -> Result<()> {
        std::fs::create_dir_all(dir.join(BLOBS)).during("create directory", dir.display())?;
        let mut place = Directory { dir, file: None };
        self.save_to(&mut place, images, Format::Oci, progress)
    }

    fn save_to(&self, to: &mut dyn Place, images: &[Saved], format: Format, progress: &dyn Progress) -> Result<()> {
        // A lease, or an image removed meanwhile would take its blobs along.
        let lease = self.lease()?;
        let saved = self.save_held(&lease, to, images, format, progress).or_else(|e| {
            // One that was removed before the lease held it is not there, rather than one of its blobs.
            images.iter().try_for_each(|s| self.image(&s.image.id.to_string()).map(drop))?;
            Err(e)
        });
        // With what had to be compressed again for it.
        let ended = self.end_lease(lease);
        saved.and(ended)
    }

    fn save_held(
        &self,
        lease: &Lease,
        to: &mut dyn Place,
        images: &[Saved],
        format: Format,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut whole = Vec::new();
        for Saved { image, names } in images {
            let image = if format == Format::Docker { image.clone() } else { self.with_blobs(lease, image, progress)? };
            whole.push(Saved { image, names: names.clone() });
        }
        let images = whole.as_slice();
        let mut blobs = BTreeMap::new();
        for Saved { image, .. } in images {
            blobs.insert(image.id, image.config_raw.len() as u64);
            blobs.insert(image.manifest.digest, image.manifest.size);
            blobs.extend(image.layers.iter().map(|l| (l.blob.digest, l.blob.size)));
        }
        lease.hold(&blobs.keys().copied().collect::<Vec<_>>())?;
        if format == Format::Docker {
            return self.save_docker(lease, to, images, progress);
        }
        document(to, LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        document(to, INDEX, &to_json(&index(images))?)?;
        if format == Format::Both {
            document(to, DOCKER, &to_json(&docker(images, |l| path(&l.blob.digest), path))?)?;
        }
        for dir in ["blobs", BLOBS] {
            to.directory(dir)?;
        }
        for (digest, size) in blobs {
            let file = self.open_blob(&digest)?.take(size);
            copy(to, &path(&digest), digest, size, file, progress)?;
        }
        Ok(())
    }

    fn save_docker(&self, lease: &Lease, to: &mut dyn Place, images: &[Saved], progress: &dyn Progress) -> Result<()> {
        let mut written = HashSet::new();
        for Saved { image, .. } in images {
            if written.insert(image.id) {
                document(to, &config_name(&image.id), &image.config_raw)?;
            }
            for layer in image.layers.iter().filter(|l| written.insert(l.diff_id)) {
                if let Some(plain) = self.archive(&layer.diff_id)? {
                    copy(to, &layer_name(layer), layer.diff_id, plain.len(), plain, progress)?;
                    continue;
                }
                let (plain, size) = self.inflated(lease, layer)?;
                copy(to, &layer_name(layer), layer.diff_id, size, plain, progress)?;
            }
        }
        document(to, DOCKER, &to_json(&docker(images, layer_name, config_name))?)
    }

    /// A layer's archive as it is, and its length: known only when all of it was inflated, hence a scratch file.
    fn inflated(&self, lease: &Lease, layer: &ImageLayer) -> Result<(File, u64)> {
        let mut scratch = lease.scratch()?;
        let mut sink = Kept(Some(Tap { file: scratch.try_clone().during("duplicate", "scratch file")?, at: 0 }));
        let compression = Compression::of_media_type(&layer.blob.media_type)?;
        let unpacked = unpack(self.open_blob(&layer.blob.digest)?, compression, &self.limits().layer, &mut sink)?;
        if unpacked.diff_id != layer.diff_id {
            return Err(Error::new(Kind::Corrupt, "save layer", layer.diff_id)
                .because(format!("the content's diff ID is {}", unpacked.diff_id)));
        }
        let size = scratch.metadata().during("stat", "scratch file")?.len();
        scratch.rewind().during("read", "scratch file")?;
        Ok((scratch, size))
    }
}

/// Only keeps the archive.
struct Kept(Option<Tap>);

impl LayerSink for Kept {
    fn tap(&mut self) -> Option<Tap> {
        self.0.take()
    }

    fn put(&mut self, _: Change, _: u64, _: &mut dyn io::BufRead) -> Result<()> {
        Ok(())
    }

    fn weight(&self) -> u64 {
        0
    }

    fn finish(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Where files of an image are written, one after the other.
trait Place: Write {
    fn directory(&mut self, name: &str) -> Result<()>;
    /// `size` bytes follow.
    fn file(&mut self, name: &str, size: u64) -> Result<()>;
    /// All of them have been written.
    fn done(&mut self) -> Result<()>;
}

struct Archive<W: Write>(tar::Writer<W>);

impl<W: Write> Write for Archive<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Place for Archive<W> {
    fn directory(&mut self, name: &str) -> Result<()> {
        self.0.entry(&Entry::new(name, EntryKind::Directory))
    }

    fn file(&mut self, name: &str, size: u64) -> Result<()> {
        self.0.entry(&Entry { size, ..Entry::new(name, EntryKind::File) })
    }

    fn done(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Each file appears when it is whole.
struct Directory<'a> {
    dir: &'a Path,
    file: Option<(File, PathBuf, PathBuf)>,
}

impl Write for Directory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some((file, ..)) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Place for Directory<'_> {
    fn directory(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn file(&mut self, name: &str, _: u64) -> Result<()> {
        let path = self.dir.join(name);
        let draft = path.with_extension(format!("part-{}", std::process::id()));
        let file = File::create(&draft).during("create", draft.display())?;
        self.file = Some((file, draft, path));
        Ok(())
    }

    fn done(&mut self) -> Result<()> {
        match self.file.take() {
            Some((_, draft, path)) => std::fs::rename(draft, &path).during("rename", path.display()),
            None => Ok(()),
        }
    }
}

impl Drop for Directory<'_> {
    fn drop(&mut self) {
        if let Some((_, draft, _)) = &self.file {
            // Half a file helps nobody; the error that led here is reported.
            drop(std::fs::remove_file(draft));
        }
    }
}

fn copy(
    to: &mut dyn Place,
    name: &str,
    digest: Digest,
    size: u64,
    mut from: impl Read,
    progress: &dyn Progress,
) -> Result<()> {
    let item = digest.short();
    progress.event(&Event::Started { item: &item, verb: "save", total: Some(size) });
    to.file(name, size)?;
    let (mut hash, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        let n = from.read(&mut buffer).during("read blob", digest)?;
        if n == 0 {
            break;
        }
        hash.write_all(&buffer[..n]).expect("hashing cannot fail");
        to.write_all(&buffer[..n]).during("write", "archive")?;
        progress.event(&Event::Advanced { item: &item, bytes: n as u64 });
    }
    if hash.finish() != (digest, size) {
        return Err(Error::new(Kind::Corrupt, "save blob", digest).because("its content on disk has changed"));
    }
    to.done()?;
    progress.event(&Event::Finished { item: &item, outcome: "done" });
    Ok(())
}

fn index(images: &[Saved]) -> Index {
    let mut manifests = Vec::new();
    for Saved { image, names } in images {
        let named = |name: &Reference| {
            let mut annotations = BTreeMap::from([(NAME.to_owned(), name.to_string())]);
            annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or("latest").to_owned());
            annotations
        };
        let mut descriptor = image.manifest.clone();
        descriptor.platform = Some(image.config.platform());
        if names.is_empty() {
            manifests.push(descriptor.clone());
        }
        manifests.extend(names.iter().map(|n| Descriptor { annotations: named(n), ..descriptor.clone() }));
    }
    Index { schema_version: 2, media_type: Some(media::INDEX.to_owned()), manifests, annotations: BTreeMap::new() }
}

fn docker(
    images: &[Saved],
    layer: impl Fn(&ImageLayer) -> String,
    config: impl Fn(&Digest) -> String,
) -> Vec<DockerImage> {
    let of = |Saved { image, names }: &Saved| DockerImage {
        config: config(&image.id),
        repo_tags: Some(names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect()),
        layers: image.layers.iter().map(&layer).collect(),
    };
    images.iter().map(of).collect()
}

fn path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn config_name(id: &Digest) -> String {
    format!("{}.json", id.hex())
}

fn layer_name(layer: &ImageLayer) -> String {
    format!("{}.tar", layer.diff_id.hex())
}

fn document(to: &mut dyn Place, name: &str, bytes: &[u8]) -> Result<()> {
    to.file(name, bytes.len() as u64)?;
    to.write_all(bytes).during("write", "archive")?;
    to.done()
}
