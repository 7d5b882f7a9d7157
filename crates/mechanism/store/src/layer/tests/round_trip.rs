//! Tree -> layer -> tree, and overlay -> layer -> overlay.

use super::*;

#[test]
fn a_tree_comes_back_as_it_was_in_every_compression() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    make_varied(&source);
    let socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let mut diff_ids = Vec::new();
    for (name, compression) in [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let (diffed, blob) = make_layer(&source, &Lowers::none(), &[], compression);
        let (again, _) = make_layer(&source, &Lowers::none(), &[], compression);
        assert_eq!(diffed, again, "the same files give the same digest");
        let target = scratch.dir(name);
        let unpacked = unpack_directory(
            open(&target).as_fd(),
            blob.as_slice(),
            compression,
            Some(&diffed.diff_id),
            &Lowers::none(),
            &UnpackLimits::default(),
        )
        .unwrap();
        assert_eq!((unpacked.size, unpacked.entries), (diffed.content, diffed.entries));
        let mut want = scan(&source, Times::All);
        want.remove(b"socket".as_slice()).unwrap();
        assert_same(&want, &scan(&target, Times::All));
        diff_ids.push(diffed.diff_id);
    }
    assert!(diff_ids.iter().all(|d| *d == diff_ids[0]));
    drop(socket);
}

