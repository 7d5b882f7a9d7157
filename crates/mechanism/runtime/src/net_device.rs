//! Devices of the host's network that are moved into a container: `linux.netDevices` (config-linux.md).
//!
//! A device is moved while it is down and renamed in the same message, so that no moment has it inside under a name that
//! may be taken there. The kernel takes its addresses away with the move: those that are permanent and of global scope
//! are put back inside, then it is set up. When the namespace ends, the kernel gives physical devices back to the host.
//! Sources: rtnetlink(7), linux/if_link.h, linux/if_addr.h.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_kernel::netlink::{Protocol, Socket};
use tare_model::runtime_spec::LinuxNetDevice;
use tare_model::{Context, Error, Kind, Result};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;
/// Longest name of a device, with the zero byte that ends it.
const IFNAMSIZ: usize = 16;
/// sizeof(struct nlmsghdr) and sizeof(struct ifinfomsg).
const HEADER: usize = 16;

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
    let mut down = Message::link(RTM_NEWLINK, NLM_F_ACK, index, 0, IFF_UP);
    ask(host, &down.finish())?;
    let mut moved = Message::link(RTM_NEWLINK, NLM_F_ACK, index, 0, 0);
    moved.attribute(IFLA_NET_NS_FD, &into.as_raw_fd().to_ne_bytes());
    moved.text(IFLA_IFNAME, &device.inside);
    ask(host, &moved.finish())?;
    // Its number inside may be another.
    let index = index_of(inside, &device.inside)?;
    for address in addresses {
        ask(inside, &address.message(index).finish())?;
    }
    let mut up = Message::link(RTM_NEWLINK, NLM_F_ACK, index, IFF_UP, IFF_UP);
    ask(inside, &up.finish()).map(drop)
}

fn index_of(socket: &Socket, name: &str) -> std::io::Result<i32> {
    let mut get = Message::link(RTM_GETLINK, 0, 0, 0, 0);
    get.text(IFLA_IFNAME, name);
    let answers = ask(socket, &get.finish())?;
    let link = answers.iter().find(|(kind, _)| *kind == RTM_NEWLINK);
    let index = link.and_then(|(_, body)| Some(i32::from_ne_bytes(body.get(4..8)?.try_into().ok()?)));
    index.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// A permanent address of global scope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Its attributes that are set anew.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    fn read(body: &[u8], index: i32) -> Option<Address> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let head: &[u8; 8] = body.get(..8)?.try_into().ok()?;
        if i32::from_ne_bytes(head[4..8].try_into().ok()?) != index || head[3] != RT_SCOPE_UNIVERSE {
            return None;
        }
        let all: Vec<(u16, &[u8])> = Attributes(&body[8..]).collect();
        let wide = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, v)| (*v).try_into().ok());
        let flags = wide.map_or(u32::from(head[2]), u32::from_ne_bytes);
        if flags & IFA_F_PERMANENT == 0 {
            return None;
        }
        let kept = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_CACHEINFO];
        let attributes = all.into_iter().filter(|(kind, _)| kept.contains(kind)).map(|(k, v)| (k, v.to_vec()));
        Some(Address { family: head[0], prefix: head[1], flags, attributes: attributes.collect() })
    }

    fn message(&self, index: i32) -> Message {
        // What the address was made with: not what the kernel found out about it since.
        const MADE_WITH: u32 = 0x02 | 0x200 | 0x400;
        let flags = self.flags & MADE_WITH;
        let mut head = vec![self.family, self.prefix, 0, RT_SCOPE_UNIVERSE];
        head.extend_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE_EXCL, &head);
        message.attribute(IFA_FLAGS, &flags.to_ne_bytes());
        for (kind, value) in &self.attributes {
            message.attribute(*kind, value);
        }
        message
    }
}

