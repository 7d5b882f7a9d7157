//! What is answered from the names of a container's networks, and what is not ours to answer. Pure.

use super::message::{self, CLASS_IN, Code, Query, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_PTR};
use super::names::Names;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One network as its containers know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone<'a> {
    /// The network's name: containers are also found as `NAME.NETWORK`.
    pub(super) network: &'a str,
    pub(super) names: &'a Names,
}

/// An answer of at most `limit` bytes; `None` if no network knows the name.
///
/// `turn` says where the list of addresses begins: each answer begins with another one.
pub(super) fn answer(query: &Query<'_>, zones: &[Zone<'_>], turn: usize, limit: usize) -> Option<Vec<u8>> {
    if query.class != CLASS_IN {
        return None;
    }
    let name = query.name()?;
    if let Some(address) = reverse(&name) {
        let mut pointers = Vec::new();
        for zone in zones {
            let named = zone.names.at(address).filter_map(|line| line.name());
            pointers.extend(named.map(|name| format!("{name}.{}", zone.network)));
        }
        if pointers.is_empty() {
            return None;
        }
        let mut reply = query.reply(Code::Success, limit).authoritative();
        if matches!(query.kind, TYPE_PTR | TYPE_ANY) {
            pointers.iter().for_each(|name| reply.pointer(name));
        }
        return Some(reply.finish());
    }
    let addresses = addresses(&name, zones);
    // A container has at least one address: none means that there is no such name.
    if addresses.is_empty() {
        return None;
    }
    let wanted = |address: &&IpAddr| match query.kind {
        TYPE_A => address.is_ipv4(),
        TYPE_AAAA => address.is_ipv6(),
        other => other == TYPE_ANY,
    };
    let wanted: Vec<&IpAddr> = addresses.iter().filter(wanted).collect();
    // The name is there even if nothing of this type is: an answer without records, and not "no such name".
    let mut reply = query.reply(Code::Success, limit).authoritative();
    let (before, from) = wanted.split_at(if wanted.is_empty() { 0 } else { turn % wanted.len() });
    from.iter().chain(before).for_each(|address| reply.address(**address));
    Some(reply.finish())
}

/// Every address of a name in all the networks, each once.
fn addresses(name: &str, zones: &[Zone<'_>]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for zone in zones {
        let inside = name.len().checked_sub(zone.network.len() + 1).and_then(|at| {
            let (inside, network) = (name.get(..at)?, name.get(at..)?.strip_prefix('.')?);
            network.eq_ignore_ascii_case(zone.network).then_some(inside)
        });
        for name in [Some(name), inside].into_iter().flatten() {
            found.extend(zone.names.find(name).flat_map(|line| line.addresses()));
        }
    }
    // Containers on two shared networks have two; one address twice comes of a name that is an alias, too.
    let mut once = Vec::with_capacity(found.len());
    let mut seen = std::collections::HashSet::with_capacity(found.len());
    once.extend(found.into_iter().filter(|address| seen.insert(*address)));
    once
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` stands for; `None` for every other name (RFC 1035 §3.5, RFC
/// 3596 §2.5).
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            let part = parts.next()?;
            if part.len() > 1 && part.starts_with('0') || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *octet = part.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut value = 0_u128;
    let mut count = 0;
    for part in digits.split('.') {
        let &[digit] = part.as_bytes() else { return None };
        let digit = char::from(digit).to_digit(16)?;
        // The last digit comes first.
        value |= u128::from(digit).checked_shl(count * 4)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(value).into())
}

/// A name that nobody knows who could be asked.
pub(super) fn no_such_name(query: &Query<'_>) -> Vec<u8> {
    query.reply(Code::NoSuchName, message::PLAIN_LIMIT).finish()
}

/// Nobody could be asked, or nobody has answered.
pub(super) fn failed(query: &Query<'_>) -> Vec<u8> {
    query.reply(Code::ServerFailure, message::PLAIN_LIMIT).finish()
}
