//! nftables' rules of all tables, and a machine that follows a packet through them with values that may be unknown.
//!
//! Sources: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nft_*.c.

use super::{BaseChain, Judgement, Packet, Place, Trail, xt};
use crate::channel::{Channel, Request};
use crate::expression::{
    META_IIFNAME, META_L4PROTO, META_NFPROTO, META_OIFNAME, NETWORK, NF_ACCEPT, NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6,
    NFT_RETURN, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE, TRANSPORT, device_key, octets,
};
use crate::message::{AttributesOf, Message, array, find, text};
use crate::nft::{
    GETCHAIN, GETRULE, GETSETELEM, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE,
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use tare_model::Result;

const NFPROTO_INET: u8 = 1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_CONTINUE: i32 = -1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// As deep as the kernel lets chains call each other (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;
/// Four registers of 16 bytes, or sixteen of 4.
const REGISTERS: usize = 64;

/// Family and name of a table, and a chain or set in it.
type Key = (u8, String, String);

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Program {
    bases: Vec<(BaseChain, Key)>,
    rules: HashMap<Key, Vec<Vec<u8>>>,
    sets: BTreeMap<Key, Vec<Element>>,
}

#[derive(Debug, Default, Clone)]
struct Element {
    key: Vec<u8>,
    end: Option<Vec<u8>>,
    flags: u32,
    data: Option<Data>,
}

/// What a register or an element is given.
#[derive(Debug, Clone)]
enum Data {
    Value(Vec<u8>),
    Verdict(i32, String),
}

/// The base chains of all tables of the internet families.
pub(super) fn base_chains(nft: &mut Channel) -> Result<Vec<BaseChain>> {
    Ok(bases(nft)?.into_iter().map(|(chain, _)| chain).collect())
}

fn bases(nft: &mut Channel) -> Result<Vec<(BaseChain, Key)>> {
    let answers = nft.dump(&all(GETCHAIN, "read nftables chains"), |_| {})?;
    Ok(answers.messages().filter_map(|m| base(&m)).collect())
}

fn base(message: &Message<'_>) -> Option<(BaseChain, Key)> {
    let attribute = |kind| message.attributes(4).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let family = *message.body.first()?;
    let names = [(NFPROTO_IPV4, "ip"), (NFPROTO_IPV6, "ip6"), (NFPROTO_INET, "inet")];
    let (_, family_name) = names.into_iter().find(|(number, _)| *number == family)?;
    let hook = attribute(NFTA_CHAIN_HOOK)?;
    let (table, chain) = (text(attribute(NFTA_CHAIN_TABLE)?)?, text(attribute(NFTA_CHAIN_NAME)?)?);
    // NAT and routing decide where a packet goes; what drops there, as a rule, is in chains that filter.
    (text(attribute(NFTA_CHAIN_TYPE)?)? == "filter").then_some(())?;
    let base = BaseChain {
        firewall: "nftables".to_owned(),
        family: family_name.to_owned(),
        table: table.to_owned(),
        chain: chain.to_owned(),
        place: Place::of_hook(be32(find(hook, NFTA_HOOK_HOOKNUM)?)?)?,
        priority: be32(find(hook, NFTA_HOOK_PRIORITY)?)?.cast_signed(),
        policy_drops: be32(attribute(NFTA_CHAIN_POLICY)?)?.cast_signed() == NF_DROP,
    };
    Some((base, (family, table.to_owned(), chain.to_owned())))
}

fn all(kind: u16, step: &'static str) -> Request<'static> {
    Request { kind, flags: 0, header: &[0; 4], step, object: "", fine: &[] }
}

fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(array(value, 0)?))
}

