//! PAX extended header records: `LENGTH KEY=VALUE\n`.

use crate::entry::{Entry, Time};
use crate::layer::show;
use tare_model::{Error, Kind, Result};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the extended headers say about the next entry; `None` where they say nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    /// In the order of the records; of several with one name the last counts.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// GNU's three ways of describing a sparse file in PAX records.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) real_size: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// Offsets and lengths in turn: versions 0.0 (a record each) and 0.1 (one list).
    pub(super) numbers: Option<Vec<u64>>,
}

impl Records {
    /// Takes the records of one extended header on top of those known already.
    pub(super) fn read(&mut self, mut text: &[u8], extents: usize) -> Result<()> {
        while !text.is_empty() {
            let (key, value, rest) = split_record(text)?;
            self.set(key, value, extents)?;
            text = rest;
        }
        Ok(())
    }

    /// The records of a global header count for all entries that follow. A name, a size, a map or
    /// attributes for all of them are senseless, so those are not taken.
    pub(super) fn read_global(&mut self, text: &[u8], extents: usize) -> Result<()> {
        self.read(text, extents)?;
        *self = Records { uid: self.uid, gid: self.gid, mtime: self.mtime, ..Records::default() };
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], extents: usize) -> Result<()> {
        // An empty value takes a record back.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = || if value.is_empty() { Ok(None) } else { decimal(key, value).map(Some) };
        let id = || -> Result<Option<i64>> {
            number()?.map(|n| i64::try_from(n).map_err(|_| bad(key, "a number beyond 64 bits"))).transpose()
        };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = id()?,
            b"gid" => self.gid = id()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"GNU.sparse.major" => self.sparse.major = number()?,
            b"GNU.sparse.minor" => self.sparse.minor = number()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let n = decimal(key, value)?;
                let list = self.sparse.numbers.get_or_insert_default();
                if list.len().is_multiple_of(2) != (key == b"GNU.sparse.offset") {
                    return Err(bad(key, "offsets and lengths do not alternate"));
                }
                if list.len() >= extents.saturating_mul(2) {
                    return Err(bad(key, "too many pieces"));
                }
                list.push(n);
            }
            b"GNU.sparse.map" => {
                let list = value
                    .split(|&b| b == b',')
                    .filter(|n| !n.is_empty())
                    .map(|n| decimal(key, n))
                    .take(extents.saturating_mul(2) + 1)
                    .collect::<Result<Vec<_>>>()?;
                self.sparse.numbers = Some(list);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    if name.is_empty() || name.contains(&0) {
                        return Err(bad(key, "an extended attribute without a valid name"));
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// One record and what follows it.
fn split_record(text: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let malformed = || Error::new(Kind::Invalid, "read PAX header", "").because("a malformed record");
    let space = text.iter().take(20).position(|&b| b == b' ').ok_or_else(malformed)?;
    let length = usize::try_from(decimal(b"length", &text[..space])?).map_err(|_| malformed())?;
    if length < space + 3 || length > text.len() || text[length - 1] != b'\n' {
        return Err(malformed());
    }
    let record = &text[space + 1..length - 1];
    let equals = record.iter().position(|&b| b == b'=').ok_or_else(malformed)?;
    if equals == 0 {
        return Err(malformed());
    }
    Ok((&record[..equals], &record[equals + 1..], &text[length..]))
}

pub(super) fn decimal(key: &[u8], text: &[u8]) -> Result<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(bad(key, "not a decimal number"));
    }
    text.iter()
        .try_fold(0u64, |n, &b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))
        .ok_or_else(|| bad(key, "a number beyond 64 bits"))
}

/// Decimal seconds, with a sign and a fraction.
fn time(text: &[u8]) -> Result<Time> {
    let wrong = || bad(b"mtime", "not a time");
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    if (whole.is_empty() && fraction.is_empty()) || !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let whole = if whole.is_empty() { 0 } else { decimal(b"mtime", whole)? };
    let whole = i64::try_from(whole).map_err(|_| wrong())?;
    // More than nine digits of fraction are cut, as the kernel keeps no more.
    let nanos = fraction.iter().chain(b"000000000").take(9).fold(0u32, |n, &b| n * 10 + u32::from(b - b'0'));
    Ok(match (negative, nanos) {
        (false, _) => Time { secs: whole, nanos },
        (true, 0) => Time { secs: -whole, nanos: 0 },
        (true, _) => Time { secs: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn bad(key: &[u8], why: &str) -> Error {
    Error::new(Kind::Invalid, "read PAX record", show(key)).because(why)
}

/// Collects the records that an entry needs beyond its header.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Encoder {
    pub(super) fn add(&mut self, key: &[u8], value: impl Into<Vec<u8>>) {
        self.records.push((key.to_vec(), value.into()));
    }

    pub(super) fn add_time(&mut self, time: Time) {
        let Time { secs, nanos } = time;
        // Below zero the text counts down: -1.5 is one second and a half before 1970.
        let (sign, secs, nanos) = match (secs < 0, nanos) {
            (false, _) => ("", secs.unsigned_abs(), nanos),
            (true, 0) => ("-", secs.unsigned_abs(), 0),
            (true, _) => ("-", secs.unsigned_abs() - 1, 1_000_000_000 - nanos),
        };
        let text = match nanos {
            0 => format!("{sign}{secs}"),
            _ => format!("{sign}{secs}.{nanos:09}").trim_end_matches('0').to_owned(),
        };
        self.add(b"mtime", text);
    }

    pub(super) fn add_xattrs(&mut self, entry: &Entry) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(Error::new(Kind::Unsupported, "write entry", show(&entry.path))
                    .because(format!("the name {} of an extended attribute cannot be written in tar", show(name))));
            }
            self.add(&[XATTR, name].concat(), value.clone());
        }
        Ok(())
    }

    /// The records sorted by key; empty when there are none.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.records.sort();
        let mut out = Vec::new();
        for (key, value) in self.records {
            let body = key.len() + value.len() + 3;
            // The length counts its own digits.
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            out.extend_from_slice(format!("{length} ").as_bytes());
            out.extend_from_slice(&key);
            out.push(b'=');
            out.extend_from_slice(&value);
            out.push(b'\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_as_written() {
        for len in [0, 1, 80, 85, 86, 87, 88, 89, 90, 95, 985, 990, 995, 5000] {
            let mut e = Encoder::default();
            e.add(b"path", b"p".repeat(len));
            let text = e.finish();
            let mut r = Records::default();
            r.read(&text, 10).unwrap();
            assert_eq!(r.path.unwrap_or_default().len(), len);
        }
    }

    #[test]
    fn times_of_both_signs() {
        for (text, secs, nanos) in
            [("1.5", 1, 500_000_000), ("-1.5", -2, 500_000_000), ("-3", -3, 0), (".25", 0, 250_000_000), ("7", 7, 0)]
        {
            let t = time(text.as_bytes()).unwrap();
            assert_eq!(t, Time { secs, nanos }, "{text}");
            let mut e = Encoder::default();
            e.add_time(t);
            let mut r = Records::default();
            r.read(&e.finish(), 0).unwrap();
            assert_eq!(r.mtime, Some(t));
        }
        assert_eq!(time(b"1.1234567899").unwrap().nanos, 123_456_789);
        for bad in ["", "-", ".", "1.x", "x", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            ["5 a=\n", "x a=b\n", "100 path=x\n", "6 ab=c\n", "9 path=xy", "7 =abc\n", "99999999999999999999999 a=b\n"]
        {
            assert!(Records::default().read(bad.as_bytes(), 10).is_err() || bad == "5 a=\n", "{bad}");
        }
    }
}
