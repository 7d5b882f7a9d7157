//! Layers under containers: both forms, alone and mixed, how they are mounted and when they go.

use std::path::Path;
use tare_tests::{Host, Running, Tree, command, eventually};

const FORMS: [&str; 2] = ["erofs", "overlay"];

/// Whether this host mounts images of layers; says so if it does not.
fn mounts_images(host: &Host) -> bool {
    let here = host.ok(&["info", "--format", "{{.Snapshotter}}"]) == "erofs";
    if !here {
        tare_tests::skip(&host.ok(&["info", "--format", "{{.SnapshotterReason}}"]));
    }
    here
}

/// The forms that layers can have here.
fn forms_here(host: &Host) -> impl Iterator<Item = &'static str> {
    FORMS.into_iter().filter(|form| *form != "erofs" || mounts_images(host))
}

fn import_as(host: &Host, form: &str, tree: &Tree, name: &str) {
    let archive = host.scratch(&format!("{name}.tar"));
    tree.tar(&archive);
    host.ok(&["--snapshotter", form, "import", &archive.display().to_string(), name]);
    std::fs::remove_file(archive).unwrap();
}

/// Layers of an image from the bottom, by form: `erofs` or `overlay`.
fn forms(host: &Host, image: &str) -> Vec<&'static str> {
    let layers = host.inspect(image)["RootFS"]["Layers"].as_array().unwrap().clone();
    let form = |layer: &serde_json::Value| {
        let dir = host.root().join("layers").join(&layer.as_str().unwrap()[7..]);
        if dir.join("layer.erofs").is_file() { "erofs" } else { "overlay" }
    };
    layers.iter().map(form).collect()
}

fn sh(host: &Host, image: &str, script: &str) -> String {
    host.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", script])
}

/// Prints how many pages of a file are in memory, as whoever maps it is told.
const RESIDENT: &str = r#"
    #include <fcntl.h>
    #include <stdio.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    static unsigned char seen[1 << 16];
    int main(int argc, char **argv) {
        struct stat s;
        int fd = open(argv[1], O_RDONLY), n = 0;
        fstat(fd, &s);
        void *map = mmap(0, s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED || mincore(map, s.st_size, seen)) { perror("mincore"); return 1; }
        for (int i = 0; i < (s.st_size + 4095) / 4096; i++) n += seen[i] & 1;
        printf("%d\n", n);
        return 0;
    }"#;

fn root_of(host: &Host, container: &str) -> String {
    format!("/proc/{}/root", host.inspect(container)["State"]["Pid"])
}

fn start(host: &Host, name: &str, image: &str) {
    host.ok(&["run", "-d", "--name", name, "--network", "none", image, "sleep", "1000"]);
}

/// Mechanism: the flag goes before the environment, that before the configuration file; what is there is used as it is.
#[test]
fn the_form_of_new_layers_is_as_asked() {
    let host = Host::new();
    let here = host.ok(&["info", "--format", "{{.Snapshotter}}"]);
    let import = |name: &str, flag: &[&str], variable: Option<&str>, file: Option<&str>| {
        let tree = Tree::busybox();
        tree.file("name", name);
        let archive = host.scratch("tree.tar");
        tree.tar(&archive);
        let settings = host.scratch("config.toml");
        std::fs::write(&settings, file.map_or(String::new(), |f| format!("[store]\nsnapshotter = \"{f}\"\n"))).unwrap();
        let mut c = host.command(&[flag, &["import", &archive.display().to_string(), name]].concat());
        c.env("TARE_CONFIG", settings);
        variable.map(|v| c.env("TARE_SNAPSHOTTER", v));
        let out = Running::start(&mut c, None).wait();
        (out.code, out.stderr)
    };
    let auto = |name: &str| assert_eq!(forms(&host, name), [here.as_str()], "{name}");
    assert_eq!(import("plain", &[], None, None).0, 0);
    auto("plain");
    assert_eq!(import("flag", &["--snapshotter", "overlay"], Some("auto"), Some("auto")).0, 0);
    assert_eq!(forms(&host, "flag"), ["overlay"]);
    assert_eq!(import("variable", &[], Some("overlay"), Some("auto")).0, 0);
    assert_eq!(forms(&host, "variable"), ["overlay"]);
    assert_eq!(import("file", &[], None, Some("overlay")).0, 0);
    assert_eq!(forms(&host, "file"), ["overlay"]);
    assert_eq!(import("back", &["--snapshotter=auto"], Some("overlay"), Some("overlay")).0, 0);
    auto("back");
    for image in ["plain", "flag", "variable", "file", "back"] {
        assert_eq!(sh(&host, image, "cat /name"), image);
    }
    let (code, refused) = import("bad", &["--snapshotter", "zfs"], None, None);
    assert!(code == 125 && refused.contains("auto, erofs or overlay"), "{refused}");
    let (code, refused) = import("bad", &[], Some("zfs"), None);
    assert!(code != 0 && refused.contains("zfs") && refused.contains("auto, erofs, overlay"), "{refused}");
    let (code, refused) = import("bad", &[], None, Some("zfs"));
    assert!(code != 0 && refused.contains("line 2") && refused.contains("zfs"), "{refused}");
}

