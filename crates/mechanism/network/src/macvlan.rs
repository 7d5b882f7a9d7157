//! Devices that share a host's device: macvlan and ipvlan.
//!
//! They have no end on the host. The kernel makes them straight in the container's namespace: it looks for the parent
//! in the namespace of the socket, and puts the new device into the one that the message names. They die with that
//! namespace, so there is nothing to take down. No rule of the host's firewall sees their packets.
//! Sources: linux/if_link.h, drivers/net/macvlan.c, drivers/net/ipvlan/ipvlan_main.c.

use crate::channel::{Batch, Request};
use crate::message::{Attributes, CREATE, EXCLUSIVE};
use rustix::fd::{AsRawFd, BorrowedFd};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tare_model::address::MacAddress;
use tare_model::{Error, Kind, Result};

const RTM_NEWLINK: u16 = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// Who reaches whom among the macvlan devices of one parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// They reach each other directly. The host itself, on the parent, is not reached.
    #[default]
    Bridge,
    /// They do not reach each other, not even by way of a switch that sends packets back.
    Private,
    /// Everything goes out to the switch, which may send it back.
    Vepa,
    /// The one device of its parent, with the parent's hardware address.
    Passthru,
}

/// At which layer an ipvlan device's parent decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// As a switch: the container answers for its addresses on the parent's network.
    #[default]
    L2,
    /// As a router: nothing is asked or answered at layer 2; others need a route to the subnet.
    L3,
    /// As `L3`, and the host's connection tracking sees the packets.
    L3s,
}

impl MacvlanMode {
    /// `enum macvlan_mode`
    fn number(self) -> u32 {
        match self {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
        }
    }
}

impl IpvlanMode {
    /// `enum ipvlan_mode`
    fn number(self) -> u16 {
        match self {
            IpvlanMode::L2 => 0,
            IpvlanMode::L3 => 1,
            IpvlanMode::L3s => 2,
        }
    }

    /// Whether default routes lead to the device and not to a gateway: nobody would answer who that is.
    #[must_use]
    pub fn routes(self) -> bool {
        self != IpvlanMode::L2
    }
}

impl FromStr for MacvlanMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bridge" => Ok(MacvlanMode::Bridge),
            "private" => Ok(MacvlanMode::Private),
            "vepa" => Ok(MacvlanMode::Vepa),
            "passthru" => Ok(MacvlanMode::Passthru),
            _ => Err(unknown("macvlan", text, "the modes are bridge, private, vepa and passthru")),
        }
    }
}

impl FromStr for IpvlanMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "l2" => Ok(IpvlanMode::L2),
            "l3" => Ok(IpvlanMode::L3),
            "l3s" => Ok(IpvlanMode::L3s),
            _ => Err(unknown("ipvlan", text, "the modes are l2, l3 and l3s")),
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MacvlanMode::Bridge => "bridge",
            MacvlanMode::Private => "private",
            MacvlanMode::Vepa => "vepa",
            MacvlanMode::Passthru => "passthru",
        })
    }
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpvlanMode::L2 => "l2",
            IpvlanMode::L3 => "l3",
            IpvlanMode::L3s => "l3s",
        })
    }
}

fn unknown(driver: &str, text: &str, hint: &str) -> Error {
    Error::new(Kind::Invalid, "read network mode", format_args!("{text:?}"))
        .because(format_args!("{driver} has no such mode"))
        .hint(hint)
}

/// A device on a parent, about to be made.
pub(crate) struct Shared<'a> {
    /// Number of the parent, in the namespace of the socket.
    pub(crate) parent: u32,
    /// Its name at first, which no device of the host has: older kernels, 6.1 for one, refuse a name that is taken there,
    /// although the new device never is there.
    pub(crate) name: &'a str,
    /// `None`: a random one; ipvlan has that of its parent.
    pub(crate) mac: Option<MacAddress>,
    /// 0: that of the parent.
    pub(crate) mtu: u32,
}

impl Batch {
    /// A macvlan device in `netns`, down.
    pub(crate) fn add_macvlan(&mut self, device: &Shared<'_>, mode: MacvlanMode, netns: BorrowedFd<'_>) {
        // With passthru the parent takes over the address of the device on top: one of its own would change the host's.
        let mac = device.mac.filter(|_| mode != MacvlanMode::Passthru);
        self.add_shared(device, mac, "macvlan", netns, |a| a.u32(IFLA_MACVLAN_MODE, mode.number()));
    }

    /// An ipvlan device in `netns`, down.
    pub(crate) fn add_ipvlan(&mut self, device: &Shared<'_>, mode: IpvlanMode, netns: BorrowedFd<'_>) {
        self.add_shared(device, None, "ipvlan", netns, |a| {
            a.bytes(IFLA_IPVLAN_MODE, &mode.number().to_ne_bytes());
            a.bytes(IFLA_IPVLAN_FLAGS, &0_u16.to_ne_bytes());
        });
    }

    fn add_shared(
        &mut self,
        device: &Shared<'_>,
        mac: Option<MacAddress>,
        kind: &str,
        netns: BorrowedFd<'_>,
        data: impl FnOnce(&mut Attributes<'_>),
    ) {
        let request = Request {
            kind: RTM_NEWLINK,
            flags: CREATE | EXCLUSIVE,
            // struct ifinfomsg, all zero: any number, down.
            header: &[0; 16],
            step: "create device",
            object: device.name,
            fine: &[],
        };
        self.add(&request, |a| {
            a.string(IFLA_IFNAME, device.name);
            a.u32(IFLA_LINK, device.parent);
            a.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
            if let Some(mac) = mac {
                a.bytes(IFLA_ADDRESS, &mac.0);
            }
            if device.mtu != 0 {
                a.u32(IFLA_MTU, device.mtu);
            }
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_KIND, kind);
                a.nest(IFLA_INFO_DATA, data);
            });
        });
    }
}

/// What the kernel's refusal of a device on `parent` means.
pub(crate) fn explain(error: Error, kind: &str, parent: &str) -> Error {
    use rustix::io::Errno;
    match error.errno().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => error.with_kind(Kind::InUse).hint(format!(
            "\"{parent}\" is a port of a bridge or bond, or carries devices of another kind: one parent carries macvlan or \
             ipvlan, and one device with mode passthru"
        )),
        Some(Errno::OPNOTSUPP) => {
            error.with_kind(Kind::Unsupported).hint(format!("this kernel has no {kind} devices (CONFIG_{})", kind.to_uppercase()))
        }
        Some(Errno::INVAL) => {
            error.hint(format!("\"{parent}\" may be of a kind that carries none, such as loopback, or carry one with mode passthru"))
        }
        _ => error,
    }
}

/// The parent is not there, with a hint of what to do.
pub(crate) fn no_parent(parent: &str) -> Error {
    Error::new(Kind::NotFound, "find parent device", parent).because("the host has no device of this name").hint(
        "`ip link` lists the host's devices; a VLAN is made with `ip link add link DEVICE name NAME type vlan id N`",
    )
}

/// The parent is down: what would be made on it could not send anything.
pub(crate) fn parent_down(parent: &str) -> Error {
    Error::new(Kind::State, "use parent device", parent)
        .because("it is down")
        .hint(format!("set it up first: ip link set {parent} up"))
}

#[cfg(test)]
mod tests;
