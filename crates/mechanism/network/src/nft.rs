//! nf_tables' netlink messages: a [`Ruleset`] written in one transaction, and the elements of its maps.
//!
//! A transaction is applied as a whole or not at all. Sources: include/uapi/linux/netfilter/nf_tables.h, nft(8).

use crate::channel::{Batch, Channel, Request};
use crate::firewall::{Action, Chain, Field, Hook, Map, Match, PUBLISHED, PUBLISHED_AT, Rule, Ruleset, TARGET};
use crate::message::{APPEND, Attributes, AttributesOf, CREATE, EXCLUSIVE, find};
use crate::{Policy, PortMapping, Transport};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr};
use tare_model::address::IpNet;
use tare_model::{Error, Result, error::Kind};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of every message type.
const SUBSYSTEM: u16 = 10;

const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
const DELCHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFT_SET_MAP: u32 = 0x8;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// `NFT_REG_VERDICT`, and the first of the registers of 16 bytes; `NFT_REG32_00` is the first 4 bytes of the latter.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const REGISTER_32: u32 = 8;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// `struct nfgenmsg`: family, version 0, resource in network byte order.
const INET: [u8; 4] = [NFPROTO_INET, 0, 0, 0];
const FOR_SUBSYSTEM: [u8; 4] = [0, 0, 0, SUBSYSTEM as u8];

/// Elements in one message: an attribute, so also a list of elements, ends at 64 KiB.
const ELEMENTS: usize = 500;

/// A published port as an element of one of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) port: PortMapping,
    /// The container's address.
    pub(crate) target: Ipv4Addr,
}

impl Element {
    /// The elements that lead to a container with these addresses.
    pub(crate) fn of(ports: &[PortMapping], addresses: &[IpNet]) -> Vec<Element> {
        let v4 = addresses.iter().find_map(|net| if let IpAddr::V4(a) = net.address() { Some(a) } else { None });
        let Some(target) = v4 else { return Vec::new() };
        ports.iter().map(|port| Element { port: *port, target }).collect()
    }

    fn map(&self) -> &'static str {
        if self.port.host_ip.is_some() { PUBLISHED_AT } else { PUBLISHED }
    }

    /// The key; every field begins at a multiple of 4 bytes.
    fn key(&self) -> Vec<u8> {
        let protocol = match self.port.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        };
        let [high, low] = self.port.host_port.to_be_bytes();
        let address = self.port.host_ip.and_then(|ip| if let IpAddr::V4(v4) = ip { Some(v4.octets()) } else { None });
        [[protocol, 0, 0, 0].as_slice(), address.as_ref().map_or(&[], |a| a), &[high, low, 0, 0]].concat()
    }

    fn value(&self) -> Vec<u8> {
        let [high, low] = self.port.container_port.to_be_bytes();
        [self.target.octets(), [high, low, 0, 0]].concat()
    }
}

impl Channel {
    /// Writes the base of the table and this network's part of it where they are missing or others; whether it did.
    pub(crate) fn ensure_rules(&mut self, table: &str, policy: &Policy) -> Result<bool> {
        let rules = Ruleset::of(table, policy);
        let missing = !self.has_ruleset(&rules)?;
        if missing {
            self.write_ruleset(&rules)?;
        }
        Ok(missing)
    }

    /// Removes this bridge's part of the table, and the table with the last one.
    pub(crate) fn remove_rules(&mut self, table: &str, _bridge: &str) -> Result<()> {
        self.delete_table(table)
    }

