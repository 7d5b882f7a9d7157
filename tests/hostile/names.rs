//! Names that lead out, or that no kernel takes.

use crate::ground::both;
use crate::tar::{Header, Tar};

#[test]
fn names_that_climb_are_refused() {
    both(|g| {
        let (token, sentinel) = (&g.token, g.sentinel());
        let deep = format!("{}{}/{token}", "../".repeat(40), sentinel.display().to_string().trim_start_matches('/'));
        for name in [
            format!("../{token}"),
            format!("a/../../{token}"),
            format!("/../{token}"),
            deep,
            format!("./a/../../../{token}"),
        ] {
            g.refuses_layer(&name, Tar::new().file(&name, "x").end(), "the name leaves the layer");
            g.refuses_layer(&name, Tar::new().dir(&name).end(), "the name leaves the layer");
        }
        g.refuses_layer("..", Tar::new().dir("..").end(), "the name leaves the layer");
        let whiteout = format!("../.wh.{token}");
        g.refuses_layer(&whiteout, Tar::new().file(&whiteout, "").end(), "the name leaves the layer");
        // The same said by extended headers.
        let name = format!("../{token}");
        let tar = Tar::new().pax(&[("path", name.as_bytes())]).file("honest", "x").end();
        g.refuses_layer("PAX path", tar, "the name leaves the layer");
        let tar = Tar::new().pax(&[("GNU.sparse.name", name.as_bytes())]).file("honest", "x").end();
        g.refuses_layer("PAX sparse name", tar, "the name leaves the layer");
        let tar = Tar::new().long(b'L', name.as_bytes()).file("honest", "x").end();
        g.refuses_layer("GNU name", tar, "the name leaves the layer");
    });
}

#[test]
fn absolute_and_winding_names_stay_inside() {
    both(|g| {
        let t = &g.token;
        let inside = format!("{}/{t}", g.sentinel().display());
        let tar = Tar::new().file(&format!("/{t}"), "x").file(&inside, "x").file(&format!("a/../b//./{t}"), "x").end();
        let names = g.shows("absolute", vec![tar]);
        for name in [t.clone(), inside.trim_start_matches('/').to_owned(), format!("b/{t}")] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    });
}

#[test]
fn names_that_no_kernel_takes_are_refused() {
    both(|g| {
        let long = "n".repeat(256);
        g.refuses_layer("256 bytes", Tar::new().file(&long, "").end(), "a name longer than 255 bytes");
        g.refuses_layer("in a path", Tar::new().file(&format!("a/{long}/b"), "").end(), "a name longer than 255 bytes");
        g.refuses_layer("4200 bytes", Tar::new().file(&"d/".repeat(2100), "").end(), "a path longer than 4095 bytes");
        let deep = format!("{}x", "d/".repeat(100_000));
        g.refuses_layer("100,000 components", Tar::new().file(&deep, "").end(), "a path longer than 4095 bytes");
        let tar = Tar::new().pax(&[("path", b"a\0b")]).file("honest", "").end();
        g.refuses_layer("NUL", tar, "a name that contains NUL");
        g.refuses_layer("none", Tar::new().raw(&mut Header::new(b"", b'0', 0), b"").end(), "an empty name");
        g.refuses_layer(
            "the root",
            Tar::new().file("./", "").entry(b".", b'2', b"x", b"").end(),
            "must be a directory",
        );
    });
}

#[test]
fn the_longest_name_and_the_deepest_path_are_taken_and_removed() {
    both(|g| {
        let deep = format!("{}x", "d/".repeat(2047));
        assert_eq!(deep.len(), 4095);
        let tar = Tar::new().file(&deep, "x").file(&"n".repeat(255), "x").end();
        let before = g.stored();
        let image = crate::image::Image::of(&[crate::image::Layer::plain(tar)]);
        let id = g.succeeds(&["load", "--quiet"], Some(&image.archive()));
        g.succeeds(&["rmi", id.trim().rsplit(' ').next().unwrap()], None);
        assert_eq!(g.stored(), before);
        // Refused after it has been unpacked: what was made goes, however deep.
        let tar = Tar::new().file(&deep, "x").file("../x", "").end();
        g.refuses_layer("deep, then out", tar, "the name leaves the layer");
    });
}
