//! Images as archives: OCI archives and layouts, docker's archives, root filesystem tarballs.
use crate::{Image, Progress, Store};
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use tare_model::image::ImageConfig;
use tare_model::{Reference, Result};

/// What an import records.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The image's name.
    pub name: Option<Reference>,
    /// Config to start from (architecture and os are filled in if empty).
    pub config: ImageConfig,
    /// Comment of the one history entry.
    pub message: Option<String>,
}

/// Images to save, and the names under which the archive has them (empty: all names of each).
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// Names in the archive.
    pub names: Vec<Reference>,
}

impl Store {
    /// Writes images as an OCI archive that docker loads as well.
    ///
    /// # Errors
    /// `Kind::NotFound` for a missing blob; `Kind::Corrupt` for a damaged one; the writer's.
    pub fn save(&self, images: &[Saved], out: &mut dyn Write, progress: &dyn Progress) -> Result<()> { todo!() }
    /// Reads an OCI archive or docker archive (maybe compressed) and makes its images visible.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid`, `Kind::Unsupported` by what is wrong with it.
    pub fn load(&self, archive: &mut dyn Read, progress: &dyn Progress) -> Result<Vec<Image>> { todo!() }
    /// Reads an OCI layout directory.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_layout(&self, dir: BorrowedFd<'_>, progress: &dyn Progress) -> Result<Vec<Image>> { todo!() }
    /// Makes an image of a root filesystem's tar stream (maybe compressed).
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn import(&self, tar: &mut dyn Read, import: Import, progress: &dyn Progress) -> Result<Image> { todo!() }
}
