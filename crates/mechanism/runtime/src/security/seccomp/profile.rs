//! The default profile: which system calls a container may make, and why the others not.
//!
//! An allow-list by purpose. Some groups come with a capability: whoever was given the capability was meant to use those
//! calls, and without it the kernel would refuse most of them anyway, but after running much more code. What is not
//! allowed gives EPERM; a call newer than the table gives ENOSYS, so that libc falls back (the compiler's rule).
//!
//! Every row of the table of numbers is in exactly one place here: allowed, with a capability, decided by arguments, or
//! refused with a reason. A test holds that, and another explains each difference from docker's and podman's profiles.

use super::arch::Arch;
use tare_kernel::capability::Set;
use tare_model::runtime_spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// Calls that every container may make: purpose, names.
pub(super) const ALLOWED: &[(&str, &str)] = &[
    (
        "open, read and write files",
        "open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev preadv2 \
         pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 flock ioctl truncate truncate64 ftruncate ftruncate64 \
         fallocate fadvise64 fadvise64_64 arm_fadvise64_64 readahead cachestat fsync fdatasync sync syncfs \
         sync_file_range sync_file_range2 arm_sync_file_range umask name_to_handle_at",
    ),
    (
        "move data between descriptors without copying it through the program",
        "sendfile sendfile64 copy_file_range splice tee vmsplice pipe pipe2",
    ),
    (
        "walk and change the directory tree; what may be changed is decided by file permissions",
        "getdents getdents64 readdir chdir fchdir getcwd mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat \
         unlink unlinkat rename renameat renameat2 readlink readlinkat",
    ),
    (
        "look at files and set their owner, mode, times and attributes",
        "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 access \
         faccessat faccessat2 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 \
         utime utimes futimesat utimensat utimensat_time64 getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr \
         fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr \
         removexattrat file_getattr file_setattr",
    ),
    (
        "be told of changes to files; list the mounts of the own namespace",
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark listmount statmount",
    ),
    (
        "manage the own memory",
        "mmap mmap2 munmap mremap remap_file_pages mprotect pkey_alloc pkey_free pkey_mprotect madvise brk mincore msync \
         mlock mlock2 mlockall munlock munlockall memfd_create memfd_secret membarrier mseal map_shadow_stack \
         process_mrelease",
    ),
    (
        "registers and caches that the architecture keeps in the kernel",
        "arch_prctl modify_ldt set_thread_area get_thread_area set_tls get_tls cacheflush breakpoint uretprobe",
    ),
    (
        "make, run and wait for processes and threads; clone itself is decided by its flags",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid set_tid_address set_robust_list get_robust_list \
         rseq restart_syscall prctl pidfd_open pidfd_send_signal getpid getppid gettid getpgid getpgrp setpgid getsid \
         setsid",
    ),
    ("wait for one another in memory", "futex futex_time64 futex_wait futex_wake futex_waitv futex_requeue"),
    (
        "debug and trace the container's own processes; since Linux 4.8 seccomp is checked after the tracer has changed \
         the call, so a filter cannot be left this way",
        "ptrace process_vm_readv process_vm_writev",
    ),
    (
        "signals",
        "kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
         rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 pause signal sigaction \
         sigpending sigprocmask sigreturn sigsuspend",
    ),
    (
        "read and change the own user, groups and capabilities, as far as capabilities allow; give rights up",
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid \
         getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 \
         setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget \
         capset seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    (
        "scheduling, priorities and resource limits, within what the container's limits leave",
        "sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
         sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
         sched_setscheduler sched_yield nice getpriority setpriority ioprio_get ioprio_set getrlimit ugetrlimit setrlimit \
         prlimit64 getrusage times getcpu",
    ),
    (
        "read clocks, sleep, timers; adjtimex only reads without CAP_SYS_TIME",
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep \
         clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer timer_create \
         timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
         timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    (
        "wait for many descriptors; asynchronous I/O of the old kind",
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl \
         epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 io_setup io_destroy io_submit \
         io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    ),
    (
        "System V and POSIX communication, within the IPC namespace",
        "ipc semget semop semctl semtimedop semtimedop_time64 shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl \
         mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive \
         mq_timedreceive_time64",
    ),
    (
        "sockets, within the network namespace; making one is decided by its family. socketcall, through which 32-bit \
         libc still makes them, hides the family behind a pointer that no filter can read",
        "socketpair bind listen accept accept4 connect getsockname getpeername getsockopt setsockopt send sendto sendmsg \
         sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 shutdown socketcall",
    ),
    ("what machine this is; random numbers", "uname sysinfo getrandom"),
];

/// Calls that come with a capability: any of these numbers, purpose, names.
pub(super) const WITH_CAPABILITY: &[(&[u8], &str, &str)] = &[
    (
        &[ADMIN],
        "mount, change namespaces and host names: what CAP_SYS_ADMIN is given for",
        "mount umount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick setns \
         unshare sethostname setdomainname quotactl quotactl_fd fanotify_init lookup_dcookie lsm_get_self_attr \
         lsm_set_self_attr lsm_list_modules",
    ),
    (&[ADMIN, 39], "load BPF programs (CAP_BPF)", "bpf"),
    (&[ADMIN, 38], "performance counters (CAP_PERFMON)", "perf_event_open"),
    (&[ADMIN, 34], "read and clear the kernel's log (CAP_SYSLOG), which tells of the whole host", "syslog"),
    (&[2], "open files by handle, past the mounts (CAP_DAC_READ_SEARCH)", "open_by_handle_at"),
    (&[22], "restart the host (CAP_SYS_BOOT)", "reboot"),
    (&[18], "change the root directory (CAP_SYS_CHROOT)", "chroot"),
    (&[16], "load and remove kernel modules (CAP_SYS_MODULE)", "init_module finit_module delete_module"),
    (&[20], "process accounting of the whole host (CAP_SYS_PACCT)", "acct"),
    (&[19], "take descriptors from and advise other processes (CAP_SYS_PTRACE)", "kcmp pidfd_getfd process_madvise"),
    (&[17], "I/O ports (CAP_SYS_RAWIO)", "iopl ioperm"),
    (&[25], "set the clock, which is the host's (CAP_SYS_TIME)", "settimeofday stime clock_settime clock_settime64"),
    (&[26], "hang up the terminal (CAP_SYS_TTY_CONFIG)", "vhangup"),
    (
        &[23],
        "place memory on nodes (CAP_SYS_NICE): it shows and burdens the host's nodes",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
];

/// Calls that are always refused: reason, names.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "keyrings belong to users, not to containers: a key of the host's user of the same number would be reachable",
        "add_key request_key keyctl",
    ),
    (
        "io_uring makes calls that no filter sees, and its large code has a history of holes",
        "io_uring_setup io_uring_enter io_uring_register",
    ),
    ("stopping the kernel at a page fault makes its races easy to win", "userfaultfd"),
    ("another kernel would replace the host's", "kexec_load kexec_file_load"),
    ("swap is the host's", "swapon swapoff"),
    ("pages of other processes would be moved between the host's nodes", "migrate_pages move_pages"),
    ("the root of the mount namespace is set by the runtime and stays", "pivot_root"),
    ("16-bit and 26-bit modes: much kernel code that nobody needs", "vm86 vm86old usr26 usr32"),
    ("PCI configuration space is hardware of the host", "pciconfig_iobase pciconfig_read pciconfig_write"),
    (
        "removed from Linux or never in it, or replaced so long ago that no libc uses it: only an attacker would call it",
        "_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx nfsservctl \
         oldfstat oldlstat oldolduname oldstat olduname prof profil putpmsg query_module security sgetmask ssetmask stty \
         sysfs tuxcall ulimit uselib ustat vserver",
    ),
];

#[cfg(test)]
/// Calls that their arguments decide, see [`by_arguments`].
pub(super) const BY_ARGUMENTS: &[&str] = &["clone", "clone3", "personality", "socket"];

const ADMIN: u8 = 21;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Socket families that a container may open, the usual ones first (the filter compares in this order).
///
/// Refused, with the reason: VSOCK (40) talks to the hypervisor and past every network namespace; ALG (38) is the
/// kernel's crypto code for user space, which programs have libraries for and attackers have used; the rest (among them
/// AX25, IPX, APPLETALK, NETROM, ROSE, X25, ATM, DECNET, ECONET, IRDA, RDS, LLC, PHONET, CAIF, RXRPC, BLUETOOTH, NFC)
/// are protocols that are loaded on demand, have had holes for want of users, and in part do not know namespaces.
pub(super) const FAMILIES: &[(u64, &str)] = &[
    (1, "UNIX"),
    (2, "INET"),
    (10, "INET6"),
    (16, "NETLINK: addresses, routes, firewall of the own namespace"),
    (17, "PACKET: needs CAP_NET_RAW; DHCP clients, tcpdump"),
    (15, "KEY: IPsec of the own namespace"),
    (24, "PPPOX: tunnels"),
    (28, "MPLS"),
    (29, "CAN: a vcan or a moved-in device"),
    (30, "TIPC: cluster messages"),
    (41, "KCM: messages over TCP"),
    (43, "SMC: TCP over shared memory"),
    (44, "XDP: needs CAP_NET_RAW"),
];

/// Values of personality(2): Linux, 32-bit uname, both with UNAME26, and the query. Left out is above all
/// ADDR_NO_RANDOMIZE, which makes setuid programs easier to attack, and READ_IMPLIES_EXEC.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// A call that the default profile refuses to every container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The call.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// What the default profile refuses whatever the capabilities, with reasons.
pub fn refusals() -> impl Iterator<Item = Refusal> {
    REFUSED.iter().flat_map(|&(reason, names)| names.split_whitespace().map(move |name| Refusal { name, reason }))
}

/// The profile of a container whose bounding set is `capabilities`, for this machine's architectures.
pub fn default_profile(capabilities: Set) -> LinuxSeccomp {
    let own = |names: &str| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut syscalls: Vec<LinuxSyscall> = ALLOWED.iter().map(|(_, names)| allow(own(names), Vec::new())).collect();
    for (gates, _, names) in WITH_CAPABILITY {
        if gates.iter().any(|&c| capabilities.has(c)) {
            syscalls.push(allow(own(names), Vec::new()));
        }
    }
    syscalls.extend(by_arguments(capabilities));
    LinuxSeccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(1),
        architectures: Arch::RUNNABLE.iter().map(|a| a.name().to_owned()).collect(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn by_arguments(capabilities: Set) -> Vec<LinuxSyscall> {
    let equal = |value| LinuxSeccompArg { index: 0, value, value_two: 0, op: "SCMP_CMP_EQ".into() };
    let mut rules: Vec<_> = FAMILIES.iter().map(|&(f, _)| allow(vec!["socket".into()], vec![equal(f)])).collect();
    rules.extend(PERSONALITIES.iter().map(|&p| allow(vec!["personality".into()], vec![equal(p)])));
    if capabilities.has(ADMIN) {
        rules.push(allow(vec!["clone".into(), "clone3".into()], Vec::new()));
        return rules;
    }
    // New namespaces, of users above all, open kernel code that is otherwise root's.
    rules.push(allow(
        vec!["clone".into()],
        vec![LinuxSeccompArg { index: 0, value: CLONE_NAMESPACES, value_two: 0, op: "SCMP_CMP_MASKED_EQ".into() }],
    ));
    // clone3 has its flags behind a pointer; ENOSYS makes libc take clone.
    rules.push(LinuxSyscall {
        names: vec!["clone3".into()],
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(38),
        args: Vec::new(),
    });
    rules
}

fn allow(names: Vec<String>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    LinuxSyscall { names, action: "SCMP_ACT_ALLOW".into(), errno_ret: None, args }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
