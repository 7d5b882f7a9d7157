//! From an overlay's upper directory to a layer.

use super::Lowers;
use rustix::fd::BorrowedFd;
use std::collections::BTreeSet;
use std::io::Write;
use tare_model::image::Compression;
use tare_model::{Digest, Result};

/// Paths (with everything below them) that never enter a layer: the init layer's files, mount points.
#[derive(Debug, Clone, Default)]
pub struct Excluded {
    paths: BTreeSet<Vec<u8>>,
}

impl Excluded {
    /// From paths in any spelling ("/etc/hosts", "dev/").
    ///
    /// # Errors
    /// `Kind::Invalid` for paths that leave the root.
    pub fn new<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let paths = paths.into_iter().map(|p| tare_format::layer::clean_path(p.as_ref())).collect::<Result<_>>()?;
        Ok(Excluded { paths })
    }

    /// Whether this cleaned path, or a directory above it, is excluded.
    pub fn contains(&self, path: &[u8]) -> bool {
        (0..=path.len())
            .filter(|&i| i == path.len() || path[i] == b'/')
            .any(|i| self.paths.contains(&path[..i]))
    }
}

/// How a layer is made.
#[derive(Debug, Clone)]
pub struct DiffOptions<'a> {
    /// How the blob is compressed.
    pub compression: Compression,
    /// What stays out.
    pub excluded: &'a Excluded,
    /// No time later than this many seconds since 1970 (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diffed {
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// Digest of the compressed bytes, as written.
    pub digest: Digest,
    /// Number of compressed bytes.
    pub size: u64,
    /// Bytes of file content in the layer.
    pub content: u64,
    /// Number of entries, whiteouts included; 0 for a layer that changes nothing.
    pub entries: u64,
}

/// Writes the layer that turns the view below into what a container sees: sorted, deterministic, whiteouts as `.wh.`
/// entries, hard links kept, sockets left out. Directories appear only if they or something inside changed.
///
/// # Errors
/// What the kernel and `out` report; `Kind::Unsupported` for an upper directory of an overlay mounted with redirect_dir
/// or metacopy, and for files whose name starts with `.wh.`, which a layer cannot hold.
pub fn diff(
    upper: BorrowedFd<'_>,
    lower: &Lowers<'_>,
    options: &DiffOptions<'_>,
    out: &mut (dyn Write + Send),
) -> Result<Diffed> {
    let _ = (upper, lower, options, out);
    todo!()
}
