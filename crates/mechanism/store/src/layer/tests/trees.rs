//! Whole trees: as archives, copied, extracted, removed.

use super::*;

#[test]
fn a_tree_and_its_archive_are_the_same() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    make_varied(&source);
    let mut exported = Vec::new();
    tar_tree(open(&source).as_fd(), b"", &TreeOptions::default(), &mut exported).unwrap();
    let target = scratch.dir("target");
    let options = ExtractOptions { ownership: Ownership::Archive, owners: None, replace: Replace::Any };
    extract_into(open(&target).as_fd(), b"/", &mut exported.as_slice(), &options).unwrap();
    assert_same(&scan(&source, Times::All), &scan(&target, Times::All));
    // Once more over what is there.
    extract_into(open(&target).as_fd(), b"", &mut exported.as_slice(), &options).unwrap();
    assert_same(&scan(&source, Times::All), &scan(&target, Times::All));
    let mut part = Vec::new();
    tar_tree(open(&source.join("bin")).as_fd(), b"new/name", &TreeOptions::default(), &mut part).unwrap();
    assert_eq!(names_in(&part), ["new/name/", "new/name/ping", "new/name/su"]);
    let node = rustix::fs::open(source.join("link"), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let mut single = Vec::new();
    tar_tree(node.as_fd(), b"link", &TreeOptions::default(), &mut single).unwrap();
    assert_eq!(names_in(&single), ["link"]);
}

#[test]
fn a_copied_tree_is_the_same_and_gives_the_same_layer() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.dir("source"), scratch.dir("target"));
    make_varied(&source);
    std::fs::set_permissions(&source, PermissionsExt::from_mode(0o2750)).unwrap();
    copy_tree(open(&source).as_fd(), open(&target).as_fd()).unwrap();
    assert_same(&scan(&source, Times::All), &scan(&target, Times::All));
    assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o2750);
    assert!(target.join("sparse").metadata().unwrap().blocks() < 64);
    let layer = |path: &Path| make_layer(path, &Lowers::none(), &[], Compression::None).0.diff_id;
    assert_eq!(layer(&source), layer(&target));
    // From an overlay to a disk: another file system.
    let (other, upper, work) = (scratch.dir("other"), scratch.dir("upper"), scratch.dir("work"));
    let overlay = Overlay::new(&[&source], Some((&upper, &work)));
    copy_tree(open(&overlay.path()).as_fd(), open(&other).as_fd()).unwrap();
    let (mut want, mut have) = (scan(&source, Times::All), scan(&other, Times::All));
    // An overlay without index shows the names of one file as different files once they were copied up; these were not,
    // but their inode numbers may differ.
    for lines in [&mut want, &mut have] {
        lines.values_mut().for_each(|line| *line = line.split(" same as").next().unwrap().to_owned());
    }
    want.iter_mut().zip(have.iter_mut()).for_each(|((_, a), (_, b))| assert_eq!(a, b));
    assert_same(&want, &have);
}

