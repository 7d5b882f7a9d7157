//! Requests and their answers over one netlink socket.

use crate::message::{self, Attributes, Message, Messages, Writer};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use std::io;
use tare_kernel::netlink::{Protocol, Socket};
use tare_model::{Context as _, Error, Kind, Result};

/// Dumps are made in pieces of at most this size (`netlink_dump`).
const BUFFER: usize = 32 * 1024;
/// The upper half of the sequence numbers of all our requests: by it what we changed can be told from what others did.
pub(crate) const OUR_SEQUENCES: u16 = 0x7a72;
const FIRST_SEQUENCE: u32 = (OUR_SEQUENCES as u32) << 16;
/// From here on numbers begin anew, so that those of one batch all have that upper half.
const LAST_SEQUENCE: u32 = FIRST_SEQUENCE | 0x7fff;

/// What a socket takes without further ado (net.core.wmem_default is 208 KiB).
const LONG: usize = 96 * 1024;
/// How often a dump is repeated that was interrupted by changes.
const ATTEMPTS: usize = 20;

/// Requests that are sent together and acted on in order.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) writer: Writer,
    pub(crate) pending: Vec<Pending>,
    sequence: u32,
    /// Where the last request begins.
    last: usize,
}

/// A request whose outcome is awaited.
#[derive(Debug)]
pub(crate) struct Pending {
    sequence: u32,
    /// The step and its object, for the error.
    step: &'static str,
    object: String,
    /// Error numbers that mean success here.
    fine: &'static [Errno],
    /// Success is told as well, not only failure.
    answered: bool,
}

/// One request of a [`Batch`], and what is said if it fails.
pub(crate) struct Request<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    /// The family's fixed header.
    pub(crate) header: &'a [u8],
    pub(crate) step: &'static str,
    pub(crate) object: &'a str,
    /// Error numbers that count as success.
    pub(crate) fine: &'static [Errno],
}

impl Batch {
    /// Adds a request whose outcome is awaited.
    pub(crate) fn add(&mut self, request: &Request<'_>, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.add_quiet(request, fill);
        self.answer_last();
    }

    /// Adds a request that is answered only when it fails. In a transaction of many requests the answers could fill the
    /// socket's receive buffer; there one answer, to the last request, says that all of it succeeded.
    pub(crate) fn add_quiet(&mut self, request: &Request<'_>, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.pending.push(Pending {
            sequence: self.sequence,
            step: request.step,
            object: request.object.to_owned(),
            fine: request.fine,
            answered: false,
        });
        self.last = self.writer.bytes.len();
        self.add_unanswered(request.kind, message::REQUEST | request.flags, request.header, fill);
    }

    /// Asks for the outcome of the last request.
    pub(crate) fn answer_last(&mut self) {
        if let Some(pending) = self.pending.last_mut() {
            pending.answered = true;
            self.writer.add_flags(self.last, message::ACK);
        }
    }

    /// Adds a message of which nothing is expected.
    pub(crate) fn add_unanswered(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.writer.message(kind, flags, self.sequence, header, fill);
        self.sequence += 1;
    }
}

/// What a batch brought back.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    datagrams: Vec<Vec<u8>>,
    /// For each request that failed in a way that was declared fine: its index.
    pub(crate) fine_failures: Vec<usize>,
    interrupted: bool,
}

impl Answers {
    /// The messages that are neither acknowledgements nor the end of a dump.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let all = self.datagrams.iter().flat_map(|d| Messages(d));
        all.filter(|m| m.kind != message::ERROR && m.kind != message::DONE)
    }
}

