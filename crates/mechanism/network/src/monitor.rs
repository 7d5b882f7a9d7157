//! A wake-up when somebody deletes rules: `nft flush ruleset`, a firewall that is restarted.
//!
//! Membership in nftables' multicast group, behind a filter that lets pass only what begins with a deletion (of an element:
//! of a table of tare's), and of these none that a process of tare made: a notification has the sequence number of the
//! request that caused it, and ours are numbered in a range of their own. So hundreds of supervisors sleep through every start, stop and repair.

use crate::channel::OUR_SEQUENCES;
use crate::nft::{DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use tare_kernel::netlink::{Protocol, Socket};
use tare_kernel::seccomp::SockFilter;
use tare_kernel::socket::attach_filter;
use tare_model::{Context as _, Result};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFT_MSG_DELOBJ`, `NFT_MSG_DELFLOWTABLE`: with these, a flush of a table without rules begins.
const OTHERS: [u16; 2] = [20, 24];
/// How the names of our tables begin (see [`Site`](crate::Site)), as a load takes it.
const OUR_TABLES: u32 = u32::from_be_bytes(*b"tare");
/// Where a notification about elements has the table's name: behind its two headers and the attribute's.
const TABLE_NAME: u32 = 16 + 4 + 4;

/// Tells when rules were deleted in the network namespace in which it was opened.
///
/// Readable when there may be something to restore. To miss nothing, open it first and look at the rules then.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Joins the group, in the calling thread's network namespace.
    ///
    /// # Errors
    /// `Kind::Denied` without CAP_NET_ADMIN.
    pub fn open() -> Result<Monitor> {
        let watch = || -> std::io::Result<Socket> {
            let socket = Socket::open(Protocol::Netfilter)?;
            // Before there is anything to receive.
            attach_filter(socket.as_fd(), &deletions())?;
            socket.subscribe(GROUP)?;
            Ok(socket)
        };
        let socket = watch().during("watch", "nftables")?;
        // The kernel sends pieces of at most a page or 8 KiB; what is cut off does not matter.
        Ok(Monitor { socket, buffer: vec![0; 8192] })
    }

    /// Whether something was deleted since the last call; never waits.
    pub fn changed(&mut self) -> Result<bool> {
        let mut changed = false;
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(None) => return Ok(changed),
                Ok(Some(_)) => changed = true,
                Err(e) if e.kind() == std::io::ErrorKind::InvalidData => changed = true,
                // More was told than the queue holds.
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOBUFS) => changed = true,
                Err(e) => return Err(e).during("read", "nftables' notifications"),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Keeps datagrams whose first message is a deletion and not ours. Only the lower byte of its type is looked at: nobody
/// but nftables sends to this group.
fn deletions() -> Vec<SockFilter> {
    // A message begins with length u32, type u16, flags u16, sequence u32, all in the host's byte order; loads take the
    // network's.
    let little = cfg!(target_endian = "little");
    let (lower_byte, upper_half) = if little { (4, 10) } else { (5, 8) };
    let ours = if little { OUR_SEQUENCES.swap_bytes() } else { OUR_SEQUENCES };
    let kinds = [DELTABLE, DELCHAIN, DELRULE, DELSET, OTHERS[0], OTHERS[1]].map(|kind| u32::from(kind & 0xff));
    let count = kinds.len() as u8;
    let load = |code, k| SockFilter { code, jt: 0, jf: 0, k };
    let equal = |k, jt| SockFilter { code: 0x15, jt, jf: 0, k };
    let ret = |k| SockFilter { code: 0x06, jt: 0, jf: 0, k };
    let mut program = vec![load(0x30, lower_byte)];
    // If equal, over the other comparisons, the one of elements, the drop, and the three of the table's name.
    program.extend((0..count).zip(kinds).map(|(i, kind)| equal(kind, count - i + 4)));
    program.extend([equal(u32::from(DELSETELEM & 0xff), 1), ret(0)]);
    // Others' sets change all the time: addresses that are banned for a while.
    program.extend([load(0x20, TABLE_NAME), equal(OUR_TABLES, 1), ret(0)]);
    program.extend([load(0x28, upper_half), equal(ours.into(), 1), ret(u32::MAX), ret(0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::element::Element;
    use crate::nft::Depth;
    use crate::testing::{command, in_new_namespace, policy};
    use crate::{PortMapping, Transport};

    const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00::/64"];

    #[test]
    fn starts_and_stops_wake_nobody_and_a_flush_does() {
        in_new_namespace(|_| {
            let mut monitor = Monitor::open().unwrap();
            let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
            let port = PortMapping { host_ip: None, host_port: 80, container_port: 80, transport: Transport::Tcp };
            let targets = ["10.1.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()];
            let elements = Element::of(&[port], &targets);
            assert!(nft.ensure_rules("t", &[policy("a", &SUBNETS)], Depth::Fingerprint).unwrap());
            for i in 0..20 {
                nft.ensure_rules("t", &[policy(&format!("n{i}"), &SUBNETS)], Depth::Fingerprint).unwrap();
                nft.add_elements("t", &elements).unwrap();
                nft.delete_elements("t", &elements).unwrap();
                assert!(!nft.remove_network("t", &format!("n{i}")).unwrap());
            }
            assert!(!monitor.changed().unwrap(), "an ordinary start or stop woke it");
            for delete in [
                vec!["nft", "flush", "chain", "inet", "t", "forward"],
                vec!["nft", "flush", "table", "inet", "t"],
                vec!["nft", "flush", "ruleset"],
            ] {
                command(&delete);
                assert!(monitor.changed().unwrap(), "{delete:?}");
                assert!(!monitor.changed().unwrap());
                assert!(nft.ensure_rules("t", &[policy("a", &SUBNETS)], Depth::Rules).unwrap(), "{delete:?}");
                assert!(!monitor.changed().unwrap(), "its own repair woke it");
                assert!(!nft.ensure_rules("t", &[policy("a", &SUBNETS)], Depth::Rules).unwrap());
            }
            for (table, wakes) in [("tare-x", true), ("fail2ban", false)] {
                command(&[
                    "nft",
                    &format!("add table inet {table} {{ set s {{ type inet_service; elements = {{ 1, 2, 3 }}; }}; }}"),
                ]);
                assert!(!monitor.changed().unwrap());
                command(&["nft", &format!("delete element inet {table} s {{ 2 }}")]);
                assert_eq!(monitor.changed().unwrap(), wakes, "{table}");
                command(&["nft", &format!("flush set inet {table} s")]);
                assert_eq!(monitor.changed().unwrap(), wakes, "{table}");
            }
            command(&["nft", "add table ip other { chain c { accept; }; }"]);
            assert!(!monitor.changed().unwrap());
            command(&["nft", "delete table ip other"]);
            assert!(monitor.changed().unwrap());
        });
    }
}
