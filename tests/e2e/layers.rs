//! Layers as the specification says them, in both forms of a layer, and beside another engine.

use serde_json::json;
use std::path::Path;
use tare_tests::archive::{Blob, Item, layout, tar};
use tare_tests::{Host, command, compile, unique};

const FORMS: [&str; 2] = ["erofs", "overlay"];

/// The program that lists a tree: see its source.
fn lister() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("lister");
    compile(include_str!("../src/lister.c"), &program);
    std::fs::read(program).unwrap()
}

/// A lowest layer with the lister, and these.
fn base(items: &[Item]) -> Vec<u8> {
    let mut all = vec![Item::file("lister", lister()).mode(0o755)];
    all.extend_from_slice(items);
    tar(&all)
}

/// A host whose new layers take this form.
fn host_with(form: &str) -> Host {
    let mut host = Host::new();
    host.set("TARE_SNAPSHOTTER", form);
    host
}

#[track_caller]
fn load(host: &Host, layers: &[Blob]) {
    let dir = host.scratch(&unique("layout"));
    layout(&dir, "x:1", layers);
    host.ok(&["load", "--input", &dir.display().to_string()]);
}

/// What `/t` of these layers is.
fn listed(host: &Host, image: &str) -> String {
    host.ok(&["run", "--rm", "--network", "none", image])
}

/// What both forms say of these layers, which is the same.
#[track_caller]
fn shown(layers: &[Vec<u8>]) -> String {
    let blobs: Vec<Blob> = layers.iter().cloned().map(Blob::plain).collect();
    let [image, tree] = FORMS.map(|form| {
        let host = host_with(form);
        load(&host, &blobs);
        listed(&host, "x:1")
    });
    assert_eq!(image, tree, "the two forms differ");
    image
}

/// The paths alone.
fn names(listing: &str) -> Vec<&str> {
    listing.lines().map(|l| l.split(' ').next().unwrap()).collect()
}

