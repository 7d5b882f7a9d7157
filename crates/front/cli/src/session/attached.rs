//! A container, through its supervisor's attach socket.

use super::{Piece, Remote};
use std::os::fd::BorrowedFd;
use tare_engine::{Attachment, Frame};
use tare_model::Result;

/// An attachment as the other side of a session.
#[derive(Debug)]
pub(crate) struct Attached {
    attachment: Attachment,
    input_open: bool,
}

impl Attached {
    /// Takes over an attachment.
    pub(crate) fn new(attachment: Attachment) -> Attached {
        Attached { attachment, input_open: true }
    }
}

impl Remote for Attached {
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.attachment.fd()]
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.input_open.then(|| self.attachment.fd())
    }

    fn receive(&mut self, _: usize) -> Result<Vec<Piece>> {
        Ok(vec![match self.attachment.recv()? {
            Some(Frame::Stdout(bytes)) => Piece::Stdout(bytes),
            Some(Frame::Stderr(bytes)) => Piece::Stderr(bytes),
            Some(Frame::Exit(exit)) => Piece::Ended(exit.code),
            None => Piece::Lost,
        }])
    }

    fn send(&mut self, input: &[u8]) -> Result<usize> {
        self.attachment.send_stdin(input)?;
        Ok(input.len())
    }

    fn close_input(&mut self) -> Result<()> {
        self.input_open = false;
        self.attachment.close_stdin()
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.attachment.resize(rows, columns)
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        self.attachment.signal(signal)
    }
}
