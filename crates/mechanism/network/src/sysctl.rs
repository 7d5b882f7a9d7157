//! Kernel settings below /proc/sys/net that decide whether packets pass between the host's devices.
//!
//! They are those of the calling thread's network namespace.

use crate::Setting;
use crate::address::{Held, Route};
use crate::channel::Channel;
use crate::device::Link;
use std::io::ErrorKind;
use std::path::Path;
use tare_model::{Context as _, Error, Result};

const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const IPV6_DEVICES: &str = "/proc/sys/net/ipv6/conf";

/// The families in which packets are to pass; IPv6 only where the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// Whether this kernel has IPv6 at all (`ipv6.disable=1` takes it away).
pub fn has_ipv6() -> bool {
    Path::new(IPV6_DEVICES).exists()
}

/// Lets packets pass between the host's devices; what was changed for that, in order.
///
/// A host that forwards IPv6 does not listen to routers any more and forgets what it has learned from them, which would
/// take away its own default route. So devices that live on advertisements are told before to go on (`accept_ra` 2).
pub(crate) fn enable_forwarding(route: &mut Channel, families: Families) -> Result<Vec<Setting>> {
    let mut changed = Vec::new();
    if families.v4 && is_off(IPV4_FORWARDING)? {
        changed.push(write(IPV4_FORWARDING, "0", "1")?);
    }
    if families.v6 && is_off(IPV6_FORWARDING)? {
        for device in devices_on_advertisements(route)? {
            changed.push(write(&format!("net/ipv6/conf/{device}/accept_ra"), "1", "2")?);
        }
        changed.push(write(IPV6_FORWARDING, "0", "1")?);
    }
    Ok(changed)
}

/// Devices that listen to routers now, and that either have learned something from one or are hardware, where one may
/// yet speak: a host's network is often still coming up when its containers do.
fn devices_on_advertisements(route: &mut Channel) -> Result<Vec<String>> {
    let links = route.links(None)?;
    let routes = route.routes()?;
    let addresses = route.addresses(0)?;
    let lives_on_them = |link: &&Link| {
        let learned = |r: &Route| r.device == link.index && r.advertised;
        let leased = |a: &Held| a.device == link.index && a.address.is_ipv6() && a.global && a.temporary;
        let hardware = link.made_by.is_none() && link.master == 0;
        !link.loopback && (hardware || routes.iter().any(learned) || addresses.iter().any(leased))
    };
    let listens = |link: &&Link| {
        let read = |name| std::fs::read(format!("{IPV6_DEVICES}/{}/{name}", link.name)).unwrap_or_default();
        read("accept_ra").first() == Some(&b'1') && read("forwarding").first() == Some(&b'0')
    };
    Ok(links.iter().filter(lives_on_them).filter(listens).map(|link| link.name.clone()).collect())
}

/// A bridge of ours learns nothing from routers: they would be containers. And it has IPv6 where it has an address of
/// it, whatever new devices begin with on this host.
pub(crate) fn prepare_bridge(bridge: &str, v6: bool) -> Result<()> {
    ignore_missing(set(&format!("net/ipv6/conf/{bridge}/accept_ra"), "0"))?;
    if v6 && ipv6_is_disabled(bridge) {
        set(&format!("net/ipv6/conf/{bridge}/disable_ipv6"), "0")?;
    }
    Ok(())
}

/// A container's device learns nothing from routers: its addresses and routes are given to it, and the next one to speak
/// may be another container. To be called in the container's namespace, while the device is down.
pub(crate) fn refuse_advertisements(interface: &str) -> Result<()> {
    ignore_missing(set(&format!("net/ipv6/conf/{interface}/accept_ra"), "0"))
}

/// Whether a device of the calling thread's namespace has no IPv6 by its settings.
pub(crate) fn ipv6_is_disabled(device: &str) -> bool {
    let value = std::fs::read(path(&format!("net/ipv6/conf/{device}/disable_ipv6")));
    value.is_ok_and(|value| value.first() == Some(&b'1'))
}

/// Without IPv6 in the kernel there is nothing to be set.
fn ignore_missing(result: Result<()>) -> Result<()> {
    result.or_else(|e| if e.kind() == tare_model::Kind::NotFound { Ok(()) } else { Err(e) })
}

fn path(name: &str) -> String {
    format!("/proc/sys/{name}")
}

fn is_off(name: &str) -> Result<bool> {
    let path = path(name);
    match std::fs::read(&path) {
        Ok(value) => Ok(value.first() == Some(&b'0')),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

fn set(name: &str, value: &str) -> Result<()> {
    let path = path(name);
    std::fs::write(&path, value).during("set", &path)
}

fn write(name: &str, before: &str, now: &str) -> Result<Setting> {
    // sysctl(8) takes a slash for a dot and a dot for a slash.
    let dotted: String = name
        .chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect();
    set(name, now)
        .map_err(|e| e.hint(format!("set {dotted} = {now}, without which containers reach nothing but this host")))?;
    Ok(Setting { name: dotted, before: before.to_owned(), now: now.to_owned() })
}
