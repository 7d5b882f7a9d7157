//! One question on its way to real name servers.
//!
//! ```text
//! client ─► question ─┬─► first server          one socket each, connected: the kernel lets in its answers only,
//!                     ├─► second, 1 s later     and gives it a port that a forger would have to guess
//!                     └─► …, each twice         the first good answer wins, the earlier ones still count
//! ```
//!
//! Every question is asked under a random id of its own, over UDP if it came over UDP, else over TCP.

use super::message::{self, Query};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a server has the question for itself before the next is asked as well.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long a client is kept waiting for the word that nobody knows.
pub(super) const LIFE: Duration = Duration::from_secs(8);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Over TCP a server is given longer, and asked once.
const PATIENCE_TCP: Duration = Duration::from_secs(3);

/// Who has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Datagram(SocketAddr),
    /// A connection, by its key.
    Stream(u64),
}

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) client: Client,
    /// The message as the client sent it.
    question: Vec<u8>,
    waiting: VecDeque<SocketAddr>,
    /// Keys of the attempts under way.
    pub(super) attempts: Vec<u64>,
    pub(super) next_at: Instant,
    pub(super) ends_at: Instant,
    /// What a server has said that could not answer: told to the client if no other can.
    refusal: Option<Vec<u8>>,
}

impl Forward {
    pub(super) fn new(client: Client, question: &[u8], servers: &[SocketAddr], now: Instant) -> Forward {
        let rounds = if matches!(client, Client::Datagram(_)) { ROUNDS } else { 1 };
        Forward {
            client,
            question: question.to_vec(),
            waiting: std::iter::repeat_n(servers, rounds).flatten().copied().collect(),
            attempts: Vec::new(),
            next_at: now,
            ends_at: now + LIFE,
            refusal: None,
        }
    }

    pub(super) fn query(&self) -> Option<Query<'_>> {
        Query::parse(&self.question).ok()
    }

    /// Whether this is the same question, sent once more because its answer is late.
    pub(super) fn is(&self, client: Client, question: &[u8]) -> bool {
        matches!(client, Client::Datagram(_)) && self.client == client && self.question == question
    }

    /// The next server to ask, if one is left.
    pub(super) fn next_server(&mut self, now: Instant) -> Option<SocketAddr> {
        let server = self.waiting.pop_front()?;
        let patience = if matches!(self.client, Client::Datagram(_)) { PATIENCE } else { PATIENCE_TCP };
        self.next_at = if self.waiting.is_empty() { self.ends_at } else { now + patience };
        Some(server)
    }

    /// An attempt has come to nothing; its server is not asked again.
    pub(super) fn leave_out(&mut self, attempt: u64, server: SocketAddr) {
        self.attempts.retain(|a| *a != attempt);
        self.waiting.retain(|s| *s != server);
    }

    /// When something is to be done with it.
    pub(super) fn due(&self) -> Instant {
        if self.waiting.is_empty() { self.ends_at } else { self.next_at.min(self.ends_at) }
    }

    /// An attempt's socket, with the question under way.
    pub(super) fn ask(&self, forward: u64, server: SocketAddr) -> io::Result<Attempt> {
        let mut id = [0; 2];
        // Without randomness the port still protects; early boot is the only time when this fails.
        let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
        let id = u16::from_ne_bytes(id);
        let mut question = self.question.clone();
        message::set_id(&mut question, id);
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = match self.client {
            Client::Datagram(_) => {
                let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
                connect(&socket, &server)?;
                send(&socket, &question, SendFlags::empty())?;
                return Ok(Attempt { forward, id, server, socket, stream: None });
            }
            Client::Stream(_) => socket_with(family, SocketType::STREAM, flags, None)?,
        };
        match connect(&stream, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let mut output = (question.len() as u16).to_be_bytes().to_vec();
        output.append(&mut question);
        let conversation = Conversation { output, sent: 0, input: Vec::new() };
        Ok(Attempt { forward, id, server, socket: stream, stream: Some(conversation) })
    }

    /// What a server that cannot answer has said is kept for the case that none can.
    pub(super) fn refused(&mut self, answer: Vec<u8>) {
        self.refusal.get_or_insert(answer);
    }

    /// The answer as the client gets it: under its own id.
    pub(super) fn answer(&self, mut answer: Vec<u8>) -> Vec<u8> {
        answer.iter_mut().zip(self.question.iter().take(2)).for_each(|(to, from)| *to = *from);
        answer
    }

    /// The last word when no server has known.
    pub(super) fn last_word(&self) -> Option<Vec<u8>> {
        match &self.refusal {
            Some(refusal) => Some(self.answer(refusal.clone())),
            None => self.query().as_ref().map(super::answer::failed),
        }
    }
}

/// One server being asked.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) forward: u64,
    pub(super) id: u16,
    pub(super) server: SocketAddr,
    pub(super) socket: OwnedFd,
    stream: Option<Conversation>,
}

/// A question and its answer over TCP, each after its length.
#[derive(Debug)]
struct Conversation {
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing yet.
    Waits,
    Answer(Vec<u8>),
    /// This server cannot be asked.
    Failed,
}

impl Attempt {
    pub(super) fn is_datagram(&self) -> bool {
        self.stream.is_none()
    }

    /// Whether it waits for room to send.
    pub(super) fn sends(&self) -> bool {
        self.stream.as_ref().is_some_and(|s| s.sent < s.output.len())
    }

    /// Goes on as far as it can. `buffer`: room for the largest message, its content of no interest.
    pub(super) fn go_on(&mut self, buffer: &mut Vec<u8>) -> Outcome {
        match &mut self.stream {
            Some(stream) => stream.go_on(&self.socket),
            None => {
                buffer.clear();
                match recv(&self.socket, rustix::buffer::spare_capacity(buffer), RecvFlags::empty()) {
                    Ok(_) => Outcome::Answer(buffer.clone()),
                    Err(Errno::AGAIN | Errno::INTR) => Outcome::Waits,
                    // Refused, unreachable: as an ICMP message says.
                    Err(_) => Outcome::Failed,
                }
            }
        }
    }
}

impl Conversation {
    fn go_on(&mut self, socket: &OwnedFd) -> Outcome {
        if sockopt::socket_error(socket).is_ok_and(|e| e.is_err()) {
            return Outcome::Failed;
        }
        while self.sent < self.output.len() {
            match send(socket, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                // Not connected yet, or its buffer is full.
                Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => return Outcome::Waits,
                Err(_) => return Outcome::Failed,
            }
        }
        loop {
            let whole = self.input.first_chunk().map_or(2, |length| 2 + usize::from(u16::from_be_bytes(*length)));
            if self.input.len() > 2 && self.input.len() == whole {
                return Outcome::Answer(self.input.split_off(2));
            }
            self.input.reserve_exact(whole - self.input.len());
            let missing = (whole - self.input.len()).min(16 * 1024);
            let before = self.input.len();
            self.input.resize(before + missing, 0);
            let result = recv(socket.as_fd(), &mut self.input[before..], RecvFlags::empty());
            self.input.truncate(before + result.as_ref().map_or(0, |(n, _)| *n));
            match result {
                Ok((0, _)) => return Outcome::Failed,
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Outcome::Waits,
                Err(_) => return Outcome::Failed,
            }
        }
    }
}
