use super::{Root, assert_sound};
use crate::archive::{Import, Saved};
use crate::{Image, Silent, Store, Tree, TreeEntry, TreeNode};
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use tare_format::{Entry, EntryKind, tar};
use tare_model::image::{Compression, Descriptor, ImageConfig, Index, Platform, media};
use tare_model::{Digest, Kind, Reference};

fn entry(path: &str, node: TreeNode) -> TreeEntry {
    TreeEntry { path: path.into(), mode: 0o755, uid: 0, gid: 0, node }
}

fn tree(content: &str) -> Tree {
    vec![
        entry("etc", TreeNode::Dir),
        entry("etc/passwd", TreeNode::Bytes(content.as_bytes().to_vec())),
        entry("link", TreeNode::Symlink("etc/passwd".into())),
    ]
}

fn starter(store: &Store, content: &str, name: &str) -> Image {
    let mut config = ImageConfig::default();
    config.config.entrypoint = Some(vec!["/tare".into(), "hello".into()]);
    store.image_from_tree(tree(content), Compression::None, config, &name.parse().unwrap()).unwrap()
}

/// Base and one layer more, so that layers are shared.
fn two_layers(store: &Store, base: &Image, content: &str, name: &str) -> Image {
    let lease = store.lease().unwrap();
    let more = store.layer_from_tree(&lease, tree(content), Compression::Gzip).unwrap();
    let names = [name.parse().unwrap()];
    store.image_from_layer(&lease, Some(base), Some(more.layer), base.config.clone(), &names).unwrap()
}

fn save(store: &Store, images: &[&Image]) -> Vec<u8> {
    let saved: Vec<_> = images.iter().map(|i| Saved { image: (*i).clone(), names: i.names.clone() }).collect();
    let mut bytes = Vec::new();
    store.save(&saved, crate::archive::Format::Both, &mut bytes, &Silent).unwrap();
    bytes
}

/// An archive as its files, in order.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = tar::Reader::new(archive, tar::Limits::default());
    let mut files = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        if entry.kind == EntryKind::File {
            let mut bytes = Vec::new();
            reader.content().read_to_end(&mut bytes).unwrap();
            files.push((String::from_utf8(entry.path).unwrap(), bytes));
        }
    }
    files
}

