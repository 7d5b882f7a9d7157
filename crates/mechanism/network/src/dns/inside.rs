//! What the server has in a container's network namespace: two sockets and a table.
//!
//! ```text
//! program ─ to 127.0.0.11:53 ─► output, last: port 53 becomes 61053 ─► our sockets
//! program ◄─ from …:53 ◄─ output, first: port 61053 becomes 53 ◄─ our sockets
//! ```
//!
//! The sockets are on another port than 53, because a program in the container that binds port 53 of every address would
//! be refused otherwise. The rules write the port into each packet and remember nothing, so no connection tracking is
//! begun for them; a firewall of the container's own sees port 53 only, as questions are rewritten behind its rules and
//! answers before them. Checksums: packets on loopback have none yet (CHECKSUM_PARTIAL), where they do the kernel
//! adjusts them.
//!
//! The table belongs to the netlink socket that made it (`NFT_TABLE_F_OWNER`): `nft flush ruleset` inside leaves it
//! alone, and it goes with the supervisor, which is right, as then nobody serves any more.

use crate::message::{ACK, APPEND, Attributes, CREATE, ERROR, Messages, REQUEST, Writer};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tare_kernel::netlink::{Protocol, Socket, in_network_namespace};
use tare_model::{Context as _, Error, Kind, Result};

/// Where containers ask: the address that docker's containers know, too.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of our sockets: above those that the kernel gives away by itself, so that it is in nobody's way, and always
/// the same, so that whoever does need it can know.
const PORT: u16 = 61053;
const DNS: u16 = 53;
const TABLE: &str = "tare-dns";

/// Sockets and table of one container, made before its program runs.
#[derive(Debug)]
pub struct Listener {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
    /// Keeps the table.
    table: OwnedFd,
}

impl Listener {
    /// Makes them in the namespace `netns`, whose loopback device is, or will be, up.
    ///
    /// # Errors
    /// If a socket cannot be made there, or the kernel does not take the rules.
    pub fn open(netns: BorrowedFd<'_>) -> Result<Listener> {
        let made = in_network_namespace(netns, || -> io::Result<(OwnedFd, OwnedFd, Socket)> {
            let udp = bound(SocketType::DGRAM)?;
            let tcp = bound(SocketType::STREAM)?;
            listen(&tcp, 64)?;
            Ok((udp, tcp, Socket::open(Protocol::Netfilter)?))
        });
        let fail = |e| Error::io("serve names in the container at", ADDRESS, e);
        let (udp, tcp, table) = made.and_then(|made| made).map_err(fail)?;
        let port = |socket: &OwnedFd| getsockname(socket).and_then(SocketAddr::try_from).map(|a| a.port());
        let ports = [port(&udp), port(&tcp)].map(|p| p.map_err(|e| fail(e.into())));
        let [udp_port, tcp_port] = ports;
        redirect(&table, udp_port?, tcp_port?)?;
        Ok(Listener { udp, tcp, table: table.into() })
    }

    /// The descriptors, for another program to go on with.
    pub fn descriptors(&self) -> [&OwnedFd; 3] {
        [&self.udp, &self.tcp, &self.table]
    }

    /// From what [`Listener::descriptors`] gave.
    pub fn from_descriptors([udp, tcp, table]: [OwnedFd; 3]) -> Listener {
        Listener { udp, tcp, table }
    }
}

fn bound(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    match bind(&socket, &SocketAddrV4::new(ADDRESS, PORT)) {
        // A namespace that others have used before.
        Err(Errno::ADDRINUSE) => bind(&socket, &SocketAddrV4::new(ADDRESS, 0))?,
        other => other?,
    }
    Ok(socket)
}

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
/// `struct nfgenmsg`: NFPROTO_IPV4; and the subsystem that a batch is for.
const IPV4: [u8; 4] = [2, 0, 0, 0];
const FOR_SUBSYSTEM: [u8; 4] = [0, 0, 0, SUBSYSTEM as u8];

/// A chain of the output hook.
struct Chain {
    name: &'static str,
    priority: i32,
    /// Offset in the IP header of the address that must be ours.
    address: u32,
    /// Offset in the UDP and TCP header of the port that is rewritten.
    port: u32,
}

/// Behind every rule of the container's own and behind its address translation.
const QUESTIONS: Chain = Chain { name: "questions", priority: 1000, address: 16, port: 2 };
/// Before connection tracking (-200) and whatever is hooked in at "raw".
const ANSWERS: Chain = Chain { name: "answers", priority: -310, address: 12, port: 0 };

