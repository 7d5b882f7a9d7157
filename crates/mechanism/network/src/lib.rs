//! Networks of containers: a bridge, veth pairs, addresses, NAT and published ports, straight through netlink.
//!
//! This crate owns the kernel's side of a network: what it makes (bridge, veth, routes, one nftables table) and the
//! order in which it makes it. It refuses to know about containers, names or a store: addresses are given to it, and
//! everything that it did is returned as plain data, so that any later process can take it down again.
//!
//! Invariants:
//! - **Plan, then apply.** [`BridgePlan`] and [`EndpointPlan`] are plain data made by pure functions; [`Host`] turns
//!   them into system calls and answers with [`Endpoint`], which is enough for [`Host::disconnect`].
//! - **One table of our own.** Rules of others are never written, and read only to explain what they do
//!   ([`Firewalls`]); a drop of the administrator's wins, because an accept in one base chain never overrides a drop in
//!   another.
//! - **A published port is one map element**, not another rule: the n-th costs what the first did.
//! - **No waiting.** A veth pair is left to die with its namespace; deleting it would block for 10 to 30 ms. Addresses
//!   are leased, so nobody is asked whether they are free; only what the kernel itself has put off is waited for.
//! - **A container is told, it does not listen:** neither its devices nor our bridges take addresses or routes from
//!   router advertisements, which would be those of a neighbour.
//! - **The host's settings are changed only where packets must pass,** and every change is in [`BridgeReport`].
//! - Bytes that come from the kernel are parsed with bounds checked: malformed ones give an error, never a panic.
//!
//! The way of a packet, with the hooks of our table:
//!
//! ```text
//! outside ─► eth0 ─ prerouting (dnat by map) ─ forward ─► tare0 ─► veth ─► eth0 of the container
//! host    ─► output (dnat by map) ─ postrouting (masquerade of 127.0.0.0/8) ─► tare0 ─► …
//! container ─► eth0 ─► veth ─► tare0 ─ guard (source checked) ─ forward ─ postrouting (masquerade) ─► outside
//! ```

mod address;
mod bridge;
mod channel;
mod connect;
mod conntrack;
mod counters;
mod datagrams;
mod default_route;
mod device;
pub mod dns;
mod element;
mod endpoint;
mod expression;
mod files;
mod firewall;
mod foreign;
mod holder;
mod host;
mod listing;
mod macvlan;
mod message;
#[cfg(test)]
mod message_fuzz;
mod monitor;
#[cfg(test)]
#[path = "../../runtime/src/mutate.rs"]
#[expect(dead_code, reason = "documents are the runtime's; bytes are spoilt here")]
mod mutate;
mod nft;
mod own_addresses;
mod phys;
mod policy;
mod ports;
mod rate;
mod reservation;
mod resolvers;
mod settle;
mod site;
mod slots;
mod splice;
#[cfg(test)]
mod splice_tests;
mod subnet;
mod sysctl;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;

pub use bridge::{BridgePlan, BridgeRemoval, BridgeReport, Setting};
pub use connect::check_interface;
pub use counters::Counters;
pub use endpoint::{Endpoint, EndpointKind, EndpointPlan};
pub use files::{HostsEntry, NameServers, ResolvConf, hostname_file, hosts_file};
pub use firewall::{Action, Chain, Field, Hook, Map, Match, NetworkRules, Rule, Ruleset, Value};
pub use foreign::{BaseChain, Fate, Firewalls, Judgement, Packet, Place, refusing_forward_chains};
pub use host::{Host, counters, loopback_up};
pub use macvlan::{IpvlanMode, MacvlanMode};
pub use monitor::Monitor;
pub use phys::{Kept, LentDevice, Returned};
pub use policy::Policy;
pub use ports::{PortMapping, PortWish, Transport};
pub use rate::{LEAST_RATE, Rate};
pub use reservation::{Reservation, ReservedSocket, SocketRole, reserve_ports};
pub use resolvers::{STUB_RESOLVER_UPSTREAMS, lists_stub_only};
pub use site::{Site, bridge_name, link_name, subnet_candidates};
pub use splice::{Relay, Relayed};
pub use subnet::{Occupied, choose_subnet};
pub use sysctl::has_ipv6;
