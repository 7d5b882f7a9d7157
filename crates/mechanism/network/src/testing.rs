//! Network namespaces for tests: each test is a host of its own.

use crate::Policy;
use crate::channel::Batch;
use std::os::fd::{AsFd, OwnedFd};
use tare_kernel::netlink::{Protocol, Socket, in_network_namespace, new_network_namespace};

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

/// The rules of a usual network with these subnets.
pub(crate) fn policy(bridge: &str, subnets: &[&str]) -> Policy {
    Policy {
        bridge: bridge.into(),
        subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
        gateways: subnets
            .iter()
            .filter_map(|net| net.parse::<tare_model::address::IpNet>().unwrap().first_host())
            .collect(),
        parent: false,
        internal: false,
        isolate: false,
        icc: true,
        masquerade: true,
    }
}

/// Sends a batch for rtnetlink and returns the bytes of all answers.
pub(crate) fn raw_answers(batch: &Batch) -> Vec<u8> {
    let socket = Socket::open(Protocol::Route).unwrap();
    socket.send(&batch.writer.bytes).unwrap();
    let mut all = Vec::new();
    let mut buffer = vec![0; 32768];
    while let Some(length) = socket.receive(&mut buffer).unwrap() {
        all.extend_from_slice(&buffer[..length]);
    }
    all
}

/// Hands `good` to `read`, cut off everywhere, and `rounds` times with some bytes changed.
pub(crate) fn damaged(good: &[u8], rounds: usize, read: impl Fn(&[u8])) {
    (0..good.len()).for_each(|cut| read(&good[..cut]));
    let mut random = 1_u64;
    for round in 0..rounds {
        let mut bad = good.to_vec();
        for _ in 0..=round % 4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bad.len();
            bad[at] = [(random >> 20) as u8, 0, 0xff][round % 3];
        }
        read(&bad);
    }
}