fn addresses_of(socket: &Socket, index: i32) -> std::io::Result<Vec<Address>> {
    let mut head = [0u8; 8];
    head[4..].copy_from_slice(&index.to_ne_bytes());
    let answers = ask(socket, &Message::new(RTM_GETADDR, NLM_F_DUMP, &head).finish())?;
    Ok(answers
        .iter()
        .filter(|(kind, _)| *kind == RTM_NEWADDR)
        .filter_map(|(_, body)| Address::read(body, index))
        .collect())
}

/// One message: header, body, attributes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0u8; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        Message(bytes)
    }

    /// With a struct ifinfomsg.
    fn link(kind: u16, flags: u16, index: i32, state: u32, change: u32) -> Message {
        let mut body = [0u8; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&state.to_ne_bytes());
        body[12..].copy_from_slice(&change.to_ne_bytes());
        Message::new(kind, flags, &body)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    fn finish(&mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        std::mem::take(&mut self.0)
    }
}

/// The attributes of a message: length, kind, value, each rounded up to four bytes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Sends a request and gathers what the kernel answers: kinds and bodies.
fn ask(socket: &Socket, request: &[u8]) -> std::io::Result<Vec<(u16, Vec<u8>)>> {
    socket.send(request)?;
    let mut buffer = vec![0u8; 64 * 1024];
    let mut answers = Vec::new();
    while let Some(length) = socket.receive(&mut buffer)? {
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER {
            let size = u32::from_ne_bytes(rest[..4].try_into().expect("four bytes")) as usize;
            let kind = u16::from_ne_bytes(rest[4..6].try_into().expect("two bytes"));
            let Some(body) = rest.get(HEADER..size) else { return Err(std::io::ErrorKind::InvalidData.into()) };
            match kind {
                NLMSG_ERROR => {
                    let code = body.get(..4).map_or(0, |b| i32::from_ne_bytes(b.try_into().expect("four bytes")));
                    if code != 0 {
                        return Err(std::io::Error::from_raw_os_error(-code));
                    }
                }
                NLMSG_DONE => return Ok(answers),
                _ => answers.push((kind, body.to_vec())),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

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
        let mut message = Message::link(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE_EXCL, 0, IFF_UP, IFF_UP);
        message.text(IFLA_IFNAME, name);
        let mut info = Message(Vec::new());
        info.attribute(1, b"veth");
        message.attribute(IFLA_LINKINFO, &info.0);
        ask(socket, &message.finish()).unwrap();
    }

    fn flags_of(socket: &Socket, index: i32) -> u32 {
        let answers = ask(socket, &Message::link(RTM_GETLINK, 0, index, 0, 0).finish()).unwrap();
        u32::from_ne_bytes(answers[0].1[8..12].try_into().unwrap())
    }

    #[test]
    fn a_device_moves_with_its_addresses_and_is_up() {
        let (host, inside) = (new_network_namespace().unwrap(), new_network_namespace().unwrap());
        in_network_namespace(host.as_fd(), || {
            let socket = Socket::open(Protocol::Route).unwrap();
            make_veth(&socket, "from0");
            let index = index_of(&socket, "from0").unwrap();
            let address = |family: u8, prefix, bytes: &[u8]| Address {
                family,
                prefix,
                flags: 0x02,
                attributes: vec![(IFA_LOCAL, bytes.to_vec()), (IFA_ADDRESS, bytes.to_vec())],
            };
            let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
            for address in [address(2, 24, &[10, 9, 8, 7]), address(10, 64, &v6)] {
                ask(&socket, &address.message(index).finish()).unwrap();
            }
            // Of link scope: it is not for elsewhere.
            let mut local = address(2, 16, &[169, 254, 1, 1]).message(index);
            local.0[HEADER + 3] = 253;
            ask(&socket, &local.finish()).unwrap();
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
        let mut shown: Vec<(u8, u8)> = found.iter().map(|a| (a.family, a.prefix)).collect();
        shown.sort_unstable();
        assert_eq!(shown, [(2, 24), (10, 64)]);
        let v4 = found.iter().find(|a| a.family == 2).unwrap();
        assert!(v4.attributes.contains(&(IFA_LOCAL, vec![10, 9, 8, 7])));
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
