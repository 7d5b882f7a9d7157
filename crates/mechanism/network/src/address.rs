//! rtnetlink: addresses and routes of both families.
//!
//! Sources: rtnetlink(7), include/uapi/linux/{if_addr.h,rtnetlink.h}.

use crate::channel::{Batch, Channel, Request};
use crate::message::{CREATE, EXCLUSIVE, Message, array, find, u32_of};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_model::Result;
use tare_model::address::{IpNet, MacAddress};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// No duplicate address detection: leased addresses are nobody else's, and one that is being detected cannot be used
/// for a second.
const IFA_F_NODAD: u8 = 0x02;
const IFA_F_PERMANENT: u8 = 0x80;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTPROT_BOOT: u8 = 3;
/// Made by the kernel from a router's advertisement.
const RTPROT_RA: u8 = 9;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// blackhole, unreachable, prohibit
const RTN_REFUSALS: std::ops::RangeInclusive<u8> = 6..=8;

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The link-local address that a device with this hardware address has by custom (RFC 4291, appendix A).
pub(crate) fn link_local(mac: MacAddress) -> IpNet {
    let [a, b, c, d, e, f] = mac.0;
    let host = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    let address = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(host));
    IpNet::new(address.into(), 64).unwrap_or(IpNet::host(address.into()))
}

/// A route that is to be made. Without a gateway it leads to the device itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRoute {
    pub(crate) destination: IpNet,
    pub(crate) gateway: Option<IpAddr>,
    /// 0 for the kernel's choice.
    pub(crate) metric: u32,
}

impl NewRoute {
    /// The default route; an unspecified gateway stands for the device itself.
    pub(crate) fn default(gateway: IpAddr, metric: u32) -> NewRoute {
        let any = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let destination = IpNet::new(any, 0).unwrap_or(IpNet::host(any));
        NewRoute { destination, gateway: Some(gateway).filter(|g| !g.is_unspecified()), metric }
    }
}

