//! The profile against the table, docker's profile and podman's.

use super::super::compile::{compile, tests::Call, tests::run};
use super::super::syscalls::{NO, TABLE};
use super::*;
use crate::security::capability::DEFAULT;
use std::collections::{BTreeMap, BTreeSet};

const ALL: Set = Set(u64::MAX >> 23);

fn words<'a>(lists: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    lists.into_iter().flat_map(str::split_whitespace).collect()
}

#[test]
fn the_table_is_sorted() {
    assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
}

#[test]
fn every_call_stands_in_exactly_one_place() {
    let mut count: BTreeMap<&str, usize> = TABLE.iter().map(|(n, _)| (*n, 0)).collect();
    let lists =
        ALLOWED.iter().map(|a| a.1).chain(WITH_CAPABILITY.iter().map(|w| w.2)).chain(REFUSED.iter().map(|r| r.1));
    for name in lists.flat_map(str::split_whitespace).chain(BY_ARGUMENTS.iter().copied()) {
        *count.get_mut(name).unwrap_or_else(|| panic!("{name} is not in the table")) += 1;
    }
    let wrong: Vec<_> = count.iter().filter(|(_, n)| **n != 1).collect();
    assert!(wrong.is_empty(), "named not once: {wrong:?}");
    assert_eq!(refusals().count(), words(REFUSED.iter().map(|r| r.1)).len());
}

/// The names that our profile does not allow at all on x86_64 and its 32-bit sisters.
fn refused_by_ours(capabilities: Set) -> BTreeSet<&'static str> {
    let program = compile(&default_profile(capabilities)).unwrap().program;
    let allowed = |arch: u32, number: u32| {
        // Any first argument that lets the call through counts as allowed.
        [0, 1, 2, 8]
            .into_iter()
            .any(|a| run(&program, &Call { number, arch, args: [a, 0, 0, 0, 0, 0] }).0 == 0x7fff_0000)
    };
    TABLE
        .iter()
        .filter(|(_, n)| n[0] != NO || n[1] != NO)
        .filter(|(_, n)| ![(0xc000_003e, n[0]), (0x4000_0003, n[1])].into_iter().any(|(a, n)| n != NO && allowed(a, n)))
        .map(|(name, _)| *name)
        .collect()
}

/// What docker's profile (github.com/moby/profiles, 2026) allows nobody, or not with docker's default capabilities.
const DOCKER_REFUSES: &str = "_sysctl acct add_key afs_syscall bdflush bpf break clone3 create_module delete_module \
    fanotify_init file_getattr file_setattr finit_module fsconfig fsmount fsopen fspick ftime get_kernel_syms get_mempolicy \
    getpmsg gtty idle init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load \
    kexec_load keyctl lock lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind migrate_pages mount \
    mount_setattr move_mount move_pages mpx nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname \
    open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root process_madvise prof profil putpmsg \
    query_module quotactl quotactl_fd readdir reboot request_key security set_mempolicy set_mempolicy_home_node \
    setdomainname sethostname setns settimeofday sgetmask sigaction signal sigpending sigsuspend ssetmask stime stty \
    swapoff swapon sysfs syslog tuxcall ulimit umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old \
    vserver clock_settime clock_settime64";

/// Names on which we differ from docker with default capabilities, each with the reason.
const NOT_AS_DOCKER: &[(&str, &str)] = &[
    ("file_getattr file_setattr", "the ioctls of the same effect are allowed by both; permissions decide"),
    ("nice readdir sigaction signal sigpending sigsuspend", "old 32-bit spellings of calls that docker allows"),
];

/// Names on which we differ from podman with default capabilities, each with the reason.
const NOT_AS_PODMAN: &[(&str, &str)] = &[
    (
        "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree setns umount umount2 unshare clone3",
        "podman is made for user namespaces and leaves these to capabilities; docker and we close them, since they open \
         kernel code to attack",
    ),
    ("keyctl", "keyrings have no namespace; docker refuses it too"),
    ("reboot", "docker ties it to CAP_SYS_BOOT, so do we"),
    ("pivot_root pidfd_getfd", "not needed in a container without capabilities; docker refuses them too"),
    ("get_mempolicy mbind set_mempolicy", "tied to CAP_SYS_NICE, as docker does"),
    ("syslog", "the kernel log is the host's; docker ties it to CAP_SYSLOG"),
    ("io_pgetevents nice vmsplice", "harmless; docker allows the first and the last, nice is setpriority"),
    (
        "cachestat fchmodat2 file_getattr file_setattr futex_requeue futex_wait futex_waitv futex_wake getxattrat \
         io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal removexattrat setxattrat statmount uretprobe",
        "newer than podman's list, where they give ENOSYS; docker allows them",
    ),
];

