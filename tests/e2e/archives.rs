//! Images in archives: `save`, `load`, `import`, `export`, and what other programs make of them.

use serde_json::Value;
use std::path::Path;
use tare_tests::{Host, Tree, busybox_tar, command};

#[track_caller]
fn program(line: &[&str]) -> String {
    let out = command(line[0]).args(&line[1..]).output().unwrap();
    assert!(out.status.success(), "{line:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn ids(host: &Host, names: &[&str]) -> Vec<Value> {
    names.iter().map(|n| host.inspect(n)["Id"].clone()).collect()
}

/// The images `busybox` and `changed`, which has one layer more.
fn two_images(host: &Host) {
    host.busybox();
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo changed > /new"]);
    host.ok(&["commit", "box", "changed:1"]);
    host.ok(&["rm", "box"]);
}

fn runs(host: &Host, image: &str) {
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", image, "cat", "/new"]), "changed");
}

#[test]
fn what_is_saved_is_loaded_elsewhere_with_the_same_ids() {
    let (host, other) = (Host::new(), Host::new());
    two_images(&host);
    let file = host.scratch("both.tar").display().to_string();
    host.ok(&["save", "-o", &file, "busybox", "changed:1"]);
    let loaded = other.ok(&["load", "-q", "-i", &file]);
    assert_eq!(loaded, "Loaded image: busybox:latest\nLoaded image: changed:1");
    assert_eq!(ids(&host, &["busybox", "changed:1"]), ids(&other, &["busybox", "changed:1"]));
    runs(&other, "changed:1");
    // The shared layer is in the archive once.
    let listing = program(&["tar", "tf", &file]);
    let blobs = listing.lines().filter(|l| l.starts_with("blobs/sha256/") && !l.ends_with('/')).count();
    assert_eq!(blobs, 2 + 2 * 2, "two layers, and config and manifest of each image: {listing}");
    // Loading again changes nothing.
    other.ok(&["load", "-i", &file]);
    assert_eq!(other.ok(&["images", "-q"]).lines().count(), 2);
}

#[test]
fn archives_pass_through_standard_streams() {
    let (host, other) = (Host::new(), Host::new());
    two_images(&host);
    let out = host.run(&["save", "changed:1"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(other.run_with(&["load"], &out.bytes).stdout, "Loaded image: changed:1\n");
    runs(&other, "changed:1");
    let id = host.inspect("changed:1")["Id"].as_str().unwrap().to_owned();
    // By its id: without a name.
    let out = host.run(&["save", &id]);
    other.ok(&["rmi", "changed:1"]);
    assert_eq!(other.run_with(&["load"], &out.bytes).stdout, format!("Loaded image ID: {id}\n"));
    // Compressed as a whole.
    let file = host.scratch("one.tar");
    host.ok(&["save", "-o", &file.display().to_string(), "changed:1"]);
    for pack in ["gzip", "zstd"] {
        let fresh = Host::new();
        let packed = command(pack).arg("-c").arg(&file).output().unwrap().stdout;
        assert_eq!(fresh.run_with(&["load"], &packed).stdout, "Loaded image: changed:1\n", "{pack}");
        runs(&fresh, "changed:1");
    }
}

#[test]
fn skopeo_and_umoci_read_what_tare_saves() {
    let host = Host::new();
    two_images(&host);
    let file = host.scratch("changed.tar").display().to_string();
    host.ok(&["save", "-o", &file, "changed:1"]);
    let seen: Value = serde_json::from_str(&program(&["skopeo", "inspect", &format!("oci-archive:{file}")])).unwrap();
    assert_eq!(seen["Digest"], host.inspect("changed:1")["Descriptor"]["digest"]);
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    let layout = host.scratch("layout").display().to_string();
    std::fs::create_dir(&layout).unwrap();
    program(&["tar", "xf", &file, "-C", &layout]);
    let index: Value = serde_json::from_slice(&std::fs::read(format!("{layout}/index.json")).unwrap()).unwrap();
    let tag = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned();
    let bundle = host.scratch("bundle").display().to_string();
    program(&["umoci", "unpack", "--image", &format!("{layout}:{tag}"), &bundle]);
    assert_eq!(std::fs::read_to_string(format!("{bundle}/rootfs/new")).unwrap(), "changed\n");
    // The documents docker's `load` reads are there as well.
    let docker = host.scratch("docker").display().to_string();
    if Path::new(&layout).join("manifest.json").exists() {
        program(&["skopeo", "copy", &format!("docker-archive:{file}"), &format!("dir:{docker}")]);
    }
}

#[test]
fn tare_loads_what_skopeo_writes() {
    let (host, other) = (Host::new(), Host::new());
    two_images(&host);
    let file = host.scratch("changed.tar").display().to_string();
    host.ok(&["save", "-o", &file, "changed:1"]);
    let from = format!("oci-archive:{file}");
    let docker = host.scratch("docker.tar").display().to_string();
    program(&["skopeo", "copy", &from, &format!("docker-archive:{docker}:from/docker:7")]);
    assert_eq!(other.ok(&["load", "-q", "-i", &docker]), "Loaded image: from/docker:7");
    runs(&other, "from/docker:7");
    assert_eq!(other.inspect("from/docker:7")["RootFS"], host.inspect("changed:1")["RootFS"]);
    let oci = host.scratch("oci.tar").display().to_string();
    program(&["skopeo", "copy", &from, &format!("oci-archive:{oci}:from/oci:8")]);
    assert_eq!(other.ok(&["load", "-q", "-i", &oci]), "Loaded image: from/oci:8");
    runs(&other, "from/oci:8");
    let layout = host.scratch("layout").display().to_string();
    program(&["skopeo", "copy", &from, &format!("oci:{layout}:from/layout:9")]);
    assert_eq!(other.ok(&["load", "-q", "-i", &layout]), "Loaded image: from/layout:9");
    runs(&other, "from/layout:9");
}

#[test]
fn tare_loads_what_umoci_makes() {
    let host = Host::new();
    let layout = host.scratch("layout").display().to_string();
    let image = format!("{layout}:made/by-umoci");
    let bundle = host.scratch("bundle").display().to_string();
    program(&["umoci", "init", "--layout", &layout]);
    program(&["umoci", "new", "--image", &image]);
    program(&["umoci", "unpack", "--image", &image, &bundle]);
    let root = format!("{bundle}/rootfs");
    program(&["tar", "xf", &busybox_tar().display().to_string(), "-C", &root]);
    program(&["umoci", "repack", "--image", &image, &bundle]);
    std::fs::remove_file(format!("{root}/etc/group")).unwrap();
    std::fs::write(format!("{root}/new"), "changed\n").unwrap();
    let again = host.scratch("again").display().to_string();
    program(&["umoci", "unpack", "--image", &image, &again]);
    std::fs::remove_file(format!("{again}/rootfs/etc/group")).unwrap();
    std::fs::write(format!("{again}/rootfs/new"), "changed\n").unwrap();
    program(&["umoci", "repack", "--image", &image, &again]);
    program(&["umoci", "config", "--image", &image, "--config.cmd", "cat", "--config.cmd", "/new"]);
    let loaded = host.ok(&["load", "-q", "-i", &layout]);
    assert_eq!(loaded, "Loaded image: made/by-umoci:latest");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "made/by-umoci"]), "changed");
    // A layer that removes a file removes it.
    host.fails(&["run", "--rm", "--network", "none", "made/by-umoci", "cat", "/etc/group"], 1);
}

