//! Addresses on the wire: where a registry listens, what counts as the same place, and where a `Location` leads.

use hyper::Uri;
use std::fmt;
use std::net::IpAddr;
use tare_model::{Error, Kind, Reference, Result};

/// Scheme, host and port: what may see a credential (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// Lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` address.
    pub(crate) fn of(uri: &Uri) -> Result<Origin> {
        let bad = |why: &str| Error::new(Kind::Invalid, "parse address", bare(uri)).because(why);
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("expected http:// or https://")),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| bad("there is no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Origin { https, host, port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }) })
    }

    /// The registry's API for images named `HOST/…`: plain HTTP on loopback, HTTPS otherwise; docker.io's API lives on
    /// another host.
    pub(crate) fn of_registry(reference: &Reference) -> Result<Origin> {
        let authority = match reference.host() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let https: Origin = Origin::of(&parse(&format!("https://{authority}/"))?)?;
        if !is_loopback(&https.host) {
            return Ok(https);
        }
        Origin::of(&parse(&format!("http://{authority}/"))?)
    }

    /// Whether this is a loopback address, where plain HTTP is private.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// `http(s)://HOST[:PORT]`, the port only if it is not the scheme's own.
    pub(crate) fn base(&self) -> String {
        let (scheme, port) = if self.https { ("https", 443) } else { ("http", 80) };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == port { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    /// `HOST:PORT`, always with the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Parses an absolute address.
pub(crate) fn parse(text: &str) -> Result<Uri> {
    text.parse().map_err(|e| Error::new(Kind::Invalid, "parse address", format!("{text:?}")).because(e))
}

/// Where a `Location` header leads, seen from the address that sent it (RFC 3986 §5.2, without fragments).
pub(crate) fn resolve(base: &Uri, location: &str) -> Result<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let origin = Origin::of(base)?;
    if location.contains("://") && !location.starts_with('/') {
        return parse(&escape_unsafe(location));
    }
    let text = if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", if origin.https { "https" } else { "http" })
    } else if location.starts_with('/') {
        format!("{}{location}", origin.base())
    } else if location.starts_with('?') || location.is_empty() {
        format!("{}{}{location}", origin.base(), base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(d, _)| d);
        format!("{}{directory}/{location}", origin.base())
    };
    parse(&escape_unsafe(&text))
}

/// The address with `key=value` added to its query.
pub(crate) fn with_query(uri: &Uri, key: &str, value: &str) -> Result<Uri> {
    let joint = if uri.query().is_some() { '&' } else { '?' };
    parse(&format!("{uri}{joint}{key}={}", percent(value)))
}

/// The address without its query, which may hold a signature that grants access: fit for an error message.
pub(crate) fn bare(uri: &Uri) -> String {
    let text = uri.to_string();
    text.split('?').next().unwrap_or_default().to_owned()
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn percent(text: &str) -> String {
    encode(text, |b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// Servers send characters that may not stand in an address; encode these and leave what is encoded already.
fn escape_unsafe(text: &str) -> String {
    encode(text, |b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b))
}

fn encode(text: &str, keep: impl Fn(u8) -> bool) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if keep(b) {
            out.push(char::from(b));
        } else {
            write!(out, "%{b:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (name, expected) in [
            ("debian", "https://registry-1.docker.io"),
            ("localhost/x", "http://localhost"),
            ("localhost:5000/x", "http://localhost:5000"),
            ("127.3.2.1:5000/x", "http://127.3.2.1:5000"),
            ("[::1]:5000/x", "http://[::1]:5000"),
            ("192.168.0.1:5000/x", "https://192.168.0.1:5000"),
            ("127.0.0.1.example.com/x", "https://127.0.0.1.example.com"),
            ("registry.example.com:443/x", "https://registry.example.com"),
        ] {
            assert_eq!(Origin::of_registry(&name.parse().unwrap()).unwrap().base(), expected, "{name}");
        }
    }

    #[test]
    fn locations_are_resolved_against_their_sender() {
        let base = parse("https://r.example:8443/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, expected) in [
            ("https://cdn.example/b?sig=%2F", "https://cdn.example/b?sig=%2F"),
            ("//cdn.example/b", "https://cdn.example/b"),
            ("/v2/b?state=http://x", "https://r.example:8443/v2/b?state=http://x"),
            ("id?s=1", "https://r.example:8443/v2/a/blobs/uploads/id?s=1"),
            ("?s=1", "https://r.example:8443/v2/a/blobs/uploads/?s=1"),
            ("/a b|c", "https://r.example:8443/a%20b%7Cc"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), expected, "{location}");
        }
        assert!(Origin::of(&resolve(&base, "ftp://x/y").unwrap()).is_err());
    }

    #[test]
    fn messages_show_no_signatures() {
        assert_eq!(bare(&parse("https://h/p?X-Amz-Signature=s").unwrap()), "https://h/p");
    }
}
