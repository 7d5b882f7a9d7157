//! Layers that want out, and layers that contradict themselves.

use super::*;

/// Unpacks into `layer` beside a sentinel tree that must not change. Says what happened.
fn attack(entries: &[(Entry, &[u8])]) -> (Scratch, Result<Unpacked>) {
    let scratch = Scratch::new();
    let fs = scratch.dir("layer");
    let outside = scratch.dir("outside");
    std::fs::write(outside.join("victim"), b"unharmed").unwrap();
    let result = unpack_plain(&fs, &archive(entries), &Lowers::none());
    assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"unharmed");
    let names: Vec<_> =
        scan(&scratch.0, Times::NotOfDirectories).into_keys().filter(|p| !p.starts_with(b"layer")).collect();
    assert_eq!(names, [b"outside".to_vec(), b"outside/victim".to_vec()]);
    (scratch, result)
}

fn refused(entries: &[(Entry, &[u8])]) -> String {
    let (_scratch, result) = attack(entries);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    error.to_string()
}

#[test]
fn names_that_leave_the_layer_are_refused() {
    assert!(refused(&[(file("../outside/new"), b"x")]).contains("leaves the layer"));
    assert!(refused(&[(dir("a"), b""), (file("a/../../outside/victim"), b"x")]).contains("leaves the layer"));
    assert!(refused(&[(file("a/.wh..."), b"")]).contains("must name a file"));
    let (scratch, result) = attack(&[(file("/outside/absolute"), b"x")]);
    result.unwrap();
    assert!(scratch.0.join("layer/outside/absolute").exists());
}