#[test]
fn archives_that_are_damaged_leave_nothing_behind() {
    let (host, other) = (Host::new(), Host::new());
    two_images(&host);
    let whole = host.run(&["save", "busybox"]).bytes;
    let check = |bytes: &[u8], what: &str| {
        let out = other.run_with(&["load"], bytes);
        assert_eq!(out.code, 1, "{what}: {}", out.stdout);
        assert!(out.stderr.starts_with("tare: load"), "{what}: {}", out.stderr);
        assert_eq!(other.ok(&["images", "-aq"]), "", "{what}");
        out.stderr
    };
    check(&whole[..whole.len() / 2], "half of it");
    check(b"this is no archive at all", "text");
    check(b"", "nothing");
    // One byte of the layer is another one: the digest says so.
    let listing = program(&["tar", "tRf", &save_to(&host, &whole)]);
    let block: usize = largest_blob(&host, &listing);
    let mut damaged = whole.clone();
    damaged[block * 512 + 512 + 1000] ^= 0xff;
    let refused = check(&damaged, "one byte");
    assert!(refused.contains("digest") || refused.contains("sha256:"), "{refused}");
}

fn save_to(host: &Host, bytes: &[u8]) -> String {
    let file = host.scratch("whole.tar");
    std::fs::write(&file, bytes).unwrap();
    file.display().to_string()
}

