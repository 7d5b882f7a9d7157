//! Small images, made byte by byte.

use std::io::Write;
use std::path::Path;
use tare_model::Digest;
use tare_model::image::{Descriptor, ImageConfig, Index, Manifest, Platform, RootFs, media};

/// A blob with its descriptor.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
}

impl Blob {
    pub(super) fn new(media_type: &str, bytes: Vec<u8>) -> Blob {
        Blob { descriptor: Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64), bytes }
    }
}

/// An image with everything that a registry has of it.
#[derive(Debug, Clone)]
pub(super) struct TestImage {
    pub(super) manifest: Blob,
    pub(super) config: Blob,
    pub(super) layers: Vec<Blob>,
}

/// One entry of a tar archive.
pub(super) enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Hardlink(&'a str, &'a str),
}

/// A ustar archive.
pub(super) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let (name, kind, link, data) = match entry {
            Entry::File(name, data) => (*name, b'0', "", *data),
            Entry::Hardlink(name, target) => (*name, b'1', *target, &[][..]),
        };
        let mut h = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| h[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", data.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&h);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// A layer's blob in a compression, by media type.
pub(super) fn layer(media_type: &str, tar: &[u8]) -> Blob {
    let bytes = match media_type {
        media::LAYER_GZIP | media::DOCKER_LAYER_GZIP => gzip(tar),
        media::LAYER_ZSTD => zstd::encode_all(tar, 1).unwrap(),
        _ => tar.to_vec(),
    };
    Blob::new(media_type, bytes)
}

/// An image of these tar streams, one in each compression in turn.
pub(super) fn image(architecture: &str, tars: &[Vec<u8>]) -> TestImage {
    let types = [media::LAYER_GZIP, media::LAYER_ZSTD, media::LAYER];
    let layers = tars.iter().zip(types.iter().cycle()).map(|(t, media_type)| layer(media_type, t)).collect();
    assemble(architecture, tars.iter().map(|t| Digest::of(t)).collect(), layers)
}

/// An image whose config promises these diff IDs for these blobs, true or not.
pub(super) fn assemble(architecture: &str, diff_ids: Vec<Digest>, layers: Vec<Blob>) -> TestImage {
    let config = ImageConfig {
        architecture: architecture.into(),
        os: "linux".into(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    let config = Blob::new(media::CONFIG, serde_json::to_vec(&config).unwrap());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.into()),
        config: config.descriptor.clone(),
        layers: layers.iter().map(|l| l.descriptor.clone()).collect(),
        annotations: [("org.example.kept".to_owned(), "as it is".to_owned())].into(),
    };
    let manifest = Blob::new(media::MANIFEST, serde_json::to_vec(&manifest).unwrap());
    TestImage { manifest, config, layers }
}

/// A file big enough to travel in several pieces, that does not compress away.
pub(super) fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()[1]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An OCI layout that holds an index of these images, as `latest`.
pub(super) fn write_layout(dir: &Path, images: &[(Platform, TestImage)]) -> Digest {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |blob: &Blob| std::fs::write(blobs.join(blob.descriptor.digest.hex()), &blob.bytes).unwrap();
    let entries = images.iter().map(|(platform, image)| {
        put(&image.manifest);
        put(&image.config);
        image.layers.iter().for_each(put);
        Descriptor { platform: Some(platform.clone()), ..image.manifest.descriptor.clone() }
    });
    let index = Index {
        schema_version: 2,
        media_type: Some(media::INDEX.into()),
        manifests: entries.collect(),
        annotations: Default::default(),
    };
    let index = Blob::new(media::INDEX, serde_json::to_vec(&index).unwrap());
    put(&index);
    let mut named = index.descriptor.clone();
    named.annotations.insert("org.opencontainers.image.ref.name".into(), "latest".into());
    let top = Index { schema_version: 2, media_type: None, manifests: vec![named], annotations: Default::default() };
    std::fs::write(dir.join("index.json"), serde_json::to_vec(&top).unwrap()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    index.descriptor.digest
}
