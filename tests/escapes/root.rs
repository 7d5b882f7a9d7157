//! The host's root, left behind the container's.

use crate::Outcome::{Broken, Held};
use crate::{SECRET, escape, secret, unmounted, usual_capabilities};
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

/// Without a mount namespace of its own a container has its root by chroot(2) alone: whoever joins it has the same.
#[test]
fn exec_without_a_mount_namespace() {
    let attack = |c: &mut Case| {
        usual_capabilities(c, &[]);
        let secret = secret(c);
        c.share("mount");
        unmounted(c, &["/proc", "/dev"]);
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        c.start();
        c.until("the program runs", || tare_tests::oci::kernel::proc(pid, "cmdline").contains("1000"));
        let script = format!("cat {secret} /..{secret} 2>&1; ls -d /bin/busybox");
        let out = c.exec(&["/bin/sh", "-c", &script]);
        let said = out.stdout + &out.stderr;
        if said.contains(SECRET) { Broken(said) } else { Held(said) }
    };
    escape(attack, "No such file or directory", &["old-root"]);
}
