//! A device of the host that is lent to a container, and comes back.
//!
//! ```text
//! lend     what it is and has: name, number, hardware address, MTU, addresses, routes       nothing is changed
//! move_in  down, into the namespace, renamed there                                          the kernel takes addresses and routes away
//! …        the container may rename it, give it another address, move it on
//! give_back    from the container's namespace, while somebody holds it; or, when the namespace has ended,
//!              from the host's own: the kernel has put it there under the name it had, or dev%d
//! ```
//!
//! The kernel returns physical devices only, and only to the first network namespace; it destroys a virtual one (veth,
//! macvlan, tap) with the namespace that it is in. A device is known again by what nobody inside can change: its permanent
//! hardware address and the device of its bus.
//! Sources: rtnetlink(7), linux/{if_link.h,if_addr.h,rtnetlink.h}, net/core/dev.c (`default_device_exit_net`,
//! `__dev_change_net_namespace`).

use crate::channel::{Batch, Channel, Request};
use crate::message::{CREATE, EXCLUSIVE, Message, find, text, u32_of};
use rustix::fd::{AsFd as _, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tare_kernel::netlink::kept::Place;
use tare_kernel::netlink::{Protocol, current_network_namespace};
use tare_model::address::MacAddress;
use tare_model::{Context as _, Error, Kind, Result};

mod kept;

pub use kept::Kept;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_INFO_KIND: u16 = 1;
const SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
/// A kernel that takes a namespace down moves the devices some 10 ms later; on a busy host later.
const PAUSE: Duration = Duration::from_millis(2);

/// A device of the host as it was before it was lent: all that has to be given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentDevice {
    /// Its name on the host.
    pub name: String,
    /// Its number on the host; it keeps it where that is free.
    pub index: u32,
    /// Its number in the container's namespace, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_inside: Option<u32>,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// The hardware address that was built into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent_mac: Option<MacAddress>,
    /// The device of its bus, as `pci/0000:00:03.0`; a virtual one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<Kept>,
    /// Routes through it that the kernel did not make by itself.
    #[serde(default)]
    pub routes: Vec<Kept>,
    /// When this was read: seconds of CLOCK_BOOTTIME. Lifetimes of addresses go on meanwhile.
    pub read_at: u64,
}

/// How a device came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// Under its name.
    Whole,
    /// Its name was given to another device meanwhile: this is the one that it has.
    Renamed(String),
}

/// What is asked for inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside<'a> {
    pub(crate) interface: &'a str,
    pub(crate) mac: Option<MacAddress>,
    /// 0: as it is.
    pub(crate) mtu: u32,
}

/// A device as it is found, with what it is known by.
#[derive(Debug)]
struct Found {
    index: u32,
    name: String,
    up: bool,
    loopback: bool,
    mtu: u32,
    mac: Option<MacAddress>,
    permanent_mac: Option<MacAddress>,
    bus: Option<String>,
    kind: Option<String>,
    master: u32,
    /// The device of this namespace that it stands on.
    stands_on: u32,
}

impl Found {
    fn parse(message: &Message<'_>) -> Option<Found> {
        if message.kind != RTM_NEWLINK {
            return None;
        }
        let flags = u32_of(message.body.get(8..)?)?;
        let mut out = Found {
            index: u32_of(message.body.get(4..)?)?,
            name: String::new(),
            up: flags & IFF_UP != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            mtu: 0,
            mac: None,
            permanent_mac: None,
            bus: None,
            kind: None,
            master: 0,
            stands_on: 0,
        };
        let (mut bus, mut on_bus, mut elsewhere) = (None, None, false);
        for (kind, value) in message.attributes(16) {
            match kind {
                IFLA_IFNAME => out.name = text(value)?.to_owned(),
                IFLA_MTU => out.mtu = u32_of(value)?,
                IFLA_ADDRESS => out.mac = value.try_into().ok().map(MacAddress),
                IFLA_PERM_ADDRESS => out.permanent_mac = value.try_into().ok().map(MacAddress),
                IFLA_MASTER => out.master = u32_of(value)?,
                IFLA_LINK => out.stands_on = u32_of(value)?,
                IFLA_LINK_NETNSID => elsewhere = true,
                IFLA_PARENT_DEV_NAME => on_bus = text(value),
                IFLA_PARENT_DEV_BUS_NAME => bus = text(value),
                IFLA_LINKINFO => out.kind = find(value, IFLA_INFO_KIND).and_then(text).map(str::to_owned),
                _ => {}
            }
        }
        out.bus = bus.zip(on_bus).map(|(bus, device)| format!("{bus}/{device}"));
        if elsewhere {
            out.stands_on = 0;
        }
        Some(out)
    }
}

