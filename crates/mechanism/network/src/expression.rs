//! nf_tables' expressions: the machine into which a [`Rule`] is compiled. Registers are loaded, compared, looked up.
//!
//! Sources: include/uapi/linux/netfilter/nf_tables.h; what `nft --debug=netlink` prints.

use crate::firewall::{Action, Field, Map, Match, Rule, Value};
use crate::message::Attributes;
use std::net::IpAddr;
use tare_model::address::{IpNet, width};

pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFPROTO_IPV6: u8 = 10;

pub(crate) const NFTA_LIST_ELEM: u16 = 1;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFTA_DATA_VERDICT: u16 = 2;
pub(crate) const NFTA_VERDICT_CODE: u16 = 1;
pub(crate) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;

/// `NFT_REG_VERDICT`, and the first of the registers of 16 bytes; `NFT_REG32_00` is the first 4 bytes of the latter.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const REGISTER_32: u32 = 8;

pub(crate) const NF_DROP: i32 = 0;
pub(crate) const NF_ACCEPT: i32 = 1;
pub(crate) const NFT_JUMP: i32 = -3;
pub(crate) const NFT_RETURN: i32 = -5;

pub(crate) const META_IIFNAME: u32 = 6;
pub(crate) const META_OIFNAME: u32 = 7;
pub(crate) const META_NFPROTO: u32 = 15;
pub(crate) const META_L4PROTO: u32 = 16;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
pub(crate) const NETWORK: u32 = 1;
pub(crate) const TRANSPORT: u32 = 2;
const IPPROTO_ICMPV6: u8 = 58;

/// Writes a rule's expressions, conditions first.
pub(crate) fn expressions(a: &mut Attributes<'_>, rule: &Rule) {
    // Which family a rule has already asked for.
    let mut family = None;
    for condition in &rule.matches {
        match condition {
            Match::NotFrom(device) => device_is(a, META_IIFNAME, NOT_EQUAL, device),
            Match::To(device) => device_is(a, META_OIFNAME, EQUAL, device),
            Match::NotTo(device) => device_is(a, META_OIFNAME, NOT_EQUAL, device),
            Match::FromAny(set) => device_in(a, META_IIFNAME, set, None),
            Match::ToAny(set) => device_in(a, META_OIFNAME, set, None),
            Match::Source(net) => address_is(a, &mut family, Side::Source, EQUAL, *net),
            Match::Destination(net) => address_is(a, &mut family, Side::Destination, EQUAL, *net),
            Match::NotDestination(net) => address_is(a, &mut family, Side::Destination, NOT_EQUAL, *net),
            Match::Icmp6 => {
                meta(a, META_L4PROTO, REGISTER);
                compare(a, EQUAL, &[IPPROTO_ICMPV6]);
            }
            Match::DestinationLocal => {
                // NFTA_FIB_DREG, _RESULT: NFT_FIB_RESULT_ADDRTYPE, _FLAGS: NFTA_FIB_F_DADDR
                expression(a, "fib", &[(1, REGISTER), (2, 3), (3, 2)]);
                compare(a, EQUAL, &2_u32.to_ne_bytes()); // RTN_LOCAL
            }
            Match::SourceLocal => {
                // NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF
                expression(a, "fib", &[(1, REGISTER), (2, 3), (3, 1 | 1 << 3)]);
                compare(a, EQUAL, &2_u32.to_ne_bytes());
            }
            // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED; IPS_DST_NAT
            Match::Established => conntrack_has(a, 0, 0b110),
            Match::Published => conntrack_has(a, 2, 1 << 5),
        }
    }
    match &rule.action {
        Action::Accept => verdict(a, NF_ACCEPT),
        Action::Drop => verdict(a, NF_DROP),
        Action::Return => verdict(a, NFT_RETURN),
        Action::Masquerade => expression(a, "masq", &[]),
        Action::Translate(map) => translate(a, &mut family, map),
        Action::ByArrival(map) => device_in(a, META_IIFNAME, map, Some(VERDICT)),
        Action::ByDeparture(map) => device_in(a, META_OIFNAME, map, Some(VERDICT)),
    }
}

/// A device's name as the kernel compares it.
pub(crate) fn device_key(device: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut().zip(device.bytes().take(15)).for_each(|(to, from)| *to = from);
    name
}

/// An address as it is in a packet.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// An expression with numbers only.
fn expression(a: &mut Attributes<'_>, name: &str, numbers: &[(u16, u32)]) {
    expression_with(a, name, |a| numbers.iter().for_each(|(kind, value)| a.be32(*kind, *value)));
}

fn expression_with(a: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    a.nest(NFTA_LIST_ELEM, |a| {
        a.string(NFTA_EXPR_NAME, name);
        a.nest(NFTA_EXPR_DATA, fill);
    });
}

/// NFTA_META_DREG, NFTA_META_KEY.
fn meta(a: &mut Attributes<'_>, key: u32, register: u32) {
    expression(a, "meta", &[(1, register), (2, key)]);
}

/// NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN.
fn payload(a: &mut Attributes<'_>, base: u32, offset: u32, length: u32, register: u32) {
    expression(a, "payload", &[(1, register), (2, base), (3, offset), (4, length)]);
}

