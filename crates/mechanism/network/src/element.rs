//! Published ports as elements of the table's maps: added and deleted in one transaction, however many they are.

use crate::PortMapping;
use crate::channel::{Batch, Channel, Request};
use crate::expression::{NFTA_DATA_VALUE, NFTA_LIST_ELEM, octets};
use crate::firewall::{PUBLISHED, PUBLISHED_6, PUBLISHED_6_AT, PUBLISHED_AT};
use crate::message::{Attributes, AttributesOf, CREATE, EXCLUSIVE, find};
use crate::nft::{
    DELSETELEM, GETSETELEM, INET, NEWSETELEM, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::{Error, Kind, Result};

/// Elements in one message: an attribute, so also a list of elements, ends at 64 KiB.
const ELEMENTS: usize = 500;
/// Questions in one batch, so that the answers fit into the socket's receive buffer.
const QUESTIONS: usize = 50;

/// A published port as an element of one of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    pub(crate) port: PortMapping,
    /// The container's address.
    pub(crate) target: IpAddr,
}

impl Element {
    /// The elements that lead from `ports` to a container with these addresses: for each family that both have.
    ///
    /// A port on `::1` has none, as the kernel cannot route that address out of the host.
    pub(crate) fn of(ports: &[PortMapping], addresses: &[IpNet]) -> Vec<Element> {
        let first = |v4| addresses.iter().map(|net| net.address()).find(|a| a.is_ipv4() == v4);
        let (v4, v6) = (first(true), first(false));
        let pairs = ports.iter().flat_map(|port| [v4, v6].into_iter().flatten().map(move |target| (port, target)));
        pairs
            .filter(|(port, target)| match port.host_ip {
                None => true,
                Some(ip) => ip.is_ipv4() == target.is_ipv4() && !(ip.is_ipv6() && ip.is_loopback()),
            })
            .map(|(port, target)| Element { port: *port, target })
            .collect()
    }

    fn map(&self) -> &'static str {
        match (self.port.one_address().is_some(), self.target.is_ipv4()) {
            (false, true) => PUBLISHED,
            (true, true) => PUBLISHED_AT,
            (false, false) => PUBLISHED_6,
            (true, false) => PUBLISHED_6_AT,
        }
    }

    /// The key; every field begins at a multiple of 4 bytes.
    fn key(&self) -> Vec<u8> {
        let [high, low] = self.port.host_port.to_be_bytes();
        let address = self.port.one_address().map(octets).unwrap_or_default();
        [[self.port.transport.number(), 0, 0, 0].as_slice(), &address, &[high, low, 0, 0]].concat()
    }

    fn value(&self) -> Vec<u8> {
        let [high, low] = self.port.container_port.to_be_bytes();
        [octets(self.target).as_slice(), &[high, low, 0, 0]].concat()
    }
}

impl Channel {
    /// Publishes ports, all or none. What is in the way is replaced: whoever calls has the port reserved, so an element
    /// that is there already was left behind.
    pub(crate) fn add_elements(&mut self, table: &str, elements: &[Element]) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
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

    /// Those of `elements` that are not there, or lead elsewhere.
    pub(crate) fn missing_elements(&mut self, table: &str, elements: &[Element]) -> Result<Vec<Element>> {
        let there: HashMap<Element, Vec<u8>> = self.values(table, elements)?.into_iter().collect();
        let right = |e: &Element| there.get(e).is_some_and(|value| e.value() == *value);
        Ok(elements.iter().filter(|e| !right(e)).copied().collect())
    }

