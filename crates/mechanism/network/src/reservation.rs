//! Ports of the host kept by a socket each, so that a conflict shows at once and nobody else gets them meanwhile.
//!
//! | published on | socket | what it is for |
//! |---|---|---|
//! | no address | `[::]`, both families | listens, as IPv6's `::1` cannot be translated: see [`SocketRole`] |
//! | `::`, `::1` | that, IPv6 only | the same |
//! | any other | that address | only to be held |
//!
//! All other packets for a published port are translated before they would reach a socket.

use crate::holder::{self, SCTP_NAME};
use crate::ports::{PortMapping, PortWish, Transport};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, ipproto, listen, shutdown,
    socket_with,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tare_kernel::seccomp::SockFilter;
use tare_kernel::socket::attach_filter;
use tare_model::{Error, Kind, Result};

/// How many free ports are tried that the kernel chose, where something is in the way of one of them.
const ATTEMPTS: usize = 64;
/// Connections to `::1` that wait to be accepted.
const BACKLOG: i32 = 128;

/// Ports that are ours as long as the sockets are open.
#[derive(Debug)]
pub struct Reservation {
    /// What was asked for, in order, with the free ports filled in.
    pub ports: Vec<PortMapping>,
    /// One socket for each port, in the same order.
    pub sockets: Vec<ReservedSocket>,
}

/// The socket that keeps one port.
#[derive(Debug)]
pub struct ReservedSocket {
    /// The port.
    pub port: PortMapping,
    /// What is to be done with it.
    pub role: SocketRole,
    /// The socket; non-blocking unless its role is [`SocketRole::Held`].
    pub fd: OwnedFd,
}

/// What is to be done with a reserved socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketRole {
    /// Nothing but to keep it open. It does not listen: should our rules be flushed, a client is refused, not left
    /// hanging. Datagrams for it are dropped.
    Held,
    /// It listens. A connection whose local address is `::1` belongs to the container; every other one came while our
    /// rules were flushed and is to be closed.
    Stream,
    /// It receives datagrams sent to `::1`, and no others.
    Datagram,
}

impl SocketRole {
    /// The role of the socket that keeps `port`.
    pub fn of(port: &PortMapping) -> SocketRole {
        let loopback6 = port.covers(Ipv6Addr::LOCALHOST.into());
        match port.transport {
            Transport::Tcp if loopback6 => SocketRole::Stream,
            Transport::Udp if loopback6 => SocketRole::Datagram,
            _ => SocketRole::Held,
        }
    }
}

/// Reserves the host's side of `wanted`, all or nothing; to be called in the host's network namespace.
///
/// Whoever keeps the container alive keeps the sockets.
///
/// # Errors
/// `Kind::InUse`, naming the holder where it can be found; `Kind::Invalid` when the host has no such address.
pub fn reserve_ports<W: Into<PortWish> + Copy>(wanted: &[W]) -> Result<Reservation> {
    let mut reservation = Reservation { ports: Vec::new(), sockets: Vec::new() };
    for wish in wanted {
        let wish = &(*wish).into();
        let socket = match wish.host_ports.filter(|(first, _)| *first != 0) {
            Some((first, last)) => one_of(wish, first, last)?,
            None => any_free(wish)?,
        };
        reservation.ports.push(socket.port);
        reservation.sockets.push(socket);
    }
    Ok(reservation)
}

fn one_of(wish: &PortWish, first: u16, last: u16) -> Result<ReservedSocket> {
    let mut failed = None;
    for number in first..=last {
        match reserve(wish.at(number)) {
            Err(e @ Errno::ADDRINUSE) => failed = failed.or(Some((number, e))),
            Err(e) => return Err(refused(wish, wish.at(number), e)),
            Ok(socket) => return Ok(socket),
        }
    }
    let (number, errno) = failed.unwrap_or((first, Errno::INVAL));
    Err(refused(wish, wish.at(number), errno))
}

fn any_free(wish: &PortWish) -> Result<ReservedSocket> {
    let mut last = Errno::ADDRINUSE;
    for _ in 0..ATTEMPTS {
        match reserve(wish.at(0)) {
            Err(e @ Errno::ADDRINUSE) => last = e,
            other => return other.map_err(|e| refused(wish, wish.at(0), e)),
        }
    }
    Err(refused(wish, wish.at(0), last))
}

