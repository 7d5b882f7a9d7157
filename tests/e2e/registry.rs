//! `pull` and `push` against a real registry, and what `run` pulls by itself.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tare_tests::{Host, Output, Registry, Tree, command};

#[track_caller]
fn program(line: &[&str]) -> Vec<u8> {
    let out = command(line[0]).args(&line[1..]).output().unwrap();
    assert!(out.status.success(), "{line:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn id(host: &Host, image: &str) -> String {
    host.ok(&["image", "inspect", "-f", "{{.Id}}", image])
}

fn run(host: &Host, image: &str, command: &[&str]) -> String {
    host.ok(&[&["run", "--rm", "--network", "none", image], command].concat())
}

/// Pushes `busybox` under a name of the registry; the name.
fn pushed(host: &Host, registry: &Registry, rest: &str) -> String {
    let name = registry.name(rest);
    host.busybox();
    host.ok(&["tag", "busybox", &name]);
    host.ok(&["push", &name]);
    name
}

/// The digest that the registry itself gives for a name.
fn digest(name: &str) -> String {
    let raw = program(&["skopeo", "inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    sha256(&raw)
}

fn sha256(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    let out = program(&["sha256sum", &path.display().to_string()]);
    format!("sha256:{}", &String::from_utf8(out).unwrap()[..64])
}

#[test]
fn an_image_is_pushed_and_pulled_by_tag_and_by_digest() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = registry.name("team/app:1");
    host.busybox();
    host.ok(&["tag", "busybox", &name]);
    let said = host.ok(&["push", &name]);
    let digest = digest(&name);
    assert!(said.starts_with(&format!("{name}: digest: {digest} size: ")), "{said}");
    assert_eq!(host.inspect(&name)["Descriptor"]["digest"], digest);
    let other = Host::new();
    let out = other.run(&["pull", &name]);
    assert_eq!((out.code, out.stdout.trim_end()), (0, name.as_str()), "{}", out.stderr);
    assert!(out.stderr.contains(&format!("Digest: {digest}")), "{}", out.stderr);
    assert_eq!(id(&other, &name), id(&host, "busybox"));
    assert_eq!(run(&other, &name, &["echo", "there"]), "there");
    let third = Host::new();
    let by_digest = format!("{}@{digest}", registry.name("team/app"));
    assert_eq!(third.run(&["pull", "-q", &by_digest]).stderr, "");
    assert_eq!(
        third.ok(&["images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]),
        format!("{} <none> {digest}", registry.name("team/app"))
    );
    assert_eq!(run(&third, &by_digest, &["echo", "there"]), "there");
    assert_eq!(third.inspect(&by_digest)["RepoDigests"], json!([by_digest]));
    // Pulling again transfers nothing but the manifest.
    registry.requests();
    other.ok(&["pull", &name]);
    let requests = registry.requests();
    assert!(requests.iter().all(|r| r.contains("/manifests/")), "{requests:?}");
}

/// Mechanism: only what is missing travels.
#[test]
fn only_missing_layers_travel_both_ways() {
    let (host, registry) = (Host::new(), Registry::start());
    let base = pushed(&host, &registry, "app:base");
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo new > /new"]);
    let derived = registry.name("app:derived");
    host.ok(&["commit", "box", &derived]);
    registry.requests();
    host.ok(&["push", &derived]);
    let uploads = registry.requests().into_iter().filter(|r| r.starts_with("PUT") && r.contains("/blobs/")).count();
    assert_eq!(uploads, 2, "the new layer and the config");
    // To another repository the shared layers are mounted, not sent.
    let elsewhere = registry.name("elsewhere/app:1");
    host.ok(&["tag", &derived, &elsewhere]);
    host.ok(&["push", &elsewhere]);
    assert_eq!(digest(&elsewhere), digest(&derived));
    let other = Host::new();
    registry.requests();
    other.ok(&["pull", &base]);
    assert_eq!(blobs_fetched(&registry).len(), 2, "one layer and the config");
    other.ok(&["pull", &derived]);
    let fetched = blobs_fetched(&registry);
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    let first = layer_blobs(&base)[0].clone();
    assert!(!fetched.contains(&first), "{first} has been here: {fetched:?}");
    assert_eq!(run(&other, &derived, &["cat", "/new"]), "new");
}

/// Digests of the blobs that were fetched since the last look, sorted.
fn blobs_fetched(registry: &Registry) -> Vec<String> {
    let requests = registry.requests();
    let mut list: Vec<_> = requests
        .iter()
        .filter(|r| r.starts_with("GET"))
        .filter_map(|r| Some(r.split_once("/blobs/")?.1.to_owned()))
        .collect();
    list.sort();
    list
}

fn layer_blobs(name: &str) -> Vec<String> {
    let raw = program(&["skopeo", "inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    let manifest: Value = serde_json::from_slice(&raw).unwrap();
    manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn run_pulls_what_is_missing_and_as_it_is_told() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = pushed(&host, &registry, "app:1");
    let other = Host::new();
    let never = other.fails(&["run", "--rm", "--pull", "never", &name, "true"], 125);
    assert!(never.contains(&format!("hint: tare pull {name}")), "{never}");
    registry.requests();
    let out = other.run(&["run", "--rm", "--network", "none", &name, "echo", "ran"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "ran\n"), "{}", out.stderr);
    assert!(out.stderr.contains(&format!("image {name} is not here: pulling it")), "{}", out.stderr);
    assert!(!registry.requests().is_empty());
    // Here now: not looked for again.
    let out = other.run(&["run", "--rm", "--network", "none", &name, "echo", "ran"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("ran\n", ""));
    assert_eq!(registry.requests(), [""; 0]);
    // The tag moves; only `always` notices.
    host.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo second > /version"]);
    host.ok(&["commit", "box", &name]);
    host.ok(&["push", &name]);
    other.fails(&["run", "--rm", "--network", "none", "--pull", "missing", &name, "cat", "/version"], 1);
    let second = other.ok(&["run", "--rm", "--network", "none", "-q", "--pull", "always", &name, "cat", "/version"]);
    assert_eq!(second, "second");
    // `create` pulls, too, and says nothing when asked not to.
    let third = Host::new();
    let out = third.run(&["create", "--quiet", &name, "true"]);
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
    assert_eq!(out.stdout.trim_end().len(), 64);
    let out = third.run(&["run", "--rm", &registry.name("none:1"), "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("404") && out.stderr.contains("check the name and the tag"), "{}", out.stderr);
}

fn with(host: &Host, variable: &str, value: &Path, args: &[&str]) -> Output {
    let mut command = host.command(args);
    tare_tests::Running::start(command.env(variable, value), None).wait()
}

/// A directory with docker's config.json for this registry.
fn config(host: &Host, name: &str, registry: &Registry, password: &str) -> PathBuf {
    let dir = host.scratch(name);
    std::fs::create_dir_all(&dir).unwrap();
    let plain = format!("user:{password}");
    let encoded = program(&["sh", "-c", "printf %s \"$0\" | base64", &plain]);
    let auth = String::from_utf8(encoded).unwrap().trim().to_owned();
    let document = json!({"auths": {registry.address(): {"auth": auth}}});
    std::fs::write(dir.join("config.json"), document.to_string()).unwrap();
    dir
}

#[test]
fn credentials_are_those_of_dockers_config() {
    let (host, registry) = (Host::new(), Registry::with_password());
    let name = registry.name("private/app:1");
    host.busybox();
    host.ok(&["tag", "busybox", &name]);
    let right = config(&host, "right", &registry, "secret");
    let wrong = config(&host, "wrong", &registry, "guess");
    let refused = host.fails(&["push", &name], 1);
    assert!(refused.contains("401") && refused.contains(&format!("docker login {}", registry.address())), "{refused}");
    let out = with(&host, "DOCKER_CONFIG", &wrong, &["push", &name]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("401") && out.stderr.contains("check that the user in config.json"), "{}", out.stderr);
    let out = with(&host, "DOCKER_CONFIG", &right, &["push", &name]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let other = Host::new();
    let refused = other.fails(&["pull", &name], 1);
    assert!(refused.contains("config.json"), "{refused}");
    assert_eq!(other.run(&["run", "--rm", &name, "true"]).code, 125);
    assert_eq!(other.ok(&["images", "-q"]), "");
    // podman's variable names the file.
    let out = with(&other, "REGISTRY_AUTH_FILE", &right.join("config.json"), &["pull", "-q", &name]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    other.ok(&["rmi", &name]);
    // ~/.docker; `run` hands them on to its pull.
    let home = host.scratch("home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::rename(&right, home.join(".docker")).unwrap();
    let out = with(&other, "HOME", &home, &["run", "--rm", "--network", "none", &name, "echo", "in"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "in\n"), "{}", out.stderr);
}

#[test]
fn what_cannot_be_pulled_is_said_with_a_hint() {
    let (host, registry) = (Host::new(), Registry::start());
    pushed(&host, &registry, "app:1");
    let port = free_port();
    let case = |name: &str, words: &[&str]| {
        for (args, code) in [(vec!["pull", name], 1), (vec!["run", "--rm", name, "true"], 125)] {
            let said = host.fails(&args, code);
            for word in words {
                assert!(said.contains(word), "{word:?} is missing in {said}");
            }
        }
    };
    case(&format!("127.0.0.1:{port}/x"), &["connection refused", "check that a registry listens on port", &port]);
    case("nowhere.invalid/x", &["no such host nowhere.invalid", "hint: check the name"]);
    case(&registry.name("app:2"), &["404", "manifest unknown", "hint: check the name and the tag"]);
    case(&registry.name("none:1"), &["404", "hint: check the name and the tag"]);
    let zeros = "0".repeat(64);
    case(&registry.name(&format!("app@sha256:{zeros}")), &["404"]);
    for name in ["UPPER/case", "a:b:c", "x@sha256:12", "-x", ""] {
        let out = host.run(&["pull", "--", name]);
        assert!(out.code == 1 || out.code == 125, "{name}");
        assert!(out.stderr.starts_with("tare: "), "{name}: {}", out.stderr);
    }
    let refused = host.fails(&["push", &registry.name("never:made")], 1);
    assert!(refused.contains("no such image"), "{refused}");
    // A server that speaks no HTTP.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for mut connection in mute.incoming().flatten() {
            let _ = connection.write_all(b"220 mail ready\r\n");
        }
    });
    case(&format!("{address}/x:1"), &["pull "]);
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = pushed(&host, &registry, "app:1");
    let layer = layer_blobs(&name)[0].clone();
    let file = registry.blob(&layer);
    let whole = std::fs::read(&file).unwrap();
    let other = Host::new();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for (what, bytes) in [("one byte", &damaged[..]), ("half", &whole[..middle])] {
        std::fs::write(&file, bytes).unwrap();
        let said = other.fails(&["pull", &name], 1);
        assert!(said.starts_with("tare: pull "), "{what}: {said}");
        assert_eq!(other.ok(&["images", "-aq"]), "", "{what}");
        let left = std::fs::read_dir(other.root().join("layers")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{what}");
    }
    std::fs::write(&file, &whole).unwrap();
    other.ok(&["pull", &name]);
    assert_eq!(run(&other, &name, &["echo", "whole"]), "whole");
}

/// An OCI layout on disk, made by hand: for images that no program makes in passing.
struct Layout(PathBuf);

impl Layout {
    fn new(dir: PathBuf) -> Layout {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout(dir)
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = sha256(bytes);
        std::fs::write(self.0.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// A manifest for one platform, with layers of different compressions.
    fn manifest(&self, arch: &str, tars: &[(&[u8], &str)]) -> Value {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for (tar, pack) in tars {
            diff_ids.push(sha256(tar));
            let suffix = if pack.is_empty() { String::new() } else { format!("+{pack}") };
            let bytes = packed(tar, pack);
            layers.push(self.blob(&bytes, &format!("application/vnd.oci.image.layer.v1.tar{suffix}")));
        }
        let config = json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["cat", "/arch"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers});
        let mut descriptor = self.blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        descriptor["platform"] = json!({"architecture": arch, "os": "linux"});
        descriptor
    }

    fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests});
        self.blob(index.to_string().as_bytes(), "application/vnd.oci.image.index.v1+json")
    }

    fn push(&self, mut top: Value, name: &str) {
        top["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        let from = format!("oci:{}:it", self.0.display());
        let to = format!("docker://{name}");
        program(&["skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
    }
}

fn packed(tar: &[u8], pack: &str) -> Vec<u8> {
    if pack.is_empty() {
        return tar.to_vec();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    std::fs::write(&file, tar).unwrap();
    program(&[pack, "-c", &file.display().to_string()])
}

fn one_file(host: &Host, path: &str, content: &str) -> Vec<u8> {
    let tree = Tree::new();
    tree.file(path, content);
    let file = host.scratch("one.tar");
    tree.tar(&file);
    std::fs::read(file).unwrap()
}

#[test]
fn the_image_for_this_platform_is_chosen_from_an_index() {
    let (host, registry) = (Host::new(), Registry::start());
    let layout = Layout::new(host.scratch("layout"));
    let busybox = std::fs::read(tare_tests::busybox_tar()).unwrap();
    let image = |arch: &str| {
        layout.manifest(arch, &[(&busybox, "gzip"), (&one_file(&host, "arch", &format!("{arch}\n")), "gzip")])
    };
    let manifests = [image("arm64"), image("amd64"), image("s390x")];
    let index = layout.index(&manifests);
    let name = registry.name("multi:1");
    layout.push(index.clone(), &name);
    let out = host.run(&["run", "--rm", "--network", "none", &name]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "amd64\n"), "{}", out.stderr);
    // Its digest is the index's: that is what the name means everywhere.
    let digest = index["digest"].as_str().unwrap();
    let by_digest = format!("{}@{digest}", registry.name("multi"));
    assert!(host.inspect(&name)["RepoDigests"].as_array().unwrap().contains(&by_digest.as_str().into()));
    let other = Host::new();
    other.ok(&["pull", "--platform", "linux/arm64", &name]);
    assert_eq!(other.inspect(&name)["Architecture"], "arm64");
    let refused = other.fails(&["run", "--rm", &name], 125);
    assert!(refused.contains("arm64") && refused.contains("amd64"), "{refused}");
    let refused = other.fails(&["pull", "--platform", "linux/riscv64", &name], 1);
    assert!(refused.contains("linux/riscv64") && refused.contains("linux/s390x"), "{refused}");
    assert!(other.fails(&["pull", "--platform", "amd64/linux/x/y", &name], 1).contains("amd64/linux/x/y"));
    // An index without this platform.
    let foreign = registry.name("foreign:1");
    layout.push(layout.index(&manifests[..1]), &foreign);
    let refused = other.fails(&["pull", &foreign], 1);
    assert!(refused.contains("linux/amd64") && refused.contains("linux/arm64"), "{refused}");
}

#[test]
fn layers_may_be_plain_or_compressed_either_way() {
    let (host, registry) = (Host::new(), Registry::start());
    let layout = Layout::new(host.scratch("layout"));
    let busybox = std::fs::read(tare_tests::busybox_tar()).unwrap();
    let files: Vec<Vec<u8>> = ["plain", "gzip", "zstd"].iter().map(|f| one_file(&host, f, &format!("{f}\n"))).collect();
    let manifest =
        layout.manifest("amd64", &[(&busybox, "zstd"), (&files[0], ""), (&files[1], "gzip"), (&files[2], "zstd")]);
    let name = registry.name("packed:1");
    layout.push(manifest.clone(), &name);
    host.ok(&["pull", &name]);
    assert_eq!(run(&host, &name, &["cat", "/plain", "/gzip", "/zstd"]), "plain\ngzip\nzstd");
    assert_eq!(host.inspect(&name)["Descriptor"]["digest"], manifest["digest"]);
    // Pushed again it is byte for byte the same.
    let again = registry.name("again:1");
    host.ok(&["tag", &name, &again]);
    host.ok(&["push", &again]);
    assert_eq!(digest(&again), manifest["digest"].as_str().unwrap());
}

#[test]
fn skopeo_pulls_what_tare_pushes() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = pushed(&host, &registry, "app:1");
    let copy = host.scratch("copy").display().to_string();
    program(&["skopeo", "copy", "--src-tls-verify=false", &format!("docker://{name}"), &format!("dir:{copy}")]);
    let manifest = std::fs::read(format!("{copy}/manifest.json")).unwrap();
    assert_eq!(host.inspect(&name)["Descriptor"]["digest"], sha256(&manifest));
}

#[test]
fn progress_is_shown_as_it_is_asked_for() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = pushed(&host, &registry, "team/app:1");
    let pull = |how: &[&str]| {
        let out = Host::new().run(&[&["pull"], how, &[name.as_str()]].concat());
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert_eq!(out.stdout.trim_end(), name);
        out.stderr
    };
    let said = pull(&["--progress", "json"]);
    let events: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    assert_eq!((&first["status"], &first["bytes"]), (&json!("download"), &json!(0)), "{said}");
    assert_eq!((&last["outcome"], &last["bytes"]), (&json!("done"), &first["total"]), "{said}");
    let said = pull(&["--progress=plain"]);
    assert!(said.contains(": download done\n") && !said.contains('\x1b'), "{said}");
    let said = pull(&["--progress=tty"]);
    assert!(said.contains("\x1b[K") && said.contains(": download done"), "{said}");
    assert_eq!(pull(&["--progress=quiet"]), "");
    let e = Host::new().run(&["pull", "--progress=loud", &name]);
    assert!(e.code != 0 && e.stderr.contains("loud"), "{}", e.stderr);
}
