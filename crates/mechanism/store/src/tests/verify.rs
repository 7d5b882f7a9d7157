//! Every byte of an image is proved, in both forms.

use super::{Root, assert_sound};
use crate::archive::{Format, Import, Saved};
use crate::layer::UnpackLimits;
use crate::mutate::Random;
use crate::{Form, Image, ImageLayer, Lease, Silent, Store};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tare_format::{Entry, EntryKind, Time, tar};
use tare_model::image::{Compression, Descriptor, ImageConfig, media};
use tare_model::{Digest, Reference};

fn bytes(random: &mut Random, n: usize) -> Vec<u8> {
    (0..n).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
}

fn seed() -> Random {
    let seed = crate::now().unsigned_abs();
    println!("seed {seed}");
    Random::new(seed)
}

fn in_form(form: Form) -> Root {
    let root = Root::new();
    root.store.unpack_as(Box::new(move || Ok(form)));
    root
}

fn put(tar: &mut tar::Writer<Vec<u8>>, path: &str, kind: EntryKind, content: &[u8], more: impl FnOnce(&mut Entry)) {
    let mut entry = Entry { size: content.len() as u64, ..Entry::new(path, kind) };
    entry.mtime = Time { secs: 1_600_000_000, nanos: 123_456_789 };
    more(&mut entry);
    tar.entry(&entry).unwrap();
    tar.write_all(content).unwrap();
}

/// Two layers with something of everything.
fn archives(random: &mut Random) -> [Vec<u8>; 2] {
    use EntryKind as K;
    let mut tar = tar::Writer::new(Vec::new());
    put(&mut tar, "usr", K::Directory, b"", |_| {});
    put(&mut tar, "usr/bin", K::Directory, b"", |e| e.mode = 0o1777);
    put(&mut tar, "usr/bin/program", K::File, &bytes(random, 40_000), |e| {
        (e.mode, e.uid, e.gid) = (0o4755, 7, 3_000_000);
        e.xattrs = vec![(b"user.note".to_vec(), b"kept".to_vec())];
    });
    put(&mut tar, "usr/bin/again", K::Hardlink, b"", |e| e.link = b"usr/bin/program".to_vec());
    put(&mut tar, "usr/zeros", K::File, &vec![0; 50_000], |_| {});
    put(&mut tar, "usr/small", K::File, b"x", |_| {});
    put(&mut tar, "usr/empty", K::File, b"", |_| {});
    put(&mut tar, "usr/link", K::Symlink, b"", |e| e.link = b"bin/program".to_vec());
    put(&mut tar, "usr/pipe", K::Fifo, b"", |_| {});
    put(&mut tar, "usr/null", K::CharDevice, b"", |e| e.device = (1, 3));
    put(&mut tar, "gone", K::File, b"gone in the next layer", |_| {});
    let lower = tar.finish().unwrap();
    let mut tar = tar::Writer::new(Vec::new());
    put(&mut tar, ".wh.gone", K::File, b"", |_| {});
    put(&mut tar, "usr/.wh..wh..opq", K::File, b"", |_| {});
    put(&mut tar, "var/lib/data", K::File, &bytes(random, 9000), |_| {});
    put(&mut tar, "var/below", K::Hardlink, b"", |e| e.link = b"usr/bin/program".to_vec());
    put(&mut tar, "var/lib/data", K::File, &bytes(random, 7000), |_| {});
    [lower, tar.finish().unwrap()]
}

fn packed(lease: &Lease, archive: &[u8], below: &[Digest]) -> ImageLayer {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(archive).unwrap();
    let bytes = packer.finish().unwrap();
    let mut blob = lease.blob().unwrap();
    blob.write_all(&bytes).unwrap();
    let (digest, size) = blob.commit(None).unwrap();
    let store = lease.store();
    let diff_id = Digest::of(archive);
    if !store.has_layer(&diff_id).unwrap() {
        let mut draft = lease.layer().unwrap();
        let find = Box::new(|path: &[u8]| store.look_below(below, path));
        let unpacked = draft.unpack(&bytes[..], Compression::Gzip, &UnpackLimits::default(), find).unwrap();
        assert_eq!(unpacked.diff_id, diff_id);
        draft.publish(&unpacked).unwrap();
    }
    ImageLayer { diff_id, blob: Descriptor::new(media::LAYER_GZIP, digest, size) }
}

