//! The notify descriptor of a system call filter, on its way to the agent that answers: config-linux.md#seccomp.
//!
//! ```text
//! child: loads the filter, gets the descriptor ── status channel ──► whoever released it ── listenerPath ──► agent
//! ```
//!
//! The agent's socket is connected before the child is released: an agent that is not there makes the start fail while
//! there still is nothing to be undone. From then on a call that waits for the agent waits until it has the descriptor.

use super::hook::{ContainerState, Status};
use crate::plan::ProcessPlan;
use crate::security::seccomp::agent;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use serde::Serialize;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use tare_model::{Error, Kind, Result};

/// The operation of the error with which a descriptor could not be delivered: then the program may run already, and has to
/// be ended by whoever gets the error.
pub const UNDELIVERED: &str = "send to seccomp listener";

/// A connection to the agent, and what it is told.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    message: Vec<u8>,
}

/// `ContainerProcessState` of the specification (runtime-linux.md, config-linux.md#containerprocessstate).
#[derive(Debug, Serialize)]
struct ContainerProcessState<'a, S> {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: S,
}

impl Listener {
    /// Connects to the socket at `path` (SOCK_STREAM). `pid`: the process that loads the filter, as the runtime sees it;
    /// `metadata`: listenerMetadata; `state`: the container's state, in the form of runtime.md.
    ///
    /// # Errors
    /// As connect(2); `Kind::Invalid` for a state that is no JSON.
    pub fn connect(path: &str, metadata: Option<&str>, pid: i32, state: impl Serialize) -> Result<Listener> {
        let fail = |e| Error::io("connect to seccomp listener", path, e).hint("is the agent running?");
        let process = ContainerProcessState {
            oci_version: tare_model::runtime_spec::VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: metadata.filter(|m| !m.is_empty()),
            state,
        };
        let message = serde_json::to_vec(&process)
            .map_err(|e| Error::new(Kind::Invalid, "describe", "container's process").because(e))?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
        connect(&socket, &SocketAddrUnix::new(path).map_err(fail)?).map_err(fail)?;
        Ok(Listener { socket, message })
    }

    /// As [`Listener::connect`], to the agent that a process's filter asks, if it asks any; `container` is what that agent
    /// is told of the container.
    ///
    /// # Errors
    /// As [`Listener::connect`].
    pub fn of(process: &ProcessPlan, pid: i32, container: &ContainerState) -> Result<Option<Listener>> {
        let Some((path, metadata)) = process.seccomp.as_ref().and_then(agent) else { return Ok(None) };
        let state: serde_json::Value = serde_json::from_str(&container.json(Status::Created, Some(pid)))
            .map_err(|e| Error::new(Kind::Invalid, "describe", &container.id).because(e))?;
        Listener::connect(path, metadata, pid, state).map(Some)
    }

    /// Hands the descriptor over and closes the connection: one state for each.
    ///
    /// # Errors
    /// As sendmsg(2).
    fn deliver(self, notify: OwnedFd) -> Result<()> {
        let mut rest = self.message.as_slice();
        let fds = [notify.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        while !rest.is_empty() {
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(n) => {
                    rest = &rest[n..];
                    // Once is enough.
                    control.clear();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io(UNDELIVERED, "notify descriptor", e)),
            }
        }
        Ok(())
    }
}

/// The packet of the status channel that bears the descriptor.
pub(super) const PACKET: &[u8] = b"l";

/// Sends the descriptor from the child, whose filter is in force already: the profile must let sendmsg(2) pass.
pub(super) fn hand_over(status: BorrowedFd<'_>, notify: &OwnedFd) -> Result<()> {
    let fds = [notify.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(status, &[IoSlice::new(PACKET)], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|e| Error::io("hand over", "notify descriptor of the system call filter", e))
}

/// Reads one packet of the status channel, and the descriptor that came with it (close-on-exec).
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((got.bytes, descriptor))
}

/// As [`Listener::deliver`].
///
/// # Errors
/// `Kind::Invalid` if there is none.
pub(super) fn deliver(listener: Option<Listener>, notify: OwnedFd) -> Result<()> {
    let missing = || {
        Error::new(Kind::Invalid, UNDELIVERED, "notify descriptor")
            .because("nobody was named to answer its notifications")
    };
    listener.ok_or_else(missing)?.deliver(notify)
}
