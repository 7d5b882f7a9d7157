//! What each action does, `errnoRet`, `defaultErrnoRet`, `flags`.

use super::{filter, program};
use crate::lifecycle::nothing_is_left;
use serde_json::{Value, json};
use tare_tests::oci::{Abi, Arg, Case, call_in_thread, case, kernel, one_call};

/// Numbers of x86_64. No runtime has a use for these between the filter and the program.
const ALARM: u64 = 37;
const SYSINFO: u64 = 99;

const SIGSYS: i32 = 31;
const ENOSYS: i32 = 38;

/// Exit code of a program that calls alarm(2), under a filter with this action for it.
#[track_caller]
fn under(action: &str, errno: Option<u32>) -> i32 {
    let mut code = 0;
    case(|c| {
        let mut rule = json!({ "names": ["alarm"], "action": action });
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        filter(c, json!([rule]));
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        code = c.args(&[&call]).run().code;
    });
    code
}

#[test]
fn allow() {
    assert_eq!(under("SCMP_ACT_ALLOW", None), 0);
}

#[test]
fn errno_is_eperm_unless_told() {
    assert_eq!(under("SCMP_ACT_ERRNO", None), 1);
}

#[test]
fn errno_is_what_is_told() {
    assert_eq!(under("SCMP_ACT_ERRNO", Some(28)), 28);
}

#[test]
fn errno_zero_pretends_success() {
    case(|c| {
        filter(c, json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }]));
        assert_eq!(c.sh("mkdir /tmp/d && echo made; test -d /tmp/d || echo not there"), "made\nnot there");
    });
}

#[test]
fn kill_process() {
    assert_eq!(under("SCMP_ACT_KILL_PROCESS", None), 128 + SIGSYS);
}

#[test]
fn kill_process_ends_all_threads() {
    assert_eq!(threads("SCMP_ACT_KILL_PROCESS"), 128 + SIGSYS);
}

#[test]
fn kill_thread_ends_one_thread() {
    assert_eq!(threads("SCMP_ACT_KILL_THREAD"), 7);
}

#[test]
fn kill_is_kill_thread() {
    assert_eq!(threads("SCMP_ACT_KILL"), 7);
}

/// Exit code of a program whose second thread calls what this action is for; its first would exit with 7.
#[track_caller]
fn threads(action: &str) -> i32 {
    let mut code = 0;
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": action }]));
        let call = program(c, "call", &call_in_thread(ALARM, &[Arg::Number(0)], 7));
        code = c.args(&[&call]).run().code;
    });
    code
}

#[test]
fn trap() {
    assert_eq!(under("SCMP_ACT_TRAP", None), 128 + SIGSYS);
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    assert_eq!(under("SCMP_ACT_TRACE", None), ENOSYS);
}

#[test]
fn log_allows() {
    assert_eq!(under("SCMP_ACT_LOG", None), 0);
}

/// All calls of x86_64 but alarm and sysinfo.
const OTHERS: &str = "\
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask \
    rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise \
    shmget shmat shmctl dup dup2 pause nanosleep getitimer setitimer getpid sendfile socket connect accept sendto \
    recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt clone \
    fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync \
    fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink \
    chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage times ptrace getuid syslog getgid setuid \
    setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid \
    setresgid getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo \
    rt_sigsuspend sigaltstack utime mknod uselib personality ustat statfs fstatfs sysfs getpriority setpriority \
    sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max \
    sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root \
    _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff reboot \
    sethostname setdomainname iopl ioperm create_module init_module delete_module get_kernel_syms query_module \
    quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid readahead setxattr lsetxattr fsetxattr \
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time \
    futex sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents io_submit io_cancel \
    get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 \
    set_tid_address restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun \
    timer_delete clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill \
    utimes vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify \
    mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init inotify_add_watch \
    inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat \
    symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list splice tee \
    sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate \
    timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev \
    rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at \
    open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev kcmp \
    finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat \
    userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx \
    io_pgetevents rseq pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen \
    fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise \
    epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self \
    memfd_secret process_mrelease futex_waitv set_mempolicy_home_node";

/// A filter that refuses everything but those.
fn allow_list(c: &mut Case, default: &Value) {
    let names: Vec<&str> = OTHERS.split_whitespace().collect();
    let mut document = default.clone();
    document["syscalls"] = json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }]);
    c.set("/linux/seccomp", document);
}