fn archive(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (path, target) in links {
        let mut entry = Entry::new(*path, EntryKind::Symlink);
        entry.link = target.as_bytes().to_vec();
        writer.entry(&entry).unwrap();
    }
    for (path, bytes) in files {
        writer.entry(&Entry { size: bytes.len() as u64, ..Entry::new(*path, EntryKind::File) }).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_same_tree_is_the_same_image() {
    let (one, two) = (Root::new(), Root::new());
    let image = starter(&one.store, "root", "localhost/hello");
    assert_eq!(image, starter(&two.store, "root", "localhost/hello"));
    assert_eq!(image.names[0].familiar(), "localhost/hello:latest");
    assert_eq!(image.config.architecture, Platform::host().architecture);
    let fs = &one.store.lowers(&image).unwrap()[0].path;
    assert_eq!(std::fs::read_to_string(fs.join("link")).unwrap(), "root");
    assert_sound(&one.store);
}

#[test]
fn saved_and_loaded_it_keeps_its_digests() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let app = two_layers(&one.store, &base, "more", "r.test/app:1");
    one.store.tag("r.test/app:1", &"second".parse().unwrap()).unwrap();
    let app = one.store.image(&app.id.hex()).unwrap();
    let plain = save(&one.store, &[&base, &app]);
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let loaded = two.store.load(&mut bytes.as_slice(), &Silent).unwrap();
        assert_eq!(loaded, [base.clone(), app.clone()]);
        assert_eq!(save(&two.store, &[&base, &app]), plain);
        assert_eq!(two.store.check(true).unwrap(), []);
        two.store.remove_image(&app.id.hex(), true).unwrap();
        two.store.remove_image("base", false).unwrap();
        assert_eq!(crate::lease::names(&two.store.root().join("blobs/sha256")).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_layout_directory_is_loaded() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let layout = one.store.root().join("layout");
    for (path, bytes) in files(&save(&one.store, &[&base])) {
        let path = layout.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let dir = std::fs::File::open(&layout).unwrap();
    let loaded = two.store.load_layout(None, std::os::fd::AsFd::as_fd(&dir), &Silent).unwrap();
    assert_eq!(loaded, [base]);
    assert_sound(&two.store);
}

#[test]
fn docker_s_archives_are_loaded() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let app = two_layers(&one.store, &base, "more", "app:1");
    let blob = |d: &Digest| one.store.read_blob(d, 1 << 20).unwrap();
    let (bottom, top) = (blob(&app.layers[0].blob.digest), blob(&app.layers[1].blob.digest));
    let list = r#"[{"Config":"app.json","RepoTags":["app:1"],"Layers":["aa/layer.tar","bb/layer.tar"]},
        {"Config":"base.json","RepoTags":null,"Layers":["cc/layer.tar"]}]"#;
    let old = archive(
        &[
            ("aa/layer.tar", &bottom),
            ("aa/VERSION", b"1.0"),
            ("bb/layer.tar", &top),
            ("app.json", &app.config_raw),
            ("base.json", &base.config_raw),
            ("manifest.json", list.as_bytes()),
            ("repositories", b"{}"),
        ],
        &[("cc/layer.tar", "../aa/layer.tar")],
    );
    let loaded = two.store.load(&mut old.as_slice(), &Silent).unwrap();
    let ids: Vec<_> = loaded.iter().map(|i| i.id).collect();
    assert_eq!(ids, [app.id, base.id]);
    assert_eq!(loaded[0].layers, app.layers);
    assert_eq!((loaded[0].names[0].familiar(), loaded[1].names.len()), ("app:1".into(), 0));
    // Nothing of what was beside the images is kept.
    assert_eq!(two.store.check(true).unwrap(), []);
    // New style: manifest.json beside blobs/, and no index.
    let modern: Vec<_> =
        files(&save(&one.store, &[&app])).into_iter().filter(|(p, _)| p != "index.json" && p != "oci-layout").collect();
    let three = Root::new();
    let loaded = three.store.load(&mut archive(&borrowed(&modern), &[]).as_slice(), &Silent).unwrap();
    assert_eq!((loaded[0].id, loaded[0].layers.clone()), (app.id, app.layers));
    assert_sound(&three.store);
}

#[test]
fn every_damaged_file_is_found_and_leaves_nothing() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let app = two_layers(&one.store, &base, "more", "app:1");
    let whole = files(&save(&one.store, &[&app]));
    for damaged in (0..whole.len()).filter(|i| whole[*i].0.starts_with("blobs/")) {
        let mut files = whole.clone();
        let middle = files[damaged].1.len() / 2;
        files[damaged].1[middle] ^= 1;
        let e = two.store.load(&mut archive(&borrowed(&files), &[]).as_slice(), &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::Corrupt, "{e}");
        files.remove(damaged);
        let e = two.store.load(&mut archive(&borrowed(&files), &[]).as_slice(), &Silent).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound, "{e}");
        assert_eq!(crate::lease::names(&two.store.root().join("blobs/sha256")).unwrap(), Vec::<String>::new());
        assert_eq!(two.store.images().unwrap(), []);
    }
    let bytes = archive(&borrowed(&whole), &[]);
    for length in [0, 1, 100, 512, 700, bytes.len() / 2] {
        assert!(two.store.load(&mut &bytes[..length], &Silent).is_err(), "{length}");
    }
    assert_sound(&two.store);
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let other = starter(&one.store, "other", "other");
    let blob = one.store.read_blob(&other.layers[0].blob.digest, 1 << 20).unwrap();
    let list = br#"[{"Config":"c","RepoTags":["x:1"],"Layers":["l"]}]"#;
    let bytes = archive(&[("c", &base.config_raw), ("l", &blob), ("manifest.json", list)], &[]);
    let e = two.store.load(&mut bytes.as_slice(), &Silent).unwrap_err();
    assert_eq!(e.kind(), Kind::Corrupt, "{e}");
    assert_eq!(two.store.check(true).unwrap(), []);
}

