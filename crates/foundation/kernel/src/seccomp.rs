//! Loading seccomp filters: seccomp(2). Compiling them is not done here.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF: `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SockFilter {
    /// Class, mode and operation.
    pub code: u16,
    /// Instructions skipped when a condition holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl SockFilter {
    /// The instruction as it lies in memory on this machine.
    pub fn to_bytes(self) -> [u8; 8] {
        let (c, k) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [c[0], c[1], self.jt, self.jf, k[0], k[1], k[2], k[3]]
    }

    /// The inverse of [`SockFilter::to_bytes`].
    pub fn from_bytes(b: [u8; 8]) -> SockFilter {
        SockFilter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

/// BPF_MAXINSNS: the longest program that the kernel takes.
pub const MAX_LEN: usize = 4096;

/// SECCOMP_FILTER_FLAG_TSYNC: all threads of the process.
pub const FLAG_TSYNC: u32 = 1;
/// SECCOMP_FILTER_FLAG_LOG: log every action but ALLOW.
pub const FLAG_LOG: u32 = 2;
/// SECCOMP_FILTER_FLAG_SPEC_ALLOW: no speculation mitigation.
pub const FLAG_SPEC_ALLOW: u32 = 4;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER: return a descriptor for notifications.
pub const FLAG_NEW_LISTENER: u32 = 8;
/// SECCOMP_FILTER_FLAG_TSYNC_ESRCH: report a failed TSYNC as ESRCH.
pub const FLAG_TSYNC_ESRCH: u32 = 16;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: a received notification waits only for fatal signals.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_ACTION_AVAIL: libc::c_ulong = 2;

/// Puts `program` over the calling thread, for good. Allocates nothing. With [`FLAG_NEW_LISTENER`] it returns the
/// descriptor of the notifications (close-on-exec).
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN; EINVAL for a malformed program or an unknown flag; EBUSY when a filter
/// with a listener is there already; ESRCH when another thread cannot follow.
pub fn load(program: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    // Without it a positive result could be a thread or a descriptor.
    let flags =
        if flags & FLAG_TSYNC != 0 && flags & FLAG_NEW_LISTENER != 0 { flags | FLAG_TSYNC_ESRCH } else { flags };
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `prog` points at `len` instructions of the kernel's layout (repr(C)) that outlive the call; the kernel
    // copies them and does not write.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const prog) };
    match r {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: with NEW_LISTENER (and never a bare TSYNC, see above) a result of 0 or more is a new descriptor that
        // nobody else owns.
        fd if flags & FLAG_NEW_LISTENER != 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        0 => Ok(None),
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Whether this kernel knows the action `value` (SECCOMP_RET_…).
pub fn knows_action(value: u32) -> bool {
    // SAFETY: the kernel reads four bytes from a live u32.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0 as libc::c_ulong, &raw const value) == 0 }
}

/// Whether this kernel takes `flag` (FLAG_…): with a filter that cannot be read it gets as far as reading it.
pub fn takes_flag(flag: u32) -> bool {
    // WAIT_KILLABLE_RECV is refused without a listener.
    let flags = if flag == FLAG_WAIT_KILLABLE_RECV { flag | FLAG_NEW_LISTENER } else { flag };
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel copies from a null pointer, which it refuses with EFAULT; nothing is loaded.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(flags), none) };
    r == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_memory_layout() {
        let i = SockFilter { code: 0x15, jt: 1, jf: 2, k: 0xdead_beef };
        assert_eq!(SockFilter::from_bytes(i.to_bytes()), i);
        assert_eq!(size_of::<SockFilter>(), size_of::<libc::sock_filter>());
    }

    #[test]
    fn flags_are_known_or_not() {
        for flag in [FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV] {
            assert!(takes_flag(flag), "{flag}");
        }
        assert!(!takes_flag(1 << 30));
    }

    #[test]
    fn a_filter_binds_the_thread_that_loads_it() {
        assert!(knows_action(0x7fff_0000));
        assert!(!knows_action(0x1234_0000));
        std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let k = libc::SYS_getpgrp as u32;
            let program = [
                SockFilter { code: 0x20, jt: 0, jf: 0, k: 0 },
                SockFilter { code: 0x15, jt: 0, jf: 1, k },
                SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | libc::ENOTTY as u32 },
                SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
            ];
            assert!(load(&program, 0).unwrap().is_none());
            // SAFETY: a call without arguments.
            assert_eq!(unsafe { libc::syscall(libc::SYS_getpgrp) }, -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOTTY));
            assert!(load(&[], 0).is_err());
            assert!(load(&program, FLAG_NEW_LISTENER).unwrap().is_some());
        })
        .join()
        .unwrap();
    }
}
