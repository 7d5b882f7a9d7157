//! The status socket between parent and child: see the drawing in [`super`].
//!
//! One message is one packet (SOCK_SEQPACKET); its first byte says what it is. Only an error carries JSON.

use super::listener::{self, Listener};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use tare_model::{Error, Kind, Result};

/// What the child says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `r`: it stands at the gate. At a socket: it has heard "go".
    Ready,
    /// `h`: it stands before the change of the root, and waits for the hooks in the runtime's namespaces.
    Rendezvous,
    /// `w` and words: something could not be had as asked.
    Warning(String),
    /// `e` and JSON: it gives up.
    Error(Error),
}

/// What the parent says; `m` comes only with a new user namespace, `h` only with hooks.
mod word {
    /// The id maps are written.
    pub(super) const MAPPED: u8 = b'm';
    /// The hooks are done; the child's id in the runtime's PID namespace follows, in decimal digits.
    pub(super) const HOOKS_DONE: u8 = b'h';
    /// The gate is open.
    pub(super) const GO: u8 = b'g';
}

/// Longest message: an error with two paths of 4096 bytes and a hook's last words fits.
const LIMIT: usize = 32 * 1024;

/// Reads one message of the child's.
///
/// # Errors
/// `Kind::Corrupt` if it is none.
pub fn parse(packet: &[u8]) -> Result<Said> {
    let corrupt = || Error::new(Kind::Corrupt, "read", "status of the container's process");
    match packet.split_first() {
        Some((b'r', [])) => Ok(Said::Ready),
        Some((b'h', [])) => Ok(Said::Rendezvous),
        Some((b'w', text)) => Ok(Said::Warning(String::from_utf8_lossy(text).into_owned())),
        Some((b'e', json)) => serde_json::from_slice(json).map(Said::Error).map_err(|e| corrupt().because(e)),
        _ => Err(corrupt().because("unknown message")),
    }
}

/// The parent's end.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    ready: bool,
    /// The child has yet to stand at its rendezvous: "go" would be heard too early.
    rendezvous: bool,
    /// Where a notify descriptor goes.
    pub(super) listener: Option<Listener>,
    /// Messages so far.
    heard: usize,
}

/// No honest child has more to say. One that was taken over by its container must not fill the parent's memory, or hold
/// it for ever.
const MOST_MESSAGES: usize = 256;

pub(super) fn pair(rendezvous: bool) -> Result<(Channel, OwnedFd)> {
    let (parent, child) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::io("create", "status socket", e))?;
    Ok((Channel { socket: parent, ready: false, rendezvous, listener: None, heard: 0 }, child))
}

impl Channel {
    /// From a connection to a gate, behind which no rendezvous is left.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Channel { socket, ready: false, rendezvous: false, listener: None, heard: 0 }
    }

    /// The number of the parent's end, which the child inherits and closes.
    pub(super) fn raw(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    pub(super) fn mapped(&self) -> Result<()> {
        self.tell(&[word::MAPPED])
    }

    /// Waits for the child at the gate; `hooks` is run while it stands at its rendezvous, if it has one.
    pub(super) fn wait_ready(
        &mut self,
        pid: i32,
        warnings: &mut Vec<String>,
        hooks: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut hooks = Some(hooks);
        while !self.ready {
            match self.receive()? {
                Some(Said::Ready) => self.ready = true,
                Some(Said::Rendezvous) => {
                    if let Some(hooks) = hooks.take() {
                        hooks()?;
                    }
                    let mut answer = vec![word::HOOKS_DONE];
                    answer.extend_from_slice(pid.to_string().as_bytes());
                    self.tell(&answer)?;
                    self.rendezvous = false;
                }
                Some(Said::Warning(w)) => warnings.push(w),
                Some(Said::Error(e)) => return Err(e),
                None => return Err(died("it ended before it was ready")),
            }
        }
        Ok(())
    }

    pub(super) fn release(&mut self, pid: i32, warnings: &mut Vec<String>) -> Result<()> {
        // "go" may be sent before the child is ready: it is read at the gate. That saves a turn of the scheduler.
        if self.rendezvous {
            self.wait_ready(pid, warnings, || Ok(()))?;
        }
        self.start(warnings, || died("it ended before it was ready"))
    }

    /// Says "go" and waits until the program runs.
    pub(super) fn start(&mut self, warnings: &mut Vec<String>, gone: impl FnOnce() -> Error) -> Result<()> {
        self.tell(&[word::GO])?;
        loop {
            match self.receive()? {
                Some(Said::Ready | Said::Rendezvous) => self.ready = true,
                Some(Said::Warning(w)) => warnings.push(w),
                Some(Said::Error(e)) => return Err(e),
                None if self.ready => return Ok(()),
                None => return Err(gone()),
            }
        }
    }

    /// What the child, which is gone, cannot hear is no failure here: what it said last is, and is read next.
    fn tell(&self, words: &[u8]) -> Result<()> {
        match send(&self.socket, words, SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(e) => Err(Error::io("tell", "the container's process", e)),
        }
    }

    fn receive(&mut self) -> Result<Option<Said>> {
        // Mostly a single byte comes: on the stack, all of it would be cleared each time, page by page.
        let mut buffer = vec![0u8; LIMIT];
        loop {
            self.heard += 1;
            if self.heard > MOST_MESSAGES {
                return Err(Error::new(Kind::Corrupt, "read", "status of the container's process")
                    .because("it says more than any that is sound"));
            }
            return match listener::receive(&self.socket, &mut buffer[..]) {
                Ok((n, Some(notify))) if &buffer[..n] == listener::PACKET => {
                    listener::deliver(self.listener.take(), notify)?;
                    continue;
                }
                Ok((0, _)) => Ok(None),
                // It ended without having read all that was said to it. The kernel tells that first, and only then hands
                // out what it said itself.
                Err(Errno::CONNRESET) => continue,
                Ok((n, _)) => parse(&buffer[..n]).map(Some),
                Err(Errno::INTR) => continue,
                Err(e) => Err(Error::io("read", "status of the container's process", e)),
            };
        }
    }
}

