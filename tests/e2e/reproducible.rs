//! The same files give the same digests; and `commit --explain`, which says what they would be.

use serde_json::Value;
use std::path::Path;
use tare_tests::{Host, Output, Running, Tree, command};

const EPOCH: &str = "1700000000";

fn at_epoch(host: &Host, args: &[&str]) -> Output {
    with_epoch(host, args, EPOCH)
}

fn with_epoch(host: &Host, args: &[&str], epoch: &str) -> Output {
    let mut command = host.command(args);
    command.env("SOURCE_DATE_EPOCH", epoch);
    Running::start(&mut command, None).wait()
}

fn digest(host: &Host, name: &str) -> Value {
    host.inspect(name)["Descriptor"]["digest"].clone()
}

#[test]
fn a_root_filesystem_is_the_same_image_however_it_was_packed() {
    let tree = Tree::busybox();
    tree.dir("a", 0o755).dir("a/deep", 0o700).file("a/deep/file", "x").file("z", "y");
    std::fs::hard_link(tree.path("z"), tree.path("a/z")).unwrap();
    let dir = tree.path("").display().to_string();
    let host = Host::new();
    let pack = |options: &[&str], packer: Option<&str>, name: &str| {
        let out = command("tar").args(["-c", "-C", &dir]).args(options).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let file = host.scratch(name);
        std::fs::write(&file, out.stdout).unwrap();
        if let Some(packer) = packer {
            let packed = command(packer).arg("-c").arg(&file).output().unwrap().stdout;
            std::fs::write(&file, packed).unwrap();
        }
        let out = at_epoch(&host, &["import", &file.display().to_string(), name]);
        assert_eq!(out.code, 0, "{}", out.stderr);
    };
    pack(&["--sort=name", "--numeric-owner", "."], None, "sorted");
    pack(&["--format=gnu", "--sort=inode", "."], Some("gzip"), "gnu");
    pack(&["--format=pax", "--sort=none", "z", "a", "etc", "bin", "."], Some("zstd"), "pax");
    assert_eq!(digest(&host, "gnu"), digest(&host, "sorted"));
    assert_eq!(digest(&host, "pax"), digest(&host, "sorted"));
    assert_eq!(host.ok(&["images", "-q"]).lines().count(), 1, "one image of three names");
    let image = host.inspect("sorted");
    assert_eq!(image["Created"], "2023-11-14T22:13:20Z");
    let links = host.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "sorted",
        "sh",
        "-c",
        "stat -c %h /z /a/z; cat /a/z /a/deep/file",
    ]);
    assert_eq!(links, "2\n2\nyx");
    // What is exported is sorted, and comes back as it went.
    host.ok(&["create", "--name", "box", "sorted", "sh"]);
    let one = at_epoch(&host, &["export", "box"]).bytes;
    assert!(one == at_epoch(&host, &["export", "box"]).bytes);
    let listing = host.scratch("export.tar");
    std::fs::write(&listing, &one).unwrap();
    let out = command("tar").args(["-tv", "--full-time", "-f"]).arg(&listing).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|l| l.split_whitespace().nth(5)).collect();
    assert!(names.is_sorted_by_key(|n| n.trim_end_matches('/').split('/').collect::<Vec<_>>()), "{names:?}");
    assert!(text.lines().all(|l| l.contains(" 0/0 ") || l.contains(" 33/33 ")), "no names of users: {text}");
}

