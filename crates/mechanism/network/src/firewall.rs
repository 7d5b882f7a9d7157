//! The rules of one root's networks, as data: what is planned, shown by `--plan`, and written by [`crate::nft`].
//!
//! The base chains never change; a network is a few small chains, reached through maps from its bridge's name, so that
//! a packet passes the same number of rules whether there is one network or a hundred:
//!
//! ```text
//! prerouting  raw     guard        iifname vmap @guards   ─► guard_BR   is the source the container's to use?
//!             dstnat  prerouting   published ports, of both families
//! output      -100    output       the same for what the host itself sends
//! forward     filter  forward      iifname vmap @froms    ─► from_BR    may it leave the network?
//!                                  oifname vmap @tos      ─► to_BR      may it enter the network?
//! postrouting srcnat  postrouting  oifname vmap @enterings ─► enter_BR  hairpin: masqueraded to come back through us
//!                                  iifname vmap @leavings  ─► leave_BR  masquerade
//! ```
//!
//! Displayed in nft's own language, so that `nft -f` makes the same table from the text: a test compares the two.

use crate::Policy;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_model::address::IpNet;

/// Ports published on every address of the host: protocol and port lead to address and port.
pub(crate) const PUBLISHED: &str = "published";
/// Ports published on one address of the host: protocol, address and port lead to address and port.
pub(crate) const PUBLISHED_AT: &str = "published_at";
/// As [`PUBLISHED`], for IPv6.
pub(crate) const PUBLISHED_6: &str = "published6";
/// As [`PUBLISHED_AT`], for IPv6.
pub(crate) const PUBLISHED_6_AT: &str = "published6_at";
/// The bridges of all networks.
pub(crate) const NETWORKS: &str = "networks";

/// One nftables table of family inet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// Name of the table.
    pub table: String,
    /// The comment of the first chain: equal to that in the kernel if the base chains there are these.
    pub fingerprint: String,
    /// The maps of published ports and of networks.
    pub maps: Vec<Map>,
    /// The base chains, all with policy accept.
    pub chains: Vec<Chain>,
    /// Each network's part.
    pub networks: Vec<NetworkRules>,
}

/// One network's chains, and the elements that lead to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// Name of the bridge device: the key of its elements.
    pub bridge: String,
    /// The comment of the first chain.
    pub fingerprint: String,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// For each map the chain to which the bridge leads there; `None` in a set.
    pub entries: Vec<(String, Option<String>)>,
}

/// A map or a set of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name in the table.
    pub name: String,
    /// What is looked up.
    pub key: Vec<Field>,
    /// What is found.
    pub value: Value,
}

/// What a map leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Nothing: it is a set.
    Nothing,
    /// A container's IPv4 address and port.
    Endpoint4,
    /// A container's IPv6 address and port.
    Endpoint6,
    /// A chain.
    Verdict,
}

/// A part of a map's key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The transport protocol.
    Protocol,
    /// The destination, IPv4.
    Address4,
    /// The destination, IPv6.
    Address6,
    /// The destination's port.
    Port,
    /// The name of a device.
    Device,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// Of a base chain: where in a packet's way it is, and before or after which others.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The places that our base chains have; each at the usual priority of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Filter, before connection tracking (raw, -300).
    Arriving,
    /// NAT of what arrives (dstnat, -100).
    Prerouting,
    /// NAT of what the host itself sends (dstnat, -100).
    Output,
    /// Filter of what passes through (filter, 0).
    Forward,
    /// NAT of what leaves (srcnat, 100).
    Postrouting,
}

