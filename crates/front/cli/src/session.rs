//! A container or an exec in the foreground: one thread, one poll loop between the caller's terminal and the other side.
//!
//! ```text
//! signals ─┐                        ┌─> standard output, standard error
//! stdin ───┴─> [foreground] <══> remote (attach socket, or an exec's own descriptors)
//! ```
//!
//! Input is read only while nothing waits to be sent, and sent only while the other side takes it: a full pipe on one
//! way never stops the other.

mod attached;
mod executed;

pub(crate) use attached::Attached;
pub(crate) use executed::Executed;

use crate::out;
use crate::terminal::{self, DetachKeys, RawMode};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use tare_kernel::process;
use tare_model::{Context as _, Error, Result};

/// What the other side sent.
#[derive(Debug)]
pub(crate) enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// It ended with this exit code.
    Ended(i32),
    /// It went away without saying how it ended.
    Lost,
}

/// The other side.
pub(crate) trait Remote {
    /// Descriptors whose readability means that [`Remote::receive`] has something.
    fn sources(&self) -> Vec<BorrowedFd<'_>>;
    /// The descriptor whose writability means that [`Remote::send`] does not block; none once input is closed.
    fn sink(&self) -> Option<BorrowedFd<'_>>;
    /// What the source of this index, which is readable, has.
    fn receive(&mut self, source: usize) -> Result<Vec<Piece>>;
    /// Sends input, maybe not all of it; says how much.
    fn send(&mut self, input: &[u8]) -> Result<usize>;
    /// No more input follows.
    fn close_input(&mut self) -> Result<()>;
    /// The caller's terminal has this size now.
    fn resize(&mut self, rows: u16, columns: u16) -> Result<()>;
    /// Passes a signal on.
    fn signal(&mut self, signal: i32) -> Result<()>;
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side ended with this exit code.
    Exit(i32),
    /// The detach keys were typed.
    Detached,
    /// A signal that is not passed on ended the client alone.
    Signal(i32),
    /// The other side went away.
    Lost,
}

/// How a session is held.
#[derive(Debug)]
pub(crate) struct Options {
    /// Hand standard input over.
    pub(crate) input: bool,
    /// The other side has a pseudo-terminal.
    pub(crate) tty: bool,
    /// Pass signals on.
    pub(crate) proxy_signals: bool,
    /// Keys that detach; only looked for with a pseudo-terminal.
    pub(crate) detach: DetachKeys,
}

/// Bytes of input moved at once: less than half of a socket's buffer, so that a writable socket takes all of it.
const CHUNK: usize = 32 << 10;

/// Holds a session until the other side ends, the caller detaches, or a signal ends the client.
///
/// # Errors
/// A broken standard output; a terminal that cannot be set up; the other side's.
pub(crate) fn foreground(remote: &mut dyn Remote, options: Options) -> Result<Ended> {
    let signals = process::signal_fd(&CAUGHT).during("watch", "signals")?;
    let raw = options.tty && options.input && terminal::stdin_is_terminal();
    let guard = if raw { Some(RawMode::enter()?) } else { None };
    let mut session = Session { remote, input: options.input, pending: Vec::new(), options };
    session.resize()?;
    let ended = session.run(signals.as_fd());
    drop(guard);
    ended
}

/// Caught and passed on, or a reason to leave. Not SIGTSTP, SIGTTIN, SIGTTOU: the shell's job control shall work.
const CAUGHT: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGWINCH,
];

struct Session<'a> {
    remote: &'a mut dyn Remote,
    /// Standard input is still open for us.
    input: bool,
    pending: Vec<u8>,
    options: Options,
}

/// What became readable or writable.
#[derive(Default)]
struct Ready {
    signal: bool,
    input: bool,
    sink: bool,
    sources: Vec<usize>,
}

impl Session<'_> {
    fn run(&mut self, signals: BorrowedFd<'_>) -> Result<Ended> {
        loop {
            let ready = self.wait(signals)?;
            // Last first: a source that ends is taken out, which moves those behind it.
            for source in ready.sources.into_iter().rev() {
                if let Some(ended) = self.receive(source)? {
                    return Ok(ended);
                }
            }
            if ready.signal
                && let Some(ended) = self.signals(signals)?
            {
                return Ok(ended);
            }
            if ready.sink {
                self.send()?;
            }
            if ready.input && self.read_input()? {
                return Ok(Ended::Detached);
            }
        }
    }

    fn wait(&self, signals: BorrowedFd<'_>) -> Result<Ready> {
        let stdin = std::io::stdin();
        let sources = self.remote.sources();
        let sink = self.remote.sink().filter(|_| !self.pending.is_empty());
        let input = self.input && self.pending.is_empty();
        let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        fds.extend(sources.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let sink_at = fds.len();
        fds.extend(sink.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
        let input_at = fds.len();
        if input {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        loop {
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("wait for", "the container's output", e)),
            }
        }
        let set = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signal: set(0),
            sources: (0..sources.len()).filter(|i| set(i + 1)).collect(),
            sink: sink.is_some() && set(sink_at),
            input: input && set(input_at),
        })
    }

    fn receive(&mut self, source: usize) -> Result<Option<Ended>> {
        for piece in self.remote.receive(source)? {
            match piece {
                Piece::Stdout(bytes) => write_out(&bytes)?,
                Piece::Stderr(bytes) => {
                    // Whoever closed standard error does not want it; the container goes on.
                    drop(std::io::stderr().write_all(&bytes));
                }
                Piece::Ended(code) => return Ok(Some(Ended::Exit(code))),
                Piece::Lost => return Ok(Some(Ended::Lost)),
            }
        }
        Ok(None)
    }

    /// Reads input; true once the detach keys were typed.
    fn read_input(&mut self) -> Result<bool> {
        let mut buffer = vec![0; CHUNK];
        let n = match rustix::io::read(std::io::stdin().as_fd(), &mut buffer) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that was hung up, or a background process without one: no more input comes.
            Err(_) => 0,
        };
        if n == 0 {
            self.input = false;
            self.remote.close_input()?;
            return Ok(false);
        }
        if !self.options.tty {
            self.pending.extend(&buffer[..n]);
            return Ok(false);
        }
        Ok(self.options.detach.feed(&buffer[..n], &mut self.pending))
    }

    fn send(&mut self) -> Result<()> {
        let n = self.remote.send(&self.pending)?;
        self.pending.drain(..n);
        if self.remote.sink().is_none() {
            self.input = false;
            self.pending.clear();
        }
        Ok(())
    }

    fn signals(&mut self, signals: BorrowedFd<'_>) -> Result<Option<Ended>> {
        while let Some(signal) = process::read_signal(signals).during("read", "signals")? {
            match signal {
                libc::SIGWINCH => self.resize()?,
                // Closing the terminal leaves the container running.
                libc::SIGHUP => return Ok(Some(Ended::Signal(signal))),
                libc::SIGCONT if !self.options.proxy_signals => self.resize()?,
                _ if self.options.proxy_signals => self.remote.signal(signal)?,
                _ => return Ok(Some(Ended::Signal(signal))),
            }
        }
        Ok(None)
    }

    fn resize(&mut self) -> Result<()> {
        match terminal::size() {
            Some((rows, columns)) if self.options.tty => self.remote.resize(rows, columns),
            _ => Ok(()),
        }
    }
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(out::broken)
}
