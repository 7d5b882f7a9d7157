//! The starter image: this very binary, so that a bare machine without a network has something to run.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use tare_model::image::{Compression, History, ImageConfig, Platform, RootFs, RunConfig};
use tare_model::{Context, Result};
use tare_store::{Image, Store, TreeEntry, TreeNode};

/// What `hello` stands for while no other image has that name: the starter image, made from this binary itself.
pub(crate) const STARTER: &str = "localhost/hello:latest";

const PASSWD: &str = "root:x:0:0:root:/root:/tare\nnobody:x:65534:65534:nobody:/:/tare\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Label that says which binary an image was made from: another tare makes it anew.
const BINARY: &str = "tare.binary";

/// Whether the image was made from this very file.
pub(crate) fn is_of(image: &Image, binary: &File) -> Result<bool> {
    Ok(image.config.config.labels.get(BINARY) == Some(&identity(binary)?))
}

/// Size and time: enough to tell one build from the next, and free to ask for.
fn identity(binary: &File) -> Result<String> {
    let meta = binary.metadata().during("look at", "tare's own file")?;
    Ok(format!("{}-{}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec()))
}

pub(crate) fn make(store: &Store, binary: &File) -> Result<Image> {
    let platform = Platform::host();
    let meta = binary.metadata().during("look at", "tare's own file")?;
    let made = crate::time::rfc3339(meta.mtime(), 0);
    let binary = binary.try_clone().during("duplicate", "tare's own file")?;
    let tree = vec![
        entry("etc", 0o755, TreeNode::Dir),
        entry("etc/group", 0o644, TreeNode::Bytes(GROUP.into())),
        entry("etc/passwd", 0o644, TreeNode::Bytes(PASSWD.into())),
        entry("root", 0o700, TreeNode::Dir),
        entry("tare", 0o755, TreeNode::File(binary.try_clone().during("duplicate", "tare's own file")?)),
        entry("tmp", 0o1777, TreeNode::Dir),
    ];
    let config = ImageConfig {
        created: Some(made.clone()),
        author: None,
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: RunConfig {
            entrypoint: Some(vec!["/tare".to_owned()]),
            cmd: Some(vec!["hello".to_owned()]),
            env: vec!["PATH=/".to_owned()],
            labels: BTreeMap::from([(BINARY.to_owned(), identity(&binary)?)]),
            ..RunConfig::default()
        },
        rootfs: RootFs::default(),
        history: vec![History {
            created: Some(made),
            created_by: Some("tare: the running binary itself".to_owned()),
            ..History::default()
        }],
    };
    store.image_from_tree(tree, Compression::Gzip, config, &STARTER.parse()?)
}

fn entry(path: &str, mode: u32, node: TreeNode) -> TreeEntry {
    TreeEntry { path: path.to_owned(), mode, uid: 0, gid: 0, node }
}
