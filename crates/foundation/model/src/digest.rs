//! Content digests: `sha256:` and 64 lower-case hexadecimal digits (OCI image-spec, descriptor.md#digests).

use crate::{Error, Kind};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest. Always well-formed, so it is safe as a file name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// From the 32 raw bytes of a SHA-256 sum.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// 64 lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut s, b| {
            write!(s, "{b:02x}").expect("writing to a string cannot fail");
            s
        })
    }

    /// The first 12 hexadecimal digits, as people type them.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// From 64 hexadecimal digits without the algorithm.
    ///
    /// # Errors
    /// `Kind::Invalid` unless the text is exactly 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, Error> {
        let bad =
            || Error::new(Kind::Invalid, "parse digest", shown(hex)).because("not 64 lower-case hexadecimal digits");
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(bad());
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Digest(out))
    }

    /// The chain ID of a stack of layers, bottom first (OCI image-spec, config.md#layer-chainid); `None` for no layers.
    pub fn chain(diff_ids: &[Digest]) -> Option<Digest> {
        let (first, rest) = diff_ids.split_first()?;
        Some(rest.iter().fold(*first, |chain, diff| Digest::of(format!("{chain} {diff}").as_bytes())))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What somebody gave as a digest, for messages: quoted, and not longer than the longest real one.
fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(150).map_or(text, |(i, _)| &text[..i]);
    format!("{cut:?}{}", if cut.len() < text.len() { "…" } else { "" })
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        match s.split_once(':') {
            Some(("sha256", hex)) => Digest::from_hex(hex),
            Some((algorithm, _)) => Err(Error::new(Kind::Unsupported, "parse digest", shown(s))
                .because(format!("algorithm {} is not supported", shown(algorithm)))
                .hint("use a sha256 digest")),
            None => Err(Error::new(Kind::Invalid, "parse digest", shown(s)).because("expected sha256:HEX")),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_digests_parse() {
        let d = Digest::of(b"");
        assert_eq!(d.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
        for bad in ["", "sha256:", "sha256:../x", "sha256:E3B0", "md5:00", &format!("sha256:{}G", &d.hex()[..63])] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn chain_id_of_one_layer_is_its_diff_id() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(Digest::chain(&[a]), Some(a));
        assert_eq!(Digest::chain(&[a, b]), Some(Digest::of(format!("{a} {b}").as_bytes())));
        assert_eq!(Digest::chain(&[]), None);
    }
}
