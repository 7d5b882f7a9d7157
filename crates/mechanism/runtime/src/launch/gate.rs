//! The gate of a container whose creator does not stay: a socket in its directory, at which another process says "go".
//!
//! The child listens; its creator bound the socket and went. A starter connects, the child accepts, and from the "go" on
//! the connection is the status channel. Whoever connects and says nothing, or something else, or is killed, is dropped,
//! and the child waits on.

use super::listener::Listener;
use super::status::{self, Channel, Reporter};
use crate::defence::{Defence, stands};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen};
use std::path::PathBuf;
use tare_kernel::socket::peer_user;
use tare_model::{Error, Kind, Result};

/// Who may say "go".
#[derive(Debug, Default)]
pub enum Gate {
    /// Only whoever holds the [`super::Launch`]; if it ends before, so does the child.
    #[default]
    Channel,
    /// Also whoever connects to this socket, from [`bind_gate`]. The child outlives its creator.
    Socket(OwnedFd),
}

/// How long a starter that has connected may take to say "go" (seconds): it sends it at once, unless it is stopped.
const PATIENCE: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// Makes the socket of a gate in a directory, to be handed to [`super::spawn`]; its mode lets only its owner connect.
///
/// # Errors
/// `Kind::InUse` if the name is there already; else as bind(2).
pub fn bind_gate(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let fail = |e| Error::io("make", "start gate", e);
    let socket = socket().map_err(fail)?;
    // The mode of a socket file is that of its socket's inode, less the umask, which a library leaves alone.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600)).map_err(fail)?;
    bind(&socket, &address(dir, name)?).map_err(fail)?;
    listen(&socket, 8).map_err(fail)?;
    Ok(socket)
}

/// Says "go" at a gate, and waits until the program runs; what could not be had as asked, in words. `listener`: where the
/// notify descriptor of the container's filter goes.
///
/// # Errors
/// `Kind::State` if nobody waits there (any more); `Kind::NotFound` if there is no such socket; what the child reports.
pub fn open_gate(dir: BorrowedFd<'_>, name: &str, listener: Option<Listener>) -> Result<Vec<String>> {
    let gone = || Error::new(Kind::State, "start", "container").because("it does not wait to be started");
    let socket = socket().map_err(|e| Error::io("open", "start gate", e))?;
    connect(&socket, &address(dir, name)?).map_err(|e| match e {
        Errno::CONNREFUSED => gone(),
        e => Error::io("open", "start gate", e),
    })?;
    let mut warnings = Vec::new();
    let mut channel = Channel::over(socket);
    channel.listener = listener;
    channel.start(&mut warnings, gone)?;
    Ok(warnings)
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Through the directory's descriptor: a socket's address holds 107 bytes, and a path may be longer.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    SocketAddrUnix::new(&path).map_err(|e| Error::io("name", "start gate", e))
}

/// Waits in the child until somebody says "go": the connection to whoever did. `None`: nobody can any more.
pub(super) fn wait(channel: OwnedFd, gate: &Gate) -> Option<OwnedFd> {
    let Gate::Socket(listener) = gate else {
        return Reporter(channel.as_fd()).wait_go().then_some(channel);
    };
    let creator = peer_user(channel.as_fd()).ok();
    let mut channel = Some(channel);
    loop {
        let Some(own) = &channel else {
            // Blocks in accept(2).
            if let Some(starter) = accept(listener, creator) {
                return Some(starter);
            }
            continue;
        };
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(own, PollFlags::IN)];
        if let Err(e) = poll(&mut fds, None)
            && e != Errno::INTR
        {
            return None;
        }
        let (connected, spoken) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if spoken {
            if Reporter(own.as_fd()).wait_go() {
                return channel;
            }
            channel = None;
            // The creator has gone, and nobody waits for this process now.
            super::protect::let_go_of_executable();
        } else if connected && let Some(starter) = accept(listener, creator) {
            return Some(starter);
        }
    }
}

/// One starter, if it may start and does.
fn accept(listener: &OwnedFd, creator: Option<u32>) -> Option<OwnedFd> {
    let starter = match accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(starter) => starter,
        Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => return None,
        // Out of descriptors or memory: later there may be some again.
        Err(_) => {
            let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = poll(&mut [], Some(&pause));
            return None;
        }
    };
    // The creator's id is compared as both look from in here: in a user namespace the host's root has another number.
    let peer = peer_user(starter.as_fd()).ok();
    if stands(Defence::Gate) && (peer.is_none() || peer != creator) {
        return None;
    }
    let mut fds = [PollFd::new(&starter, PollFlags::IN)];
    if !matches!(poll(&mut fds, Some(&PATIENCE)), Ok(1)) {
        return None;
    }
    let reporter = Reporter(starter.as_fd());
    if !reporter.wait_go() {
        return None;
    }
    reporter.say(status::Said::Ready);
    Some(starter)
}
