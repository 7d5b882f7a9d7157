//! Layers and images byte by byte, as other programs write them: nothing of tare makes them.

use crate::process::{Running, command};
use serde_json::{Value, json};
use std::path::Path;

/// One entry of a tar archive.
#[derive(Debug, Clone)]
pub struct Item {
    name: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    time: (i64, u32),
    link: Vec<u8>,
    device: (u32, u32),
    content: Vec<u8>,
    records: Vec<(String, Vec<u8>)>,
    gnu: bool,
}

impl Item {
    fn new(name: impl AsRef<[u8]>, kind: u8, mode: u32) -> Item {
        Item {
            name: name.as_ref().to_vec(),
            kind,
            mode,
            owner: (0, 0),
            time: (1_600_000_000, 0),
            link: Vec::new(),
            device: (0, 0),
            content: Vec::new(),
            records: Vec::new(),
            gnu: false,
        }
    }

    /// A file.
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Item {
        Item { content: content.as_ref().to_vec(), ..Item::new(name, b'0', 0o644) }
    }

    /// A directory.
    pub fn dir(name: impl AsRef<[u8]>) -> Item {
        let name = [name.as_ref(), b"/"].concat();
        Item::new(name, b'5', 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
        Item { link: target.as_ref().to_vec(), ..Item::new(name, b'2', 0o777) }
    }

    /// Another name of a file.
    pub fn hard(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
        Item { link: target.as_ref().to_vec(), ..Item::new(name, b'1', 0o644) }
    }

    /// A character device (`3`), block device (`4`) or pipe (`6`).
    pub fn node(name: impl AsRef<[u8]>, kind: u8, major: u32, minor: u32) -> Item {
        Item { device: (major, minor), ..Item::new(name, kind, 0o640) }
    }

    /// A file with holes (GNU's format 1.0): pieces of data at ascending places.
    pub fn sparse(name: &str, size: u64, pieces: &[(u64, &[u8])]) -> Item {
        let mut map = format!("{}\n", pieces.len());
        pieces.iter().for_each(|(at, data)| map.push_str(&format!("{at}\n{}\n", data.len())));
        let mut content = map.into_bytes();
        content.resize(content.len().next_multiple_of(512), 0);
        pieces.iter().for_each(|(_, data)| content.extend_from_slice(data));
        Item::file("GNUSparseFile.0/file", content)
            .record("GNU.sparse.major", b"1")
            .record("GNU.sparse.minor", b"0")
            .record("GNU.sparse.name", name.as_bytes())
            .record("GNU.sparse.realsize", size.to_string().as_bytes())
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(self, mode: u32) -> Item {
        Item { mode, ..self }
    }

    /// Owner and group.
    #[must_use]
    pub fn owner(self, uid: u64, gid: u64) -> Item {
        Item { owner: (uid, gid), ..self }
    }

    /// Time of the last change, in seconds and nanoseconds.
    #[must_use]
    pub fn time(self, seconds: i64, nanos: u32) -> Item {
        Item { time: (seconds, nanos), ..self }
    }

    /// An extended attribute.
    #[must_use]
    pub fn xattr(self, name: &str, value: &[u8]) -> Item {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    /// GNU's long names and large numbers, and not PAX.
    #[must_use]
    pub fn gnu(self) -> Item {
        Item { gnu: true, ..self }
    }

    /// A record of PAX.
    #[must_use]
    pub fn record(mut self, key: &str, value: &[u8]) -> Item {
        self.records.push((key.to_owned(), value.to_vec()));
        self
    }

    fn write(&self, archive: &mut Vec<u8>) {
        let mut records = self.records.clone();
        let mut long = |text: &[u8], key: &str, kind: u8, archive: &mut Vec<u8>| {
            if text.len() <= 100 {
                return;
            }
            if self.gnu {
                header(archive, b"././@LongLink", kind, &Item::file("", ""), text.len() as u64 + 1);
                padded(archive, &[text, b"\0"].concat());
            } else {
                records.push((key.to_owned(), text.to_vec()));
            }
        };
        long(&self.name, "path", b'L', archive);
        long(&self.link, "linkpath", b'K', archive);
        if !self.gnu {
            for (key, number) in [("uid", self.owner.0), ("gid", self.owner.1)] {
                if number >= 1 << 21 {
                    records.push((key.to_owned(), number.to_string().into_bytes()));
                }
            }
            if self.time.1 != 0 || self.time.0 < 0 {
                let (mut seconds, mut nanos, mut sign) = (self.time.0, self.time.1, "");
                if seconds < 0 {
                    // -1.25 is one and a quarter before 1970.
                    sign = "-";
                    seconds = -seconds - i64::from(nanos > 0);
                    nanos = (1_000_000_000 - nanos) % 1_000_000_000;
                }
                records.push(("mtime".to_owned(), format!("{sign}{seconds}.{nanos:09}").into_bytes()));
            }
        }
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            header(archive, b"PaxHeaders/x", b'x', &Item::file("", ""), body.len() as u64);
            padded(archive, &body);
        }
        header(archive, &self.name, self.kind, self, self.content.len() as u64);
        padded(archive, &self.content);
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn padded(archive: &mut Vec<u8>, data: &[u8]) {
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn header(archive: &mut Vec<u8>, name: &[u8], kind: u8, item: &Item, size: u64) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{:07o}", item.mode).as_bytes());
    for (at, number) in [(108, item.owner.0), (116, item.owner.1)] {
        if number < 1 << 21 {
            put(at, format!("{number:07o}").as_bytes());
        } else if item.gnu {
            put(at, &(number | 1 << 63).to_be_bytes());
        }
    }
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", item.time.0.max(0)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &item.link[..item.link.len().min(100)]);
    put(257, if item.gnu { b"ustar  \0" } else { b"ustar\x0000" });
    put(329, format!("{:07o}", item.device.0).as_bytes());
    put(337, format!("{:07o}", item.device.1).as_bytes());
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&block);
}

/// An archive of these entries.
pub fn tar(items: &[Item]) -> Vec<u8> {
    let mut archive = Vec::new();
    items.iter().for_each(|item| item.write(&mut archive));
    archive.extend([0; 1024]);
    archive
}

/// `sha256:…` of these bytes.
///
/// # Panics
/// If there is no sha256sum(1).
pub fn digest(bytes: &[u8]) -> String {
    let out = Running::start(&mut command("sha256sum"), Some(bytes)).wait();
    format!("sha256:{}", &out.stdout[..64])
}

/// Compresses with a program such as `gzip`.
///
/// # Panics
/// If it fails.
pub fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let out = Running::start(command(program).arg("-c"), Some(bytes)).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.bytes
}

/// A layer as an image refers to it.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its media type, or what follows the usual `application/vnd.oci.image.layer.`.
    pub media: String,
    /// As it is stored.
    pub bytes: Vec<u8>,
    /// Digest of the archive.
    pub diff_id: String,
    /// Annotations of its descriptor.
    pub annotations: Value,
}

impl Blob {
    /// An archive as it is.
    pub fn plain(archive: Vec<u8>) -> Blob {
        Blob { media: "v1.tar".into(), diff_id: digest(&archive), bytes: archive, annotations: Value::Null }
    }

    /// An archive, compressed (`gzip`, `zstd`).
    ///
    /// # Panics
    /// If the program fails.
    pub fn packed(program: &str, archive: &[u8]) -> Blob {
        let media = format!("v1.tar+{program}");
        Blob { media, diff_id: digest(archive), bytes: packed(program, archive), annotations: Value::Null }
    }
}

/// Writes an OCI layout with one image, named by its tag.
///
/// # Panics
/// If it cannot be written.
pub fn layout(dir: &Path, tag: &str, layers: &[Blob]) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media: &str, bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({ "mediaType": media, "digest": digest, "size": bytes.len() })
    };
    let diff_ids: Vec<&str> = layers.iter().map(|l| l.diff_id.as_str()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/lister", "t"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let described: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let media = match layer.media.starts_with("application/") {
                true => layer.media.clone(),
                false => format!("application/vnd.oci.image.layer.{}", layer.media),
            };
            let mut descriptor = put(&media, &layer.bytes);
            if !layer.annotations.is_null() {
                descriptor["annotations"] = layer.annotations.clone();
            }
            descriptor
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
        "layers": described,
    });
    let mut manifest = put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