/// What happens to a packet that matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// All of them must match.
    pub matches: Vec<Match>,
    /// What then happens.
    pub action: Action,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Came in through another device.
    NotFrom(String),
    /// Came in through a device of the set.
    FromAny(String),
    /// Goes out through the device.
    To(String),
    /// Goes out through another device.
    NotTo(String),
    /// Goes out through a device of the set.
    ToAny(String),
    /// The source belongs to the network.
    Source(IpNet),
    /// The destination belongs to the network.
    Destination(IpNet),
    /// The destination is of the network's family and does not belong to it.
    NotDestination(IpNet),
    /// Is ICMP for IPv6.
    Icmp6,
    /// The destination is an address of the host.
    DestinationLocal,
    /// The source is an address of the device through which it came in.
    SourceLocal,
    /// Belongs or relates to a connection that is already known.
    Established,
    /// Its destination was translated: it came through a published port.
    Published,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// This chain has no objection; chains of others still decide.
    Accept,
    /// The packet ends here.
    Drop,
    /// Back to the chain that led here.
    Return,
    /// The source becomes the host's address on the way out.
    Masquerade,
    /// The destination becomes what the map says; without an entry, nothing happens.
    Translate(Map),
    /// To the chain that the map has for the device through which the packet came in.
    ByArrival(String),
    /// To the chain that the map has for the device through which the packet goes out.
    ByDeparture(String),
}

impl Ruleset {
    /// The table `table` with the networks' parts.
    pub fn of(table: &str, networks: &[Policy]) -> Ruleset {
        let mut base = Ruleset {
            table: table.to_owned(),
            fingerprint: String::new(),
            maps: maps(),
            chains: base_chains(),
            networks: Vec::new(),
        };
        base.fingerprint = fingerprint(&base.to_string());
        base.networks = networks.iter().map(NetworkRules::of).collect();
        base
    }
}

impl NetworkRules {
    /// The part of the network with this policy.
    pub(crate) fn of(policy: &Policy) -> NetworkRules {
        let bridge = &policy.bridge;
        let parts = [
            ("guards", "guard", guard(policy)),
            ("froms", "from", leaving(policy)),
            ("tos", "to", entering(policy)),
            ("enterings", "enter", hairpin(policy)),
            ("leavings", "leave", masquerade(policy)),
        ];
        let mut entries = vec![(NETWORKS.to_owned(), None)];
        let mut chains = Vec::new();
        for (map, name, rules) in parts {
            let name = format!("{name}_{bridge}");
            entries.push((map.to_owned(), Some(name.clone())));
            chains.push(Chain { name, hook: None, rules });
        }
        let text: String = chains.iter().flat_map(|c| &c.rules).map(|rule| format!("{rule}\n")).collect();
        NetworkRules { bridge: bridge.clone(), fingerprint: fingerprint(&text), chains, entries }
    }
}

fn maps() -> Vec<Map> {
    let map = |name: &str, key: &[Field], value| Map { name: name.into(), key: key.into(), value };
    let by_device = |name: &str, value| map(name, &[Field::Device], value);
    [
        published_maps().to_vec(),
        vec![by_device(NETWORKS, Value::Nothing)],
        ["guards", "froms", "tos", "enterings", "leavings"].map(|name| by_device(name, Value::Verdict)).to_vec(),
    ]
    .concat()
}

/// A port published on one address is the more specific one, so it is asked first.
pub(crate) fn published_maps() -> [Map; 4] {
    let map = |name: &str, address: Option<Field>, value| Map {
        name: name.into(),
        key: [Some(Field::Protocol), address, Some(Field::Port)].into_iter().flatten().collect(),
        value,
    };
    [
        map(PUBLISHED_AT, Some(Field::Address4), Value::Endpoint4),
        map(PUBLISHED, None, Value::Endpoint4),
        map(PUBLISHED_6_AT, Some(Field::Address6), Value::Endpoint6),
        map(PUBLISHED_6, None, Value::Endpoint6),
    ]
}

fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