/// Where the file system below the root cannot be mounted from, layers are trees, and images are refused if demanded.
#[test]
fn a_host_that_mounts_no_images_takes_trees() {
    let host = Host::new();
    let base = host.scratch("memory");
    std::fs::create_dir_all(&base).unwrap();
    let script = r#"mount -t tmpfs memory "$0" && mkdir "$0/b" && cp "$2" "$0/b.tar" && B="$1 --root $0/root --run $0/run" &&
        $B import "$0/b.tar" box >/dev/null && find "$0/root/layers" -maxdepth 2 -name fs | wc -l &&
        $B run --rm --network none box echo runs && $B info --format '{{.Snapshotter}}: {{.SnapshotterReason}}';
        $B --snapshotter erofs import "$0/b.tar" other; echo $?"#;
    let tree = Tree::busybox();
    let archive = host.scratch("tree.tar");
    tree.tar(&archive);
    let mut c = command("unshare");
    c.args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(&base)
        .arg(tare_tests::binary())
        .arg(&archive);
    let out = Running::start(&mut c, None).wait();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!((lines[0], lines[1], *lines.last().unwrap()), ("1", "runs", "1"), "{} {}", out.stdout, out.stderr);
    assert!(lines[2].starts_with("overlay: ") && lines[2].len() > 20, "{}", out.stdout);
    assert!(out.stderr.contains("erofs") && out.stderr.contains("--snapshotter auto"), "{}", out.stderr);
}

/// Both forms in one stack: what is above hides, replaces and is added to what is below, in every order.
#[test]
fn forms_are_mixed_in_one_stack() {
    let host = Host::new();
    if !mounts_images(&host) {
        return;
    }
    for (lower, upper) in [("erofs", "overlay"), ("overlay", "erofs")] {
        let tree = Tree::busybox();
        tree.dir("dir", 0o755)
            .dir("opaque", 0o755)
            .file("gone", lower)
            .file("changed", "old")
            .file("dir/below", "below")
            .file("opaque/below", "below");
        let base = format!("{lower}-base");
        import_as(&host, lower, &tree, &base);
        let script = "rm /gone; echo new > /changed; echo above > /dir/above; rm -r /opaque; mkdir /opaque; echo o > /opaque/above; mv /dir/below /moved";
        host.ok(&["run", "--name", lower, "--network", "none", &base, "sh", "-c", script]);
        let mixed = format!("{lower}-mixed");
        host.ok(&["--snapshotter", upper, "commit", lower, &mixed]);
        assert_eq!(forms(&host, &mixed), [lower, upper]);
        let look = "ls -d /gone 2>/dev/null; cat /changed /moved; ls /dir /opaque; echo more > /dir/third; rm /dir/above; ls /dir";
        let expected = "new\nbelow/dir:\nabove\n\n/opaque:\nabove\nthird";
        assert_eq!(sh(&host, &mixed, look), expected, "{lower} below {upper}");
        // A third layer on both, and what it says of them.
        host.ok(&["run", "--name", &mixed, "--network", "none", &mixed, "sh", "-c", "rm /changed /opaque/above"]);
        assert_eq!(host.ok(&["diff", &mixed]), "D /changed\nC /opaque\nD /opaque/above");
        let third = format!("{lower}-third");
        host.ok(&["--snapshotter", lower, "commit", &mixed, &third]);
        assert_eq!(forms(&host, &third), [lower, upper, lower]);
        assert_eq!(sh(&host, &third, "ls -d /changed /gone 2>/dev/null; ls /opaque; cat /moved"), "below");
        host.ok(&["rm", lower, &mixed]);
    }
}