/// What podman makes of these layers.
fn podmans(layers: &[Blob]) -> String {
    // The name is a part of an image's name for podman: without capital letters.
    let scratch = tempfile::Builder::new().prefix(&unique("tare-podman-")).rand_bytes(0).tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    layout(Path::new(&path("layout")), "x:1", layers);
    let (root, run) = (path("root"), path("run"));
    let podman = |args: &[&str]| {
        let mut podman = command("podman");
        podman.args(["--root", &root, "--runroot", &run, "--storage-driver", "overlay"]).args(args);
        let out = podman.output().unwrap();
        assert!(out.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let id = podman(&["pull", "--quiet", &format!("oci:{}:x:1", path("layout"))]);
    let mounted = podman(&["image", "mount", &id]);
    let out = command(format!("{mounted}/lister")).arg("t").current_dir(&mounted).output().unwrap();
    podman(&["image", "umount", &id]);
    podman(&["rmi", "--force", &id]);
    // Its storage keeps a bind mount of itself.
    let _ = command("umount").arg(format!("{root}/overlay")).output();
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

/// An ACL as the kernel keeps it: owner rwx, user 1000 rw-, group r-x, mask rwx, others r--.
fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 6, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 4, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// `cap_net_raw+ep`.
fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn everything() -> Vec<Vec<u8>> {
    let long = "n".repeat(200);
    // Every directory is an entry: where one is not, podman takes the time of unpacking.
    let deep = format!("t/{}/{}/{}", "a".repeat(90), "b".repeat(90), "c".repeat(90));
    let parts = [&deep[..92], &deep[..183]];
    let lowest = base(&[
        Item::dir("t").mode(0o1777).owner(5, 6).time(1_500_000_000, 123_456_789),
        Item::file("t/plain", "plain\n"),
        Item::file("t/empty", "").owner(1_000_000, 3_000_000_000),
        Item::file("t/gnu-owner", "x").owner(4_000_000_000, 2_097_152).gnu(),
        Item::file("t/setuid", "s").mode(0o4755),
        Item::file("t/setgid", "s").mode(0o2755).owner(0, 50),
        Item::dir("t/setgid-dir").mode(0o2775).owner(0, 50),
        Item::file("t/setgid-dir/in", "1"),
        Item::file("t/times", "t").time(1_234_567_890, 987_654_321),
        Item::file("t/far", "t").time(4_102_444_800, 1),
        Item::file(format!("t/{long}"), "pax"),
        Item::file(format!("t/g{long}"), "gnu").gnu(),
        Item::dir(parts[0]),
        Item::dir(parts[1]),
        Item::file(&deep, "deep"),
        Item::symlink("t/link", "plain"),
        Item::symlink("t/dangling", "/no/where"),
        Item::symlink("t/long-link", format!("/{}", "x/".repeat(150))),
        Item::symlink("t/gnu-link", format!("/{}", "y/".repeat(150))).gnu(),
        Item::hard("t/hard", "t/plain"),
        Item::hard("t/hard-link", "t/link"),
        Item::node("t/char", b'3', 5, 1).mode(0o666),
        Item::node("t/block", b'4', 300, 70_000),
        Item::node("t/fifo", b'6', 0, 0).mode(0o600),
        Item::hard("t/fifo-too", "t/fifo").mode(0o600),
        Item::file("t/cap", "c").mode(0o755).xattr("security.capability", &capability()),
        Item::file("t/user", "u").xattr("user.one", b"1").xattr("user.bytes", b"\0\xff=\n"),
        Item::file("t/acl", "a").mode(0o774).xattr("system.posix_acl_access", &acl()),
        Item::dir("t/default").xattr("system.posix_acl_default", &acl()),
        Item::sparse("t/sparse", 1_000_000, &[(0, b"start"), (65_536, &[7; 5000]), (999_000, b"end")]),
        Item::sparse("t/all-hole", 1 << 20, &[]),
        Item::file(b"t/not-utf8-\xff\xfe", "n"),
        Item::file("t/new\nline and space", "n"),
        Item::dir("t/dir-late/in"),
        Item::file("t/dir-late/in/it", "before its directories"),
        Item::dir("t/dir-late").mode(0o700).owner(7, 7).time(1_111_111_111, 0),
        Item::file("./t/./dotted", "x"),
        Item::file("/t/absolute", "x"),
        Item::file("t/big", vec![b'b'; 300_000]),
        Item::dir("t/gone-dir"),
        Item::file("t/gone-dir/x", "x"),
        Item::dir("t/opaque"),
        Item::file("t/opaque/old", "x"),
        Item::dir("t/opaque/old-dir"),
        Item::file("t/opaque/old-dir/x", "x"),
        Item::file("t/gone", "x"),
        Item::dir("t/kept").mode(0o711),
        Item::file("t/kept/below", "x"),
        Item::dir("t/nested"),
        Item::dir("t/nested/a"),
        Item::dir("t/nested/a/b"),
        Item::file("t/nested/a/b/old", "x"),
        Item::dir("t/to-file"),
        Item::file("t/to-file/x", "x"),
        Item::file("t/to-dir", "x"),
    ]);
    let t = || Item::dir("t").mode(0o1777).owner(5, 6).time(1_500_000_000, 123_456_789);
    let middle = tar(&[
        t(),
        Item::file("t/.wh.gone", ""),
        Item::file("t/.wh.gone-dir", ""),
        Item::file("t/.wh.never-was", ""),
        Item::dir("t/opaque").mode(0o750),
        Item::file("t/opaque/.wh..wh..opq", ""),
        Item::file("t/opaque/new", "n"),
        Item::dir("t/kept"),
        Item::file("t/kept/above", "x"),
        Item::dir("t/nested"),
        Item::dir("t/nested/a"),
        Item::dir("t/nested/a/b"),
        Item::file("t/nested/a/b/.wh..wh..opq", ""),
        Item::file("t/nested/a/b/new", "x"),
        Item::file("t/to-file", "now a file"),
        Item::dir("t/to-dir"),
        Item::file("t/to-dir/x", "now a directory"),
        Item::file("t/plain", "another content, so hard keeps the old"),
    ]);
    let top = tar(&[
        t(),
        // Back again, as something else.
        Item::dir("t/gone-dir"),
        Item::file("t/gone-dir/y", "y"),
        Item::symlink("t/gone", "plain"),
        Item::dir("t/kept").mode(0o500).owner(3, 3),
        Item::file("t/kept/.wh.below", ""),
    ]);
    vec![lowest, middle, tar(&[]), top]
}

#[test]
fn both_forms_show_what_podman_shows() {
    let layers = everything();
    let ours = shown(&layers);
    let blobs: Vec<Blob> = layers.into_iter().map(Blob::plain).collect();
    let theirs = podmans(&blobs);
    let differences: Vec<(&str, &str)> = ours.lines().zip(theirs.lines()).filter(|(a, b)| a != b).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}\n\n{theirs}");
    assert!(ours.lines().count() > 50, "{ours}");
}

/// Where podman is not faithful to the archive: it knows no time before 1970 and no empty attribute, and what lies in a directory gets
/// its default ACL.
#[test]
fn times_and_attributes_are_the_archives() {
    let listing = shown(&[base(&[
        Item::file("t/before-1970", "t").time(-2, 750_000_000),
        Item::file("t/xattrs", "x").xattr("user.empty", b"").xattr("user.big", &[b'v'; 1000]),
        Item::dir("t/default").mode(0o2770).owner(0, 50).xattr("system.posix_acl_default", &acl()),
        Item::file("t/default/in", "no ACL and group of its own"),
        Item::dir("t/default/dir"),
    ])]);
    let line = |name: &str| listing.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
    // The kernel's seconds are rounded down.
    assert!(line("t/before-1970").contains(" -2.750000000 "), "{listing}");
    assert!(line("t/xattrs").contains(&format!("[user.big={},user.empty=]", "v".repeat(1000))), "{listing}");
    assert!(line("t/default").contains(" 4 2770 0:50 ") && line("t/default").contains("[system.posix_acl_default="));
    assert!(line("t/default/in").contains(" 10 644 0:0 ") && line("t/default/in").contains(" [] "), "{listing}");
    assert!(line("t/default/dir").contains(" 4 755 0:0 ") && line("t/default/dir").ends_with("[]"), "{listing}");
    // A directory that no entry describes is the same each time.
    assert!(line("t").starts_with("t 4 755 0:0 0 0.000000000 "), "{listing}");
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let below = base(&[
        Item::dir("t"),
        Item::dir("t/a"),
        Item::file("t/a/old", "x"),
        Item::dir("t/b"),
        Item::file("t/b/old", "x"),
        Item::file("t/c", "old"),
        Item::file("t/d", "old"),
        Item::dir("t/e"),
        Item::file("t/e/old", "x"),
        Item::dir("t/f"),
        Item::file("t/f/old", "x"),
        Item::dir("t/g"),
        Item::dir("t/g/h"),
        Item::file("t/g/h/old", "x"),
    ]);
    let above = tar(&[
        // Whiteout first, then anew; and the other way round.
        Item::file("t/.wh.a", ""),
        Item::dir("t/a"),
        Item::file("t/a/new", "x"),
        Item::dir("t/b"),
        Item::file("t/b/new", "x"),
        Item::file("t/.wh.b", ""),
        Item::file("t/.wh.c", ""),
        Item::file("t/c", "new"),
        Item::file("t/d", "new"),
        Item::file("t/.wh.d", ""),
        // The mark of an opaque directory after its content, and in one that is only implied.
        Item::file("t/e/new", "x"),
        Item::file("t/e/.wh..wh..opq", ""),
        Item::file("t/.wh.f", ""),
        Item::file("t/f/deep/new", "implied, but of the hidden one nothing"),
        Item::file("t/g/.wh.h", ""),
        Item::file("t/g/h", "now a file"),
        // Of AUFS itself.
        Item::file(".wh..wh.aufs", ""),
        Item::dir(".wh..wh.plnk"),
    ]);
    let ours = shown(&[below, above]);
    let want = "t t/a t/a/new t/b t/b/new t/c t/d t/e t/e/new t/f t/f/deep t/f/deep/new t/g t/g/h";
    assert_eq!(names(&ours).join(" "), want, "{ours}");
    let size =
        |name: &str| ours.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap().split(' ').nth(4).unwrap();
    assert_eq!((size("t/c"), size("t/d")), ("3", "3"));
    assert!(ours.contains("t/g/h 10 644"), "{ours}");
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let long = "d".repeat(120);
    let ours = shown(&[
        base(&[Item::dir("t"), Item::dir("t/merged"), Item::file("t/merged/below", "x"), Item::dir("t/over")]),
        tar(&[
            Item::file("t/file", "first").mode(0o600),
            Item::file("t/file", "the last").mode(0o640).owner(9, 9),
            Item::file("t/was-file", "x"),
            Item::dir("t/was-file"),
            Item::file("t/was-file/in", "x"),
            Item::dir("t/was-dir"),
            Item::file("t/was-dir/in", "x"),
            Item::file("t/was-dir", "file"),
            Item::dir("t/twice").mode(0o700),
            Item::file("t/twice/in", "x"),
            Item::dir("t/twice").mode(0o711).owner(1, 1),
            Item::file("t/linked", "of the link"),
            Item::hard("t/link", "t/linked"),
            Item::file("t/linked", "another file"),
            Item::symlink("t/symlink", "file"),
            Item::file("t/symlink", "no link"),
            Item::file(format!("t/{long}"), "1").gnu(),
            Item::file(format!("t/{long}"), "22"),
            Item::dir("t/merged").mode(0o701),
            Item::file("t/over", "file over a directory below"),
            Item::file("t/over", "again"),
        ]),
    ]);
    let line = |name: &str| {
        let line =
            ours.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {ours}"));
        line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" ")
    };
    for (name, want) in [
        ("t/file", "10 640 9:9 8"),
        ("t/was-file", "4 755 0:0 0"),
        ("t/was-file/in", "10 644 0:0 1"),
        ("t/was-dir", "10 644 0:0 4"),
        ("t/twice", "4 711 1:1 0"),
        ("t/twice/in", "10 644 0:0 1"),
        ("t/linked", "10 644 0:0 12"),
        ("t/link", "10 644 0:0 11"),
        ("t/symlink", "10 644 0:0 7"),
        (&format!("t/{long}"), "10 644 0:0 2"),
        ("t/merged", "4 701 0:0 0"),
        ("t/merged/below", "10 644 0:0 1"),
        ("t/over", "10 644 0:0 5"),
    ] {
        assert_eq!(line(name), want, "{name}: {ours}");
    }
    assert_eq!(ours.lines().count(), 14, "{ours}");
}

#[test]
fn the_root_of_a_layer_may_be_opaque() {
    let below = base(&[Item::dir("t"), Item::file("t/old", "x"), Item::dir("other"), Item::file("other/x", "x")]);
    let above = tar(&[
        Item::dir(".").mode(0o711).owner(4, 4),
        Item::file(".wh..wh..opq", ""),
        Item::file("lister", lister()).mode(0o755),
        Item::file("t/new", "x"),
    ]);
    for form in FORMS {
        let host = host_with(form);
        load(&host, &[Blob::plain(below.clone()), Blob::plain(above.clone())]);
        let whole = host.ok(&["run", "--rm", "--network", "none", "x:1", "/lister", "t", "other", "lister", "."]);
        let whole = whole.split("\n./").next().unwrap();
        assert!(whole.contains("\nt/new ") && !whole.contains("t/old"), "{form}: {whole}");
        assert!(whole.contains("other errno2"), "{form}: {whole}");
        assert!(whole.contains("\n. 4 711 4:4 "), "{form}: {whole}");
    }
}

#[test]
fn hard_links_reach_into_the_layers_below() {
    let below = base(&[
        Item::dir("t"),
        Item::file("t/file", "content").mode(0o4711).owner(12, 13).time(1_400_000_000, 5).xattr("user.x", b"y"),
        Item::symlink("t/link", "file"),
        Item::node("t/fifo", b'6', 0, 0),
        Item::node("t/device", b'3', 1, 3),
        Item::sparse("t/sparse", 500_000, &[(100_000, b"in it")]),
        Item::file("t/hidden", "hidden"),
        Item::file("t/empty", ""),
    ]);
    let above = tar(&[
        Item::hard("t/file-too", "t/file"),
        Item::hard("t/file-three", "t/file-too"),
        Item::hard("t/dir/link-too", "t/link"),
        Item::hard("t/fifo-too", "t/fifo"),
        Item::hard("t/device-too", "t/device"),
        Item::hard("t/sparse-too", "t/sparse"),
        Item::hard("t/empty-too", "t/empty"),
        // Its target comes later, in the same layer.
        Item::hard("t/early", "t/late"),
        Item::file("t/late", "late"),
    ]);
    let ours = shown(&[below.clone(), tar(&[]), above]);
    let line = |name: &str| {
        let line =
            ours.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {ours}"));
        line.split_once(' ').unwrap().1.split(" = ").next().unwrap().to_owned()
    };
    for name in ["file", "fifo", "device", "sparse", "empty"] {
        assert_eq!(line(&format!("t/{name}")), line(&format!("t/{name}-too")), "{ours}");
    }
    assert_eq!(line("t/link"), line("t/dir/link-too"));
    assert_eq!(line("t/file"), line("t/file-three"));
    assert!(ours.lines().any(|l| l.starts_with("t/file-too ") && l.ends_with(" = t/file-three")), "{ours}");
    assert!(ours.lines().any(|l| l.starts_with("t/late ") && l.ends_with(" = t/early")), "{ours}");

    // What is nowhere is said, and a target that this stack hides is nowhere.
    let hides = tar(&[Item::file("t/.wh.hidden", "")]);
    for (middle, link) in [(tar(&[]), Item::hard("t/x", "t/nowhere")), (hides, Item::hard("t/x", "t/hidden"))] {
        for form in FORMS {
            let host = host_with(form);
            let dir = host.scratch("layout");
            layout(&dir, "x:1", &[below.clone(), middle.clone(), tar(std::slice::from_ref(&link))].map(Blob::plain));
            let said = host.fails(&["load", "--input", &dir.display().to_string()], 1);
            assert!(said.contains("neither in this layer nor in those below"), "{form}: {said}");
            assert_eq!(host.ok(&["images", "-aq"]), "");
        }
    }
}

/// Prints whether this process may have a raw socket, and its user.
const RAW: &str = r#"
#include <stdio.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>
int main(void) { printf("%d %s\n", getuid(), socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 ? "no" : "yes"); return 0; }
"#;

#[test]
fn a_capability_of_a_file_is_one_of_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("raw");
    compile(RAW, &program);
    let program = std::fs::read(program).unwrap();
    let layer = base(&[
        Item::file("without", &program).mode(0o755),
        Item::file("with", &program).mode(0o755).owner(0, 0).xattr("security.capability", &capability()),
    ]);
    // In a layer above as a link: the capability goes with the file.
    let above = tar(&[Item::hard("linked", "with")]);
    for form in FORMS {
        let host = host_with(form);
        load(&host, &[Blob::plain(layer.clone()), Blob::plain(above.clone())]);
        let run = |program: &str| host.ok(&["run", "--rm", "--network", "none", "--user", "33", "x:1", program]);
        assert_eq!(run("/without"), "33 no", "{form}");
        assert_eq!(run("/with"), "33 yes", "{form}");
        assert_eq!(run("/linked"), "33 yes", "{form}");
    }
}

