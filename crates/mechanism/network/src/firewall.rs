//! The rules of a network, as data: what is planned, shown by `--plan`, and written by [`crate::nft`].
//!
//! Displayed in nft's own language, so that `nft -f` makes the same table from the text: a test compares the two.

use crate::Policy;
use serde::{Deserialize, Serialize};
use std::fmt;
use tare_model::address::IpNet;

/// To be raised whenever the rules below change, so that a newer tare replaces an older one's.
const VERSION: u32 = 2;

/// Ports published on every address of the host: protocol and port lead to address and port.
pub(crate) const PUBLISHED: &str = "published";
/// Ports published on one address of the host: protocol, address and port lead to address and port.
pub(crate) const PUBLISHED_AT: &str = "published_at";

/// One nftables table of family inet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// Name of the table.
    pub table: String,
    /// The comment of the first chain: equal to that in the kernel if the rules there are these.
    pub fingerprint: String,
    /// The maps of published ports.
    pub maps: Vec<Map>,
    /// The base chains, all with policy accept.
    pub chains: Vec<Chain>,
}

/// A map from a key to the container's address and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name in the table.
    pub name: String,
    /// What is looked up.
    pub key: Vec<Field>,
}

/// A part of a map's key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The transport protocol.
    Protocol,
    /// An IPv4 address.
    Address,
    /// A port.
    Port,
}

/// What every map leads to.
pub(crate) const TARGET: [Field; 2] = [Field::Address, Field::Port];

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// Where in a packet's way it is, and before or after which others.
    pub hook: Hook,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The places that our chains have; each at the usual priority of its type.
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
    /// Came in through the device.
    From(String),
    /// Came in through another device.
    NotFrom(String),
    /// Goes out through the device.
    To(String),
    /// Goes out through another device.
    NotTo(String),
    /// The source belongs to the network.
    Source(IpNet),
    /// The source is IPv4 and does not belong to the network.
    NotSource(IpNet),
    /// The destination belongs to the network.
    Destination(IpNet),
    /// Is IPv6.
    Ipv6,
    /// The destination is an address of the host.
    DestinationLocal,
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
    /// The source becomes the host's address on the way out.
    Masquerade,
    /// The destination becomes what the map says; without an entry, nothing happens.
    Translate(Map),
}

impl Ruleset {
    /// The rules of one network.
    pub(crate) fn of(table: &str, policy: &Policy) -> Ruleset {
        let bridge = &policy.bridge;
        let subnet = policy.subnets.iter().copied().find(|n| n.is_ipv4()).unwrap_or(IpNet::LOOPBACK_V4);
        let loopback = IpNet::LOOPBACK_V4;
        let from = || Match::From(bridge.clone());
        let to = || Match::To(bridge.clone());
        let rule = |matches: Vec<Match>, action: Action| Rule { matches, action };
        let at = Map { name: PUBLISHED_AT.into(), key: vec![Field::Protocol, Field::Address, Field::Port] };
        let any = Map { name: PUBLISHED.into(), key: vec![Field::Protocol, Field::Port] };
        // A port published on one address is the more specific one, so it is asked first.
        let translate = || {
            vec![
                rule(vec![], Action::Translate(at.clone())),
                rule(vec![Match::DestinationLocal], Action::Translate(any.clone())),
            ]
        };
        // What is published on 127.0.0.1 is for this host alone: a neighbour can send packets for that address, and once
        // they were translated nobody would take them for martians any more.
        let foreign = rule(vec![Match::NotFrom("lo".into()), Match::Destination(loopback)], Action::Accept);
        let prerouting = [vec![foreign], translate()].concat();
        let arriving = vec![
            // A container speaks from its own network only, and never to the host's loopback, which route_localnet
            // on the bridge would otherwise allow. No IPv6 network has been given to it.
            rule(vec![from(), Match::NotSource(subnet)], Action::Drop),
            rule(vec![from(), Match::Destination(loopback)], Action::Drop),
            rule(vec![from(), Match::Ipv6], Action::Drop),
        ];
        let forward = vec![
            rule(vec![Match::NotTo(bridge.clone())], Action::Accept),
            rule(vec![from()], Action::Accept),
            rule(vec![Match::Established], Action::Accept),
            rule(vec![Match::Published], Action::Accept),
            // Others reach published ports and nothing else, even if they route to the subnet through this host.
            rule(vec![], Action::Drop),
        ];
        let postrouting = vec![
            rule(vec![Match::NotTo(bridge.clone()), Match::Source(subnet)], Action::Masquerade),
            // From the host's own 127.0.0.1, which would mean the container itself there.
            rule(vec![to(), Match::Source(loopback)], Action::Masquerade),
            // From a container through a published port to one on the same bridge: it would answer directly, past the
            // translation, if it saw its neighbour's address.
            rule(vec![to(), Match::Source(subnet), Match::Published], Action::Masquerade),
        ];
        let chains = [
            ("guard", Hook::Arriving, arriving),
            ("prerouting", Hook::Prerouting, prerouting),
            ("output", Hook::Output, translate()),
            ("forward", Hook::Forward, forward),
            ("postrouting", Hook::Postrouting, postrouting),
        ];
        Ruleset {
            table: table.to_owned(),
            fingerprint: format!("tare rules {VERSION} for {bridge} {subnet}"),
            chains: chains.map(|(name, hook, rules)| Chain { name: name.into(), hook, rules }).into(),
            maps: vec![any, at],
        }
    }
}

