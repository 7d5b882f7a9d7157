//! OCI image documents: descriptors, manifests, indexes, image configs (image-spec 1.1), and docker's older media types.

use crate::{Digest, Error, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Media types that tare reads or writes.
pub mod media {
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, uncompressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}

/// How a layer's tar stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Compression {
    /// The compression that a layer's media type announces.
    ///
    /// # Errors
    /// `Kind::Unsupported` for encrypted, non-distributable and unknown layer types.
    pub fn of_media_type(media_type: &str) -> Result<Self, Error> {
        let refuse = |why: &str, hint: &str| {
            Err(Error::new(Kind::Unsupported, "read layer", media_type).because(why).hint(hint))
        };
        match media_type {
            media::LAYER | media::DOCKER_LAYER => Ok(Compression::None),
            media::LAYER_GZIP | media::DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
            media::LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => Ok(Compression::Zstd),
            t if t.ends_with("+encrypted") => refuse(
                "encrypted layers are not supported",
                "have it decrypted first: skopeo copy --decryption-key KEY docker://IMAGE oci:DIRECTORY; tare load -i DIRECTORY",
            ),
            t if t.contains("nondistributable") || t.contains(".foreign.") => refuse(
                "non-distributable (foreign) layers are not supported",
                "ask whoever made it for an image whose layers may be distributed",
            ),
            _ => refuse("unknown media type of a layer", "it may be an artifact that is no image of a container"),
        }
    }

    /// The compression that the first bytes of a stream show.
    pub fn of_magic(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The OCI media type of a layer compressed this way.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Compression::None => media::LAYER,
            Compression::Gzip => media::LAYER_GZIP,
            Compression::Zstd => media::LAYER_ZSTD,
        }
    }
}

/// A typed, sized, digested pointer to content (descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Further places to fetch it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact's type, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// Operating system and processor that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Go's GOARCH: `amd64`, `arm64`, …
    pub architecture: String,
    /// Go's GOOS: `linux`.
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Only used by Windows.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    /// The platform that this binary was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8".to_owned())),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant, os_version: None }
    }

    /// Whether an image for `self` runs on `host`: same system and processor, and no other variant asked for.
    pub fn runs_on(&self, host: &Platform) -> bool {
        self.os == host.os
            && self.architecture == host.architecture
            && (self.variant.is_none() || host.variant.is_none() || self.variant == host.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(v) = &self.variant {
            write!(f, "/{v}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Platform {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let mut parts = s.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(arch), variant, None) if !os.is_empty() && !arch.is_empty() => Ok(Platform {
                architecture: match arch {
                    "x86_64" | "x86-64" => "amd64",
                    "aarch64" => "arm64",
                    a => a,
                }
                .to_owned(),
                os: os.to_owned(),
                variant: variant.map(str::to_owned),
                os_version: None,
            }),
            _ => Err(Error::new(Kind::Invalid, "parse platform", format!("{s:?}"))
                .because("expected OS/ARCH[/VARIANT]")
                .hint("for example linux/amd64")),
        }
    }
}

/// An image manifest: one config and its layers, bottom first (manifest.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`media::MANIFEST`] or docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// Layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free-form annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index: manifests for several platforms (image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`media::INDEX`] or docker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// Free-form annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The first entry that runs on `host`.
    pub fn choose(&self, host: &Platform) -> Option<&Descriptor> {
        let runs = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.runs_on(host));
        let exact = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.variant == host.variant);
        let fit = || self.manifests.iter().filter(runs);
        fit().find(exact).or_else(|| fit().next()).or(match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        })
    }
}

/// What a document under a manifest's digest turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on its way to be taken apart")]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Manifest),
    /// Several, by platform.
    Index(Index),
}

impl ManifestOrIndex {
    /// Parses a document and refuses one that could be read both ways (CVE-2021-41190).
    ///
    /// # Errors
    /// `Kind::Invalid` for malformed or ambiguous documents, `Kind::Unsupported` for docker's schema 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::new(Kind::Invalid, "parse manifest", "").because(why);
        let shape: Shape = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if shape.schema_version == Some(1) {
            return Err(Error::new(Kind::Unsupported, "parse manifest", "")
                .because("docker's manifest schema 1 is obsolete")
                .hint("push the image again with a current tool"));
        }
        if let Some(other) = shape.schema_version.filter(|v| *v != 2) {
            return Err(bad(format!("its schema version is {other}, not 2")));
        }
        let says = shape.media_type.as_deref();
        let says_index = matches!(says, Some(media::INDEX | media::DOCKER_INDEX));
        let says_manifest = matches!(says, Some(media::MANIFEST | media::DOCKER_MANIFEST));
        match (shape.layers || shape.config, shape.manifests) {
            (true, true) => Err(bad("the document is both a manifest and an index".into())),
            (true, false) if says_index => Err(bad("the document says index and holds layers".into())),
            (false, true) if says_manifest => Err(bad("the document says manifest and holds manifests".into())),
            (true | false, _) if says.is_some() && !says_index && !says_manifest => {
                Err(bad(format!("its media type {:?} is no image's", says.unwrap_or_default())))
            }
            (true, false) => {
                serde_json::from_slice(bytes).map(ManifestOrIndex::Manifest).map_err(|e| bad(e.to_string()))
            }
            (false, true) => serde_json::from_slice(bytes).map(ManifestOrIndex::Index).map_err(|e| bad(e.to_string())),
            (false, false) => Err(bad("the document is neither a manifest nor an index".into())),
        }
    }

    /// The media type on which its announcement, what it says itself, and its shape agree (CVE-2021-41190).
    ///
    /// # Errors
    /// `Kind::Invalid` if they do not.
    pub fn media_type(&self, announced: Option<&str>) -> Result<String, Error> {
        let (own, default, allowed) = match self {
            ManifestOrIndex::Manifest(m) => {
                (m.media_type.as_deref(), media::MANIFEST, [media::MANIFEST, media::DOCKER_MANIFEST])
            }
            ManifestOrIndex::Index(i) => (i.media_type.as_deref(), media::INDEX, [media::INDEX, media::DOCKER_INDEX]),
        };
        let bad = |why: String| Err(Error::new(Kind::Invalid, "read manifest", "").because(why));
        let chosen = announced.or(own).unwrap_or(default);
        if !allowed.contains(&chosen) {
            return bad(format!("announced as {chosen:?}, it is {}", own.unwrap_or(default)));
        }
        match own.filter(|own| *own != chosen) {
            Some(own) => bad(format!("announced as {chosen}, the document says {own:?}")),
            None => Ok(chosen.to_owned()),
        }
    }
}