/// Mechanism: a layer is mounted once, so its pages are in memory once, whatever stands on it.
#[test]
fn pages_are_shared_between_containers_and_images() {
    let host = Host::new();
    for form in forms_here(&host) {
        let tree = Tree::busybox();
        let big = "0123456789abcdef".repeat(8 << 16);
        tree.compiled("resident", RESIDENT).file("big", &big).file("form", form);
        import_as(&host, form, &tree, form);
        host.ok(&["run", "--name", "maker", "--network", "none", form, "touch", "/another"]);
        let other = format!("{form}-other");
        host.ok(&["commit", "maker", &other]);
        host.ok(&["rm", "maker"]);
        start(&host, "one", form);
        start(&host, "two", form);
        start(&host, "three", &other);
        host.ok(&["exec", "one", "sh", "-c", "cat /big > /dev/null"]);
        // Nobody else has read it: what the others find is what the first one read.
        for name in ["one", "two", "three"] {
            let pages: usize = host.ok(&["exec", name, "/resident", "/big"]).parse().unwrap();
            assert!(pages * 4096 >= big.len() / 2, "{form}: {name} sees {pages} pages in memory");
        }
        host.ok(&["rm", "-f", "one", "two", "three"]);
    }
}

/// Programs run from layers, and files of them are mapped, shared and executable.
#[test]
fn programs_and_mappings_come_from_layers() {
    let host = Host::new();
    let program = r#"
        #include <fcntl.h>
        #include <stdio.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/stat.h>
        int main(int argc, char **argv) {
            struct stat s;
            int fd = open(argv[0], O_RDONLY);
            fstat(fd, &s);
            char *shared = mmap(0, s.st_size, PROT_READ, MAP_SHARED, fd, 0);
            char *code = mmap(0, s.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
            if (shared == MAP_FAILED || code == MAP_FAILED) { perror("mmap"); return 1; }
            int writable = mmap(0, s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;
            printf("%d %d %d\n", memcmp(shared, "\177ELF", 4), memcmp(shared, code, s.st_size), writable);
            return 0;
        }"#;
    for form in forms_here(&host) {
        let tree = Tree::busybox();
        tree.compiled("map", program).file("form", form);
        import_as(&host, form, &tree, form);
        assert_eq!(sh(&host, form, "/map; cp /map /copy; /copy"), "0 0 0\n0 0 0", "{form}");
    }
}

/// What a file is beyond its bytes survives the way through a layer, and the way up into a container.
#[test]
fn attributes_survive_a_copy_up() {
    let host = Host::new();
    for form in forms_here(&host) {
        let tree = Tree::busybox();
        let program =
            "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d %d\\n\", getuid(), geteuid()); }";
        tree.file("plain", "x").file("form", form).compiled("suid", program);
        // cap_net_raw=ep, version 2 of the attribute.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let path = tree.path("plain");
        rustix::fs::setxattr(&path, "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
        rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
        let script = "touch -d '2001-02-03 04:05:06.123456789 UTC' $0/plain; chmod 4755 $0/suid; \
                      mknod -m 666 $0/zero c 1 5; mkfifo $0/pipe";
        let made = Running::start(command("sh").args(["-c", script]).arg(tree.path("")), None).wait();
        assert_eq!(made.code, 0, "{}", made.stderr);
        let archive = host.scratch("tree.tar").display().to_string();
        let mut tar = command("tar");
        tar.args(["-c", "--format=pax", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", &archive, "-C"]);
        assert_eq!(Running::start(tar.arg(tree.path("")).arg("."), None).wait().code, 0);
        host.ok(&["--snapshotter", form, "import", &archive, form]);
        start(&host, "box", form);
        let file = format!("{}/plain", root_of(&host, "box"));
        let look = || {
            let (mut value, mut note) = ([0; 32], [0; 8]);
            let n = rustix::fs::getxattr(&file, "security.capability", &mut value).unwrap();
            let m = rustix::fs::getxattr(&file, "user.note", &mut note).unwrap();
            let stat = rustix::fs::stat(&file).unwrap();
            (value[..n].to_vec(), note[..m].to_vec(), stat.st_mtime, stat.st_mtime_nsec)
        };
        let before = look();
        assert_eq!(before, (capability.to_vec(), b"kept".to_vec(), 981_173_106, 123_456_789), "{form}");
        // Another name is written into the upper directory, and with it the file, whole.
        host.ok(&["exec", "box", "ln", "/plain", "/second"]);
        assert_eq!(look(), before, "{form}");
        assert_eq!(host.ok(&["exec", "--user", "1234", "box", "/suid"]), "1234 0", "{form}");
        // A device of an image is there, and what may be done with it is the devices' policy.
        let devices = "head -c 3 /zero | wc -c; stat -c '%F %t:%T' /zero; stat -c %F /pipe";
        assert_eq!(host.ok(&["exec", "box", "sh", "-c", devices]), "3\ncharacter special file 1:5\nfifo", "{form}");
        host.ok(&["rm", "-f", "box"]);
        let mapped = host.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--userns",
            "private",
            form,
            "sh",
            "-c",
            "stat -c %u:%g /plain /bin; cat /form; touch /plain && stat -c %u /plain",
        ]);
        assert_eq!(mapped, format!("0:0\n0:0\n{form}0"), "{form}");
    }
}

/// As many layers as docker makes at most, and more: all are seen, in both forms.
#[test]
fn a_hundred_and_twenty_seven_layers() {
    stacked(127);
}

#[test]
fn long_four_hundred_layers() {
    stacked(400);
}

fn stacked(count: usize) {
    let host = Host::new();
    for form in forms_here(&host) {
        let archive = host.scratch("many.tar");
        many_layers(&archive, count, &format!("{form}-{count}"));
        host.ok(&["--snapshotter", form, "load", "--input", &archive.display().to_string()]);
        std::fs::remove_file(&archive).unwrap();
        let image = format!("{form}-{count}:latest");
        let seen =
            sh(&host, &image, "cat /same; ls /layers | wc -l; cat /layers/0 /layers/1; test -e /early || echo hidden");
        assert_eq!(seen, format!("{0}\n{count}\n0\n1\nhidden", count - 1), "{form}");
        // In a user namespace each layer is a mount of its own.
        let flags = [
            "run",
            "--rm",
            "--network",
            "none",
            "--userns",
            "private",
            &image,
            "sh",
            "-c",
            "cat /same; stat -c %u /same",
        ];
        assert_eq!(host.ok(&flags), format!("{}\n0", count - 1), "{form}");
    }
}

#[test]
fn long_more_layers_than_overlayfs_stacks_are_refused_clearly() {
    let host = Host::new();
    let archive = host.scratch("many.tar");
    many_layers(&archive, 500, "many");
    host.ok(&["load", "--input", &archive.display().to_string()]);
    let refused = host.fails(&["run", "--rm", "--network", "none", "many:latest", "true"], 125);
    assert!(
        refused.contains("501 layers") && refused.contains("500 at most") && refused.contains("hint:"),
        "{refused}"
    );
}

/// An archive of docker's with an image of so many layers: `/same` in each, `/layers/N`, busybox in the lowest.
fn many_layers(archive: &Path, count: usize, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        set -e; cd "$0"; mkdir one; i=0
        while [ $i -lt $1 ]; do
            rm -rf one; mkdir -p one/layers; echo $i > one/same; echo $i > one/layers/$i; echo $2 > one/owner
            if [ $i = 0 ]; then cp -a "$3" one/bin; echo early > one/early; fi
            if [ $i = 1 ]; then : > one/.wh.early; fi
            tar -cf $i.tar -C one .; i=$((i + 1))
        done
        rm -r one; sha256sum *.tar"#;
    let bin = Tree::busybox();
    let mut c = command("sh");
    c.args(["-c", script]).arg(dir.path()).arg(count.to_string()).arg(name).arg(bin.path("bin"));
    let out = Running::start(&mut c, None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    let digest = |i: usize| {
        let file = format!("  {i}.tar");
        let line = out.stdout.lines().find(|line| line.ends_with(&file)).unwrap();
        format!("sha256:{}", &line[..64])
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let diff_ids: Vec<String> = (0..count).map(digest).collect();
    let config = serde_json::json!({
        "architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}
    });
    let layers: Vec<String> = (0..count).map(|i| format!("{i}.tar")).collect();
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [format!("{name}:latest")], "Layers": layers}]);
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    let packed = Running::start(command("tar").arg("-cf").arg(archive).arg("-C").arg(dir.path()).arg("."), None).wait();
    assert_eq!(packed.code, 0, "{}", packed.stderr);
}

/// The host's mount table shows nothing of layers, not even where everything is shared with other namespaces; two containers have
/// the same mounts below them.
#[test]
fn mounts_of_layers_are_seen_nowhere() {
    let host = Host::new();
    host.busybox();
    start(&host, "one", "busybox");
    start(&host, "two", "busybox");
    let run = host.run_dir().display().to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&run) && !table.contains(&host.root().display().to_string()), "{table}");
    for name in ["one", "two"] {
        let pid = host.inspect(name)["State"]["Pid"].to_string();
        let inside = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(!inside.contains(" - erofs "), "{inside}");
    }
    host.ok(&["rm", "-f", "one", "two"]);
    assert!(host.settled().is_empty());
    // As on most hosts: all mounts are shared, and somebody else has a copy of them.
    let script = r#"mkdir -p "$0/r"; mount -t tmpfs shared "$0/r"; mount --make-rshared /; unshare --mount --propagation unchanged sleep 30 & other=$!
        B="$1 --root $2 --run $0/r/run"; $B run --rm --network none busybox echo runs; $B run -d --name box --network none busybox sleep 100 >/dev/null
        $B exec box echo too; grep -c "$0/r/run" /proc/self/mountinfo; $B rm -f box; kill $other"#;
    let mut c = command("unshare");
    c.args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(host.scratch("shared"))
        .arg(tare_tests::binary())
        .arg(host.root());
    let out = Running::start(&mut c, None).wait();
    assert_eq!(out.stdout, "runs\ntoo\n0\nbox\n", "{}", out.stderr);
}

