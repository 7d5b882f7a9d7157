//! nf_tables' netlink messages: a [`Ruleset`] written, checked and removed, each in one transaction.
//!
//! A transaction is applied as a whole or not at all. Any number of processes may ensure the same rules at once: what
//! is missing is created exclusively, so that of two creators one fails, looks again and finds the work done.
//! Sources: include/uapi/linux/netfilter/nf_tables.h, nft(8).

use crate::Policy;
use crate::channel::{Batch, Channel, Request};
use crate::expression::{
    NF_ACCEPT, NFT_JUMP, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
    device_key, expressions,
};
use crate::firewall::{Chain, Field, Hook, Map, NETWORKS, NetworkRules, Ruleset, Value};
use crate::message::{APPEND, Attributes, CREATE, EXCLUSIVE, text};
use rustix::io::Errno;
use std::collections::HashMap;
use tare_model::{Kind, Result};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of every message type.
const SUBSYSTEM: u16 = 10;

const NEWTABLE: u16 = SUBSYSTEM << 8;
pub(crate) const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
pub(crate) const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
pub(crate) const DELCHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
pub(crate) const GETRULE: u16 = SUBSYSTEM << 8 | 7;
pub(crate) const DELRULE: u16 = SUBSYSTEM << 8 | 8;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
pub(crate) const DELSET: u16 = SUBSYSTEM << 8 | 11;
pub(crate) const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
pub(crate) const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
pub(crate) const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;

const NEWGEN: u16 = SUBSYSTEM << 8 | 15;
const GETGEN: u16 = SUBSYSTEM << 8 | 16;
const NFTA_GEN_ID: u16 = 1;
/// In the message that begins a batch: the generation that it must meet.
const NFNL_BATCH_GENID: u16 = 1;

const NFPROTO_INET: u8 = 1;

const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(crate) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFT_SET_MAP: u32 = 0x8;
/// `NFT_DATA_VERDICT`.
const VERDICT_TYPE: u32 = 0xffff_ff00;
pub(crate) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(crate) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(crate) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(crate) const NFTA_SET_ELEM_DATA: u16 = 2;

/// `struct nfgenmsg`: family, version 0, resource in network byte order.
pub(crate) const INET: [u8; 4] = [NFPROTO_INET, 0, 0, 0];
const FOR_SUBSYSTEM: [u8; 4] = [0, 0, 0, SUBSYSTEM as u8];

/// How often a transaction is tried anew when others change the table meanwhile.
const ATTEMPTS: usize = 20;

/// How closely the rules in the kernel are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Whether the first chain of each part is there and of this version: one question for each.
    Fingerprint,
    /// Also whether every chain has its number of rules and every map its element: after something was deleted.
    Rules,
}

/// How a part of the rules was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Absent,
    /// Another version's, or partly there.
    Other,
}

