//! What a caller gets besides the container: a file with the pid, the terminal and a pidfd over Unix sockets.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, sendmsg, socket_with,
};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;
use tare_model::runtime_spec::ConsoleSize;
use tare_model::{Context, Error, Result};

/// Writes a pid, in decimal and without a line end, aside and renamed: a reader sees all of it or nothing.
pub(crate) fn pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let made = std::fs::File::create(&aside)
        .and_then(|mut f| f.write_all(pid.to_string().as_bytes()))
        .and_then(|()| std::fs::rename(&aside, path));
    if made.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    made.during("write pid file", path.display())
}

/// A socket of a caller that waits for a descriptor. Connected before anything is made: a caller that is not there is a
/// mistake found early.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: OwnedFd,
    path: String,
}

impl Receiver {
    /// Connects.
    pub(crate) fn connect(path: &Path) -> Result<Receiver> {
        let shown = path.display().to_string();
        let fail = |e: rustix::io::Errno| Error::io("connect to socket", &shown, e);
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
        connect_unix(&socket, path).map_err(fail)?;
        Ok(Receiver { socket, path: shown })
    }

    /// Sends a descriptor with its name.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::NOSIGNAL)
            .map(|_| ())
            .map_err(|e| Error::io("send descriptor to", &self.path, e))
    }
}

/// Connects to a socket by its path, which may be longer than an address has room for: its directory is then named by a
/// descriptor.
pub(crate) fn connect_unix(socket: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    match SocketAddrUnix::new(path) {
        Ok(address) => connect(socket, &address),
        Err(rustix::io::Errno::NAMETOOLONG) => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
            connect(socket, &through(&fd, path.file_name().unwrap_or_default())?)
        }
        Err(e) => Err(e),
    }
}

/// The address of a socket in an open directory.
pub(crate) fn through(directory: &OwnedFd, name: impl AsRef<Path>) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string()).join(name))
}

/// Who shows what a terminal prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShownBy {
    /// Whoever listens at the console socket: gets the terminal as the kernel makes it, as engines expect.
    Receiver,
    /// This command, on a terminal of the caller's that ends lines itself.
    Relay,
}

/// A new terminal as callers expect it: with its first size, and each line's end made once.
pub(crate) fn set_up_terminal(master: &OwnedFd, size: Option<&ConsoleSize>, by: ShownBy) -> Result<()> {
    let fail = |e| Error::io("set up", "terminal", e);
    if by == ShownBy::Relay {
        let mut settings = tcgetattr(master).map_err(fail)?;
        settings.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(master, OptionalActions::Now, &settings).map_err(fail)?;
    }
    if let Some(size) = size.filter(|s| (s.height, s.width) != (0, 0)) {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(master, size).map_err(fail)?;
    }
    Ok(())
}

/// The name of a terminal inside.
pub(crate) fn terminal_name(master: &OwnedFd) -> String {
    match rustix::pty::ptsname(master, Vec::new()) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "/dev/ptmx".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_pid_file_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "old").unwrap();
        pid_file(&path, 4711).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let e = pid_file(&dir.path().join("none/pid"), 1).unwrap_err();
        assert!(e.to_string().contains("none/pid"), "{e}");
    }

    #[test]
    fn a_socket_may_have_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(100));
        std::fs::create_dir(&long).unwrap();
        let fd = rustix::fs::open(&long, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let short = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join("s");
        let listener = UnixListener::bind(short).unwrap();
        let receiver = Receiver::connect(&long.join("s")).unwrap();
        receiver.send(fd.as_fd(), "name").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut text).unwrap();
        assert_eq!(&text, b"name");
    }
}