impl Program {
    pub(super) fn read(nft: &mut Channel) -> Result<Program> {
        let mut program = Program { bases: bases(nft)?, ..Program::default() };
        let answers = nft.dump(&all(GETRULE, "read nftables rules"), |_| {})?;
        for message in answers.messages() {
            let attribute = |kind| message.attributes(4).find(|(k, _)| *k == kind).map(|(_, v)| v);
            let name = |kind| Some(text(attribute(kind)?)?.to_owned());
            let (Some(family), Some(table), Some(chain)) =
                (message.body.first(), name(NFTA_RULE_TABLE), name(NFTA_RULE_CHAIN))
            else {
                continue;
            };
            let rule = attribute(NFTA_RULE_EXPRESSIONS).unwrap_or_default().to_vec();
            for set in looked_up(&rule) {
                program.sets.entry((*family, table.clone(), set)).or_default();
            }
            program.rules.entry((*family, table, chain)).or_default().push(rule);
        }
        for ((family, table, set), elements) in &mut program.sets {
            let header = [*family, 0, 0, 0];
            // One that is gone by now is taken for empty.
            let fine = &[Errno::NOENT];
            let step = "read nftables set";
            let request = Request { kind: GETSETELEM, flags: 0, header: &header, step, object: set, fine };
            let answers = nft.dump(&request, |a| {
                a.string(NFTA_SET_ELEM_LIST_TABLE, table);
                a.string(NFTA_SET_ELEM_LIST_SET, set);
            })?;
            for message in answers.messages() {
                let lists = message.attributes(4).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
                elements.extend(lists.flat_map(|(_, list)| AttributesOf(list)).map(|(_, item)| element(item)));
            }
            elements.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(program)
    }

    /// Overwrites a byte of the rules; returns what it was.
    #[cfg(test)]
    pub(super) fn spoil(&mut self, place: usize, value: u8) -> u8 {
        let count = self.rules.values().map(Vec::len).sum::<usize>();
        let rule = self.rules.values_mut().flatten().nth(place % count).unwrap();
        let at = place / count % rule.len();
        std::mem::replace(&mut rule[at], value)
    }

    pub(super) fn chains(&self) -> impl Iterator<Item = &BaseChain> {
        self.bases.iter().map(|(chain, _)| chain)
    }

    pub(super) fn judge(&self, place: Place, packet: &Packet) -> Vec<Judgement> {
        let family = if packet.destination.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        let here = self.bases.iter().filter(|(c, key)| c.place == place && (key.0 == family || key.0 == NFPROTO_INET));
        here.map(|(chain, key)| {
            let mut trail = Trail::default();
            let end = self.follow(key, packet, true, DEPTH, &mut trail);
            let (dropped, by) = match end {
                Some(End::Verdict { dropped, by }) => (dropped, by),
                _ => (chain.policy_drops, "the policy".to_owned()),
            };
            let (fate, by) = trail.end(dropped, by);
            Judgement { chain: chain.clone(), fate, by }
        })
        .collect()
    }

    /// `None` at the end of the chain, or when it returned.
    fn follow(&self, key: &Key, packet: &Packet, sure: bool, depth: usize, trail: &mut Trail) -> Option<End> {
        let (family, table, chain) = key;
        for (number, rule) in (1..).zip(self.rules.get(key).map_or(&[][..], Vec::as_slice)) {
            let by = format!("rule {number} of chain {chain}");
            let mut machine = Machine::new(packet);
            let scope = Scope { program: self, family: *family, table };
            let Some((verdict, certain)) = machine.run(rule, &scope) else { continue };
            let sure_here = sure && certain;
            let dropped = match verdict {
                Verdict::Accept => false,
                Verdict::Drop => true,
                Verdict::Unknown => {
                    trail.perhaps(true, &by);
                    continue;
                }
                Verdict::Return if certain => return None,
                Verdict::Return => {
                    trail.may_pass = true;
                    continue;
                }
                Verdict::Chain { name, goto } => {
                    let to = (*family, table.clone(), name);
                    let end = if depth == 0 { None } else { self.follow(&to, packet, sure_here, depth - 1, trail) };
                    match end {
                        Some(end) if certain => return Some(end),
                        None if goto && certain => return None,
                        _ => continue,
                    }
                }
            };
            if sure_here {
                return Some(End::Verdict { dropped, by });
            }
            trail.perhaps(dropped, &by);
            if certain {
                // It ends here, if it came here at all.
                return Some(End::Perhaps);
            }
        }
        None
    }
}

/// How a packet left a chain for good.
enum End {
    Verdict {
        dropped: bool,
        by: String,
    },
    /// Noted already.
    Perhaps,
}

/// The names of the sets that a rule looks up.
fn looked_up(rule: &[u8]) -> Vec<String> {
    let expressions = AttributesOf(rule).filter_map(|(_, e)| {
        (text(find(e, NFTA_EXPR_NAME)?)? == "lookup").then_some(())?;
        Some(text(find(find(e, NFTA_EXPR_DATA)?, 1)?)?.to_owned())
    });
    expressions.collect()
}

fn element(item: &[u8]) -> Element {
    let value = |kind| Some(find(find(item, kind)?, NFTA_DATA_VALUE)?.to_vec());
    Element {
        key: value(NFTA_SET_ELEM_KEY).unwrap_or_default(),
        end: value(NFTA_SET_ELEM_KEY_END),
        flags: find(item, NFTA_SET_ELEM_FLAGS).and_then(be32).unwrap_or_default(),
        data: find(item, NFTA_SET_ELEM_DATA).and_then(data),
    }
}

fn data(nest: &[u8]) -> Option<Data> {
    if let Some(value) = find(nest, NFTA_DATA_VALUE) {
        return Some(Data::Value(value.to_vec()));
    }
    let verdict = find(nest, NFTA_DATA_VERDICT)?;
    let chain = find(verdict, NFTA_VERDICT_CHAIN).and_then(text).unwrap_or_default();
    Some(Data::Verdict(be32(find(verdict, NFTA_VERDICT_CODE)?)?.cast_signed(), chain.to_owned()))
}

enum Verdict {
    Accept,
    Drop,
    Return,
    Chain {
        name: String,
        goto: bool,
    },
    /// Handed to a program, or of a kind that is not known here.
    Unknown,
}

struct Scope<'a> {
    program: &'a Program,
    family: u8,
    table: &'a str,
}

