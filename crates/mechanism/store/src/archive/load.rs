//! Reading archives: which images they hold, and making those visible.

use super::source::{Archive, Layout, Progressing, Source};
use super::{DOCKER, DockerImage, INDEX, NAME, REF_NAME};
use crate::image::{key, manifest_of, parse_config, to_json};
use crate::limits::DOCUMENT_MAX;
use crate::{Event, Image, ImageLayer, Lease, NewImage, Progress, Store};
use std::io::Read;
use std::os::fd::BorrowedFd;
use tare_model::image::{Compression, Descriptor, ImageConfig, Index, Manifest, ManifestOrIndex, Platform, media};
use tare_model::{Context as _, Digest, Error, Kind, Reference, Result};

/// Indexes within indexes deeper than this are refused.
const DEPTH: usize = 4;

impl Store {
    /// [`Store::load_for`] the host's platform.
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, archive: &mut dyn Read, progress: &dyn Progress) -> Result<Vec<Image>> {
        self.load_for(None, archive, progress)
    }

    /// Reads an OCI archive or docker archive (maybe compressed) to its end and makes its images visible. Each is
    /// returned with the names that the archive gave it. Of an image for several platforms, the one for `platform` (the host's if `None`).
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid`, `Kind::Unsupported` by what is wrong with it.
    pub fn load_for(
        &self,
        platform: Option<&Platform>,
        archive: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>> {
        self.loading(platform, progress, |loading| {
            let source = Archive::take_in(&loading.lease, archive, progress)?;
            if let Some(index) = source.document(INDEX)? {
                return loading.oci(&source, &index);
            }
            match source.document(DOCKER)? {
                Some(list) => loading.docker(&source, &list),
                None => Err(Error::new(Kind::Invalid, "load", "archive")
                    .because("it has neither index.json nor manifest.json, so it is no image archive")
                    .hint("`tare import` makes an image of a root filesystem")),
            }
        })
    }

    /// Reads an OCI layout directory.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_layout(
        &self,
        platform: Option<&Platform>,
        dir: BorrowedFd<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>> {
        self.loading(platform, progress, |loading| {
            let source = Layout { dir, progress: Progressing(progress), limits: *self.limits() };
            let index = source.document(INDEX)?.ok_or_else(|| {
                Error::new(Kind::Invalid, "load", "directory").because("it has no index.json, so it is no OCI layout")
            })?;
            loading.oci(&source, &index)
        })
    }

    fn loading(
        &self,
        platform: Option<&Platform>,
        progress: &dyn Progress,
        f: impl FnOnce(&Loading<'_>) -> Result<Vec<Image>>,
    ) -> Result<Vec<Image>> {
        let loading = Loading { store: self, lease: self.lease()?, platform: platform.cloned(), progress };
        let loaded = f(&loading);
        // What an archive had beyond its images, or all of it if it was refused.
        let ended = self.end_lease(loading.lease);
        loaded.and_then(|images| ended.map(|()| images))
    }
}

struct Loading<'a> {
    store: &'a Store,
    lease: Lease,
    /// What is asked for; the host's if nothing is.
    platform: Option<Platform>,
    progress: &'a dyn Progress,
}

impl Loading<'_> {
    fn oci(&self, source: &dyn Source, index: &[u8]) -> Result<Vec<Image>> {
        let ManifestOrIndex::Index(index) = ManifestOrIndex::parse(index).during("load", INDEX)? else {
            return Err(Error::new(Kind::Invalid, "load", INDEX).because("it is a manifest"));
        };
        let mut images: Vec<Image> = Vec::new();
        for (manifest, names) in wanted(&index, &self.wanted_platform())? {
            add(&mut images, self.manifest(source, &manifest, &names, 0)?);
        }
        Ok(images)
    }

    fn wanted_platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }

    /// An image that says that it is for something else than what was asked for is refused. Nothing asked for, everything taken.
    fn check_platform(&self, config: &ImageConfig) -> Result<()> {
        let Some(wanted) = &self.platform else { return Ok(()) };
        let is = config.platform();
        if is.os.is_empty() || is.runs_on(wanted) {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, "choose platform", wanted).because(format!("the image is for {is}")))
    }

    fn manifest(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        names: &[Reference],
        depth: usize,
    ) -> Result<Image> {
        self.store.limits().check_manifest(descriptor.size).during("load manifest", descriptor.digest)?;
        if depth > DEPTH {
            return Err(
                Error::new(Kind::Invalid, "load manifest", descriptor.digest).because("indexes are nested too deeply")
            );
        }
        source.fetch(&self.lease, descriptor)?;
        let bytes = self.store.read_blob(&descriptor.digest, DOCUMENT_MAX)?;
        let parsed = ManifestOrIndex::parse(&bytes).during("load manifest", descriptor.digest)?;
        let announced = Some(descriptor.media_type.as_str()).filter(|t| !t.is_empty());
        let media_type = parsed.media_type(announced).during("load manifest", descriptor.digest)?;
        match parsed {
            ManifestOrIndex::Index(index) => {
                let host = self.wanted_platform();
                let chosen = index.choose(&host).ok_or_else(|| no_platform(&index, &host))?;
                self.manifest(source, chosen, names, depth + 1)
            }
            ManifestOrIndex::Manifest(manifest) => self.image(source, &manifest, &bytes, &media_type, names),
        }
    }

    fn docker(&self, source: &dyn Source, list: &[u8]) -> Result<Vec<Image>> {
        let list: Vec<DockerImage> =
            serde_json::from_slice(list).map_err(|e| Error::new(Kind::Invalid, "parse", DOCKER).because(e))?;
        let mut images: Vec<Image> = Vec::new();
        for entry in list {
            let (config, size) = source.file(&entry.config)?;
            self.store.limits().check_config(size).during("load", &entry.config)?;
            let config = self.store.read_blob(&config, DOCUMENT_MAX)?;
            let mut layers = Vec::new();
            let diff_ids = parse_config(&config)?.rootfs.diff_ids;
            if diff_ids.len() != entry.layers.len() {
                return Err(Error::new(Kind::Corrupt, "load", &entry.config)
                    .because("config and manifest.json list different numbers of layers"));
            }
            for (path, diff_id) in entry.layers.iter().zip(diff_ids) {
                let (digest, size) = source.file(path)?;
                let (compression, _) =
                    crate::tree::detect(self.store.open_blob(&digest)?).during("read blob", digest)?;
                let blob = Descriptor::new(compression.layer_media_type(), digest, size);
                layers.push(ImageLayer { diff_id, blob });
            }
            let names: Result<Vec<_>> = entry.repo_tags.iter().flatten().map(|tag| tag.parse()).collect();
            let manifest = manifest_of(&config, &layers);
            let bytes = to_json(&manifest)?;
            // The config came as a file of any name: held since it was taken in.
            add(&mut images, self.image(source, &manifest, &bytes, media::MANIFEST, &names?)?);
        }
        Ok(images)
    }

    fn image(
        &self,
        source: &dyn Source,
        manifest: &Manifest,
        bytes: &[u8],
        media_type: &str,
        names: &[Reference],
    ) -> Result<Image> {
        let limits = self.store.limits();
        limits.check_config(manifest.config.size).during("load", manifest.config.digest)?;
        limits.check_layers(manifest.layers.iter().map(|l| l.size)).during("load", Digest::of(bytes))?;
        source.fetch(&self.lease, &manifest.config)?;
        let config = self.store.read_blob(&manifest.config.digest, DOCUMENT_MAX)?;
        let parsed = parse_config(&config)?;
        self.check_platform(&parsed)?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::new(Kind::Corrupt, "load image", manifest.config.digest)
                .because("config and manifest list different numbers of layers"));
        }
        self.lease.hold(&diff_ids)?;
        let pairs = diff_ids.iter().zip(&manifest.layers);
        let layers: Vec<_> = pairs.map(|(d, b)| ImageLayer { diff_id: *d, blob: b.clone() }).collect();
        for (i, layer) in layers.iter().enumerate() {
            source.fetch(&self.lease, &layer.blob)?;
            if !self.store.has_layer(&layer.diff_id)? {
                self.unpack(layer, &diff_ids[..i])?;
            }
        }
        let new = NewImage { manifest: bytes, media_type, config: &config, layers: &layers, names };
        let mut image = self.store.put_image(&self.lease, &new)?;
        // It may have had other names here before.
        image.names.retain(|have| names.iter().any(|name| key(name) == key(have)));
        Ok(image)
    }

    fn unpack(&self, layer: &ImageLayer, below: &[Digest]) -> Result<()> {
        let item = layer.blob.digest.short();
        self.progress.event(&Event::Started { item: &item, verb: "unpack", total: Some(layer.blob.size) });
        let compression = Compression::of_media_type(&layer.blob.media_type)?;
        let mut draft = self.lease.layer()?;
        let blob = Counted { file: self.store.open_blob(&layer.blob.digest)?, item: &item, progress: self.progress };
        let below = Box::new(|path: &[u8]| self.store.look_below(below, path));
        let unpacked =
            draft.unpack(blob, compression, &self.store.limits().layer, below).during("unpack layer", &item)?;
        if unpacked.diff_id != layer.diff_id {
            return Err(Error::new(Kind::Corrupt, "unpack layer", layer.diff_id)
                .because(format!("the content's diff ID is {}", unpacked.diff_id)));
        }
        draft.publish(&unpacked)?;
        self.progress.event(&Event::Finished { item: &item, outcome: "done" });
        Ok(())
    }
}

/// An image that was in the archive before only has further names.
fn add(images: &mut Vec<Image>, mut image: Image) {
    if let Some(earlier) = images.iter().position(|i| i.id == image.id) {
        let mut names = images.remove(earlier).names;
        names.retain(|n| !image.names.contains(n));
        image.names.splice(..0, names);
    }
    images.push(image);
}

/// The manifests of an index to load, each with its names. Several entries of one name are one image for several
/// platforms; entries without a name are images of their own, but for those that only run elsewhere.
fn wanted(index: &Index, host: &Platform) -> Result<Vec<(Descriptor, Vec<Reference>)>> {
    let elsewhere = |d: &Descriptor| d.platform.as_ref().is_some_and(|p| !p.runs_on(host));
    let mut wanted: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
    let mut add = |descriptor: &Descriptor, name: Option<Reference>| match wanted
        .iter_mut()
        .find(|(d, _)| d.digest == descriptor.digest)
    {
        Some((_, names)) => names.extend(name),
        None => wanted.push((descriptor.clone(), name.into_iter().collect())),
    };
    let mut named: Vec<(Reference, Vec<&Descriptor>)> = Vec::new();
    for descriptor in &index.manifests {
        match name_of(descriptor)? {
            None if elsewhere(descriptor) && index.manifests.len() > 1 => {}
            None => add(descriptor, None),
            Some(name) => match named.iter_mut().find(|(n, _)| *n == name) {
                Some((_, group)) => group.push(descriptor),
                None => named.push((name, vec![descriptor])),
            },
        }
    }
    for (name, group) in named {
        let chosen = group.iter().find(|d| !elsewhere(d)).or(if group.len() == 1 { group.first() } else { None });
        add(chosen.ok_or_else(|| no_platform(index, host))?, Some(name));
    }
    if wanted.is_empty() {
        return Err(no_platform(index, host));
    }
    Ok(wanted)
}

fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    if let Some(name) = descriptor.annotations.get(NAME) {
        return name.parse().map(Some);
    }
    // Often only a tag, which names nothing.
    match descriptor.annotations.get(REF_NAME) {
        Some(name) if name.contains([':', '/']) => name.parse().map(Some),
        _ => Ok(None),
    }
}

fn no_platform(index: &Index, host: &Platform) -> Error {
    let there: Vec<_> = index.manifests.iter().filter_map(|d| d.platform.as_ref()).map(ToString::to_string).collect();
    let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
    Error::new(Kind::NotFound, "choose platform", host).because(format!("there is only {there}"))
}

struct Counted<'a> {
    file: std::fs::File,
    item: &'a str,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.progress.event(&Event::Advanced { item: self.item, bytes: n as u64 });
        Ok(n)
    }
}