    /// Those of `elements` whose keys are in the maps, with the values found there.
    fn values(&mut self, table: &str, elements: &[Element]) -> Result<Vec<(Element, Vec<u8>)>> {
        let mut found = Vec::new();
        for piece in elements.chunks(QUESTIONS) {
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
                    // Keys of the maps with and without address differ in length, values of the families do.
                    let same = |e: &&Element| e.key() == key && e.value().len() == value.len();
                    found.extend(piece.iter().find(same).map(|e| (*e, value.to_vec())));
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
    fn elements(&mut self, kind: u16, flags: u16, table: &str, elements: &[Element]) {
        for map in [PUBLISHED, PUBLISHED_AT, PUBLISHED_6, PUBLISHED_6_AT] {
            let of_map: Vec<_> = elements.iter().filter(|e| e.map() == map).copied().collect();
            for piece in of_map.chunks(ELEMENTS) {
                let object = objects(piece);
                let step = if kind == NEWSETELEM { "publish port" } else { "withdraw port" };
                self.add_quiet(&Request { kind, flags, header: &INET, step, object: &object, fine: &[] }, |a| {
                    element_list(a, table, map, piece, kind);
                });
            }
        }
    }
}

/// A few of the ports by name: for an error, which is not to be a thousand lines long.
fn objects(elements: &[Element]) -> String {
    let named: Vec<_> = elements.iter().take(3).map(|e| e.port.to_string()).collect();
    let rest = elements.len() - named.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    named.join(", ") + &more
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;
    use crate::nft::Depth;
    use crate::testing::{command, in_new_namespace, policy};
    use tare_kernel::netlink::Protocol;

    fn port(host_ip: Option<&str>, host_port: u16, transport: Transport) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { host_ip, host_port, container_port: 80, transport }
    }

    fn channel() -> Channel {
        let policy = policy("tare0", &["10.1.0.0/24"]);
        let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
        nft.ensure_rules("t", &[policy], Depth::Fingerprint).unwrap();
        nft
    }

    #[test]
    fn a_port_is_an_element_of_each_family_that_it_and_the_container_have() {
        in_new_namespace(|_| {
            let mut nft = channel();
            let ports = [
                port(None, 1, Transport::Tcp),
                port(Some("0.0.0.0"), 2, Transport::Udp),
                port(Some("::"), 3, Transport::Sctp),
                port(Some("192.0.2.1"), 4, Transport::Tcp),
                port(Some("2001:db8::1"), 5, Transport::Tcp),
                port(Some("::1"), 6, Transport::Tcp),
            ];
            let both = ["10.1.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()];
            assert_eq!(Element::of(&ports, &both[..1]).len(), 3);
            assert_eq!(Element::of(&ports, &both[1..]).len(), 3);
            let elements = Element::of(&ports, &both);
            nft.add_elements("t", &elements).unwrap();
            let map = |name| command(&["nft", "list", "map", "inet", "t", name]);
            let v4 = map("published");
            assert!(v4.contains("tcp . 1 : 10.1.0.2 . 80") && v4.contains("udp . 2 : 10.1.0.2 . 80"), "{v4}");
            let v6 = map("published6");
            assert!(v6.contains("tcp . 1 : fd00::2 . 80") && v6.contains("sctp . 3 : fd00::2 . 80"), "{v6}");
            assert!(map("published_at").contains("tcp . 192.0.2.1 . 4 : 10.1.0.2 . 80"));
            assert!(map("published6_at").contains("tcp . 2001:db8::1 . 5 : fd00::2 . 80"));
            assert_eq!(nft.missing_elements("t", &elements).unwrap(), []);
            command(&["nft", "delete element inet t published6 { tcp . 1 }"]);
            assert_eq!(nft.missing_elements("t", &elements).unwrap().len(), 1);
            nft.delete_elements("t", &elements).unwrap();
            assert!(!command(&["nft", "list", "ruleset"]).contains(" . 80"));
        });
    }

    #[test]
    fn thousands_of_ports_are_one_transaction() {
        in_new_namespace(|_| {
            let mut nft = channel();
            let ports: Vec<_> = (1..=5000).map(|n| port(None, n, Transport::Tcp)).collect();
            let both = ["10.1.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()];
            let elements = Element::of(&ports, &both);
            assert_eq!(elements.len(), 10_000);
            // One that leads elsewhere is replaced with the rest.
            let stale = Element::of(&ports[..1], &["10.1.0.9/24".parse().unwrap()]);
            nft.add_elements("t", &stale).unwrap();
            nft.add_elements("t", &elements).unwrap();
            assert_eq!(nft.missing_elements("t", &elements).unwrap(), []);
            nft.delete_elements("t", &stale).unwrap();
            assert_eq!(nft.missing_elements("t", &elements).unwrap(), []);
            nft.delete_elements("t", &elements).unwrap();
            assert!(!command(&["nft", "list", "ruleset"]).contains(" . 80"));
        });
    }
}
