//! A pseudo-terminal of a running container, and the settings of any, told through its master.

use super::Terminal;
use super::resolve::in_root;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tare_model::{Error, Kind, Result};

/// Opens a new terminal of the devpts at /dev/pts beneath `root`. What lies at that path is the container's choice: it is
/// checked.
///
/// # Errors
/// `Kind::Denied` if it is not a devpts; else as open(2).
pub fn open_terminal_in(root: BorrowedFd<'_>) -> Result<Terminal> {
    const DEVPTS: i64 = 0x1cd1;
    let fail = |e| Error::io("open terminal", "/dev/pts/ptmx", e);
    let place = in_root(root, "/dev/pts/ptmx", OFlags::PATH | OFlags::NOFOLLOW).map_err(fail)?;
    let (stat, fs) = (fstat(&place).map_err(fail)?, fstatfs(&place).map_err(fail)?);
    let genuine = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(5, 2)
        && fs.f_type == DEVPTS;
    if !genuine {
        return Err(Error::new(Kind::Denied, "open terminal", "/dev/pts/ptmx").because("it is not a devpts"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own = format!("/proc/self/fd/{}", place.as_raw_fd());
    let master = rustix::fs::open(own, flags, Mode::empty()).map_err(fail)?;
    rustix::pty::unlockpt(&master).map_err(fail)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(fail)?;
    Ok(Terminal { master, slave })
}

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
