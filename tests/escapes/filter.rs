//! The system call filter is there when the program begins, in run and in exec.

use crate::Outcome::{self, Broken, Held};
use crate::{escape, usual_capabilities};
use serde_json::json;
use tare_tests::oci::Case;

fn attack(c: &mut Case, exec: bool) -> Outcome {
    usual_capabilities(c, &[]);
    let rule = json!({ "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 });
    c.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let command = ["/bin/unshare", "-U", "/bin/echo", "a namespace of its own"];
    let out = if exec {
        c.sleeper();
        c.exec(&command)
    } else {
        c.args(&command).run()
    };
    if out.stdout.contains("a namespace") { Broken(out.stdout) } else { Held(out.stderr) }
}

#[test]
fn refused_call_in_run() {
    escape(|c| attack(c, false), "Operation not permitted", &["seccomp"]);
}

#[test]
fn refused_call_in_exec() {
    escape(|c| attack(c, true), "Operation not permitted", &["seccomp"]);
}
