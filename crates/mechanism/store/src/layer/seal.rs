//! Compressing a layer on all cores.
//!
//! ```text
//! writer ──► blocks of 1 MiB ──┬──► [threads: libdeflate] ──► in their order ──► [thread: hash, write]
//!                              └──► whoever else wants the stream (the unpacking side), block by block, not copied
//! ```
//!
//! Each block becomes a gzip member of its own, which RFC 1952 allows and every reader of layers understands. What a member holds depends
//! on its block alone, so the same stream gives the same bytes however many processors there are. A block that does not shrink (media,
//! archives, keys) is stored: three samples tell.

use libdeflater::{CompressionLvl, Compressor};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tare_model::{Error, Result};

/// What one member holds, in bytes. Part of what makes digests reproducible: never to be changed lightly.
const BLOCK: usize = 1 << 20;
/// libdeflate's fastest: as small as zlib's third, at the speed of its first.
const LEVEL: i32 = 1;
/// Bytes of each of the samples.
const SAMPLE: usize = 16 << 10;
const THREADS: usize = 8;

/// A piece of a stream, shared by those who read it.
pub(crate) type Block = Arc<Vec<u8>>;

/// Lets `make` write a stream, which goes to `out` as gzip and, as it is, to `also`.
///
/// # Errors
/// What `make` fails with, and what `out` reports. If `also` hung up, EPIPE: the other side knows why.
pub(crate) fn gzip<T>(
    out: &mut (dyn Write + Send),
    also: Option<SyncSender<Block>>,
    make: impl FnOnce(&mut Blocks) -> Result<T>,
) -> Result<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
    let (jobs, taken) = sync_channel::<Job>(threads);
    let (order, ordered) = sync_channel(2 * threads);
    let taken = Mutex::new(taken);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_in_order(&ordered, out));
        for _ in 0..threads {
            scope.spawn(|| work(&taken));
        }
        let mut blocks = Blocks { current: Vec::with_capacity(BLOCK), jobs, order, also, any: false };
        let made = make(&mut blocks).and_then(|made| {
            if !blocks.current.is_empty() || !blocks.any {
                blocks.hand_over().map_err(|e| Error::io("write layer", "", e))?;
            }
            Ok(made)
        });
        drop(blocks);
        match writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // A failure there also makes `make` fail, but only there is the reason known.
            Err(e) => Err(Error::io("write layer", "", e)),
            Ok(()) => made,
        }
    })
}

/// Where the stream is written.
pub(crate) struct Blocks {
    current: Vec<u8>,
    jobs: SyncSender<Job>,
    order: SyncSender<Receiver<Vec<u8>>>,
    also: Option<SyncSender<Block>>,
    any: bool,
}

struct Job {
    block: Block,
    done: SyncSender<Vec<u8>>,
}

impl Blocks {
    fn hand_over(&mut self) -> io::Result<()> {
        let hung_up = || io::Error::from(rustix::io::Errno::PIPE);
        let block = Arc::new(std::mem::replace(&mut self.current, Vec::with_capacity(BLOCK)));
        let (done, member) = sync_channel(1);
        self.any = true;
        self.order.send(member).map_err(|_| hung_up())?;
        self.jobs.send(Job { block: Arc::clone(&block), done }).map_err(|_| hung_up())?;
        match &self.also {
            Some(also) => also.send(block).map_err(|_| hung_up()),
            None => Ok(()),
        }
    }
}

impl Write for Blocks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(BLOCK - self.current.len());
        self.current.extend_from_slice(&data[..n]);
        if self.current.len() == BLOCK {
            self.hand_over()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut members = Members::new();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, done }) = job else { return };
        // The writer has failed and takes no more.
        let _ = done.send(members.make(&block));
    }
}

fn write_in_order(ordered: &Receiver<Receiver<Vec<u8>>>, out: &mut (dyn Write + Send)) -> io::Result<()> {
    while let Ok(member) = ordered.recv() {
        let member = member.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        out.write_all(&member)?;
    }
    out.flush()
}

/// Makes gzip members, without name and time.
struct Members {
    fast: Compressor,
    store: Compressor,
}

impl Members {
    fn new() -> Members {
        let at = |level| Compressor::new(CompressionLvl::new(level).unwrap_or_default());
        Members { fast: at(LEVEL), store: at(0) }
    }

    fn make(&mut self, block: &[u8]) -> Vec<u8> {
        let shrinks = self.shrinks(block);
        let compressor = if shrinks { &mut self.fast } else { &mut self.store };
        let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
        let n = compressor.gzip_compress(block, &mut member).expect("the bound is enough");
        member.truncate(n);
        member
    }

    fn shrinks(&mut self, block: &[u8]) -> bool {
        if block.len() < 4 * SAMPLE {
            return true;
        }
        let starts = [0, (block.len() - SAMPLE) / 2, block.len() - SAMPLE];
        let mut scratch = vec![0; self.fast.deflate_compress_bound(SAMPLE)];
        let worth = |from: &usize| {
            let sample = &block[*from..*from + SAMPLE];
            let n = self.fast.deflate_compress(sample, &mut scratch).expect("the bound is enough");
            n < SAMPLE - SAMPLE / 32
        };
        starts.iter().any(worth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn sealed(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        gzip(&mut out, None, |blocks| blocks.write_all(data).map_err(|e| Error::io("write", "", e))).unwrap();
        out
    }

    #[test]
    fn members_add_up_to_the_stream() {
        let mut x = 1u64;
        let mut noise = |n: usize| {
            let step = |_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (x >> 56) as u8
            };
            (0..n).map(step).collect::<Vec<u8>>()
        };
        let data = [vec![b'a'; 3 << 20], noise(2_500_000), b"end".to_vec()].concat();
        for data in [&data[..], b"", b"x", &data[..BLOCK], &data[..=BLOCK]] {
            let blob = sealed(data);
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "{} bytes", data.len());
            assert_eq!(blob, sealed(data), "the same bytes again");
        }
        let blob = sealed(&data);
        assert!(blob.len() < 2_600_000, "zeros shrink: {}", blob.len());
        assert!(sealed(&noise(4 << 20)).len() < (4 << 20) + 2000, "noise is stored");
    }

    #[test]
    fn a_full_disk_is_what_is_reported() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(28))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let e = gzip(&mut Full, None, |blocks| {
            let block = vec![7; 1 << 20];
            loop {
                blocks.write_all(&block).map_err(|e| Error::io("write", "stream", e))?;
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok(())
        });
        assert_eq!(e.unwrap_err().errno(), Some(28));
    }
}