fn base_chains() -> Vec<Chain> {
    let translate = || {
        published_maps().into_iter().map(|map| {
            let specific = map.key.len() == 3;
            rule(if specific { vec![] } else { vec![Match::DestinationLocal] }, Action::Translate(map))
        })
    };
    // What is published on 127.0.0.1 is for this host alone: a neighbour can send packets for that address, and once
    // they were translated nobody would take them for martians any more.
    let foreign = rule(vec![Match::NotFrom("lo".into()), Match::Destination(IpNet::LOOPBACK_V4)], Action::Accept);
    // The kernel has no way to route ::1 out through a bridge: a socket of the supervisor's takes these.
    let loopback6 = rule(vec![Match::Destination(IpNet::host(Ipv6Addr::LOCALHOST.into()))], Action::Accept);
    let postrouting = vec![
        // From the host's own 127.0.0.1, which would mean the container itself there.
        rule(vec![Match::ToAny(NETWORKS.into()), Match::Source(IpNet::LOOPBACK_V4)], Action::Masquerade),
        rule(vec![], Action::ByDeparture("enterings".into())),
        rule(vec![], Action::ByArrival("leavings".into())),
    ];
    let forward = vec![
        rule(vec![Match::Established], Action::Accept),
        rule(vec![], Action::ByArrival("froms".into())),
        rule(vec![], Action::ByDeparture("tos".into())),
    ];
    let chains = [
        ("guard", Hook::Arriving, vec![rule(vec![], Action::ByArrival("guards".into()))]),
        ("prerouting", Hook::Prerouting, std::iter::once(foreign).chain(translate()).collect()),
        ("output", Hook::Output, std::iter::once(loopback6).chain(translate()).collect()),
        ("forward", Hook::Forward, forward),
        ("postrouting", Hook::Postrouting, postrouting),
    ];
    chains.map(|(name, hook, rules)| Chain { name: name.into(), hook: Some(hook), rules }).into()
}

/// A container speaks from its own network only, and never to the host's loopback, which route_localnet on the bridge
/// would otherwise allow; one of an internal network to no other address of the host than the bridge's.
fn guard(policy: &Policy) -> Vec<Rule> {
    let pass = |matches| rule(matches, Action::Return);
    let nets = |texts: &[(IpAddr, u8)]| texts.iter().filter_map(|(a, p)| IpNet::new(*a, *p)).collect::<Vec<_>>();
    let link_local = nets(&[(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10)]);
    let groups4 = nets(&[(Ipv4Addr::new(224, 0, 0, 0).into(), 4), (Ipv4Addr::BROADCAST.into(), 32)]);
    let groups6 = nets(&[(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8)]);
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = policy.subnets.iter().map(|n| n.network()).partition(|n| n.is_ipv4());
    if policy.parent || policy.subnets.is_empty() {
        // Whoever is behind the host's device, a router perhaps, may have any address.
        let mut rules = vec![rule(vec![Match::Destination(IpNet::LOOPBACK_V4)], Action::Drop)];
        if policy.internal && !policy.subnets.is_empty() {
            let own = [v4, groups4, v6, link_local, groups6].concat();
            rules.extend(own.into_iter().map(|net| pass(vec![Match::Destination(net)])));
            rules.push(rule(vec![], Action::Drop));
        }
        return rules;
    }
    let mut rules = Vec::new();
    for net in &v4 {
        let source = Match::Source(*net);
        if policy.internal {
            let to = v4.iter().chain(&groups4);
            rules.extend(to.map(|to| pass(vec![source.clone(), Match::Destination(*to)])));
        } else {
            rules.push(pass(vec![source, Match::NotDestination(IpNet::LOOPBACK_V4)]));
        }
    }
    if !v6.is_empty() {
        // Neighbours are found under link-local addresses, and under none at all before one is checked for doubles.
        // IPv6 has no rule that what comes in from the host's own address is a martian, as IPv4 has.
        let gateways = policy.gateways.iter().filter(|g| g.is_ipv6());
        rules.extend(gateways.map(|g| rule(vec![Match::Source(IpNet::host(*g))], Action::Drop)));
        for net in v6.iter().chain(&link_local) {
            let source = Match::Source(*net);
            if link_local.contains(net) {
                rules.push(rule(vec![source.clone(), Match::SourceLocal], Action::Drop));
            }
            if policy.internal {
                let to = v6.iter().chain(&link_local).chain(&groups6);
                rules.extend(to.map(|to| pass(vec![source.clone(), Match::Destination(*to)])));
            } else {
                rules.push(pass(vec![source]));
            }
        }
        rules.push(pass(vec![Match::Source(IpNet::host(Ipv6Addr::UNSPECIFIED.into())), Match::Icmp6]));
    }
    rules.push(rule(vec![], Action::Drop));
    rules
}