impl Found {
    fn is_physical(&self) -> bool {
        self.permanent_mac.is_some() || self.bus.is_some()
    }
}

impl LentDevice {
    /// Whether the kernel returns it when the network namespace ends that it is in: it is known by what nobody inside can
    /// change. A virtual one ends with the namespace.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        self.permanent_mac.is_some() || self.bus.is_some()
    }

    fn is(&self, found: &Found) -> bool {
        self.is_physical() && self.permanent_mac == found.permanent_mac && self.bus == found.bus
    }

    /// This device among those of the host's namespace. Whoever moved a virtual one out gave it back its hardware address.
    fn on_host<'a>(&self, all: &'a [Found]) -> Option<&'a Found> {
        let same = |f: &Found| if self.is_physical() { self.is(f) } else { !f.is_physical() && f.mac == self.mac };
        // Some cards show several devices with one address on one bus device, and VLANs share that of their parent.
        let best = |f: &&Found| (f.name == self.name, f.index == self.index || Some(f.index) == self.index_inside);
        all.iter().filter(|f| same(f)).max_by_key(best)
    }

    /// This device among those of a container's namespace, where it was called `interface`.
    fn inside<'a>(&self, all: &'a [Found], interface: &str) -> Option<&'a Found> {
        let same = |f: &Found| match self.index_inside {
            _ if self.is_physical() => self.is(f),
            Some(index) => f.index == index,
            None => f.mac == self.mac,
        };
        all.iter().filter(|f| same(f)).max_by_key(|f| (Some(f.index) == self.index_inside, f.name == interface))
    }
}

impl Batch {
    pub(crate) fn change_device(
        &mut self,
        index: u32,
        (flags, change): (u32, u32),
        step: &'static str,
        object: &str,
        fill: impl FnOnce(&mut crate::message::Attributes<'_>),
    ) {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        header[12..16].copy_from_slice(&change.to_ne_bytes());
        self.add(&Request { kind: RTM_NEWLINK, flags: 0, header: &header, step, object, fine: &[] }, fill);
    }

    /// Addresses and routes as they were, those that have run out left away.
    fn put_back(&mut self, lent: &LentDevice, index: u32, name: &str, place: Place) {
        let passed = now().saturating_sub(lent.read_at);
        for (what, step) in
            [(&lent.addresses, "put address back on device"), (&lent.routes, "put route back on device")]
        {
            for message in what.iter().filter_map(|kept| kept.message(index, passed, place)) {
                // A route may be there already, made by whoever watches the host's devices.
                let request = Request {
                    kind: message.kind,
                    flags: CREATE | EXCLUSIVE,
                    header: &message.header,
                    step,
                    object: name,
                    fine: &[Errno::EXIST],
                };
                self.add(&request, |a| message.attributes.iter().for_each(|(kind, value)| a.bytes(*kind, value)));
            }
            // Between the two: a route needs its device up.
            if std::ptr::eq(what, &raw const lent.addresses) && (lent.up || place == Place::Away) {
                self.change_device(index, (IFF_UP, IFF_UP), "set up device", name, |_| {});
            }
        }
    }
}

impl crate::Host {
    /// Reads everything of a device that will have to be given back. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::InUse`] for a device that others stand on or that is a port of a bridge;
    /// [`Kind::Invalid`] for one that cannot leave its namespace.
    pub fn lend(&mut self, device: &str) -> Result<LentDevice> {
        lend(&mut self.route, device)
    }