/// Writes the table, in one transaction.
fn redirect(socket: &Socket, udp: u16, tcp: u16) -> Result<()> {
    let mut writer = Writer::new();
    let mut sequence = 0;
    let mut add = |kind, flags, header: &[u8], fill: &dyn Fn(&mut Attributes<'_>)| {
        sequence += 1;
        writer.message(kind, REQUEST | flags, sequence, header, fill);
    };
    add(BATCH_BEGIN, 0, &FOR_SUBSYSTEM, &|_| {});
    add(NEWTABLE, CREATE, &IPV4, &|a| {
        a.string(1, TABLE);
        a.be32(2, 2); // NFTA_TABLE_FLAGS: NFT_TABLE_F_OWNER
    });
    for chain in [QUESTIONS, ANSWERS] {
        add(NEWCHAIN, CREATE, &IPV4, &|a| {
            a.string(1, TABLE);
            a.string(3, chain.name);
            // NFTA_CHAIN_HOOK: _HOOKNUM: NF_INET_LOCAL_OUT, _PRIORITY
            a.nest(4, |a| {
                a.be32(1, 3);
                a.be32(2, chain.priority.cast_unsigned());
            });
            a.string(7, "filter");
        });
    }
    // The protocol's number, where its checksum is, and the port of our socket.
    let protocols = [(17, 6, udp), (6, 16, tcp)];
    for (i, (protocol, checksum, ours)) in protocols.into_iter().enumerate() {
        for (chain, from, to) in [(&QUESTIONS, DNS, ours), (&ANSWERS, ours, DNS)] {
            // One acknowledgement is enough: what fails before it is told in any case, and nothing of it is done.
            let last = i == 1 && from == ours;
            add(NEWRULE, CREATE | APPEND | if last { ACK } else { 0 }, &IPV4, &|a| {
                a.string(1, TABLE);
                a.string(2, chain.name);
                a.nest(4, |a| rewrite(a, chain, protocol, checksum, [from, to]));
            });
        }
    }
    add(BATCH_END, 0, &FOR_SUBSYSTEM, &|_| {});
    let step = "redirect DNS in the container";
    socket.send(&writer.bytes).during(step, TABLE)?;
    let mut buffer = [0; 8192];
    let mut done = false;
    while let Some(length) = socket.receive(&mut buffer).during(step, TABLE)? {
        for message in Messages(&buffer[..length]).filter(|m| m.kind == ERROR) {
            match message.status() {
                Some((0, _)) => done = true,
                Some((number, _)) => return Err(Error::io(step, TABLE, Errno::from_raw_os_error(number))),
                None => {}
            }
        }
    }
    if done { Ok(()) } else { Err(Error::new(Kind::System, step, TABLE).because("the kernel did not answer")) }
}

/// `ip saddr|daddr 127.0.0.11 meta l4proto … th sport|dport FROM set TO`.
fn rewrite(a: &mut Attributes<'_>, chain: &Chain, protocol: u8, checksum: u32, [from, to]: [u16; 2]) {
    const REGISTER: u32 = 1;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let load = |a: &mut Attributes<'_>, base, offset, length| {
        // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
        expression(a, "payload", |a| {
            [(1, REGISTER), (2, base), (3, offset), (4, length)].iter().for_each(|(kind, value)| a.be32(*kind, *value));
        });
    };
    let is = |a: &mut Attributes<'_>, value: &[u8]| {
        // NFTA_CMP_SREG, _OP: NFT_CMP_EQ, _DATA: NFTA_DATA_VALUE
        expression(a, "cmp", |a| {
            a.be32(1, REGISTER);
            a.be32(2, 0);
            a.nest(3, |a| a.bytes(1, value));
        });
    };
    load(a, NETWORK, chain.address, 4);
    is(a, &ADDRESS.octets());
    // NFTA_META_DREG, _KEY: NFT_META_L4PROTO
    expression(a, "meta", |a| [(1, REGISTER), (2, 16)].iter().for_each(|(kind, value)| a.be32(*kind, *value)));
    is(a, &[protocol]);
    load(a, TRANSPORT, chain.port, 2);
    is(a, &from.to_be_bytes());
    // NFTA_IMMEDIATE_DREG, _DATA: NFTA_DATA_VALUE
    expression(a, "immediate", |a| {
        a.be32(1, REGISTER);
        a.nest(2, |a| a.bytes(1, &to.to_be_bytes()));
    });
    // NFTA_PAYLOAD_SREG, _BASE, _OFFSET, _LEN, _CSUM_TYPE: NFT_PAYLOAD_CSUM_INET, _CSUM_OFFSET
    expression(a, "payload", |a| {
        let numbers = [(5, REGISTER), (2, TRANSPORT), (3, chain.port), (4, 2), (6, 1), (7, checksum)];
        numbers.iter().for_each(|(kind, value)| a.be32(*kind, *value));
    });
}

fn expression(a: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    // NFTA_LIST_ELEM: NFTA_EXPR_NAME, NFTA_EXPR_DATA
    a.nest(1, |a| {
        a.string(1, name);
        a.nest(2, fill);
    });
}