fn died(why: &str) -> Error {
    Error::new(Kind::System, "start", "the container's process")
        .because(why)
        .hint("was it killed? look for an out-of-memory message in dmesg, and at the memory limit")
}

/// The child's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter<'a>(pub(super) BorrowedFd<'a>);

impl Reporter<'_> {
    pub(super) fn warn(self, text: impl Into<String>) {
        self.say(Said::Warning(text.into()));
    }

    pub(super) fn error(self, error: Error) {
        self.say(Said::Error(error));
    }

    /// Waits until the id maps are written; false if the parent is gone.
    pub(super) fn wait_mapped(self) -> bool {
        self.hear(&mut [0; 4]).is_some_and(|n| n == [word::MAPPED])
    }

    /// Stands at the rendezvous until the hooks are done: this process's id as the runtime sees it. `None` if the
    /// parent is gone.
    pub(super) fn rendezvous(self) -> Option<i32> {
        self.say(Said::Rendezvous);
        let mut buffer = [0; 16];
        let (first, pid) = self.hear(&mut buffer)?.split_first()?;
        if *first != word::HOOKS_DONE {
            return None;
        }
        std::str::from_utf8(pid).ok()?.parse().ok()
    }

    /// Waits at the gate; false if whoever is at the other end is gone, or says something else.
    pub(super) fn wait_go(self) -> bool {
        self.hear(&mut [0; 4]).is_some_and(|n| n == [word::GO])
    }

    /// One message; `None` if nobody is there to say one.
    fn hear(self, buffer: &mut [u8]) -> Option<&[u8]> {
        loop {
            match rustix::io::read(self.0, &mut *buffer) {
                Ok(0) => return None,
                Ok(n) => return Some(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether the parent is gone.
    pub(super) fn is_alone(self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.0, &mut [0u8; 1], flags), Ok((0, _)))
    }

    pub(super) fn say(self, message: Said) {
        let tagged = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        let send = |packet: &[u8]| {
            // The parent may be gone; then nobody is left to be told.
            let _ = send(self.0.as_fd(), packet, SendFlags::NOSIGNAL);
        };
        match message {
            Said::Ready => send(b"r"),
            Said::Rendezvous => send(b"h"),
            Said::Warning(text) => send(&tagged(b'w', &text.as_bytes()[..text.len().min(LIMIT - 1)])),
            Said::Error(e) => send(&tagged(b'e', &serde_json::to_vec(&e).unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_read_as_it_was_said() {
        let (mut channel, child) = pair(false).unwrap();
        let reporter = Reporter(child.as_fd());
        reporter.warn("less");
        reporter.say(Said::Ready);
        let mut warnings = Vec::new();
        channel.wait_ready(7, &mut warnings, || panic!("no rendezvous")).unwrap();
        assert_eq!(warnings, ["less"]);
        reporter.error(Error::new(Kind::Denied, "mount", "/x").because("no").hint("try"));
        let e = channel.start(&mut warnings, || died("gone")).unwrap_err();
        assert_eq!((e.kind(), e.operation(), e.object()), (Kind::Denied, "mount", "/x"));
        assert!(reporter.wait_go());
        assert!(!reporter.is_alone());
        drop(channel);
        assert!(reporter.is_alone() && !reporter.wait_go());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for packet in [&b""[..], b"r1", b"h ", b"x", b"e", b"e{", b"e[]", b"\0"] {
            assert_eq!(parse(packet).unwrap_err().kind(), Kind::Corrupt, "{packet:?}");
        }
    }
}

#[cfg(test)]
#[path = "status_fuzz.rs"]
mod fuzz;
