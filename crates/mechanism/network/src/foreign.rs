//! What firewalls do with a packet, ours and others': for an explanation, and for a warning.
//!
//! Reads every nftables table, those of iptables-nft included, and the tables of iptables-legacy, and follows a new
//! connection's first packet through them. What cannot be known from here (a rate limit, a mark, a match of a kind that
//! this module does not read) is told as *may*, never guessed. Nothing is changed, and no module is loaded: the legacy
//! tables are asked for only where /proc lists them.

mod legacy;
mod program;
mod xt;

use crate::channel::Channel;
use crate::ports::Transport;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use tare_kernel::netlink::Protocol;
use tare_model::Result;

/// All rules of the network namespace in which they were read.
#[derive(Debug, Default)]
pub struct Firewalls {
    program: program::Program,
    legacy: Vec<legacy::Table>,
}

/// Where in a packet's way a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// As it arrives.
    Prerouting,
    /// To this host itself.
    Input,
    /// Passing through.
    Forward,
    /// From this host itself.
    Output,
    /// As it leaves.
    Postrouting,
}

/// A chain at which packets begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    /// `nftables` or `iptables-legacy`.
    pub firewall: String,
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// Where it is.
    pub place: Place,
    /// Lower ones come first.
    pub priority: i32,
    /// What no rule decides is dropped.
    pub policy_drops: bool,
}

/// The first packet of a connection, as it is at the place that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The device through which it came in.
    pub arriving: Option<String>,
    /// The device through which it goes out.
    pub leaving: Option<String>,
    /// Its source; `None` if it may come from anywhere, and what a rule about the source does is then not known.
    pub source: Option<IpAddr>,
    /// Its destination, translated already where it is asked about after that.
    pub destination: IpAddr,
    /// The protocol.
    pub transport: Transport,
    /// The destination's port.
    pub port: u16,
    /// Its destination was translated.
    pub translated: bool,
}

/// How a chain ends for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It goes on to the next chain.
    Passes,
    /// It may be dropped: it depends on something that cannot be known from here.
    MayDrop,
    /// It is dropped or rejected.
    Drops,
}

/// What one chain does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The chain at which it began.
    pub chain: BaseChain,
    /// How it ends.
    pub fate: Fate,
    /// The rule that decides, in words: `rule 2 of chain DOCKER-USER`; `the policy` where none does.
    pub by: String,
}

impl Firewalls {
    /// Reads all of them, in the calling thread's network namespace.
    pub fn read() -> Result<Firewalls> {
        let mut nft = Channel::open(Protocol::Netfilter, None)?;
        Ok(Firewalls { program: program::Program::read(&mut nft)?, legacy: legacy::read()? })
    }

    /// All chains at which packets begin.
    pub fn chains(&self) -> Vec<BaseChain> {
        let mut chains: Vec<_> = self.program.chains().cloned().collect();
        chains.extend(self.legacy.iter().flat_map(legacy::Table::chains));
        chains.sort_by_key(|c| (c.place, c.priority));
        chains
    }

    /// What each filtering chain at `place` does with `packet`, in their order. The packet passes only where all let it.
    pub fn judge(&self, place: Place, packet: &Packet) -> Vec<Judgement> {
        let mut all = self.program.judge(place, packet);
        all.extend(self.legacy.iter().filter_map(|table| table.judge(place, packet)));
        all.sort_by_key(|j| j.chain.priority);
        all
    }
}

/// The forwarding chains that drop what no rule lets pass: what a container's connections need a rule for in somebody
/// else's firewall. These are the chains whose policy drops, and that of firewalld, whose last rule rejects instead.
///
/// Cheap enough for every start: one question, and a look into /proc.
pub fn refusing_forward_chains() -> Result<Vec<BaseChain>> {
    let mut nft = Channel::open(Protocol::Netfilter, None)?;
    let mut chains = program::base_chains(&mut nft)?;
    chains.extend(legacy::read()?.iter().flat_map(legacy::Table::chains));
    chains.retain(|c| c.place == Place::Forward && (c.policy_drops || c.is_firewallds()));
    Ok(chains)
}

impl BaseChain {
    /// Whether firewalld made it, and so its commands change what passes.
    pub fn is_firewallds(&self) -> bool {
        self.table == "firewalld"
    }
}

impl fmt::Display for BaseChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} of table {} {} ({})", self.chain, self.family, self.table, self.firewall)
    }
}

impl Place {
    /// `NF_INET_PRE_ROUTING` and those after it.
    fn of_hook(number: u32) -> Option<Place> {
        let places = [Place::Prerouting, Place::Input, Place::Forward, Place::Output, Place::Postrouting];
        places.get(number as usize).copied()
    }
}

/// What is known so far on a packet's way through a chain.
#[derive(Debug, Default)]
struct Trail {
    /// A rule that perhaps dropped it.
    may_drop: Option<String>,
    /// A rule perhaps let it pass before what was seen later.
    may_pass: bool,
}

impl Trail {
    /// Notes an end that was perhaps reached.
    fn perhaps(&mut self, dropped: bool, by: &str) {
        if dropped {
            self.may_drop.get_or_insert_with(|| by.to_owned());
        } else {
            self.may_pass = true;
        }
    }

    /// The certain end, in the light of what perhaps came before it.
    fn end(self, dropped: bool, by: String) -> (Fate, String) {
        match (dropped, self.may_drop) {
            (true, _) if !self.may_pass => (Fate::Drops, by),
            (true, earlier) => (Fate::MayDrop, earlier.unwrap_or(by)),
            (false, Some(earlier)) => (Fate::MayDrop, earlier),
            (false, None) => (Fate::Passes, by),
        }
    }
}

#[cfg(test)]
mod tests;