/// The keys by which a manifest and an index differ.
#[derive(Debug, Default)]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: bool,
    layers: bool,
    manifests: bool,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                const KNOWN: [&str; 5] = ["schemaVersion", "mediaType", "config", "layers", "manifests"];
                let mut shape = Shape::default();
                let mut seen = [false; KNOWN.len()];
                while let Some(key) = map.next_key::<String>()? {
                    let Some(i) = KNOWN.iter().position(|k| k.eq_ignore_ascii_case(&key)) else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    };
                    // Other readers take another one of two, or do not tell capitals apart: it would be two documents.
                    if std::mem::replace(&mut seen[i], true) {
                        return Err(serde::de::Error::custom(format!("the key {:?} occurs twice", KNOWN[i])));
                    }
                    if KNOWN[i] != key {
                        let why = format!("the key {key:?} differs from {:?} in upper and lower case only", KNOWN[i]);
                        return Err(serde::de::Error::custom(why));
                    }
                    match i {
                        0 => shape.schema_version = Some(map.next_value()?),
                        1 => shape.media_type = map.next_value()?,
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                            *[&mut shape.config, &mut shape.layers, &mut shape.manifests][i - 2] = true;
                        }
                    }
                }
                Ok(shape)
            }
        }
        d.deserialize_map(Keys)
    }
}

/// An image config (config.md). Unknown fields are kept in the blob, which stays the truth; this is a reading of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// Go's GOOS.
    #[serde(default)]
    pub os: String,
    /// Processor variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    #[serde(default)]
    pub rootfs: RootFs,
    /// Build steps, oldest first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

impl ImageConfig {
    /// The platform that the config claims.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            os_version: None,
        }
    }
}

/// The `config` object of an image config: defaults for running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Keys `port/proto`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The fixed front of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Keys are absolute paths that want a volume.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free-form labels.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name or number of the signal that asks it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's extension: a health probe; kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// Docker's extension: the shell of build steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker's extension: build steps for images built from this one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// Go's `struct{}`: the value type of sets in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The layers' uncompressed digests, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Diff IDs, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One build step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step added no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Go writes empty lists and maps as `null`.
pub(crate) fn null_is_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_a_manifest_or_an_index_but_not_both() {
        let d = Digest::of(b"");
        let desc = format!(r#"{{"mediaType":"x","digest":"{d}","size":0}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{desc},"layers":[],"manifests":[]}}"#);
        assert!(ManifestOrIndex::parse(both.as_bytes()).is_err());
        let lie = format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{desc},"layers":[]}}"#, media::INDEX);
        assert!(ManifestOrIndex::parse(lie.as_bytes()).is_err());
        let m = format!(r#"{{"schemaVersion":2,"config":{desc},"layers":[{desc}]}}"#);
        assert!(
            matches!(ManifestOrIndex::parse(m.as_bytes()), Ok(ManifestOrIndex::Manifest(m)) if m.layers.len() == 1)
        );
    }

    #[test]
    fn nulls_in_docker_configs_are_empty() {
        let c: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Volumes":null,"Cmd":null},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        assert_eq!(c.config, RunConfig::default());
    }

    #[test]
    fn the_platform_is_chosen_from_an_index() {
        let entry = |arch: &str, variant: Option<&str>| {
            let mut d = Descriptor::new(media::MANIFEST, Digest::of(arch.as_bytes()), 1);
            d.platform = Some(Platform {
                architecture: arch.into(),
                os: "linux".into(),
                variant: variant.map(Into::into),
                os_version: None,
            });
            d
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            manifests: vec![entry("s390x", None), entry("arm64", Some("v8")), entry("amd64", None)],
            annotations: BTreeMap::new(),
        };
        let p = |s: &str| s.parse::<Platform>().unwrap();
        assert_eq!(index.choose(&p("linux/amd64")).unwrap().digest, Digest::of(b"amd64"));
        assert_eq!(index.choose(&p("linux/arm64/v8")).unwrap().digest, Digest::of(b"arm64"));
        assert!(index.choose(&p("linux/riscv64")).is_none());
    }
}
