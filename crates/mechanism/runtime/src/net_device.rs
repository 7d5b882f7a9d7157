//! Devices of the host's network that are moved into a container: `linux.netDevices` (config-linux.md).
//!
//! A device is moved while it is down and renamed in the same message, so that no moment has it inside under a name that
//! may be taken there. The kernel takes its addresses away with the move: those that are permanent and of global scope
//! are put back inside, then it is set up. When the namespace ends, the kernel gives physical devices back to the host.
//! Sources: rtnetlink(7), linux/if_link.h, linux/if_addr.h.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_kernel::netlink::kept::{Again, Place, RTM_NEWADDR, address_again, device_of_address};
use tare_kernel::netlink::message::{
    ACK, Attributes, CREATE, DONE, DUMP, ERROR, EXCLUSIVE, Messages, REQUEST, Writer, array,
};
use tare_kernel::netlink::{Protocol, Socket};
use tare_model::runtime_spec::LinuxNetDevice;
use tare_model::{Context, Error, Kind, Result};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
/// Longest name of a device, with the zero byte that ends it.
const IFNAMSIZ: usize = 16;

/// A device to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name on the host.
    pub host: String,
    /// Its name inside.
    pub inside: String,
}

/// Reads `linux.netDevices`.
///
/// # Errors
/// `Kind::Invalid` for a name that no device can have, and for two devices with one name inside.
pub fn plan(devices: &BTreeMap<String, LinuxNetDevice>) -> Result<Vec<Device>> {
    let mut out: Vec<Device> = Vec::new();
    for (host, device) in devices {
        let inside = device.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(host);
        for name in [host.as_str(), inside] {
            let bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
            if name.is_empty() || name.len() >= IFNAMSIZ || matches!(name, "." | "..") || name.contains(bad) {
                return Err(Error::new(Kind::Invalid, "move network device", format!("{name:?}"))
                    .because("no network device can have this name"));
            }
        }
        if out.iter().any(|d| d.inside == inside) {
            return Err(Error::new(Kind::Invalid, "move network device", host)
                .because(format!("another device is to be called {inside:?} inside, too")));
        }
        out.push(Device { host: host.clone(), inside: inside.to_owned() });
    }
    Ok(out)
}

/// Moves devices of the caller's network namespace into another one, where they get their names, keep their permanent
/// global addresses and are set up. If one cannot be moved, those before it stay moved: they end with the namespace.
///
/// # Errors
/// `Kind::NotFound` for a device that does not exist; else what the kernel says.
pub fn move_all(devices: &[Device], into: BorrowedFd<'_>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let host = Socket::open(Protocol::Route).during("open", "netlink socket")?;
    let inside = Socket::open_in(into, Protocol::Route).during("open", "netlink socket in the container's network")?;
    devices.iter().try_for_each(|device| {
        move_one(&host, &inside, into, device).map_err(|e| {
            let missing = e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error());
            let error = Error::io("move network device", &device.host, e);
            if missing { error.with_kind(Kind::NotFound).hint("ip link shows the devices of the host") } else { error }
        })
    })
}

/// Sets the loopback device of the caller's network namespace up: it is device 1 of each, and has its addresses by itself.
///
/// # Errors
/// As socket(2) and ioctl(2).
pub fn loopback_up() -> Result<()> {
    // One call, where netlink takes six; it is on the way of every start.
    tare_kernel::socket::interface_up("lo").during("set up", "the loopback device")
}

/// As [`move_all`], into the network namespace of a process.
///
/// # Errors
/// As [`move_all`]; if the process has ended.
pub fn move_all_to_process(devices: &[Device], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let namespace = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::io("open", "the container's network namespace", e))?;
    let same = |a: &OwnedFd, b: &OwnedFd| {
        Ok::<_, rustix::io::Errno>(rustix::fs::fstat(a)?.st_ino == rustix::fs::fstat(b)?.st_ino)
    };
    let own = tare_kernel::netlink::current_network_namespace().during("open", "own network namespace")?;
    if same(&namespace, &own).map_err(|e| Error::io("look at", "network namespace", e))? {
        return Err(Error::new(Kind::Invalid, "move network device", &devices[0].host)
            .because("the container has no network namespace of its own"));
    }
    move_all(devices, namespace.as_fd())
}

