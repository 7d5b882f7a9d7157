//! One connected client.

use crate::attach::{HELLO, LONGEST, SENDS_INPUT, STDIN, STDIN_END, WANTS_OUTPUT};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Peer {
    fd: OwnedFd,
    /// What it said that it wants; nothing before its hello.
    flags: Option<u8>,
    /// Packets that it did not take yet. One while the container runs, as nothing is read for it meanwhile; at the end
    /// all that there was.
    unsent: VecDeque<Vec<u8>>,
    /// The pieces of a request that is not whole yet.
    request: Vec<u8>,
    open: bool,
}

impl Peer {
    pub(super) fn new(fd: OwnedFd, flags: Option<u8>) -> Self {
        Peer { fd, flags, unsent: VecDeque::new(), request: Vec::new(), open: true }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn is_congested(&self) -> bool {
        self.open && !self.unsent.is_empty()
    }

    pub(super) fn wants_output(&self) -> bool {
        self.open && self.flags.is_some_and(|f| f & WANTS_OUTPUT != 0)
    }

    /// Whether what it sends may be input: then nothing is read from it while there is input to be written.
    pub(super) fn may_send_input(&self) -> bool {
        self.flags.is_some_and(|f| f & SENDS_INPUT != 0)
    }

    /// Takes one piece of a request; the whole of it with the last one.
    pub(super) fn gather(&mut self, last: bool, piece: &[u8]) -> Option<Vec<u8>> {
        if self.request.len() + piece.len() > LONGEST {
            self.open = false;
            self.request = Vec::new();
            return None;
        }
        self.request.extend_from_slice(piece);
        last.then(|| std::mem::take(&mut self.request))
    }

    pub(super) fn send(&mut self, packet: &[u8]) {
        if self.is_congested() || !self.takes(packet) {
            self.unsent.push_back(packet.to_vec());
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.unsent.pop_front() {
            if !self.takes(&packet) {
                self.unsent.push_front(packet);
                return;
            }
        }
    }

    /// False if it cannot take the packet now.
    fn takes(&mut self, packet: &[u8]) -> bool {
        match send(&self.fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => true,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => false,
            Err(_) => {
                self.open = false;
                true
            }
        }
    }

    /// Reads one message into `packet`; its length, if it is for the supervisor to act on.
    pub(super) fn receive(&mut self, packet: &mut [u8]) -> Option<usize> {
        let n = match recv(&self.fd, &mut *packet, RecvFlags::DONTWAIT) {
            Ok((n, _)) if n > 0 => n.min(packet.len()),
            Err(Errno::AGAIN | Errno::INTR) => return None,
            _ => {
                self.open = false;
                return None;
            }
        };
        match (self.flags, &packet[..n]) {
            (None, [HELLO, flags]) => {
                self.flags = Some(*flags);
                None
            }
            // Input only from those who announced it: several writers of one stdin are a choice, not an accident.
            (Some(f), [STDIN | STDIN_END, ..]) if f & SENDS_INPUT == 0 => None,
            (Some(_), _) => Some(n),
            (None, _) => {
                self.open = false;
                None
            }
        }
    }
}