/// A netlink socket with its buffer and sequence numbers.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Channel {
    /// Opens a socket in the calling thread's namespace, or in `netns`.
    pub(crate) fn open(protocol: Protocol, netns: Option<BorrowedFd<'_>>) -> Result<Channel> {
        let socket = match netns {
            Some(netns) => Socket::open_in(netns, protocol),
            None => Socket::open(protocol),
        };
        let socket = socket.during("open netlink socket", format_args!("{protocol:?}"))?;
        Ok(Channel { socket, buffer: vec![0; BUFFER], sequence: FIRST_SEQUENCE })
    }

    /// An empty batch with fresh sequence numbers.
    pub(crate) fn batch(&self) -> Batch {
        let sequence = if self.sequence > LAST_SEQUENCE { FIRST_SEQUENCE } else { self.sequence };
        Batch { writer: Writer::new(), pending: Vec::new(), sequence, last: 0 }
    }

    /// Sends `batch` and reads until every outcome is known. The first failure is returned.
    ///
    /// rtnetlink acts on the requests after a failed one as well; nftables on none of the batch.
    pub(crate) fn transact(&mut self, batch: &Batch) -> Result<Answers> {
        self.sequence = batch.sequence;
        // A datagram of no messages is refused.
        if batch.writer.bytes.is_empty() {
            return Ok(Answers::default());
        }
        let describe = |e: io::Error| {
            let first = batch.pending.first();
            Error::io(first.map_or("talk to the kernel", |p| p.step), first.map_or("", |p| &p.object), e)
        };
        if batch.writer.bytes.len() > LONG {
            // A longer datagram than the socket's buffer is refused. Beyond the host's limit with CAP_NET_ADMIN alone,
            // which whoever changes networks has.
            set_socket_send_buffer_size_force(&self.socket, batch.writer.bytes.len())
                .map_err(|e| describe(e.into()))?;
        }
        self.socket.send(&batch.writer.bytes).map_err(describe)?;
        let mut answers = Answers::default();
        let mut open = batch.pending.iter().filter(|p| p.answered).count();
        let mut failure = None;
        while open > 0 {
            let Some(length) = self.socket.receive(&mut self.buffer).map_err(describe)? else { break };
            let datagram = &self.buffer[..length];
            let mut data = false;
            for m in Messages(datagram) {
                answers.interrupted |= m.interrupted();
                if m.kind != message::ERROR && m.kind != message::DONE {
                    data = true;
                    continue;
                }
                let index = batch.pending.iter().position(|p| p.sequence == m.sequence);
                open -= usize::from(index.is_some_and(|i| batch.pending[i].answered));
                let (number, words) = m.status().unwrap_or((0, None));
                let Some(errno) = (number != 0).then(|| Errno::from_raw_os_error(number)) else { continue };
                match index {
                    Some(i) if batch.pending[i].fine.contains(&errno) => answers.fine_failures.push(i),
                    _ => {
                        failure.get_or_insert_with(|| failed(index.and_then(|i| batch.pending.get(i)), errno, words));
                    }
                }
            }
            if data {
                answers.datagrams.push(datagram.to_vec());
            }
        }
        match failure {
            Some(e) => Err(e),
            None if open > 0 => Err(describe(io::ErrorKind::UnexpectedEof.into()).because("the kernel did not answer")),
            None => Ok(answers),
        }
    }

    /// Sends one dump request, again and again until the tables did not change meanwhile.
    pub(crate) fn dump(&mut self, request: &Request<'_>, fill: impl Fn(&mut Attributes<'_>)) -> Result<Answers> {
        for _ in 0..ATTEMPTS {
            let mut batch = self.batch();
            batch.add(&Request { flags: message::DUMP | request.flags, ..*request }, &fill);
            let answers = self.transact(&batch)?;
            if !answers.interrupted {
                return Ok(answers);
            }
        }
        Err(Error::new(Kind::System, request.step, request.object).because("the tables changed during every reading"))
    }
}

fn failed(pending: Option<&Pending>, errno: Errno, words: Option<&str>) -> Error {
    let (step, object) = pending.map_or(("commit", ""), |p| (p.step, p.object.as_str()));
    let error = Error::io(step, object, errno);
    match words {
        Some(words) => {
            let plain = io::Error::from(errno).to_string();
            let plain = plain.split(" (os error").next().unwrap_or_default().to_lowercase();
            error.because(format_args!("{plain} (the kernel says: {})", words.trim_end_matches('.')))
        }
        None => error,
    }
}