fn move_one(host: &Socket, inside: &Socket, into: BorrowedFd<'_>, device: &Device) -> std::io::Result<()> {
    let index = index_of(host, &device.host)?;
    let addresses = addresses_of(host, index)?;
    change(host, index, (0, IFF_UP), |_| {})?;
    change(host, index, (0, 0), |a| {
        a.u32(IFLA_NET_NS_FD, into.as_raw_fd() as u32);
        a.string(IFLA_IFNAME, &device.inside);
    })?;
    // Its number inside may be another.
    let index = index_of(inside, &device.inside)?;
    for body in addresses {
        if let Some(again) = address_again(&body, index, 0, Place::Away) {
            set_again(inside, &again)?;
        }
    }
    change(inside, index, (IFF_UP, IFF_UP), |_| {})
}

/// With the flags to be changed, and what they become.
fn change(
    socket: &Socket,
    index: u32,
    (flags, which): (u32, u32),
    fill: impl FnOnce(&mut Attributes<'_>),
) -> std::io::Result<()> {
    ask(socket, RTM_NEWLINK, ACK, &link_header(index, flags, which), fill).map(drop)
}

/// `struct ifinfomsg`
fn link_header(index: u32, flags: u32, which: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&which.to_ne_bytes());
    header
}

fn set_again(socket: &Socket, again: &Again) -> std::io::Result<()> {
    let attributes = |a: &mut Attributes<'_>| again.attributes.iter().for_each(|(kind, value)| a.bytes(*kind, value));
    ask(socket, again.kind, ACK | CREATE | EXCLUSIVE, &again.header, attributes).map(drop)
}

