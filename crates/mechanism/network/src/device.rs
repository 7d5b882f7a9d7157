//! rtnetlink: devices.
//!
//! Sources: rtnetlink(7), include/uapi/linux/{if_link.h,if_bridge.h,veth.h}.

use crate::Counters;
use crate::channel::{Batch, Channel, Request};
use crate::message::{CREATE, EXCLUSIVE, Message, array, find, text, u32_of};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use tare_model::Result;
use tare_model::address::MacAddress;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
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
const IFF_LOWER_UP: u32 = 0x1_0000;

/// The number of loopback in every network namespace (`LOOPBACK_IFINDEX`).
pub(crate) const LOOPBACK: u32 = 1;

/// A device by number, or by name where the number is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Device<'a> {
    Index(u32),
    Name(&'a str),
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

/// A veth pair about to be made.
pub(crate) struct NewPair<'a> {
    /// Name of the host's end.
    pub(crate) link: &'a str,
    /// Number of the bridge of which that is a port.
    pub(crate) master: u32,
    /// Name, hardware address and namespace of the other end.
    pub(crate) interface: &'a str,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) netns: BorrowedFd<'a>,
    /// Of both ends.
    pub(crate) mtu: u32,
}

/// What a bridge does at one of its ports beyond the usual. What is false is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PortBehaviour {
    /// Packets may go back through the port that they came from.
    pub(crate) hairpin: bool,
    /// Nothing passes between this port and others that are isolated.
    pub(crate) isolated: bool,
}

impl PortBehaviour {
    /// Reads `IFLA_INFO_SLAVE_DATA` of a bridge's port.
    fn parse(data: &[u8]) -> PortBehaviour {
        let is_on = |kind| find(data, kind).and_then(<[u8]>::first) == Some(&1);
        PortBehaviour { hairpin: is_on(IFLA_BRPORT_MODE), isolated: is_on(IFLA_BRPORT_ISOLATED) }
    }

    /// Whether all that is wanted is so.
    pub(crate) fn includes(self, wanted: PortBehaviour) -> bool {
        (self.hairpin || !wanted.hairpin) && (self.isolated || !wanted.isolated)
    }

    pub(crate) fn is_usual(self) -> bool {
        self == PortBehaviour::default()
    }
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

