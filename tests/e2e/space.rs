//! Disk space: counted as du does, given back, proved whole, put right.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use tare_tests::{Host, Registry, Tree, command};

/// Bytes below a directory, as du(1) sees them.
fn du(dir: &Path) -> u64 {
    let out = command("du").args(["-s", "--block-size=1"]).arg(dir).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// `system df`, each line's bytes.
fn df(host: &Host, kind: &str) -> u64 {
    let text = host.ok(&["system", "df", "--format", "{{.Type}}={{.Bytes}}"]);
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{kind}="))).unwrap();
    line.parse().unwrap()
}

/// Compares the two when nothing has changed between two looks of du's.
#[track_caller]
fn equal(host: &Host) {
    for _ in 0..50 {
        let before = du(host.root());
        let total = df(host, "Total");
        if du(host.root()) == before {
            assert_eq!(total, before);
            return;
        }
    }
    panic!("the root does not come to rest");
}

fn holes_and_links(dir: &Path) {
    let mut file = std::fs::File::create(dir.join("sparse")).unwrap();
    file.write_all(&[1; 5000]).unwrap();
    file.set_len(1 << 30).unwrap();
    std::fs::write(dir.join("file"), vec![2; 100_000]).unwrap();
    std::fs::hard_link(dir.join("file"), dir.join("again")).unwrap();
}

fn regular_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            found.extend(regular_files(&path));
        } else if meta.is_file() && meta.len() > 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn df_equals_du() {
    let host = Host::new();
    host.busybox();
    equal(&host);
    let volume = host.ok(&["volume", "create", "data"]);
    holes_and_links(&host.root().join("volumes").join(&volume).join("_data"));
    let script = "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; ln /big /again; \
                  dd if=/dev/zero of=/sparse bs=1 count=1 seek=100M 2>/dev/null; echo done; sleep 1000";
    host.ok(&["run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", script]);
    assert!(tare_tests::eventually(std::time::Duration::from_secs(20), || host.ok(&["logs", "box"]) == "done"));
    equal(&host);
    assert!(df(&host, "Containers") >= 3 << 20);
    assert!(df(&host, "Local Volumes") >= 100_000);
    // What a killed process leaves.
    std::fs::write(host.root().join("blobs/sha256").join("0".repeat(64)), vec![1; 50_000]).unwrap();
    equal(&host);
    assert!(df(&host, "Unreferenced") >= 50_000);
    host.ok(&["system", "prune", "-f"]);
    assert_eq!(df(&host, "Unreferenced"), 0);
    equal(&host);
    let verbose = host.ok(&["system", "df", "-v"]);
    for word in ["busybox", "box", "data", "UNIQUE SIZE", "Total"] {
        assert!(verbose.contains(word), "{word}: {verbose}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&host.ok(&["system", "df", "-v", "--format", "json"])).unwrap();
    assert_eq!(document["Images"][0]["Containers"], "1");
    host.ok(&["rm", "-f", "box"]);
}

#[test]
fn pruning_takes_what_is_not_used_and_obeys_filters() {
    let host = Host::new();
    host.busybox();
    for (name, label) in [("one", "a=1"), ("two", "b=1")] {
        host.ok(&["run", "--name", name, "--label", label, "--network", "none", "busybox", "true"]);
    }
    host.ok(&["run", "-d", "--name", "busy", "--network", "none", "busybox", "sleep", "1000"]);
    let id = |name: &str| host.ok(&["inspect", "-f", "{{.Id}}", name]);
    let (one, two) = (id("one"), id("two"));
    assert_eq!(host.ok(&["container", "prune", "-f", "--filter", "until=24h"]), "Total reclaimed space: 0B");
    let gone = host.ok(&["container", "prune", "-f", "--filter", "label=a"]);
    assert!(gone.starts_with(&format!("Deleted Containers:\n{one}\n\nTotal reclaimed space: ")), "{gone}");
    // Without -f somebody must agree.
    let refused = host.run_with(&["container", "prune"], b"n\n");
    assert_eq!((refused.code, host.ok(&["ps", "-aq"]).lines().count()), (1, 2), "{}", refused.stderr);
    let agreed = host.run_with(&["container", "prune"], b"y\n");
    assert!(agreed.code == 0 && agreed.stdout.contains(&two), "{}", agreed.stdout);

    let tree = Tree::new();
    tree.file("content", "x");
    host.import(&tree, &["LABEL keep=yes"], "kept");
    host.import(&tree, &[], "spare");
    host.ok(&["tag", "kept", "spare"]);
    // `spare` moved away from its image, which has no name now.
    let dangling = host.ok(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    let gone = host.ok(&["image", "prune", "-f"]);
    assert!(gone.contains(&format!("deleted: {dangling}")), "{gone}");
    assert_eq!(host.ok(&["image", "prune", "-af", "--filter", "label!=keep"]), "Total reclaimed space: 0B");
    let gone = host.ok(&["system", "prune", "-af"]);
    assert!(gone.contains("untagged: kept:latest") && !gone.contains("busybox"), "{gone}");
    assert_eq!(host.ok(&["images", "--format", "{{.Repository}}"]), "busybox", "a container runs on it");
    host.ok(&["rm", "-f", "busy"]);
    host.ok(&["system", "prune", "-af", "--volumes"]);
    assert_eq!(regular_files(&host.root().join("layers")).len() + regular_files(&host.root().join("blobs")).len(), 0);
}

#[test]
fn damage_is_found_and_mended_by_pulling_again() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = registry.name("app:1");
    host.busybox();
    host.ok(&["tag", "busybox", &name]);
    host.ok(&["push", &name]);
    let whole = host.ok(&["image", "verify", &name]);
    assert!(whole.ends_with("read: whole"), "{whole}");
    for dir in ["layers", "blobs/sha256"] {
        let files = regular_files(&host.root().join(dir));
        let file = files.iter().max_by_key(|f| std::fs::metadata(f).unwrap().len()).unwrap();
        let mut bytes = std::fs::read(file).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
        std::fs::write(file, bytes).unwrap();
        let out = host.run(&["image", "verify", "--all", "--report-only"]);
        assert!(out.code == 1 && file.exists(), "{dir}: {}", out.stdout);
        let out = host.run(&["image", "verify", &name]);
        assert!(out.code == 1 && out.stdout.contains("tare pull "), "{dir}: {}", out.stdout);
        host.ok(&["pull", &name]);
        let whole = host.ok(&["image", "verify", "--all"]);
        assert!(whole.ends_with("read: whole"), "{dir}: {whole}");
        assert_eq!(host.ok(&["run", "--rm", "--network", "none", &name, "echo", "runs"]), "runs");
    }
    host.ok(&["system", "prune", "-f"]);
    assert_eq!(host.ok(&["system", "check"]), "everything is as it should be");
}

#[test]
fn a_store_that_has_lost_its_database_is_refused_and_put_right() {
    let host = Host::new();
    host.busybox();
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo kept > /file"]);
    assert_eq!(host.ok(&["system", "check"]), "everything is as it should be");
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(host.root().join(file));
    }
    let refused = host.fails(&["ps", "-a"], 1);
    assert!(refused.contains("state.db is missing") && refused.contains("tare system check --repair"), "{refused}");
    assert!(host.fails(&["system", "prune", "-af"], 1).contains("state.db is missing"));
    assert!(host.ok(&["system", "check"]).contains("state.db: "));
    let done = host.ok(&["system", "check", "--repair"]);
    assert!(
        done.contains("repaired: container box: found again") && done.contains("found again, without its names"),
        "{done}"
    );
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Names}}"]), "box");
    host.ok(&["cp", "box:/file", &host.scratch("file").display().to_string()]);
    assert_eq!(std::fs::read_to_string(host.scratch("file")).unwrap(), "kept\n");
    assert_eq!(host.ok(&["start", "-a", "box"]), "");
    host.ok(&["image", "verify", "--all"]);
    assert_eq!(host.ok(&["system", "check"]), "everything is as it should be");
    host.ok(&["rm", "box"]);
}

