//! Extended attributes that speak to the kernel, and too many of them.

use crate::ground::both;
use crate::image::{Image, Layer};
use crate::tar::Tar;

fn with(records: &[(&str, &[u8])]) -> Tar {
    Tar::new().pax(records)
}

#[test]
fn what_overlayfs_reads_is_not_taken_from_archives() {
    both(|g| {
        let bottom = Tar::new().file("d/kept", "x").file("secret/x", "x").file("f", "x").end();
        let top = with(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
            .dir("d")
            .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/secret")])
            .dir("e")
            .pax(&[("SCHILY.xattr.trusted.overlay.metacopy", b""), ("SCHILY.xattr.trusted.overlay.redirect", b"/f")])
            .file("g", "own")
            .pax(&[("SCHILY.xattr.trusted.overlay.whiteout", b"y"), ("SCHILY.xattr.user.overlay.whiteout", b"y")])
            .file("f", "")
            .pax(&[("SCHILY.xattr.trusted.overlay.origin", &[0; 30])])
            .file("h", "x");
        let names = g.shows("overlay", vec![bottom, top.end()]);
        assert_eq!(names, ["d", "d/kept", "e", "f", "g", "h", "secret", "secret/x"]);
    });
}

#[test]
fn attributes_beyond_what_a_kernel_holds_are_one_error_or_none() {
    both(|g| {
        let large = vec![b'v'; 70_000];
        let long = format!("SCHILY.xattr.user.{}", "n".repeat(300));
        let many: Vec<(String, Vec<u8>)> =
            (0..5000).map(|i| (format!("SCHILY.xattr.user.n{i:04}"), b"value".to_vec())).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        for (what, records) in [
            ("64 KiB", vec![("SCHILY.xattr.user.large", large.as_slice())]),
            ("a long name", vec![(long.as_str(), b"x".as_slice())]),
            ("thousands", many),
            ("no namespace", vec![("SCHILY.xattr.nonsense", b"x".as_slice())]),
            ("a capability without sense", vec![("SCHILY.xattr.security.capability", b"x".as_slice())]),
            ("a label", vec![("SCHILY.xattr.security.selinux", b"x".as_slice())]),
            ("integrity", vec![("SCHILY.xattr.security.ima", b"x".as_slice())]),
            ("an ACL without sense", vec![("SCHILY.xattr.system.posix_acl_access", b"xyz".as_slice())]),
        ] {
            let tar = Tar::new().pax(&records).file("f", "x").end();
            let before = g.stored();
            let out = g.endures(what, &["load", "--quiet"], Some(&Image::of(&[Layer::plain(tar)]).archive()));
            if out.code == 0 {
                let id = out.stdout.trim().rsplit(' ').next().unwrap().to_owned();
                let container = g.succeeds(&["create", "--network", "none", &id], None);
                g.endures(what, &["export", container.trim()], None);
                g.succeeds(&["rm", container.trim()], None);
                g.succeeds(&["rmi", &id], None);
            }
            assert_eq!(g.stored(), before, "{what}");
        }
    });
}

#[test]
fn records_without_sense_are_refused() {
    both(|g| {
        let raw = |text: &[u8]| {
            let mut header = crate::tar::Header::new(b"PaxHeaders/x", b'x', text.len() as u64);
            Tar::new().raw(&mut header, text).file("f", "x").end()
        };
        for text in [
            "x",
            "999999 path=a\n",
            "5 path=a\n",
            "18446744073709551616 path=a\n",
            "-5 path=a\n",
            "9 path=x!",
            "6 =ab\n",
        ] {
            g.refuses_layer(text, raw(text.as_bytes()), "a malformed record|not a decimal|beyond 64 bits");
        }
        for (key, value) in [
            ("uid", "-1"),
            ("uid", "4294967296"),
            ("gid", "x"),
            ("mtime", "now"),
            ("size", "1e5"),
            ("SCHILY.xattr.", "x"),
        ] {
            g.refuses_layer(key, with(&[(key, value.as_bytes())]).file("f", "x").end(), "PAX record|beyond 32 bits");
        }
    });
}