impl Hook {
    /// Type, hook's name, and priority's name in nft's language.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Hook::Arriving => ("filter", "prerouting", "raw"),
            Hook::Prerouting => ("nat", "prerouting", "dstnat"),
            // In the output hook nft has no name for -100.
            Hook::Output => ("nat", "output", "-100"),
            Hook::Forward => ("filter", "forward", "filter"),
            Hook::Postrouting => ("nat", "postrouting", "srcnat"),
        }
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.table)?;
        for map in &self.maps {
            let (key, target) = (fields(&map.key, Field::type_name), fields(&TARGET, Field::type_name));
            writeln!(f, "\tmap {} {{\n\t\ttype {key} : {target}\n\t}}\n", map.name)?;
        }
        for (i, chain) in self.chains.iter().enumerate() {
            let (kind, hook, priority) = chain.hook.words();
            writeln!(f, "\tchain {} {{", chain.name)?;
            if i == 0 {
                writeln!(f, "\t\tcomment \"{}\"", self.fingerprint)?;
            }
            writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
            for rule in &chain.rules {
                f.write_str("\t\t")?;
                for condition in &rule.matches {
                    write!(f, "{condition} ")?;
                }
                writeln!(f, "{}", rule.action)?;
            }
            writeln!(f, "\t}}{}", if i + 1 < self.chains.len() { "\n" } else { "" })?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::From(device) => write!(f, "iifname \"{device}\""),
            Match::NotFrom(device) => write!(f, "iifname != \"{device}\""),
            Match::To(device) => write!(f, "oifname \"{device}\""),
            Match::NotTo(device) => write!(f, "oifname != \"{device}\""),
            Match::Source(net) => write!(f, "ip saddr {net}"),
            Match::NotSource(net) => write!(f, "ip saddr != {net}"),
            Match::Destination(net) => write!(f, "ip daddr {net}"),
            Match::Ipv6 => f.write_str("meta nfproto ipv6"),
            Match::DestinationLocal => f.write_str("fib daddr type local"),
            Match::Established => f.write_str("ct state established,related"),
            Match::Published => f.write_str("ct status dnat"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Accept => f.write_str("accept"),
            Action::Drop => f.write_str("drop"),
            Action::Masquerade => f.write_str("masquerade"),
            Action::Translate(map) => {
                write!(f, "dnat ip to {} map @{}", fields(&map.key, Field::selector), map.name)
            }
        }
    }
}

impl Field {
    fn type_name(self) -> &'static str {
        match self {
            Field::Protocol => "inet_proto",
            Field::Address => "ipv4_addr",
            Field::Port => "inet_service",
        }
    }

    fn selector(self) -> &'static str {
        match self {
            Field::Protocol => "meta l4proto",
            Field::Address => "ip daddr",
            Field::Port => "th dport",
        }
    }
}

fn fields(fields: &[Field], word: impl Fn(Field) -> &'static str) -> String {
    fields.iter().map(|f| word(*f)).collect::<Vec<_>>().join(" . ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_read_as_nft_would_list_them() {
        let policy = Policy {
            bridge: "tare0".into(),
            subnets: vec!["10.112.0.0/20".parse().unwrap()],
            internal: false,
            isolate: false,
            icc: true,
            masquerade: true,
        };
        assert_eq!(Ruleset::of("tare", &policy).to_string(), include_str!("../testdata/default.nft"));
    }
}
