//! The host's root, left behind the container's.

use crate::Outcome::{Broken, Held};
use crate::{SECRET, escape, secret, usual_capabilities};
use tare_tests::oci::Case;

/// Above the root there is the root; also for whoever leaves it by a second chroot(2).
#[test]
fn above_the_root() {
    let attack = |c: &mut Case| {
        usual_capabilities(c, &[]);
        let secret = secret(c);
        let script = format!(
            "cat /..{secret} 2>&1; mkdir -p /j/bin; cp /bin/busybox /j/bin/; \
             chroot /j /bin/busybox cat /../../../../../../../..{secret} 2>&1; grep -c ' / / ' /proc/self/mountinfo"
        );
        let out = c.args(&["/bin/sh", "-c", &script]).run();
        if out.stdout.contains(SECRET) { Broken(out.stdout) } else { Held(out.stdout) }
    };
    escape(attack, "No such file or directory", &["old-root"]);
}
