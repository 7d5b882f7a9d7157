//! A whole Debian, from its bootstrap through a registry to another machine: the same image runs the same everywhere.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_tests::{Host, Registry, Running, command};

#[track_caller]
fn program(line: &[&str]) -> String {
    let out = Running::start(command(line[0]).args(&line[1..]), None).wait_for(Duration::from_secs(240));
    assert_eq!(out.code, 0, "{line:?}: {}{}", out.stdout, out.stderr);
    out.stdout
}

/// The archive of a minimal Debian with ps(1), made once on each machine.
fn debian() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tools/debian-tarball");
    let out = Running::start(&mut command(script), None).wait_for(Duration::from_secs(280));
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.stdout.trim().into()
}

/// The Debian image, pushed to the registry by umoci and skopeo alone; its name.
fn pushed_by_others(host: &Host, registry: &Registry) -> String {
    let layout = host.scratch("layout").display().to_string();
    let image = format!("{layout}:debian");
    let bundle = host.scratch("bundle").display().to_string();
    program(&["umoci", "init", "--layout", &layout]);
    program(&["umoci", "new", "--image", &image]);
    program(&["umoci", "unpack", "--image", &image, &bundle]);
    program(&["tar", "--numeric-owner", "-xf", &debian().display().to_string(), "-C", &format!("{bundle}/rootfs")]);
    program(&["umoci", "repack", "--image", &image, &bundle]);
    program(&["umoci", "config", "--image", &image, "--config.cmd", "bash", "--config.env", "LANG=C.UTF-8"]);
    let name = registry.name("debian:bookworm");
    let to = format!("docker://{name}");
    program(&["skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", &format!("oci:{image}"), &to]);
    program(&["rm", "-rf", &bundle, &layout]);
    name
}