/// New connections that come from the network.
fn leaving(policy: &Policy) -> Vec<Rule> {
    // Neighbours talk on the bridge itself; here are those bridged packets that br_netfilter shows, and those that
    // a container sends to its neighbour by way of the host.
    let neighbours = if policy.icc { Action::Accept } else { Action::Drop };
    let mut rules = vec![rule(vec![Match::To(policy.bridge.clone())], neighbours)];
    if policy.internal {
        rules.push(rule(vec![], Action::Drop));
    } else if policy.isolate {
        rules.push(rule(vec![Match::ToAny(NETWORKS.into())], Action::Drop));
    }
    rules
}

/// New connections that go to the network: through published ports and in no other way, even for those who route to the
/// subnet through this host.
fn entering(policy: &Policy) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !policy.internal {
        if policy.isolate {
            rules.push(rule(vec![Match::FromAny(NETWORKS.into())], Action::Drop));
        }
        rules.push(rule(vec![Match::Published], Action::Accept));
    }
    rules.push(rule(vec![], Action::Drop));
    rules
}

/// From a container through a published port to one on the same bridge: it would answer directly, past the translation,
/// if it saw its neighbour's address.
fn hairpin(policy: &Policy) -> Vec<Rule> {
    let nets = policy.subnets.iter().map(|n| n.network());
    nets.map(|net| rule(vec![Match::Source(net), Match::Published], Action::Masquerade)).collect()
}

fn masquerade(policy: &Policy) -> Vec<Rule> {
    let nets = policy.subnets.iter().filter(|_| policy.masquerade && !policy.internal).map(|n| n.network());
    nets.map(|net| rule(vec![Match::NotTo(policy.bridge.clone()), Match::Source(net)], Action::Masquerade)).collect()
}

