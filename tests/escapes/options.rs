//! Options of bind mounts that are none (CVE-2024-9407).

use crate::Outcome::{Broken, Held};
use crate::{SECRET, escape, secret};
use tare_tests::oci::Case;

/// Words by which another source, or another kind of mount, might be slipped through to whoever mounts.
#[test]
fn bind_with_a_smuggled_option() {
    for option in ["source=/", "lowerdir=/", "subpath=../..", "bind-propagation=shared", "no-such-option"] {
        let attack = |c: &mut Case| {
            let secret = secret(c);
            c.bind("/mnt", secret, &["ro", option]);
            std::fs::remove_dir(c.inside("/mnt")).unwrap();
            let out = c.args(&["/bin/cat", "/mnt"]).run();
            if out.stdout.contains(SECRET) { Broken(format!("mounted with {option}")) } else { Held(out.stderr) }
        };
        escape(attack, "a bind mount has no option", &["bind-options"]);
    }
}