fn index_of(socket: &Socket, name: &str) -> std::io::Result<u32> {
    let answers = ask(socket, RTM_GETLINK, 0, &link_header(0, 0, 0), |a| a.string(IFLA_IFNAME, name))?;
    let link = answers.iter().find(|(kind, _)| *kind == RTM_NEWLINK);
    let index = link.and_then(|(_, body)| array(body, 4).map(u32::from_ne_bytes));
    index.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// The bodies of the messages that tell of a device's addresses.
fn addresses_of(socket: &Socket, index: u32) -> std::io::Result<Vec<Vec<u8>>> {
    let mut header = [0u8; 8];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let answers = ask(socket, RTM_GETADDR, DUMP, &header, |_| {})?;
    let ours = |(kind, body): &(u16, Vec<u8>)| *kind == RTM_NEWADDR && device_of_address(body) == Some(index);
    Ok(answers.into_iter().filter(ours).map(|(_, body)| body).collect())
}

/// Sends a request and gathers what the kernel answers: kinds and bodies.
fn ask(
    socket: &Socket,
    kind: u16,
    flags: u16,
    header: &[u8],
    fill: impl FnOnce(&mut Attributes<'_>),
) -> std::io::Result<Vec<(u16, Vec<u8>)>> {
    let mut request = Writer::new();
    request.message(kind, flags | REQUEST, 0, header, fill);
    socket.send(&request.bytes)?;
    let mut buffer = vec![0u8; 64 * 1024];
    let mut answers = Vec::new();
    while let Some(length) = socket.receive(&mut buffer)? {
        for message in Messages(&buffer[..length]) {
            match message.kind {
                ERROR => match message.status() {
                    Some((0, _)) => {}
                    Some((code, _)) => return Err(std::io::Error::from_raw_os_error(code)),
                    None => return Err(std::io::ErrorKind::InvalidData.into()),
                },
                DONE => return Ok(answers),
                kind => answers.push((kind, message.body.to_vec())),
            }
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_kernel::netlink::message::find;
    use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;

    fn device(name: Option<&str>) -> LinuxNetDevice {
        LinuxNetDevice { name: name.map(Into::into) }
    }

    #[test]
    fn names_are_checked() {
        let of = |pairs: &[(&str, Option<&str>)]| {
            plan(&pairs.iter().map(|(host, name)| ((*host).to_owned(), device(*name))).collect())
        };
        assert_eq!(of(&[("eth1", None)]).unwrap(), [Device { host: "eth1".into(), inside: "eth1".into() }]);
        assert_eq!(of(&[("eth1", Some("net0"))]).unwrap()[0].inside, "net0");
        for name in ["", "..", "a/b", "a b", "a:b", "0123456789abcdef"] {
            assert!(of(&[(name, None)]).is_err(), "{name}");
        }
        assert!(of(&[("eth1", Some("a/b"))]).is_err());
        assert!(of(&[("eth1", Some("x")), ("eth2", Some("x"))]).is_err());
    }

    /// Makes a device without hardware: one end of a veth pair.
    fn make_veth(socket: &Socket, name: &str) {
        const IFLA_LINKINFO: u16 = 18;
        let header = link_header(0, IFF_UP, IFF_UP);
        ask(socket, RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &header, |a| {
            a.string(IFLA_IFNAME, name);
            a.nest(IFLA_LINKINFO, |a| a.string(1, "veth"));
        })
        .unwrap();
    }

    fn flags_of(socket: &Socket, index: u32) -> u32 {
        let answers = ask(socket, RTM_GETLINK, 0, &link_header(index, 0, 0), |_| {}).unwrap();
        u32::from_ne_bytes(answers[0].1[8..12].try_into().unwrap())
    }

    #[test]
    fn a_device_moves_with_its_addresses_and_is_up() {
        let (host, inside) = (new_network_namespace().unwrap(), new_network_namespace().unwrap());
        in_network_namespace(host.as_fd(), || {
            let socket = Socket::open(Protocol::Route).unwrap();
            make_veth(&socket, "from0");
            let index = index_of(&socket, "from0").unwrap();
            let add = |family: u8, prefix, scope, bytes: &[u8]| {
                let header = [&[family, prefix, 0x02, scope][..], &index.to_ne_bytes()].concat();
                let attributes = vec![(IFA_LOCAL, bytes.to_vec()), (IFA_ADDRESS, bytes.to_vec())];
                set_again(&socket, &Again { kind: RTM_NEWADDR, header, attributes }).unwrap();
            };
            add(2, 24, 0, &[10, 9, 8, 7]);
            add(10, 64, 0, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            // Of link scope: it is not for elsewhere.
            add(2, 16, 253, &[169, 254, 1, 1]);
            let devices = [Device { host: "from0".into(), inside: "to0".into() }];
            move_all(&devices, inside.as_fd()).unwrap();
            assert!(index_of(&socket, "from0").is_err());
            let gone = move_all(&devices, inside.as_fd()).unwrap_err();
            assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
            assert!(gone.first_hint().unwrap().contains("ip link"));
        })
        .unwrap();
        let socket = Socket::open_in(inside.as_fd(), Protocol::Route).unwrap();
        let index = index_of(&socket, "to0").unwrap();
        assert_eq!(flags_of(&socket, index) & IFF_UP, IFF_UP);
        let found = addresses_of(&socket, index).unwrap();
        let mut shown: Vec<(u8, u8)> = found.iter().map(|body| (body[0], body[1])).collect();
        shown.sort_unstable();
        assert_eq!(shown, [(2, 24), (10, 64)]);
        let v4 = found.iter().find(|body| body[0] == 2).unwrap();
        assert_eq!(find(&v4[8..], IFA_LOCAL), Some(&[10, 9, 8, 7][..]));
    }

    #[test]
    fn loopback_is_set_up() {
        let made = new_network_namespace().unwrap();
        in_network_namespace(made.as_fd(), || {
            loopback_up().unwrap();
            let socket = Socket::open(Protocol::Route).unwrap();
            assert_eq!(flags_of(&socket, 1) & IFF_UP, IFF_UP);
        })
        .unwrap();
    }

    #[test]
    fn a_container_in_the_hosts_network_gets_none() {
        let devices = [Device { host: "lo".into(), inside: "lo".into() }];
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(move_all_to_process(&devices, own).unwrap_err().kind(), Kind::Invalid);
    }
}
