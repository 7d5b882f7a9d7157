//! Network namespaces for tests: each test is a host of its own.

use std::os::fd::{AsFd, OwnedFd};
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

/// Runs `test` on a thread whose network namespace is new and has loopback up.
pub(crate) fn in_new_namespace(test: impl FnOnce(&OwnedFd) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let netns = new_network_namespace().unwrap();
        crate::loopback_up(netns.as_fd()).unwrap();
        in_network_namespace(netns.as_fd(), || test(&netns)).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
