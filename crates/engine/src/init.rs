//! The small init of `--init`: process 1 of a container, which starts the command, forwards signals, and reaps.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::process::{Pid, WaitOptions};
use std::convert::Infallible;
use std::ffi::CString;
use tare_kernel::process::{self, Child, ExecArray, Namespaces};
use tare_model::{Context, Error, Kind, Result};

/// All signals but those that cannot be caught (KILL, STOP), those that a fault of this process raises (ILL, TRAP, BUS,
/// FPE, SEGV, SYS), and those by which a terminal would stop a background process that touches it (TTIN, TTOU).
const FORWARDED: [i32; 21] = [1, 2, 3, 6, 10, 12, 13, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 27, 28, 29, 30];
const SIGCHLD: i32 = 17;
const SIGTTOU: i32 = 22;

/// Runs `args` (command first) with `env` (`NAME=value`) until it ends; its exit code, 128 + n for signal n.
///
/// # Errors
/// If the command cannot be started: `Kind::CommandNotFound`, `Kind::CommandNotExecutable`.
pub fn init(args: &[Vec<u8>], env: &[Vec<u8>]) -> Result<u8> {
    let signals = process::signal_fd(&FORWARDED).during("block", "signals")?;
    let child = start(args, env)?;
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for", "signals", e)),
        }
        while let Some(signal) = process::read_signal(signals.as_fd()).during("read", "signal")? {
            if signal != SIGCHLD {
                // It may have ended just now; its status is about to be collected.
                let _ = process::pidfd_signal(child.pidfd.as_fd(), signal);
            }
        }
        if let Some(code) = reap(child.pid)? {
            return Ok(code);
        }
    }
}

/// Collects every process that has ended; the code of the command, if it was among them.
fn reap(command: Pid) -> Result<Option<u8>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => {
                let code = status.terminating_signal().map_or_else(|| status.exit_status().unwrap_or(0), |s| 128 + s);
                return Ok(Some(u8::try_from(code).unwrap_or(255)));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(e) => return Err(Error::io("wait for", "children", e)),
        }
    }
}

fn start(args: &[Vec<u8>], env: &[Vec<u8>]) -> Result<Child> {
    let argv = ExecArray::new(args).during("prepare", "command")?;
    let envp = ExecArray::new(env).during("prepare", "environment")?;
    let candidates = candidates(args, env)?;
    // Close-on-exec: the end of the pipe without a byte says that the command runs.
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::io("make", "pipe", e))?;
    let child = process::clone(Namespaces::NONE, None, || -> Infallible {
        // Blocked, or the new group, which is not in the foreground yet, would be stopped by its own request.
        let _blocked = process::signal_fd(&[SIGTTOU]);
        // A process group of its own, in the foreground if there is a terminal: keys reach the command only.
        let _ = rustix::process::setpgid(None, None);
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        process::reset_signals();
        let mut failure = rustix::io::Errno::NOENT;
        for path in &candidates {
            let e = process::execve(path, &argv, &envp);
            let errno = rustix::io::Errno::from_io_error(&e).unwrap_or(failure);
            if errno != rustix::io::Errno::NOENT && errno != rustix::io::Errno::NOTDIR {
                failure = errno;
            }
        }
        let _ = rustix::io::write(&write, &failure.raw_os_error().to_ne_bytes());
        process::exit_now(127)
    })
    .during("start", "command")?;
    drop(write);
    let mut number = [0u8; 4];
    match rustix::io::read(&read, &mut number[..]) {
        Ok(4) => {
            let e = std::io::Error::from_raw_os_error(i32::from_ne_bytes(number));
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => Kind::CommandNotFound,
                _ => Kind::CommandNotExecutable,
            };
            let name = String::from_utf8_lossy(&args[0]).into_owned();
            Err(Error::io("execute", format!("{name:?}"), e).with_kind(kind))
        }
        _ => Ok(child),
    }
}

fn candidates(args: &[Vec<u8>], env: &[Vec<u8>]) -> Result<Vec<CString>> {
    let nothing = || Error::new(Kind::Invalid, "start", "command").because("no command is given");
    let name = args.first().ok_or_else(nothing)?;
    let path = env.iter().rev().find_map(|e| e.strip_prefix(b"PATH=".as_slice())).unwrap_or(b"/usr/bin:/bin");
    let whole: Vec<Vec<u8>> = if name.contains(&b'/') {
        vec![name.clone()]
    } else {
        path.split(|b| *b == b':').map(|dir| [if dir.is_empty() { b"." } else { dir }, b"/", name].concat()).collect()
    };
    whole.into_iter().map(|p| CString::new(p).map_err(|e| Error::io("prepare", "command", e))).collect()
}
