//! Images as documents and blobs, each of which may lie.

use crate::tar::Tar;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::collections::BTreeMap;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let sum = sha2::Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// A descriptor that says the truth.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// A layer: its blob, what it is said to be, and the digest of what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) diff_id: String,
}

impl Layer {
    pub(crate) fn plain(tar: Vec<u8>) -> Layer {
        Layer { diff_id: digest(&tar), media_type: LAYER, blob: tar }
    }

    /// A compressed layer of which nobody knows what is in it.
    pub(crate) fn sealed(blob: Vec<u8>, media_type: &'static str) -> Layer {
        Layer { diff_id: digest(b"?"), media_type, blob }
    }
}

/// Blobs, and the document at the top.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// What `index.json` and a tag show, with its media type.
    pub(crate) top: Vec<u8>,
    pub(crate) media_type: String,
}

impl Image {
    /// An honest image of these layers.
    pub(crate) fn of(layers: &[Layer]) -> Image {
        Image::with_config(layers, &json!({"Cmd": ["/bin/true"]}))
    }

    /// With this `config` object.
    pub(crate) fn with_config(layers: &[Layer], run: &Value) -> Image {
        let diff_ids: Vec<_> = layers.iter().map(|l| l.diff_id.clone()).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        Image::of_parts(layers, config.to_string().as_bytes())
    }

    /// With this text as its config.
    pub(crate) fn of_parts(layers: &[Layer], config: &[u8]) -> Image {
        let mut image = Image::default();
        let list: Vec<Value> = layers.iter().map(|l| image.add(l.media_type, &l.blob)).collect();
        let config = image.add(CONFIG, config);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list});
        image.manifest(manifest.to_string().as_bytes())
    }

    /// Adds a blob; what describes it.
    pub(crate) fn add(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        self.blobs.insert(digest(bytes), bytes.to_vec());
        descriptor(media_type, bytes)
    }

    /// With this text as its manifest.
    pub(crate) fn manifest(mut self, text: &[u8]) -> Image {
        self.add(MANIFEST, text);
        (self.top, self.media_type) = (text.to_vec(), MANIFEST.to_owned());
        self
    }

    /// The honest manifest, changed.
    pub(crate) fn change(self, change: impl Fn(&mut Value)) -> Image {
        let mut manifest: Value = serde_json::from_slice(&self.top).unwrap();
        change(&mut manifest);
        self.manifest(manifest.to_string().as_bytes())
    }

    /// An OCI archive of it.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [descriptor(&self.media_type, &self.top)]});
        self.archive_with(index.to_string().as_bytes())
    }

    /// An OCI archive with another `index.json`.
    pub(crate) fn archive_with(&self, index: &[u8]) -> Vec<u8> {
        let mut tar =
            Tar::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).entry(b"index.json", b'0', b"", index);
        for (digest, bytes) in &self.blobs {
            tar = tar.entry(format!("blobs/{}", digest.replace(':', "/")).as_bytes(), b'0', b"", bytes);
        }
        tar.end()
    }
}
