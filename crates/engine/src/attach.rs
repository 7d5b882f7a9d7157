//! The connection between a client and a container's supervisor.
//!
//! A sequenced-packet socket: one packet is one message, its first byte the kind.
//!
//! ```text
//! client -> supervisor                       supervisor -> client
//!   0 hello: flags (1 output, 2 input)         16 stdout: bytes
//!   1 stdin: bytes                             17 stderr: bytes
//!   2 stdin ends                               18 exit: JSON of Exit; the last message
//!   3 resize: rows, columns (u16 LE)           32 started: JSON of Start (start's own socket only)
//!   4 signal: number (i32 LE)                  33 failed: JSON of Error (start's own socket only)
//!   5 control: last (0, 1), a piece of the     34 answer: last (0, 1), a piece of the JSON of
//!     JSON of a supervise::control::Request       Result<supervise::control::Done, Error>
//! ```
//!
//! A request may be longer than a packet, so it comes in pieces; it is acted upon with its last one. One is answered
//! before the next is read.

use crate::view::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

pub(crate) const HELLO: u8 = 0;
pub(crate) const STDIN: u8 = 1;
pub(crate) const STDIN_END: u8 = 2;
pub(crate) const RESIZE: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;
pub(crate) const CONTROL: u8 = 5;
pub(crate) const STDOUT: u8 = 16;
pub(crate) const STDERR: u8 = 17;
pub(crate) const EXIT: u8 = 18;
pub(crate) const STARTED: u8 = 32;
pub(crate) const FAILED: u8 = 33;
pub(crate) const ANSWER: u8 = 34;

/// The client wants the container's output.
pub(crate) const WANTS_OUTPUT: u8 = 1;
/// The client will send input.
pub(crate) const SENDS_INPUT: u8 = 2;

/// Most payload bytes of one packet.
pub(crate) const CHUNK: usize = 16 * 1024;
/// Room for the longest packet: an error with long paths.
pub(crate) const PACKET: usize = 64 * 1024;

/// Most bytes of a request or an answer: more than a container with all 65,535 ports published would need.
pub(crate) const LONGEST: usize = 16 << 20;

/// What a supervisor tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Bytes of standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// The container ended; nothing follows.
    Exit(Exit),
}

/// What the launcher says once the program runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) warnings: Vec<String>,
}

/// A client's end.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
}