impl Channel {
    /// Makes the base chains and the networks' parts where they are missing or another version's. Elements of the maps
    /// of published ports stay. Whether something was written.
    pub(crate) fn ensure_rules(&mut self, table: &str, networks: &[Policy], depth: Depth) -> Result<bool> {
        let rules = Ruleset::of(table, networks);
        let mut attempt = 0;
        loop {
            let mut states = self.states(&rules, depth)?;
            if states.iter().all(|state| *state == State::Whole) {
                return Ok(false);
            }
            if attempt > 0 {
                // Seen absent, yet something of it was in the way.
                states.iter_mut().filter(|s| **s == State::Absent).for_each(|s| *s = State::Other);
            }
            let mut batch = self.batch();
            batch.transaction(|batch| {
                if states[0] != State::Whole {
                    batch.base(&rules, states[0]);
                }
                for (network, state) in rules.networks.iter().zip(&states[1..]) {
                    if *state != State::Whole {
                        batch.network(table, network, *state);
                    }
                }
            });
            match self.transact(&batch) {
                Ok(_) => return Ok(true),
                Err(e)
                    if attempt < ATTEMPTS && matches!(e.kind(), Kind::AlreadyExists | Kind::NotFound | Kind::InUse) =>
                {
                    attempt += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The base's state, then each network's.
    fn states(&mut self, rules: &Ruleset, depth: Depth) -> Result<Vec<State>> {
        let first = |chains: &[Chain]| chains.first().map(|c| c.name.clone()).unwrap_or_default();
        let parts: Vec<(String, &str)> = std::iter::once((first(&rules.chains), rules.fingerprint.as_str()))
            .chain(rules.networks.iter().map(|n| (first(&n.chains), n.fingerprint.as_str())))
            .collect();
        let mut batch = self.batch();
        for (chain, _) in &parts {
            let step = "read nftables chain";
            let fine = &[Errno::NOENT];
            let request = Request { kind: GETCHAIN, flags: 0, header: &INET, step, object: &rules.table, fine };
            batch.add(&request, |a| {
                a.string(NFTA_CHAIN_TABLE, &rules.table);
                a.string(NFTA_CHAIN_NAME, chain);
            });
        }
        let answers = self.transact(&batch)?;
        let mut states = vec![State::Absent; parts.len()];
        for message in answers.messages() {
            let attribute = |kind| message.attributes(4).find(|(k, _)| *k == kind).map(|(_, v)| v);
            let name = attribute(NFTA_CHAIN_NAME).and_then(text);
            let Some(i) = parts.iter().position(|(chain, _)| Some(chain.as_str()) == name) else { continue };
            let same = attribute(NFTA_CHAIN_USERDATA) == Some(comment(parts[i].1).as_slice());
            states[i] = if same { State::Whole } else { State::Other };
        }
        if depth == Depth::Rules && states.contains(&State::Whole) {
            let counts = self.rule_counts(&rules.table)?;
            let whole = |chains: &[Chain]| {
                chains.iter().all(|c| counts.get(&c.name).copied().unwrap_or_default() == c.rules.len())
            };
            let parts = std::iter::once(&rules.chains).chain(rules.networks.iter().map(|n| &n.chains));
            for (state, chains) in states.iter_mut().zip(parts) {
                if *state == State::Whole && !whole(chains) {
                    *state = State::Other;
                }
            }
            for (i, network) in rules.networks.iter().enumerate() {
                if states[i + 1] == State::Whole && !self.has_entries(&rules.table, network)? {
                    states[i + 1] = State::Other;
                }
            }
        }
        Ok(states)
    }

    /// The number of rules in each chain of the table that has any.
    fn rule_counts(&mut self, table: &str) -> Result<HashMap<String, usize>> {
        let step = "read nftables rules";
        let request = Request { kind: GETRULE, flags: 0, header: &INET, step, object: table, fine: &[] };
        let answers = self.dump(&request, |a| a.string(NFTA_RULE_TABLE, table))?;
        let mut counts = HashMap::new();
        for message in answers.messages() {
            let attribute = |kind| message.attributes(4).find(|(k, _)| *k == kind).and_then(|(_, v)| text(v));
            if attribute(NFTA_RULE_TABLE) == Some(table)
                && let Some(chain) = attribute(NFTA_RULE_CHAIN)
            {
                *counts.entry(chain.to_owned()).or_default() += 1;
            }
        }
        Ok(counts)
    }

    fn has_entries(&mut self, table: &str, network: &NetworkRules) -> Result<bool> {
        let mut batch = self.batch();
        for entry in &network.entries {
            let step = "read nftables element";
            let fine = &[Errno::NOENT];
            let request = Request { kind: GETSETELEM, flags: 0, header: &INET, step, object: &network.bridge, fine };
            batch.add(&request, |a| entry_list(a, table, &network.bridge, entry, DELSETELEM));
        }
        Ok(self.transact(&batch)?.fine_failures.is_empty())
    }

    /// Removes a network's part; and the table, if no network is left in it, which is then returned as `true`. Fine if
    /// there is none.
    pub(crate) fn remove_network(&mut self, table: &str, bridge: &str) -> Result<bool> {
        let policy = Policy {
            bridge: bridge.to_owned(),
            subnets: Vec::new(),
            gateways: Vec::new(),
            parent: false,
            internal: false,
            isolate: false,
            icc: true,
            masquerade: false,
        };
        let network = NetworkRules::of(&policy);
        // The elements go first: supervisors do not wake for a notification that begins with these.
        let mut batch = self.batch();
        batch.transaction(|batch| batch.without_network(table, &network));
        let mut removed = self.transact(&batch).map(drop);
        if matches!(&removed, Err(e) if e.kind() == Kind::NotFound) {
            // Part of it is missing: what is made first can be deleted in any case.
            let mut batch = self.batch();
            batch.transaction(|batch| {
                batch.bare_chains(table, &network.chains);
                batch.entries(table, &network, NEWSETELEM, CREATE);
                batch.without_network(table, &network);
            });
            removed = self.transact(&batch).map(drop);
        }
        match removed {
            // No table, or one without our maps.
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
            Ok(()) => {}
        }
        self.delete_table_without_networks(table)
    }

    /// Deletes the table if no network is in it; whether it was. Others may be adding networks just now, or change tables
    /// of their own: whatever was changed between the look and the deletion makes the kernel refuse that.
    fn delete_table_without_networks(&mut self, table: &str) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let generation = self.generation()?;
            if self.has_networks(table)? {
                return Ok(false);
            }
            let mut batch = self.batch();
            batch.transaction_on(generation, |batch| batch.delete_table(table));
            match self.transact(&batch) {
                Err(e) if e.errno() == Some(Errno::RESTART.raw_os_error()) => {}
                other => return other.map(|_| true),
            }
        }
        // Whoever changes so much may be adding a network: the next to go removes the table.
        Ok(false)
    }

    /// The number of changes so far, of all tables.
    fn generation(&mut self) -> Result<Option<u32>> {
        let mut batch = self.batch();
        let step = "read nftables' generation";
        batch.add(&Request { kind: GETGEN, flags: 0, header: &FOR_SUBSYSTEM, step, object: "", fine: &[] }, |_| {});
        let answers = self.transact(&batch)?;
        let number = |m: crate::message::Message<'_>| {
            let id = m.attributes(4).find(|(kind, _)| *kind == NFTA_GEN_ID)?.1;
            Some(u32::from_be_bytes(id.try_into().ok()?))
        };
        Ok(answers.messages().filter(|m| m.kind == NEWGEN).find_map(number))
    }

    fn has_networks(&mut self, table: &str) -> Result<bool> {
        let step = "read nftables set";
        let fine = &[Errno::NOENT];
        let request = Request { kind: GETSETELEM, flags: 0, header: &INET, step, object: table, fine };
        let answers = self.dump(&request, |a| {
            a.string(NFTA_SET_ELEM_LIST_TABLE, table);
            a.string(NFTA_SET_ELEM_LIST_SET, NETWORKS);
        })?;
        Ok(answers
            .messages()
            .any(|m| m.attributes(4).any(|(kind, list)| kind == NFTA_SET_ELEM_LIST_ELEMENTS && !list.is_empty())))
    }
}

impl Batch {
    /// What `fill` adds is applied as a whole or not at all.
    pub(crate) fn transaction(&mut self, fill: impl FnOnce(&mut Batch)) {
        self.transaction_on(None, fill);
    }