#[test]
fn extraction_follows_links_like_a_process_inside() {
    let scratch = Scratch::new();
    let (root, outside) = (scratch.dir("root"), scratch.dir("outside"));
    std::fs::create_dir_all(root.join("data/real")).unwrap();
    std::os::unix::fs::symlink("/data", root.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../outside", root.join("data/climb")).unwrap();
    std::os::unix::fs::symlink("/data/real", root.join("data/way")).unwrap();
    std::fs::write(root.join("data/file"), b"old").unwrap();
    let archive =
        archive(&[(file("way/x"), b"1"), (file("file"), b"new"), (dir("made"), b""), (file("deep/er/y"), b"2")]);
    let fd = open(&root);
    let fixed =
        ExtractOptions { ownership: Ownership::Fixed { uid: 3, gid: 4 }, owners: None, replace: Replace::SameSort };
    extract_into(fd.as_fd(), b"/absolute", &mut archive.as_slice(), &fixed).unwrap();
    for (path, content) in [("data/real/x", "1"), ("data/file", "new"), ("data/deep/er/y", "2")] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), content);
    }
    assert_eq!(
        (root.join("data/made").metadata().unwrap().uid(), root.join("data/made").metadata().unwrap().gid()),
        (3, 4)
    );
    assert!(root.join("absolute").is_symlink() && root.join("data/way").is_symlink());
    // `..` of the root is the root.
    let e = extract_into(fd.as_fd(), b"/data/climb", &mut archive.as_slice(), &fixed).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound, "{e}");
    let e = extract_into(fd.as_fd(), b"/data/file", &mut archive.as_slice(), &fixed).unwrap_err();
    assert_eq!(e.errno(), Some(20), "{e}");
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    let clash = super::archive(&[(file("real"), b"")]);
    let e = extract_into(fd.as_fd(), b"data", &mut clash.as_slice(), &fixed).unwrap_err();
    assert_eq!(e.kind(), Kind::AlreadyExists, "{e}");
    let clash = super::archive(&[(dir("file"), b"")]);
    assert!(extract_into(fd.as_fd(), b"data", &mut clash.as_slice(), &fixed).is_err());
    let leaves = super::archive(&[(file("../x"), b"")]);
    assert!(extract_into(fd.as_fd(), b"data", &mut leaves.as_slice(), &fixed).is_err());
}

#[test]
fn removing_follows_nothing() {
    let scratch = Scratch::new();
    let (tree, outside) = (scratch.dir("tree"), scratch.dir("outside"));
    std::fs::write(outside.join("victim"), b"").unwrap();
    std::os::unix::fs::symlink("../outside", tree.join("link")).unwrap();
    make_varied(&tree.join("link/..").canonicalize().map(|_| scratch.dir("tree/varied")).unwrap());
    let parent = open(&scratch.0);
    remove_tree(parent.as_fd(), b"tree").unwrap();
    remove_tree(parent.as_fd(), b"tree").unwrap();
    assert!(!tree.exists() && outside.join("victim").exists());
    std::os::unix::fs::symlink("outside", scratch.0.join("alias")).unwrap();
    remove_tree(parent.as_fd(), b"alias").unwrap();
    assert!(outside.join("victim").exists() && !scratch.0.join("alias").exists());
}

#[test]
fn depth_is_not_limited_by_descriptors() {
    let scratch = Scratch::new();
    let mut at = rustix::io::fcntl_dupfd_cloexec(open(&scratch.0), 0).unwrap();
    for _ in 0..2500 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = node::open_directory(at.as_fd(), b"d").unwrap();
    }
    drop(at);
    remove_tree(open(&scratch.0).as_fd(), b"d").unwrap();
    assert!(std::fs::read_dir(&scratch.0).unwrap().next().is_none());
}

#[test]
fn a_file_created_by_others_is_not_opened_by_them_meanwhile() {
    // Content is written before the mode is set, so it must be ours alone until then.
    let scratch = Scratch::new();
    let dir = open(&scratch.0);
    drop(node::create_file(dir.as_fd(), b"f").unwrap());
    assert_eq!(scratch.0.join("f").metadata().unwrap().mode() & 0o7777, 0o600);
    assert!(std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(scratch.0.join("f")).is_err());
}

#[test]
fn deep_trees_are_walked_with_a_small_stack_and_few_descriptors() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.dir("source"), scratch.dir("target"));
    let mut at = open(&source);
    for _ in 0..400 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = node::open_directory(at.as_fd(), b"d").unwrap();
    }
    drop(at);
    let (diffed, _) = make_layer(&source, &Lowers::none(), &[], Compression::None);
    assert_eq!(diffed.entries, 400);
    let excluded = Excluded::default();
    assert_eq!(changes(open(&source).as_fd(), &Lowers::none(), &excluded).unwrap().len(), 400);
    tar_tree(open(&source).as_fd(), b"", &TreeOptions::default(), &mut std::io::sink()).unwrap();
    copy_tree(open(&source).as_fd(), open(&target).as_fd()).unwrap();
    assert_eq!(make_layer(&target, &Lowers::none(), &[], Compression::None).0.diff_id, diffed.diff_id);
}
