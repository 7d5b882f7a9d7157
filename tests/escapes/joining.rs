//! A process that joins a container, looked into from inside before it executes: /proc/PID, ptrace(2), signals
//! (CVE-2016-9962 and its kin).

use crate::Outcome::{self, Broken, Held};
use crate::{SECRET, escape_for, held, probe, secret, usual_capabilities};
use std::time::{Duration, Instant};
use tare_tests::Running;
use tare_tests::oci::Case;

const VARIABLE: &str = "TARE_ESCAPES_SECRET";

/// Words by which a process joins the container.
fn exec(c: &mut Case) -> Vec<String> {
    ["exec", c.id(), "/bin/true"].map(str::to_owned).to_vec()
}

/// Words by which another container is run in its PID namespace, as in a pod.
fn run(c: &mut Case) -> Vec<String> {
    let (second, group) = (format!("{}-second", c.id()), format!("{}2", c.cgroup()));
    let pid = c.state()["pid"].to_string();
    c.join("pid", &format!("/proc/{pid}/ns/pid")).set("/linux/cgroupsPath", group).args(&["/bin/true"]).write();
    c.note(second.clone());
    vec!["run".into(), "--bundle".into(), c.bundle(), second]
}

/// A container in which every process that appears is looked into; what was found while others joined it for a while.
fn watched(
    c: &mut Case,
    length: Duration,
    capabilities: &[&str],
    word: &str,
    appear: impl FnOnce(&mut Case) -> Vec<String>,
    forbidden: &[&str],
) -> Outcome {
    let secret = secret(c);
    probe::install(c);
    usual_capabilities(c, capabilities);
    c.variables.push((VARIABLE.into(), "yes".into()));
    let mut args = vec!["/probe", if word == "trace" { "watch" } else { word }, "/found", &secret, SECRET, VARIABLE];
    args.extend((word == "trace").then_some("trace"));
    c.args(&args).create();
    c.start();
    let found = c.inside("/found");
    c.until("the attacker watches", || found.exists());
    let words = appear(c);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let end = Instant::now() + length;
    let mut execs = 0;
    while Instant::now() < end || execs < 10 {
        c.oci(&words);
        execs += 1;
        let text = std::fs::read_to_string(&found).unwrap();
        if text.lines().any(|l| forbidden.iter().any(|f| l.starts_with(f))) {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let text = std::fs::read_to_string(found).unwrap();
    let mut lines: Vec<String> = text.lines().filter(|l| !l.starts_with("seen")).map(str::to_owned).collect();
    lines.extend(text.lines().rfind(|l| l.starts_with("seen")).map(|l| format!("{l} of {execs}")));
    verdict(&lines, forbidden)
}

/// Broken if one of these was found.
fn verdict(lines: &[String], forbidden: &[&str]) -> Outcome {
    let bad: Vec<&String> = lines.iter().filter(|l| forbidden.iter().any(|f| l.starts_with(f))).collect();
    match bad.first() {
        None => Held(lines.join("\n")),
        Some(first) => Broken(format!("{} times, first {first}; {:?}", bad.len(), lines.last())),
    }
}

const ANYTHING: &[&str] = &["root", "cwd", "fd", "environ", "memory", "traced"];

#[test]
fn looked_into_by_root() {
    let attack = |c: &mut Case, length| watched(c, length, &[], "watch", exec, ANYTHING);
    escape_for(Duration::from_secs(3), attack, "seen", &["hidden"]);
}

#[test]
fn traced_by_root() {
    let attack = |c: &mut Case, length| watched(c, length, &[], "trace", exec, ANYTHING);
    escape_for(Duration::from_secs(3), attack, "seen", &["hidden"]);
}

#[test]
fn first_process_looked_into_by_root() {
    let attack = |c: &mut Case, length| watched(c, length, &[], "watch", run, ANYTHING);
    escape_for(Duration::from_secs(3), attack, "seen", &["hidden"]);
}

#[test]
fn first_process_traced_by_root() {
    let attack = |c: &mut Case, length| watched(c, length, &[], "trace", run, ANYTHING);
    escape_for(Duration::from_secs(3), attack, "seen", &["hidden"]);
}

/// Who may trace everybody sees memory of the runtime's in a joining process, but no way to the host's files, and nothing of
/// the caller's environment.
#[test]
fn looked_into_by_one_who_may_trace() {
    let attack =
        |c: &mut Case, length| watched(c, length, &["SYS_PTRACE"], "watch", exec, &["root", "cwd", "fd", "environ"]);
    escape_for(Duration::from_secs(4), attack, "seen", &["born-inside"]);
}

/// The first process shows nothing of it: it has given the capability up, or is in a user namespace of its own.
#[test]
fn looked_into_by_one_who_may_trace_behind_a_harmless_first_process() {
    for word in ["watch-dropped", "watch-moved"] {
        let attack =
            |c: &mut Case, length| watched(c, length, &["SYS_PTRACE"], word, exec, &["root", "cwd", "fd", "environ"]);
        escape_for(Duration::from_secs(2), attack, "seen", &["born-inside"]);
    }
}

/// Whoever stops a joining process keeps nobody from ending the container.
#[test]
fn stopped_while_joining() {
    let attack = |c: &mut Case| {
        probe::install(c);
        usual_capabilities(c, &[]);
        c.args(&["/probe", "stop"]).create();
        c.start();
        let mut stuck: Vec<Running> =
            (0..5).map(|_| Running::start(&mut c.command(&["exec", c.id(), "/bin/true"]), None)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let hanging = stuck.iter_mut().filter_map(|r| (!r.has_ended()).then_some(())).count();
        let begun = Instant::now();
        let state = c.oci(&["state", c.id()]);
        let deleted = c.oci(&["delete", "--force", c.id()]);
        let took = begun.elapsed();
        let all_end = tare_tests::eventually(Duration::from_secs(5), || stuck.iter_mut().all(|r| r.has_ended()));
        if state.code == 0 && deleted.code == 0 && took < Duration::from_secs(8) && all_end {
            Held(format!("{hanging} hung, and ended with the container"))
        } else {
            Broken(format!("{} {} {} after {took:?}; all ended: {all_end}", state.code, deleted.code, deleted.stderr))
        }
    };
    held(attack, "ended with the container");
}
