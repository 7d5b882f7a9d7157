//! clone3, pidfds, execution, and the attributes of the calling process.
//!
//! Everything here acts on the calling thread or makes a process; all of it is meant for a process with one thread.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::process::Pid;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;

/// A set of namespaces, as CLONE_NEW* bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None.
    pub const NONE: Self = Namespaces(0);
    /// Mounts.
    pub const MOUNT: Self = Namespaces(libc::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Self = Namespaces(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NETWORK: Self = Namespaces(libc::CLONE_NEWNET as u64);
    /// System V IPC and POSIX queues.
    pub const IPC: Self = Namespaces(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Namespaces(libc::CLONE_NEWUTS as u64);
    /// User ids.
    pub const USER: Self = Namespaces(libc::CLONE_NEWUSER as u64);
    /// Cgroup view.
    pub const CGROUP: Self = Namespaces(libc::CLONE_NEWCGROUP as u64);
    /// Clock offsets.
    pub const TIME: Self = Namespaces(libc::CLONE_NEWTIME as u64);

    /// Both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Namespaces(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Namespaces(self.0 & !other.0)
    }
}

/// linux/sched.h; the libc crate's constant has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone`] made.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// A descriptor of it, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Whether the calling process has exactly one thread (proc(5), /proc/self/task: one directory a thread).
///
/// # Errors
/// As stat(2) of /proc/self/task.
pub fn is_single_threaded() -> io::Result<bool> {
    // A directory has two links of its own and one for each subdirectory: one call instead of a listing.
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink == 3)
}

/// Makes a child in new namespaces (clone3(2)) that runs `child` and must end by executing or exiting.
///
/// The child has a copy of the caller's memory and descriptors. `cgroup`: a cgroup2 directory to be born in
/// (CLONE_INTO_CGROUP). Its exit signal is SIGCHLD.
///
/// # Errors
/// `ErrorKind::Unsupported` if the caller has more than one thread: the copy would hold locks that nobody releases.
/// Otherwise as clone3(2).
pub fn clone(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    if !is_single_threaded()? {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a process with several threads must not clone"));
    }
    clone_again(namespaces, cgroup, Parent::Caller, child)
}

/// Whose child a clone becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller's.
    Caller,
    /// The caller's parent's (CLONE_PARENT): the clone is the caller's sibling.
    Sibling,
}

/// As [`clone`], for a process that came from [`clone`] itself and therefore has one thread; nothing is looked up, so
/// it works where no /proc is mounted.
///
/// # Errors
/// As clone3(2).
#[expect(unreachable_code, reason = "the child's result type has no values")]
pub fn clone_again(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
    child: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    // Who ignores SIGCHLD, as a caller's parent may have it inherited, never learns how its children end (waitid(2)).
    // SAFETY: SIG_DFL is a valid disposition for SIGCHLD; one thread: nobody else changes it meanwhile.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all-zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    match parent {
        Parent::Caller => args.exit_signal = libc::SIGCHLD as u64,
        // A sibling's exit signal is the caller's own; another must not be named.
        Parent::Sibling => args.flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the address space and the same stack pointer (stack is 0), as
    // with fork(2); being single-threaded, no lock of the allocator or of std can be held by another thread in the
    // copy. The kernel writes only to `pidfd`, which outlives the call.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() {
        // A system call filter hides clone3, whose flags it cannot read, and lets clone(2) pass.
        let flags = args.flags | args.exit_signal;
        // SAFETY: as above; the older call stores the pidfd through its third argument.
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    }
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => match child() {},
        pid => {
            let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive id to the parent");
            // SAFETY: the kernel stored a fresh descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

/// The kind of namespace behind a descriptor (ioctl NS_GET_NSTYPE); `None` if it is no namespace at all.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Option<Namespaces> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request takes no argument and touches no memory; other kinds of files refuse it.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    // The kinds are single bits; another driver that has the same number may answer anything.
    (kind > 0 && (kind as u32).is_power_of_two()).then_some(Namespaces(kind as u64))
}

/// Null-terminated arrays for execve(2), made before a clone so that nothing is allocated after it.
#[derive(Debug)]
pub struct ExecArray {
    pointers: Vec<*const libc::c_char>,
    // Keeps what the pointers point to.
    _strings: Vec<CString>,
}

impl ExecArray {
    /// From strings without interior zero bytes.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` if one holds a zero byte.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let strings = strings.into_iter().map(|s| CString::new(s.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(ExecArray { pointers, _strings: strings })
    }
}

/// Replaces the program (execve(2)); returns only on failure.
pub fn execve(path: &CStr, argv: &ExecArray, envp: &ExecArray) -> io::Error {
    // SAFETY: both arrays are null-terminated arrays of pointers to C strings that live as long as the ExecArrays.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the program by the open file (execveat(2) with AT_EMPTY_PATH), with the caller's own environment, whatever is
/// in it; returns only on failure.
pub fn execveat_as_is(file: BorrowedFd<'_>, argv: &ExecArray) -> io::Error {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: as for `execve`; the path is a static empty C string, the descriptor is open, and `environ` is the C
    // library's own null-terminated array, of which one thread changes nothing meanwhile.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            environ,
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Overwrites this process's environment with zeros, where /proc/PID/environ shows it: for a process that others may be
/// able to look into. Whoever reads a variable afterwards finds none.
pub fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is the C library's array, null-terminated, of writable strings that end with a zero; there is one
    // thread, and nothing holds a reference into them across this call: std copies what it reads.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
        environ = std::ptr::null_mut();
    }
}

