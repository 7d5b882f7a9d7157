//! Netlink messages: written into a batch, read with every bound checked.
//!
//! ```text
//! length u32 │ type u16 │ flags u16 │ sequence u32 │ port u32 │ family header │ attributes …
//! attribute: length u16 │ type u16 │ value, padded to 4 bytes; a value may be attributes again
//! ```
//!
//! Sources: netlink(7), include/uapi/linux/netlink.h.

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer with an error number, 0 for success.
pub const ACK: u16 = 0x4;
/// `NLM_F_EXCL`: fail if it exists.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_DUMP`: all objects.
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the two upper bits of a type are flags.
const TYPE_MASK: u16 = 0x3fff;
/// `NLM_F_DUMP_INTR`: the tables changed during the dump.
const DUMP_INTERRUPTED: u16 = 0x10;
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message after another, for one send.
#[derive(Debug)]
pub struct Writer {
    /// The messages so far.
    pub bytes: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Writer::new()
    }
}

impl Writer {
    /// Without any message.
    #[must_use]
    pub fn new() -> Self {
        Writer { bytes: Vec::with_capacity(1024) }
    }

    /// Appends a message; `fill` writes its attributes after `header`, the family's fixed part.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sets further flags of the message that begins at `start`.
    pub fn add_flags(&mut self, start: usize, flags: u16) {
        if let Some(place) = self.bytes.get_mut(start + 6..start + 8) {
            let now = u16::from_ne_bytes([place[0], place[1]]);
            place.copy_from_slice(&(now | flags).to_ne_bytes());
        }
    }
}

/// The attributes of a message or of a nest.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// A value as it is.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(self.0);
    }

    /// A string with its terminating zero.
    pub fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// In the host's byte order, as rtnetlink wants it.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// In network byte order, as netfilter wants it.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A value that is attributes again.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_after(kind | NESTED, &[], fill);
    }

    /// A nest whose attributes follow a fixed header (`VETH_INFO_PEER`); not marked as nested.
    pub fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(header);
        fill(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it says.
    pub kind: u16,
    flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// Everything after the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Whether the dump of which it is a part must be done again.
    pub fn interrupted(&self) -> bool {
        self.flags & DUMP_INTERRUPTED != 0
    }

    /// The error number of an `ERROR` (or `DONE`) message, 0 for success, and the kernel's words, if any.
    pub fn status(&self) -> Option<(i32, Option<&'a str>)> {
        let number = i32::from_ne_bytes(array(self.body, 0)?);
        let skip = match self.kind {
            DONE => 4,
            _ if self.flags & CAPPED != 0 => 4 + HEADER,
            _ => 4 + u32::from_ne_bytes(array(self.body, 4)?) as usize,
        };
        let words = (self.flags & ACK_TLVS != 0)
            .then(|| self.body.get(skip.next_multiple_of(4)..))
            .flatten()
            .and_then(|rest| find(rest, NLMSGERR_ATTR_MSG))
            .and_then(text);
        Some((number.checked_neg()?, words))
    }

    /// The attributes after a family header of `header` bytes.
    pub fn attributes(&self, header: usize) -> AttributesOf<'a> {
        AttributesOf(self.body.get(header..).unwrap_or_default())
    }
}

/// Splits a datagram; ends at the first malformed message.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32::from_ne_bytes(array(self.0, 0)?) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(array(self.0, 4)?),
            flags: u16::from_ne_bytes(array(self.0, 6)?),
            sequence: u32::from_ne_bytes(array(self.0, 8)?),
            body: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Splits attributes into type (without its flags) and value; ends at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct AttributesOf<'a>(pub &'a [u8]);

impl<'a> Iterator for AttributesOf<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let kind = u16::from_ne_bytes(array(self.0, 2)?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The value of the first attribute of this type.
pub fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    AttributesOf(attributes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// The `N` bytes at `offset`.
pub fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A string, up to its terminating zero.
pub fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value.split(|b| *b == 0).next()?).ok()
}

/// A number in the host's byte order.
pub fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(array(value, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut w = Writer::new();
        w.message(16, REQUEST | ACK, 7, &[1; 16], |a| {
            a.string(3, "eth0");
            a.nest(18, |a| {
                a.u32(1, 0x0102_0304);
                a.nest_after(2, &[9; 16], |a| a.bytes(5, &[1, 2, 3]));
            });
        });
        w.message(ERROR, CAPPED | ACK_TLVS, 8, &[[0xff; 4].as_slice(), &[0; 16]].concat(), |a| {
            a.string(NLMSGERR_ATTR_MSG, "no such thing");
        });
        w.bytes
    }

    /// Walks everything in every way that the readers do.
    fn walk(bytes: &[u8], depth: usize) -> usize {
        let attributes = AttributesOf(bytes).map(|(_, value)| {
            let _ = (text(value), u32_of(value), find(value, 1));
            1 + if depth > 0 { walk(value, depth - 1) } else { 0 }
        });
        attributes.sum()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = sample();
        let [first, second]: [Message<'_>; 2] = Messages(&bytes).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((first.kind, first.sequence, first.interrupted()), (16, 7, false));
        let attributes: Vec<_> = first.attributes(16).collect();
        assert_eq!(text(attributes[0].1), Some("eth0"));
        assert_eq!(attributes[1].0, 18);
        assert_eq!(u32_of(find(attributes[1].1, 1).unwrap()), Some(0x0102_0304));
        assert_eq!(find(&find(attributes[1].1, 2).unwrap()[16..], 5), Some(&[1, 2, 3][..]));
        assert_eq!(second.status(), Some((1, Some("no such thing"))));
    }

    #[test]
    fn malformed_bytes_never_panic_and_always_end() {
        let good = sample();
        let check = |bytes: &[u8]| {
            let walked: usize = Messages(bytes).map(|m| m.status().map_or(0, |_| 1) + walk(m.body, 4)).sum();
            let _ = (walked, walk(bytes, 4));
        };
        for cut in 0..good.len() {
            check(&good[..cut]);
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..50_000 {
            let mut bad = good.clone();
            for _ in 0..=round % 4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % bad.len();
                bad[at] = [(random >> 20) as u8, 0, 0xff][round % 3];
            }
            check(&bad);
        }
        // A length of zero must not loop.
        check(&[0; 64]);
    }
}