/// An image that is removed by force goes from the disk with its last container, and another start of the same files is a new one.
#[test]
fn space_of_removed_layers_comes_back() {
    let host = Host::new();
    if !mounts_images(&host) {
        return;
    }
    host.busybox();
    let tree = Tree::busybox();
    tree.file("big", &"7".repeat(4 << 20));
    import_as(&host, "erofs", &tree, "big");
    // Something else runs all the time, so the namespace stays.
    start(&host, "other", "busybox");
    let layer = host.inspect("big")["RootFS"]["Layers"][0].as_str().unwrap()[7..].to_owned();
    for _ in 0..2 {
        assert_eq!(sh(&host, "big", "wc -c < /big"), "4194304");
        assert_eq!(mounted(&host), 2);
        host.ok(&["rmi", "big"]);
        assert!(!host.root().join("layers").join(&layer).exists());
        assert_eq!(mounted(&host), 1, "the kernel keeps the space of what is mounted");
        import_as(&host, "erofs", &tree, "big");
    }
    // A remover that was killed: the layer has gone, its mount has not. The next one finds it.
    assert_eq!(sh(&host, "big", "wc -c < /big"), "4194304");
    let place = host.root().join("layers").join(&layer).join("layer.erofs");
    let copy = host.scratch("layer.erofs");
    std::fs::copy(&place, &copy).unwrap();
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&copy, &place).unwrap();
    assert_eq!(sh(&host, "big", "wc -c < /big"), "4194304", "another file is mounted anew");
    assert_eq!(mounted(&host), 3);
    host.ok(&["system", "prune", "--force"]);
    assert_eq!(mounted(&host), 2);
    host.ok(&["rm", "-f", "other"]);
    assert!(host.settled().is_empty());
    assert_eq!(mounted(&host), 0);
}

