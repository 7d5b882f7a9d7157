//! `exec`: a further process in a container that runs.

mod flags;
mod joins;
mod process_file;
mod terminal;

use tare_tests::oci::Case;

/// `exec` with flags before the id: standard output, without the last line break.
#[track_caller]
fn exec(c: &Case, flags: &[&str], script: &str) -> String {
    c.ok(&[&["exec"], flags, &[c.id(), "/bin/sh", "-c", script]].concat())
}

/// `exec --detach` of a sleeping process: its id. It is waited for when it ends: a container's first process cannot end
/// before the others are waited for, and this test is their parent.
#[track_caller]
fn detached(c: &Case, flags: &[&str]) -> i32 {
    let pid = left_to_the_test(c, flags);
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    std::thread::spawn(move || rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty()));
    pid
}

/// The same; the caller waits for it.
#[track_caller]
fn left_to_the_test(c: &Case, flags: &[&str]) -> i32 {
    let pid_file = c.path("exec-pid").display().to_string();
    let detach = ["exec", "--detach", "--pid-file", &pid_file];
    c.ok(&[&detach, flags, &[c.id(), "/bin/sleep", "2000"]].concat());
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    c.until("it runs", || tare_tests::oci::kernel::proc(pid, "cmdline").contains("2000"));
    pid
}
