//! The matches of iptables that are read: as extensions of its own rules, and inside of nftables rules made by
//! iptables-nft. `None`: not read, or not to be known.
//!
//! Sources: include/uapi/linux/netfilter/xt_*.h.

use super::Packet;
use crate::message::array;
use crate::ports::Transport;

/// `XT_CONNTRACK_STATE_BIT(IP_CT_NEW)`, and the bit that stands for a translated destination.
const NEW: u16 = 1 << 3;
const TRANSLATED: u16 = 1 << 7;
const XT_CONNTRACK_STATE: u16 = 1;

/// Whether the packet matches.
pub(super) fn matches(name: &str, revision: u32, data: &[u8], packet: &Packet) -> Option<bool> {
    match (name, revision) {
        ("comment", _) => Some(true),
        ("tcp", 0) if packet.transport == Transport::Tcp => ports(data, 8, 11, packet),
        ("udp", 0) if packet.transport == Transport::Udp => ports(data, 8, 8, packet),
        ("tcp" | "udp", 0) => Some(false),
        ("state", 0) => Some(u32::from_ne_bytes(array(data, 0)?) & u32::from(NEW) != 0),
        ("conntrack", 2 | 3) => conntrack(data, packet),
        ("multiport", 1) => multiport(data, packet),
        _ => None,
    }
}

/// Source and destination range, four u16 in the host's byte order, and the flags that invert them.
fn ports(data: &[u8], length: usize, flags_at: usize, packet: &Packet) -> Option<bool> {
    let number = |at| Some(u16::from_ne_bytes(array(data.get(..length)?, at)?));
    let flags = *data.get(flags_at)?;
    if (number(0)?, number(2)?) != (0, u16::MAX) || flags & 1 != 0 {
        return None;
    }
    // struct xt_tcp: option, mask of flags, compared flags after the ports. A mask asks for SYN and the like.
    if length < flags_at && data.get(8..10)? != [0, 0] {
        return None;
    }
    let inside = (number(4)?..=number(6)?).contains(&packet.port);
    Some(inside != (flags & 2 != 0))
}

/// `struct xt_conntrack_mtinfo2` and `3`: after eight addresses, two times and nine or ten numbers come the masks.
fn conntrack(data: &[u8], packet: &Packet) -> Option<bool> {
    let number = |at| Some(u16::from_ne_bytes(array(data, at)?));
    let (asked, inverted, states) = (number(146)?, number(148)?, number(150)?);
    if asked != XT_CONNTRACK_STATE {
        return None;
    }
    let is = NEW | if packet.translated { TRANSLATED } else { 0 };
    Some((states & is != 0) != (inverted & XT_CONNTRACK_STATE != 0))
}

/// `struct xt_multiport_v1`: which ports, how many, 15 numbers, 15 marks of ranges, inverted.
fn multiport(data: &[u8], packet: &Packet) -> Option<bool> {
    // XT_MULTIPORT_DESTINATION
    if *data.first()? != 1 {
        return None;
    }
    let count = usize::from(*data.get(1)?).min(15);
    let number = |i: usize| Some(u16::from_ne_bytes(array(data, 2 + 2 * i)?));
    let mut found = false;
    let mut i = 0;
    while i < count {
        let first = number(i)?;
        let mut last = first;
        if *data.get(32 + i)? != 0 {
            i += 1;
            last = number(i)?;
        }
        found |= (first..=last).contains(&packet.port);
        i += 1;
    }
    Some(found != (*data.get(47)? != 0))
}
