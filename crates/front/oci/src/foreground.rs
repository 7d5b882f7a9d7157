//! `run` without `--detach`: wait for the program's end, forward signals to it, relay its terminal.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tare_kernel::process::{pidfd_signal, read_signal, signal_fd};
use tare_model::{Context, Error, Result};

const SIGKILL: i32 = 9;
const SIGPIPE: i32 = 13;
const SIGCHLD: i32 = 17;
const SIGSTOP: i32 = 19;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;
/// A signal's number is added to it in exit codes.
const SIGNALLED: i32 = 128;

/// Signals that are held back from now on, to be forwarded.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// To be called before the container is made: what comes meanwhile is kept.
    pub(crate) fn hold() -> Result<Signals> {
        // Not those that cannot be held; nor the two of the C library; nor those that stand for mistakes of this process.
        let ours = [4, 5, 7, 8, SIGKILL, 11, SIGPIPE, SIGSTOP, 31, 32, 33];
        let signals: Vec<i32> = (1..=64).filter(|s| !ours.contains(s)).collect();
        signal_fd(&signals).map(Signals).during("hold", "signals")
    }
}

/// Becomes the parent of processes that lose theirs: those that a container without a PID namespace of its own leaves.
pub(crate) fn adopt_orphans() -> Result<()> {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(|e| Error::io("become", "subreaper", e))
}

/// Makes a terminal as large as the caller's, if that is one: before the program begins, lest it see no size.
pub(crate) fn fit(master: BorrowedFd<'_>) {
    let of = |fd: BorrowedFd<'_>| tcgetwinsize(fd).ok().filter(|s| s.ws_row > 0);
    let size = of(std::io::stdout().as_fd()).or_else(|| of(std::io::stdin().as_fd()));
    if let Some(size) = size {
        let _ = tcsetwinsize(master, size);
    }
}

/// Waits for the end of a child of ours. Returns its exit code, or 128 and the signal that ended it.
pub(crate) fn wait(signals: &Signals, pid: i32, pidfd: BorrowedFd<'_>, terminal: Option<OwnedFd>) -> Result<u8> {
    let mut relay = terminal.map(Relay::begin).transpose()?;
    loop {
        let mut fds = vec![PollFd::new(&signals.0, PollFlags::IN)];
        if let Some(relay) = &relay {
            relay.watch(&mut fds);
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for", "the container", e)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(relay) = &mut relay {
            relay.move_data(&ready[1..])?;
        }
        while let Some(signal) = read_signal(signals.0.as_fd()).during("read", "signals")? {
            match signal {
                SIGCHLD => {
                    if let Some(code) = reap(pid)? {
                        if let Some(relay) = &mut relay {
                            relay.drain();
                        }
                        return Ok(code);
                    }
                }
                // The language's own, in callers that were written in Go.
                SIGURG => {}
                SIGWINCH if relay.is_some() => relay.as_ref().map_or((), Relay::resize),
                // It may have ended just now.
                signal => drop(pidfd_signal(pidfd, signal)),
            }
        }
    }
}

/// Reaps every child that has ended; tells how the one ended that is waited for.
fn reap(pid: i32) -> Result<Option<u8>> {
    let mut code = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) => {
                if ended.as_raw_nonzero().get() == pid {
                    code = Some(code_of(status));
                }
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(code),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for", "the container", e)),
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => SIGNALLED + signal.unwrap_or_default(),
    };
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

/// Between the caller's terminal, or whatever its standard streams are, and the container's.
struct Relay {
    master: Option<OwnedFd>,
    /// What was read from standard input and not yet taken.
    input: Vec<u8>,
    stdin_open: bool,
    /// The caller's settings, to go back to.
    before: Option<Termios>,
}

impl Relay {
    fn begin(master: OwnedFd) -> Result<Relay> {
        let fail = |e| Error::io("set up", "terminal", e);
        let flags = fcntl_getfl(&master).map_err(fail)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(fail)?;
        let mut relay = Relay { master: Some(master), input: Vec::new(), stdin_open: true, before: None };
        let stdin = std::io::stdin();
        if isatty(&stdin) {
            let before = tcgetattr(&stdin).map_err(fail)?;
            let mut raw = before.clone();
            raw.make_raw();
            // It goes on ending lines: the container's own terminal does not.
            raw.output_modes.insert(OutputModes::OPOST);
            relay.before = Some(before);
            tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(fail)?;
        }
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        if let Some(master) = &self.master {
            fit(master.as_fd());
        }
    }

    /// Master first, then standard input if more of it can be taken.
    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let Some(master) = &self.master else { return };
        let wish = if self.input.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        fds.push(PollFd::new(master, wish));
        if self.stdin_open && self.input.is_empty() {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn move_data(&mut self, ready: &[bool]) -> Result<()> {
        if ready.get(1) == Some(&true) {
            let mut buffer = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                // As at the end of a terminal's line: the program sees an end of file.
                Ok(0) => {
                    self.stdin_open = false;
                    self.input.push(4);
                }
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.stdin_open = false,
            }
        }
        if ready.first() == Some(&true) {
            self.output(1)?;
        }
        if let (Some(master), false) = (&self.master, self.input.is_empty())
            && let Ok(n) = rustix::io::write(master, &self.input)
        {
            self.input.drain(..n);
        }
        Ok(())
    }

    /// Passes output on, at most so many pieces.
    fn output(&mut self, pieces: usize) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..pieces {
            let Some(master) = &self.master else { return Ok(()) };
            match rustix::io::read(master, &mut buffer) {
                Ok(n) if n > 0 => {
                    use std::io::Write;
                    let mut out = std::io::stdout().lock();
                    out.write_all(&buffer[..n]).and_then(|()| out.flush()).during("write", "standard output")?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // EIO: nobody has the other side open any more.
                Ok(_) | Err(_) => self.master = None,
            }
        }
        Ok(())
    }

    /// What the program wrote last.
    fn drain(&mut self) {
        let _ = self.output(64);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}