#[test]
fn files_beyond_8_gib_keep_their_holes() {
    let size = 9u64 << 30;
    let layer = base(&[
        Item::dir("t"),
        Item::sparse("t/huge", size, &[(4096, b"near"), ((8 << 30) + 12_345, b"far"), (size - 3, b"end")]),
    ]);
    let listing = shown(std::slice::from_ref(&layer));
    assert!(listing.contains(&format!("t/huge 10 644 0:0 {size} ")), "{listing}");
    for form in FORMS {
        let host = host_with(form);
        load(&host, &[Blob::plain(layer.clone())]);
        let out = command("du").args(["-sk"]).arg(host.root()).output().unwrap();
        let kilobytes: u64 = String::from_utf8_lossy(&out.stdout).split('\t').next().unwrap().parse().unwrap();
        assert!(kilobytes < 32 << 10, "{form}: {kilobytes} KiB");
    }
}

#[test]
fn a_hundred_and_twenty_seven_layers() {
    let mut layers = vec![base(&[Item::dir("t"), Item::file("t/0", "0")])];
    for i in 1..127 {
        let mut items = vec![Item::file(format!("t/{i}"), format!("{i}\n")), Item::file("t/top", format!("{i}"))];
        if i % 2 == 0 {
            items.push(Item::file(format!("t/.wh.{}", i - 1), ""));
        }
        layers.push(tar(&items));
    }
    let listing = shown(&layers);
    let mut want: Vec<String> = (0..127).filter(|i| i % 2 == 0).map(|i| format!("t/{i}")).collect();
    want.extend(["t".to_owned(), "t/top".to_owned()]);
    want.sort();
    let mut names = names(&listing);
    names.sort_unstable();
    assert_eq!(names, want);
}

