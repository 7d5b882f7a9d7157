//! rtnetlink: devices, addresses and routes.
//!
//! Sources: rtnetlink(7), include/uapi/linux/{if_link.h,if_addr.h,rtnetlink.h,veth.h}.

use crate::Counters;
use crate::channel::{Batch, Channel, Request};
use crate::message::{CREATE, EXCLUSIVE, Message, array, find, text, u32_of};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use tare_model::Result;
use tare_model::address::{IpNet, MacAddress};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: the counters are half of the work of describing a device.
const SKIP_STATS: u32 = 1 << 3;

/// `IF_OPER_UP`
const OPERATIONAL: u8 = 6;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// No duplicate address detection.
const IFA_F_NODAD: u8 = 0x02;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// blackhole, unreachable, prohibit
const RTN_REFUSALS: std::ops::RangeInclusive<u8> = 6..=8;

const SETTLE_LIMIT: Duration = Duration::from_millis(200);
const SETTLE_PAUSE: Duration = Duration::from_micros(200);

/// The number of loopback in every network namespace (`LOOPBACK_IFINDEX`).
pub(crate) const LOOPBACK: u32 = 1;

/// A device by number, or by name where the number is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Device<'a> {
    Index(u32),
    Name(&'a str),
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `struct ifinfomsg`.
fn link_header(device: Device<'_>, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    if let Device::Index(index) = device {
        header[4..8].copy_from_slice(&index.to_ne_bytes());
    }
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// The requests that tare makes, added to a batch.
impl Batch {
    /// A bridge that forwards at once: no spanning tree, no forward delay, and a hardware address that does not follow
    /// that of its ports.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: MacAddress, mtu: u32) {
        let request = Request {
            kind: RTM_NEWLINK,
            flags: CREATE | EXCLUSIVE,
            header: &link_header(Device::Index(0), 0, 0),
            step: "create bridge",
            object: name,
            fine: &[Errno::EXIST],
        };
        self.add(&request, |a| {
            a.string(IFLA_IFNAME, name);
            a.bytes(IFLA_ADDRESS, &mac.0);
            a.u32(IFLA_MTU, mtu);
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_KIND, "bridge");
                a.nest(IFLA_INFO_DATA, |a| {
                    a.u32(IFLA_BR_STP_STATE, 0);
                    a.u32(IFLA_BR_FORWARD_DELAY, 0);
                });
            });
        });
    }

    /// A veth pair: this end up and a port of `master`, the other one `interface` in `netns`, still down: veth refuses
    /// to go up before it has a peer.
    pub(crate) fn add_veth(&mut self, plan: &crate::EndpointPlan, master: u32, netns: BorrowedFd<'_>) {
        let request = Request {
            kind: RTM_NEWLINK,
            flags: CREATE | EXCLUSIVE,
            header: &link_header(Device::Index(0), IFF_UP, IFF_UP),
            step: "create device",
            object: &plan.link,
            fine: &[],
        };
        self.add(&request, |a| {
            a.string(IFLA_IFNAME, &plan.link);
            if plan.mtu != 0 {
                a.u32(IFLA_MTU, plan.mtu);
            }
            a.u32(IFLA_MASTER, master);
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_KIND, "veth");
                a.nest(IFLA_INFO_DATA, |a| {
                    a.nest_after(VETH_INFO_PEER, &link_header(Device::Index(0), 0, 0), |a| {
                        a.string(IFLA_IFNAME, &plan.interface);
                        if let Some(mac) = plan.mac {
                            a.bytes(IFLA_ADDRESS, &mac.0);
                        }
                        if plan.mtu != 0 {
                            a.u32(IFLA_MTU, plan.mtu);
                        }
                        a.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                    });
                });
            });
        });
    }

    fn change_link(
        &mut self,
        index: u32,
        flags: u32,
        step: &'static str,
        object: &str,
        fine: &'static [Errno],
        fill: impl FnOnce(&mut crate::message::Attributes<'_>),
    ) {
        let header = link_header(Device::Index(index), flags, flags);
        self.add(&Request { kind: RTM_NEWLINK, flags: 0, header: &header, step, object, fine }, fill);
    }

    /// Sets a device up.
    pub(crate) fn set_up(&mut self, index: u32, name: &str) {
        self.change_link(index, IFF_UP, "set up device", name, &[], |_| {});
    }

    /// No IPv6 link-local address: nobody asked for one, and it would wait for duplicate detection. To be set before
    /// the device is up. Fine without IPv6.
    pub(crate) fn no_link_local(&mut self, index: u32, name: &str) {
        let fine = &[Errno::AFNOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL];
        self.change_link(index, 0, "set IPv6 address mode", name, fine, |a| {
            a.nest(IFLA_AF_SPEC, |a| {
                a.nest(AF_INET6.into(), |a| a.bytes(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]));
            });
        });
    }

    /// Lets connections from 127.0.0.1 leave through the device, and their answers come in.
    pub(crate) fn route_localnet(&mut self, index: u32, name: &str) {
        self.change_link(index, 0, "set route_localnet", name, &[], |a| {
            a.nest(IFLA_AF_SPEC, |a| {
                a.nest(AF_INET.into(), |a| a.nest(IFLA_INET_CONF, |a| a.u32(IPV4_DEVCONF_ROUTE_LOCALNET, 1)));
            });
        });
    }

    /// Lets the bridge send a packet back through the port that it came from.
    pub(crate) fn set_hairpin(&mut self, index: u32, name: &str) {
        self.change_link(index, 0, "set hairpin mode", name, &[], |a| {
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_SLAVE_KIND, "bridge");
                a.nest(IFLA_INFO_SLAVE_DATA, |a| a.bytes(IFLA_BRPORT_MODE, &[1]));
            });
        });
    }

    /// Gives a device an address; fine if it has it.
    pub(crate) fn add_address(&mut self, index: u32, name: &str, address: IpNet) {
        // struct ifaddrmsg: family, prefix length, flags, scope, index
        let mut header = [family(address.address()), address.prefix(), 0, 0, 0, 0, 0, 0];
        // Leased addresses are nobody else's, and a tentative one could not be used for a second.
        header[2] = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
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

    /// The default route through `gateway`; a metric of 0 is the kernel's choice.
    pub(crate) fn add_default_route(&mut self, index: u32, name: &str, gateway: IpAddr, metric: u32) {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
        let header = [family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
        let request = Request {
            kind: RTM_NEWROUTE,
            flags: CREATE | EXCLUSIVE,
            header: &header,
            step: "add default route to device",
            object: name,
            fine: &[],
        };
        self.add(&request, |a| {
            a.bytes(RTA_GATEWAY, &octets(gateway));
            a.u32(RTA_OIF, index);
            if metric != 0 {
                a.u32(RTA_PRIORITY, metric);
            }
        });
    }

    /// Asks for one device. Since 6.8 the kernel first finishes pending changes of its carrier (`rtnl_getlink` calls
    /// `linkwatch_sync_dev`).
    pub(crate) fn get_link(&mut self, device: Device<'_>, fine: &'static [Errno]) {
        let name = if let Device::Name(name) = device { name } else { "" };
        let header = link_header(device, 0, 0);
        self.add(
            &Request { kind: RTM_GETLINK, flags: 0, header: &header, step: "find device", object: name, fine },
            |a| {
                if !name.is_empty() {
                    a.string(IFLA_IFNAME, name);
                }
                a.u32(IFLA_EXT_MASK, SKIP_STATS);
            },
        );
    }

    /// Deletes a device; fine if there is none.
    pub(crate) fn delete_link(&mut self, name: &str) {
        let request = Request {
            kind: RTM_DELLINK,
            flags: 0,
            header: &link_header(Device::Index(0), 0, 0),
            step: "delete device",
            object: name,
            fine: &[Errno::NODEV],
        };
        self.add(&request, |a| a.string(IFLA_IFNAME, name));
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    /// Up with a carrier, and its queue active: what is sent is not dropped.
    pub(crate) operational: bool,
    pub(crate) loopback: bool,
    pub(crate) mtu: u32,
    pub(crate) counters: Option<Counters>,
}

impl Link {
    /// Reads a `RTM_NEWLINK` message.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Link> {
        if message.kind != RTM_NEWLINK {
            return None;
        }
        let flags = u32_of(message.body.get(8..)?)?;
        let mut link = Link {
            index: u32_of(message.body.get(4..)?)?,
            name: String::new(),
            up: flags & IFF_UP != 0,
            operational: false,
            loopback: flags & IFF_LOOPBACK != 0,
            mtu: 0,
            counters: None,
        };
        for (kind, value) in message.attributes(16) {
            match kind {
                IFLA_IFNAME => link.name = text(value)?.to_owned(),
                IFLA_MTU => link.mtu = u32_of(value)?,
                IFLA_OPERSTATE => link.operational = value.first() == Some(&OPERATIONAL),
                IFLA_STATS64 => link.counters = counters(value),
                _ => {}
            }
        }
        link.counters.iter_mut().for_each(|c| c.interface.clone_from(&link.name));
        Some(link)
    }
}

/// Reads `struct rtnl_link_stats64`.
fn counters(value: &[u8]) -> Option<Counters> {
    let field = |i: usize| array(value, i * 8).map(u64::from_ne_bytes);
    Some(Counters {
        interface: String::new(),
        rx_packets: field(0)?,
        tx_packets: field(1)?,
        rx_bytes: field(2)?,
        tx_bytes: field(3)?,
        rx_errors: field(4)?,
        tx_errors: field(5)?,
        rx_dropped: field(6)?,
        tx_dropped: field(7)?,
    })
}

/// A route to a network, or an address of the host as a /32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) network: IpNet,
    /// The number of the device; 0 for a route without one.
    pub(crate) device: u32,
    pub(crate) metric: u32,
}

