//! Who is at the other end of a local socket.

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
