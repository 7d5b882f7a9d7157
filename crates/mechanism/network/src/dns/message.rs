//! DNS messages: the little of them that a server of names needs to read, and the answers that it writes.
//!
//! ```text
//! id u16 │ flags u16 │ counts of questions, answers, authorities, additionals u16 each │ question │ records …
//! question: name │ type u16 │ class u16          record: name │ type │ class │ ttl u32 │ length u16 │ data
//! ```
//!
//! Everything else of a message is passed on to a real name server as it came, so types and options that nobody knows
//! yet work. Sources: RFC 1035 §4, RFC 6891 (EDNS), RFC 2181 §9 (truncation).

use std::net::IpAddr;

pub(super) const HEADER: usize = 12;
/// The least that every client takes over UDP (RFC 1035 §2.3.4).
pub(super) const PLAIN_LIMIT: usize = 512;
/// What is sent over UDP at most, however much the client takes. Loopback does not fragment below 64 KiB.
pub(super) const EDNS_LIMIT: u16 = 4096;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
pub(super) const TYPE_ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// What an answer says of its success; the value is the one on the wire (RFC 1035, RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    Success = 0,
    Malformed = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    BadVersion = 16,
}

/// The client's EDNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// Bytes that it takes over UDP.
    pub(super) size: u16,
    pub(super) version: u8,
    pub(super) dnssec: bool,
}

/// A question that can be answered or passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query<'a> {
    /// The whole message.
    pub(super) bytes: &'a [u8],
    pub(super) id: u16,
    flags: u16,
    /// Name, type and class as they came.
    question: &'a [u8],
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// A message that is no question for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reject {
    /// Nothing is said to it: too short for an answer, or an answer itself (two servers could go on for ever).
    Silent,
    /// This is said to it.
    Reply(Vec<u8>),
}

impl<'a> Query<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Query<'a>, Reject> {
        let (Some(id), Some(flags)) = (number(bytes, 0), number(bytes, 2)) else { return Err(Reject::Silent) };
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(Reject::Silent);
        }
        let refused = |code: Code| {
            let mut reply = vec![0; HEADER];
            reply[..2].copy_from_slice(&id.to_be_bytes());
            let back = RESPONSE | flags & (OPCODE | RECURSION_DESIRED) | code as u16;
            reply[2..4].copy_from_slice(&back.to_be_bytes());
            Reject::Reply(reply)
        };
        if flags & OPCODE != 0 {
            return Err(refused(Code::NotImplemented));
        }
        let counts = [4, 6, 8, 10].map(|at| number(bytes, at).unwrap_or(0));
        let malformed = || refused(Code::Malformed);
        let [1, records @ ..] = counts else { return Err(malformed()) };
        let end = plain_name_end(bytes, HEADER).ok_or_else(malformed)?;
        let (kind, class) = (number(bytes, end), number(bytes, end + 2));
        let (Some(kind), Some(class)) = (kind, class) else { return Err(malformed()) };
        let question = bytes.get(HEADER..end + 4).ok_or_else(malformed)?;
        let records = records.map(usize::from).iter().sum();
        let edns = find_edns(bytes, end + 4, records).ok_or_else(malformed)?;
        let query = Query { bytes, id, flags, question, kind, class, edns };
        match edns {
            Some(edns) if edns.version != 0 => Err(Reject::Reply(query.reply(Code::BadVersion, PLAIN_LIMIT).finish())),
            _ => Ok(query),
        }
    }

    /// The name asked for, in lower case without the last dot; `None` for one that no container can have: a label with a
    /// dot in it, or with bytes that are not printable ASCII.
    pub(super) fn name(&self) -> Option<String> {
        let mut name = String::with_capacity(self.question.len());
        let mut rest = self.question;
        loop {
            let (&length, after) = rest.split_first()?;
            if length == 0 {
                return Some(name);
            }
            let (label, after) = after.split_at_checked(usize::from(length))?;
            if !label.iter().all(|b| b.is_ascii_graphic() && *b != b'.') {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            rest = after;
        }
    }

    /// How long an answer over UDP may be.
    pub(super) fn limit(&self) -> usize {
        self.edns.map_or(PLAIN_LIMIT, |e| usize::from(e.size.min(EDNS_LIMIT)).max(PLAIN_LIMIT))
    }

    /// Begins an answer of at most `limit` bytes.
    pub(super) fn reply(&self, code: Code, limit: usize) -> Reply {
        let mut bytes = Vec::with_capacity(128);
        let flags = RESPONSE | RECURSION_AVAILABLE | self.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        for number in [self.id, flags | code as u16 & 0xf, 1, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.question);
        // RFC 6891 §6.1.1: an answer has the record if the question has it.
        let edns = self.edns.map(|e| {
            let [size_high, size_low] = EDNS_LIMIT.to_be_bytes();
            let dnssec = if e.dnssec { 0x80 } else { 0 };
            [0, 0, TYPE_OPT as u8, size_high, size_low, (code as u16 >> 4) as u8, 0, dnssec, 0, 0, 0]
        });
        let limit = limit.saturating_sub(edns.map_or(0, |e| e.len()));
        Reply { bytes, limit, answers: 0, edns, truncated: false }
    }

    /// Whether `answer` is to this question, asked as `id`. Servers that found no sense in the question may leave it out.
    pub(super) fn is_answered_by(&self, id: u16, answer: &[u8]) -> bool {
        let Some(flags) = number(answer, 2) else { return false };
        if answer.len() < HEADER || number(answer, 0) != Some(id) || flags & RESPONSE == 0 || flags & OPCODE != 0 {
            return false;
        }
        match number(answer, 4) {
            Some(0) => flags & 0xf != 0,
            Some(1) => {
                let question = answer.get(HEADER..HEADER + self.question.len());
                question.is_some_and(|q| q.eq_ignore_ascii_case(self.question))
            }
            _ => false,
        }
    }
}

