//! A process that `exec` started: its pseudo-terminal or pipes, and its pidfd.

use super::{Piece, Remote};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tare_engine::ExecSession;
use tare_model::{Error, Result};

/// An exec as the other side of a session.
#[derive(Debug)]
pub(crate) struct Executed {
    session: ExecSession,
    outputs: Vec<Output>,
    input: Option<OwnedFd>,
}

#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    stderr: bool,
}

const BUFFER: usize = 64 << 10;

impl Executed {
    /// Takes over what an exec gave.
    ///
    /// # Errors
    /// The descriptors cannot be made non-blocking.
    pub(crate) fn new(mut session: ExecSession) -> Result<Executed> {
        let mut outputs = Vec::new();
        let mut input = session.stdin.take();
        // The session keeps its own descriptor of the pseudo-terminal, for its size.
        if let Some(terminal) = &session.terminal {
            let again = || terminal.try_clone().map_err(|e| Error::io("duplicate", "the pseudo-terminal", e));
            input = Some(again()?);
            outputs.push(Output { fd: again()?, stderr: false });
        }
        outputs.extend(session.stdout.take().map(|fd| Output { fd, stderr: false }));
        outputs.extend(session.stderr.take().map(|fd| Output { fd, stderr: true }));
        for fd in outputs.iter().map(|o| &o.fd).chain(&input) {
            non_blocking(fd).map_err(|e| Error::io("set up", "the pipes of an exec", e))?;
        }
        Ok(Executed { session, outputs, input })
    }

    /// Reads once; `None` at the end of an output.
    fn read(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; BUFFER];
        loop {
            return match rustix::io::read(&self.outputs[index].fd, &mut buffer) {
                // EIO: the last process with the pseudo-terminal has gone.
                Ok(0) | Err(Errno::IO) => Ok(None),
                Ok(n) => {
                    buffer.truncate(n);
                    Ok(Some(buffer))
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Some(Vec::new())),
                Err(e) => Err(Error::io("read", "the output of an exec", e)),
            };
        }
    }

    fn piece(&self, index: usize, bytes: Vec<u8>) -> Piece {
        if self.outputs[index].stderr { Piece::Stderr(bytes) } else { Piece::Stdout(bytes) }
    }

    /// What is left when the process has ended. Not to the end of file: a child of it may hold the pipe for long.
    fn drain(&mut self) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for index in 0..self.outputs.len() {
            while let Some(bytes) = self.read(index)? {
                if bytes.is_empty() {
                    break;
                }
                pieces.push(self.piece(index, bytes));
            }
        }
        Ok(pieces)
    }
}

fn non_blocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

impl Remote for Executed {
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        self.outputs.iter().map(|o| o.fd.as_fd()).chain([self.session.pidfd.as_fd()]).collect()
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    fn receive(&mut self, source: usize) -> Result<Vec<Piece>> {
        if source < self.outputs.len() {
            return Ok(match self.read(source)? {
                Some(bytes) => vec![self.piece(source, bytes)],
                None => {
                    self.outputs.remove(source);
                    Vec::new()
                }
            });
        }
        let mut pieces = self.drain()?;
        pieces.push(Piece::Ended(self.session.wait()?));
        Ok(pieces)
    }

    fn send(&mut self, input: &[u8]) -> Result<usize> {
        let Some(fd) = &self.input else { return Ok(input.len()) };
        match rustix::io::write(fd, input) {
            Ok(n) => Ok(n),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            // It reads no more; that is its right.
            Err(_) => {
                self.input = None;
                Ok(input.len())
            }
        }
    }

    fn close_input(&mut self) -> Result<()> {
        // With a pseudo-terminal the end of input is a character that the user types; the descriptor stays.
        self.input = None;
        Ok(())
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.session.resize(rows, columns)
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        self.session.signal(signal)
    }
}