    /// Whether the rules in the kernel are those of `rules`.
    pub(crate) fn has_ruleset(&mut self, rules: &Ruleset) -> Result<bool> {
        let Some(first) = rules.chains.first() else { return Ok(true) };
        let mut batch = self.batch();
        let request = Request {
            kind: GETCHAIN,
            flags: 0,
            header: &INET,
            step: "read nftables chain",
            object: &rules.table,
            fine: &[Errno::NOENT],
        };
        batch.add(&request, |a| {
            a.string(NFTA_CHAIN_TABLE, &rules.table);
            a.string(NFTA_CHAIN_NAME, &first.name);
        });
        let answers = self.transact(&batch)?;
        let wanted = comment(&rules.fingerprint);
        Ok(answers.messages().any(|m| m.attributes(4).any(|(k, v)| k == NFTA_CHAIN_USERDATA && v == wanted)))
    }

    /// Writes the table with its chains and maps in one transaction; elements of the maps stay.
    ///
    /// The same whatever was there before, and when others write it at the same time: the last one wins.
    pub(crate) fn write_ruleset(&mut self, rules: &Ruleset) -> Result<()> {
        let mut batch = self.batch();
        batch.transaction(|batch| {
            let step = "write nftables table";
            let mut add = |kind, flags, fill: &dyn Fn(&mut Attributes<'_>)| {
                batch.add(&Request { kind, flags, header: &INET, step, object: &rules.table, fine: &[] }, fill);
            };
            add(NEWTABLE, CREATE, &|a| a.string(NFTA_TABLE_NAME, &rules.table));
            for (id, map) in (1..).zip(&rules.maps) {
                add(NEWSET, CREATE, &|a| new_map(a, &rules.table, map, id));
            }
            for (i, chain) in rules.chains.iter().enumerate() {
                let name = |a: &mut Attributes<'_>| {
                    a.string(NFTA_CHAIN_TABLE, &rules.table);
                    a.string(NFTA_CHAIN_NAME, &chain.name);
                };
                // Added so that it can be deleted, deleted so that nothing of an older version is left.
                add(NEWCHAIN, CREATE, &name);
                add(DELRULE, 0, &|a| rule_header(a, rules, chain));
                add(DELCHAIN, 0, &name);
                add(NEWCHAIN, CREATE, &|a| {
                    name(a);
                    hook(a, chain.hook);
                    if i == 0 {
                        a.bytes(NFTA_CHAIN_USERDATA, &comment(&rules.fingerprint));
                    }
                });
                for rule in &chain.rules {
                    add(NEWRULE, CREATE | APPEND, &|a| {
                        rule_header(a, rules, chain);
                        a.nest(NFTA_RULE_EXPRESSIONS, |a| expressions(a, rule));
                    });
                }
            }
        });
        self.transact(&batch).map(drop)
    }

    /// Deletes a table with everything in it; fine if there is none.
    pub(crate) fn delete_table(&mut self, table: &str) -> Result<()> {
        let mut batch = self.batch();
        batch.transaction(|batch| {
            let request = Request {
                kind: DELTABLE,
                flags: 0,
                header: &INET,
                step: "delete nftables table",
                object: table,
                fine: &[Errno::NOENT],
            };
            batch.add(&request, |a| a.string(NFTA_TABLE_NAME, table));
        });
        self.transact(&batch).map(drop)
    }

    /// Publishes ports, all or none. What is in the way is replaced: whoever calls has the port reserved, so an element
    /// that is there already was left behind.
    pub(crate) fn add_elements(&mut self, table: &str, elements: &[Element]) -> Result<()> {
        let mut batch = self.batch();
        batch.transaction(|batch| batch.elements(NEWSETELEM, CREATE | EXCLUSIVE, table, elements));
        let first = self.transact(&batch);
        match first {
            Err(e) if e.kind() == Kind::AlreadyExists => {
                let there: Vec<_> = self.values(table, elements)?.into_iter().map(|(element, _)| element).collect();
                let mut batch = self.batch();
                batch.transaction(|batch| {
                    batch.elements(DELSETELEM, 0, table, &there);
                    batch.elements(NEWSETELEM, CREATE | EXCLUSIVE, table, elements);
                });
                self.transact(&batch).map(drop)
            }
            other => other.map(drop).map_err(hint_if_missing),
        }
    }

    /// Withdraws those of `elements` that are there and lead where they say.
    pub(crate) fn delete_elements(&mut self, table: &str, elements: &[Element]) -> Result<()> {
        // Twice: an element that goes away in between makes the whole transaction fail.
        let mut result = Ok(());
        for _ in 0..2 {
            let there = self.values(table, elements)?;
            let ours: Vec<_> = there.into_iter().filter(|(e, value)| e.value() == *value).map(|(e, _)| e).collect();
            if ours.is_empty() {
                return Ok(());
            }
            let mut batch = self.batch();
            batch.transaction(|batch| batch.elements(DELSETELEM, 0, table, &ours));
            result = self.transact(&batch).map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Those of `elements` that are not there as they should be.
    pub(crate) fn missing_elements(&mut self, table: &str, elements: &[Element]) -> Result<Vec<Element>> {
        let there = self.values(table, elements)?;
        let is_there = |e: &Element| there.iter().any(|(found, value)| found == e && e.value() == *value);
        Ok(elements.iter().filter(|e| !is_there(e)).copied().collect())
    }

    /// Those of `elements` whose keys are in the maps, with the values found there.
    fn values(&mut self, table: &str, elements: &[Element]) -> Result<Vec<(Element, Vec<u8>)>> {
        let mut found = Vec::new();
        // In pieces, so that the answers fit into the socket's receive buffer.
        for piece in elements.chunks(50) {
            let mut batch = self.batch();
            for element in piece {
                let request = Request {
                    kind: GETSETELEM,
                    flags: 0,
                    header: &INET,
                    step: "read published port",
                    object: &element.port.to_string(),
                    fine: &[Errno::NOENT],
                };
                batch.add(&request, |a| element_list(a, table, element.map(), &[*element], DELSETELEM));
            }
            let answers = self.transact(&batch)?;
            for message in answers.messages() {
                let list = message.attributes(4).find(|(k, _)| *k == NFTA_SET_ELEM_LIST_ELEMENTS);
                for (_, item) in AttributesOf(list.map(|(_, v)| v).unwrap_or_default()) {
                    let part = |kind| find(item, kind).and_then(|d| find(d, NFTA_DATA_VALUE));
                    let (Some(key), Some(value)) = (part(NFTA_SET_ELEM_KEY), part(NFTA_SET_ELEM_DATA)) else {
                        continue;
                    };
                    // Keys of the two maps differ in length.
                    found.extend(piece.iter().find(|e| e.key() == key).map(|e| (*e, value.to_vec())));
                }
            }
        }
        Ok(found)
    }
}

fn hint_if_missing(e: Error) -> Error {
    match e.kind() {
        Kind::NotFound => e.hint("the firewall's tables were flushed; start another container, which restores them"),
        _ => e,
    }
}

impl Batch {
    fn transaction(&mut self, fill: impl FnOnce(&mut Batch)) {
        self.add_unanswered(BATCH_BEGIN, crate::message::REQUEST, &FOR_SUBSYSTEM, |_| {});
        fill(self);
        self.add_unanswered(BATCH_END, crate::message::REQUEST, &FOR_SUBSYSTEM, |_| {});
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, elements: &[Element]) {
        for map in [PUBLISHED, PUBLISHED_AT] {
            let of_map: Vec<_> = elements.iter().filter(|e| e.map() == map).copied().collect();
            for piece in of_map.chunks(ELEMENTS) {
                let object = piece.iter().map(|e| e.port.to_string()).collect::<Vec<_>>().join(", ");
                let step = if kind == NEWSETELEM { "publish port" } else { "withdraw port" };
                self.add(&Request { kind, flags, header: &INET, step, object: &object, fine: &[] }, |a| {
                    element_list(a, table, map, piece, kind);
                });
            }
        }
    }
}

fn element_list(a: &mut Attributes<'_>, table: &str, map: &str, elements: &[Element], kind: u16) {
    a.string(NFTA_SET_ELEM_LIST_TABLE, table);
    a.string(NFTA_SET_ELEM_LIST_SET, map);
    a.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |a| {
        for element in elements {
            a.nest(NFTA_LIST_ELEM, |a| {
                a.nest(NFTA_SET_ELEM_KEY, |a| a.bytes(NFTA_DATA_VALUE, &element.key()));
                if kind == NEWSETELEM {
                    a.nest(NFTA_SET_ELEM_DATA, |a| a.bytes(NFTA_DATA_VALUE, &element.value()));
                }
            });
        }
    });
}

