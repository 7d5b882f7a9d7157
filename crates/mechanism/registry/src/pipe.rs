//! From the thread that receives a blob to the one that reads it: whole batches change hands, bytes are not copied.

use hyper::body::Bytes;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A batch is handed over once it holds this much: a wake-up per network read is what makes other engines slow.
const BATCH: usize = 256 << 10;
/// Batches under way: enough to even out both sides' stalls, 1 MiB per layer.
const DEPTH: usize = 4;

enum Message {
    Batch(Vec<Bytes>),
    /// The blob is whole. A pipe that breaks without it is an error, not an end.
    End,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Sender {
    channel: SyncSender<Message>,
    batch: Vec<Bytes>,
    length: usize,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Pipe {
    channel: Receiver<Message>,
    batch: std::vec::IntoIter<Bytes>,
    current: Bytes,
    ended: bool,
}

/// The reader is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

pub(crate) fn pipe() -> (Sender, Pipe) {
    let (sender, receiver) = sync_channel(DEPTH);
    (
        Sender { channel: sender, batch: Vec::new(), length: 0 },
        Pipe { channel: receiver, batch: Vec::new().into_iter(), current: Bytes::new(), ended: false },
    )
}

impl Sender {
    /// Adds bytes; waits while the reader is behind.
    pub(crate) fn send(&mut self, bytes: Bytes) -> Result<(), Closed> {
        self.length += bytes.len();
        self.batch.push(bytes);
        if self.length >= BATCH { self.hand_over() } else { Ok(()) }
    }

    /// Says that the blob is whole.
    pub(crate) fn finish(mut self) -> Result<(), Closed> {
        self.hand_over()?;
        self.channel.send(Message::End).map_err(|_| Closed)
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        self.length = 0;
        let batch = std::mem::take(&mut self.batch);
        self.channel.send(Message::Batch(batch)).map_err(|_| Closed)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            if let Some(next) = self.batch.next() {
                self.current = next;
                continue;
            }
            match self.channel.recv() {
                Ok(Message::Batch(batch)) => self.batch = batch.into_iter(),
                Ok(Message::End) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the transfer broke off")),
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_a_break_is_not_an_end() {
        let (mut sender, mut pipe) = pipe();
        let data: Vec<u8> = (0..3_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let copy = data.clone();
        let thread = std::thread::spawn(move || {
            for chunk in copy.chunks(100_001) {
                sender.send(Bytes::copy_from_slice(chunk)).unwrap();
            }
            sender.finish().unwrap();
        });
        let mut read = Vec::new();
        pipe.read_to_end(&mut read).unwrap();
        thread.join().unwrap();
        assert!(read == data);

        let (mut sender, mut pipe) = super::pipe();
        sender.send(Bytes::from_static(b"half")).unwrap();
        sender.hand_over().unwrap();
        drop(sender);
        assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (mut sender, pipe) = super::pipe();
        drop(pipe);
        sender.send(Bytes::from_static(b"x")).unwrap();
        assert_eq!(sender.finish(), Err(Closed));
    }
}