/// The registers during one rule; `None` is a byte that is not known.
struct Machine<'a> {
    packet: &'a Packet,
    registers: [Option<u8>; REGISTERS],
    /// Everything so far matched for certain.
    certain: bool,
    verdict: Option<Verdict>,
}

impl<'a> Machine<'a> {
    fn new(packet: &'a Packet) -> Self {
        Machine { packet, registers: [None; REGISTERS], certain: true, verdict: None }
    }

    /// The verdict of the rule, and whether it is certain that it is reached; `None` if it is certain that it is not, or
    /// if the rule has none.
    fn run(&mut self, rule: &[u8], scope: &Scope<'_>) -> Option<(Verdict, bool)> {
        for (_, expression) in AttributesOf(rule) {
            let name = find(expression, NFTA_EXPR_NAME).and_then(text).unwrap_or_default();
            let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
            match self.step(name, data, scope) {
                Some(true) => {}
                Some(false) => return None,
                None => {
                    self.certain = false;
                    // It may have loaded something.
                    if !["cmp", "range", "lookup", "match", "limit"].contains(&name) {
                        self.registers = [None; REGISTERS];
                    }
                }
            }
            if let Some(verdict) = self.verdict.take() {
                return Some((verdict, self.certain));
            }
        }
        None
    }