impl Batch {
    /// Gives a device an address; fine if it has it. In IPv6 an address is added to a device that is up, so that
    /// nothing of it is put off until then.
    pub(crate) fn add_address(&mut self, index: u32, name: &str, address: IpNet) {
        let local = matches!(address.address(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let scope = if local { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
        // struct ifaddrmsg: family, prefix length, flags, scope, index
        let mut header = [family(address.address()), address.prefix(), flags, scope, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = Request {
            kind: RTM_NEWADDR,
            flags: CREATE | EXCLUSIVE,
            header: &header,
            step: "add address to device",
            object: name,
            fine: &[Errno::EXIST],
        };
        self.add(&request, |a| {
            a.bytes(IFA_LOCAL, &octets(address.address()));
            a.bytes(IFA_ADDRESS, &octets(address.address()));
            if address.is_ipv4() && address.prefix() < 31 {
                a.bytes(IFA_BROADCAST, &octets(address.last()));
            }
        });
    }

    /// A route through a device.
    pub(crate) fn add_route(&mut self, index: u32, name: &str, route: NewRoute) {
        let NewRoute { destination, gateway, metric } = route;
        let scope = if gateway.is_none() && destination.is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
        let family = family(destination.address());
        let length = destination.prefix();
        let header = [family, length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0];
        let request = Request {
            kind: RTM_NEWROUTE,
            flags: CREATE | EXCLUSIVE,
            header: &header,
            step: if length == 0 { "add default route to device" } else { "add route to device" },
            object: name,
            fine: &[],
        };
        self.add(&request, |a| {
            if length > 0 {
                a.bytes(RTA_DST, &octets(destination.first()));
            }
            if let Some(gateway) = gateway {
                a.bytes(RTA_GATEWAY, &octets(gateway));
            }
            a.u32(RTA_OIF, index);
            if metric != 0 {
                a.u32(RTA_PRIORITY, metric);
            }
        });
    }

    /// Asks which way a packet to `destination` would take; without any, no answer comes.
    pub(crate) fn ask_route(&mut self, destination: IpAddr) {
        const NONE: &[Errno] =
            &[Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
        let length = tare_model::address::width(destination);
        let header = [family(destination), length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request =
            Request { kind: RTM_GETROUTE, flags: 0, header: &header, step: "find route", object: "", fine: NONE };
        self.add(&request, |a| a.bytes(RTA_DST, &octets(destination)));
    }
}

/// A route to a network, or an address of the host as a /32 or /128.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) network: IpNet,
    /// The number of the device; 0 for a route without one.
    pub(crate) device: u32,
    pub(crate) metric: u32,
    /// It leads to this host itself.
    pub(crate) local: bool,
    /// A router advertised it.
    pub(crate) advertised: bool,
}

impl Route {
    /// Reads a `RTM_NEWROUTE` message of a route that takes or refuses packets; broadcasts and the like are not read.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Route> {
        let [family, prefix, _, _, _, protocol, _, kind] = array(message.body, 0)?;
        let takes = kind == RTN_UNICAST || kind == RTN_LOCAL || RTN_REFUSALS.contains(&kind);
        if message.kind != RTM_NEWROUTE || !takes {
            return None;
        }
        let attributes = message.body.get(12..)?;
        let destination = find(attributes, RTA_DST);
        let destination: IpAddr = match family {
            AF_INET => destination.map_or(Some([0; 4]), |value| array(value, 0))?.into(),
            AF_INET6 => destination.map_or(Some([0; 16]), |value| array(value, 0))?.into(),
            _ => return None,
        };
        Some(Route {
            network: IpNet::new(destination, prefix)?,
            device: find(attributes, RTA_OIF).and_then(u32_of).unwrap_or(0),
            metric: find(attributes, RTA_PRIORITY).and_then(u32_of).unwrap_or(0),
            local: kind == RTN_LOCAL,
            advertised: protocol == RTPROT_RA,
        })
    }
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) address: IpNet,
    pub(crate) device: u32,
    /// It ends when a router or a lease does not renew it.
    pub(crate) temporary: bool,
    /// It means something beyond this link.
    pub(crate) global: bool,
}

impl Held {
    /// Reads a `RTM_NEWADDR` message.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Held> {
        let [family, prefix, flags, scope] = array(message.body, 0)?;
        let attributes = message.body.get(8..)?;
        // In IPv4 the own address is IFA_LOCAL, and IFA_ADDRESS that of the other end of a point-to-point link.
        let value = find(attributes, IFA_LOCAL).or_else(|| find(attributes, IFA_ADDRESS))?;
        let address: IpAddr = match family {
            AF_INET => array::<4>(value, 0)?.into(),
            AF_INET6 => array::<16>(value, 0)?.into(),
            _ => return None,
        };
        (message.kind == RTM_NEWADDR).then_some(())?;
        Some(Held {
            address: IpNet::new(address, prefix)?,
            device: u32_of(message.body.get(4..)?)?,
            temporary: flags & IFA_F_PERMANENT == 0,
            global: scope < RT_SCOPE_LINK,
        })
    }
}

impl Channel {
    /// The routes of all tables, of both families.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let header = [family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let request = Request {
                kind: RTM_GETROUTE,
                flags: 0,
                header: &header,
                step: "list routes",
                object: "",
                // A kernel without IPv6.
                fine: &[Errno::OPNOTSUPP, Errno::AFNOSUPPORT],
            };
            all.extend(self.dump(&request, |_| {})?.messages().filter_map(|m| Route::parse(&m)));
        }
        Ok(all)
    }

    /// The addresses of the device with this number, or of all with 0.
    pub(crate) fn addresses(&mut self, device: u32) -> Result<Vec<Held>> {
        let mut header = [0; 8];
        header[4..8].copy_from_slice(&device.to_ne_bytes());
        let request =
            Request { kind: RTM_GETADDR, flags: 0, header: &header, step: "list addresses", object: "", fine: &[] };
        Ok(self.dump(&request, |_| {})?.messages().filter_map(|m| Held::parse(&m)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{DUMP, Messages};
    use tare_kernel::netlink::Protocol;

    #[test]
    fn malformed_answers_never_panic() {
        crate::testing::in_new_namespace(|_| {
            let channel = Channel::open(Protocol::Route, None).unwrap();
            let mut batch = channel.batch();
            for (kind, header) in [(RTM_GETROUTE, [2_u8; 12].as_slice()), (RTM_GETADDR, &[0; 8])] {
                let mut header = header.to_vec();
                header[1..].fill(0);
                let request = Request { kind, flags: DUMP, header: &header, step: "", object: "", fine: &[] };
                batch.add(&request, |_| {});
                // One dump at a time on a socket.
                let good = crate::testing::raw_answers(&batch);
                batch = channel.batch();
                let read = |bytes: &[u8]| {
                    Messages(bytes).filter(|m| Route::parse(m).is_some() || Held::parse(m).is_some()).count()
                };
                assert!(read(&good) >= 2, "the routes, and the addresses, of loopback");
                crate::testing::damaged(&good, 20_000, |bad| {
                    let _ = read(bad);
                });
            }
        });
    }

    #[test]
    fn link_local_addresses_follow_from_hardware_addresses() {
        let mac = "02:74:0a:70:00:02".parse().unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::74:aff:fe70:2/64");
    }
}