/// As a pull makes it: what is there is not made again.
fn made(store: &Store, archives: &[Vec<u8>]) -> Image {
    let lease = store.lease().unwrap();
    let names: [Reference; 1] = ["registry.example/app:1".parse().unwrap()];
    let mut image = None;
    let mut below = Vec::new();
    for archive in archives {
        let layer = packed(&lease, archive, &below);
        below.push(layer.diff_id);
        let config = ImageConfig { created: Some("2026-01-01T00:00:00Z".into()), ..ImageConfig::default() };
        image = Some(store.image_from_layer(&lease, image.as_ref(), Some(layer), config, &names).unwrap());
    }
    // Only the last has the name; the first is an image of its own.
    image.unwrap()
}

fn damages(store: &Store, image: &Image, set_aside: bool) -> Vec<String> {
    let verified = store.verify(&[image.id], set_aside, &Silent).unwrap();
    verified.damages.into_iter().map(|d| format!("{}: {} [{}]", d.object, d.problem, d.mend)).collect()
}

/// The regular files that hold the image's bytes.
fn files(store: &Store, image: &Image) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = image.layers.iter().map(|l| store.blob_path(&l.blob.digest)).collect();
    files.extend([store.blob_path(&image.id), store.blob_path(&image.manifest.digest)]);
    let mut waiting: Vec<PathBuf> = image.diff_ids().iter().map(|d| store.layer_dir(d)).collect();
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                waiting.push(path);
            } else if meta.is_file() && meta.len() > 0 {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Flips one bit in place; a tree's file has its time again afterwards, so that it is the content that tells.
fn flip(path: &Path, at: u64, bit: u8) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn whatever_bit_is_flipped_it_is_found() {
    let mut random = seed();
    for form in [Form::Image, Form::Tree] {
        let root = in_form(form);
        let image = made(&root.store, &archives(&mut random));
        assert_eq!(root.store.placed(&image.layers[0].diff_id).unwrap().form, form);
        assert_eq!(damages(&root.store, &image, false), [""; 0], "{form:?}");
        let files = files(&root.store, &image);
        for round in 0..3 * files.len() as u64 {
            // Each file in turn, so that small ones are not missed.
            let path = &files[usize::try_from(round).unwrap() % files.len()];
            let length = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
            let at = random.below(length) as u64;
            let bit = u8::try_from(random.below(8)).unwrap();
            // A program that loses its setuid bit by being written to would be found by that.
            let mode = std::fs::metadata(path).unwrap().permissions();
            flip(path, at, bit);
            std::fs::set_permissions(path, mode.clone()).unwrap();
            let found = damages(&root.store, &image, false);
            assert!(!found.is_empty(), "{form:?}: bit {bit} of byte {at} of {}", path.display());
            assert!(found.iter().all(|d| d.ends_with("[tare pull registry.example/app:1]")), "{found:?}");
            flip(path, at, bit);
            std::fs::set_permissions(path, mode).unwrap();
        }
        assert_eq!(damages(&root.store, &image, false), [""; 0], "{form:?}");
    }
}

#[test]
fn the_head_the_padding_and_the_end_of_an_image_are_looked_at() {
    let root = in_form(Form::Image);
    let image = made(&root.store, &archives(&mut seed()));
    let path = root.store.placed(&image.layers[0].diff_id).unwrap().path;
    let length = std::fs::metadata(&path).unwrap().len();
    for at in [0, 7, 8, 1023, 1024, 1030, 1100, 1200, 4095, 4096, length - 1] {
        flip(&path, at, 0);
        assert!(!damages(&root.store, &image, false).is_empty(), "byte {at}");
        flip(&path, at, 0);
    }
    for other in [length - 1, length + 1, 0, 100] {
        let whole = std::fs::read(&path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(other).unwrap();
        assert!(!damages(&root.store, &image, false).is_empty(), "{other} of {length} bytes");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(damages(&root.store, &image, false), [""; 0]);
}

#[test]
fn a_trees_attributes_and_names_are_looked_at() {
    let root = in_form(Form::Tree);
    let archives = archives(&mut seed());
    let image = made(&root.store, &archives);
    let [lower, upper] = [0, 1].map(|n: usize| root.store.placed(&image.layers[n].diff_id).unwrap().path);
    let program = lower.join("usr/bin/program");
    let meta = std::fs::metadata(&program).unwrap();
    let chown = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let touch = |path: &Path, at: std::time::SystemTime| std::fs::File::open(path).unwrap().set_modified(at).unwrap();
    let (then, now) = (meta.modified().unwrap(), std::time::SystemTime::now());
    let time_of = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let xattr = |value: &[u8]| {
        rustix::fs::setxattr(&program, "user.note", value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let (bin, var) = (lower.join("usr/bin"), upper.join("var"));
    let (bin_time, var_time) = (time_of(&bin), time_of(&var));
    let found = |what: &str, words: &str| {
        let found = damages(&root.store, &image, false).join("\n");
        assert!(found.contains(words), "{what}: {found}");
    };
    mode(&program, 0o755);
    found("mode", "\"/usr/bin/program\": its mode is 755, not 4755");
    mode(&program, 0o4755);
    chown(&program, 8);
    found("owner", "its owner is 8:3000000, not 7:3000000");
    chown(&program, 7);
    mode(&program, 0o4755);
    touch(&program, now);
    found("time", "its time is");
    touch(&program, then);
    xattr(b"other");
    found("attribute", "its attribute \"user.note\" is another");
    xattr(b"kept");
    rustix::fs::setxattr(&program, "user.more", b"", rustix::fs::XattrFlags::empty()).unwrap();
    found("attribute too many", "it has an attribute \"user.more\" that is not in the archive");
    rustix::fs::removexattr(&program, "user.more").unwrap();
    std::fs::write(bin.join("more"), "").unwrap();
    touch(&bin, bin_time);
    found("file too many", "\"/usr/bin/more\": it is not in the archive");
    std::fs::remove_file(bin.join("more")).unwrap();
    touch(&bin, bin_time);
    std::fs::rename(var.join("below"), var.join("aside")).unwrap();
    found("missing file", "\"/var/below\": it is missing");
    std::fs::rename(var.join("aside"), var.join("below")).unwrap();
    touch(&var, var_time);
    let again = bin.join("again");
    std::fs::remove_file(&again).unwrap();
    std::fs::copy(&program, &again).unwrap();
    found("a copy in place of a link", "its hard links are others");
    std::fs::remove_file(&again).unwrap();
    std::fs::hard_link(&program, &again).unwrap();
    touch(&bin, bin_time);
    let opaque = upper.join("usr");
    rustix::fs::removexattr(&opaque, "trusted.overlay.opaque").unwrap();
    found("opaque", "its attribute \"trusted.overlay.opaque\" is missing");
    rustix::fs::setxattr(&opaque, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::remove_file(upper.join("gone")).unwrap();
    found("whiteout", "\"/gone\": it is missing");
    assert_eq!(meta.uid(), 7);
}

#[test]
fn images_are_found_again_without_the_database() {
    for form in [Form::Image, Form::Tree] {
        let root = in_form(form);
        let image = made(&root.store, &archives(&mut seed()));
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = std::fs::remove_file(root.store.root().join(name));
        }
        // Unpacked again, each from its blob, in the form of this store.
        let store = root.reopen();
        store.unpack_as(Box::new(|| Ok(Form::Image)));
        let done = store.rebuild().unwrap();
        assert!(done.iter().any(|d| *d == format!("image {}: found again, without its names", image.id)), "{done:?}");
        assert_eq!(damages(&store, &image, false), [""; 0]);
        let found = store.image(&image.id.to_string()).unwrap();
        assert_eq!((found.layers, found.names), (image.layers, vec![]));
        store.end_rebuilding().unwrap();
        assert_sound(&store);
    }
}

#[test]
fn a_damaged_layer_is_unpacked_again_from_its_blob() {
    for form in [Form::Image, Form::Tree] {
        let root = in_form(form);
        let image = made(&root.store, &archives(&mut seed()));
        let below = root.store.layer_dir(&image.layers[0].diff_id);
        let file = files(&root.store, &image).into_iter().find(|f| f.starts_with(&below)).unwrap();
        flip(&file, 0, 5);
        assert!(!damages(&root.store, &image, true).is_empty());
        let findings = root.store.check(false).unwrap();
        assert!(
            findings.iter().any(|f| f.repairable && f.object == format!("layer {}", image.layers[0].diff_id)),
            "{findings:?}"
        );
        let done = root.store.repair().unwrap();
        assert_eq!(done, [format!("layer {}: unpacked again", image.layers[0].diff_id)]);
        assert_eq!(damages(&root.store, &image, true), [""; 0]);
        assert_sound(&root.store);
    }
}

#[test]
fn what_is_damaged_is_set_aside_and_made_again_or_comes_back() {
    let mut random = seed();
    for form in [Form::Image, Form::Tree] {
        let root = in_form(form);
        let archives = archives(&mut random);
        let image = made(&root.store, &archives);
        let blob = root.store.blob_path(&image.layers[1].blob.digest);
        let layer = files(&root.store, &image)
            .into_iter()
            .find(|f| f.starts_with(root.store.layer_dir(&image.layers[0].diff_id)));
        let layer = layer.unwrap();
        flip(&blob, 20, 3);
        flip(&layer, 0, 3);
        let verified = root.store.verify(&[image.id], true, &Silent).unwrap();
        assert!(verified.set_aside.contains(&image.layers[0].diff_id), "{verified:?}");
        assert!(!blob.exists() && blob.with_extension("damaged").exists());
        assert!(!root.store.has_layer(&image.layers[0].diff_id).unwrap());
        assert!(root.store.lowers(&image).is_err(), "nothing new stands on it");
        assert_eq!(made(&root.store, &archives).id, image.id);
        assert_eq!(damages(&root.store, &image, true), [""; 0], "{form:?}");
        assert!(root.store.gc().unwrap().bytes > 0, "what was set aside is garbage now");
        assert!(!blob.with_extension("damaged").exists());
        assert_sound(&root.store);

        // What is only unreadable for a while comes back.
        let blob = root.store.blob_path(&image.layers[0].blob.digest);
        flip(&blob, 20, 3);
        assert!(!damages(&root.store, &image, true).is_empty());
        flip(&blob.with_extension("damaged"), 20, 3);
        assert_eq!(damages(&root.store, &image, true), [""; 0], "{form:?}");
        assert!(blob.exists());
        assert_sound(&root.store);
    }
}

#[test]
fn an_image_whose_layers_blobs_are_not_kept_is_whole_and_travels() {
    let root = in_form(Form::Image);
    let store = &root.store;
    store.keep_blobs(false);
    let image = made(store, &archives(&mut seed()));
    let kept = |image: &Image| image.layers.iter().filter(|l| store.has_blob(&l.blob.digest)).count();
    assert_eq!(kept(&image), 0);
    assert!(store.does_without(&image.layers[0].diff_id).unwrap());
    assert_eq!(damages(store, &image, false), [""; 0]);
    assert_eq!(store.check(true).unwrap(), []);
    // Under another digest, for these were compressed by somebody else; the image is the same.
    let lease = store.lease().unwrap();
    let whole = store.with_blobs(&lease, &image, &Silent).unwrap();
    assert_eq!(kept(&whole), 2);
    assert_ne!(whole.manifest.digest, image.manifest.digest);
    assert_eq!((whole.id, whole.diff_ids()), (image.id, image.diff_ids()));
    store.end_lease(lease).unwrap();
    assert_eq!((kept(&whole), store.check(true).unwrap()), (0, vec![]));
    for format in [Format::Both, Format::Oci, Format::Docker] {
        let mut archive = Vec::new();
        let saved = Saved { image: image.clone(), names: image.names.clone() };
        store.save(&[saved], format, &mut archive, &Silent).unwrap();
        assert_eq!((kept(&image), store.check(true).unwrap()), (0, vec![]), "nothing of it stays: {format:?}");
        for other in [in_form(Form::Image), in_form(Form::Tree)] {
            let loaded = other.store.load(&mut &archive[..], &Silent).unwrap();
            assert_eq!((loaded[0].id, loaded[0].diff_ids()), (image.id, image.diff_ids()));
            assert_eq!(damages(&other.store, &loaded[0], false), [""; 0]);
        }
    }
    // What tare compressed itself has the same digest again.
    let imported = store.import(&mut &archives(&mut seed())[0][..], Import::default(), &Silent).unwrap();
    assert_eq!(kept(&imported), 0);
    let lease = store.lease().unwrap();
    assert_eq!(store.with_blobs(&lease, &imported, &Silent).unwrap(), imported);
    store.end_lease(lease).unwrap();
    assert_sound(store);
}

#[test]
fn of_a_tree_the_blob_is_kept_whatever_is_wanted() {
    let root = in_form(Form::Tree);
    root.store.keep_blobs(false);
    let image = made(&root.store, &archives(&mut seed()));
    assert!(image.layers.iter().all(|l| root.store.has_blob(&l.blob.digest)));
    assert!(!root.store.does_without(&image.layers[0].diff_id).unwrap());
}
