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

/// Runs a program of iproute2 or nftables in the calling thread's namespace and returns what it prints.
#[expect(clippy::disallowed_methods, reason = "the tests compare with what ip and nft say")]
pub(crate) fn command(words: &[&str]) -> String {
    let out = std::process::Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
