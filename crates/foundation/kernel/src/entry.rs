//! The first moments of the program.
//!
//! What std does before `main` costs a short command more than its own work: it reads /proc/self/maps to find its stack,
//! and installs handlers that only word a stack overflow more nicely. Here is what is needed of it: descriptors 0 to 2
//! are open, a broken pipe is an error and no death, and what was printed is written out at the end.

use std::io::Write;

/// Makes a function `fn() -> u8` the program: its result is the exit code. For a crate with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[expect(unsafe_code, reason = "the name by which the C library calls the program")]
            #[unsafe(no_mangle)]
            extern "C" fn main(_count: i32, _words: *const *const u8) -> i32 {
                $crate::entry::begin($main)
            }
        };
    };
}

/// What [`entry!`](crate::entry!) calls.
pub fn begin(main: fn() -> u8) -> i32 {
    open_standard_streams();
    // SAFETY: SIG_IGN is a valid disposition; nothing else of the process's state is touched.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let code = main();
    let _ = std::io::stdout().flush();
    i32::from(code)
}

/// A descriptor opened later must not be taken for a standard stream.
fn open_standard_streams() {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the array is valid for the call, and as long as is said.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 0) };
    if ready <= 0 {
        return;
    }
    for _ in fds.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
        // SAFETY: a constant C string; the lowest free number is the one that is missing, and it is meant to stay open.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

/// Bytes of heap and stack that a launch needs, about.
const HEAP: usize = 384 << 10;
const STACK: usize = 64 << 10;

/// Has the kernel give the memory that a launch is going to need in two calls, instead of by a hundred page faults. Only
/// a matter of time: failures do not matter.
pub fn warm() {
    const POPULATE_WRITE: libc::c_int = 23;
    const PAGE: usize = 4096;
    // SAFETY: mallopt sets a number of the allocator's. The populated ranges are the unused end of the heap, which the
    // allocator has just been made to ask for, and the stack below this frame, whose pages hold nothing yet: populating
    // changes no content (madvise(2)); a range that is not mapped is an error and no more.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, HEAP as libc::c_int);
        // What is given back at the end of the heap is soon needed again.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
        // The C library has begun a heap of 132 KiB; it grows by what is asked for here, which its end then gets back.
        let begin = std::hint::black_box(libc::malloc(120 << 10));
        libc::free(begin);
        let first = begin as usize & !(PAGE - 1);
        let end = libc::sbrk(0) as usize;
        libc::madvise(first as *mut libc::c_void, end.saturating_sub(first).min(HEAP), POPULATE_WRITE);
        let here = std::ptr::from_ref(&begin) as usize & !(PAGE - 1);
        libc::madvise((here - STACK) as *mut libc::c_void, STACK, POPULATE_WRITE);
    }
}