    /// The same, if nothing was changed since this generation: the kernel refuses with `ERESTART` otherwise.
    fn transaction_on(&mut self, generation: Option<u32>, fill: impl FnOnce(&mut Batch)) {
        self.add_unanswered(BATCH_BEGIN, crate::message::REQUEST, &FOR_SUBSYSTEM, |a| {
            if let Some(generation) = generation {
                a.be32(NFNL_BATCH_GENID, generation);
            }
        });
        fill(self);
        self.answer_last();
        self.add_unanswered(BATCH_END, crate::message::REQUEST, &FOR_SUBSYSTEM, |_| {});
    }

    /// Deletes a table with everything in it; fine if there is none.
    fn delete_table(&mut self, table: &str) {
        let request = Request {
            kind: DELTABLE,
            flags: 0,
            header: &INET,
            step: "delete nftables table",
            object: table,
            fine: &[Errno::NOENT],
        };
        self.add(&request, |a| a.string(NFTA_TABLE_NAME, table));
    }

    fn write(&mut self, table: &str, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let step = "write nftables table";
        self.add_quiet(&Request { kind, flags, header: &INET, step, object: table, fine: &[] }, fill);
    }

    fn base(&mut self, rules: &Ruleset, found: State) {
        let table = &rules.table;
        self.write(table, NEWTABLE, CREATE, |a| a.string(NFTA_TABLE_NAME, table));
        for (id, map) in (1..).zip(&rules.maps) {
            self.write(table, NEWSET, CREATE, |a| new_map(a, table, map, id));
        }
        if found == State::Other {
            // Added so that it can be deleted, deleted so that nothing of an older version is left.
            self.bare_chains(table, &rules.chains);
            self.without_chains(table, &rules.chains);
        }
        self.chains(table, &rules.chains, created(found), &rules.fingerprint);
    }

    fn network(&mut self, table: &str, network: &NetworkRules, found: State) {
        if found == State::Other {
            self.bare_chains(table, &network.chains);
            self.entries(table, network, NEWSETELEM, CREATE);
            self.without_network(table, network);
        }
        self.chains(table, &network.chains, created(found), &network.fingerprint);
        self.entries(table, network, NEWSETELEM, created(found));
    }

    fn without_network(&mut self, table: &str, network: &NetworkRules) {
        self.entries(table, network, DELSETELEM, 0);
        self.without_chains(table, &network.chains);
    }

    /// Deletes chains with their rules.
    fn without_chains(&mut self, table: &str, chains: &[Chain]) {
        for chain in chains {
            self.write(table, DELRULE, 0, |a| in_chain(a, NFTA_RULE_TABLE, NFTA_RULE_CHAIN, table, chain));
            self.write(table, DELCHAIN, 0, |a| in_chain(a, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, table, chain));
        }
    }