    /// Whether the rule goes on after an expression; `None` where that is not known.
    fn step(&mut self, name: &str, data: &[u8], scope: &Scope<'_>) -> Option<bool> {
        let number = |kind| find(data, kind).and_then(be32);
        match name {
            "counter" | "log" | "notrack" | "last" => Some(true),
            "meta" => self.load(number(1), self.meta(number(2))),
            "payload" => self.load(number(1), self.payload(number(2)?, number(3)? as usize, number(4)? as usize)),
            "ct" => self.load(number(1), self.conntrack(number(2)?)),
            "bitwise" => self.bitwise(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "lookup" => self.lookup(data, scope),
            "immediate" => {
                let given = self::data(find(data, 2)?)?;
                self.give(number(1)?, &given)
            }
            "reject" => {
                self.verdict = Some(Verdict::Drop);
                Some(true)
            }
            "queue" => {
                self.verdict = Some(Verdict::Unknown);
                Some(true)
            }
            "match" => xt::matches(text(find(data, 1)?)?, number(2)?, find(data, 3)?, self.packet),
            "target" => {
                self.verdict = match text(find(data, 1)?)? {
                    "REJECT" => Some(Verdict::Drop),
                    "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "SET" | "CLASSIFY" | "TRACE" => None,
                    _ => Some(Verdict::Unknown),
                };
                Some(true)
            }
            _ => None,
        }
    }

    /// Puts bytes into a register; an expression without one writes into the packet instead, which ends nothing.
    fn load(&mut self, register: Option<u32>, bytes: Vec<Option<u8>>) -> Option<bool> {
        let Some(register) = register else { return Some(true) };
        let at = place(register)?;
        for (to, from) in self.registers.get_mut(at..)?.iter_mut().zip(bytes) {
            *to = from;
        }
        Some(true)
    }

    fn give(&mut self, register: u32, given: &Data) -> Option<bool> {
        match given {
            Data::Value(value) => self.load(Some(register), known(value)),
            Data::Verdict(code, chain) => {
                self.verdict = match *code {
                    NF_DROP => Some(Verdict::Drop),
                    NF_ACCEPT => Some(Verdict::Accept),
                    NFT_RETURN => Some(Verdict::Return),
                    NFT_CONTINUE => None,
                    NFT_JUMP | NFT_GOTO => Some(Verdict::Chain { name: chain.clone(), goto: *code == NFT_GOTO }),
                    _ => Some(Verdict::Unknown),
                };
                Some(true)
            }
        }
    }

    fn meta(&self, key: Option<u32>) -> Vec<Option<u8>> {
        let device = |name: &Option<String>| known(&device_key(name.as_deref().unwrap_or_default()));
        let v4 = self.packet.destination.is_ipv4();
        match key {
            Some(META_IIFNAME) => device(&self.packet.arriving),
            Some(META_OIFNAME) => device(&self.packet.leaving),
            Some(META_NFPROTO) => known(&[if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }]),
            Some(META_L4PROTO) => known(&[self.packet.transport.number()]),
            // NFT_META_PROTOCOL
            Some(1) => known(&if v4 { [0x08, 0x00] } else { [0x86, 0xdd] }),
            _ => vec![None; 16],
        }
    }