/// NFTA_CMP_SREG, _OP, _DATA.
fn compare(a: &mut Attributes<'_>, operation: u32, value: &[u8]) {
    expression_with(a, "cmp", |a| {
        a.be32(1, REGISTER);
        a.be32(2, operation);
        a.nest(3, |a| a.bytes(NFTA_DATA_VALUE, value));
    });
}

/// NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
fn mask(a: &mut Attributes<'_>, mask: &[u8]) {
    expression_with(a, "bitwise", |a| {
        a.be32(1, REGISTER);
        a.be32(2, REGISTER);
        a.be32(3, mask.len() as u32);
        a.nest(4, |a| a.bytes(NFTA_DATA_VALUE, mask));
        a.nest(5, |a| a.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]));
    });
}

/// NFTA_LOOKUP_SET, _SREG, _DREG.
fn lookup(a: &mut Attributes<'_>, set: &str, into: Option<u32>) {
    expression_with(a, "lookup", |a| {
        a.string(1, set);
        a.be32(2, REGISTER);
        if let Some(register) = into {
            a.be32(3, register);
        }
    });
}

fn device_is(a: &mut Attributes<'_>, key: u32, operation: u32, device: &str) {
    meta(a, key, REGISTER);
    compare(a, operation, &device_key(device));
}

fn device_in(a: &mut Attributes<'_>, key: u32, set: &str, into: Option<u32>) {
    meta(a, key, REGISTER);
    lookup(a, set, into);
}

fn family_is(a: &mut Attributes<'_>, known: &mut Option<u8>, family: u8) {
    if known.replace(family) != Some(family) {
        meta(a, META_NFPROTO, REGISTER);
        compare(a, EQUAL, &[family]);
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// Offset in the network header, length, and the family's number.
fn place(side: Side, ipv4: bool) -> (u32, u32, u8) {
    match (side, ipv4) {
        (Side::Source, true) => (12, 4, NFPROTO_IPV4),
        (Side::Destination, true) => (16, 4, NFPROTO_IPV4),
        (Side::Source, false) => (8, 16, NFPROTO_IPV6),
        (Side::Destination, false) => (24, 16, NFPROTO_IPV6),
    }
}

fn address_is(a: &mut Attributes<'_>, known: &mut Option<u8>, side: Side, operation: u32, net: IpNet) {
    let (offset, length, family) = place(side, net.is_ipv4());
    family_is(a, known, family);
    payload(a, NETWORK, offset, length, REGISTER);
    if net.prefix() < width(net.address()) {
        mask(a, &octets(net.mask()));
    }
    compare(a, operation, &octets(net.first()));
}

/// NFTA_CT_DREG, NFTA_CT_KEY (0 state, 2 status); any of the bits.
fn conntrack_has(a: &mut Attributes<'_>, key: u32, bits: u32) {
    expression(a, "ct", &[(1, REGISTER), (2, key)]);
    mask(a, &bits.to_ne_bytes());
    compare(a, NOT_EQUAL, &[0; 4]);
}

/// The key into consecutive registers of 4 bytes, the map's value over them, and from there into the packet.
fn translate(a: &mut Attributes<'_>, known: &mut Option<u8>, map: &Map) {
    let ipv4 = map.value != Value::Endpoint6;
    let (offset, length, family) = place(Side::Destination, ipv4);
    if map.key.iter().any(|f| matches!(f, Field::Address4 | Field::Address6)) {
        family_is(a, known, family);
    }
    let mut register = REGISTER_32;
    for field in &map.key {
        match field {
            Field::Protocol => meta(a, META_L4PROTO, register),
            Field::Address4 | Field::Address6 => payload(a, NETWORK, offset, length, register),
            Field::Port => payload(a, TRANSPORT, 2, 2, register),
            Field::Device => meta(a, META_IIFNAME, register),
        }
        register += field.length() / 4;
    }
    lookup(a, &map.name, Some(REGISTER));
    // NFTA_NAT_TYPE: NFT_NAT_DNAT, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN
    expression(a, "nat", &[(1, 1), (2, family.into()), (3, REGISTER), (5, REGISTER_32 + length / 4)]);
}

impl Field {
    /// In registers: a multiple of 4 bytes.
    pub(crate) fn length(self) -> u32 {
        match self {
            Field::Protocol | Field::Address4 | Field::Port => 4,
            Field::Address6 | Field::Device => 16,
        }
    }

    /// nft's number of the type; the kernel only hands it back.
    pub(crate) fn type_number(self) -> u32 {
        match self {
            Field::Address4 => 7,
            Field::Address6 => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Device => 41,
        }
    }
}

/// NFTA_IMMEDIATE_DREG, _DATA.
fn verdict(a: &mut Attributes<'_>, code: i32) {
    expression_with(a, "immediate", |a| {
        a.be32(1, VERDICT);
        a.nest(2, |a| a.nest(NFTA_DATA_VERDICT, |a| a.be32(NFTA_VERDICT_CODE, code.cast_unsigned())));
    });
}