/// Layers that are mounted for this root, as the namespace that its supervisors hold shows them.
fn mounted(host: &Host) -> usize {
    for entry in std::fs::read_dir(host.run_dir().join("layers")).unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        // A holder that has just ended.
        if std::fs::metadata(&target).is_err() {
            continue;
        }
        return listed(&target);
    }
    0
}

/// Directories in the root of a mount namespace.
fn listed(namespace: &Path) -> usize {
    let namespace = std::fs::File::open(namespace).unwrap();
    // In a thread of its own, which ends inside.
    std::thread::spawn(move || {
        use std::os::fd::AsFd;
        use tare_kernel::process::{Namespaces, setns, unshare};
        // A root directory of its own comes with it.
        unshare(Namespaces::MOUNT).unwrap();
        setns(namespace.as_fd(), Namespaces::MOUNT).unwrap();
        let names = std::fs::read_dir("/").unwrap().flatten().map(|e| e.file_name());
        names.filter(|name| !name.to_string_lossy().starts_with('.')).count()
    })
    .join()
    .unwrap()
}

/// Containers one after the other, and at once: each sees its image, and nothing is left.
#[test]
fn starts_at_the_same_moment_share_their_layers() {
    let host = Host::new();
    if !mounts_images(&host) {
        return;
    }
    host.busybox();
    let names: Vec<String> = (0..6).map(|i| format!("box{i}")).collect();
    let started: Vec<_> = names
        .iter()
        .map(|name| host.start(&["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000"]))
        .collect();
    for one in started {
        let out = one.wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
    let holders = || {
        let entries = std::fs::read_dir(host.run_dir().join("layers")).unwrap().flatten();
        entries.filter_map(|e| std::fs::read_link(e.path()).ok()).collect::<Vec<_>>()
    };
    let numbers: std::collections::BTreeSet<u64> =
        holders().iter().map(|h| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(h).unwrap())).collect();
    assert_eq!((holders().len(), numbers.len()), (6, 1), "six supervisors hold one namespace");
    assert_eq!(mounted(&host), 1);
    host.clear();
    assert!(eventually(std::time::Duration::from_secs(10), || holders().is_empty()));
}

/// A damaged image is told as such, with what helps.
#[test]
fn a_damaged_image_is_told() {
    let host = Host::new();
    if !mounts_images(&host) {
        return;
    }
    host.busybox();
    let layer = host.inspect("busybox")["RootFS"]["Layers"][0].as_str().unwrap()[7..].to_owned();
    let file = host.root().join("layers").join(&layer).join("layer.erofs");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[1024..1028].fill(0);
    std::fs::write(&file, damaged).unwrap();
    let refused = host.fails(&["run", "--rm", "--network", "none", "busybox", "true"], 125);
    assert!(refused.contains(&layer) && refused.contains("tare image verify"), "{refused}");
    std::fs::write(&file, whole).unwrap();
    assert_eq!(sh(&host, "busybox", "echo runs"), "runs");
}
