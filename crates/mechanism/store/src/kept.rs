//! Doing without the blobs that layers came as.
//!
//! A layer that is an image holds its archive byte for byte, so what it came as is needed for one thing only: to give the image out
//! again under the same digest. Where that is not wanted, the blob goes once the layer is unpacked; its descriptor stays. When it is
//! needed after all, the archive is compressed again: layers that tare itself compressed have the same digest then, others
//! usually another one.

use crate::image::to_json;
use crate::layer::seal::gzip;
use crate::{Event, Form, Image, ImageLayer, Lease, Progress, Store};
use sha2::Digest as _;
use std::io::{Read, Write as _};
use tare_model::image::{Compression, Descriptor, ManifestOrIndex};
use tare_model::{Context as _, Digest, Error, Kind, Result};

impl Store {
    /// Decides whether the blobs of layers are kept from now on; they are if nobody says so. Only the first call counts.
    pub fn keep_blobs(&self, keep: bool) {
        let _ = self.0.keep_blobs.set(keep);
    }

    fn keeps_blobs(&self) -> bool {
        *self.0.keep_blobs.get_or_init(|| true)
    }

    /// Whether the layer's blob need not be fetched: none are kept, and its archive is there.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn does_without(&self, diff_id: &Digest) -> Result<bool> {
        Ok(!self.keeps_blobs() && self.has_archive(diff_id) && self.has_layer(diff_id)?)
    }

    pub(crate) fn has_archive(&self, diff_id: &Digest) -> bool {
        self.placed(diff_id).is_some_and(|p| p.form == Form::Image)
    }

    /// Lets the blobs of these layers go, if none are kept, but for those that somebody is reading.
    pub(crate) fn drop_blobs(&self, lease: &Lease, layers: &[ImageLayer]) -> Result<()> {
        if self.keeps_blobs() {
            return Ok(());
        }
        let _writer = self.writer()?;
        let held = self.held_by_leases(Some(lease))?;
        for layer in layers.iter().filter(|l| self.has_archive(&l.diff_id) && !held.contains(&l.blob.digest)) {
            lease.bury(&self.blob_path(&layer.blob.digest))?;
        }
        Ok(())
    }

    /// The image with all its blobs, those that were not kept made again: held by the lease, and garbage with its end
    /// ([`Store::end_lease`]). The manifest is another one if a blob has another digest. The same image if nothing is missing.
    ///
    /// # Errors
    /// `Kind::NotFound` for a blob that is missing and cannot be made; `Kind::Corrupt` for a damaged layer.
    pub fn with_blobs(&self, lease: &Lease, image: &Image, progress: &dyn Progress) -> Result<Image> {
        let mut image = image.clone();
        let mut changed = false;
        for layer in &mut image.layers {
            lease.hold(&[layer.blob.digest, layer.diff_id])?;
            if !self.has_blob(&layer.blob.digest) {
                let blob = self.compress(lease, layer, progress)?;
                changed |= blob.digest != layer.blob.digest;
                layer.blob = blob;
            }
        }
        if !changed {
            return Ok(image);
        }
        let bytes = self.read_blob(&image.manifest.digest, crate::limits::DOCUMENT_MAX)?;
        let ManifestOrIndex::Manifest(mut manifest) = ManifestOrIndex::parse(&bytes)? else {
            return Err(Error::new(Kind::Corrupt, "read manifest", image.manifest.digest).because("it is an index"));
        };
        for (descriptor, layer) in manifest.layers.iter_mut().zip(&image.layers) {
            if descriptor.digest != layer.blob.digest {
                // What its annotations say (tables of contents) is of the other blob.
                *descriptor = layer.blob.clone();
            }
        }
        let bytes = to_json(&manifest)?;
        let digest = lease.put_blob(&bytes)?;
        image.manifest = Descriptor::new(&image.manifest.media_type, digest, bytes.len() as u64);
        Ok(image)
    }

    fn compress(&self, lease: &Lease, layer: &ImageLayer, progress: &dyn Progress) -> Result<Descriptor> {
        let lost = || {
            Error::new(Kind::NotFound, "find blob", layer.blob.digest)
                .because("it is not in the store, and its layer holds no archive")
                .hint("pull the image again")
        };
        let mut archive = self.archive(&layer.diff_id)?.ok_or_else(lost)?;
        let item = layer.diff_id.short();
        progress.event(&Event::Started { item: &item, verb: "compress", total: Some(archive.len()) });
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut feed = |out: &mut dyn std::io::Write| -> Result<()> {
            loop {
                let n = archive.read(&mut buffer).during("read layer", layer.diff_id)?;
                if n == 0 {
                    return Ok(());
                }
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n]).during("compress layer", layer.diff_id)?;
                progress.event(&Event::Advanced { item: &item, bytes: n as u64 });
            }
        };
        let mut blob = lease.blob()?;
        match Compression::of_media_type(&layer.blob.media_type)? {
            Compression::None => feed(&mut blob)?,
            Compression::Gzip => gzip(&mut blob, None, |out| feed(out))?,
            Compression::Zstd => {
                let failed = |e| Error::io("compress layer", layer.diff_id, e);
                let mut encoder = zstd::Encoder::new(&mut blob, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(failed)?;
                feed(&mut encoder)?;
                encoder.finish().map_err(failed)?;
            }
        }
        blob.flush().during("write blob", layer.blob.digest)?;
        let (digest, size) = blob.commit(None)?;
        if Digest::from_bytes(hash.finalize().into()) != layer.diff_id {
            return Err(Error::new(Kind::Corrupt, "compress layer", layer.diff_id)
                .because("its content on disk has another digest")
                .hint("tare image verify --all"));
        }
        progress.event(&Event::Finished { item: &item, outcome: "done" });
        Ok(Descriptor::new(&layer.blob.media_type, digest, size))
    }
}
