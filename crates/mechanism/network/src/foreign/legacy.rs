//! The filter tables of iptables-legacy: blobs of entries, each with the offset of the next.
//!
//! Sources: include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h, netfilter/x_tables.h.

use super::{BaseChain, Fate, Judgement, Packet, Place, Trail, xt};
use crate::expression::octets;
use crate::message::{array, text};
use rustix::fd::AsFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tare_kernel::socket::bytes_option;
use tare_model::{Error, Result};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, the same for IPv6.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// `struct ipt_getinfo`; the entries begin after 40 bytes in `struct ipt_get_entries`.
const INFO: usize = 84;
const ENTRIES: usize = 40;
/// Jumps that are followed: the kernel allows no loops, but these bytes are not trusted.
const STEPS: usize = 100_000;

const INVERT_IN: u8 = 0x01;
const INVERT_OUT: u8 = 0x02;
const INVERT_SOURCE: u8 = 0x08;
const INVERT_DESTINATION: u8 = 0x10;
const INVERT_PROTOCOL: u8 = 0x40;
const FLAG_GOTO: u8 = 0x02;

/// One family's filter table.
#[derive(Debug)]
pub(super) struct Table {
    v4: bool,
    /// Where the chains of the five hooks begin, and where their policies are.
    begins: [u32; 5],
    policies: [u32; 5],
    hooks: u32,
    entries: Vec<u8>,
}

/// The tables that are there; nothing is loaded.
pub(super) fn read() -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for (v4, names) in
        [(true, "/proc/thread-self/net/ip_tables_names"), (false, "/proc/thread-self/net/ip6_tables_names")]
    {
        let listed = std::fs::read_to_string(names).unwrap_or_default();
        if listed.lines().any(|line| line == "filter") {
            tables.extend(table(v4).map_err(|e| Error::io("read", "iptables-legacy's filter table", e))?);
        }
    }
    Ok(tables)
}

fn table(v4: bool) -> std::io::Result<Option<Table>> {
    let (family, level) = if v4 { (AddressFamily::INET, 0) } else { (AddressFamily::INET6, 41) };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    // Others may change it between the two questions; the kernel then refuses the second.
    for _ in 0..20 {
        let mut info = [0; INFO];
        info[..6].copy_from_slice(b"filter");
        bytes_option(socket.as_fd(), level, GET_INFO, &mut info)?;
        let number = |at| array(&info, at).map_or(0, u32::from_ne_bytes);
        let size = number(80);
        let mut answer = vec![0; ENTRIES + size as usize];
        answer[..6].copy_from_slice(b"filter");
        answer[32..36].copy_from_slice(&size.to_ne_bytes());
        match bytes_option(socket.as_fd(), level, GET_ENTRIES, &mut answer) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::AGAIN.raw_os_error()) => {}
            Err(e) => return Err(e),
            Ok(_) => {
                return Ok(Some(Table {
                    v4,
                    begins: std::array::from_fn(|i| number(36 + 4 * i)),
                    policies: std::array::from_fn(|i| number(56 + 4 * i)),
                    hooks: number(32),
                    entries: answer.split_off(ENTRIES),
                }));
            }
        }
    }
    Ok(None)
}

/// What an entry does.
enum Target {
    Accept,
    Drop,
    Return,
    Jump(usize),
    /// Does something and goes on.
    Nothing,
    /// Handed to a program, or not known.
    Other,
}

impl Table {
    /// Overwrites a byte of the entries; returns what it was.
    #[cfg(test)]
    pub(super) fn spoil(&mut self, place: usize, value: u8) -> u8 {
        let at = place % self.entries.len();
        std::mem::replace(&mut self.entries[at], value)
    }

    pub(super) fn chains(&self) -> Vec<BaseChain> {
        (0..5).filter_map(|hook| self.chain(hook)).collect()
    }

    fn chain(&self, hook: u32) -> Option<BaseChain> {
        let names = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
        let policy = self.policies[hook as usize] as usize;
        (self.hooks & 1 << hook != 0).then_some(())?;
        Some(BaseChain {
            firewall: "iptables-legacy".to_owned(),
            family: if self.v4 { "ip" } else { "ip6" }.to_owned(),
            table: "filter".to_owned(),
            chain: names[hook as usize].to_owned(),
            place: Place::of_hook(hook)?,
            priority: 0,
            policy_drops: matches!(self.entry(policy)?.target(), Some(Target::Drop)),
        })
    }

    fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let bytes = self.entries.get(at..)?;
        let (target_at, next_at) = if self.v4 { (88, 90) } else { (140, 142) };
        let number = |at| Some(usize::from(u16::from_ne_bytes(array(bytes, at)?)));
        let next = number(next_at)?;
        let bytes = bytes.get(..next)?;
        Some(Entry { v4: self.v4, bytes, target: bytes.get(number(target_at)?..)? })
    }

    pub(super) fn judge(&self, place: Place, packet: &Packet) -> Option<Judgement> {
        if packet.destination.is_ipv4() != self.v4 {
            return None;
        }
        let hook = (0..5).find(|h| Place::of_hook(*h) == Some(place))?;
        let chain = self.chain(hook)?;
        let (fate, by) = self.walk(hook as usize, &chain.chain, packet)?;
        Some(Judgement { chain, fate, by })
    }

    /// Follows the entries. A jump that is perhaps taken is followed with everything in it being a perhaps, too.
    fn walk(&self, hook: usize, name: &str, packet: &Packet) -> Option<(Fate, String)> {
        struct Frame {
            back: usize,
            chain: String,
            rule: usize,
            perhaps: bool,
        }
        let mut trail = Trail::default();
        let mut frames: Vec<Frame> = Vec::new();
        let mut at = self.begins[hook] as usize;
        let (mut chain, mut rule, mut perhaps) = (name.to_owned(), 0, false);
        for _ in 0..STEPS {
            let entry = self.entry(at)?;
            let policy = at == self.policies[hook] as usize && frames.is_empty();
            rule += 1;
            let by = if policy { "the policy".to_owned() } else { format!("rule {rule} of chain {chain}") };
            let next = at + entry.bytes.len();
            let matched = entry.matches(packet);
            at = next;
            if matched == Some(false) {
                continue;
            }
            let sure = matched == Some(true) && !perhaps;
            let mut back = false;
            match entry.target()? {
                Target::Accept if sure => return Some(trail.end(false, by)),
                Target::Drop if sure => return Some(trail.end(true, by)),
                Target::Accept => {
                    trail.perhaps(false, &by);
                    back = matched == Some(true);
                }
                Target::Drop => {
                    trail.perhaps(true, &by);
                    back = matched == Some(true);
                }
                Target::Return => back = matched == Some(true),
                Target::Jump(to) => {
                    // After a goto the packet comes back to where this chain was called from.
                    let goto = entry.flags()? & FLAG_GOTO != 0 && matched == Some(true);
                    if !goto || frames.is_empty() {
                        let back = if goto { self.policies[hook] as usize } else { next };
                        frames.push(Frame { back, chain: chain.clone(), rule, perhaps });
                    }
                    perhaps |= matched.is_none();
                    (chain, rule, at) = (self.name_before(to)?, 0, to);
                }
                Target::Nothing => {}
                Target::Other => trail.perhaps(true, &by),
            }
            if back {
                let frame = frames.pop()?;
                (at, chain, rule, perhaps) = (frame.back, frame.chain, frame.rule, frame.perhaps);
            }
        }
        None
    }

    /// A chain's name stands in the entry before its first one.
    fn name_before(&self, chain: usize) -> Option<String> {
        let mut at = 0;
        let mut name = None;
        while at < chain {
            let entry = self.entry(at)?;
            name = (entry.name()? == "ERROR").then(|| text(entry.target.get(32..)?).map(str::to_owned)).flatten();
            at += entry.bytes.len().max(1);
        }
        name
    }
}

struct Entry<'a> {
    v4: bool,
    /// All of it.
    bytes: &'a [u8],
    /// From the target on.
    target: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Name of the target; empty for a verdict or a jump.
    fn name(&self) -> Option<&'a str> {
        text(self.target.get(2..31)?)
    }

    fn flags(&self) -> Option<u8> {
        self.bytes.get(if self.v4 { 82 } else { 131 }).copied()
    }

    fn target(&self) -> Option<Target> {
        Some(match self.name()? {
            "" => match i32::from_ne_bytes(array(self.target, 32)?) {
                -1 => Target::Drop,
                -2 => Target::Accept,
                -5 => Target::Return,
                to => usize::try_from(to).map_or(Target::Other, Target::Jump),
            },
            "REJECT" => Target::Drop,
            "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "SET" | "CLASSIFY" | "TRACE" => Target::Nothing,
            _ => Target::Other,
        })
    }

    /// The addresses, devices and protocol of `struct ipt_ip`, or `struct ip6t_ip6`, then the extensions.
    fn matches(&self, packet: &Packet) -> Option<bool> {
        let width = if self.v4 { 4 } else { 16 };
        let devices = 4 * width;
        let protocol_at = devices + 64;
        let inverted = *self.bytes.get(if self.v4 { 83 } else { 132 })?;
        let masked = |address: std::net::IpAddr, at: usize| {
            let (wanted, mask) = (self.bytes.get(at..at + width)?, self.bytes.get(at + 2 * width..at + 3 * width)?);
            Some(octets(address).iter().zip(mask).zip(wanted).all(|((a, m), w)| a & m == *w))
        };
        let device = |name: &Option<String>, at: usize| {
            let (wanted, mask) = (self.bytes.get(at..at + 16)?, self.bytes.get(at + 32..at + 48)?);
            let name = crate::expression::device_key(name.as_deref().unwrap_or_default());
            Some(name.iter().zip(mask).zip(wanted).all(|((n, m), w)| n & m == w & m))
        };
        let protocol = u16::from_ne_bytes(array(self.bytes, protocol_at)?);
        let source = match packet.source {
            Some(address) => Some(masked(address, 0)?),
            // A rule about no source in particular is one about all of them.
            None => self.bytes.get(2 * width..3 * width)?.iter().all(|m| *m == 0).then_some(true),
        };
        let conditions = [
            (source.unwrap_or(inverted & INVERT_SOURCE == 0), INVERT_SOURCE),
            (masked(packet.destination, width)?, INVERT_DESTINATION),
            (device(&packet.arriving, devices)?, INVERT_IN),
            (device(&packet.leaving, devices + 16)?, INVERT_OUT),
            (protocol == 0 || protocol == u16::from(packet.transport.number()), INVERT_PROTOCOL),
        ];
        if conditions.iter().any(|(holds, bit)| *holds == (inverted & bit != 0)) {
            return Some(false);
        }
        let mut all = source.map(|_| true);
        let mut rest = self.bytes.get(if self.v4 { 112 } else { 168 }..self.bytes.len() - self.target.len())?;
        while !rest.is_empty() {
            let size = usize::from(u16::from_ne_bytes(array(rest, 0)?)).max(32);
            let data = rest.get(32..size)?;
            match xt::matches(text(rest.get(2..31)?)?, u32::from(rest[31]), data, packet) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
            rest = rest.get(size..)?;
        }
        all
    }
}
