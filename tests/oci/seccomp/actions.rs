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

/// A filter that refuses everything but what busybox needs.
fn allow_list(c: &mut Case, default: &Value) {
    let needed = "access arch_prctl brk capget capset chdir clone clone3 close close_range connect dup dup2 dup3 execve \
                  execveat exit exit_group faccessat faccessat2 fchdir fchown fcntl fstat fstatfs futex getcwd getdents \
                  getdents64 getegid geteuid getgid getgroups getpgrp getpid alarm getrandom gettid getuid ioctl lseek \
                  lstat madvise mmap mprotect mremap munmap newfstatat open openat openat2 pipe pipe2 poll ppoll prctl \
                  pread64 prlimit64 read readlink readlinkat readv recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn \
                  sched_getaffinity sched_yield seccomp select sendmsg sendto set_robust_list set_tid_address setgid \
                  setgroups setpgid setresgid setresuid setsid setuid sigaltstack socket socketpair stat statfs statx \
                  tgkill time umask uname unlink vfork wait4 write writev epoll_create1 epoll_ctl epoll_pwait epoll_wait \
                  eventfd2 nanosleep clock_gettime clock_nanosleep getrlimit setrlimit kill fchmod mount setns unshare \
                  accept4 accept recvfrom shutdown pidfd_open waitid chmod fchmodat getsockopt getsockname keyctl";
    let names: Vec<&str> = needed.split_whitespace().collect();
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
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"]),
        json!([]),
    ] {
        case(|c| {
            filter(c, json!([{ "names": ["alarm"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }]));
            c.set("/linux/seccomp/flags", flags.clone());
            let call = program(c, "call", &one_call(Abi::Amd64, ALARM, &[Arg::Number(0)]));
            assert_eq!(c.args(&[&call]).run().code, 13, "{flags}");
        });
    }
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
