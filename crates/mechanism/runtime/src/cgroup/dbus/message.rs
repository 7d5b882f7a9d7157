//! Messages: a fixed part of 16 bytes, an array of header fields, padding to 8, the body. Little-endian; each value is
//! aligned to its size, structures to 8.

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// A call, which tests receive.
    Call = 1,
    /// Its answer.
    Return = 2,
    /// Its refusal.
    Error = 3,
    /// News.
    Signal = 4,
}

/// A method call to be sent.
pub(in super::super) struct Call {
    path: &'static str,
    interface: &'static str,
    pub(in super::super) member: String,
    destination: Option<&'static str>,
    /// The arguments.
    pub(in super::super) body: Body,
}

impl Call {
    /// A call of `member` without arguments so far; `object`: path and interface.
    pub(in super::super) fn new(object: (&'static str, &'static str), member: &str) -> Call {
        let (path, interface) = object;
        Call { path, interface, member: member.to_owned(), destination: None, body: Body::default() }
    }

    /// To another than the usual receiver.
    pub(super) fn to(self, destination: &'static str) -> Call {
        Call { destination: Some(destination), ..self }
    }

    pub(super) fn encode(&self, serial: u32, destination: &str) -> Vec<u8> {
        let mut fields = Body::default();
        fields.array("(yv)", |f| {
            let mut field = |code: u8, signature: &'static str, value: &str| {
                f.structure(|s| {
                    s.byte(code);
                    s.variant(signature, |v| {
                        if signature == "g" {
                            v.signature_value(value)
                        } else {
                            {
                                v.text(value);
                            }
                        }
                    });
                });
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", &self.member);
            field(6, "s", self.destination.unwrap_or(destination));
            if !self.body.signature.is_empty() {
                field(8, "g", &self.body.signature);
            }
        });
        message(Kind::Call, serial, &fields, &self.body)
    }
}

fn message(kind: Kind, serial: u32, fields: &Body, body: &Body) -> Vec<u8> {
    let mut out = vec![b'l', kind as u8, 0, 1];
    out.extend((body.bytes.len() as u32).to_le_bytes());
    out.extend(serial.to_le_bytes());
    // The array begins at offset 12 with its length, and its first structure at 16: as if it stood by itself at 4.
    out.extend(&fields.bytes[..4]);
    out.extend(&fields.bytes[8..]);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(&body.bytes);
    out
}

/// Values one after the other, with their signature.
#[derive(Default)]
pub(in super::super) struct Body {
    bytes: Vec<u8>,
    signature: String,
    /// In a container, whose own signature stands for what is in it.
    depth: u32,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn sign(&mut self, signature: &str) {
        if self.depth == 0 {
            self.signature.push_str(signature);
        }
    }

    pub(in super::super) fn byte(&mut self, value: u8) -> &mut Body {
        self.sign("y");
        self.bytes.push(value);
        self
    }

    pub(in super::super) fn u32(&mut self, value: u32) -> &mut Body {
        self.sign("u");
        self.raw_u32(value);
        self
    }

    fn raw_u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(in super::super) fn u64(&mut self, value: u64) -> &mut Body {
        self.sign("t");
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(in super::super) fn boolean(&mut self, value: bool) -> &mut Body {
        self.sign("b");
        self.raw_u32(u32::from(value));
        self
    }

    pub(in super::super) fn text(&mut self, value: &str) -> &mut Body {
        self.sign("s");
        self.raw_u32(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self
    }

    fn signature_value(&mut self, value: &str) {
        self.bytes.push(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    pub(in super::super) fn variant(&mut self, signature: &str, value: impl FnOnce(&mut Body)) {
        self.sign("v");
        self.signature_value(signature);
        self.inside(value);
    }

    pub(in super::super) fn structure(&mut self, fields: impl FnOnce(&mut Body)) {
        self.align(8);
        self.inside(fields);
    }

    /// An array; `element` is the signature of one.
    pub(in super::super) fn array(&mut self, element: &str, elements: impl FnOnce(&mut Body)) {
        self.sign(&format!("a{element}"));
        self.raw_u32(0);
        let length_at = self.bytes.len() - 4;
        // The length does not count the padding before the first element.
        self.align(match element.as_bytes()[0] {
            b'(' | b'{' | b't' | b'x' | b'd' => 8,
            b'y' | b'g' | b'v' => 1,
            _ => 4,
        });
        let begin = self.bytes.len();
        self.inside(elements);
        let length = (self.bytes.len() - begin) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn inside(&mut self, content: impl FnOnce(&mut Body)) {
        self.depth += 1;
        content(self);
        self.depth -= 1;
    }
}

/// A message that was received.
#[derive(Debug)]
pub(in super::super) struct Message {
    pub(super) kind: Kind,
    pub(super) reply_to: Option<u32>,
    pub(super) member: Option<String>,
    pub(super) error: Option<String>,
    body: Vec<u8>,
}

/// The largest message that is believed; the specification allows 128 MiB.
const LARGEST: usize = 1 << 24;

impl Message {
    /// How many bytes follow the fixed part.
    pub(super) fn rest(head: &[u8; 16]) -> Option<usize> {
        let mut r = Reader { bytes: head, at: 4 };
        let (body, _serial, fields) = (r.u32()? as usize, r.u32()?, r.u32()? as usize);
        (head[0] == b'l' && head[3] == 1 && body <= LARGEST && fields <= LARGEST)
            .then(|| fields.next_multiple_of(8) + body)
    }

    pub(super) fn decode(head: &[u8; 16], rest: &[u8]) -> Option<Message> {
        let kind = match head[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let fields = Reader { bytes: head, at: 12 }.u32()? as usize;
        let body = rest.get(fields.next_multiple_of(8)..)?.to_vec();
        let mut out = Message { kind, reply_to: None, member: None, error: None, body };
        // What follows the fixed part begins at a multiple of 8, so that offsets in it are aligned as in the message.
        let mut r = Reader { bytes: rest.get(..fields)?, at: 0 };
        while r.at < fields {
            r.align(8);
            let code = r.byte()?;
            match r.signature()?.as_str() {
                "u" => {
                    let n = r.u32()?;
                    if code == 5 {
                        out.reply_to = Some(n);
                    }
                }
                "s" | "o" => {
                    let text = r.text()?;
                    match code {
                        3 => out.member = Some(text),
                        4 => out.error = Some(text),
                        _ => {}
                    }
                }
                "g" => drop(r.signature()?),
                _ => return None,
            }
        }
        Some(out)
    }

    /// The arguments.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Takes values out of a message; none when it is too short.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let out = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(out)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string or an object's path.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }
}

/// An answer, a refusal or a signal, as the other side sends it.
#[cfg(test)]
pub(super) fn from_the_other_side(
    kind: Kind,
    serial: u32,
    texts: &[(u8, &'static str, &str)],
    reply: Option<u32>,
    body: &Body,
) -> Vec<u8> {
    let mut fields = Body::default();
    fields.array("(yv)", |f| {
        for (code, signature, value) in texts {
            f.structure(|s| {
                s.byte(*code);
                s.variant(signature, |v| {
                    v.text(value);
                });
            });
        }
        if let Some(reply) = reply {
            f.structure(|s| {
                s.byte(5);
                s.variant("u", |v| {
                    v.u32(reply);
                });
            });
        }
    });
    message(kind, serial, &fields, body)
}