impl Attachment {
    pub(crate) fn over(socket: OwnedFd) -> Self {
        Attachment { socket }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Connects to a supervisor's socket.
    pub(crate) fn connect(path: &Path, flags: u8) -> Result<Self> {
        let fail = |e| Error::io("attach to", path.display(), e);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(fail)?;
        // Names of sockets are short (108 bytes); /proc/self/fd/N/attach always fits.
        let dir = path.parent().unwrap_or(path);
        let directory =
            rustix::fs::open(dir, rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
                .map_err(fail)?;
        connect(&socket, &socket_name(directory.as_fd())?).map_err(fail)?;
        let attachment = Attachment { socket };
        attachment.send(&[HELLO, flags])?;
        Ok(attachment)
    }

    /// The descriptor to wait on for [`Attachment::recv`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next message; waits for it. `None` when the supervisor is gone without a word.
    ///
    /// # Errors
    /// As recv(2).
    pub fn recv(&self) -> Result<Option<Frame>> {
        loop {
            let Some(packet) = self.packet()? else { return Ok(None) };
            let Some((kind, payload)) = packet.split_first() else { return Ok(None) };
            return match *kind {
                STDOUT => Ok(Some(Frame::Stdout(payload.to_vec()))),
                STDERR => Ok(Some(Frame::Stderr(payload.to_vec()))),
                EXIT => decode(payload).map(|e| Some(Frame::Exit(e))),
                _ => continue,
            };
        }
    }

    /// Waits for the launcher's word.
    pub(crate) fn started(&self) -> Result<Option<Start>> {
        let Some(packet) = self.packet()? else { return Ok(None) };
        match packet.split_first() {
            Some((&STARTED, payload)) => decode(payload).map(Some),
            Some((&FAILED, payload)) => Err(decode(payload)?),
            _ => Ok(None),
        }
    }

    /// Asks the supervisor for a change, and waits for its answer, for so long at most.
    ///
    /// # Errors
    /// `Kind::Unavailable` if it does not answer in time: whether it will still act is not known then.
    /// `Kind::State` if the container ended meanwhile.
    pub(crate) fn ask<Q: Serialize, A: serde::de::DeserializeOwned>(
        &self,
        request: &Q,
        patience: Duration,
    ) -> Result<A> {
        let end = Instant::now() + patience;
        let text = serde_json::to_vec(request)
            .map_err(|e| Error::new(Kind::Invalid, "ask", "the container's supervisor").because(e))?;
        for packet in pieces(CONTROL, &text) {
            self.send(&packet)?;
        }
        let mut answer = Vec::new();
        loop {
            self.await_packet(end)?;
            let Some(packet) = self.packet()? else { return Err(ended()) };
            match &packet[..] {
                [ANSWER, last, piece @ ..] => {
                    answer.extend_from_slice(piece);
                    if *last != 0 {
                        return decode::<Result<A>>(&answer)?;
                    }
                }
                [EXIT, ..] => return Err(ended()),
                _ => {}
            }
        }
    }

    fn await_packet(&self, end: Instant) -> Result<()> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => {
                    return Err(Error::new(Kind::Unavailable, "ask", "the container's supervisor")
                        .because("it does not answer")
                        .hint("it may be stopped, or of an older version: restart the container"));
                }
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("wait for", "the container's supervisor", e)),
            }
        }
    }

    fn packet(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; PACKET];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Ok(None),
                // The other side went without having read all that it was sent. Told once; what it sent comes next.
                Err(rustix::io::Errno::CONNRESET) => {}
                Ok((n, _)) => {
                    buffer.truncate(n);
                    return Ok(Some(buffer));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("receive from", "the container's supervisor", e)),
            }
        }
    }

    /// Sends bytes to the container's standard input; waits while it is full.
    ///
    /// # Errors
    /// As send(2); the container having ended is none.
    pub fn send_stdin(&self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.send(&[&[STDIN], chunk].concat())?;
        }
        Ok(())
    }

    /// Says that no more input comes.
    ///
    /// # Errors
    /// As send(2).
    pub fn close_stdin(&self) -> Result<()> {
        self.send(&[STDIN_END])
    }

    /// Tells the terminal's new size.
    ///
    /// # Errors
    /// As send(2).
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let (r, c) = (rows.to_le_bytes(), columns.to_le_bytes());
        self.send(&[RESIZE, r[0], r[1], c[0], c[1]])
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// As send(2).
    pub fn signal(&self, number: i32) -> Result<()> {
        self.send(&[&[SIGNAL], &number.to_le_bytes()[..]].concat())
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        loop {
            match send(&self.socket, packet, SendFlags::NOSIGNAL) {
                Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("send to", "the container's supervisor", e)),
            }
        }
    }
}

/// The packets that carry a text: kind, whether it is the last one, a piece.
pub(crate) fn pieces(kind: u8, text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut chunks = text.chunks(CHUNK - 1).peekable();
    std::iter::from_fn(move || {
        let piece = chunks.next()?;
        Some([&[kind, u8::from(chunks.peek().is_none())], piece].concat())
    })
}

fn ended() -> Error {
    Error::new(Kind::State, "ask", "the container's supervisor").because("the container has ended")
}

/// The address of the socket `attach` in an open directory.
pub(crate) fn socket_name(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix> {
    use rustix::fd::AsRawFd;
    SocketAddrUnix::new(format!("/proc/self/fd/{}/attach", directory.as_raw_fd()))
        .map_err(|e| Error::io("name", "attach socket", e))
}

fn decode<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload)
        .map_err(|e| Error::new(Kind::Corrupt, "read", "message of the container's supervisor").because(e))
}
