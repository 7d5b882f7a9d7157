//! Standard output and standard error.

use std::fmt::Display;
use std::io::{BufWriter, Stdout, Write};
use tare_model::{Error, Result};

const STDOUT: &str = "standard output";

/// Buffered standard output. [`Out::finish`] hands over what is buffered; a reader that went away is an error.
pub(crate) struct Out(BufWriter<Stdout>);

impl Out {
    /// Standard output.
    pub(crate) fn new() -> Out {
        Out(BufWriter::with_capacity(64 << 10, std::io::stdout()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.0, "{text}").map_err(broken)
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: impl Display) -> Result<()> {
        write!(self.0, "{text}").map_err(broken)
    }

    /// Hands over what is buffered.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.0.flush().map_err(broken)
    }
}

/// A line on standard output, at once.
pub(crate) fn print(text: impl Display) -> Result<()> {
    let mut out = Out::new();
    out.line(text)?;
    out.finish()
}

/// A line on standard error. If nobody can read it, there is nobody to tell.
pub(crate) fn note(text: impl Display) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A failure to write to standard output.
pub(crate) fn broken(error: std::io::Error) -> Error {
    Error::io("write", STDOUT, error)
}

/// Whether an error means that the reader of standard output has gone.
pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    error.object() == STDOUT && error.errno() == Some(libc::EPIPE)
}

/// A broken pipe that was met while an archive was streamed to standard output, under the name that [`is_broken_pipe`]
/// knows.
pub(crate) fn relabel_pipe(error: Error) -> Error {
    if error.errno() == Some(libc::EPIPE) { broken(std::io::Error::from_raw_os_error(libc::EPIPE)) } else { error }
}
