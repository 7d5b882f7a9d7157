//! Image references as the ecosystem writes them: `debian` means `docker.io/library/debian:latest`.
//!
//! Grammar: distribution/reference. `[HOST[:PORT]/]NAME[/NAME…][:TAG][@DIGEST]`; the first component is a host if it
//! contains a dot or a colon or is `localhost`.

use crate::{Digest, Error, Kind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const DEFAULT_HOST: &str = "docker.io";

/// A complete reference: host, repository, and a tag or a digest (or both).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry, e.g. `docker.io`, `127.0.0.1:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path within the registry, e.g. `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given, `None` if only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `HOST/REPOSITORY` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The name as people write it: without `docker.io/library/` and without tag or digest.
    pub fn familiar_name(&self) -> String {
        let short = self.repository.strip_prefix("library/").unwrap_or(&self.repository);
        // Without its host, `docker.io/a.b/c` would be on another.
        match short.split_once('/') {
            _ if self.host != DEFAULT_HOST => self.name(),
            Some((first, _)) if is_host(first) => self.name(),
            // `docker.io/library/a/b` is not `docker.io/a/b`.
            Some(_) => self.repository.clone(),
            None => short.to_owned(),
        }
    }

    /// The reference as people write it: familiar name and `:TAG` or `@DIGEST`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same repository under another tag, without digest.
    ///
    /// # Errors
    /// `Kind::Invalid` if the tag is malformed.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, Error> {
        check_tag(tag, tag)?;
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at this digest, without tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_suffix(&self, mut s: String) -> String {
        if let Some(tag) = &self.tag {
            s.push(':');
            s.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            s.push('@');
            s.push_str(&digest.to_string());
        }
        s
    }
}

impl FromStr for Reference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::new(Kind::Invalid, "parse image reference", format!("{text:?}")).because(why);
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(bad("64 hexadecimal digits are an image ID, not a name"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[slash..].rfind(':') {
            Some(i) => (&rest[..slash + i], Some(&rest[slash + i + 1..])),
            None => (rest, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first.to_owned(), path.to_owned()),
            _ => (DEFAULT_HOST.to_owned(), name.to_owned()),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST.to_owned() } else { host };
        let repository = if host == DEFAULT_HOST && !path.contains('/') { format!("library/{path}") } else { path };
        check_host(&host).map_err(bad)?;
        if repository.len() > 255 {
            return Err(bad("the name is longer than 255 characters"));
        }
        if has_upper(&repository) {
            return Err(bad("repository names are lower-case").hint(format!("try {}", text.to_lowercase())));
        }
        if !repository.split('/').all(is_component) {
            return Err(bad("expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => {
                check_tag(tag, text)?;
                Some(tag.to_owned())
            }
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Reference { host, repository, tag, digest })
    }
}

/// Whether the first component of a name is a host.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || has_upper(first)
}

fn has_upper(s: &str) -> bool {
    s.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (v6, port) = rest.split_once(']').ok_or("the registry's address is malformed")?;
            v6.parse::<std::net::Ipv6Addr>().map_err(|_| "the registry's address is malformed")?;
            ("", port.strip_prefix(':').or(if port.is_empty() { None } else { Some("x") }))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err() || p.starts_with('+')) {
        return Err("the registry's port is not a number up to 65535");
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.starts_with('[') || name.split('.').all(label) { Ok(()) } else { Err("the registry's name is malformed") }
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(s: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    s.starts_with(alnum)
        && s.ends_with(alnum)
        && s.split(alnum)
            .filter(|sep| !sep.is_empty())
            .all(|sep| matches!(sep, "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str, whole: &str) -> Result<(), Error> {
    let ok = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, "parse image reference", format!("{whole:?}"))
        .because("a tag is 1 to 128 letters, digits, _ . - and does not begin with . or -"))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        for (typed, whole, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("127.0.0.1:5000/x/y:t", "127.0.0.1:5000/x/y:t", "127.0.0.1:5000/x/y:t"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ] {
            let r: Reference = typed.parse().unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (whole, familiar), "{typed}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let d = Digest::of(b"x");
        let r: Reference = format!("debian@{d}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (None, Some(d)));
        let r: Reference = format!("debian:12@{d}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (Some("12"), Some(d)));
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in [
            "",
            ":",
            "a//b",
            "/a",
            "a/",
            "Debian",
            "a:",
            "a:-x",
            "a@sha256:00",
            "a b",
            "a..b",
            "h:99999/x",
            "h:+80/x",
            "-a",
            "a_",
            "[::g]/x",
            "[a.b/x",
            "[a b.c\u{1b}/x",
            "../x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert_eq!("Debian".parse::<Reference>().unwrap_err().first_hint(), Some("try debian"));
    }
}
