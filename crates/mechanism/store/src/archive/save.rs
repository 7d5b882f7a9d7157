//! Writing archives.

use super::{DOCKER, DockerImage, INDEX, LAYOUT, NAME, REF_NAME};
use crate::blob::Hasher;
use crate::image::to_json;
use crate::{Event, Image, Progress, Store};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use tare_format::{Entry, EntryKind, tar};
use tare_model::image::{Descriptor, Index, media};
use tare_model::{Context as _, Digest, Error, Kind, Reference, Result};

/// An image to save, and the names under which the archive has it (often none: then it is loaded without a name).
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// Names in the archive.
    pub names: Vec<Reference>,
}

impl Store {
    /// Writes images as an OCI archive that docker loads as well. The same images give the same bytes.
    ///
    /// # Errors
    /// `Kind::NotFound` for a missing blob; `Kind::Corrupt` for a damaged one, after it was written; the writer's.
    pub fn save(&self, images: &[Saved], out: &mut dyn Write, progress: &dyn Progress) -> Result<()> {
        // A lease, or an image removed meanwhile would take its blobs along.
        let lease = self.lease()?;
        let mut blobs = BTreeMap::new();
        for Saved { image, .. } in images {
            blobs.insert(image.id, image.config_raw.len() as u64);
            blobs.insert(image.manifest.digest, image.manifest.size);
            blobs.extend(image.layers.iter().map(|l| (l.blob.digest, l.blob.size)));
        }
        lease.hold(&blobs.keys().copied().collect::<Vec<_>>())?;
        let mut tar = tar::Writer::new(io::BufWriter::with_capacity(1 << 20, out));
        document(&mut tar, LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        document(&mut tar, INDEX, &to_json(&index(images))?)?;
        document(&mut tar, DOCKER, &to_json(&docker(images))?)?;
        for dir in ["blobs", "blobs/sha256"] {
            tar.entry(&Entry::new(dir, EntryKind::Directory))?;
        }
        for (digest, size) in blobs {
            self.save_blob(&mut tar, digest, size, progress)?;
        }
        tar.finish()?.flush().during("write", "archive")
    }

    fn save_blob(
        &self,
        tar: &mut tar::Writer<impl Write>,
        digest: Digest,
        size: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let item = digest.short();
        progress.event(&Event::Started { item: &item, verb: "save", total: Some(size) });
        let mut file = self.open_blob(&digest)?.take(size);
        file_entry(tar, path(&digest), size)?;
        let (mut hash, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
        loop {
            let n = file.read(&mut buffer).during("read blob", digest)?;
            if n == 0 {
                break;
            }
            hash.write_all(&buffer[..n]).expect("hashing cannot fail");
            tar.write_all(&buffer[..n]).during("write", "archive")?;
            progress.event(&Event::Advanced { item: &item, bytes: n as u64 });
        }
        if hash.finish() != (digest, size) {
            return Err(Error::new(Kind::Corrupt, "save blob", digest).because("its content on disk has changed"));
        }
        progress.event(&Event::Finished { item: &item, outcome: "done" });
        Ok(())
    }
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

fn docker(images: &[Saved]) -> Vec<DockerImage> {
    let of = |Saved { image, names }: &Saved| DockerImage {
        config: path(&image.id),
        repo_tags: Some(names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect()),
        layers: image.layers.iter().map(|l| path(&l.blob.digest)).collect(),
    };
    images.iter().map(of).collect()
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn document(tar: &mut tar::Writer<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    file_entry(tar, name.to_owned(), bytes.len() as u64)?;
    tar.write_all(bytes).during("write", "archive")
}

fn file_entry(tar: &mut tar::Writer<impl Write>, name: String, size: u64) -> Result<()> {
    tar.entry(&Entry { size, ..Entry::new(name, EntryKind::File) })
}