/// The block at which the layer's header lies: `tar tR` numbers entries by it.
fn largest_blob(host: &Host, listing: &str) -> usize {
    let layer = host.ok(&["inspect", "-f", "{{.Descriptor.digest}}", "busybox"]);
    let manifest = host.root().join("blobs/sha256").join(&layer[7..]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let digest = &manifest["layers"][0]["digest"].as_str().unwrap()[7..];
    let line = listing.lines().find(|l| l.ends_with(digest)).unwrap();
    line.trim_start_matches("block ").split(':').next().unwrap().parse().unwrap()
}

#[test]
fn imports_are_compressed_as_they_like_and_configured() {
    let host = Host::new();
    let archive = busybox_tar();
    let archive = archive.display().to_string();
    let plain = host.ok(&["import", &archive, "plain"]);
    assert!(plain.starts_with("sha256:") && plain.len() == 71, "{plain}");
    let layers = |name: &str| host.inspect(name)["RootFS"]["Layers"].clone();
    for pack in ["gzip", "zstd", "xz"] {
        let packed = command(pack).args(["-c", &archive]).output().unwrap().stdout;
        let out = host.run_with(&["import", "-", pack], &packed);
        if matches!(pack, "gzip" | "zstd") {
            assert_eq!(out.code, 0, "{pack}: {}", out.stderr);
            assert_eq!(layers(pack), layers("plain"), "{pack}");
        } else {
            assert_eq!(out.code, 1);
            assert!(out.stderr.contains(&format!("compressed with {pack}")), "{}", out.stderr);
            assert!(out.stderr.contains(&format!("hint: `{pack} -dc FILE`")), "{}", out.stderr);
        }
    }
    let changes =
        ["ENTRYPOINT [\"sh\", \"-c\"]", "CMD [\"echo $A; pwd; id -un\"]", "ENV A=b", "WORKDIR /var", "USER web"];
    let mut args = vec!["import"];
    changes.iter().for_each(|c| args.extend(["-c", *c]));
    args.extend([archive.as_str(), "app"]);
    host.ok(&args);
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "app"]), "b\n/var\nweb");
    let refused = host.fails(&["import", "-c", "COPY a b", &archive, "bad"], 1);
    assert!(refused.contains("COPY"), "{refused}");
    let refused = host.run_with(&["import", "-", "bad"], b"no archive");
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(host.fails(&["import", "/nowhere.tar", "bad"], 1).contains("/nowhere.tar"));
    assert!(host.fails(&["inspect", "bad"], 1).contains("bad"));
    let refused = host.fails(&["import", "https://example.org/x.tar"], 1);
    assert!(refused.contains("curl -L https://example.org/x.tar | tare import -"), "{refused}");
}

#[test]
fn special_files_owners_and_attributes_survive_import_and_save() {
    let (host, other) = (Host::new(), Host::new());
    let tree = Tree::busybox();
    let script = "cd $0; mkfifo pipe; mknod null c 1 3; ln content hard; ln -s /etc/passwd soft; chown 33:50 content; \
                  chmod 4711 content; touch -d '2001-02-03 04:05:06 UTC' content; \
                  mkdir -m 2770 shared; dd if=/dev/zero of=sparse bs=1 count=1 seek=5M 2>/dev/null; touch 'name with \\ ü'";
    tree.file("content", "x");
    program(&["sh", "-c", script, &tree.path("").display().to_string()]);
    rustix::fs::setxattr(tree.path("hard"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let archive = host.scratch("tree.tar").display().to_string();
    program(&[
        "tar",
        "-c",
        "--numeric-owner",
        "--xattrs",
        "-f",
        &archive,
        "-C",
        &tree.path("").display().to_string(),
        ".",
    ]);
    host.ok(&["import", &archive, "special"]);
    let saved = host.run(&["save", "special"]).bytes;
    assert_eq!(other.run_with(&["load"], &saved).code, 0);
    let look = "stat -c '%F %a %u:%g %h %Y' /content /hard; stat -c '%F %t:%T' /null; stat -c %F /pipe; readlink /soft; \
                stat -c '%a' /shared; stat -c %s /sparse; echo /name*";
    for host in [&host, &other] {
        let seen = host.ok(&["run", "--rm", "--network", "none", "special", "sh", "-c", look]);
        let file = "regular file 4711 33:50 2 981173106";
        assert_eq!(
            seen,
            format!("{file}\n{file}\ncharacter special file 1:3\nfifo\n/etc/passwd\n2770\n5242881\n/name with \\ ü")
        );
        host.ok(&["run", "-d", "--name", "box", "--network", "none", "special", "sleep", "1000"]);
        let file = format!("/proc/{}/root/hard", host.inspect("box")["State"]["Pid"]);
        let mut note = [0; 8];
        assert_eq!(rustix::fs::getxattr(file, "user.note", &mut note).unwrap(), 4);
        assert_eq!(&note[..4], b"kept");
    }
}