/// The low bits of an answer's code: enough to tell a server that failed from one that knows.
pub(super) fn code_of(answer: &[u8]) -> u16 {
    number(answer, 2).unwrap_or(0) & 0xf
}

/// Puts another id into a message.
pub(super) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// An answer being written; what does not fit sets the mark *truncated*, and the client asks again over TCP.
#[derive(Debug)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    limit: usize,
    answers: u16,
    edns: Option<[u8; 11]>,
    truncated: bool,
}

impl Reply {
    /// Says that this server itself knows.
    pub(super) fn authoritative(mut self) -> Reply {
        self.set(AUTHORITATIVE);
        self
    }

    fn set(&mut self, flag: u16) {
        let flags = number(&self.bytes, 2).unwrap_or(0) | flag;
        self.bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.record(TYPE_A, &v4.octets()),
            IpAddr::V6(v6) => self.record(TYPE_AAAA, &v6.octets()),
        }
    }

    /// A name as the answer. One that cannot be written (a label of more than 63 bytes) is left out.
    pub(super) fn pointer(&mut self, name: &str) {
        let mut data = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            match u8::try_from(label.len()) {
                Ok(length @ 1..=63) => data.push(length),
                _ => return,
            }
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        if data.len() <= 255 {
            self.record(TYPE_PTR, &data);
        }
    }

    /// Time to live is 0: what is known of a container changes at once, and asking costs next to nothing.
    fn record(&mut self, kind: u16, data: &[u8]) {
        self.truncated |= self.bytes.len() + 12 + data.len() > self.limit || self.answers == u16::MAX;
        if self.truncated {
            return;
        }
        let [high, low] = kind.to_be_bytes();
        let [length_high, length_low] = (data.len() as u16).to_be_bytes();
        // The name is that of the question, 12 bytes from the beginning.
        let fixed = [0xc0, HEADER as u8, high, low, 0, CLASS_IN as u8, 0, 0, 0, 0, length_high, length_low];
        self.bytes.extend_from_slice(&fixed);
        self.bytes.extend_from_slice(data);
        self.answers += 1;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.truncated {
            self.set(TRUNCATED);
        }
        self.bytes[6..8].copy_from_slice(&self.answers.to_be_bytes());
        if let Some(edns) = self.edns {
            self.bytes[10..12].copy_from_slice(&1_u16.to_be_bytes());
            self.bytes.extend_from_slice(&edns);
        }
        self.bytes
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Where the name ends that begins at `at`. Nothing stands before a question that a pointer could lead to, so one in it
/// is an error.
fn plain_name_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        match *bytes.get(at)? {
            0 => return (at + 1 - start <= 255).then_some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// Where the name ends that begins at `at`; pointers are stepped over, not followed.
fn name_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The EDNS record among `records` records from `at` on. The outer `None`: malformed, or more than one of them.
fn find_edns(bytes: &[u8], mut at: usize, records: usize) -> Option<Option<Edns>> {
    let mut found = None;
    for _ in 0..records {
        let name = at;
        at = name_end(bytes, at)?;
        let (kind, length) = (number(bytes, at)?, usize::from(number(bytes, at + 8)?));
        if kind == TYPE_OPT {
            if found.is_some() || bytes.get(name) != Some(&0) {
                return None;
            }
            let edns = Edns {
                size: number(bytes, at + 2)?,
                version: *bytes.get(at + 5)?,
                dnssec: bytes.get(at + 6)? & 0x80 != 0,
            };
            found = Some(edns);
        }
        at += 10 + length;
        bytes.get(..at)?;
    }
    Some(found)
}