/// A comment as nft stores it: type 0, length with the terminating zero, text.
fn comment(text: &str) -> Vec<u8> {
    [&[0, (text.len() + 1) as u8], text.as_bytes(), &[0]].concat()
}

fn new_map(a: &mut Attributes<'_>, table: &str, map: &Map, id: u32) {
    a.string(NFTA_SET_TABLE, table);
    a.string(NFTA_SET_NAME, &map.name);
    a.be32(NFTA_SET_FLAGS, NFT_SET_MAP);
    a.be32(NFTA_SET_KEY_TYPE, type_number(&map.key));
    a.be32(NFTA_SET_KEY_LEN, 4 * map.key.len() as u32);
    a.be32(NFTA_SET_DATA_TYPE, type_number(&TARGET));
    a.be32(NFTA_SET_DATA_LEN, 4 * TARGET.len() as u32);
    a.be32(NFTA_SET_ID, id);
}

/// nft's number for a concatenation of types, 6 bits each; the kernel only hands it back.
fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| {
        number << 6
            | match field {
                Field::Address => 7,
                Field::Protocol => 12,
                Field::Port => 13,
            }
    })
}

/// `enum nf_inet_hooks` and the priorities of nft(8).
fn hook(a: &mut Attributes<'_>, hook: Hook) {
    let (kind, number, priority) = match hook {
        Hook::Arriving => ("filter", 0, -300),
        Hook::Prerouting => ("nat", 0, -100),
        Hook::Forward => ("filter", 2, 0),
        Hook::Output => ("nat", 3, -100),
        Hook::Postrouting => ("nat", 4, 100_i32),
    };
    a.nest(NFTA_CHAIN_HOOK, |a| {
        a.be32(NFTA_HOOK_HOOKNUM, number);
        a.be32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
    });
    a.string(NFTA_CHAIN_TYPE, kind);
    a.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
}