#[test]
fn names_in_archives_cannot_leave_it() {
    let root = Root::new();
    for bad in ["../../etc/passwd", "/etc/passwd", "blobs/sha256/../../x", "sha256:../x", "nothing"] {
        let list = format!(r#"[{{"Config":"{bad}","Layers":[]}}]"#);
        let bytes = archive(&[("manifest.json", list.as_bytes())], &[("loop", "loop"), ("out", "../../etc/passwd")]);
        assert!(root.store.load(&mut bytes.as_slice(), &Silent).is_err(), "{bad}");
    }
    for link in ["loop", "out"] {
        let list = format!(r#"[{{"Config":"{link}","Layers":[]}}]"#);
        let bytes = archive(&[("manifest.json", list.as_bytes())], &[("loop", "loop"), ("out", "../../etc/passwd")]);
        assert_eq!(root.store.load(&mut bytes.as_slice(), &Silent).unwrap_err().kind(), Kind::NotFound);
    }
    let e = root.store.load(&mut archive(&[("etc/passwd", b"x")], &[]).as_slice(), &Silent).unwrap_err();
    assert_eq!(e.first_hint(), Some("`tare import` makes an image of a root filesystem"));
    assert_sound(&root.store);
}

#[test]
fn the_platform_is_chosen_in_an_archive() {
    let (one, two) = (Root::new(), Root::new());
    let base = starter(&one.store, "root", "base");
    let mut all = files(&save(&one.store, &[&base]));
    let foreign = |os: &str| {
        let mut d = Descriptor::new(media::MANIFEST, Digest::of(os.as_bytes()), 5);
        d.platform = Some(Platform { architecture: "none".into(), os: os.into(), variant: None, os_version: None });
        d
    };
    let index = |manifests| Index { schema_version: 2, media_type: None, manifests, annotations: BTreeMap::new() };
    let mut native = base.manifest.clone();
    native.platform = Some(Platform::host());
    // As docker saves a multi-platform image: the outer index names an inner one.
    let inner = serde_json::to_vec(&index(vec![foreign("plan9"), native, foreign("unknown")])).unwrap();
    let mut outer = Descriptor::new(media::INDEX, Digest::of(&inner), inner.len() as u64);
    outer.annotations.insert("io.containerd.image.name".into(), "docker.io/library/multi:1".into());
    let replace = |all: &mut Vec<(String, Vec<u8>)>, bytes: Vec<u8>| {
        all.iter_mut().find(|(p, _)| p == "index.json").unwrap().1 = bytes;
    };
    all.push((format!("blobs/sha256/{}", outer.digest.hex()), inner));
    replace(&mut all, serde_json::to_vec(&index(vec![outer])).unwrap());
    let loaded = two.store.load(&mut archive(&borrowed(&all), &[]).as_slice(), &Silent).unwrap();
    assert_eq!((loaded[0].id, loaded[0].names[0].familiar()), (base.id, "multi:1".into()));
    replace(&mut all, serde_json::to_vec(&index(vec![foreign("plan9"), foreign("beos")])).unwrap());
    let e = two.store.load(&mut archive(&borrowed(&all), &[]).as_slice(), &Silent).unwrap_err();
    assert!(e.to_string().ends_with("there is only plan9/none, beos/none"), "{e}");
}

#[test]
fn an_index_that_contains_itself_ends() {
    let root = Root::new();
    // A digest cannot be contained in what it is of; the nearest is a chain that is longer than allowed.
    let mut blobs = Vec::new();
    let mut next = Descriptor::new(media::MANIFEST, Digest::of(b"end"), 3);
    for _ in 0..8 {
        next.platform = Some(Platform::host());
        let index = Index { schema_version: 2, media_type: None, manifests: vec![next], annotations: BTreeMap::new() };
        let bytes = serde_json::to_vec(&index).unwrap();
        next = Descriptor::new(media::INDEX, Digest::of(&bytes), bytes.len() as u64);
        blobs.push((format!("blobs/sha256/{}", next.digest.hex()), bytes));
    }
    let last = blobs.last().unwrap().1.clone();
    blobs.push(("index.json".into(), last));
    let e = root.store.load(&mut archive(&borrowed(&blobs), &[]).as_slice(), &Silent).unwrap_err();
    assert!(e.to_string().contains("nested too deeply"), "{e}");
}

#[test]
fn a_root_filesystem_is_the_same_image_however_it_was_packed() {
    let root = Root::new();
    let files: [(&str, &[u8]); 2] = [("etc/hostname", b"box"), ("bin/sh", b"#!")];
    let plain = archive(&files, &[("sh", "bin/sh")]);
    // Another order, and an entry that a later one replaces.
    let other = archive(&[("bin/sh", b"old"), files[1], files[0]], &[("sh", "bin/sh")]);
    let name: Reference = "imported:1".parse().unwrap();
    let mut ids = HashSet::new();
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(plain.as_slice(), 3).unwrap(), other] {
        let import = Import {
            name: Some(name.clone()),
            message: Some("from a tarball".into()),
            epoch: Some(1_000_000_000),
            ..Import::default()
        };
        let image = root.store.import(&mut bytes.as_slice(), import, &Silent).unwrap();
        assert_eq!(image.config.created.as_deref(), Some("2001-09-09T01:46:40Z"));
        assert_eq!(image.config.history[0].comment.as_deref(), Some("from a tarball"));
        let file = root.store.lowers(&image).unwrap()[0].path.join("etc/hostname");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "box");
        assert_eq!(image.layers[0].blob.media_type, media::LAYER_GZIP);
        assert_eq!(root.store.image("imported:1").unwrap().id, image.id);
        ids.insert(image.manifest.digest);
    }
    assert_eq!((root.store.images().unwrap().len(), ids.len()), (1, 1));
    let e = root.store.import(&mut [b'x'; 600].as_slice(), Import::default(), &Silent).unwrap_err();
    assert!(matches!(e.kind(), Kind::Corrupt | Kind::Invalid), "{e}");
    assert_sound(&root.store);
}
