//! A client that asks over TCP: any number of questions in one connection, each after its length (RFC 7766).

use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::time::{Duration, Instant};

/// A connection on which nothing happens is closed after this.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection that may wait for other servers at a time.
const MOST_WAITING: usize = 32;
/// Answers that the client does not take: no more questions are read from there on.
const MOST_UNSENT: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// Questions that were passed on and have no answer yet.
    pub(super) waiting: usize,
    /// The client asks no more; what it has asked is answered.
    ended: bool,
    broken: bool,
    pub(super) used_at: Instant,
    /// What the event queue was told to look for.
    pub(super) interest: EventFlags,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd, now: Instant) -> Stream {
        Stream {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            waiting: 0,
            ended: false,
            broken: false,
            used_at: now,
            interest: EventFlags::IN,
        }
    }

    /// Whether questions are taken now: what a client leaves unread, or has others look for, holds it back.
    fn takes(&self) -> bool {
        self.waiting < MOST_WAITING && self.output.len() - self.sent < MOST_UNSENT
    }

    /// The length of the question that was read and not yet looked at.
    fn read_ahead(&self) -> Option<usize> {
        let (length, rest) = self.input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        (rest.len() >= length).then_some(length)
    }

    /// Whether there is a question to take, of which the event queue knows nothing.
    pub(super) fn has_question(&self) -> bool {
        self.takes() && self.read_ahead().is_some()
    }

    /// The next whole question, read from the socket if need be.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while self.takes() {
            if let Some(length) = self.read_ahead() {
                let question = self.input[2..2 + length].to_vec();
                self.input.drain(..2 + length);
                return Some(question);
            }
            if self.ended {
                return None;
            }
            let mut buffer = [0; 2048];
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => self.ended = true,
                Ok((n, _)) => self.input.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    self.broken = true;
                    return None;
                }
            }
        }
        None
    }

    /// Has an answer follow those before it.
    pub(super) fn answer(&mut self, answer: &[u8]) {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(answer);
    }

    /// Sends what the client takes.
    pub(super) fn flush(&mut self) {
        while self.sent < self.output.len() {
            match send(&self.socket, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        self.output.clear();
        self.sent = 0;
        // Connections are few and short; what a long answer needed is not kept for the next.
        self.output.shrink_to(1024);
        self.input.shrink_to(1024);
    }

    /// Whether there is nothing more to do for this client.
    pub(super) fn is_done(&self) -> bool {
        self.broken || self.ended && self.waiting == 0 && self.output.is_empty() && self.read_ahead().is_none()
    }

    /// What it waits for.
    pub(super) fn wants(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.takes() && !self.ended);
        flags.set(EventFlags::OUT, !self.output.is_empty());
        flags
    }
}
