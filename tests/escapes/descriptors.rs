//! Descriptors of the runtime or of its caller that lead out of the container (CVE-2024-21626, CVE-2016-9962).

use crate::Outcome::{self, Broken, Held};
use crate::{SECRET, escape, probe, secret};
use tare_tests::oci::Case;

/// Descriptors that a runtime may have: those from 3 on, and those that the protected program hands to itself.
fn numbers() -> impl Iterator<Item = u32> {
    (3..16).chain(200..202)
}

/// Prints the host's file from a working directory on the host.
fn read_upwards(secret: &str) -> String {
    format!("cat ../../../../../../../../..{secret} 2>/dev/null")
}

fn verdict(printed: &str, said: String) -> Outcome {
    if printed.contains(SECRET) { Broken(printed.to_owned()) } else { Held(said) }
}

#[test]
fn working_directory_of_run() {
    let attack = |c: &mut Case| {
        let script = read_upwards(&secret(c));
        let mut said = String::new();
        for n in numbers() {
            let out = c.set("/process/cwd", format!("/proc/self/fd/{n}")).args(&["/bin/sh", "-c", &script]).run();
            said.push_str(&out.stderr);
            if out.stdout.contains(SECRET) {
                return Broken(out.stdout);
            }
        }
        Held(said)
    };
    escape(attack, "working directory", &["working-directory", "descriptors"]);
}

#[test]
fn working_directory_of_create_and_start() {
    let attack = |c: &mut Case| {
        let script = read_upwards(&secret(c));
        let mut said = String::new();
        for n in numbers() {
            c.set("/process/cwd", format!("/proc/self/fd/{n}")).args(&["/bin/sh", "-c", &script]);
            said.push_str(&c.try_create(&[]).stderr);
            c.oci(&["start", c.id()]);
            std::thread::sleep(std::time::Duration::from_millis(20));
            said.push_str(&c.output().1);
            if c.output().0.contains(SECRET) {
                return Broken(c.output().0);
            }
            c.oci(&["delete", "--force", c.id()]);
        }
        Held(said)
    };
    escape(attack, "working directory", &["working-directory", "descriptors"]);
}

#[test]
fn working_directory_of_exec() {
    let attack = |c: &mut Case| {
        let script = read_upwards(&secret(c));
        c.sleeper();
        let mut said = String::new();
        for n in numbers() {
            let cwd = format!("/proc/self/fd/{n}");
            let out = c.oci(&["exec", "--cwd", &cwd, c.id(), "/bin/sh", "-c", &script]);
            said.push_str(&out.stderr);
            if out.stdout.contains(SECRET) {
                return Broken(out.stdout);
            }
        }
        Held(said)
    };
    escape(attack, "working directory", &["working-directory", "descriptors"]);
}

/// A program of the host, through a directory of the runtime's.
#[test]
fn program_behind_a_descriptor() {
    let attack = |c: &mut Case| {
        let secret = secret(c);
        let host = c.path("busybox").display().to_string();
        std::fs::copy(c.inside("/bin/busybox"), &host).unwrap();
        c.sleeper();
        let mut said = String::new();
        let second = format!("{}-second", c.id());
        c.note(second.clone());
        c.set("/linux/cgroupsPath", format!("{}2", c.cgroup()));
        let bundle = c.bundle();
        let inside = c.inside("/host-ran").display().to_string();
        for n in numbers() {
            let program = format!("/proc/self/fd/{n}/../../../../../../../../..{host}");
            let args = [program.as_str(), "touch", "/host-ran"];
            said.push_str(&c.exec(&args).stderr);
            c.args(&args).write();
            said.push_str(&c.oci(&["run", "--bundle", &bundle, &second]).stderr);
            if std::path::Path::new(&inside).exists() {
                return Broken(format!("{program} was executed, beside {secret}"));
            }
        }
        Held(said)
    };
    escape(attack, "no such file or directory", &["descriptors"]);
}

/// The caller has a directory open that is not close-on-exec: neither the program nor one that joins gets it.
#[test]
fn what_the_caller_left_open() {
    for verb in ["run", "exec"] {
        let attack = |c: &mut Case| {
            let secret = secret(c);
            let words = std::mem::take(&mut c.runtime);
            c.runtime = ["sh", "-c", "exec 9</; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
            c.runtime.extend(words);
            let script = format!("cat /proc/self/fd/9{secret} 2>&1; ls /proc/self/fd | wc -l");
            let out = if verb == "run" {
                c.args(&["/bin/sh", "-c", &script]).run()
            } else {
                c.sleeper();
                c.exec(&["/bin/sh", "-c", &script])
            };
            verdict(&out.stdout, out.stdout.clone())
        };
        // Three streams, and the directory that ls reads.
        escape(attack, "No such file or directory\n4\n", &["descriptors"]);
    }
}

/// Nothing of the runtime's own is among the program's descriptors, whatever is taken away: all are close-on-exec.
#[test]
fn none_is_left_in_the_program() {
    let attack = |c: &mut Case| {
        probe::install(c);
        let script = "for fd in /proc/self/fd/*; do readlink $fd; done; ls /proc/self/fd | wc -l";
        c.sleeper();
        let joined = c.exec_sh(script);
        c.oci(&["delete", "--force", c.id()]);
        let first = c.sh(script);
        let lines = |text: &str| text.lines().last().unwrap_or_default().to_owned();
        Held(format!("{} {}", lines(&first), lines(&joined)))
    };
    crate::held(attack, "4 4");
}