    fn payload(&self, base: u32, offset: usize, length: usize) -> Vec<Option<u8>> {
        let packet = self.packet;
        let mut header = [None; 64];
        let mut put = |at: usize, bytes: &[u8]| {
            header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = Some(*from));
        };
        match base {
            NETWORK if packet.destination.is_ipv4() => {
                put(9, &[packet.transport.number()]);
                put(12, &packet.source.map(octets).unwrap_or_default());
                put(16, &octets(packet.destination));
            }
            NETWORK => {
                put(6, &[packet.transport.number()]);
                put(8, &packet.source.map(octets).unwrap_or_default());
                put(24, &octets(packet.destination));
            }
            TRANSPORT => put(2, &packet.port.to_be_bytes()),
            _ => {}
        }
        (offset..offset.saturating_add(length.min(REGISTERS))).map(|i| header.get(i).copied().flatten()).collect()
    }

    /// State, direction and status of a new connection.
    fn conntrack(&self, key: u32) -> Vec<Option<u8>> {
        match key {
            // NF_CT_STATE_BIT(IP_CT_NEW)
            0 => known(&8_u32.to_ne_bytes()),
            1 => known(&[0]),
            2 => {
                // IPS_DST_NAT
                let status = if self.packet.translated { 1_u32 << 5 } else { 0 };
                known(&status.to_ne_bytes())
            }
            _ => vec![None; 16],
        }
    }

    /// SREG, DREG, LEN, MASK, XOR; an operation of another kind (shift) is not read.
    fn bitwise(&mut self, data: &[u8]) -> Option<bool> {
        let number = |kind| find(data, kind).and_then(be32);
        let value = |kind| find(find(data, kind)?, NFTA_DATA_VALUE);
        let (mask, flip) = (value(4)?, value(5)?);
        let from = self.registers.get(place(number(1)?)?..)?;
        let result = from.iter().zip(mask).zip(flip).map(|((byte, mask), flip)| match byte {
            _ if *mask == 0 => Some(*flip),
            byte => byte.map(|b| b & mask ^ flip),
        });
        let result = result.collect();
        self.load(Some(number(2)?), result)
    }

    /// SREG, OP, DATA.
    fn compare(&self, data: &[u8]) -> Option<bool> {
        let number = |kind| find(data, kind).and_then(be32);
        let wanted = find(find(data, 3)?, NFTA_DATA_VALUE)?;
        let bytes = self.registers.get(place(number(1)?)?..)?.get(..wanted.len())?;
        let operation = number(2)?;
        if bytes.iter().zip(wanted).any(|(b, w)| b.is_some_and(|b| b != *w)) && operation < 2 {
            return Some(operation == 1);
        }
        let bytes: Vec<u8> = bytes.iter().copied().collect::<Option<_>>()?;
        let order = bytes.as_slice().cmp(wanted);
        Some(match operation {
            0 => order.is_eq(),
            1 => order.is_ne(),
            2 => order.is_lt(),
            3 => order.is_le(),
            4 => order.is_gt(),
            5 => order.is_ge(),
            _ => return None,
        })
    }

    /// SREG, OP, FROM, TO.
    fn range(&self, data: &[u8]) -> Option<bool> {
        let number = |kind| find(data, kind).and_then(be32);
        let value = |kind| find(find(data, kind)?, NFTA_DATA_VALUE);
        let (from, to) = (value(3)?, value(4)?);
        let bytes = self.registers.get(place(number(1)?)?..)?.get(..from.len())?;
        let bytes: Vec<u8> = bytes.iter().copied().collect::<Option<_>>()?;
        let inside = from <= bytes.as_slice() && bytes.as_slice() <= to;
        Some(inside == (number(2)? == 0))
    }

    /// SET, SREG, DREG, FLAGS.
    fn lookup(&mut self, data: &[u8], scope: &Scope<'_>) -> Option<bool> {
        let number = |kind| find(data, kind).and_then(be32);
        let set = (scope.family, scope.table.to_owned(), text(find(data, 1)?)?.to_owned());
        let elements = scope.program.sets.get(&set)?;
        let inverted = number(5).unwrap_or_default() & 1 != 0;
        let Some(length) = elements.iter().map(|e| e.key.len()).find(|length| *length > 0) else {
            return Some(inverted);
        };
        let bytes = self.registers.get(place(number(2)?)?..)?.get(..length)?;
        let bytes: Vec<u8> = bytes.iter().copied().collect::<Option<_>>()?;
        let found = search(elements, &bytes)?;
        let found = found.or_else(|| elements.iter().find(|e| e.flags & CATCH_ALL != 0));
        match (found, number(3)) {
            (Some(Element { data: Some(given), .. }), Some(register)) => {
                let given = given.clone();
                self.give(register, &given)
            }
            (found, _) => Some(found.is_some() != inverted),
        }
    }
}

/// Finds the element with this key, or the interval around it; `None` where that cannot be told.
fn search<'a>(elements: &'a [Element], key: &[u8]) -> Option<Option<&'a Element>> {
    if elements.iter().any(|e| e.end.is_some()) {
        // Ranges of several fields at once, whose widths are not known here.
        let exact = elements.iter().find(|e| e.key == key && e.end.as_deref().is_none_or(|end| end == key));
        let outside = |e: &Element| key < e.key.as_slice() || e.end.as_deref().is_some_and(|end| key > end);
        return if exact.is_some() || elements.iter().all(outside) { Some(exact) } else { None };
    }
    if elements.iter().any(|e| e.flags & INTERVAL_END != 0) {
        let last = elements.iter().rfind(|e| e.flags & CATCH_ALL == 0 && e.key.as_slice() <= key);
        // Where one interval ends and another begins there are two elements of one key.
        let begins = |e: &&Element| e.flags & INTERVAL_END == 0;
        let at = last.map(|last| elements.iter().filter(|e| e.key == last.key).find(begins).unwrap_or(last));
        return Some(at.filter(begins));
    }
    Some(elements.iter().find(|e| e.flags & CATCH_ALL == 0 && e.key == key))
}

fn known(bytes: &[u8]) -> Vec<Option<u8>> {
    bytes.iter().copied().map(Some).collect()
}

/// Where a register begins: `NFT_REG_1` to 4, or `NFT_REG32_00` to 15.
fn place(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 16),
        8..=23 => Some((register as usize - 8) * 4),
        _ => None,
    }
}