fn rule_header(a: &mut Attributes<'_>, rules: &Ruleset, chain: &Chain) {
    a.string(NFTA_RULE_TABLE, &rules.table);
    a.string(NFTA_RULE_CHAIN, &chain.name);
}

fn expressions(a: &mut Attributes<'_>, rule: &Rule) {
    for condition in &rule.matches {
        match condition {
            Match::From(device) => device_is(a, META_IIFNAME, EQUAL, device),
            Match::NotFrom(device) => device_is(a, META_IIFNAME, NOT_EQUAL, device),
            Match::To(device) => device_is(a, META_OIFNAME, EQUAL, device),
            Match::NotTo(device) => device_is(a, META_OIFNAME, NOT_EQUAL, device),
            Match::Source(net) => address_is(a, IPV4_SOURCE, EQUAL, *net),
            Match::NotSource(net) => address_is(a, IPV4_SOURCE, NOT_EQUAL, *net),
            Match::Destination(net) => address_is(a, IPV4_DESTINATION, EQUAL, *net),
            Match::Ipv6 => family_is(a, NFPROTO_IPV6),
            Match::DestinationLocal => {
                // NFTA_FIB_DREG, _RESULT: NFT_FIB_RESULT_ADDRTYPE, _FLAGS: NFTA_FIB_F_DADDR
                expression(a, "fib", &[(1, REGISTER), (2, 3), (3, 2)]);
                compare(a, EQUAL, &2_u32.to_ne_bytes()); // RTN_LOCAL
            }
            // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED; IPS_DST_NAT
            Match::Established => conntrack_has(a, 0, 0b110),
            Match::Published => conntrack_has(a, 2, 1 << 5),
        }
    }
    match &rule.action {
        Action::Accept => verdict(a, NF_ACCEPT),
        Action::Drop => verdict(a, NF_DROP),
        Action::Masquerade => expression(a, "masq", &[]),
        Action::Translate(map) => translate(a, map),
    }
}

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Offsets in the IPv4 header.
const IPV4_SOURCE: u32 = 12;
const IPV4_DESTINATION: u32 = 16;

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
fn mask(a: &mut Attributes<'_>, mask: [u8; 4]) {
    expression_with(a, "bitwise", |a| {
        a.be32(1, REGISTER);
        a.be32(2, REGISTER);
        a.be32(3, 4);
        a.nest(4, |a| a.bytes(NFTA_DATA_VALUE, &mask));
        a.nest(5, |a| a.bytes(NFTA_DATA_VALUE, &[0; 4]));
    });
}