fn difference<'a>(a: &BTreeSet<&'a str>, b: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    a.symmetric_difference(b).copied().collect()
}

#[test]
fn differences_from_docker_are_explained() {
    let got = difference(&refused_by_ours(DEFAULT), &refusable(&words([DOCKER_REFUSES])));
    assert_eq!(got, refusable(&words(NOT_AS_DOCKER.iter().map(|d| d.0))), "{NOT_AS_DOCKER:#?}");
}

/// Names with a number on x86.
fn refusable<'a>(names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let row = |n: &str| TABLE.iter().find(|t| t.0 == n).map(|t| t.1);
    names.iter().copied().filter(|n| row(n).is_some_and(|r| r[0] != NO || r[1] != NO)).collect()
}

/// What podman's profile does not allow with the same capabilities: seccomp.json of Debian 12's package
/// golang-github-containers-common 0.50.1+ds1-4, rules for amd64, reduced to names that x86 has.
const PODMAN_REFUSES: &str = "_sysctl acct add_key afs_syscall bdflush bpf break cachestat clock_settime clock_settime64 create_module \
    delete_module fanotify_init fchmodat2 file_getattr file_setattr finit_module ftime futex_requeue futex_wait \
    futex_waitv futex_wake get_kernel_syms getpmsg getxattrat gtty idle init_module io_pgetevents \
    io_pgetevents_time64 io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load \
    kexec_load listmount listxattrat lock lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr \
    map_shadow_stack migrate_pages move_pages mpx mseal nfsservctl nice oldfstat oldlstat oldolduname oldstat \
    olduname open_by_handle_at open_tree_attr perf_event_open process_madvise prof profil putpmsg query_module \
    quotactl quotactl_fd removexattrat request_key security set_mempolicy_home_node setdomainname sethostname \
    settimeofday setxattrat sgetmask ssetmask statmount stime stty swapoff swapon sysfs tuxcall ulimit uretprobe \
    uselib userfaultfd ustat vhangup vm86 vm86old vmsplice vserver";

#[test]
fn differences_from_podman_are_explained() {
    let got = difference(&refused_by_ours(DEFAULT), &words([PODMAN_REFUSES]));
    assert_eq!(got, refusable(&words(NOT_AS_PODMAN.iter().map(|d| d.0))), "{NOT_AS_PODMAN:#?}");
}

#[test]
fn capabilities_open_their_groups() {
    assert!(refused_by_ours(ALL).is_superset(&refusable(&words(REFUSED.iter().map(|r| r.1)))));
    assert_eq!(refused_by_ours(ALL), refusable(&words(REFUSED.iter().map(|r| r.1))));
    let with_ptrace = refused_by_ours(DEFAULT.or(Set::of(&[19])));
    assert!(!with_ptrace.contains("kcmp") && with_ptrace.contains("bpf"));
    assert!(!refused_by_ours(DEFAULT.or(Set::of(&[39]))).contains("bpf"));
}

/// What is decided by arguments, on the native architecture with default capabilities.
fn verdict(name: &str, args: [u64; 3]) -> u32 {
    let program = compile(&default_profile(DEFAULT)).unwrap().program;
    let number = TABLE.iter().find(|t| t.0 == name).unwrap().1[Arch::NATIVE.column()];
    let args = [args[0], args[1], args[2], 0, 0, 0];
    run(&program, &Call { number, arch: Arch::NATIVE.audit(), args }).0
}

#[test]
fn arguments_decide() {
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0001;
    let thread = 0x3d_0f00;
    assert_eq!(verdict("clone", [thread, 0, 0]), ALLOW);
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        assert_eq!(verdict("clone", [thread | 1 << bit, 0, 0]), REFUSE, "flag {bit}");
    }
    assert_eq!(verdict("clone3", [0; 3]), 0x0005_0026);
    for (family, _) in FAMILIES {
        assert_eq!(verdict("socket", [*family, 1, 0]), ALLOW);
    }
    for family in [0, 3, 38, 40, 46, 1 << 32 | 40] {
        assert_eq!(verdict("socket", [family, 1, 0]), REFUSE, "family {family}");
    }
    assert_eq!(verdict("personality", [0xffff_ffff, 0, 0]), ALLOW);
    assert_eq!(verdict("personality", [0x4_0000, 0, 0]), REFUSE);
}

#[test]
fn newer_calls_are_enosys_and_old_ones_eperm() {
    let program = compile(&default_profile(DEFAULT)).unwrap().program;
    let at = |number| run(&program, &Call { number, arch: Arch::NATIVE.audit(), args: [0; 6] }).0;
    assert_eq!(at(1000), 0x0005_0026);
    assert_eq!(verdict("keyctl", [0; 3]), 0x0005_0001);
}
