//! Being asked before system calls of other processes run: seccomp_unotify(2). Only tests need it (feature `notify`).
//!
//! Whoever loads a filter with [`FLAG_NEW_LISTENER`](crate::seccomp::FLAG_NEW_LISTENER) gets a descriptor; each call for
//! which the filter returns [`NOTIFY`] then waits until it is answered here: it goes on, or fails without having run. The
//! filter, and with it the listener, is inherited by children and threads. A thread that is killed while it waits has not
//! made its call.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// SECCOMP_RET_USER_NOTIF: what a filter returns for calls that are to be asked about.
pub const NOTIFY: u32 = 0x7fc0_0000;

// linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp).
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const GO_ON: u32 = 1;

/// `struct seccomp_notif` with its `struct seccomp_data`.
#[derive(Default)]
#[repr(C)]
struct Received {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The thread that makes it; 0 if it is not in the listener's PID namespace.
    pub thread: u32,
    /// The number of the system call.
    pub number: i32,
    /// Its arguments as they lie in registers.
    pub arguments: [u64; 6],
}

/// The descriptor at which calls arrive: readable when one waits, hung up when no process has the filter any more.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// The listener behind a descriptor that [`seccomp::load`](crate::seccomp::load) has returned.
    pub fn new(fd: OwnedFd) -> Self {
        Listener(fd)
    }

    /// The next call; waits for one. `None` if its thread died meanwhile.
    ///
    /// # Errors
    /// As ioctl(2); on a descriptor that is no listener ENOTTY or EINVAL.
    pub fn receive(&self) -> io::Result<Option<Call>> {
        // The kernel refuses a structure that is not zero.
        let mut received = Received::default();
        // SAFETY: the kernel writes one `struct seccomp_notif`, of which `Received` is the layout (80 bytes, which is the
        // size in the request's number), to a live value of it.
        let r = unsafe { libc::ioctl(self.0.as_raw_fd(), RECEIVE, &raw mut received) };
        if r == 0 {
            let Received { id, pid: thread, number, arguments, .. } = received;
            return Ok(Some(Call { id, thread, number, arguments }));
        }
        match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
            e => Err(e),
        }
    }

    /// Lets a call run.
    ///
    /// # Errors
    /// As ioctl(2). A thread that is gone is none.
    pub fn go_on(&self, call: Call) -> io::Result<()> {
        self.answer(Answer { id: call.id, value: 0, error: 0, flags: GO_ON })
    }

    /// Makes a call fail with this error number, without running it.
    ///
    /// # Errors
    /// As ioctl(2). A thread that is gone is none.
    pub fn fail(&self, call: Call, error: i32) -> io::Result<()> {
        self.answer(Answer { id: call.id, value: 0, error: -error.abs(), flags: 0 })
    }

    fn answer(&self, mut answer: Answer) -> io::Result<()> {
        // SAFETY: the kernel reads one `struct seccomp_notif_resp`, of which `Answer` is the layout (24 bytes, as the
        // request's number says), from a live value of it.
        let r = unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, &raw mut answer) };
        match io::Error::last_os_error() {
            _ if r == 0 => Ok(()),
            e if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            e => Err(e),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{FLAG_NEW_LISTENER, SockFilter, load};

    #[test]
    fn calls_go_on_or_fail() {
        let (give, take) = std::sync::mpsc::channel();
        let asked = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let program = [
                SockFilter { code: 0x20, jt: 0, jf: 0, k: 0 },
                SockFilter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_rmdir as u32 },
                SockFilter { code: 0x06, jt: 0, jf: 0, k: NOTIFY },
                SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
            ];
            give.send(load(&program, FLAG_NEW_LISTENER).unwrap().unwrap()).unwrap();
            [(); 2].map(|()| std::fs::remove_dir("/nonexistent").unwrap_err().raw_os_error())
        });
        let listener = Listener::new(take.recv().unwrap());
        let first = listener.receive().unwrap().unwrap();
        assert_eq!(i64::from(first.number), libc::SYS_rmdir);
        listener.fail(first, libc::ENOSPC).unwrap();
        let second = listener.receive().unwrap().unwrap();
        listener.go_on(second).unwrap();
        assert_eq!(asked.join().unwrap(), [Some(libc::ENOSPC), Some(libc::ENOENT)]);
        listener.go_on(second).unwrap();
    }
}
