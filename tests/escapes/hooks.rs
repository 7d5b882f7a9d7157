//! Hooks whose programs are the image's.

use crate::Outcome::{Broken, Held};
use crate::{SECRET, escape, held, link, secret};
use serde_json::json;
use tare_tests::oci::Case;

fn hook(c: &mut Case, kind: &str, script: &str) {
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] });
    c.set(&format!("/hooks/{kind}/-"), hook);
}

/// startContainer is looked up in the container: it is the image's program, and may do no more than the container's own.
#[test]
fn start_container_has_no_more_rights_than_the_program() {
    let attack = |c: &mut Case| {
        c.set("/process/capabilities/bounding", json!(["CAP_CHOWN"]));
        c.set("/process/capabilities/permitted", json!(["CAP_CHOWN"]));
        c.set("/process/capabilities/effective", json!(["CAP_CHOWN"]));
        let rule = json!({ "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 });
        c.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
        hook(
            c,
            "startContainer",
            "exec > /hook; grep -E 'CapPrm|CapBnd|Seccomp:' /proc/self/status; ls /proc/self/fd | wc -l",
        );
        let program = c.sh("grep -E 'CapPrm|CapBnd|Seccomp:' /proc/self/status");
        let hook = std::fs::read_to_string(c.inside("/hook")).unwrap();
        if hook.starts_with(&program) {
            Held(hook)
        } else {
            Broken(format!("the hook has\n{hook}the program\n{program}"))
        }
    };
    escape(attack, "CapBnd", &["start-hooks"]);
}

/// A hook of the host's is never looked up in the image, wherever links of the image lead.
#[test]
fn create_container_is_the_hosts_program() {
    let attack = |c: &mut Case| {
        let secret = secret(c);
        link(c, "/etc/passwd", &secret);
        let seen = c.path("seen");
        let program = c.path("hook");
        std::fs::write(&program, format!("#!/bin/sh\ncat {secret} > {}\n", seen.display())).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let inside = c.inside(&program.display().to_string());
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::fs::write(&inside, "#!/bin/sh\nexit 7\n").unwrap();
        std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        c.set("/hooks/createContainer/-", json!({ "path": program.display().to_string() }));
        let out = c.args(&["/bin/true"]).run();
        match std::fs::read_to_string(seen) {
            Ok(text) if text == SECRET && out.code == 0 => Held("the host's ran".into()),
            other => Broken(format!("{other:?} {out:?}")),
        }
    };
    held(attack, "the host's ran");
}

/// Users are looked up in the image's file: one that never answers, or leads elsewhere, holds nobody up.
#[test]
fn users_file_that_is_a_pipe_or_a_link() {
    for pipe in [true, false] {
        let attack = |c: &mut Case| {
            link(c, "/etc/passwd", "/proc/self/fd/3");
            if pipe {
                std::fs::remove_file(c.inside("/etc/passwd")).unwrap();
                let out =
                    tare_tests::Running::start(tare_tests::command("mkfifo").arg(c.inside("/etc/passwd")), None).wait();
                assert_eq!(out.code, 0);
            }
            Held(c.sh("echo home is $HOME"))
        };
        held(attack, "home is /");
    }
}
