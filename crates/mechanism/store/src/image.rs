//! Images and their names.
use crate::{ContainerRow, Lease, Store};
use tare_model::image::{Descriptor, ImageConfig};
use tare_model::{Digest, Reference, Result};

/// An image: config, manifest, layers, names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config, as docker has it.
    pub id: Digest,
    /// Its manifest's blob.
    pub manifest: Descriptor,
    /// Names with tags, sorted.
    pub names: Vec<Reference>,
    /// `HOST/REPO@DIGEST` under which registries have it, sorted.
    pub digests: Vec<Reference>,
    /// The config as far as tare knows its fields.
    pub config: ImageConfig,
    /// The config as it is.
    pub config_raw: Vec<u8>,
    /// Bottom first.
    pub layers: Vec<ImageLayer>,
    /// Bytes of its layers unpacked.
    pub size: u64,
    /// When the config says it was made, else when it was put: Unix nanoseconds.
    pub created: i64,
}

impl Image {
    /// The layers' diff IDs, bottom first.
    pub fn diff_ids(&self) -> Vec<Digest> { self.layers.iter().map(|l| l.diff_id).collect() }
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// Digest of the uncompressed tar stream.
    pub diff_id: Digest,
    /// The blob it came as.
    pub blob: Descriptor,
}

/// What [`Store::put_image`] needs.
#[derive(Debug, Clone)]
pub struct NewImage<'a> {
    /// The manifest document, byte for byte.
    pub manifest: &'a [u8],
    /// Its media type.
    pub media_type: &'a str,
    /// The config document, byte for byte.
    pub config: &'a [u8],
    /// Bottom first; the blobs and the unpacked layers are in the store, held by the lease.
    pub layers: &'a [ImageLayer],
    /// Names to point at it. A tag becomes a name, a digest a repository digest; both may be in one reference.
    pub names: &'a [Reference],
}

/// What `rmi` took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer point at it.
    pub untagged: Vec<Reference>,
    /// The image and the layers that went with it.
    pub deleted: Vec<Digest>,
}

impl Store {
    /// Makes an image visible, durably, in one transaction. Manifest and config blobs are written if missing.
    ///
    /// # Errors
    /// `Kind::Corrupt` where manifest, config and layers contradict each other; `Kind::NotFound` for a missing blob or layer.
    pub fn put_image(&self, lease: &Lease, new: &NewImage<'_>) -> Result<Image> { todo!() }
    /// Finds an image by name, `NAME@DIGEST`, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `Kind::NotFound` with the hint `tare pull NAME`; `Kind::Invalid` if several ids begin so.
    pub fn image(&self, name_or_id: &str) -> Result<Image> { todo!() }
    /// All images, newest first.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn images(&self) -> Result<Vec<Image>> { todo!() }
    /// Points `name` at the image; a name that pointed elsewhere is moved. Durable.
    ///
    /// # Errors
    /// As [`Store::image`]; `Kind::Invalid` for a reference with a digest.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<()> { todo!() }
    /// Takes a name away; the image stays, even without a name. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn untag(&self, name: &Reference) -> Result<()> { todo!() }
    /// Records under which digest a registry has the image (after a push). Durable.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn add_digest(&self, image: &Digest, name: &Reference, digest: Digest) -> Result<()> { todo!() }
    /// `rmi` with docker's rules: a name among several is only taken away; the last name, or an id, removes the image
    /// and whatever nothing else refers to. `force` removes several names and an image that containers use.
    ///
    /// # Errors
    /// `Kind::InUse` naming the container; as [`Store::image`].
    pub fn remove_image(&self, name_or_id: &str, force: bool) -> Result<Removed> { todo!() }
    /// Containers made from this image.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn image_users(&self, id: &Digest) -> Result<Vec<ContainerRow>> { todo!() }
    /// An image of `base`'s layers and perhaps one more: commit, import, build. Writes config and manifest; sets the
    /// config's `rootfs`. The layer's blob and its unpacked form are in the store, held by the lease.
    ///
    /// # Errors
    /// As [`Store::put_image`].
    pub fn image_from_layer(
        &self,
        lease: &Lease,
        base: Option<&Image>,
        layer: Option<ImageLayer>,
        config: ImageConfig,
        names: &[Reference],
    ) -> Result<Image> { todo!() }
}
