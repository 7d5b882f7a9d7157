//! Local sockets: who is at the other end; and what any socket is good for, the switch of a network interface.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// The user id of whoever connected, or made the pair (SO_PEERCRED), as the caller's user namespace sees it.
///
/// rustix has the same, but takes for granted that the peer has a process id here: from another PID namespace it is 0.
///
/// # Errors
/// As getsockopt(2).
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is what `credentials` has; both outlive the call.
    let r = unsafe {
        let value = (&raw mut credentials).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut size)
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(credentials.uid) }
}

/// Switches an interface of the caller's network namespace on (netdevice(7), SIOCSIFFLAGS).
///
/// # Errors
/// As socket(2) and ioctl(2); ENODEV if there is no such interface. A name of more than 15 bytes is cut off.
pub fn interface_up(name: &str) -> io::Result<()> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let kind = rustix::net::SocketType::DGRAM;
    let socket = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, kind, flags, None)?;
    // SAFETY: ifreq is a plain struct of numbers and bytes, for which all-zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads `request`, which outlives the call.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw mut request) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
