//! Netlink sockets, and sockets made in other network namespaces.
//!
//! Messages go in and out; what they mean is the business of those who send them. Sources: netlink(7), rtnetlink(7),
//! network_namespaces(7).

pub mod kept;
pub mod message;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::io;

/// Which part of the kernel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Devices, addresses and routes.
    Route,
    /// nftables and connection tracking.
    Netfilter,
    /// Sockets of this network namespace.
    SockDiag,
}

/// A netlink socket, bound for good to the network namespace in which it was opened.
///
/// Acknowledgements carry the kernel's own words for a failure (`NETLINK_EXT_ACK`) but not the request
/// (`NETLINK_CAP_ACK`), and dumps filter by what the request says (`NETLINK_GET_STRICT_CHK`).
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> io::Result<Socket> {
        let number = match protocol {
            // NETLINK_ROUTE is number 0, which rustix words as no protocol.
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
            Protocol::SockDiag => Some(netlink::SOCK_DIAG),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            let on: libc::c_int = 1;
            // SAFETY: `on` lives across the call, and the length passed is its size.
            let result = unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Socket(fd))
    }

    /// Opens a socket in the network namespace `netns`; see [`in_network_namespace`].
    pub fn open_in(netns: BorrowedFd<'_>, protocol: Protocol) -> io::Result<Socket> {
        in_network_namespace(netns, || Socket::open(protocol))?
    }

    /// Also receives what the kernel tells the members of `group`, 1 to 32, such as `NFNLGRP_NFTABLES`. Once for a
    /// socket, before it sends. [`Socket::receive`] then fails with ENOBUFS when more was told than the queue holds.
    pub fn subscribe(&self, group: u32) -> io::Result<()> {
        let mask = group.checked_sub(1).and_then(|bit| 1_u32.checked_shl(bit)).ok_or(io::ErrorKind::InvalidInput)?;
        // Port 0: the kernel chooses one. A member without a port would be told nothing.
        Ok(bind(&self.0, &netlink::SocketAddrNetlink::new(0, mask))?)
    }

    /// Sends one datagram of messages to the kernel, which has acted on all of them when this returns.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        match send(&self.0, messages, SendFlags::empty())? {
            sent if sent == messages.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Takes the next datagram, without waiting: answers to requests are there when [`Socket::send`] returns.
    ///
    /// `None` when there is none; `InvalidData` when it is longer than `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let room = buffer.len();
        loop {
            return match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) if length > room => Err(io::ErrorKind::InvalidData.into()),
                Ok((_, length)) => Ok(Some(length)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(e) => Err(e.into()),
            };
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `work` with the calling thread inside the network namespace `netns`, and comes back.
///
/// Only this thread moves, and only its network namespace; sockets made by `work` stay in `netns`. Needs CAP_SYS_ADMIN
/// over the namespace that owns `netns` and over the caller's own.
pub fn in_network_namespace<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = current_network_namespace()?;
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    let result = work();
    // Going on in a foreign namespace would apply host rules to a container: there is no way on from here. It cannot
    // fail for want of rights either, as the same rights brought the thread here.
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("the thread was in this namespace before, with the same rights");
    Ok(result)
}

/// The network namespace of the calling thread.
pub fn current_network_namespace() -> io::Result<OwnedFd> {
    Ok(openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a network namespace without any process in it; it lives as long as a descriptor or a device refers to it.
pub fn new_network_namespace() -> io::Result<OwnedFd> {
    let home = current_network_namespace()?;
    // SAFETY: NEWNET changes which network stack later system calls of this thread see, and nothing that memory or
    // descriptors of this process rely on (unlike CLONE_FILES, for which the function is marked unsafe).
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let made = current_network_namespace();
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("the thread was in this namespace before, with the same rights");
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn inode(fd: &OwnedFd) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn a_thread_visits_a_namespace_and_comes_back() {
        let home = current_network_namespace().unwrap();
        let new = new_network_namespace().unwrap();
        assert_ne!(inode(&home), inode(&new));
        let inside = in_network_namespace(new.as_fd(), || current_network_namespace().unwrap()).unwrap();
        assert_eq!(inode(&inside), inode(&new));
        assert_eq!(inode(&current_network_namespace().unwrap()), inode(&home));
    }

    #[test]
    fn an_answer_is_there_when_send_returns() {
        let socket = Socket::open(Protocol::Route).unwrap();
        let mut buffer = [0; 8192];
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
        // RTM_GETLINK for device 1, loopback: a header of 16 bytes and an ifinfomsg of 16.
        let mut request = [0_u8; 32];
        request[0..4].copy_from_slice(&32_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&18_u16.to_ne_bytes());
        request[6..8].copy_from_slice(&1_u16.to_ne_bytes());
        request[20..24].copy_from_slice(&1_u32.to_ne_bytes());
        socket.send(&request).unwrap();
        assert!(socket.receive(&mut buffer).unwrap().unwrap() > 32);
        socket.send(&request).unwrap();
        assert_eq!(socket.receive(&mut buffer[..40]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