#[expect(clippy::disallowed_methods, reason = "GNU tar is the other implementation")]
fn gnu_tar(source: &Path, how: &[&str]) -> Vec<u8> {
    let out =
        std::process::Command::new("tar").args(how).arg("-C").arg(source).args(["-cf", "-", "."]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn archives_of_gnu_tar_are_unpacked_as_they_were() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    make_varied(&source);
    for (name, how, times) in [
        ("posix", &["--format=posix", "--xattrs", "--xattrs-include=*", "--sparse"][..], true),
        ("gnu", &["--format=gnu", "--sparse"][..], false),
    ] {
        let target = scratch.dir(name);
        unpack_plain(&target, &gnu_tar(&source, how), &Lowers::none()).unwrap();
        let (mut want, mut have) = (scan(&source, Times::All), scan(&target, Times::All));
        if !times {
            // GNU's own format has neither nanoseconds nor attributes.
            for lines in [&mut want, &mut have] {
                for line in lines.values_mut() {
                    let (head, tail) = line.split_once(" same as ").unwrap_or((line, ""));
                    let head: Vec<_> = head.split(' ').filter(|word| !word.contains('.')).collect();
                    *line = head.join(" ") + tail.split(' ').next().unwrap();
                }
            }
        }
        assert_same(&want, &have);
        let blocks = target.join("sparse").metadata().unwrap().blocks();
        assert!(blocks < 64, "holes stay holes: {blocks} blocks");
    }
}

/// Lower layer, upper directory, and the overlay of both.
struct Changed {
    scratch: Scratch,
    lower: PathBuf,
    upper: PathBuf,
    overlay: Overlay,
}

impl Changed {
    fn new(make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let (lower, upper, work) = (scratch.dir("lower"), scratch.dir("upper"), scratch.dir("work"));
        make(&lower);
        let overlay = Overlay::new(&[&lower], Some((&upper, &work)));
        Changed { scratch, lower, upper, overlay }
    }

    fn root(&self) -> PathBuf {
        self.overlay.path()
    }

    fn changes(&self, excluded: &[&str]) -> Vec<String> {
        let lower = open(&self.lower);
        let excluded = Excluded::new(excluded).unwrap();
        let found = changes(open(&self.upper).as_fd(), &Lowers::new([lower.as_fd()]), &excluded).unwrap();
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        found.iter().map(|c| format!("{} /{}", letter(c.kind), String::from_utf8_lossy(&c.path))).collect()
    }

    fn layer(&self, excluded: &[&str]) -> Vec<u8> {
        let lower = open(&self.lower);
        make_layer(&self.upper, &Lowers::new([lower.as_fd()]), excluded, Compression::None).1
    }

    /// What the container sees must be what layer and lower show together.
    fn check(&self, name: &str) {
        let layer = self.layer(&[]);
        let fs = self.scratch.dir(name);
        let lower = open(&self.lower);
        unpack_plain(&fs, &layer, &Lowers::new([lower.as_fd()])).unwrap();
        let again = Overlay::new(&[&fs, &self.lower], None);
        // The time of a directory that only became part of the layer by its content is that of the upper one as well.
        assert_same(&scan(&self.root(), Times::All), &scan(&again.path(), Times::All));
    }
}

#[test]
fn an_overlay_and_the_layer_made_of_it_show_the_same() {
    let c = Changed::new(make_varied);
    let root = c.root();
    std::fs::remove_file(root.join("link")).unwrap();
    std::fs::remove_dir_all(root.join("etc")).unwrap();
    std::fs::create_dir(root.join("etc")).unwrap();
    std::fs::create_dir(root.join("etc/deep")).unwrap();
    std::fs::write(root.join("etc/deep/new"), b"new").unwrap();
    std::fs::remove_file(root.join("bin/su")).unwrap();
    std::fs::create_dir(root.join("bin/su")).unwrap();
    std::fs::write(root.join("bin/su/inside"), b"x").unwrap();
    std::fs::remove_dir(root.join("empty")).unwrap();
    std::fs::write(root.join("empty"), b"now a file").unwrap();
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(root.join("shared/one"), b"1").unwrap();
    std::fs::hard_link(root.join("shared/one"), root.join("shared/two")).unwrap();
    std::fs::rename(root.join("sparse"), root.join("moved")).unwrap();
    std::fs::write(root.join("brief"), b"").unwrap();
    std::fs::remove_file(root.join("brief")).unwrap();
    c.check("again");
    assert_eq!(
        c.changes(&[]),
        [
            "C /bin",
            "C /bin/su",
            "A /bin/su/inside",
            "C /empty",
            "C /etc",
            "D /etc/dangling",
            "C /etc/deep",
            "A /etc/deep/new",
            "D /etc/deep/same",
            "D /etc/passwd",
            "D /link",
            "A /moved",
            "C /shared",
            "A /shared/one",
            "A /shared/two",
            "D /sparse",
            "C /tmp",
        ]
    );
    assert_eq!(
        names_in(&c.layer(&[])),
        [
            "bin/",
            "bin/su/",
            "bin/su/inside",
            "empty",
            "etc/",
            "etc/.wh..wh..opq",
            "etc/deep/",
            "etc/deep/new",
            ".wh.link",
            "moved",
            "shared/",
            "shared/one",
            "shared/two",
            ".wh.sparse",
            "tmp/",
        ]
    );
}

#[test]
fn what_is_excluded_leaves_no_trace() {
    let c = Changed::new(make_varied);
    let root = c.root();
    std::fs::write(root.join("etc/hosts"), b"127.0.0.1").unwrap();
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    std::fs::create_dir(root.join("proc")).unwrap();
    std::fs::write(root.join("proc/x"), b"").unwrap();
    let excluded = ["/etc/hosts", "etc/passwd", "/proc"];
    assert_eq!(names_in(&c.layer(&excluded)), [""; 0]);
    assert_eq!(c.changes(&excluded), [""; 0]);
    let lower = open(&c.lower);
    assert_eq!(make_layer(&c.upper, &Lowers::new([lower.as_fd()]), &excluded, Compression::Gzip).0.entries, 0);
    std::fs::write(root.join("etc/mine"), b"").unwrap();
    assert_eq!(names_in(&c.layer(&excluded)), ["etc/", "etc/mine"]);
    assert_eq!(c.changes(&excluded), ["C /etc", "A /etc/mine"]);
}

#[test]
fn a_directory_counts_when_its_mode_or_time_changed() {
    let c = Changed::new(make_varied);
    set_time(&c.root().join("empty"), 5, 0);
    assert_eq!(names_in(&c.layer(&[])), ["empty/"]);
    assert_eq!(c.changes(&[]), [""; 0], "docker's diff does not look at the times of directories");
    std::fs::set_permissions(c.root().join("empty"), PermissionsExt::from_mode(0o711)).unwrap();
    assert_eq!(c.changes(&[]), ["C /empty"]);
    c.check("again");
}

#[test]
fn times_are_clamped_on_request() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    std::fs::write(source.join("a"), b"").unwrap();
    let excluded = Excluded::default();
    let options = DiffOptions { excluded: &excluded, clamp_mtime: Some(1000) };
    let mut ids = Vec::new();
    for time in [5000, 6000] {
        set_time(&source.join("a"), time, 7);
        let mut tar = Vec::new();
        diff(open(&source).as_fd(), &Lowers::none(), &options, &mut tar).unwrap();
        ids.push(Digest::of(&tar));
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_name_that_means_a_whiteout_cannot_enter_a_layer() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    std::fs::write(source.join(".wh.a"), b"").unwrap();
    let excluded = Excluded::default();
    let options = DiffOptions { excluded: &excluded, clamp_mtime: None };
    let e = diff(open(&source).as_fd(), &Lowers::none(), &options, &mut std::io::sink()).unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported);
    assert_eq!(e.first_hint(), Some("rename the file"));
}

/// Random changes through the kernel, then the same question. Deterministic.
#[test]
fn random_changes_survive_the_way_through_a_layer() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..40 {
        let mut step = |root: &Path| {
            let name = |r: &mut dyn FnMut(u64) -> u64| -> PathBuf {
                (0..=r(3)).map(|_| ["a", "b", "c"][r(3) as usize]).collect()
            };
            let (one, two) = (root.join(name(&mut random)), root.join(name(&mut random)));
            // Most of these fail now and then, and that is part of the game.
            match random(9) {
                0 | 1 => drop(std::fs::create_dir_all(&one)),
                2 | 3 => drop(std::fs::write(&one, random(100).to_string())),
                4 => drop(std::fs::remove_file(&one)),
                5 => drop(std::fs::remove_dir_all(&one)),
                6 => drop(std::fs::rename(&one, &two)),
                7 => drop(std::fs::hard_link(&one, &two)),
                _ => drop(std::os::unix::fs::symlink("a", &one)),
            }
        };
        let c = Changed::new(|lower| (0..60).for_each(|_| step(lower)));
        let root = c.root();
        (0..40).for_each(|_| step(&root));
        c.check(&format!("round-{round}"));
    }
}