    /// Brings a lent device back to this namespace and makes it what it was: name, hardware address, MTU, addresses, up,
    /// routes. Fine to repeat.
    ///
    /// It is looked for in `netns`, if the container's namespace is still held, where it was called `interface`; and for as
    /// long as `patience` on the host, where the kernel puts it when the namespace ends.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is in neither: in a namespace that somebody else made, or that has not ended yet. What
    /// cannot be restored, when all that can has been.
    pub fn give_back(
        &mut self,
        lent: &LentDevice,
        interface: &str,
        netns: Option<BorrowedFd<'_>>,
        patience: Duration,
    ) -> Result<Returned> {
        let end = Instant::now() + patience;
        let mut result = give_back(&mut self.route, lent, interface, netns);
        while result.as_ref().is_err_and(|e| e.kind() == Kind::NotFound) && Instant::now() < end {
            std::thread::sleep(PAUSE);
            result = restore(&mut self.route, lent);
        }
        result
    }
}

fn now() -> u64 {
    clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs()
}

fn devices(channel: &mut Channel) -> Result<Vec<Found>> {
    let header = [0; 16];
    let request = Request { kind: RTM_GETLINK, flags: 0, header: &header, step: "list devices", object: "", fine: &[] };
    let answers = channel.dump(&request, |a| a.u32(IFLA_EXT_MASK, SKIP_STATS))?;
    Ok(answers.messages().filter_map(|m| Found::parse(&m)).collect())
}

fn lend(host: &mut Channel, name: &str) -> Result<LentDevice> {
    let refused = |kind: Kind, why: String| Error::new(kind, "give device to container", name).because(why);
    let all = devices(host)?;
    let found = all.iter().find(|f| f.name == name).ok_or_else(|| {
        refused(Kind::NotFound, "the host has no device of this name".to_owned())
            .hint("`ip link` lists the host's devices; another container may have it (tare network inspect)")
    })?;
    if found.loopback || found.kind.as_deref() == Some("bridge") {
        return Err(refused(Kind::Invalid, "a device of this kind cannot leave its network namespace".to_owned()));
    }
    if let Some(master) = all.iter().find(|f| f.index == found.master) {
        return Err(refused(Kind::InUse, format!("it is a port of \"{}\"", master.name))
            .hint(format!("ip link set {name} nomaster")));
    }
    if let Some(upper) = all.iter().find(|f| f.stands_on == found.index && f.kind.as_deref() != Some("veth")) {
        return Err(refused(Kind::InUse, format!("\"{}\" stands on it and would be lost", upper.name)));
    }
    let (addresses, routes) = kept::of_device(host, found.index)?;
    Ok(LentDevice {
        name: name.to_owned(),
        index: found.index,
        index_inside: None,
        mac: found.mac,
        permanent_mac: found.permanent_mac,
        bus: found.bus.clone(),
        mtu: found.mtu,
        up: found.up,
        addresses,
        routes,
        read_at: now(),
    })
}

/// Moves the device into `netns`, where it is down and without addresses; returns its number there.
///
/// What must be given back has to be recorded before: nobody may live to do it after.
pub(crate) fn move_in(host: &mut Channel, lent: &LentDevice, inside: Inside<'_>, netns: BorrowedFd<'_>) -> Result<u32> {
    let mut there = Channel::open(Protocol::Route, Some(netns))?;
    // The kernel would find out after the move, and leave it there under another name.
    let before = devices(&mut there)?;
    if before.iter().any(|f| f.name == inside.interface) {
        return Err(Error::new(Kind::AlreadyExists, "give device to container", &lent.name)
            .because(format_args!("the container has a device \"{}\" already", inside.interface)));
    }
    let mut batch = host.batch();
    // First down, by a message of its own: a device that is up is not renamed.
    batch.change_device(lent.index, (0, IFF_UP), "set down device", &lent.name, |_| {});
    batch.change_device(lent.index, (0, 0), "give device to container", &lent.name, |a| {
        a.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        a.string(IFLA_IFNAME, inside.interface);
        if let Some(mac) = inside.mac {
            a.bytes(IFLA_ADDRESS, &mac.0);
        }
        if inside.mtu != 0 && inside.mtu != lent.mtu {
            a.u32(IFLA_MTU, inside.mtu);
        }
    });
    let moved = host.transact(&batch).map(drop).map_err(|e| match e.errno().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL) => e.hint("devices of some kinds, such as wireless ones, cannot leave the host"),
        _ => e,
    });
    let new = devices(&mut there)?.into_iter().find(|f| before.iter().all(|b| b.index != f.index));
    match (moved, new) {
        (Ok(()), Some(new)) => Ok(new.index),
        (Ok(()), None) => Err(Error::new(Kind::NotFound, "find device", inside.interface)),
        // Half done: there under its old name, or still here and down.
        (Err(e), new) => {
            // The error that made this necessary is the one to tell.
            drop(new.map(|new| move_out(&mut there, lent, &new)));
            drop(restore(host, lent));
            Err(e)
        }
    }
}

