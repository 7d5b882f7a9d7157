//! When, where and how the calling thread runs: scheduler, I/O priority, CPUs, memory nodes, execution domain.
//!
//! Sets of CPUs and nodes are bit masks in words of 64: bit n of word w is number 64 * w + n.

use std::io;

/// What sched_setattr(2) sets. Which members matter depends on the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduler {
    /// SCHED_… of linux/sched.h.
    pub policy: u32,
    /// SCHED_FLAG_….
    pub flags: u64,
    /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99, for SCHED_FIFO and SCHED_RR; 0 otherwise.
    pub priority: u32,
    /// Nanoseconds, SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, second version.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// Sets policy and priority of the calling thread (sched_setattr(2)).
///
/// # Errors
/// As sched_setattr(2): EPERM without CAP_SYS_NICE where the priority rises, EINVAL for a policy or combination that
/// the kernel does not know, EBUSY when a deadline cannot be promised.
pub fn set_scheduler(s: &Scheduler) -> io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: s.policy,
        flags: s.flags,
        nice: s.nice,
        priority: s.priority,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a live struct of its own layout; it writes there only when it refuses
    // the size (E2BIG), and then the known size into the first member.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, (&raw const attributes).cast_mut(), 0) })
}

/// Sets the I/O priority of the calling thread (ioprio_set(2)): class in the bits above 13, level 0 to 7 below.
///
/// # Errors
/// As ioprio_set(2): EPERM for the real-time class without CAP_SYS_ADMIN or CAP_SYS_NICE, EINVAL for unknown values.
pub fn set_io_priority(value: u16) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: three numbers; no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_int::from(value)) })
}

/// Binds the calling thread to CPUs (sched_setaffinity(2)).
///
/// # Errors
/// EINVAL when none of them is online and in the cpuset.
pub fn set_affinity(cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads the given number of bytes from a live slice.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) })
}

/// Sets the memory policy of the calling thread (set_mempolicy(2)). `mode`: MPOL_… with MPOL_F_…; an empty `nodes` is
/// the empty set.
///
/// # Errors
/// As set_mempolicy(2): EINVAL for nodes that are not there or a mode that does not take them, ENOSYS without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit fewer than it is told, and reads whole words.
    let (pointer, bits) = match nodes.len() {
        0 => (std::ptr::null(), 0),
        n => (nodes.as_ptr(), n * 64 + 1),
    };
    // SAFETY: the kernel reads `bits` - 1 bits, rounded up to words, from a live slice, or nothing from a null pointer.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, pointer, bits) })
}

/// Sets the execution domain (personality(2)), which execve(2) keeps.
///
/// # Errors
/// As personality(2).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: a number; no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of this belongs to the thread, so each test changes one of its own.
    fn in_thread(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().unwrap();
    }

    fn stat(number: usize) -> i64 {
        let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        text.rsplit_once(')').unwrap().1.split_whitespace().nth(number - 3).unwrap().parse().unwrap()
    }

    #[test]
    fn the_scheduler_is_the_kernels_word() {
        in_thread(|| {
            set_scheduler(&Scheduler { policy: 3, nice: 7, ..Default::default() }).unwrap();
            assert_eq!((stat(41), stat(19)), (3, 7), "SCHED_BATCH, nice 7");
            set_scheduler(&Scheduler { policy: 5, ..Default::default() }).unwrap();
            assert_eq!(stat(41), 5, "SCHED_IDLE");
            assert!(set_scheduler(&Scheduler { policy: 77, ..Default::default() }).is_err());
        });
    }

    #[test]
    fn io_priority_is_read_back() {
        in_thread(|| {
            set_io_priority(2 << 13 | 6).unwrap();
            // SAFETY: two numbers; no memory is touched.
            let got = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) };
            assert_eq!(got, 2 << 13 | 6);
            assert!(set_io_priority(7 << 13).is_err());
        });
    }

    #[test]
    fn cpus_and_nodes_are_bound() {
        in_thread(|| {
            set_affinity(&[1]).unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
            assert!(set_affinity(&[0, 0, 1 << 40]).is_err());
            match set_memory_policy(2, &[1]) {
                Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {}
                other => {
                    other.unwrap();
                    let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
                    assert!(maps.contains("bind:0"), "{maps}");
                    assert!(set_memory_policy(2, &[0, 1 << 63]).is_err());
                    set_memory_policy(0, &[]).unwrap();
                }
            }
        });
    }

    #[test]
    fn a_32_bit_domain_is_seen_in_the_machines_name() {
        in_thread(|| {
            set_personality(8).unwrap();
            let machine = rustix::system::uname().machine().to_str().unwrap().to_owned();
            assert!(!machine.ends_with("64"), "{machine}");
        });
    }
}
