//! Standard output and standard error.

use std::fmt::Display;
use std::io::Write;
use tare_model::{Error, Result};

/// Text on standard output, as it is and at once.
pub(crate) fn text(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = text.to_string();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::io("write", "standard output", e))
}

/// A line on standard output.
pub(crate) fn line(line: impl Display) -> Result<()> {
    text(format_args!("{line}\n"))
}

/// A line on standard error. If nobody can read it, there is nobody to tell.
pub(crate) fn note(text: impl Display) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