#[test]
fn links_are_never_a_way_out() {
    let symlink = |target: &str| (link("evil", EntryKind::Symlink, target), b"".as_slice());
    assert!(refused(&[symlink("../outside"), (file("evil/victim"), b"x")]).contains("leaves the layer"));
    let absolute = Scratch::new();
    let target = absolute.0.to_str().unwrap().to_owned();
    assert!(refused(&[symlink(&target), (file("evil/new"), b"x")]).contains("leaves the layer"));
    assert!(refused(&[symlink(&target), (file("evil/.wh.new"), b"")]).contains("leaves the layer"));
    assert!(refused(&[symlink(&target), (file("evil/.wh..wh..opq"), b"")]).contains("leaves the layer"));
    assert!(refused(&[symlink(&target), (dir("evil/sub"), b"")]).contains("leaves the layer"));
    assert!(std::fs::read_dir(&absolute.0).unwrap().next().is_none());
    // Written through: the link is replaced, its target is not touched.
    let (scratch, result) = attack(&[symlink("../outside/victim"), (file("evil"), b"mine")]);
    result.unwrap();
    assert_eq!(std::fs::read(scratch.0.join("layer/evil")).unwrap(), b"mine");
    // A directory's attributes are put at the end: not through a link that came in its place.
    let mut open_dir = dir("evil");
    open_dir.mode = 0o777;
    let (scratch, result) = attack(&[(open_dir, b""), symlink("../outside")]);
    result.unwrap();
    assert_eq!(scratch.0.join("outside").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn hard_links_reach_only_into_the_layer() {
    let hard = |target: &str| (link("h", EntryKind::Hardlink, target), b"".as_slice());
    assert!(refused(&[hard("../outside/victim")]).contains("leaves the layer"));
    assert!(refused(&[(link("evil", EntryKind::Symlink, "../outside"), b""), hard("evil/victim")]).contains("leaves"));
    assert!(refused(&[hard("nowhere")]).contains("neither in this layer nor in those below"));
    assert!(refused(&[(dir("d"), b""), hard("d")]).contains("directory"));
    assert!(refused(&[(file(".wh.gone"), b""), hard("gone")]).contains("neither"));
    assert!(refused(&[hard("h")]).contains("neither"));
    let (scratch, result) = attack(&[(link("s", EntryKind::Symlink, "../outside/victim"), b""), hard("s")]);
    result.unwrap();
    assert!(scratch.0.join("layer/h").is_symlink(), "a hard link to a link is a link");
}

#[test]
fn a_link_inside_of_the_layer_is_followed() {
    let (scratch, result) = attack(&[
        (dir("usr/lib"), b""),
        (link("lib", EntryKind::Symlink, "usr/lib"), b""),
        (file("lib/x"), b"1"),
        (file("lib/sub/y"), b"2"),
        (link("hard", EntryKind::Hardlink, "lib/x"), b""),
    ]);
    result.unwrap();
    for path in ["usr/lib/x", "usr/lib/sub/y", "hard"] {
        assert!(scratch.0.join("layer").join(path).is_file(), "{path}");
    }
    assert!(scratch.0.join("layer/lib").is_symlink());
}

#[test]
fn a_parent_swapped_for_a_link_while_unpacking_is_not_followed() {
    let scratch = Scratch::new();
    let (fs, outside) = (scratch.dir("layer"), scratch.dir("outside"));
    let fd = open(&fs);
    let mut sink = DirectorySink::new(fd.as_fd(), Box::new(|_| Ok(None)));
    let mut put = |e: Entry| sink.put(tare_format::Change::of(e).unwrap(), 0, &mut std::io::empty());
    put(dir("a")).unwrap();
    put(file("a/1")).unwrap();
    put(file("b")).unwrap();
    std::fs::rename(fs.join("a"), fs.join("moved")).unwrap();
    std::os::unix::fs::symlink("../outside", fs.join("a")).unwrap();
    assert!(put(file("a/2")).unwrap_err().to_string().contains("leaves the layer"));
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let mut late = dir("d");
    late.mode = 0o711;
    let (scratch, result) = attack(&[
        (file("f"), b"1"),
        (file("f"), b"22"),
        (file("f"), b"333"),
        (file("x"), b""),
        (dir("x"), b""),
        (file("x/in"), b""),
        (dir("y"), b""),
        (file("y/in"), b""),
        (file("y"), b"now a file"),
        (dir("d"), b""),
        (file("d/kept"), b""),
        (late, b""),
        (file("same"), b"same"),
        (link("same", EntryKind::Hardlink, "same"), b""),
    ]);
    result.unwrap();
    let at = |path: &str| scratch.0.join("layer").join(path);
    assert_eq!(std::fs::read(at("f")).unwrap(), b"333");
    assert!(at("x/in").is_file() && at("y").is_file() && at("d/kept").is_file());
    assert_eq!(at("d").metadata().unwrap().mode() & 0o7777, 0o711);
    assert_eq!(std::fs::read(at("same")).unwrap(), b"same");
    assert!(refused(&[(file("a"), b""), (file("a/b"), b"")]).contains("stands where one of its directories should be"));
}

#[test]
fn attributes_of_the_overlay_cannot_be_smuggled_in() {
    let mut entry = dir("d");
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.opaque", "user.fine"] {
        entry.xattrs.push((name.into(), b"y".to_vec()));
    }
    let (scratch, result) = attack(&[(entry, b"")]);
    result.unwrap();
    let found = node::xattrs_of(open(&scratch.0.join("layer/d")).as_fd(), b"d").unwrap();
    assert_eq!(found, [(b"user.fine".to_vec(), b"y".to_vec())]);
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let scratch = Scratch::new();
    let (low, high) = (scratch.dir("low"), scratch.dir("high"));
    let below = archive(&[
        (file("gone"), b""),
        (dir("cleared"), b""),
        (file("cleared/old"), b""),
        (dir("swapped"), b""),
        (file("swapped/old"), b""),
        (dir("late"), b""),
        (file("late/old"), b""),
        (file("stays"), b""),
    ]);
    unpack_plain(&low, &below, &Lowers::none()).unwrap();
    let above = archive(&[
        (file(".wh.gone"), b""),
        (dir("cleared"), b""),
        (file("cleared/.wh..wh..opq"), b""),
        (file("cleared/new"), b""),
        (file(".wh.swapped"), b""),
        (dir("swapped"), b""),
        (file("swapped/new"), b""),
        (dir("late"), b""),
        (file("late/new"), b""),
        (file(".wh.late"), b""),
        (file(".wh.nothing"), b""),
        (file(".wh..wh.plnk"), b""),
        (file("sub/.wh.x"), b""),
        (file("sub/x/y"), b""),
    ]);
    unpack_plain(&high, &above, &Lowers::none()).unwrap();
    let overlay = Overlay::new(&[&high, &low], None);
    let seen: Vec<_> = scan(&overlay.path(), Times::All).into_keys().map(|p| String::from_utf8(p).unwrap()).collect();
    let want =
        ["cleared", "cleared/new", "late", "late/new", "stays", "sub", "sub/x", "sub/x/y", "swapped", "swapped/new"];
    assert_eq!(seen, want);
    // And without mounting.
    let (l, h) = (open(&low), open(&high));
    let stack = Lowers::new([h.as_fd(), l.as_fd()]);
    for path in want {
        assert!(stack.lookup(path.as_bytes()).unwrap().is_some(), "{path}");
    }
    for path in ["gone", "cleared/old", "swapped/old", "late/old", "nothing", "stays/x", "sub/x/z"] {
        assert!(stack.lookup(path.as_bytes()).unwrap().is_none(), "{path}");
    }
    assert_eq!(stack.list(b"cleared").unwrap().into_keys().collect::<Vec<_>>(), [b"new".to_vec()]);
    assert_eq!(stack.list(b"").unwrap().len(), 5);
}

#[test]
fn hard_links_into_lower_layers_are_copied_up() {
    let scratch = Scratch::new();
    let (low, high) = (scratch.dir("low"), scratch.dir("high"));
    let mut original = file("etc/original");
    (original.mode, original.uid) = (0o4711, 5);
    original.xattrs.push((b"user.a".to_vec(), b"b".to_vec()));
    unpack_plain(&low, &archive(&[(original, b"content"), (file("other"), b"o")]), &Lowers::none()).unwrap();
    let fd = open(&low);
    let above = archive(&[
        (link("new", EntryKind::Hardlink, "etc/original"), b""),
        (link("second", EntryKind::Hardlink, "new"), b""),
        (link("replaced", EntryKind::Hardlink, "other"), b""),
        (file("replaced"), b"later"),
    ]);
    unpack_plain(&high, &above, &Lowers::new([fd.as_fd()])).unwrap();
    let (new, second) = (high.join("new").metadata().unwrap(), high.join("second").metadata().unwrap());
    assert_eq!((new.mode() & 0o7777, new.uid(), new.ino()), (0o4711, 5, second.ino()));
    assert_eq!(std::fs::read(high.join("new")).unwrap(), b"content");
    assert_eq!(std::fs::read(high.join("replaced")).unwrap(), b"later");
    assert!(!high.join("etc").exists());
}

#[test]
fn deep_and_wide_trees() {
    let deep = "d/".repeat(300);
    let mut many: Vec<(Entry, &[u8])> = vec![(file(&(deep.clone() + "leaf")), b"x")];
    many.extend((0..500).map(|i| (file(&format!("w{i}/x")), b"".as_slice())));
    many.push((file(&(deep + "second")), b"y"));
    let (_scratch, result) = attack(&many);
    assert_eq!(result.unwrap().entries, 502);

    // As deep as a path can be, where the directories are found again at the end.
    let (scratch, deep) = (Scratch::new(), "d/".repeat(2046));
    let fs = scratch.dir("layer");
    unpack_plain(&fs, &archive(&[(file(&(deep + "l")), b"x")]), &Lowers::none()).unwrap();
}
