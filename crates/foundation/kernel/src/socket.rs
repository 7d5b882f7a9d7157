//! Local sockets: who is at the other end; and what any socket is good for, the switch of a network interface.

use crate::seccomp::SockFilter;
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

/// Puts a classic BPF program before a socket's receive queue (SO_ATTACH_FILTER): what it returns is how many bytes of
/// a packet are kept, 0 drops it. Where the packet begins depends on the socket; see socket(7).
///
/// # Errors
/// As setsockopt(2); EINVAL for a program that the kernel does not accept.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[SockFilter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` names `len` instructions of the layout of struct sock_filter, which the kernel copies and only
    // reads; both outlive the call.
    let r = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option whose value is `value` in its full length; the kernel reads it first and then overwrites it. Returns
/// how many bytes are valid. For options that the caller knows to be plain bytes.
///
/// # Errors
/// As getsockopt(2).
pub fn bytes_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut size = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads and writes at most `size` bytes of `value`, which is exclusively borrowed and as long.
    let r = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut size) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(size as usize) }
}
