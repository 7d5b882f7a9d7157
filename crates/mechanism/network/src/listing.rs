//! A [`Ruleset`] in nft's own language, as `nft list table` prints it.

use crate::firewall::{Action, Chain, Field, Hook, Map, Match, Rule, Ruleset, Value};
use std::fmt;
use tare_model::address::IpNet;

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.table)?;
        for map in &self.maps {
            self.map(f, map)?;
        }
        let base = self.chains.iter().enumerate().map(|(i, c)| (c, (i == 0).then_some(&self.fingerprint)));
        let networks = self.networks.iter().flat_map(|network| {
            network.chains.iter().enumerate().map(|(i, c)| (c, (i == 0).then_some(&network.fingerprint)))
        });
        for (i, (chain, comment)) in base.chain(networks).enumerate() {
            f.write_str(if i > 0 { "\n" } else { "" })?;
            listed(f, chain, comment.map(String::as_str))?;
        }
        writeln!(f, "}}")
    }
}

impl Ruleset {
    fn map(&self, f: &mut fmt::Formatter<'_>, map: &Map) -> fmt::Result {
        let key = fields(&map.key, Field::type_name);
        match map.value {
            Value::Nothing => writeln!(f, "\tset {} {{\n\t\ttype {key}", map.name)?,
            value => writeln!(f, "\tmap {} {{\n\t\ttype {key} : {}", map.name, value.type_name())?,
        }
        let elements = self.networks.iter().flat_map(|network| {
            let of_map = network.entries.iter().filter(|(name, _)| *name == map.name);
            of_map.map(|(_, chain)| match chain {
                Some(chain) => format!("\"{}\" : jump {chain}", network.bridge),
                None => format!("\"{}\"", network.bridge),
            })
        });
        let elements: Vec<_> = elements.collect();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "))?;
        }
        f.write_str("\t}\n\n")
    }
}

fn listed(f: &mut fmt::Formatter<'_>, chain: &Chain, comment: Option<&str>) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(comment) = comment.filter(|c| !c.is_empty()) {
        writeln!(f, "\t\tcomment \"{comment}\"")?;
    }
    if let Some(hook) = chain.hook {
        let (kind, hook, priority) = hook.words();
        writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    f.write_str("\t}\n")
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

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        write!(f, "{}", self.action)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::NotFrom(device) => write!(f, "iifname != \"{device}\""),
            Match::FromAny(set) => write!(f, "iifname @{set}"),
            Match::To(device) => write!(f, "oifname \"{device}\""),
            Match::NotTo(device) => write!(f, "oifname != \"{device}\""),
            Match::ToAny(set) => write!(f, "oifname @{set}"),
            Match::Source(net) => address(f, *net, "saddr"),
            Match::Destination(net) => address(f, *net, "daddr"),
            Match::NotDestination(net) => address(f, *net, "daddr !="),
            Match::Icmp6 => f.write_str("meta l4proto ipv6-icmp"),
            Match::DestinationLocal => f.write_str("fib daddr type local"),
            Match::SourceLocal => f.write_str("fib saddr . iif type local"),
            Match::Established => f.write_str("ct state established,related"),
            Match::Published => f.write_str("ct status dnat"),
        }
    }
}

fn address(f: &mut fmt::Formatter<'_>, net: IpNet, what: &str) -> fmt::Result {
    let family = if net.is_ipv4() { "ip" } else { "ip6" };
    if net == IpNet::host(net.address()) {
        write!(f, "{family} {what} {}", net.address())
    } else {
        write!(f, "{family} {what} {net}")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Accept => f.write_str("accept"),
            Action::Drop => f.write_str("drop"),
            Action::Return => f.write_str("return"),
            Action::Masquerade => f.write_str("masquerade"),
            Action::Translate(map) => {
                let family = if map.value == Value::Endpoint6 { "ip6" } else { "ip" };
                write!(f, "dnat {family} to {} map @{}", fields(&map.key, Field::selector), map.name)
            }
            Action::ByArrival(map) => write!(f, "iifname vmap @{map}"),
            Action::ByDeparture(map) => write!(f, "oifname vmap @{map}"),
        }
    }
}

impl Field {
    fn type_name(self) -> &'static str {
        match self {
            Field::Protocol => "inet_proto",
            Field::Address4 => "ipv4_addr",
            Field::Address6 => "ipv6_addr",
            Field::Port => "inet_service",
            Field::Device => "ifname",
        }
    }

    fn selector(self) -> &'static str {
        match self {
            Field::Protocol => "meta l4proto",
            Field::Address4 => "ip daddr",
            Field::Address6 => "ip6 daddr",
            Field::Port => "th dport",
            Field::Device => "iifname",
        }
    }
}

impl Value {
    fn type_name(self) -> String {
        match self {
            Value::Verdict => "verdict".to_owned(),
            other => fields(other.fields(), Field::type_name),
        }
    }

    /// The parts of a value that is data.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Value::Nothing | Value::Verdict => &[],
            Value::Endpoint4 => &[Field::Address4, Field::Port],
            Value::Endpoint6 => &[Field::Address6, Field::Port],
        }
    }
}

fn fields(fields: &[Field], word: impl Fn(Field) -> &'static str) -> String {
    fields.iter().map(|f| word(*f)).collect::<Vec<_>>().join(" . ")
}
