//! Connection tracking's memory of published ports, forgotten when a port is published or withdrawn.
//!
//! A flow of datagrams has no end: as long as packets come, its entry lives on and sends them where it did at first,
//! past the rules. So the entries are deleted, and the next packet asks the rules anew. TCP is left alone: its
//! connections end, and those that exist when a port is withdrawn are to be kept.
//!
//! Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use crate::channel::{Channel, Request};
use crate::message::{AttributesOf, array, find};
use crate::ports::{PortMapping, Transport};
use rustix::io::Errno;
use std::net::IpAddr;
use tare_model::Result;

/// `NFNL_SUBSYS_CTNETLINK`, the upper byte of the message types.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// The bit of `CTA_PROTO_NUM` in the filter's flags.
const FILTER_PROTO_NUM: u32 = 1 << 3;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NESTED: u16 = 0x8000;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Deletions in one batch, so that the answers fit into the socket's receive buffer.
const DELETIONS: usize = 100;

/// One entry, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Source and destination of the first packet, and of the answers to it.
    original: (IpAddr, IpAddr),
    reply: (IpAddr, IpAddr),
    protocol: u8,
    /// Destination port of the first packet.
    port: u16,
    family: u8,
    /// The attributes by which it is deleted, with their types.
    key: Vec<(u16, Vec<u8>)>,
}

impl Channel {
    /// Deletes the entries of datagram flows to these ports of the host; returns how many there were.
    ///
    /// One reading of the table for each protocol and family, however many ports; none for TCP ports.
    pub(crate) fn forget_flows(&mut self, ports: &[PortMapping]) -> Result<usize> {
        let mut forgotten = 0;
        for transport in [Transport::Udp, Transport::Sctp] {
            let of_transport: Vec<_> = ports.iter().filter(|p| p.transport == transport).collect();
            for (family, v4) in [(AF_INET, true), (AF_INET6, false)] {
                let may_be = |p: &&PortMapping| p.host_ip.is_none_or(|ip| ip.is_ipv4() == v4);
                let wanted: Vec<_> = of_transport.iter().copied().filter(may_be).collect();
                if wanted.is_empty() {
                    continue;
                }
                let flows = self.flows(family, transport)?;
                let stale: Vec<_> = flows.into_iter().filter(|f| wanted.iter().any(|p| f.is_of(p))).collect();
                self.delete_flows(&stale)?;
                forgotten += stale.len();
            }
        }
        Ok(forgotten)
    }

    fn flows(&mut self, family: u8, transport: Transport) -> Result<Vec<Flow>> {
        let step = "read connection tracking";
        let header = [family, 0, 0, 0];
        let request = Request { kind: GET, flags: 0, header: &header, step, object: transport.as_str(), fine: &[] };
        let answers = self.dump(&request, |a| {
            a.nest(CTA_FILTER, |a| a.u32(CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM));
            a.nest(CTA_TUPLE_ORIG, |a| {
                a.nest(CTA_TUPLE_PROTO, |a| a.bytes(CTA_PROTO_NUM, &[transport.number()]));
            });
        })?;
        let flows = answers.messages().filter_map(|m| Flow::parse(m.body));
        Ok(flows.filter(|f| f.protocol == transport.number() && f.family == family).collect())
    }

    fn delete_flows(&mut self, flows: &[Flow]) -> Result<()> {
        for piece in flows.chunks(DELETIONS) {
            let mut batch = self.batch();
            for flow in piece {
                let step = "delete connection tracking entry";
                let header = [flow.family, 0, 0, 0];
                let object = flow.original.1.to_string();
                let fine = &[Errno::NOENT];
                let request = Request { kind: DELETE, flags: 0, header: &header, step, object: &object, fine };
                batch.add(&request, |a| {
                    for (kind, value) in &flow.key {
                        let nested = if *kind == CTA_TUPLE_ORIG { NESTED } else { 0 };
                        a.bytes(*kind | nested, value);
                    }
                });
            }
            self.transact(&batch)?;
        }
        Ok(())
    }
}

