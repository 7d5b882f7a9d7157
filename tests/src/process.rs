//! Running programs: the binary under test, and the peers that tests compare with.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that hangs is killed, and its test fails, after this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// Standard output as it is.
    pub bytes: Vec<u8>,
}

/// A program that runs, with its output going to files: nothing blocks, whoever inherits them.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdout: File,
    stderr: File,
}

/// The binary under test: `TARE_BIN`, or the one built last.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = environment("TARE_BIN") {
        return path.into();
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = environment("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    let built = |profile: &str| {
        let path = target.join("x86_64-unknown-linux-gnu").join(profile).join("tare");
        let time = std::fs::metadata(&path).and_then(|m| m.modified()).ok()?;
        Some((time, path))
    };
    let newest = ["release", "debug"].into_iter().filter_map(built).max();
    newest.expect("no binary: cargo build -p tare, or set TARE_BIN").1
}

/// A variable of the environment that says how tests are to run; `None` if it is empty.
pub fn variable(name: &str) -> Option<String> {
    environment(name)
}

#[expect(clippy::disallowed_methods, reason = "the harness is where tests read the environment")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A command of this host.
#[expect(clippy::disallowed_methods, reason = "the harness is where tests start programs")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Whether the host has this program.
pub fn have(program: &str) -> bool {
    let path = environment("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).is_file())
}

impl Running {
    /// Starts a command; `input` becomes its standard input, which is empty otherwise.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, input: Option<&[u8]>) -> Running {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        match input {
            None => command.stdin(Stdio::null()),
            Some(bytes) => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(bytes).unwrap();
                file.rewind().unwrap();
                command.stdin(file)
            }
        };
        Running::spawn(command, stdout, stderr)
    }

    /// The same with a standard input that the test writes to with [`Running::write`].
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn interactive(command: &mut Command) -> Running {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap()).stdin(Stdio::piped());
        Running::spawn(command, stdout, stderr)
    }

    /// Starts a command whose streams are set; `stdout` and `stderr` are the files that it writes to.
    pub(crate) fn spawn(command: &mut Command, stdout: File, stderr: File) -> Running {
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{what} cannot be started: {e}"));
        Running { what, child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// If it does not take it.
    pub fn write(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("started without Running::interactive").write_all(bytes).unwrap();
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it has printed so far: standard output, standard error.
    pub fn printed(&self) -> (String, String) {
        let text = |f: &File| String::from_utf8_lossy(&content(f)).into_owned();
        (text(&self.stdout), text(&self.stderr))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within two minutes; it is killed then.
    pub fn wait(self) -> Output {
        self.wait_for(PATIENCE)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time; it is killed then.
    pub fn wait_for(mut self, limit: Duration) -> Output {
        use std::os::unix::process::ExitStatusExt;
        self.child.stdin = None;
        if !self.ends_within(limit) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let (out, err) = self.printed();
            panic!("{} has not ended after {limit:?}\nstdout: {out}\nstderr: {err}", self.what);
        }
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let bytes = content(&self.stdout);
        let stdout = String::from_utf8_lossy(&bytes).into_owned();
        Output { code, stdout, stderr: String::from_utf8_lossy(&content(&self.stderr)).into_owned(), bytes }
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let Ok(pidfd) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) else { return true };
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(n) => return n > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("poll: {e}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The whole file, whatever position it is at: the program that writes shares that position.
fn content(file: &File) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut bytes = Vec::new();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
