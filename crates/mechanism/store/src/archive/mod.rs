//! Images as archives.
//!
//! ```text
//! oci-layout                {"imageLayoutVersion":"1.0.0"}
//! index.json                per image and name: its manifest, with the name in annotations
//! manifest.json             the same for docker: configs, names, layers
//! blobs/sha256/<hex>        manifests, configs, layers
//! ```
//!
//! That is what [`Store::save`](crate::Store::save) writes, or docker's own form of it: `<id>.json`, `<diff id>.tar`, `manifest.json`. [`Store::load`](crate::Store::load) reads it, OCI archives
//! and layouts without docker's file, and docker's own archives, old (`<id>/layer.tar`) and new. A tar stream cannot be
//! sought in and `manifest.json` may come last, so everything in an archive becomes a blob under a lease first,
//! whatever its name; what turns out to be of no use goes with the lease.

mod import;
mod load;
mod save;
mod source;

pub use import::Import;
pub use save::{Format, Saved};

/// The `item` of progress events of an import.
pub const IMPORTED: &str = "layer";

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const DOCKER: &str = "manifest.json";
/// The whole name, as containerd and docker write it.
const NAME: &str = "io.containerd.image.name";
/// A tag or a name (annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An element of docker's `manifest.json`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}
