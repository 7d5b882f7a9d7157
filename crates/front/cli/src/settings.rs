//! The configuration file: `/etc/tare/config.toml`, or the one that `TARE_CONFIG` names. What it may hold is described in
//! docs/guide/configuration.md. A key that nobody knows is an error: a setting that does nothing hides a mistake.

use crate::environment;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;
use tare_engine::request::Dns;
use tare_engine::{NetworkDefaults, Snapshotter};
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};
use tare_store::Limits;
use tare_store::layer::UnpackLimits;

/// Where the file lies unless told otherwise.
const PLACE: &str = "/etc/tare/config.toml";

/// All settings; what the file leaves out is as if there were none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// `[network]`.
    pub(crate) network: NetworkSettings,
    /// `[store]`.
    pub(crate) store: StoreSettings,
    /// `[limits]`.
    pub(crate) limits: LimitSettings,
}

/// How content is kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoreSettings {
    /// Whether the blobs that layers came as are kept; they are if it is missing.
    pub(crate) keep_blobs: Option<bool>,
    /// What new layers are unpacked as; what is best on this host if missing.
    pub(crate) snapshotter: Option<Named>,
}

/// A snapshotter by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Named(pub(crate) Snapshotter);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map(Named)
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is none of auto, erofs, overlay")))
    }
}

/// What images may cost; the store's own limits where a key is missing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LimitSettings {
    /// Bytes of a layer's archive, unpacked, and of its files with their holes.
    layer_bytes: Option<Size>,
    /// Bytes that one byte of a compressed layer may become.
    layer_ratio: Option<u64>,
    /// From how many bytes on that counts.
    layer_ratio_from: Option<Size>,
    /// Entries of a layer.
    layer_entries: Option<u64>,
    /// Bytes of memory for a layer's names and attributes.
    layer_metadata: Option<Size>,
    /// Layers of an image.
    layers: Option<usize>,
    /// Bytes of an image's layers, or of an archive.
    image_bytes: Option<Size>,
    /// Bytes of a manifest or index.
    manifest_bytes: Option<Size>,
    /// Bytes of an image's config.
    config_bytes: Option<Size>,
}

impl LimitSettings {
    /// As the store takes them.
    pub(crate) fn limits(&self) -> Limits {
        let usual = Limits::default();
        let bytes = |set: Option<Size>, usual: u64| set.map_or(usual, |size| size.0);
        Limits {
            layer: UnpackLimits {
                total: bytes(self.layer_bytes, usual.layer.total),
                ratio: self.layer_ratio.unwrap_or(usual.layer.ratio).max(1),
                ratio_from: bytes(self.layer_ratio_from, usual.layer.ratio_from),
                entries: self.layer_entries.unwrap_or(usual.layer.entries),
                metadata: bytes(self.layer_metadata, usual.layer.metadata),
                ..usual.layer
            },
            layers: self.layers.unwrap_or(usual.layers),
            image_bytes: bytes(self.image_bytes, usual.image_bytes),
            manifest_bytes: bytes(self.manifest_bytes, usual.manifest_bytes),
            config_bytes: bytes(self.config_bytes, usual.config_bytes),
        }
    }
}

/// Bytes: a number, or text with a unit such as `4m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Size;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of bytes, or a text such as \"512m\" or \"20g\"")
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom(format!("{bytes} is less than nothing")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                tare_model::size::parse(text).map(Size).map_err(E::custom)
            }
        }
        from.deserialize_any(Either)
    }
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
        let s = of(
            "[limits]\nlayer-bytes = \"2g\"\nlayer-ratio = 50\nlayer-ratio-from = \"8m\"\nlayer-entries = 1000\nlayer-metadata = \"1m\"\n\
                    layers = 3\nimage-bytes = 4096\nmanifest-bytes = \"64k\"\nconfig-bytes = 9\n",
        );
        let limits = s.unwrap().limits.limits();
        let layer = limits.layer;
        assert_eq!((layer.total, layer.ratio, layer.entries, layer.metadata), (2 << 30, 50, 1000, 1 << 20));
        assert_eq!((layer.ratio_from, limits.layers, limits.image_bytes), (8 << 20, 3, 4096));
        assert_eq!((limits.manifest_bytes, limits.config_bytes), (64 << 10, 9));
        assert_eq!(Settings::default().limits.limits(), Limits::default());
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
            ("[limits]\nlayer-bytes = -1\n", 2, "-1 is less than nothing"),
            ("[limits]\nlayer-bytes = \"much\"\n", 2, "expected a number with an optional unit"),
            ("[limits]\nlayer_bytes = 1\n", 2, "unknown field \"layer_bytes\""),
            ("network = \n", 1, ""),
        ] {
            let e = of(text).unwrap_err().to_string();
            assert!(e.starts_with(&format!("read /c.toml line {line}: ")) && e.contains(why), "{text:?}: {e}");
        }
    }
}