impl Route {
    /// Reads a `RTM_NEWROUTE` message of a route that takes or refuses packets; broadcasts and the like are not read.
    fn parse(message: &Message<'_>) -> Option<Route> {
        let [family, prefix, _, _, _, _, _, kind] = array(message.body, 0)?;
        let takes = kind == RTN_UNICAST || kind == RTN_LOCAL || RTN_REFUSALS.contains(&kind);
        if message.kind != RTM_NEWROUTE || family != AF_INET || !takes {
            return None;
        }
        let attributes = message.body.get(12..)?;
        let destination = match find(attributes, RTA_DST) {
            Some(value) => array(value, 0).map(Ipv4Addr::from)?,
            None => Ipv4Addr::UNSPECIFIED,
        };
        Some(Route {
            network: IpNet::new(destination.into(), prefix)?,
            device: find(attributes, RTA_OIF).and_then(u32_of).unwrap_or(0),
            metric: find(attributes, RTA_PRIORITY).and_then(u32_of).unwrap_or(0),
        })
    }
}

impl Channel {
    /// The device of this name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut batch = self.batch();
        batch.get_link(Device::Name(name), &[Errno::NODEV]);
        Ok(self.transact(&batch)?.messages().find_map(|m| Link::parse(&m)))
    }

    /// Returns once packets sent through `devices` are not dropped any more.
    ///
    /// A queue becomes active with the carrier, in a worker of the kernel's some 100 µs later; a first packet lost there
    /// would cost its sender a second. The question itself makes the kernel do it since 6.8; before, ask until it is
    /// done. Does not fail when it never is: someone may have set a device down.
    pub(crate) fn settle(&mut self, devices: &[u32]) -> Result<()> {
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            let mut batch = self.batch();
            devices.iter().for_each(|index| batch.get_link(Device::Index(*index), &[Errno::NODEV]));
            let answers = self.transact(&batch)?;
            if answers.messages().filter_map(|m| Link::parse(&m)).all(|l| l.operational) || Instant::now() > end {
                return Ok(());
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
    }

    /// All devices with their counters, or those connected to the bridge `master`.
    pub(crate) fn links(&mut self, master: Option<u32>) -> Result<Vec<Link>> {
        let header = link_header(Device::Index(0), 0, 0);
        let request =
            Request { kind: RTM_GETLINK, flags: 0, header: &header, step: "list devices", object: "", fine: &[] };
        let answers = self.dump(&request, |a| {
            if let Some(master) = master {
                a.u32(IFLA_MASTER, master);
                a.u32(IFLA_EXT_MASK, SKIP_STATS);
            }
        })?;
        Ok(answers.messages().filter_map(|m| Link::parse(&m)).collect())
    }

    /// The IPv4 routes of all tables.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>> {
        let header = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request =
            Request { kind: RTM_GETROUTE, flags: 0, header: &header, step: "list routes", object: "", fine: &[] };
        Ok(self.dump(&request, |_| {})?.messages().filter_map(|m| Route::parse(&m)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;
    use tare_kernel::netlink::{Protocol, Socket};

    /// Real answers of the kernel: a device with counters, and the routes of loopback.
    fn answers() -> Vec<u8> {
        let channel = Channel::open(Protocol::Route, None).unwrap();
        let mut batch = channel.batch();
        batch.set_up(LOOPBACK, "lo");
        batch.get_link(Device::Index(LOOPBACK), &[]);
        let request = Request {
            kind: RTM_GETROUTE,
            flags: 0x300,
            header: &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            step: "",
            object: "",
            fine: &[],
        };
        batch.add(&request, |_| {});
        let socket = Socket::open(Protocol::Route).unwrap();
        socket.send(&batch.writer.bytes).unwrap();
        let mut all = Vec::new();
        let mut buffer = vec![0; 32768];
        while let Some(length) = socket.receive(&mut buffer).unwrap() {
            all.extend_from_slice(&buffer[..length]);
        }
        all
    }

    #[test]
    fn malformed_answers_never_panic() {
        crate::testing::in_new_namespace(|_| {
            let good = answers();
            let read = |bytes: &[u8]| {
                Messages(bytes).filter(|m| Link::parse(m).is_some() || Route::parse(m).is_some()).count()
            };
            assert!(read(&good) >= 3, "a link and two routes");
            (0..good.len()).for_each(|cut| assert!(read(&good[..cut]) <= read(&good)));
            let mut random = 1_u64;
            for round in 0..30_000 {
                let mut bad = good.clone();
                for _ in 0..=round % 4 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (random >> 33) as usize % bad.len();
                    bad[at] = [(random >> 20) as u8, 0, 0xff][round % 3];
                }
                let _ = read(&bad);
            }
        });
    }
}
