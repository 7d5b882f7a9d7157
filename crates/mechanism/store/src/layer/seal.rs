//! The end of the way out: a tar stream hashed, compressed, hashed again and written, the latter three in a thread.

use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use tare_model::image::Compression;
use tare_model::{Digest, Error, Result};

const BUFFER: usize = 512 << 10;
const BUFFERS: usize = 4;

/// Digests of a finished blob.
pub(super) struct Sealed {
    pub(super) diff_id: Digest,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Lets `make` write a tar stream; what it writes goes compressed to `out`.
pub(super) fn sealing<T>(
    compression: Compression,
    out: &mut (dyn Write + Send),
    make: impl FnOnce(&mut Pipe) -> Result<T>,
) -> Result<(T, Sealed)> {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    std::thread::scope(|scope| {
        let consumer = scope.spawn(move || compress(compression, out, &filled, &empty));
        let mut pipe = Pipe { full, emptied, current: Vec::with_capacity(BUFFER), hash: Sha256::new() };
        let made = make(&mut pipe).and_then(|made| {
            pipe.hand_over().map_err(|e| Error::io("write layer", "", e))?;
            Ok(made)
        });
        let diff_id = Digest::from_bytes(pipe.hash.clone().finalize().into());
        drop(pipe);
        let written = consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A failure there also makes the pipe fail here, but only there is the reason known.
        let (digest, size) = match (written, made.is_err()) {
            (Err(e), _) => return Err(Error::io("write layer", "", e)),
            (Ok(written), _) => written,
        };
        Ok((made?, Sealed { diff_id, digest, size }))
    })
}

/// Where the tar stream goes.
pub(super) struct Pipe {
    full: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    current: Vec<u8>,
    hash: Sha256,
}

impl Pipe {
    fn hand_over(&mut self) -> io::Result<()> {
        self.hash.update(&self.current);
        let mut next = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        next.clear();
        let full = std::mem::replace(&mut self.current, next);
        self.full.send(full).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(BUFFER - self.current.len());
        self.current.extend_from_slice(&data[..n]);
        if self.current.len() == BUFFER {
            self.hand_over()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress(
    compression: Compression,
    out: &mut (dyn Write + Send),
    filled: &Receiver<Vec<u8>>,
    empty: &Sender<Vec<u8>>,
) -> io::Result<(Digest, u64)> {
    let feed = |to: &mut dyn Write| -> io::Result<()> {
        while let Ok(buffer) = filled.recv() {
            to.write_all(&buffer)?;
            // The other side may be done and take no more.
            let _ = empty.send(buffer);
        }
        Ok(())
    };
    let mut hashed = Hashed { out, hash: Sha256::new(), size: 0 };
    match compression {
        Compression::None => feed(&mut hashed)?,
        Compression::Gzip => {
            // Without name and time in its header the same content gives the same blob.
            let mut encoder = GzEncoder::new(&mut hashed, flate2::Compression::default());
            feed(&mut encoder)?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut hashed, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            feed(&mut encoder)?;
            encoder.finish()?;
        }
    }
    hashed.out.flush()?;
    Ok((Digest::from_bytes(hashed.hash.finalize().into()), hashed.size))
}

struct Hashed<'a> {
    out: &'a mut (dyn Write + Send),
    hash: Sha256,
    size: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.out.write(data)?;
        self.hash.update(&data[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
