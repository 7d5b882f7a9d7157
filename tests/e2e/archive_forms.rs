//! The forms of archives: docker's, OCI's, a directory; several images in one; platforms.

use serde_json::Value;
use std::path::Path;
use tare_tests::{Host, Tree, command};

#[track_caller]
fn program(line: &[&str]) -> String {
    let out = command(line[0]).args(&line[1..]).output().unwrap();
    assert!(out.status.success(), "{line:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// `app:1` and `app:2`, which has one layer more, and `other`.
fn images(host: &Host) {
    host.import(&Tree::busybox(), &[], "app:1");
    host.ok(&["run", "--name", "box", "--network", "none", "app:1", "sh", "-c", "echo changed > /new"]);
    host.ok(&["commit", "box", "app:2"]);
    host.ok(&["rm", "box"]);
    let tree = Tree::new();
    tree.file("content", "other");
    host.import(&tree, &[], "other");
}

fn documents(host: &Host, names: &[&str]) -> Vec<(Value, Value, Value)> {
    let of = |name: &&str| {
        let image = host.inspect(name);
        (image["Id"].clone(), image["RootFS"].clone(), image["Config"].clone())
    };
    names.iter().map(of).collect()
}

#[test]
fn every_form_is_loaded_again_with_the_same_ids() {
    let host = Host::new();
    images(&host);
    let all = ["app:1", "app:2", "other"];
    for form in ["docker-archive", "oci-archive", "oci-dir"] {
        let file = host.scratch(form).display().to_string();
        host.ok(&["save", "--format", form, "-o", &file, "app:1", "app:2", "other"]);
        let fresh = Host::new();
        fresh.ok(&["load", "-q", "-i", &file]);
        assert_eq!(documents(&fresh, &all), documents(&host, &all), "{form}");
        assert_eq!(fresh.ok(&["run", "--rm", "--network", "none", "app:2", "cat", "/new"]), "changed", "{form}");
        if form != "docker-archive" {
            // Manifests and compressed layers came byte for byte.
            let digest = |host: &Host| host.inspect("app:2")["Descriptor"]["digest"].clone();
            assert_eq!(digest(&fresh), digest(&host), "{form}");
        }
    }
    // Once more into what is there: nothing but the same.
    let dir = host.scratch("oci-dir").display().to_string();
    host.ok(&["save", "--format", "oci-dir", "-o", &dir, "app:2"]);
    assert_eq!(Host::new().ok(&["load", "-q", "-i", &dir]), "Loaded image: app:2");
    let refused = host.fails(&["save", "--format", "oci-dir", "app:1"], 1);
    assert!(refused.contains("hint: name it with -o"), "{refused}");
    assert!(host.fails(&["save", "--format", "floppy", "app:1"], 125).contains("docker-archive"));
}

#[test]
fn a_docker_archive_is_as_docker_writes_it() {
    let host = Host::new();
    images(&host);
    let file = host.scratch("docker.tar").display().to_string();
    host.ok(&["save", "--format", "docker-archive", "-o", &file, "app"]);
    let dir = host.scratch("unpacked");
    std::fs::create_dir(&dir).unwrap();
    program(&["tar", "xf", &file, "-C", &dir.display().to_string()]);
    let list: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2, "a name without a tag is all tags: {list}");
    for entry in list.as_array().unwrap() {
        let tag = entry["RepoTags"][0].as_str().unwrap();
        let image = host.inspect(tag);
        let config = program(&["sha256sum", &dir.join(entry["Config"].as_str().unwrap()).display().to_string()]);
        assert_eq!(config[..64], image["Id"].as_str().unwrap()[7..]);
        // Uncompressed: each file is its diff ID.
        for (layer, id) in entry["Layers"].as_array().unwrap().iter().zip(image["RootFS"]["Layers"].as_array().unwrap())
        {
            let sum = program(&["sha256sum", &dir.join(layer.as_str().unwrap()).display().to_string()]);
            assert_eq!(sum[..64], id.as_str().unwrap()[7..]);
        }
    }
    // podman's own library reads it.
    let target = host.scratch("copied").display().to_string();
    program(&["skopeo", "copy", &format!("docker-archive:{file}:app:2"), &format!("oci:{target}:x")]);
    assert!(Path::new(&target).join("index.json").exists());
    // The same images, the same bytes.
    let again = host.run(&["save", "--format", "docker-archive", "app"]).bytes;
    assert!(again == std::fs::read(&file).unwrap());
}

#[test]
fn an_oci_archive_has_no_file_of_dockers() {
    let host = Host::new();
    images(&host);
    let file = host.scratch("oci.tar").display().to_string();
    host.ok(&["save", "--format", "oci-archive", "-o", &file, "app:2"]);
    let listing = program(&["tar", "tf", &file]);
    assert!(listing.contains("oci-layout\n") && !listing.contains("manifest.json"), "{listing}");
    let seen: Value = serde_json::from_str(&program(&["skopeo", "inspect", &format!("oci-archive:{file}")])).unwrap();
    assert_eq!(seen["Digest"], host.inspect("app:2")["Descriptor"]["digest"]);
    let layout = host.scratch("layout").display().to_string();
    host.ok(&["save", "--format", "oci-dir", "-o", &layout, "app:2"]);
    let bundle = host.scratch("bundle").display().to_string();
    program(&["umoci", "unpack", "--image", &format!("{layout}:2"), &bundle]);
    assert_eq!(std::fs::read_to_string(format!("{bundle}/rootfs/new")).unwrap(), "changed\n");
}

#[test]
fn a_platform_is_asked_for_and_kept() {
    let host = Host::new();
    let tree = Tree::new();
    tree.file("content", "x");
    let archive = host.scratch("tree.tar").display().to_string();
    tree.tar(Path::new(&archive));
    host.ok(&["import", "--platform", "linux/arm64/v8", &archive, "foreign"]);
    let image = host.inspect("foreign");
    assert_eq!(
        (&image["Os"], &image["Architecture"], &image["Variant"]),
        (&"linux".into(), &"arm64".into(), &"v8".into())
    );
    let file = host.scratch("foreign.tar").display().to_string();
    let refused = host.fails(&["save", "--platform", "linux/amd64", "-o", &file, "foreign"], 1);
    assert!(refused.contains("linux/amd64") && refused.contains("for linux/arm64/v8 only"), "{refused}");
    assert!(!Path::new(&file).exists());
    host.ok(&["save", "--platform", "linux/arm64", "-o", &file, "foreign"]);
    let fresh = Host::new();
    assert!(fresh.fails(&["load", "--platform", "linux/amd64", "-i", &file], 1).contains("linux/arm64"));
    assert_eq!(fresh.ok(&["images", "-aq"]), "");
    fresh.ok(&["load", "-q", "--platform", "linux/arm64", "-i", &file]);
    assert_eq!(fresh.inspect("foreign")["Id"], image["Id"]);
    assert!(host.fails(&["import", "--platform", "arm64", &archive, "x"], 1).contains("OS/ARCH"));
    assert!(fresh.fails(&["rmi", "--platform", "linux/amd64", "foreign"], 1).contains("for linux/arm64/v8 only"));
    fresh.ok(&["rmi", "--platform", "linux/arm64", "foreign"]);
}

#[test]
fn an_index_of_several_platforms_is_loaded_for_the_one_asked_for() {
    let host = Host::new();
    let layout = host.scratch("layout").display().to_string();
    let mut manifests = Vec::new();
    for arch in ["amd64", "arm64"] {
        let tree = Tree::new();
        tree.file("arch", arch);
        let archive = host.scratch(&format!("{arch}.tar")).display().to_string();
        tree.tar(Path::new(&archive));
        host.ok(&["import", "--platform", &format!("linux/{arch}"), &archive, arch]);
        host.ok(&["save", "--format", "oci-dir", "-o", &layout, arch]);
        let index: Value =
            serde_json::from_slice(&std::fs::read(Path::new(&layout).join("index.json")).unwrap()).unwrap();
        let mut manifest = index["manifests"][0].clone();
        manifest["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/many:1"});
        manifests.push(manifest);
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
    std::fs::write(Path::new(&layout).join("index.json"), index.to_string()).unwrap();
    for (platform, arch) in [("linux/arm64", "arm64"), ("linux/amd64", "amd64")] {
        let fresh = Host::new();
        assert_eq!(fresh.ok(&["load", "-q", "--platform", platform, "-i", &layout]), "Loaded image: many:1");
        assert_eq!(fresh.inspect("many:1")["Architecture"], arch);
    }
    assert!(host.fails(&["load", "--platform", "linux/s390x", "-i", &layout], 1).contains("there is only"));
}
