//! Where a layer's changes go.

use std::fs::File;
use std::io::BufRead;
use tare_format::Change;
use tare_model::Result;

/// Takes the changes of one layer in the order of its archive and makes of them what this host can mount.
pub trait LayerSink {
    /// Where the archive itself goes, if it is kept: written there as it comes, each piece before the changes that stand in it.
    fn tap(&mut self) -> Option<Tap> {
        None
    }

    /// Takes one change. `at` is where its content begins in the archive, in bytes. `content` gives the stored bytes of a file (a sparse file's pieces one after another); it need
    /// not be read to its end. A later change of the same path replaces an earlier one, but two directories are one.
    ///
    /// # Errors
    /// What the kernel reports; `Kind::Invalid` for changes that cannot be made inside of the layer. The sink is of no
    /// further use then.
    fn put(&mut self, change: Change, at: u64, content: &mut dyn BufRead) -> Result<()>;

    /// About how many bytes of memory it holds until it is finished.
    fn weight(&self) -> u64;

    /// Completes what can be done only after the last change; `archive`: bytes of the whole archive. Does not sync.
    ///
    /// # Errors
    /// As `put`; also for hard links whose target was found nowhere.
    fn finish(&mut self, archive: u64) -> Result<()>;
}

/// A file that takes an archive from this byte on.
#[derive(Debug)]
pub struct Tap {
    /// The file.
    pub file: File,
    /// Where the next byte goes.
    pub at: u64,
}
