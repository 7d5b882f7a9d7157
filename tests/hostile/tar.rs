//! Tar archives, with every lie that a header can tell.

use std::fmt::Write as _;

/// An archive being made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// A header block; the checksum comes when it is added.
#[derive(Debug, Clone)]
pub(crate) struct Header(pub(crate) [u8; 512]);

impl Header {
    /// A GNU header (so that long names and sparse maps may follow) of this type.
    pub(crate) fn new(name: &[u8], kind: u8, size: u64) -> Header {
        let mut header = Header([0; 512]);
        header.put(0, &name[..name.len().min(100)]);
        header.put(100, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
        header.put(108, b"0000000\0").put(116, b"0000000\0").put(136, b"00000000000\0");
        header.size(size).put(257, b"ustar  \0");
        header.0[156] = kind;
        header
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Header {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// In base 256, which holds any size.
    pub(crate) fn size(&mut self, size: u64) -> &mut Header {
        self.put(124, &[0x80, 0, 0, 0]).put(128, &size.to_be_bytes())
    }

    pub(crate) fn link(&mut self, target: &[u8]) -> &mut Header {
        self.put(157, &target[..target.len().min(100)])
    }

    pub(crate) fn seal(&mut self) -> &mut Header {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|b| u32::from(*b)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes())
    }
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }

    /// A header and what stands behind it, padded.
    pub(crate) fn raw(mut self, header: &mut Header, content: &[u8]) -> Tar {
        self.0.extend_from_slice(&header.seal().0);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Any entry; long names and targets in GNU's way.
    pub(crate) fn entry(mut self, name: &[u8], kind: u8, target: &[u8], content: &[u8]) -> Tar {
        for (text, kind) in [(target, b'K'), (name, b'L')] {
            if text.len() > 100 {
                self = self.long(kind, text);
            }
        }
        let mut header = Header::new(name, kind, content.len() as u64);
        self.raw(header.link(target), content)
    }

    pub(crate) fn long(self, kind: u8, text: &[u8]) -> Tar {
        self.raw(&mut Header::new(b"././@LongLink", kind, text.len() as u64 + 1), &[text, b"\0"].concat())
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Tar {
        self.entry(name.as_bytes(), b'0', b"", content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Tar {
        self.entry(name.as_bytes(), b'5', b"", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(name.as_bytes(), b'2', target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Tar {
        self.entry(name.as_bytes(), b'1', target.as_bytes(), b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Tar {
        self.entry(name.as_bytes(), b'6', b"", b"")
    }

    pub(crate) fn device(self, name: &str, kind: u8, major: u32, minor: u32) -> Tar {
        let mut header = Header::new(name.as_bytes(), kind, 0);
        header.put(329, format!("{major:07o}\0").as_bytes()).put(337, format!("{minor:07o}\0").as_bytes());
        self.raw(&mut header, b"")
    }

    /// Extended records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.raw(&mut Header::new(b"PaxHeaders/x", b'x', text.len() as u64), &text)
    }

    /// With the two blocks of zeros at the end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// One PAX record with its length.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    let mut front = String::new();
    write!(front, "{length} {key}=").unwrap();
    [front.as_bytes(), value, b"\n"].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
