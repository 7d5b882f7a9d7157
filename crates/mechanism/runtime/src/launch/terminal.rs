//! A pseudo-terminal's settings, told through its master.

use rustix::fd::AsFd;
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tare_model::{Error, Result};

/// Tells a terminal its size.
///
/// # Errors
/// As ioctl(2).
pub fn set_size(master: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).map_err(|e| Error::io("resize", "terminal", e))
}

/// Has a newline stay a newline on its way out (ONLCR off): whoever copies it to a terminal of their own would have the
/// carriage return twice. Callers of an OCI runtime rely on it.
///
/// # Errors
/// As tcsetattr(3).
pub fn plain_newlines(master: impl AsFd) -> Result<()> {
    let fail = |e| Error::io("set up", "terminal", e);
    let mut settings = tcgetattr(master.as_fd()).map_err(fail)?;
    settings.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(master, OptionalActions::Now, &settings).map_err(fail)
}