impl Flow {
    pub(crate) fn parse(body: &[u8]) -> Option<Flow> {
        let family = *body.first()?;
        let attributes = body.get(4..)?;
        let original = find(attributes, CTA_TUPLE_ORIG)?;
        let reply = find(attributes, CTA_TUPLE_REPLY)?;
        let proto = find(original, CTA_TUPLE_PROTO)?;
        let keys = [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE];
        let key = AttributesOf(attributes).filter(|(kind, _)| keys.contains(kind));
        Some(Flow {
            original: addresses(find(original, CTA_TUPLE_IP)?)?,
            reply: addresses(find(reply, CTA_TUPLE_IP)?)?,
            protocol: *find(proto, CTA_PROTO_NUM)?.first()?,
            port: u16::from_be_bytes(array(find(proto, CTA_PROTO_DST_PORT)?, 0)?),
            family,
            key: key.map(|(kind, value)| (kind, value.to_vec())).collect(),
        })
    }

    /// Whether it began as packets to that port of the host. One that was only masqueraded was no such: it goes out to
    /// another machine's port of that number.
    fn is_of(&self, port: &PortMapping) -> bool {
        let (source, destination) = self.original;
        let masqueraded_only = self.reply.0 == destination && self.reply.1 != source;
        self.port == port.host_port && port.covers(destination) && !masqueraded_only
    }
}

/// CTA_IP_V4_SRC, _DST, CTA_IP_V6_SRC, _DST are 1 to 4.
fn addresses(ip: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |kind| Some(IpAddr::from(array::<4>(find(ip, kind)?, 0)?));
    let v6 = |kind| Some(IpAddr::from(array::<16>(find(ip, kind)?, 0)?));
    Some((v4(1).or_else(|| v6(3))?, v4(2).or_else(|| v6(4))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Messages, Writer};

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new();
        let tuple = |a: &mut crate::message::Attributes<'_>, kind, source: [u8; 4], destination: [u8; 4]| {
            a.nest(kind, |a| {
                a.nest(CTA_TUPLE_IP, |a| {
                    a.bytes(1, &source);
                    a.bytes(2, &destination);
                });
                a.nest(CTA_TUPLE_PROTO, |a| {
                    a.bytes(CTA_PROTO_NUM, &[17]);
                    a.bytes(2, &[0x80, 0]);
                    a.bytes(CTA_PROTO_DST_PORT, &[0, 53]);
                });
            });
        };
        writer.message(GET, 0, 1, &[AF_INET, 0, 0, 0], |a| {
            tuple(a, CTA_TUPLE_ORIG, [192, 0, 2, 9], [192, 0, 2, 1]);
            tuple(a, CTA_TUPLE_REPLY, [10, 0, 0, 2], [192, 0, 2, 9]);
            a.be32(CTA_ID, 77);
        });
        writer.bytes
    }

    #[test]
    fn a_flow_belongs_to_the_port_to_which_it_began() {
        let bytes = sample();
        let flow = Flow::parse(Messages(&bytes).next().unwrap().body).unwrap();
        let port = |host_ip: Option<&str>, host_port| PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 5353,
            transport: Transport::Udp,
        };
        assert!(flow.is_of(&port(None, 53)) && flow.is_of(&port(Some("192.0.2.1"), 53)));
        assert!(flow.is_of(&port(Some("0.0.0.0"), 53)));
        assert!(!flow.is_of(&port(None, 54)) && !flow.is_of(&port(Some("192.0.2.2"), 53)));
        assert!(!flow.is_of(&port(Some("::"), 53)));
        let out = Flow {
            original: ("10.0.0.2".parse().unwrap(), "192.0.2.53".parse().unwrap()),
            reply: ("192.0.2.53".parse().unwrap(), "192.0.2.1".parse().unwrap()),
            ..flow
        };
        assert!(!out.is_of(&port(None, 53)), "it goes to another machine's port 53");
    }

    #[test]
    fn malformed_entries_are_passed_over() {
        let bytes = sample();
        let body = Messages(&bytes).next().unwrap().body;
        for cut in 0..body.len() - 12 {
            assert_eq!(Flow::parse(&body[..cut]), None, "{cut}");
        }
        for at in 0..body.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = body.to_vec();
                bad[at] = value;
                drop(Flow::parse(&bad));
            }
        }
    }
}