    /// Chains without hook and rules; those that are there stay as they are.
    fn bare_chains(&mut self, table: &str, chains: &[Chain]) {
        for chain in chains {
            self.write(table, NEWCHAIN, CREATE, |a| in_chain(a, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, table, chain));
        }
    }

    /// Chains with hook and rules, `fingerprint` on the first.
    fn chains(&mut self, table: &str, chains: &[Chain], flags: u16, fingerprint: &str) {
        for (i, chain) in chains.iter().enumerate() {
            self.write(table, NEWCHAIN, flags, |a| {
                in_chain(a, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, table, chain);
                if let Some(place) = chain.hook {
                    hook(a, place);
                }
                if i == 0 {
                    a.bytes(NFTA_CHAIN_USERDATA, &comment(fingerprint));
                }
            });
            for rule in &chain.rules {
                self.write(table, NEWRULE, CREATE | APPEND, |a| {
                    in_chain(a, NFTA_RULE_TABLE, NFTA_RULE_CHAIN, table, chain);
                    a.nest(NFTA_RULE_EXPRESSIONS, |a| expressions(a, rule));
                });
            }
        }
    }

    fn entries(&mut self, table: &str, network: &NetworkRules, kind: u16, flags: u16) {
        for entry in &network.entries {
            self.write(table, kind, flags, |a| entry_list(a, table, &network.bridge, entry, kind));
        }
    }
}

/// Of two that create what was absent, one fails.
fn created(found: State) -> u16 {
    if found == State::Absent { CREATE | EXCLUSIVE } else { CREATE }
}

fn in_chain(a: &mut Attributes<'_>, table_attribute: u16, chain_attribute: u16, table: &str, chain: &Chain) {
    a.string(table_attribute, table);
    a.string(chain_attribute, &chain.name);
}

/// The element with which a bridge leads to a chain.
fn entry_list(a: &mut Attributes<'_>, table: &str, bridge: &str, entry: &(String, Option<String>), kind: u16) {
    let (map, chain) = entry;
    a.string(NFTA_SET_ELEM_LIST_TABLE, table);
    a.string(NFTA_SET_ELEM_LIST_SET, map);
    a.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |a| {
        a.nest(NFTA_LIST_ELEM, |a| {
            a.nest(NFTA_SET_ELEM_KEY, |a| a.bytes(NFTA_DATA_VALUE, &device_key(bridge)));
            if let Some(chain) = chain.as_ref().filter(|_| kind == NEWSETELEM) {
                a.nest(NFTA_SET_ELEM_DATA, |a| {
                    a.nest(NFTA_DATA_VERDICT, |a| {
                        a.be32(NFTA_VERDICT_CODE, NFT_JUMP.cast_unsigned());
                        a.string(NFTA_VERDICT_CHAIN, chain);
                    });
                });
            }
        });
    });
}

/// A comment as nft stores it: type 0, length with the terminating zero, text.
fn comment(text: &str) -> Vec<u8> {
    [&[0, (text.len() + 1) as u8], text.as_bytes(), &[0]].concat()
}

fn new_map(a: &mut Attributes<'_>, table: &str, map: &Map, id: u32) {
    // Of a concatenation nft has 6 bits for each type.
    let types = |fields: &[Field]| fields.iter().fold(0, |n, field| n << 6 | field.type_number());
    let length = |fields: &[Field]| fields.iter().map(|field| field.length()).sum();
    a.string(NFTA_SET_TABLE, table);
    a.string(NFTA_SET_NAME, &map.name);
    a.be32(NFTA_SET_FLAGS, if map.value == Value::Nothing { 0 } else { NFT_SET_MAP });
    a.be32(NFTA_SET_KEY_TYPE, types(&map.key));
    a.be32(NFTA_SET_KEY_LEN, length(&map.key));
    match map.value {
        Value::Nothing => {}
        Value::Verdict => a.be32(NFTA_SET_DATA_TYPE, VERDICT_TYPE),
        data => {
            a.be32(NFTA_SET_DATA_TYPE, types(data.fields()));
            a.be32(NFTA_SET_DATA_LEN, length(data.fields()));
        }
    }
    a.be32(NFTA_SET_ID, id);
    if map.key.contains(&Field::Device) {
        // For nft(8) alone, which would show an empty name otherwise: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes, the host's.
        a.bytes(NFTA_SET_USERDATA, &[[0, 4].as_slice(), &1_u32.to_ne_bytes()].concat());
    }
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
    a.be32(NFTA_CHAIN_POLICY, NF_ACCEPT.cast_unsigned());
}