#[test]
fn layers_without_files() {
    let nothing = tar(&[]);
    // The archive with no entry at all, one that has no end, and one that has the root alone.
    let listing =
        shown(&[nothing.clone(), base(&[Item::dir("t").mode(0o700)]), nothing, Vec::new(), tar(&[Item::dir(".")])]);
    assert!(listing.starts_with("t 4 700 0:0 "), "{listing}");
    assert_eq!(listing.lines().count(), 1, "{listing}");
}

#[test]
fn chunked_and_seekable_layers_are_read_as_ordinary_ones() {
    // zstd:chunked has its table of contents in skippable frames behind the data, eStargz as an entry of the archive.
    let archive = base(&[Item::dir("t"), Item::file("t/x", "x")]);
    let mut chunked = Blob::packed("zstd", &archive);
    let table = br#"{"version":1,"entries":[]}"#;
    for frame in [&table[..], b"GNUlInUx and where the table lies"] {
        chunked.bytes.extend(0x184d_2a50u32.to_le_bytes());
        chunked.bytes.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        chunked.bytes.extend_from_slice(frame);
    }
    chunked.annotations =
        json!({ "io.github.containers.zstd-chunked.manifest-checksum": tare_tests::archive::digest(table) });
    // Each entry is a gzip member of its own, and there are entries that nobody should mind.
    let parts: Vec<Vec<u8>> =
        [Item::file("t/y", "y"), Item::file(".prefetch.landmark", "\u{f}"), Item::file("stargz.index.json", "{}")]
            .into_iter()
            .map(|item| {
                let mut one = tar(&[item]);
                one.truncate(one.len() - 1024);
                one
            })
            .collect();
    let whole = [parts.concat(), vec![0; 1024]].concat();
    let mut seekable = Blob::packed("gzip", &whole);
    seekable.bytes = parts
        .iter()
        .map(Vec::as_slice)
        .chain([&[0; 1024][..]])
        .flat_map(|p| tare_tests::archive::packed("gzip", p))
        .collect();
    seekable.annotations = json!({ "containerd.io/snapshot/stargz/toc.digest": tare_tests::archive::digest(b"{}") });
    for form in FORMS {
        let host = host_with(form);
        load(&host, &[chunked.clone(), seekable.clone()]);
        assert_eq!(names(&listed(&host, "x:1")), ["t", "t/x", "t/y"], "{form}");
    }
}

