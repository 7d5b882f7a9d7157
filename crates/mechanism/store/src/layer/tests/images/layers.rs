//! Layers on layers: whiteouts, opaque directories, hard links into what is below.

use super::*;

/// The same overlay over trees and over images, topmost first.
fn assert_overlays_alike(stack: &[&Both]) {
    let trees: Vec<&Path> = stack.iter().map(|both| both.tree.as_path()).collect();
    let mounts: Vec<OwnedFd> = stack.iter().map(|both| mounted(&both.image())).collect();
    let paths: Vec<PathBuf> =
        mounts.iter().map(|m| PathBuf::from(format!("/proc/self/fd/{}", m.as_raw_fd()))).collect();
    let images: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let (left, right) = (Overlay::new(&trees, None), Overlay::new(&images, None));
    assert_alike(left.0.as_fd(), right.0.as_fd());
}

fn base() -> Vec<u8> {
    let mut attributed = file("d/attributed");
    attributed.xattrs.push((b"user.note".to_vec(), b"n".to_vec()));
    (attributed.mode, attributed.uid, attributed.mtime.secs) = (0o4711, 77, 1_000_000);
    let mut out = without_end(archive(&[
        (file("d/kept"), b"k"),
        (file("d/gone"), b"g"),
        (attributed, &[3; 5000]),
        (file("hidden/x"), b"x"),
        (file("hidden/y/z"), b"z"),
        (file("file-then-dir"), b"f"),
        (file("dir-then-file/x"), b"f"),
        (link("link", EntryKind::Symlink, "d/kept"), b""),
        (Entry::new("pipe", EntryKind::Fifo), b""),
    ]));
    out.extend(sparse("d/sparse", 100_000, &[(50_000, 100)]));
    ended(out)
}

#[test]
fn whiteouts_and_opaque_directories_hide_the_same() {
    let (bottom, top, topmost) = (Both::new(), Both::new(), Both::new());
    bottom.check(&base());
    top.check(&archive(&[
        (file("d/.wh.gone"), b""),
        (file("d/.wh.never-there"), b""),
        (file("hidden/.wh..wh..opq"), b""),
        (file("hidden/new"), b"new"),
        (file(".wh.file-then-dir"), b""),
        (file("file-then-dir/in"), b""),
        (file("dir-then-file"), b"now a file"),
        (file(".wh.link"), b""),
    ]));
    assert_overlays_alike(&[&top, &bottom]);
    topmost.check(&archive(&[(file(".wh..wh..opq"), b""), (file("d/only"), b"o"), (file("link"), b"back")]));
    assert_overlays_alike(&[&topmost, &top, &bottom]);
}

#[test]
fn hard_links_to_what_lies_only_below_become_copies() {
    let (bottom, middle, top) = (Both::new(), Both::new(), Both::new());
    bottom.check(&base());
    middle.check_over(&archive(&[(file("d/.wh.gone"), b""), (file("over"), b"middle")]), &[&bottom]);
    let hard = |path, target| (link(path, EntryKind::Hardlink, target), b"".as_slice());
    let entries = [
        hard("a", "d/attributed"),
        hard("b", "d/attributed"),
        hard("c", "a"),
        hard("sparse", "d/sparse"),
        hard("pipe-too", "pipe"),
        hard("link-too", "link"),
        hard("over-too", "over"),
        hard("replaced", "d/kept"),
        (file("replaced"), b"by a file"),
        hard("deep/in/a", "d/kept"),
    ];
    top.check_over(&archive(&entries), &[&middle, &bottom]);
    assert_overlays_alike(&[&top, &middle, &bottom]);
    for target in ["d/gone", "d", "nowhere", "d/kept/x"] {
        let (tree, image) = Both::new().unpack(&archive(&[hard("x", target)]), &[&middle, &bottom]);
        let (tree, image) = (tree.unwrap_err(), image.unwrap_err());
        assert_eq!((tree.kind(), tree.to_string()), (image.kind(), image.to_string()), "{target}");
    }
}
