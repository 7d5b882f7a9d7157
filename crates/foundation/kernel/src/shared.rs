//! Memory that a process and its clones share.

use std::io;
use std::sync::atomic::AtomicU64;

/// Words of memory that clones of this process share with it (mmap(2), MAP_SHARED | MAP_ANONYMOUS), all zero at first.
#[derive(Debug)]
pub struct SharedWords {
    start: *const AtomicU64,
    count: usize,
}

impl SharedWords {
    /// Maps `count` words. Pages that nobody touches cost nothing.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new(count: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), count * 8, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedWords { start: start.cast_const().cast(), count })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, zeroed, `count` words long, and lives as long as `self`; all access is
        // atomic, so that writes of another process are no data race.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`; the borrow checker keeps slices of it from outliving it.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.count * 8) };
    }
}