fn device_is(a: &mut Attributes<'_>, key: u32, operation: u32, device: &str) {
    let mut name = [0; 16];
    name.iter_mut().zip(device.bytes().take(15)).for_each(|(to, from)| *to = from);
    meta(a, key, REGISTER);
    compare(a, operation, &name);
}

fn family_is(a: &mut Attributes<'_>, family: u8) {
    meta(a, META_NFPROTO, REGISTER);
    compare(a, EQUAL, &[family]);
}

fn address_is(a: &mut Attributes<'_>, offset: u32, operation: u32, net: IpNet) {
    family_is(a, NFPROTO_IPV4);
    payload(a, NETWORK, offset, 4, REGISTER);
    let (IpAddr::V4(bits), IpAddr::V4(first)) = (net.mask(), net.first()) else { return };
    mask(a, bits.octets());
    compare(a, operation, &first.octets());
}

/// NFTA_CT_DREG, NFTA_CT_KEY (0 state, 2 status); any of the bits.
fn conntrack_has(a: &mut Attributes<'_>, key: u32, bits: u32) {
    expression(a, "ct", &[(1, REGISTER), (2, key)]);
    mask(a, bits.to_ne_bytes());
    compare(a, NOT_EQUAL, &[0; 4]);
}

/// The key into consecutive registers of 4 bytes, the map's value over them, and from there into the packet.
fn translate(a: &mut Attributes<'_>, map: &Map) {
    if map.key.contains(&Field::Address) {
        family_is(a, NFPROTO_IPV4);
    }
    for (register, field) in (REGISTER_32..).zip(&map.key) {
        match field {
            Field::Protocol => meta(a, META_L4PROTO, register),
            Field::Address => payload(a, NETWORK, IPV4_DESTINATION, 4, register),
            Field::Port => payload(a, TRANSPORT, 2, 2, register),
        }
    }
    // NFTA_LOOKUP_SET, _SREG, _DREG
    expression_with(a, "lookup", |a| {
        a.string(1, &map.name);
        a.be32(2, REGISTER);
        a.be32(3, REGISTER);
    });
    // NFTA_NAT_TYPE: NFT_NAT_DNAT, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN
    expression(a, "nat", &[(1, 1), (2, NFPROTO_IPV4.into()), (3, REGISTER), (5, REGISTER_32 + 1)]);
}

/// NFTA_IMMEDIATE_DREG, _DATA.
fn verdict(a: &mut Attributes<'_>, code: u32) {
    expression_with(a, "immediate", |a| {
        a.be32(1, VERDICT);
        a.nest(2, |a| a.nest(NFTA_DATA_VERDICT, |a| a.be32(NFTA_VERDICT_CODE, code)));
    });
}