/// The name under which this program was executed (getauxval(3), AT_EXECFN): `/dev/fd/N` if by a descriptor alone.
pub fn executed_as() -> Option<String> {
    // SAFETY: for AT_EXECFN the value is 0 or a C string at the top of the stack, which stays for the process's life.
    unsafe {
        let name = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Moves the caller into fresh namespaces (unshare(2)). PID and time apply to its next children only.
///
/// # Errors
/// As unshare(2).
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: only CLONE_NEW* bits can be in the set: neither CLONE_FILES nor anything else that std relies on changes.
    check(unsafe { libc::unshare(namespaces.0 as libc::c_int) })
}

/// Joins namespaces (setns(2)) of a process, by pidfd, or one namespace by a descriptor of /proc/PID/ns/KIND.
///
/// # Errors
/// As setns(2).
pub fn setns(fd: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: setns takes a descriptor and bits; it touches no memory.
    check(unsafe { libc::setns(fd.as_raw_fd(), namespaces.0 as libc::c_int) })
}

/// Ends the process at once, without running destructors or exit handlers: for clones.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Sends any signal number, real-time ones included, through a pidfd (pidfd_send_signal(2)).
///
/// # Errors
/// As pidfd_send_signal(2); ESRCH when the process has ended and been waited for.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and makes the kernel fill in its own.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
            as libc::c_int
    })
}

/// All signals to their defaults, none blocked: what a program may expect when it begins.
///
/// Rust ignores SIGPIPE, and what the caller's parent ignored is inherited; neither may reach a container.
pub fn reset_signals() {
    // The kernel's struct sigaction: SIG_DFL, no flags, no restorer, nothing masked. Not through the C library, which
    // keeps two signals to itself, and has posix_spawn(3) ignore them in the programs that it starts: tare is one.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads one sigaction, which is at most as long as `default`; a null old one is allowed.
        // Failure (SIGKILL, SIGSTOP) is harmless and expected.
        unsafe {
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8usize);
        }
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux; a null old set is allowed.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2)).
///
/// # Errors
/// As close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) as libc::c_int })
}

/// Closes every descriptor from `first` up but these, as [`close_all_from`].
///
/// # Errors
/// As close_range(2).
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut from = first;
    // By descriptor, without a sorted copy: nothing is allocated.
    loop {
        let next = keep.iter().map(|k| k.as_raw_fd() as u32).filter(|k| *k >= from).min();
        let to = next.map_or(u32::MAX, |n| n.wrapping_sub(1));
        if next != Some(from) {
            // SAFETY: by this function's contract nobody uses what is closed here.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) as libc::c_int })?;
        }
        match next {
            Some(n) => from = n + 1,
            None => return Ok(()),
        }
    }
}

/// Closes every descriptor from `first` up but one (close_range(2)): for a child about to execute, in which a path such
/// as `/proc/self/fd/7/..` must lead nowhere.
///
/// Nothing else that owns a descriptor in this process may be used or dropped afterwards.
///
/// # Errors
/// As close_range(2).
pub fn close_all_from(first: u32, keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = keep.as_raw_fd() as u32;
    // SAFETY: by this function's contract nobody uses what is closed here.
    let close = |from: u32, to: u32| check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) as libc::c_int });
    if keep > first {
        close(first, keep - 1)?;
    }
    close(first.max(keep + 1), u32::MAX)
}

/// Makes a duplicate of a descriptor that survives execve(2), and says its number.
///
/// # Errors
/// As fcntl(2).
pub fn dup_inheritable(fd: BorrowedFd<'_>) -> io::Result<i32> {
    dup_inheritable_from(fd, 3)
}

/// As [`dup_inheritable`], with the lowest free number that is not below `lowest`.
///
/// # Errors
/// As fcntl(2).
pub fn dup_inheritable_from(fd: BorrowedFd<'_>, lowest: i32) -> io::Result<i32> {
    // SAFETY: F_DUPFD takes a descriptor and a lower bound; the result is deliberately left to the next program.
    let n = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, lowest) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n) }
}

/// Takes over a descriptor that an earlier program of this process left open under a number, and makes it close-on-exec.
///
/// # Errors
/// EBADF if nothing is open under that number.
pub fn adopt(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD touches no memory; it fails with EBADF where nothing is open.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and by this function's contract its number was handed over to be owned here, once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Blocks these signals and gives a descriptor that reports them (signalfd(2)), non-blocking, close-on-exec.
///
/// # Errors
/// As signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is the empty set; sigaddset and sigprocmask only touch `set`; the descriptor that
    // signalfd returns is fresh.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for s in signals {
            libc::sigaddset(&raw mut set, *s);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Reads one pending signal number from a descriptor of [`signal_fd`]; `None` when none is pending.
///
/// # Errors
/// As read(2).
pub fn read_signal(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        // ssi_signo is the first field, a native-endian u32 (signalfd(2)).
        Ok(n) if n == info.len() => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Gives freed memory back to the kernel (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: the C library's allocator is the one in use; trimming touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    fn exit_code(child: &Child) -> Option<i32> {
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        status.exit_status()
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness itself has several threads.
        let e = clone(Namespaces::NONE, None, || exit_now(0)).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn the_first_process_of_a_pid_namespace_is_number_one() {
        // A plain fork leaves one thread, which may clone.
        // SAFETY: the forked child only runs async-signal-safe code and the functions under test, and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let ok = (|| -> io::Result<bool> {
                let ns = Namespaces::PID.with(Namespaces::MOUNT);
                let child = clone(ns, None, || exit_now(rustix::process::getpid().as_raw_nonzero().get()))?;
                Ok(exit_code(&child) == Some(1))
            })();
            exit_now(if matches!(ok, Ok(true)) { 0 } else { 1 });
        }
        let mut status = 0;
        // SAFETY: waits for our own child; `status` outlives the call.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0);
    }
}
