//! Links out of the layer, round in circles, and to what is not there.

use crate::ground::both;
use crate::tar::Tar;

#[test]
fn nothing_is_written_through_a_link_that_leaves() {
    both(|g| {
        let (t, sentinel) = (&g.token, g.sentinel().display().to_string());
        let up = format!("{}{}", "../".repeat(40), sentinel.trim_start_matches('/'));
        for target in [sentinel.clone(), up, "/".to_owned(), "..".to_owned(), "../..".to_owned()] {
            let link = || Tar::new().dir("d").symlink("l", &target).symlink("d/l", &target);
            let inside = format!("l/{t}");
            for (what, tar) in [
                ("file", link().file(&inside, "x")),
                ("directory", link().dir(&inside)),
                ("hard link", link().file("f", "x").hard_link(&inside, "f")),
                ("symbolic link", link().symlink(&inside, "f")),
                ("device", link().device(&inside, b'3', 1, 3)),
                ("whiteout", link().file("l/.wh.file", "")),
                ("opaque", link().file("l/.wh..wh..opq", "")),
                ("deeper", link().file(&format!("d/l/{t}/{t}"), "x")),
            ] {
                // From d, `..` is still inside.
                if what == "deeper" && target == ".." {
                    continue;
                }
                g.refuses_layer(
                    &format!("{what} through {target}"),
                    tar.end(),
                    "a symbolic link that leaves|leads nowhere",
                );
            }
            let tar = link().hard_link(&format!("stolen-{t}"), "l/file").end();
            g.refuses_layer(
                &format!("hard link from {target}"),
                tar,
                "symbolic link that leaves the tree|neither in this layer|is not in the archive",
            );
        }
    });
}

#[test]
fn a_directory_that_becomes_a_link_takes_no_more_files() {
    both(|g| {
        let (t, sentinel) = (&g.token, g.sentinel().display().to_string());
        let file = format!("d/{t}");
        let swapped = Tar::new().dir("d").file("d/first", "1").symlink("d", &sentinel).file(&file, "2");
        g.refuses_layer("swapped", swapped.end(), "a symbolic link that leaves the layer");
        let below = Tar::new()
            .dir("d/e/f")
            .file("d/e/f/first", "1")
            .symlink("d/e", "../../../..")
            .file(&format!("d/e/f/{t}"), "2");
        g.refuses_layer("swapped above", below.end(), "a symbolic link that leaves the layer");
        // Through a link inside that is then replaced by one that leaves.
        let twice = Tar::new()
            .dir("real")
            .symlink("l", "real")
            .file("l/first", "1")
            .symlink("l", &sentinel)
            .file(&format!("l/{t}"), "2");
        g.refuses_layer("link swapped", twice.end(), "a symbolic link that leaves the layer");
        let real = Tar::new()
            .dir("a/b")
            .symlink("l", "a/b")
            .file("l/first", "1")
            .symlink("a", &sentinel)
            .file(&format!("l/{t}"), "2");
        g.refuses_layer("its target swapped", real.end(), "a symbolic link that leaves the layer");
        // Directories get their attributes at the end, by name: not through what took their place.
        let late = Tar::new().dir("dir").symlink("dir", &sentinel);
        assert_eq!(g.shows("attributes", vec![late.end()]), ["dir"]);
        let late = Tar::new().dir("x/dir").symlink("x", &sentinel);
        assert_eq!(g.shows("attributes below", vec![late.end()]), ["x"]);
    });
}

#[test]
fn hard_links_to_what_is_not_there_are_refused() {
    both(|g| {
        let t = &g.token;
        let link = |target: &str| Tar::new().dir("d").file("f", "x").file(".wh.gone", "").hard_link(t, target).end();
        for target in ["../../etc/passwd", "/../etc/passwd", ".."] {
            g.refuses_layer(target, link(target), "the name leaves the layer");
        }
        for target in ["/etc/passwd", "nothing", "f/nothing", "d/../nothing", ".wh.gone", "gone", t.as_str()] {
            g.refuses_layer(target, link(target), "neither in this layer nor in those below|is not in the archive");
        }
        g.refuses_layer("to a directory", link("d"), "is a directory");
        g.refuses_layer("to the root", link("/"), "is a directory|neither in this layer|is not in the archive");
        g.refuses_layer("no target", link(""), "an empty name");
        let circle = Tar::new().hard_link("a", "b").hard_link("b", "a").end();
        g.refuses_layer("a circle", circle, "neither in this layer nor in those below|is not in the archive");
        let chain = (0..200).fold(Tar::new(), |tar, i| tar.hard_link(&format!("l{i}"), &format!("l{}", i + 1))).end();
        g.refuses_layer("a chain to nothing", chain, "neither in this layer nor in those below|is not in the archive");
    });
}

#[test]
fn links_that_stay_inside_are_taken() {
    both(|g| {
        let tar = Tar::new()
            .hard_link("early", "late")
            .file("late", "x")
            .device("null", b'3', 1, 3)
            .hard_link("null-too", "null")
            .symlink("lib", "usr/lib")
            .dir("usr/lib")
            .file("lib/inside", "x")
            .hard_link("own", "own-target")
            .file("own-target", "")
            .symlink("dangling", "/nowhere/at/all")
            .hard_link("dangling-too", "dangling");
        let names = g.shows("inside", vec![tar.end()]);
        let want = [
            "dangling",
            "dangling-too",
            "early",
            "late",
            "lib",
            "null",
            "null-too",
            "own",
            "own-target",
            "usr",
            "usr/lib",
            "usr/lib/inside",
        ];
        assert_eq!(names, want);
    });
}

#[test]
fn links_in_circles_lead_nowhere() {
    both(|g| {
        let circle = Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "");
        g.refuses_layer("a circle", circle.end(), "leads nowhere");
        let own = Tar::new().symlink("a", "a").file("a/x", "");
        g.refuses_layer("itself", own.end(), "leads nowhere");
        // Each doubles the way of the one before it.
        let mut tar = Tar::new().dir("l0");
        for i in 1..60 {
            tar = tar.symlink(&format!("l{i}"), &format!("l{}/../l{}", i - 1, i - 1));
        }
        g.refuses_layer("doubling", tar.file("l59/x", "").end(), "leads nowhere");
    });
}

#[test]
fn of_one_name_the_last_entry_counts() {
    both(|g| {
        let (t, sentinel) = (&g.token, g.sentinel().display().to_string());
        let tar = Tar::new()
            .file("a", "file")
            .dir("a")
            .file("a/x", "x")
            .dir("b")
            .file("b/x", "x")
            .file("b", "file")
            .symlink("c", &sentinel)
            .file("c", "file")
            .symlink("e", &sentinel)
            .dir("e")
            .file(&format!("e/{t}"), "x")
            .fifo("f")
            .file("f", "file");
        let mut want =
            vec!["a".to_owned(), "a/x".into(), "b".into(), "c".into(), "e".into(), format!("e/{t}"), "f".into()];
        want.sort();
        assert_eq!(g.shows("last", vec![tar.end()]), want);
        let through = Tar::new().file("a", "file").file("a/x", "x").end();
        g.refuses_layer("a file as a parent", through, "a file of the archive stands where");
    });
}