#[test]
fn compressed_layers_need_not_be_kept() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = registry.name("app:1");
    host.busybox();
    host.ok(&["tag", "busybox", &name]);
    host.ok(&["push", &name]);
    let (with, without) = (Host::new(), Host::new());
    with.ok(&["pull", &name]);
    without.ok(&["pull", "--keep-blobs=false", &name]);
    if regular_files(&without.root().join("layers")).iter().all(|f| !f.ends_with("layer.erofs")) {
        tare_tests::skip("this kernel mounts no images, so blobs are kept");
        return;
    }
    assert!(df(&without, "Blobs") < df(&with, "Blobs"));
    assert!(without.ok(&["image", "verify", "--all"]).ends_with("read: whole"));
    assert_eq!(without.ok(&["system", "check"]), "everything is as it should be");
    assert_eq!(without.ok(&["run", "--rm", "--network", "none", &name, "echo", "runs"]), "runs");
    // What the registry has need not be here; elsewhere it is compressed again, by tare as before.
    without.ok(&["push", &name]);
    let other = registry.name("other:1");
    without.ok(&["tag", &name, &other]);
    without.ok(&["push", &other]);
    let archive = without.scratch("saved.tar").display().to_string();
    without.ok(&["save", "-o", &archive, &name]);
    let third = Host::new();
    third.ok(&["load", "-i", &archive]);
    assert_eq!(third.inspect(&name)["Id"], host.inspect("busybox")["Id"]);
    assert_eq!(without.ok(&["system", "check"]), "everything is as it should be");
}