#[test]
fn what_no_rule_names_gets_the_default() {
    case(|c| {
        allow_list(c, &json!({ "defaultAction": "SCMP_ACT_ERRNO" }));
        let call = program(c, "call", &one_call(Abi::Amd64, SYSINFO, &[Arg::Number(0)]));
        assert_eq!(c.sh(&format!("{call}; echo $?")), "1");
    });
}

#[test]
fn the_default_has_an_error_number_of_its_own() {
    case(|c| {
        allow_list(c, &json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 40 }));
        let call = program(c, "call", &one_call(Abi::Amd64, SYSINFO, &[Arg::Number(0)]));
        assert_eq!(c.sh(&format!("{call}; echo $?")), "40");
    });
}

#[test]
fn the_default_may_kill() {
    case(|c| {
        allow_list(c, &json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" }));
        let call = program(c, "call", &one_call(Abi::Amd64, SYSINFO, &[Arg::Number(0)]));
        assert_eq!(c.sh(&format!("{call}; echo $?")), (128 + SIGSYS).to_string());
    });
}

#[test]
fn a_call_that_the_kernel_has_not_is_enosys_under_an_allow_list() {
    case(|c| {
        allow_list(c, &json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"] }));
        let call = program(c, "call", &one_call(Abi::Amd64, 2000, &[]));
        assert_eq!(c.sh(&format!("{call}; echo $?")), ENOSYS.to_string());
    });
}

#[test]
fn names_that_are_unknown_are_passed_over() {
    case(|c| {
        filter(c, json!([{ "names": ["no_such_call", "alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11 }]));
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        assert_eq!(c.args(&[&call]).run().code, 11);
    });
}

#[test]
fn the_filter_is_there_and_no_new_privileges_is_not() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO" }]));
        for set in ["bounding", "effective", "permitted"] {
            c.set(&format!("/process/capabilities/{set}"), vec!["CAP_SYS_ADMIN"]);
        }
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Seccomp"), "2");
        assert_eq!(kernel::status(pid, "NoNewPrivs"), "0");
        assert_eq!(kernel::status(pid, "Seccomp_filters"), "1");
    });
}

#[test]
fn it_holds_without_any_capability() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12 }]));
        c.set("/process/user", json!({ "uid": 33, "gid": 33 }));
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        assert_eq!(c.args(&[&call]).run().code, 12);
    });
}

#[test]
fn it_holds_together_with_no_new_privileges() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12 }]));
        c.set("/process/noNewPrivileges", true);
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        assert_eq!(c.args(&[&call]).run().code, 12);
    });
}

#[test]
fn without_a_filter_there_is_none() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Seccomp"), "0");
    });
}

#[test]
fn flags_are_taken() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }]));
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        c.args(&[&call]);
        let flag = |name: &str| format!("SECCOMP_FILTER_FLAG_{name}");
        for flags in [vec!["LOG"], vec!["SPEC_ALLOW"], vec!["TSYNC"], vec!["TSYNC", "SPEC_ALLOW", "LOG"]] {
            let flags: Vec<String> = flags.into_iter().map(flag).collect();
            c.set("/linux/seccomp/flags", flags.clone());
            assert_eq!(c.run().code, 13, "{flags:?}");
        }
    });
}

#[test]
fn no_flags_are_fine() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }]));
        c.set("/linux/seccomp/flags", json!([]));
        let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
        assert_eq!(c.args(&[&call]).run().code, 13);
    });
}

#[test]
fn a_flag_that_is_unknown_is_refused() {
    case(|c| {
        filter(c, json!([]));
        c.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_BOGUS"]));
        let said = c.refused();
        assert!(said.contains("SECCOMP_FILTER_FLAG_BOGUS"), "{said}");
        nothing_is_left(c);
    });
}

#[test]
fn an_error_number_for_an_action_without_one_is_refused() {
    case(|c| {
        filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_KILL_PROCESS", "errnoRet": 5 }]));
        c.refused();
    });
}

#[test]
fn children_inherit_it() {
    case(|c| {
        filter(c, json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }]));
        let printed = c.sh("sh -c 'sh -c \"mkdir /tmp/d\"' 2>&1; grep Seccomp: /proc/self/status | tr -d '[:space:]'");
        assert!(printed.contains("No space left") && printed.ends_with("Seccomp:2"), "{printed}");
    });
}
