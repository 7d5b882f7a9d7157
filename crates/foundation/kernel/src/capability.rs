//! The five capability sets of the calling thread: capabilities(7).
//!
//! Every function is one or a few system calls without allocation, so that a child may call them between clone and exec.
//! Their order there is fixed by the kernel:
//!
//! 1. [`drop_bounding`] while CAP_SETPCAP is still effective;
//! 2. [`keep_over_setuid`], or leaving user 0 empties the permitted set;
//! 3. setgroups, setresgid, setresuid (need CAP_SETGID and CAP_SETUID);
//! 4. [`set`], since the change of user has emptied the effective set;
//! 5. [`raise_ambient`], which takes only what is both permitted and inheritable.

use rustix::thread::{self, CapabilitySet};
use std::io;

/// A set of capabilities as a mask: bit n is capability number n of linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Set(pub u64);

impl Set {
    /// No capability.
    pub const EMPTY: Set = Set(0);

    /// The set of exactly these numbers (below 64).
    pub const fn of(numbers: &[u8]) -> Set {
        let (mut bits, mut i) = (0, 0);
        while i < numbers.len() {
            bits |= 1 << numbers[i];
            i += 1;
        }
        Set(bits)
    }

    /// Whether capability number `n` is in it.
    pub const fn has(self, n: u8) -> bool {
        n < 64 && self.0 >> n & 1 == 1
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in it, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |&n| self.has(n))
    }
}

/// The sets that capget(2) returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// Checked by the kernel.
    pub effective: Set,
    /// The most that `effective` can become.
    pub permitted: Set,
    /// Kept over the execve of a file with inheritable bits.
    pub inheritable: Set,
}

/// The highest capability number that this kernel knows.
///
/// Asked of prctl(2), not of /proc/sys/kernel/cap_last_cap: the answer is the same, and /proc may not be mounted.
pub fn last() -> u8 {
    (0..64)
        .rev()
        .find(|&n| thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << n)).is_ok())
        .unwrap_or(0)
}

/// Every capability that this kernel knows.
pub fn known() -> Set {
    Set(u64::MAX >> (63 - last()))
}

/// The calling thread's effective, permitted and inheritable sets.
///
/// # Errors
/// None on a kernel of today.
pub fn get() -> io::Result<Sets> {
    let s = thread::capabilities(None)?;
    Ok(Sets {
        effective: Set(s.effective.bits()),
        permitted: Set(s.permitted.bits()),
        inheritable: Set(s.inheritable.bits()),
    })
}

/// Sets the calling thread's effective, permitted and inheritable sets: capset(2).
///
/// # Errors
/// EPERM when `permitted` would grow or `inheritable` leaves the bounding set.
pub fn set(effective: Set, permitted: Set, inheritable: Set) -> io::Result<()> {
    let bits = |s: Set| CapabilitySet::from_bits_retain(s.0);
    thread::set_capabilities(
        None,
        thread::CapabilitySets {
            effective: bits(effective),
            permitted: bits(permitted),
            inheritable: bits(inheritable),
        },
    )?;
    Ok(())
}

/// The bounding set of the calling thread.
pub fn bounding() -> Set {
    let has =
        |n: &u8| matches!(thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << n)), Ok(true));
    Set((0..64).filter(has).fold(0, |bits, n| bits | 1 << n))
}

/// Drops from the bounding set everything that is not in `keep`. What is not there already needs no privilege.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn drop_bounding(keep: &Set) -> io::Result<()> {
    for n in (0..64).filter(|&n| !keep.has(n)) {
        let one = CapabilitySet::from_bits_retain(1 << n);
        match thread::capability_is_in_bounding_set(one) {
            Ok(true) => thread::remove_capability_from_bounding_set(one)?,
            Ok(false) => {}
            // EINVAL: beyond the last one of this kernel.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Drops from the bounding set what is in `present` and not in `keep`, asking nothing: for a child between clone and exec
/// whose maker knows what is there. A member that is absent already needs CAP_SETPCAP all the same.
///
/// # Errors
/// EPERM without CAP_SETPCAP; EINVAL for a number that this kernel does not know.
pub fn drop_known_bounding(present: Set, keep: Set) -> io::Result<()> {
    for n in present.without(keep).numbers() {
        thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << n))?;
    }
    Ok(())
}

/// Makes the ambient set exactly `set`.
///
/// # Errors
/// EPERM when a member is not both permitted and inheritable.
pub fn raise_ambient(set: &Set) -> io::Result<()> {
    thread::clear_ambient_capability_set()?;
    for n in set.numbers() {
        thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << n), true)?;
    }
    Ok(())
}

/// The ambient set of the calling thread.
pub fn ambient() -> Set {
    let has =
        |n: &u8| matches!(thread::capability_is_in_ambient_set(CapabilitySet::from_bits_retain(1 << n)), Ok(true));
    Set((0..64).filter(has).fold(0, |bits, n| bits | 1 << n))
}

/// Lets the permitted set survive the next change from user 0 to another (PR_SET_KEEPCAPS); execve clears the flag.
///
/// # Errors
/// EPERM when a secure bit locks it.
pub fn keep_over_setuid() -> io::Result<()> {
    thread::set_keep_capabilities(true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities belong to the thread, so each test changes those of a thread of its own.
    fn in_thread(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().unwrap();
    }

    #[test]
    fn the_last_one_is_what_proc_says() {
        let proc: u8 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        assert_eq!(last(), proc);
        assert_eq!(known().numbers().count(), usize::from(proc) + 1);
    }

    #[test]
    fn sets_that_were_set_are_read_back() {
        in_thread(|| {
            let keep = Set::of(&[0, 1, 5]).and(get().unwrap().permitted);
            drop_bounding(&keep.or(Set::of(&[8]))).unwrap();
            assert_eq!(bounding().without(keep.or(Set::of(&[8]))), Set::EMPTY);
            set(keep, keep, keep).unwrap();
            assert_eq!(get().unwrap(), Sets { effective: keep, permitted: keep, inheritable: keep });
            raise_ambient(&Set::of(&[5])).unwrap();
            assert_eq!(ambient(), Set::of(&[5]));
            assert!(raise_ambient(&Set::of(&[12])).is_err(), "not permitted, so it cannot be ambient");
            // Already absent: no privilege needed any more.
            drop_bounding(&keep.or(Set::of(&[8]))).unwrap();
        });
    }

    #[test]
    fn keep_caps_survives_setuid() {
        in_thread(|| {
            let keep = Set::of(&[1, 7]);
            keep_over_setuid().unwrap();
            // The raw call: libc's setresuid would change every thread of the test.
            // SAFETY: setresuid takes three numbers and touches no memory.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            assert_eq!(get().unwrap().effective, Set::EMPTY);
            set(keep, keep, Set::EMPTY).unwrap();
            assert_eq!(get().unwrap().effective, keep);
        });
    }
}