fn reserve(port: PortMapping) -> Result<ReservedSocket, Errno> {
    let role = SocketRole::of(&port);
    let (mut address, mut only_v6) = match port.host_ip {
        None => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), false),
        Some(ip) => (ip, ip.is_ipv6()),
    };
    let mut made = bound(address, only_v6, port, role);
    if port.host_ip.is_none() && made.as_ref().is_err_and(|e| *e == Errno::AFNOSUPPORT) {
        (address, only_v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), false);
        made = bound(address, only_v6, port, SocketRole::Held);
    }
    let fd = match made {
        // The kernel has no SCTP sockets, so no other program has that port either; other containers may.
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if port.transport == Transport::Sctp => {
            return sctp_by_name(port);
        }
        other => other?,
    };
    let host_port = SocketAddr::try_from(getsockname(&fd)?)?.port();
    Ok(ReservedSocket { port: PortMapping { host_port, ..port }, role, fd })
}

fn bound(address: IpAddr, only_v6: bool, port: PortMapping, role: SocketRole) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match port.transport {
        Transport::Tcp => (SocketType::STREAM, None),
        Transport::Udp => (SocketType::DGRAM, None),
        Transport::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let new = || {
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        if address.is_ipv6() {
            set_ipv6_v6only(&socket, only_v6)?;
        }
        Ok(socket)
    };
    let address = SocketAddr::new(address, port.host_port);
    let mut socket: OwnedFd = new()?;
    if port.transport == Transport::Udp {
        // Before it has a port, so that no datagram comes earlier.
        let program = if role == SocketRole::Datagram { only_to_loopback6() } else { vec![DROP] };
        attach_filter(socket.as_fd(), &program).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::INVAL))?;
    }
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if port.host_port != 0 && port.transport == Transport::Tcp => {
            // Perhaps only connections in TIME_WAIT of a server that has ended are in the way. SO_REUSEADDR passes
            // these, but also another reservation made in this way: the kernel lets two sockets share a port while
            // neither listens. So listen, which no other holder survives, then take both back; the port stays bound.
            socket = new()?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)?;
            set_socket_reuseaddr(&socket, false)?;
            if role != SocketRole::Stream {
                shutdown(&socket, Shutdown::Read)?;
            }
        }
        other => {
            other?;
            if role == SocketRole::Stream {
                listen(&socket, BACKLOG)?;
            }
        }
    }
    if role != SocketRole::Held {
        ioctl_fionbio(&socket, true)?;
    }
    Ok(socket)
}

/// One port for all addresses: a name cannot say which of them overlap.
fn sctp_by_name(port: PortMapping) -> Result<ReservedSocket, Errno> {
    let free = 49152..=u16::MAX;
    let candidates = if port.host_port == 0 { free } else { port.host_port..=port.host_port };
    for host_port in candidates {
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let name = SocketAddrUnix::new_abstract_name(format!("{SCTP_NAME}{host_port}").as_bytes())?;
        match bind(&fd, &name) {
            Err(Errno::ADDRINUSE) => {}
            Err(e) => return Err(e),
            Ok(()) => {
                let port = PortMapping { host_port, ..port };
                return Ok(ReservedSocket { port, role: SocketRole::Held, fd });
            }
        }
    }
    Err(Errno::ADDRINUSE)
}

/// Says why a port cannot be had.
fn refused(wish: &PortWish, port: PortMapping, errno: Errno) -> Error {
    let error = Error::io("publish port", wish, errno);
    match errno {
        Errno::ADDRINUSE => {
            let what = match wish.host_ports {
                Some((first, last)) if first != last => "every port of the range",
                _ => "the host's port",
            };
            match holder::of(port.host(), port.host_ip.is_none(), port.transport) {
                Some(holder) if what.starts_with("every") => {
                    error.because(format_args!("{what} is in use, {} by {holder}", port.host_port))
                }
                Some(holder) => error.because(format_args!("{what} is in use by {holder}")),
                None => error.because(format_args!("{what} is in use")),
            }
            .hint("choose another host port, or leave it out to get a free one")
        }
        Errno::ADDRNOTAVAIL => error
            .with_kind(Kind::Invalid)
            .because(format_args!("{} is not an address of this host", port.host().ip()))
            .hint("see `ip -brief address` for the host's addresses"),
        Errno::ACCESS => error.hint("ports below net.ipv4.ip_unprivileged_port_start need root"),
        _ => error,
    }
}

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
const DROP: SockFilter = SockFilter { code: RETURN, jt: 0, jf: 0, k: 0 };