#[test]
fn two_commits_of_the_same_changes_are_one_layer() {
    let host = Host::new();
    host.busybox();
    let script =
        "mkdir -p /b /a; echo x > /b/x; echo y > /a/y; ln /a/y /a/z; rm /etc/group; head -c 3000000 /dev/zero > /zeros";
    for name in ["one", "two"] {
        host.ok(&["run", "--name", name, "--network", "none", "--hostname", name, "busybox", "sh", "-c", script]);
        let out = at_epoch(&host, &["commit", name, &format!("made:{name}")]);
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
    // Written some moments apart, but nothing is younger than the epoch.
    assert_eq!(host.inspect("made:one")["RootFS"], host.inspect("made:two")["RootFS"]);
    assert_eq!(digest(&host, "made:one"), digest(&host, "made:two"));
    assert_eq!(host.inspect("made:one")["Created"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(
        host.ok(&["run", "--rm", "--network", "none", "made:one", "stat", "-c", "%Y %h", "/a/y"]),
        format!("{EPOCH} 2")
    );
    // Without it the times are those of the files, so twice the same container is the same layer.
    for name in ["again:1", "again:2"] {
        host.ok(&["commit", "one", name]);
    }
    assert_eq!(host.inspect("again:1")["RootFS"], host.inspect("again:2")["RootFS"]);
    let bad = with_epoch(&host, &["commit", "one"], "yesterday");
    assert!(bad.code == 1 && bad.stderr.contains("SOURCE_DATE_EPOCH=yesterday"), "{}", bad.stderr);
}

/// Larger than what is compressed in one piece, some of it random: what a registry and others unpack is what was committed.
#[test]
fn a_large_commit_is_read_by_others() {
    let host = Host::new();
    host.busybox();
    let script = "head -c 5000000 /dev/urandom > /random; yes text | head -c 4000000 > /text; : > /empty; \
                  cat /random /text /empty | sha256sum";
    let sum = host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    host.ok(&["commit", "box", "large"]);
    let check = ["run", "--rm", "--network", "none", "large", "sh", "-c", "cat /random /text /empty | sha256sum"];
    assert_eq!(host.ok(&check), sum);
    let layout = host.scratch("layout").display().to_string();
    host.ok(&["save", "--format", "oci-dir", "-o", &layout, "large"]);
    let bundle = host.scratch("bundle").display().to_string();
    let out = command("umoci").args(["unpack", "--image", &format!("{layout}:latest"), &bundle]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let pipe = format!("cd {bundle}/rootfs && cat random text empty | sha256sum");
    let out = command("sh").args(["-c", &pipe]).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim_end(), sum);
    // Its own blob, by gzip itself.
    let manifest = host.inspect("large")["Descriptor"]["digest"].as_str().unwrap()[7..].to_owned();
    let blobs = Path::new(&layout).join("blobs/sha256");
    let manifest: Value = serde_json::from_slice(&std::fs::read(blobs.join(manifest)).unwrap()).unwrap();
    let blob = blobs.join(&manifest["layers"][1]["digest"].as_str().unwrap()[7..]);
    let pipe = format!("gzip -dc < {} | sha256sum", blob.display());
    let out = command("sh").args(["-c", &pipe]).output().unwrap();
    let diff_id = host.inspect("large")["RootFS"]["Layers"][1].as_str().unwrap()[7..].to_owned();
    assert_eq!(String::from_utf8(out.stdout).unwrap()[..64], diff_id);
}

#[test]
fn a_commit_is_explained_before_it_is_made() {
    let host = Host::new();
    host.busybox();
    let script = "mkdir -p /root/.ssh /srv; echo key > /root/.ssh/id_ed25519; printf 'ls\\n' > /root/.ash_history; \
                  echo '-----BEGIN RSA PRIVATE KEY-----' > /srv/odd-name; echo plain > /srv/plain; rm /etc/group; \
                  echo 'token=ghp_0123456789abcdefghij0123456789abcdef' > /srv/conf; echo 1.1.1.1 x >> /etc/hosts; echo v > /vol/v";
    host.ok(&[
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "data:/vol",
        "-e",
        "API_TOKEN=abc",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let before = host.ok(&["images", "-q"]);
    let out = host.run(&["commit", "--explain", "-c", "ENV DB_PASSWORD=x", "box", "never:1"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stderr.contains("Nothing was committed"), "{}", out.stderr);
    assert_eq!(host.ok(&["images", "-q"]), before);
    assert!(out.stdout.contains("odd-name") && out.stdout.contains("Stays out:"), "{}", out.stdout);
    let told: Value =
        serde_json::from_str(&host.ok(&["commit", "--explain", "--format", "json", "-c", "ENV DB_PASSWORD=x", "box"]))
            .unwrap();
    let secrets: Vec<(&str, &str)> = told["Secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["Place"].as_str().unwrap(), s["What"].as_str().unwrap()))
        .collect();
    assert_eq!(
        secrets,
        [
            ("/root/.ash_history", "history of a shell"),
            ("/root/.ssh/id_ed25519", "private key of SSH"),
            ("/srv/conf", "token of GitHub"),
            ("/srv/odd-name", "private key"),
            ("Env API_TOKEN", "a variable named like a secret"),
            ("Env DB_PASSWORD", "a variable named like a secret"),
        ]
    );
    let out: Vec<&str> = told["LeftOut"].as_array().unwrap().iter().map(|l| l["Path"].as_str().unwrap()).collect();
    for path in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/vol"] {
        assert!(out.contains(&path), "{path}: {out:?}");
    }
    let entries = told["Entries"].as_array().unwrap();
    let entry = |path: &str| entries.iter().find(|e| e["Path"] == path).cloned();
    assert_eq!(entry("/srv/plain").unwrap(), serde_json::json!({"Path": "/srv/plain", "Kind": "A", "Size": 6}));
    assert_eq!(entry("/etc/group").unwrap()["Kind"], "D");
    assert_eq!((entry("/etc/hosts"), entry("/vol/v")), (None, None));
    // What was foretold is what comes.
    host.ok(&["commit", "box", "made"]);
    let tree = host.ok(&["image", "tree", "--format", "{{.Size}}", "made"]);
    assert_eq!(tree.lines().last().unwrap(), format!("{}B", told["Bytes"]));
    assert!(host.fails(&["commit", "--explain", "-c", "RUN x", "box"], 1).contains("RUN"));
}

#[test]
fn a_health_check_is_recorded() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "busybox"]);
    host.ok(&["commit", "-c", "HEALTHCHECK --interval=5s --retries=2 CMD test -f /up", "box", "healthy"]);
    let probe = host.inspect("healthy")["Config"]["Healthcheck"].clone();
    assert_eq!(
        probe,
        serde_json::json!({"Test": ["CMD-SHELL", "test -f /up"], "Interval": 5_000_000_000u64, "Retries": 2})
    );
}