/// FNV-1a, 64 bits, of the rules' text: rules that change have another.
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("tare rules {hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::nft::Depth;
    use crate::testing::{command, in_new_namespace, policy};
    use tare_kernel::netlink::Protocol;

    /// The usual network, and one each that differs in one way.
    fn policies() -> Vec<Policy> {
        let other = |bridge, subnets: &[&str]| policy(bridge, subnets);
        vec![
            // In the order in which nft lists elements.
            policy("tare0", &["10.112.0.0/20", "fd12:3456:789a::/64"]),
            Policy { icc: false, ..other("tn-noicc", &["10.113.2.0/24"]) },
            Policy { masquerade: false, ..other("tn-routed", &["fd12:3456:789a:4::/64"]) },
            Policy { parent: true, ..other("tn-parent", &["10.113.5.0/24"]) },
            Policy { isolate: true, ..other("tn-isolate", &["10.113.1.0/24"]) },
            Policy { internal: true, ..other("tn-internal", &["10.113.0.0/24", "fd12:3456:789a:1::/64"]) },
        ]
    }

    #[test]
    fn the_rules_read_as_nft_lists_them_and_the_kernel_has_these() {
        in_new_namespace(|_| {
            let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
            let golden = include_str!("../testdata/networks.nft");
            assert!(nft.ensure_rules("tare", &policies(), Depth::Fingerprint).unwrap());
            let listed = command(&["nft", "list", "ruleset"]);
            assert!(listed == Ruleset::of("tare", &policies()).to_string(), "nft lists\n{listed}");
            assert!(listed == golden, "the golden listing is another than\n{listed}");
            // One by one, in another order, and again: the same.
            command(&["nft", "flush", "ruleset"]);
            for policy in &policies() {
                assert!(nft.ensure_rules("tare", std::slice::from_ref(policy), Depth::Fingerprint).unwrap());
            }
            assert!(!nft.ensure_rules("tare", &policies(), Depth::Rules).unwrap());
            assert!(command(&["nft", "list", "ruleset"]) == golden);
            // What nft makes of the text is the same as well.
            command(&["nft", "flush", "ruleset"]);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), golden).unwrap();
            command(&["nft", "-f", file.path().to_str().unwrap()]);
            assert!(command(&["nft", "list", "ruleset"]) == golden);
            assert!(!nft.ensure_rules("tare", &policies(), Depth::Rules).unwrap());
        });
    }

    #[test]
    fn whatever_is_missing_is_made_whole_and_networks_go_one_by_one() {
        in_new_namespace(|_| {
            let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
            let golden = include_str!("../testdata/networks.nft");
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            nft.ensure_rules("tare", &policies(), Depth::Fingerprint).unwrap();
            for damage in [
                "flush chain inet tare forward",
                "delete chain inet tare postrouting",
                "flush chain inet tare from_tn-internal",
                "flush map inet tare guards",
                "flush set inet tare networks",
                "delete element inet tare tos { \"tare0\" }",
                "flush table inet tare",
                "flush ruleset",
            ] {
                command(&["nft", damage]);
                assert!(nft.ensure_rules("tare", &policies(), Depth::Rules).unwrap(), "{damage}");
                let listed = command(&["nft", "list", "ruleset"]);
                assert!(sorted(&listed) == sorted(golden), "after {damage}:\n{listed}");
            }
            // A definition that changed.
            let changed = Policy { icc: false, ..policies()[0].clone() };
            assert!(nft.ensure_rules("tare", &[changed], Depth::Fingerprint).unwrap());
            assert!(command(&["nft", "list", "chain", "inet", "tare", "from_tare0"]).contains("\"tare0\" drop"));
            // One that is half gone can be removed.
            command(&["nft", "delete element inet tare tos { \"tn-parent\" }"]);
            command(&["nft", "flush chain inet tare to_tn-parent"]);
            assert!(!nft.remove_network("tare", "tn-parent").unwrap());
            assert!(!nft.remove_network("tare", "tn-parent").unwrap(), "it is fine to repeat");
            let mut others = policies();
            others.retain(|policy| policy.bridge != "tn-parent");
            let listed = command(&["nft", "list", "ruleset"]);
            assert!(!listed.contains("tn-parent") && listed.contains("tn-routed"), "{listed}");
            for (i, policy) in others.iter().enumerate() {
                assert_eq!(nft.remove_network("tare", &policy.bridge).unwrap(), i + 1 == others.len());
            }
            assert_eq!(command(&["nft", "list", "ruleset"]), "");
            assert!(nft.remove_network("tare", "tare0").unwrap());
        });
    }

    #[test]
    fn many_processes_write_the_same_rules_at_once() {
        in_new_namespace(|netns| {
            use std::os::fd::AsFd;
            let all = policies();
            for round in 0..5 {
                std::thread::scope(|scope| {
                    for i in 0..16 {
                        let all = &all;
                        scope.spawn(move || {
                            let mut nft = Channel::open(Protocol::Netfilter, Some(netns.as_fd())).unwrap();
                            let mine = &all[i % all.len()];
                            let depth = if i % 2 == 0 { Depth::Fingerprint } else { Depth::Rules };
                            nft.ensure_rules("tare", std::slice::from_ref(mine), depth).unwrap();
                        });
                    }
                });
                let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
                assert!(!nft.ensure_rules("tare", &all, Depth::Rules).unwrap(), "round {round}");
                let listed = command(&["nft", "list", "ruleset"]);
                assert_eq!(listed.lines().count(), include_str!("../testdata/networks.nft").lines().count());
                command(&["nft", if round % 2 == 0 { "flush ruleset" } else { "flush chain inet tare forward" }]);
            }
        });
    }
}
