//! User namespaces without a process in them, made for their id maps: what id-mapped mounts take.

use crate::process;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::io;

/// Makes a user namespace with these maps and lets go of the process that made it; it lives as long as the descriptor.
///
/// The maps are in the format of user_namespaces(7): lines of `inside outside count`. Needs CAP_SETUID and CAP_SETGID
/// where they name more than the caller's own id. Any thread may call this.
///
/// # Errors
/// As clone3(2) and write(2) to /proc/PID/uid_map: EINVAL for overlapping or empty maps, EPERM for ids that the caller
/// may not map.
pub fn with_maps(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all-zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: without CLONE_VM the child has a copy of this memory and makes no use of it but for its own stack: it
    // only calls the kernel, so that locks which other threads of ours held at the copy do not matter. The kernel
    // writes only to `pidfd`, which outlives the call. No exit signal: nobody else's SIGCHLD is disturbed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        loop {
            // SAFETY: takes no argument, touches no memory. It is ended from outside, or with its parent: the signal
            // is set in it before its parent can have written a map, and a lost race leaves a sleeper, not a danger.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                libc::syscall(libc::SYS_pause);
            }
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel stored a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let namespace = write_maps(pid, uid_map, gid_map);
    let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    loop {
        // SAFETY: all-zero is a valid siginfo_t; it outlives the call that fills it.
        let waited = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let id = pidfd.as_raw_fd() as libc::id_t;
            libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::__WALL)
        };
        if waited == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    namespace
}

fn write_maps(pid: i64, uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    for (name, map) in [("uid_map", uid_map), ("gid_map", gid_map)] {
        let file = openat(CWD, format!("/proc/{pid}/{name}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        // One write: the kernel takes a map once, as a whole.
        rustix::io::write(&file, map.as_bytes())?;
    }
    Ok(openat(CWD, format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_namespace_outlives_its_maker() {
        let made = with_maps("0 100000 10", "0 200000 10").unwrap();
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", made.as_raw_fd())).unwrap().ino();
        assert_ne!(inode, std::fs::metadata("/proc/self/ns/user").unwrap().ino());
        assert!(with_maps("0 100000 10\n5 1 3", "0 0 1").is_err(), "overlapping maps");
    }
}
