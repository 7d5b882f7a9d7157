//! Layers made here: one pass from a tar stream to a blob and an unpacked layer.

use crate::layer::seal::{Block, Blocks, gzip};
use crate::layer::{UnpackLimits, Unpacked};
use crate::{BlobWriter, ImageLayer, LayerDraft, Lease, NewLayer};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use tare_model::image::{Compression, Descriptor};
use tare_model::{Context as _, Result};

/// Blocks that may wait for the unpacking side.
const WAITING: usize = 4;

/// A layer that is written, but not in its place yet. Dropped, it goes with its lease.
#[derive(Debug)]
pub struct Made {
    blob: BlobWriter,
    draft: LayerDraft,
    unpacked: Unpacked,
}

impl Lease {
    /// Makes a layer of the tar stream that `make` writes. It is hashed, compressed (gzip, see `layer::seal`) and unpacked while it
    /// comes, so what others could not unpack is found out now. Returns what `make` returned.
    ///
    /// # Errors
    /// What `make` fails with; as [`crate::layer::unpack`].
    pub fn make_layer<T>(&self, make: impl FnOnce(&mut dyn io::Write) -> Result<T>) -> Result<(T, Made)> {
        let (mut blob, mut draft) = (self.blob()?, self.layer()?);
        // Our own: a file of zeros may well be compressed a thousandfold.
        let limits = UnpackLimits { ratio: u64::MAX, ..self.store().limits().layer };
        let (also, blocks) = sync_channel::<Block>(WAITING);
        let (made, unpacked) = std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| {
                let stream = Stream { blocks, current: Block::default(), at: 0 };
                draft.unpack(stream, Compression::None, &limits, Box::new(|_| Ok(None)))
            });
            let made = gzip(&mut blob, Some(also), |blocks: &mut Blocks| make(blocks));
            (made, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let made = match (made, &unpacked) {
            // The unpacking side gave up and knows why.
            (Err(e), Err(why)) if e.errno() == Some(rustix::io::Errno::PIPE.raw_os_error()) => return Err(why.clone()),
            (made, _) => made?,
        };
        Ok((made, Made { blob, draft, unpacked: unpacked.during("unpack", "layer")? }))
    }
}

impl Made {
    /// Entries of its archive.
    pub fn entries(&self) -> u64 {
        self.unpacked.entries
    }

    /// Puts blob and layer into their places, held by the lease.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn publish(self) -> Result<NewLayer> {
        let (digest, size) = self.blob.commit(None)?;
        self.draft.publish(&self.unpacked)?;
        let blob = Descriptor::new(Compression::Gzip.layer_media_type(), digest, size);
        let Unpacked { diff_id, size, entries, .. } = self.unpacked;
        Ok(NewLayer { layer: ImageLayer { diff_id, blob }, size, entries })
    }
}

/// The blocks as one stream.
struct Stream {
    blocks: Receiver<Block>,
    current: Block,
    at: usize,
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.blocks.recv() {
                Ok(block) => (self.current, self.at) = (block, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = out.len().min(self.current.len() - self.at);
        out[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
