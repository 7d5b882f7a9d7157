//! The way through a proxy, with the meaning that curl and Go give to HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

use crate::url::{self, Origin};
use base64::Engine as _;
use std::fmt;
use std::net::IpAddr;
use tare_model::{Error, Kind, Result};

/// Proxies as the environment variables of these names give them; the front reads them, not this crate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `http_proxy`: for plain HTTP.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for HTTPS, through CONNECT.
    pub https: Option<String>,
    /// `NO_PROXY`: hosts, domains, addresses, CIDR ranges, separated by commas; `*` for all.
    pub none: String,
}

impl fmt::Debug for Proxies {
    /// Without the addresses: they may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxies {{ http: {}, https: {} }}", self.http.is_some(), self.https.is_some())
    }
}

/// A proxy to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) origin: Origin,
    /// Value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl Proxies {
    /// The proxy for this target, if there is one.
    pub(crate) fn to(&self, target: &Origin) -> Result<Option<Proxy>> {
        let chosen = if target.https { &self.https } else { &self.http };
        match chosen.as_deref().map(str::trim).filter(|p| !p.is_empty()) {
            Some(p) if !target.is_loopback() && !self.exempt(target) => Proxy::parse(p).map(Some),
            _ => Ok(None),
        }
    }

    fn exempt(&self, target: &Origin) -> bool {
        let address = target.host.parse::<IpAddr>().ok();
        self.none.split(',').map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            if entry == "*" {
                return true;
            }
            if let (Some(ip), Some((net, bits))) = (address, entry.split_once('/')) {
                return in_net(ip, net, bits);
            }
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse::<u16>().ok()),
                _ => (entry.as_str(), None),
            };
            let name = name.trim_start_matches("*.").trim_start_matches(['.', '[']).trim_end_matches(']');
            port.is_none_or(|p| p == target.port)
                && (target.host == name
                    || (address.is_none() && target.host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))))
        })
    }
}

fn in_net(ip: IpAddr, net: &str, bits: &str) -> bool {
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (a, b, width) = match (ip, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || a >> (width - bits) == b >> (width - bits))
}

impl Proxy {
    fn parse(text: &str) -> Result<Proxy> {
        let bad = |kind, why: &str| {
            let shown = text.rsplit('@').next().unwrap_or_default();
            Error::new(kind, "use proxy", shown).because(why).hint("set it as http://HOST:PORT")
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme != "http" {
            return Err(bad(Kind::Unsupported, "only proxies that speak plain HTTP are supported"));
        }
        let rest = rest.trim_end_matches('/');
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let origin = url::parse(&format!("http://{host}/"))
            .and_then(|u| Origin::of(&u))
            .map_err(|_| bad(Kind::Invalid, "malformed address"))?;
        let authorization =
            user.map(|u| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(decode_percent(u))));
        Ok(Proxy { origin, authorization })
    }
}

fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(b)) => {
                out.push(b);
                i += 3;
            }
            (b, _) => {
                out.push(b);
                i += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&url::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn exemptions_are_hosts_domains_addresses_and_ranges() {
        let p = Proxies {
            https: Some("http://u:p%40w@proxy:3128".into()),
            http: None,
            none: ".corp.example, exact.example,10.0.0.0/8,fd00::/8,ported.example:5000".into(),
        };
        for (target, through) in [
            ("https://a.corp.example/", false),
            ("https://notcorp.example/", true),
            ("https://exact.example/", false),
            ("https://sub.exact.example/", false),
            ("https://10.9.9.9/", false),
            ("https://11.0.0.1/", true),
            ("https://[fd00::1]/", false),
            ("https://ported.example:5000/", false),
            ("https://ported.example/", true),
            ("https://127.0.0.1/", false),
            ("http://other.example/", false),
        ] {
            assert_eq!(p.to(&origin(target)).unwrap().is_some(), through, "{target}");
        }
        let proxy = p.to(&origin("https://x/")).unwrap().unwrap();
        assert_eq!(proxy.origin.to_string(), "proxy:3128");
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dTpwQHc="));
        let socks = Proxies { https: Some("socks5://u:secret@h:1".into()), ..Proxies::default() };
        let error = socks.to(&origin("https://x/")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(!format!("{error:?}").contains("secret"));
    }
}
