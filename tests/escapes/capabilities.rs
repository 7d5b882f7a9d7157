//! Inheritable capabilities that nobody asked for (CVE-2022-29162).

use crate::Outcome::{self, Broken, Held};
use crate::{escape, usual_capabilities};
use tare_tests::oci::Case;

const READ: [&str; 3] = ["/bin/sh", "-c", "grep -E 'CapInh|CapAmb' /proc/self/status"];
const NONE: &str = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";

fn verdict(printed: String) -> Outcome {
    if printed == NONE { Held(printed) } else { Broken(printed) }
}

#[test]
fn inheritable_in_run() {
    for uid in [0, 33] {
        let attack = |c: &mut Case| {
            usual_capabilities(c, &[]);
            c.set("/process/user/uid", uid);
            verdict(c.args(&READ).run().stdout)
        };
        escape(attack, NONE, &["inheritable"]);
    }
}

#[test]
fn inheritable_in_exec() {
    for flags in [&[][..], &["--user", "33"], &["--cap", "CAP_SYS_ADMIN"]] {
        let attack = |c: &mut Case| {
            usual_capabilities(c, &[]);
            c.sleeper();
            let args = [&["exec"], flags, &[c.id()], &READ].concat();
            verdict(c.oci(&args).stdout)
        };
        escape(attack, NONE, &["inheritable"]);
    }
}