#[test]
fn layers_that_nobody_may_hand_on_or_read() {
    let archive = base(&[Item::dir("t"), Item::file("t/x", "x")]);
    for (media, why) in [
        ("nondistributable.v1.tar", "non-distributable"),
        ("nondistributable.v1.tar+gzip", "non-distributable"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "non-distributable"),
        ("v1.tar+encrypted", "encrypted"),
        ("v1.tar+gzip+encrypted", "encrypted"),
        ("v1.tar+zstd+encrypted", "encrypted"),
    ] {
        let host = Host::new();
        let dir = host.scratch("layout");
        layout(&dir, "x:1", &[Blob { media: media.into(), ..Blob::plain(archive.clone()) }]);
        let said = host.fails(&["load", "--input", &dir.display().to_string()], 1);
        assert!(said.contains(why) && said.contains("hint: "), "{media}: {said}");
        assert_eq!(host.ok(&["images", "-aq"]), "");
    }
}

/// Changes everything that a layer can say, in a container.
const CHANGES: &str = "cd /t && rm gone && rm -r opaque && mkdir opaque && echo n >opaque/new && echo more >>plain && \
    ln plain plain-too && chmod 4750 setuid && chown 33:33 setuid && mkfifo pipe && mkdir -p new/dir && \
    ln -s ../plain new/link && rm -r to-file && echo file >to-file && rm to-dir && mkdir to-dir && \
    dd if=/dev/zero of=holes bs=1 count=1 seek=50000000 && touch -d @1234567890 times && mknod null c 1 3";

