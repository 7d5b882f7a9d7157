//! Hooks: programs of the caller's that run at points of a container's life (config.md#posix-platform-hooks).
//!
//! The same runner serves the front, in the runtime's namespaces, and the child, in the container's. A hook gets the
//! container's state on standard input; what it writes is not shown, unless it fails.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::{Duration, Instant};
use tare_kernel::process::{self, Child, ExecArray, Namespaces, Parent};
use tare_model::runtime_spec::{Hook, VERSION};
use tare_model::{Context, Error, Kind, Result};

/// Where in its life a container is (runtime.md#state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Between the beginning and the end of `create`.
    Creating,
    /// `create` is done, `start` has not begun the program.
    Created,
    /// The program runs.
    Running,
    /// It has ended.
    Stopped,
}

/// What a container's state says about it whatever happens to it (runtime.md#state).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// The specification's annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl ContainerState {
    /// The JSON document that a hook reads. `pid`: in the runtime's PID namespace; `None` once it has ended.
    pub fn json(&self, status: Status, pid: Option<i32>) -> String {
        let document = Document {
            oci_version: VERSION,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        serde_json::to_string(&document).expect("strings and numbers always serialise")
    }
}

/// How much of a hook's output its error shows: the last bytes.
const SHOWN: usize = 2048;

/// Runs hooks one after the other until one fails. `point`: the name of their kind in the specification.
///
/// # Errors
/// As [`run`], saying which.
pub fn run_all(point: &str, hooks: &[Hook], state: &str) -> Result<()> {
    for (i, hook) in hooks.iter().enumerate() {
        run(hook, state).map_err(|e| e.during("run hook", format!("{point} #{i}")))?;
    }
    Ok(())
}

/// Runs one hook to its end: its own argv and environment, state on standard input. The caller has one thread.
///
/// # Errors
/// `Kind::Invalid` for a relative path, a time-out that is not positive or a zero byte; otherwise if it cannot be
/// executed, is not done in time (it is killed), or ends with anything but 0; with the end of what it wrote.
pub fn run(hook: &Hook, state: &str) -> Result<()> {
    crate::plan::check_hook(hook)?;
    let fail = |e: std::io::Error| Error::io("prepare", &hook.path, e);
    let path = CString::new(hook.path.as_str()).map_err(|e| fail(e.into()))?;
    let argv = if hook.args.is_empty() { ExecArray::new([&hook.path]) } else { ExecArray::new(&hook.args) };
    let (argv, envp) = (argv.map_err(fail)?, ExecArray::new(&hook.env).map_err(fail)?);
    let input = input(state).map_err(|e| fail(e.into()))?;
    let (output, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
    let child = process::clone_again(Namespaces::NONE, None, Parent::Caller, || {
        process::reset_signals();
        let ready = super::streams::replace_stdio(input.as_fd(), end.as_fd(), end.as_fd());
        if ready.is_ok() && process::close_on_exec_from(3).is_ok() {
            let e = process::execve(&path, &argv, &envp);
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("cannot be executed: {e}").as_bytes());
        }
        process::exit_now(127)
    });
    let child = child.during("clone", "hook")?;
    drop(end);
    let ended = wait(&child, &output, hook.timeout.map(|s| Duration::from_secs(s.unsigned_abs())));
    finish(hook, ended)
}

fn input(state: &str) -> rustix::io::Result<OwnedFd> {
    // A file instead of a pipe: a hook that does not read cannot hold up who writes.
    let file = rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC)?;
    let mut rest = state.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    // Opened anew, read-only, where that is possible: what one hook gets, it shall not change.
    let own = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap_or(file))
}

enum Ended {
    Status(WaitIdStatus, Vec<u8>),
    TimedOut(Vec<u8>),
    Failed(Errno),
}

fn wait(child: &Child, output: &OwnedFd, limit: Option<Duration>) -> Ended {
    let deadline = limit.map(|l| Instant::now() + l);
    let mut text = Vec::new();
    let mut open = true;
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let _ = process::pidfd_signal(child.pidfd.as_fd(), 9);
            let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
            return Ended::TimedOut(text);
        }
        let timeout = left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: i64::from(l.subsec_nanos()) });
        let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN), PollFd::new(output, PollFlags::IN)];
        let count = if open { 2 } else { 1 };
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Ended::Failed(e),
        }
        let (ended, readable) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if readable && open {
            open = read(output, &mut text);
            continue;
        }
        // The pipe is empty: whoever the hook left behind may hold it for ever.
        if ended {
            return match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => Ended::Status(status, text),
                Ok(None) | Err(Errno::INTR) => continue,
                Err(e) => Ended::Failed(e),
            };
        }
    }
}

/// Reads what is there, keeping the end of it; false at the end of the file.
fn read(output: &OwnedFd, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 4096];
    match rustix::io::read(output, &mut buffer[..]) {
        Ok(0) => false,
        Ok(n) => {
            text.extend_from_slice(&buffer[..n]);
            let excess = text.len().saturating_sub(SHOWN);
            text.drain(..excess);
            true
        }
        Err(e) => e == Errno::INTR,
    }
}

fn finish(hook: &Hook, ended: Ended) -> Result<()> {
    let (why, text) = match ended {
        Ended::Status(status, _) if status.exit_status() == Some(0) => return Ok(()),
        Ended::Status(status, text) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (format!("it ended with exit code {code}"), text),
            (None, signal) => (format!("it was ended by signal {}", signal.unwrap_or_default()), text),
        },
        Ended::TimedOut(text) => {
            (format!("it was not done after {} s, and was killed", hook.timeout.unwrap_or_default()), text)
        }
        Ended::Failed(e) => return Err(Error::io("wait for", &hook.path, e)),
    };
    let shown = String::from_utf8_lossy(&text);
    let why = if shown.trim().is_empty() { why } else { format!("{why}: {}", shown.trim()) };
    Err(Error::new(Kind::System, "run", format!("{:?}", hook.path)).because(why))
}
