//! The system's allocator, which can be told to give nothing back.
//!
//! A child that was cloned in order to become another program shares its parent's memory until it writes to it. Freeing
//! writes: each object given back costs a page fault and a copied page, for memory that goes as a whole a moment later.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// To be made the program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

static KEEP: AtomicBool = AtomicBool::new(false);

/// From here on nothing is given back in this process: for one that executes or exits soon.
pub fn keep_everything() {
    KEEP.store(true, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is, which keeps the trait's promises; not to free a block keeps
// them, too. What is reallocated is handled by the system's allocator alone.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `block` came from the same allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !KEEP.load(Ordering::Relaxed) {
            // SAFETY: as above.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