#[test]
fn what_a_container_changed_is_the_same_in_its_image_and_in_its_archive() {
    let layer =
        ["gone", "plain", "setuid", "times", "to-dir"].map(|name| Item::file(format!("t/{name}"), format!("{name}\n")));
    let mut items = vec![
        Item::dir("t"),
        Item::dir("t/opaque"),
        Item::file("t/opaque/old", "x"),
        Item::dir("t/to-file"),
        Item::file("t/to-file/x", "x"),
    ];
    items.extend(layer);
    items.push(Item::file("t/cap", "c").xattr("security.capability", &capability()).xattr("user.x", b"y"));
    let busybox = std::fs::read("/usr/bin/busybox").unwrap();
    let bin = [
        "bin/sh",
        "bin/rm",
        "bin/mkdir",
        "bin/ln",
        "bin/chmod",
        "bin/chown",
        "bin/mkfifo",
        "bin/dd",
        "bin/touch",
        "bin/mknod",
    ];
    items.push(Item::file("bin/busybox", busybox).mode(0o755));
    items.extend(bin.map(|name| Item::symlink(name, "busybox")));
    let lowest = base(&items);
    let mut images = Vec::new();
    for form in FORMS {
        let host = host_with(form);
        load(&host, &[Blob::plain(lowest.clone())]);
        host.ok(&["run", "--name", "box", "--network", "none", "x:1", "/bin/sh", "-ec", CHANGES]);
        // The container's own view, through another start of the lister in it.
        host.ok(&["commit", "--change", "CMD [\"/lister\", \"t\"]", "box", "committed"]);
        let again = host.ok(&["run", "--rm", "--network", "none", "committed"]);
        let names = names(&again);
        for gone in ["t/gone", "t/opaque/old", "t/to-file/x"] {
            assert!(!names.contains(&gone), "{form}: {again}");
        }
        for there in ["t/opaque/new", "t/to-file", "t/to-dir", "t/pipe", "t/null", "t/new/link", "t/plain-too"] {
            assert!(names.contains(&there), "{form}: {there}: {again}");
        }
        assert!(again.lines().any(|l| l.starts_with("t/plain-too ") && l.ends_with(" = t/plain")), "{form}: {again}");
        assert!(again.contains("security.capability="), "{form}: {again}");
        // Of the export, and of a second image of the same tree.
        let archive = host.scratch("export.tar").display().to_string();
        host.ok(&["export", "--output", &archive, "box"]);
        host.ok(&["import", "--change", "CMD [\"/lister\", \"t\"]", &archive, "exported"]);
        assert_eq!(host.ok(&["run", "--rm", "--network", "none", "exported"]), again, "{form}: export");
        // And through save and load.
        let saved = host.run(&["save", "committed"]).bytes;
        let other = host_with(form);
        assert_eq!(other.run_with(&["load"], &saved).code, 0);
        assert_eq!(other.ok(&["run", "--rm", "--network", "none", "committed"]), again, "{form}: saved");
        images.push(again);
    }
    let without_times = |listing: &str| -> Vec<String> {
        listing
            .lines()
            .map(|l| l.split(' ').enumerate().filter(|(i, _)| *i != 5).map(|(_, w)| w.to_owned() + " ").collect())
            .collect()
    };
    assert_eq!(without_times(&images[0]), without_times(&images[1]));
}