/// Keeps IPv6 packets whose destination is `::1`. Loads relative to `SKF_NET_OFF` begin at the network header.
fn only_to_loopback6() -> Vec<SockFilter> {
    const NETWORK: u32 = 0xfff0_0000;
    let load_byte = |at| SockFilter { code: 0x30, jt: 0, jf: 0, k: NETWORK + at };
    let load_word = |at| SockFilter { code: 0x20, jt: 0, jf: 0, k: NETWORK + at };
    let and = |k| SockFilter { code: 0x54, jt: 0, jf: 0, k };
    // The next instruction if equal, else the drop at the end.
    let equal = |k, to_end| SockFilter { code: 0x15, jt: 0, jf: to_end, k };
    vec![
        load_byte(0),
        and(0xf0),
        equal(0x60, 9),
        load_word(24),
        equal(0, 7),
        load_word(28),
        equal(0, 5),
        load_word(32),
        equal(0, 3),
        load_word(36),
        equal(1, 1),
        SockFilter { code: RETURN, jt: 0, jf: 0, k: u32::MAX },
        DROP,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_new_namespace;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LOCALHOST6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn wish(transport: Transport, host_ip: Option<IpAddr>, port: u16) -> PortWish {
        PortWish { host_ip, host_ports: (port != 0).then_some((port, port)), container_port: 80, transport }
    }

    fn tcp(host_ip: Option<IpAddr>, port: u16) -> PortWish {
        wish(Transport::Tcp, host_ip, port)
    }

    #[test]
    fn a_reserved_port_is_refused_to_everybody_and_free_afterwards() {
        in_new_namespace(|_| {
            let held = reserve_ports(&[tcp(None, 0), tcp(Some(LOCALHOST), 8080), tcp(Some(LOCALHOST6), 8081)]).unwrap();
            let free = held.ports[0].host_port;
            assert_ne!(free, 0);
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let any6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            for (ip, port) in [(any, free), (any6, free), (LOCALHOST, 8080), (any, 8080), (LOCALHOST6, 8081)] {
                // std listens with SO_REUSEADDR, as servers do.
                assert_eq!(TcpListener::bind((ip, port)).unwrap_err().kind(), ErrorKind::AddrInUse, "{ip} {port}");
            }
            let e = reserve_ports(&[tcp(Some(any), 8080)]).unwrap_err();
            assert_eq!(e.kind(), Kind::InUse);
            let me = std::process::id();
            assert!(
                e.to_string().starts_with("publish port 0.0.0.0:8080->80/tcp: the host's port is in use by"),
                "{e}"
            );
            assert!(e.to_string().ends_with(&format!("(pid {me})")), "{e}");
            assert_eq!(e.first_hint(), Some("choose another host port, or leave it out to get a free one"));
            assert_eq!(reserve_ports(&[tcp(None, 8080)]).unwrap_err().kind(), Kind::InUse);
            assert_eq!(reserve_ports(&[tcp(None, 8081)]).unwrap_err().kind(), Kind::InUse);
            // Nobody answers there.
            assert_eq!(TcpStream::connect((LOCALHOST, 8080)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            drop(held);
            reserve_ports(&[tcp(None, free), tcp(None, 8080), tcp(None, 8081)]).unwrap();
        });
    }

    #[test]
    fn both_families_are_taken_unless_one_is_named() {
        in_new_namespace(|_| {
            let v4 = tcp(Some(Ipv4Addr::UNSPECIFIED.into()), 8080);
            let v6 = tcp(Some(Ipv6Addr::UNSPECIFIED.into()), 8080);
            let held = reserve_ports(&[v4, v6]).unwrap();
            assert_eq!(held.sockets[0].role, SocketRole::Held);
            assert_eq!(held.sockets[1].role, SocketRole::Stream);
            drop(held);
            let other = TcpListener::bind("[::1]:8080").unwrap();
            reserve_ports(&[v4]).unwrap();
            let e = reserve_ports(&[tcp(None, 8080)]).unwrap_err();
            assert!(e.to_string().contains("is in use by"), "{e}");
            drop(other);
            reserve_ports(&[tcp(None, 8080)]).unwrap();
        });
    }

    #[test]
    fn udp_is_reserved_too_and_its_holder_named() {
        in_new_namespace(|_| {
            let udp = |ip, port| wish(Transport::Udp, ip, port);
            let held = reserve_ports(&[udp(None, 5353), udp(Some(LOCALHOST), 5354), tcp(None, 5353)]).unwrap();
            assert_eq!(UdpSocket::bind("0.0.0.0:5353").unwrap_err().kind(), ErrorKind::AddrInUse);
            let e = reserve_ports(&[udp(Some(LOCALHOST), 5353)]).unwrap_err();
            assert!(e.to_string().ends_with(&format!("(pid {})", std::process::id())), "{e}");
            // Only what is sent to ::1 arrives.
            let socket = UdpSocket::from(held.sockets.into_iter().next().unwrap().fd);
            let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
            v4.send_to(b"four", "127.0.0.1:5353").unwrap();
            assert_eq!(socket.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
            let v6 = UdpSocket::bind("[::1]:0").unwrap();
            v6.send_to(b"six", "[::1]:5353").unwrap();
            assert_eq!(socket.recv_from(&mut [0; 8]).unwrap(), (3, v6.local_addr().unwrap()));
        });
    }

    #[test]
    fn what_listens_on_loopback_accepts_there() {
        in_new_namespace(|_| {
            let held = reserve_ports(&[tcp(None, 8080)]).unwrap();
            let socket = held.sockets.into_iter().next().unwrap();
            assert_eq!(socket.role, SocketRole::Stream);
            let listener = TcpListener::from(socket.fd);
            let client = TcpStream::connect("[::1]:8080").unwrap();
            let (served, _) = listener.accept().unwrap();
            assert_eq!(served.local_addr().unwrap().ip(), LOCALHOST6);
            assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
        });
    }

    #[test]
    fn a_free_port_of_a_range_is_found() {
        in_new_namespace(|_| {
            let other = TcpListener::bind("127.0.0.1:8000").unwrap();
            let range = PortWish { host_ports: Some((8000, 8002)), ..tcp(None, 0) };
            let held = reserve_ports(&[range, range]).unwrap();
            assert_eq!(held.ports.iter().map(|p| p.host_port).collect::<Vec<_>>(), [8001, 8002]);
            let e = reserve_ports(&[range]).unwrap_err();
            let text = e.to_string();
            assert!(text.starts_with("publish port 0.0.0.0:8000-8002->80/tcp: every port of the range is in"), "{e}");
            assert!(text.contains("8000 by"), "{e}");
            drop(other);
            assert_eq!(reserve_ports(&[range]).unwrap().ports[0].host_port, 8000);
        });
    }

    #[test]
    fn sctp_ports_conflict_even_where_the_kernel_has_no_such_sockets() {
        in_new_namespace(|_| {
            let sctp = |port| wish(Transport::Sctp, None, port);
            let held = reserve_ports(&[sctp(9899), sctp(0)]).unwrap();
            assert_ne!(held.ports[1].host_port, 0);
            let e = reserve_ports(&[sctp(9899)]).unwrap_err();
            assert_eq!(e.kind(), Kind::InUse);
            assert!(e.to_string().ends_with(&format!("(pid {})", std::process::id())), "{e}");
            drop(held);
            reserve_ports(&[sctp(9899)]).unwrap();
        });
    }

    #[test]
    fn a_foreign_address_is_said_to_be_foreign() {
        in_new_namespace(|_| {
            let e = reserve_ports(&[tcp(Some(Ipv4Addr::new(192, 0, 2, 9).into()), 80)]).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            assert_eq!(e.to_string(), "publish port 192.0.2.9:80->80/tcp: 192.0.2.9 is not an address of this host");
        });
    }

    #[test]
    fn connections_in_time_wait_are_not_in_the_way_but_other_reservations_are() {
        in_new_namespace(|_| {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let (mut served, _) = server.accept().unwrap();
            served.write_all(b"x").unwrap();
            // The side that closes first keeps its port in TIME_WAIT.
            drop((served, server));
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
            drop(client);
            let plain = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            assert_eq!(bind(&plain, &address), Err(Errno::ADDRINUSE), "the test made no TIME_WAIT");
            for ip in [None, Some(Ipv4Addr::UNSPECIFIED.into())] {
                let held = reserve_ports(&[tcp(ip, port)]).unwrap();
                assert_eq!(reserve_ports(&[tcp(ip, port)]).unwrap_err().kind(), Kind::InUse);
                assert!(TcpListener::bind(address).is_err());
                if ip.is_some() {
                    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
                }
                drop(held);
            }
        });
    }
}
