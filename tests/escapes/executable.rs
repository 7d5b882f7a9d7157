//! The runtime's own program, overwritten by way of /proc/PID/exe (CVE-2019-5736).

use crate::Outcome::{self, Broken, Held};
use crate::{escape, probe, usual_capabilities};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tare_tests::oci::Case;

const SAID: &str = "Read-only file system";

/// The runtime becomes a private copy of itself, which an attacker may overwrite. Its path, and its words behind that.
fn victim(c: &mut Case) -> (PathBuf, Vec<u8>) {
    let copy = c.path("victim");
    std::fs::copy(&c.runtime[0], &copy).unwrap();
    c.runtime[0] = copy.display().to_string();
    let bytes = std::fs::read(&copy).unwrap();
    (copy, bytes)
}

/// What an attacker said who waits in the container, while `next` has the runtime's program executed inside.
fn fought(c: &Case, victim: (PathBuf, Vec<u8>), mut next: impl FnMut(&Case)) -> Outcome {
    let said = c.inside("/result");
    let end = Instant::now() + Duration::from_secs(20);
    while !said.exists() && Instant::now() < end {
        next(c);
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = std::fs::read_to_string(&said).unwrap_or_else(|_| "the attacker saw no program".into());
    let now = std::fs::read(&victim.0).unwrap();
    if now == victim.1 { Held(said) } else { Broken(format!("{said}; now begins with {:?}", &now[..16])) }
}

/// A container with an attacker in it, and a script that the runtime's program interprets.
fn attacker(c: &mut Case, capabilities: &[&str]) -> (PathBuf, Vec<u8>) {
    probe::install(c);
    usual_capabilities(c, capabilities);
    let victim = victim(c);
    let script = c.inside("/script");
    std::fs::write(&script, "#!/proc/self/exe --version\n").unwrap();
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    c.args(&["/probe", "overwrite", "/result"]).create();
    c.start();
    victim
}

#[test]
fn exec_of_proc_self_exe() {
    let attack = |c: &mut Case| {
        let victim = attacker(c, &[]);
        fought(c, victim, |c| drop(c.exec(&["/proc/self/exe", "--version"])))
    };
    escape(attack, SAID, &["executable"]);
}

#[test]
fn exec_of_a_script_that_it_interprets() {
    let attack = |c: &mut Case| {
        let victim = attacker(c, &[]);
        fought(c, victim, |c| drop(c.exec(&["/script"])))
    };
    escape(attack, SAID, &["executable"]);
}

#[test]
fn exec_against_one_who_may_trace_and_mount() {
    let attack = |c: &mut Case| {
        let victim = attacker(c, &["SYS_PTRACE", "SYS_ADMIN"]);
        fought(c, victim, |c| drop(c.exec(&["/proc/self/exe", "--version"])))
    };
    escape(attack, SAID, &["executable"]);
}

/// The first process of another container in the same PID namespace, as in a pod.
#[test]
fn run_of_proc_self_exe_and_of_a_script() {
    for program in [&["/proc/self/exe", "--version"][..], &["/script"]] {
        let attack = |c: &mut Case| {
            let victim = attacker(c, &[]);
            let pid = c.state()["pid"].to_string();
            let second = format!("{}-second", c.id());
            let group = format!("{}2", c.cgroup());
            c.join("pid", &format!("/proc/{pid}/ns/pid")).set("/linux/cgroupsPath", group).args(program).write();
            c.note(second.clone());
            let bundle = c.bundle();
            fought(c, victim, |c| {
                c.oci(&["run", "--bundle", &bundle, &second]);
            })
        };
        escape(attack, SAID, &["executable"]);
    }
}
