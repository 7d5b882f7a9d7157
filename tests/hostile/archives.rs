//! Archives of images whose members lead elsewhere.

use crate::ground::both;
use crate::image::{Image, Layer, digest};
use crate::tar::{Tar, gzip};
use serde_json::json;
use std::os::unix::fs::symlink;

fn layer() -> Vec<u8> {
    Tar::new().file("f", "x").end()
}

fn config() -> String {
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer())]}})
        .to_string()
}

fn list(config: &str, layer: &str, tags: &[&str]) -> String {
    json!([{"Config": config, "Layers": [layer], "RepoTags": tags}]).to_string()
}

/// A docker archive with what it must have, and more.
fn docker(list: &str) -> Tar {
    let layer = layer();
    Tar::new().file("manifest.json", list).file("config.json", &config()).entry(b"l/layer.tar", b'0', b"", &layer)
}

#[test]
fn paths_that_lead_out_of_a_docker_archive_are_refused() {
    both(|g| {
        let sentinel = g.sentinel().join("file").display().to_string();
        let args = ["load", "--quiet"];
        for path in ["../../../../etc/passwd", "l/../../x", "/../x", "", ".."] {
            let archive = docker(&list("config.json", path, &["x:1"])).end();
            g.refuses(path, &args, Some(&archive), "leaves|does not have this file|empty name");
            let archive = docker(&list(path, "l/layer.tar", &["x:1"])).end();
            g.refuses(path, &args, Some(&archive), "leaves|does not have this file|empty name");
        }
        for path in [sentinel.as_str(), "l", "nothing", "manifest.json"] {
            let archive = docker(&list("config.json", path, &["x:1"])).end();
            g.refuses(path, &args, Some(&archive), "does not have this file");
        }
        for target in [sentinel.as_str(), "../../../../etc/passwd", "link", "nothing", "/l/layer.tar"] {
            let archive = docker(&list("config.json", "link", &["x:1"])).symlink("link", target).end();
            g.refuses(target, &args, Some(&archive), "does not have this file");
            let archive = docker(&list("config.json", "link", &["x:1"])).hard_link("link", target).end();
            if target != "/l/layer.tar" {
                g.refuses(target, &args, Some(&archive), "does not have this file|leaves");
            }
        }
        for (what, member) in [
            ("a member that climbs", Tar::new().file("../x", "x")),
            ("a link that climbs", Tar::new().hard_link("x", "../../x")),
            (
                "a sparse member",
                Tar::new().pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1")]).file("s", "x"),
            ),
        ] {
            let archive = [docker(&list("config.json", "l/layer.tar", &["x:1"])).0, member.end()].concat();
            g.refuses(what, &args, Some(&archive), "leaves|sparse");
        }
        for twice in ["manifest.json", "./manifest.json", "index.json"] {
            let archive =
                docker(&list("config.json", "l/layer.tar", &["x:1"])).file(twice, "[]").file(twice, "[]").end();
            g.refuses(twice, &args, Some(&archive), "twice");
        }
        for tag in ["../x", "x:../y", "UPPER", "a\nb", "\u{1b}[31m", "x@sha256:../x", ""] {
            let archive = docker(&list("config.json", "l/layer.tar", &[tag])).end();
            g.refuses(tag, &args, Some(&archive), "parse");
        }
        // A layer that is a link to another file of the archive is what old archives have.
        let archive =
            docker(&list("config.json", "m/layer.tar", &["x:1"])).symlink("m/layer.tar", "../l/layer.tar").end();
        assert!(g.succeeds(&args, Some(&archive)).contains("x:1"));
    });
}

#[test]
fn what_is_no_archive_of_images_is_refused() {
    both(|g| {
        let whole = Image::of(&[Layer::plain(layer())]).archive();
        for (what, bytes, words) in [
            ("nothing", Vec::new(), "neither index.json nor manifest.json"),
            ("text", b"no archive at all".to_vec(), "ends too early|octal|checksum"),
            ("an empty archive", Tar::new().end(), "neither index.json nor manifest.json"),
            ("half", whole[..whole.len() / 2].to_vec(), "ends"),
            ("half of gzip", gzip(&whole)[..400].to_vec(), "decompress"),
            ("gzip of nothing", gzip(b""), "neither index.json nor manifest.json"),
            ("xz", b"\xfd7zXZ\0more".to_vec(), "compressed with xz"),
            ("a manifest as a list", docker("{}").end(), "manifest.json"),
            ("an empty list", docker("[]").end(), ""),
        ] {
            let out = g.tare(&["load", "--quiet"], Some(&bytes));
            if what == "an empty list" && out.code == 0 {
                continue;
            }
            g.refuses(what, &["load", "--quiet"], Some(&bytes), words);
        }
        let crowd = (0..70_000).fold(Tar::new(), |tar, i| tar.hard_link(&format!("f{i}"), "x"));
        g.refuses("many members", &["load", "--quiet"], Some(&crowd.end()), "this is no image archive");
    });
}

#[test]
fn a_layout_leads_nowhere_else() {
    both(|g| {
        let image = Image::of(&[Layer::plain(layer())]);
        let index = json!({"schemaVersion": 2, "manifests": [crate::image::descriptor(&image.media_type, &image.top)]});
        let make = |name: &str| {
            let dir = g.host.scratch(name);
            std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
            for (digest, bytes) in &image.blobs {
                std::fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
            }
            std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
            (dir.clone(), dir.join("blobs").join(digest(&layer()).replace(':', "/")))
        };
        let refused = |what: &str, dir: &std::path::Path, words: &str| {
            g.refuses(what, &["load", "--quiet", "-i", &dir.display().to_string()], None, words);
        };
        // The right content, but of another file of the host.
        let outside = g.host.scratch("outside");
        std::fs::write(&outside, layer()).unwrap();
        for target in [outside.display().to_string(), "../../../outside".to_owned()] {
            let (dir, blob) = make(&format!("linked{}", target.len()));
            std::fs::remove_file(&blob).unwrap();
            symlink(&target, &blob).unwrap();
            refused(&target, &dir, "does not have it|no regular file");
        }
        let special = |what: &str, kind| {
            let (dir, blob) = make(what);
            std::fs::remove_file(&blob).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &blob, kind, 0o600.into(), rustix::fs::makedev(1, 5)).unwrap();
            refused(what, &dir, "no regular file");
            std::fs::remove_file(dir.join("index.json")).unwrap();
            let at = dir.join("index.json");
            rustix::fs::mknodat(rustix::fs::CWD, &at, kind, 0o600.into(), rustix::fs::makedev(1, 5)).unwrap();
            refused(what, &dir, "no regular file");
        };
        special("pipe", rustix::fs::FileType::Fifo);
        special("zeros", rustix::fs::FileType::CharacterDevice);
        let (dir, blob) = make("directory");
        std::fs::remove_file(&blob).unwrap();
        std::fs::create_dir(&blob).unwrap();
        refused("directory", &dir, "no regular file");
        let (dir, _) = make("truth");
        g.succeeds(&["load", "--quiet", "-i", &dir.display().to_string()], None);
        // The size that is told is held against what is here already.
        let (dir, _) = make("lie");
        let lie = image.clone().change(|m| m["layers"][0]["size"] = 7.into());
        std::fs::write(dir.join("blobs").join(digest(&lie.top).replace(':', "/")), &lie.top).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [crate::image::descriptor(&lie.media_type, &lie.top)]});
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
        refused("lie", &dir, "bytes");
    });
}