    /// A veth pair: this end up and a port of the bridge, the other one still down: veth refuses to go up before it has
    /// a peer.
    pub(crate) fn add_veth(&mut self, pair: &NewPair<'_>) {
        let request = Request {
            kind: RTM_NEWLINK,
            flags: CREATE | EXCLUSIVE,
            header: &link_header(Device::Index(0), IFF_UP, IFF_UP),
            step: "create device",
            object: pair.link,
            fine: &[],
        };
        self.add(&request, |a| {
            a.string(IFLA_IFNAME, pair.link);
            a.u32(IFLA_MTU, pair.mtu);
            a.u32(IFLA_MASTER, pair.master);
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_KIND, "veth");
                a.nest(IFLA_INFO_DATA, |a| {
                    a.nest_after(VETH_INFO_PEER, &link_header(Device::Index(0), 0, 0), |a| {
                        a.string(IFLA_IFNAME, pair.interface);
                        if let Some(mac) = pair.mac {
                            a.bytes(IFLA_ADDRESS, &mac.0);
                        }
                        a.u32(IFLA_MTU, pair.mtu);
                        a.u32(IFLA_NET_NS_FD, pair.netns.as_raw_fd() as u32);
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

    /// No IPv6 link-local address of the kernel's making: it would wait for duplicate detection. To be set before the
    /// device is up. Fine without IPv6.
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

    /// How the bridge treats one of its ports.
    pub(crate) fn set_port(&mut self, port: Device<'_>, name: &str, behaviour: PortBehaviour) {
        let header = link_header(port, 0, 0);
        let request = Request {
            kind: RTM_NEWLINK,
            flags: 0,
            header: &header,
            step: "set up bridge port",
            object: name,
            fine: &[],
        };
        self.add(&request, |a| {
            if let Device::Name(name) = port {
                a.string(IFLA_IFNAME, name);
            }
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_SLAVE_KIND, "bridge");
                a.nest(IFLA_INFO_SLAVE_DATA, |a| {
                    if behaviour.hairpin {
                        a.bytes(IFLA_BRPORT_MODE, &[1]);
                    }
                    if behaviour.isolated {
                        a.bytes(IFLA_BRPORT_ISOLATED, &[1]);
                    }
                });
            });
        });
    }

    /// Sets a device down, which takes its routes away, and gives it another name. (A device that is up could not be
    /// renamed before 6.2.)
    pub(crate) fn set_aside(&mut self, index: u32, name: &str, aside: &str) {
        let header = link_header(Device::Index(index), 0, IFF_UP);
        let step = "set down device";
        self.add(&Request { kind: RTM_NEWLINK, flags: 0, header: &header, step, object: name, fine: &[] }, |_| {});
        self.change_link(index, 0, "rename device", name, &[], |a| a.string(IFLA_IFNAME, aside));
    }

    /// Sets a device down.
    pub(crate) fn set_down(&mut self, index: u32, name: &str) {
        let header = link_header(Device::Index(index), 0, IFF_UP);
        let step = "set down device";
        let fine = &[Errno::NODEV];
        self.add(&Request { kind: RTM_NEWLINK, flags: 0, header: &header, step, object: name, fine }, |_| {});
    }

    /// Leaves a note on a device, which `ip link` shows as its alias.
    pub(crate) fn note(&mut self, index: u32, name: &str, note: &str) {
        self.change_link(index, 0, "describe device", name, &[], |a| a.bytes(IFLA_IFALIAS, note.as_bytes()));
    }

    /// Makes a device a port of the bridge `master`, and sets it up.
    pub(crate) fn enslave(&mut self, index: u32, name: &str, master: u32) {
        self.change_link(index, IFF_UP, "make device a port of the bridge", name, &[], |a| a.u32(IFLA_MASTER, master));
    }

    /// Takes a device off the bridge that it is a port of.
    pub(crate) fn release(&mut self, index: u32, name: &str) {
        self.change_link(index, 0, "take device off the bridge", name, &[], |a| a.u32(IFLA_MASTER, 0));
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
    /// What is below it can send.
    pub(crate) carrier: bool,
    /// Up with a carrier, and its queue active: what is sent is not dropped.
    pub(crate) operational: bool,
    /// The number of the bridge or bond that it is a port of, or 0.
    pub(crate) master: u32,
    /// For a veth the number of its other end, in that one's namespace; for macvlan and the like that of the device below.
    pub(crate) peer: u32,
    /// What made it, `veth`; `None` for hardware.
    pub(crate) made_by: Option<String>,
    pub(crate) loopback: bool,
    pub(crate) mtu: u32,
    /// What somebody has noted about it.
    pub(crate) note: Option<String>,
    /// How a bridge treats it, of which it is a port.
    pub(crate) behaviour: Option<PortBehaviour>,
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
            carrier: flags & IFF_LOWER_UP != 0,
            operational: false,
            master: 0,
            peer: 0,
            made_by: None,
            loopback: flags & IFF_LOOPBACK != 0,
            mtu: 0,
            note: None,
            behaviour: None,
            counters: None,
        };
        for (kind, value) in message.attributes(16) {
            match kind {
                IFLA_IFNAME => link.name = text(value)?.to_owned(),
                IFLA_MTU => link.mtu = u32_of(value)?,
                IFLA_OPERSTATE => link.operational = value.first() == Some(&OPERATIONAL),
                IFLA_MASTER => link.master = u32_of(value)?,
                IFLA_LINK => link.peer = u32_of(value)?,
                IFLA_LINKINFO => {
                    link.made_by = find(value, IFLA_INFO_KIND).and_then(text).map(str::to_owned);
                    let port = find(value, IFLA_INFO_SLAVE_KIND).and_then(text) == Some("bridge");
                    link.behaviour = find(value, IFLA_INFO_SLAVE_DATA).filter(|_| port).map(PortBehaviour::parse);
                }
                IFLA_IFALIAS => link.note = text(value).map(str::to_owned),
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

impl Channel {
    /// The device of this name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut batch = self.batch();
        batch.get_link(Device::Name(name), &[Errno::NODEV]);
        Ok(self.transact(&batch)?.messages().find_map(|m| Link::parse(&m)))
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;
    use tare_kernel::netlink::Protocol;

    /// A real answer of the kernel: a device.
    fn answers() -> Vec<u8> {
        let channel = Channel::open(Protocol::Route, None).unwrap();
        let mut batch = channel.batch();
        batch.set_up(LOOPBACK, "lo");
        batch.get_link(Device::Index(LOOPBACK), &[]);
        crate::testing::raw_answers(&batch)
    }

    #[test]
    fn malformed_answers_never_panic() {
        crate::testing::in_new_namespace(|_| {
            let good = answers();
            let read = |bytes: &[u8]| Messages(bytes).filter_map(|m| Link::parse(&m)).count();
            assert_eq!(read(&good), 1);
            crate::testing::damaged(&good, 20_000, |bad| {
                let _ = read(bad);
            });
        });
    }
}