fn raw(name: &str) -> Value {
    let text = program(&["skopeo", "inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    serde_json::from_str(&text).unwrap()
}

fn digest(name: &str) -> String {
    let text = program(&["skopeo", "inspect", "--tls-verify=false", &format!("docker://{name}")]);
    let seen: Value = serde_json::from_str(&text).unwrap();
    seen["Digest"].as_str().unwrap().to_owned()
}

/// Changes a running container from inside, in the image's files and in those that belong to the container alone.
fn change(host: &Host) {
    let script = "set -e; echo changed > /srv/change; rm /etc/issue; useradd --create-home someone; \
                  echo '9.9.9.9 evil' >> /etc/hosts; echo 'nameserver 9.9.9.9' > /etc/resolv.conf; echo evil > /etc/hostname";
    host.ok(&["exec", "box", "bash", "-c", script]);
}

#[test]
fn debian_travels_through_a_registry_with_its_changes() {
    let (host, registry) = (Host::new(), Registry::start());
    let name = pushed_by_others(&host, &registry);
    host.ok(&["pull", "-q", &name]);
    assert_eq!(host.inspect(&name)["Descriptor"]["digest"], digest(&name));
    // PID 1 inside is the command, and there is nothing else.
    let seen = host.ok(&["run", "--rm", &name, "bash", "-c", "ps ax"]);
    let rows: Vec<Vec<&str>> = seen.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((rows[0][0], rows[0][4]), ("1", "ps"), "{seen}");
    assert_eq!(rows.len(), 1, "{seen}");
    // It is Debian, and its own programs say so.
    host.ok(&["run", "-d", "--name", "box", &name, "sleep", "1000"]);
    let release = host.ok(&["exec", "box", "bash", "-c", ". /etc/os-release; echo $ID; dpkg -s dpkg | grep ^Status"]);
    assert_eq!(release, "debian\nStatus: install ok installed");
    let seen = host.ok(&["exec", "box", "ps", "ax", "-o", "pid=,comm="]);
    assert!(seen.trim_start().starts_with("1 sleep"), "{seen}");
    change(&host);
    let changed = registry.name("debian:changed");
    host.ok(&["commit", "-m", "a change", "box", &changed]);
    host.ok(&["push", "-q", &changed]);
    let there = digest(&changed);
    assert_eq!(host.inspect(&changed)["Descriptor"]["digest"], there);
    // What travelled: Debian's layer as it was, and one that has the change and none of the container's own files.
    let (before, after) = (raw(&name), raw(&changed));
    assert_eq!(after["layers"][0], before["layers"][0]);
    assert_eq!(after["layers"].as_array().unwrap().len(), 2);
    let blob = registry.blob(after["layers"][1]["digest"].as_str().unwrap()).display().to_string();
    let files = program(&["tar", "tf", &blob]);
    let files: Vec<&str> = files.lines().map(|l| l.trim_start_matches("./").trim_end_matches('/')).collect();
    for file in ["srv/change", "etc/.wh.issue", "etc/passwd", "home/someone/.profile"] {
        assert!(files.contains(&file), "{file} is missing in {files:?}");
    }
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys", "etc/.wh.hosts"] {
        assert!(!files.contains(&file), "{file} is in {files:?}");
    }
    host.ok(&["rm", "-f", "box"]);
    host.ok(&["rmi", "-f", &changed, &name]);
    assert_eq!(host.ok(&["images", "-aq"]), "");
    // Another machine: an empty root.
    let other = Host::new();
    let look = "cat /srv/change; id -un someone; ls /etc/issue 2>&1; cat /etc/hosts /etc/resolv.conf /etc/hostname";
    let out = other.run(&["run", "--rm", "--hostname", "elsewhere", &changed, "bash", "-c", look]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stdout.starts_with("changed\nsomeone\nls: cannot access '/etc/issue'"), "{}", out.stdout);
    assert!(out.stdout.contains("elsewhere") && !out.stdout.contains("9.9.9.9") && !out.stdout.contains("evil"));
    assert_eq!(other.inspect(&changed)["Descriptor"]["digest"], there);
    // The first machine gets it back, the same to the last bit.
    host.ok(&["pull", "-q", &changed]);
    let id = |host: &Host| host.inspect(&changed)["Id"].clone();
    assert_eq!(id(&host), id(&other));
    assert_eq!(host.inspect(&changed)["RootFS"], other.inspect(&changed)["RootFS"]);
    assert_eq!(tree(&host, &changed), tree(&other, &changed), "the files are the same ones");
}

/// A digest over all files as a container sees them: types, modes, owners, contents, links.
fn tree(host: &Host, image: &str) -> String {
    let script = "cd /; find . -xdev ! -path './etc/host*' ! -path ./etc/resolv.conf -printf '%p %y %m %U:%G %l\\n' | sort | sha256sum; \
                  find . -xdev -type f ! -path './etc/host*' ! -path ./etc/resolv.conf -print0 | sort -z | xargs -0 sha256sum | sha256sum";
    host.ok(&["run", "--rm", "--network", "none", "--read-only", image, "bash", "-c", script])
}

#[test]
fn buildah_builds_on_what_tare_pushed() {
    let (host, registry) = (Host::new(), Registry::start());
    host.busybox();
    let name = registry.name("base:1");
    host.ok(&["tag", "busybox", &name]);
    host.ok(&["push", "-q", &name]);
    let storage = host.scratch("storage").display().to_string();
    let buildah = |args: &[&str]| {
        let global = ["buildah", "--root", &storage, "--runroot", &format!("{storage}-run"), "--storage-driver", "vfs"];
        program(&[&global[..], args].concat()).trim().to_owned()
    };
    let container = buildah(&["from", "--tls-verify=false", &name]);
    let file = host.scratch("added");
    std::fs::write(&file, "by buildah\n").unwrap();
    buildah(&["copy", &container, &file.display().to_string(), "/added"]);
    buildah(&["config", "--cmd", "cat /added", &container]);
    let derived = registry.name("derived:1");
    buildah(&["commit", "--tls-verify=false", &container, &format!("docker://{derived}")]);
    let other = Host::new();
    assert_eq!(other.ok(&["run", "--rm", "-q", "--network", "none", &derived]), "by buildah");
    assert_eq!(raw(&derived)["layers"].as_array().unwrap().len(), 2);
    program(&["rm", "-rf", &storage]);
}