/// Gives a device that is in a container its own addresses and routes, and sets it up: for a network without subnets.
pub(crate) fn keep_own(there: &mut Channel, lent: &LentDevice, index: u32, interface: &str) -> Result<()> {
    let mut batch = there.batch();
    batch.put_back(lent, index, interface, Place::Away);
    there.transact(&batch).map(drop)
}

/// Takes the device out of `netns`, and restores it where it then is, which should be the host.
fn give_back(
    host: &mut Channel,
    lent: &LentDevice,
    interface: &str,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Returned> {
    let mut moved = Ok(());
    if let Some(netns) = netns {
        let mut there = Channel::open(Protocol::Route, Some(netns))?;
        let found = devices(&mut there)?;
        if let Some(device) = lent.inside(&found, interface) {
            moved = move_out(&mut there, lent, device);
        }
    }
    // Also after a failure: the kernel may have moved it and not been able to give it its name.
    restore(host, lent).map_err(|e| moved.err().filter(|_| e.kind() == Kind::NotFound).unwrap_or(e))
}

fn move_out(there: &mut Channel, lent: &LentDevice, device: &Found) -> Result<()> {
    let index = device.index;
    let home = current_network_namespace().during("open", "the host's network namespace")?;
    let mut out = Err(Error::new(Kind::System, "take device back", &lent.name));
    // The second is a pattern, for when another device has the name meanwhile.
    for name in [lent.name.as_str(), "dev%d"] {
        let mut batch = there.batch();
        batch.change_device(index, (0, IFF_UP), "set down device", &lent.name, |_| {});
        batch.change_device(index, (0, 0), "take device back", &lent.name, |a| {
            a.u32(IFLA_NET_NS_FD, home.as_fd().as_raw_fd() as u32);
            a.string(IFLA_IFNAME, name);
            if let Some(mac) = lent.mac.filter(|_| device.mac != lent.mac) {
                a.bytes(IFLA_ADDRESS, &mac.0);
            }
        });
        out = there.transact(&batch).map(drop);
        if out.as_ref().err().and_then(Error::errno) != Some(Errno::EXIST.raw_os_error()) {
            break;
        }
    }
    out
}

/// Name, hardware address, MTU, addresses, up, routes, of a device that is on the host.
fn restore(host: &mut Channel, lent: &LentDevice) -> Result<Returned> {
    let all = devices(host)?;
    let Some(found) = lent.on_host(&all) else {
        return Err(Error::new(Kind::NotFound, "take device back", &lent.name)
            .because("it is neither on the host nor in the container's network namespace")
            .hint("a process elsewhere may hold the namespace that it is in (lsns -t net); tare looks again at its next command"));
    };
    let mut out = Returned::Whole;
    let mut batch = host.batch();
    let (index, name) = (found.index, lent.name.as_str());
    if found.name != lent.name {
        if all.iter().any(|f| f.name == lent.name) {
            out = Returned::Renamed(found.name.clone());
        } else {
            batch.change_device(index, (0, IFF_UP), "set down device", name, |_| {});
            batch.change_device(index, (0, 0), "rename device", &found.name, |a| a.string(IFLA_IFNAME, name));
        }
    }
    if let Some(mac) = lent.mac.filter(|_| found.mac != lent.mac) {
        batch.change_device(index, (0, 0), "set hardware address of device", name, |a| a.bytes(IFLA_ADDRESS, &mac.0));
    }
    if found.mtu != lent.mtu {
        batch.change_device(index, (0, 0), "set MTU of device", name, |a| a.u32(IFLA_MTU, lent.mtu));
    }
    batch.put_back(lent, index, name, Place::Home);
    host.transact(&batch).map(|_| out)
}

#[cfg(test)]
mod tests;
