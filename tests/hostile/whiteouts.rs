//! Whiteouts of nothing, of everything, and in odd places.

use crate::ground::both;
use crate::tar::Tar;

#[test]
fn whiteouts_without_a_name_are_refused() {
    both(|g| {
        for name in [".wh.", "a/.wh.", ".wh..", "a/.wh..", ".wh...", "a/.wh..."] {
            g.refuses_layer(name, Tar::new().dir("a").file(name, "").end(), "a whiteout must name a file");
        }
        for name in [".wh.a/b", "x/.wh.a/b/c", ".wh.a/.wh.b", ".wh..wh..opq/x"] {
            g.refuses_layer(name, Tar::new().file(name, "").end(), "a whiteout cannot contain anything");
        }
    });
}

#[test]
fn whiteouts_of_nothing_hide_nothing() {
    both(|g| {
        let bottom = Tar::new().file("a/kept", "x").file("b/kept", "x").file("top", "x").end();
        let odd = Tar::new()
            .file(".wh.nothing", "")
            .file("a/.wh.nothing", "")
            .file("new/.wh..wh..opq", "")
            .file(".wh..wh.plnk", "")
            .file(".wh..wh.orph/x", "")
            .file("kept", "x")
            .file(".wh.kept", "")
            .end();
        assert_eq!(g.shows("nothing", vec![bottom, odd]), ["a", "a/kept", "b", "b/kept", "kept", "new", "top"]);
    });
}

#[test]
fn whiteouts_of_every_type_hide() {
    both(|g| {
        let bottom = Tar::new()
            .file("a/x", "x")
            .file("b/x", "x")
            .file("c/x", "x")
            .file("d", "x")
            .file("e", "x")
            .file("f/x", "x")
            .end();
        let target = g.sentinel().join("file").display().to_string();
        let top = Tar::new()
            .symlink(".wh.a", &target)
            .hard_link(".wh.b", "../../../etc/passwd")
            .symlink("c/.wh..wh..opq", "../..")
            .device(".wh.d", b'3', 1, 5)
            .dir(".wh.e")
            .file(".wh.f", "content of a whiteout")
            .file("f/new", "x")
            .end();
        assert_eq!(g.shows("types", vec![bottom, top]), ["c", "f", "f/new"]);
    });
}

#[test]
fn an_opaque_root_hides_all_below() {
    both(|g| {
        let bottom = Tar::new().file("a/x", "x").file("b", "x").end();
        let top = Tar::new().file(".wh..wh..opq", "").file("c", "x").end();
        assert_eq!(g.shows("root", vec![bottom, top]), ["c"]);
    });
}

#[test]
fn a_hidden_file_is_no_target_of_a_link() {
    both(|g| {
        let bottom = crate::image::Layer::plain(Tar::new().file("secret", "x").end());
        let hidden = crate::image::Layer::plain(Tar::new().file(".wh.secret", "").end());
        let link = crate::image::Layer::plain(Tar::new().hard_link("stolen", "secret").end());
        let image = crate::image::Image::of(&[bottom.clone(), hidden, link.clone()]);
        g.refuses_image("hidden", &image, "neither in this layer nor in those below|is not in the archive");
        // Many names of one file below are one file, not many copies.
        let mut tar = Tar::new();
        for i in 0..500 {
            tar = tar.hard_link(&format!("l{i:03}"), "big");
        }
        let big = Tar::new().entry(b"big", b'0', b"", &vec![7; 1 << 20]).end();
        g.limits("image-bytes = \"64m\"");
        let names = g.shows("many names", vec![big, tar.end()]);
        assert_eq!(names.len(), 501);
    });
}
