//! The other end of `--console-socket`: receives the terminal's master.

use rustix::fd::OwnedFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A socket that waits for a terminal.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

/// The master of a container's terminal.
#[derive(Debug)]
pub struct Master {
    fd: OwnedFd,
    seen: Vec<u8>,
}

impl Console {
    /// Binds it at this path, which must be shorter than 108 bytes.
    ///
    /// # Panics
    /// If it cannot.
    pub fn listen(path: &Path) -> Console {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Console { listener, path: path.to_owned() }
    }

    /// Value of `--console-socket`.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Takes the terminal that was sent, after the command that sends it has returned.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn receive(&self) -> Master {
        let mut accepted = None;
        crate::eventually(Duration::from_secs(20), || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("nobody has connected to the console socket");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [0u8; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut data)], &mut control, flags).unwrap();
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let fd = fds.next().expect("the console socket got no descriptor");
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        Master { fd, seen: Vec::new() }
    }
}

impl Master {
    /// The descriptor, for what rustix::termios asks of it.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn keys(&self, text: &str) {
        assert_eq!(rustix::io::write(&self.fd, text.as_bytes()).unwrap(), text.len());
    }

    /// Waits until this text has been printed: all that was.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let mut buffer = [0u8; 4096];
        let found = crate::eventually(Duration::from_secs(20), || {
            while let Ok(n) = rustix::io::read(&self.fd, &mut buffer[..]) {
                if n == 0 {
                    break;
                }
                self.seen.extend_from_slice(&buffer[..n]);
            }
            self.seen.windows(text.len()).any(|w| w == text.as_bytes())
        });
        let seen = String::from_utf8_lossy(&self.seen).into_owned();
        assert!(found, "{text:?} does not appear in {seen:?}");
        seen
    }
}
