//! The configuration file: `/etc/tare/config.toml`, or the one that `TARE_CONFIG` names. What it may hold is described in
//! docs/guide/configuration.md. A key that nobody knows is an error: a setting that does nothing hides a mistake.

use crate::environment;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;
use tare_engine::NetworkDefaults;
use tare_engine::request::Dns;
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};

/// Where the file lies unless told otherwise.
const PLACE: &str = "/etc/tare/config.toml";

/// All settings; what the file leaves out is as if there were none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// `[network]`.
    pub(crate) network: NetworkSettings,
}

/// Defaults of networks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkSettings {
    /// Where ports are published that name no address, one or several; everywhere if missing.
    pub(crate) publish: Addresses,
    /// What subnets are cut from; the built-in pool if missing.
    pub(crate) pools: Vec<IpNet>,
    /// Resolvers of containers that name none; the host's if missing.
    pub(crate) dns: Vec<IpAddr>,
    /// Search domains of containers that name none.
    pub(crate) dns_search: Vec<String>,
    /// Options of resolv.conf for containers that name none.
    pub(crate) dns_options: Vec<String>,
}

impl NetworkSettings {
    /// As the engine takes them.
    pub(crate) fn defaults(self) -> NetworkDefaults {
        NetworkDefaults {
            publish: self.publish.0,
            pools: self.pools,
            dns: Dns { servers: self.dns, search: self.dns_search, options: self.dns_options },
        }
    }
}

/// One address, or a list of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Addresses(pub(crate) Vec<IpAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Addresses;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an IP address or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Addresses, E> {
                let address = text.parse().map_err(|_| E::custom(format!("{text:?} is no IP address")))?;
                Ok(Addresses(vec![address]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut all = Vec::new();
                while let Some(address) = list.next_element()? {
                    all.push(address);
                }
                Ok(Addresses(all))
            }
        }
        from.deserialize_any(Either)
    }
}

/// Reads the file. A missing one is no failure, unless `TARE_CONFIG` names it.
///
/// # Errors
/// `Kind::Invalid`, naming the file and its line; what reading it fails with.
pub(crate) fn read() -> Result<Settings> {
    let named = environment::non_empty("TARE_CONFIG");
    let path = named.as_deref().unwrap_or(PLACE);
    match std::fs::read_to_string(Path::new(path)) {
        Ok(text) => parse(&text, path),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Understands a file's text; `path` is for messages.
fn parse(text: &str, path: &str) -> Result<Settings> {
    let wrong = |line: usize, why: &str| Error::new(Kind::Invalid, "read", format!("{path} line {line}")).because(why);
    let settings: Settings = toml::from_str(text).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        wrong(line, &e.message().replace('`', "\""))
    })?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Settings> {
        parse(text, "/c.toml")
    }

    #[test]
    fn every_key_is_understood() {
        assert_eq!(of("").unwrap(), Settings::default());
        let s = of("# comment\n[network]\npublish = \"127.0.0.1\"\npools = [\"10.64.0.0/12\", \"fd00:1::/48\"]\n\
                    dns = [\"9.9.9.9\", \"2620:fe::fe\"]\ndns_search = [\"a.test\"]\ndns_options = [\"ndots:2\"]\n")
        .unwrap()
        .network;
        assert_eq!(s.publish.0, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!((s.pools.len(), s.dns.len()), (2, 2));
        assert_eq!(
            (s.dns_search.as_slice(), s.dns_options.as_slice()),
            (&["a.test".into()][..], &["ndots:2".into()][..])
        );
        let s = of("[network]\npublish = [\"127.0.0.1\", \"::1\"]").unwrap();
        assert_eq!(s.network.publish.0.len(), 2);
    }

    #[test]
    fn mistakes_name_the_file_and_the_line() {
        for (text, line, why) in [
            ("[network]\n\npublich = \"127.0.0.1\"\n", 3, "unknown field \"publich\", expected one of \"publish\""),
            ("[storage]\nx = 1\n", 1, "unknown field \"storage\""),
            ("[network]\npublish = \"localhost\"\n", 2, "\"localhost\" is no IP address"),
            ("[network]\npublish = 5\n", 2, "expected an IP address or a list of them"),
            // Of a list that fills several lines it is the first.
            ("[network]\npools = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0\"]\n", 2, "parse network \"10.0.0.0\""),
            ("[network]\ndns = [\"dns.example\"]\n", 2, "IP address"),
            ("[network]\npublish = \"127.0.0.1\"\npublish = \"::1\"\n", 3, "duplicate"),
            ("network = \n", 1, ""),
        ] {
            let e = of(text).unwrap_err().to_string();
            assert!(e.starts_with(&format!("read /c.toml line {line}: ")) && e.contains(why), "{text:?}: {e}");
        }
    }
}
