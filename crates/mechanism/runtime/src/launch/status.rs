//! The status socket between parent and child: see the drawing in [`super`].

use super::listener::{self, Listener};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use tare_model::{Error, Kind, Result};

/// What the child says. One message is one packet (SOCK_SEQPACKET).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Ready,
    Warning(String),
    Error(Error),
}

/// The parent's end.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    ready: bool,
    /// Where a notify descriptor goes.
    pub(super) listener: Option<Listener>,
}

/// Longest message: an error with two paths of 4096 bytes fits.
const LIMIT: usize = 32 * 1024;

pub(super) fn pair() -> Result<(Channel, OwnedFd)> {
    let (parent, child) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::io("create", "status socket", e))?;
    Ok((Channel { socket: parent, ready: false, listener: None }, child))
}

impl Channel {
    /// The number of the parent's end, which the child inherits and closes.
    pub(super) fn raw(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    pub(super) fn wait_ready(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        while !self.ready {
            match self.receive()? {
                Some(Message::Ready) => self.ready = true,
                Some(Message::Warning(w)) => warnings.push(w),
                Some(Message::Error(e)) => return Err(e),
                None => return Err(died("it ended before it was ready")),
            }
        }
        Ok(())
    }

    pub(super) fn release(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        // "go" may be sent before the child is ready: it is read at the gate.
        match rustix::net::send(&self.socket, b"go", rustix::net::SendFlags::NOSIGNAL) {
            Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {}
            Err(e) => return Err(Error::io("open", "start gate", e)),
        }
        loop {
            match self.receive()? {
                Some(Message::Ready) => self.ready = true,
                Some(Message::Warning(w)) => warnings.push(w),
                Some(Message::Error(e)) => return Err(e),
                None if self.ready => return Ok(()),
                None => return Err(died("it ended before it was ready")),
            }
        }
    }

    fn receive(&mut self) -> Result<Option<Message>> {
        let mut buffer = [0u8; LIMIT];
        loop {
            return match listener::receive(&self.socket, &mut buffer[..]) {
                Ok((n, Some(notify))) if &buffer[..n] == listener::PACKET => {
                    listener::deliver(self.listener.take(), notify)?;
                    continue;
                }
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => Ok(None),
                Ok((n, _)) => serde_json::from_slice(&buffer[..n])
                    .map(Some)
                    .map_err(|e| Error::new(Kind::Corrupt, "read", "status of the container's process").because(e)),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => Err(Error::io("read", "status of the container's process", e)),
            };
        }
    }
}

fn died(why: &str) -> Error {
    Error::new(Kind::System, "start", "the container's process")
        .because(why)
        .hint("was it killed? look for an out-of-memory message in dmesg, and at the memory limit")
}

/// The child's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter<'a>(pub(super) BorrowedFd<'a>);

impl Reporter<'_> {
    pub(super) fn ready(self) {
        self.send(&Message::Ready);
    }

    pub(super) fn warn(self, text: impl Into<String>) {
        self.send(&Message::Warning(text.into()));
    }

    pub(super) fn error(self, error: Error) {
        self.send(&Message::Error(error));
    }

    /// Waits at the gate; false if the parent is gone.
    pub(super) fn wait_go(self) -> bool {
        let mut buffer = [0u8; 8];
        loop {
            match rustix::io::read(self.0, &mut buffer[..]) {
                Ok(n) => return n > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether the parent is gone.
    pub(super) fn is_alone(self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.0, &mut [0u8; 1], flags), Ok((0, _)))
    }

    fn send(self, message: &Message) {
        if let Ok(bytes) = serde_json::to_vec(message) {
            // The parent may be gone; then nobody is left to be told.
            let _ = rustix::net::send(self.0.as_fd(), &bytes, rustix::net::SendFlags::NOSIGNAL);
        }
    }
}
