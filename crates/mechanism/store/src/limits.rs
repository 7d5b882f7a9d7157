//! What an image may cost, whatever it says of itself: limits against bombs, and the words in which they refuse.

use crate::Store;
use crate::bounds::beyond;
use crate::layer::UnpackLimits;
use tare_model::Result;

/// No document is ever read that is longer, whatever the limits say: a stored one stays readable when limits are lowered.
pub(crate) const DOCUMENT_MAX: u64 = 64 << 20;

/// The limits of `[limits]` in the configuration file. Each is named like its key there, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Those of one layer.
    pub layer: UnpackLimits,
    /// Layers of an image (500: what overlayfs stacks).
    pub layers: usize,
    /// Bytes of all layers of an image, as they come and as they unpack; also of an archive that is loaded (1 TiB).
    pub image_bytes: u64,
    /// Bytes of a manifest, of an index, and of an archive's list of images (4 MiB, as registries have it; at most 64 MiB).
    pub manifest_bytes: u64,
    /// Bytes of an image's config (4 MiB; at most 64 MiB).
    pub config_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            layer: UnpackLimits::default(),
            layers: 500,
            image_bytes: 1 << 40,
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
        }
    }
}

impl Limits {
    /// Refuses a manifest that is too long.
    ///
    /// # Errors
    /// `Kind::Exhausted`, naming the limit.
    pub fn check_manifest(&self, size: u64) -> Result<()> {
        let max = self.manifest_bytes.min(DOCUMENT_MAX);
        if size > max {
            Err(beyond("read manifest", "manifest-bytes", &format!("it has more than {max} bytes")))
        } else {
            Ok(())
        }
    }

    /// Refuses a config that is too long.
    ///
    /// # Errors
    /// `Kind::Exhausted`, naming the limit.
    pub fn check_config(&self, size: u64) -> Result<()> {
        let max = self.config_bytes.min(DOCUMENT_MAX);
        if size > max {
            Err(beyond("read image config", "config-bytes", &format!("it has more than {max} bytes")))
        } else {
            Ok(())
        }
    }

    /// Refuses an image of too many or too large layers, before anything of them is fetched; `sizes` are those of the blobs.
    ///
    /// # Errors
    /// `Kind::Exhausted`, naming the limit.
    pub fn check_layers(&self, sizes: impl ExactSizeIterator<Item = u64>) -> Result<()> {
        let count = sizes.len();
        if count > self.layers {
            return Err(beyond(
                "read manifest",
                "layers",
                &format!("it lists {count} layers, more than {}", self.layers),
            ));
        }
        self.check_image(sizes.fold(0, u64::saturating_add))
    }

    /// Refuses an image of too many bytes.
    ///
    /// # Errors
    /// `Kind::Exhausted`, naming the limit.
    pub fn check_image(&self, bytes: u64) -> Result<()> {
        if bytes > self.image_bytes {
            let why = format!("its layers have more than {} bytes", self.image_bytes);
            return Err(beyond("read image", "image-bytes", &why));
        }
        Ok(())
    }
}

impl Store {
    /// Sets the limits, once; the usual ones hold otherwise.
    pub fn limit(&self, limits: Limits) {
        // A store that is shared keeps those that came first.
        let _ = self.0.limits.set(limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        self.0.limits.get_or_init(Limits::default)
    }
}
