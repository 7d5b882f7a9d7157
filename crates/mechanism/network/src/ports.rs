//! Ports of the host that lead to containers: reserved by a bound socket each, so that a conflict shows at once.

use crate::holder;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, ipproto, listen, shutdown, socket_with,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use tare_model::{Error, Kind, Result};

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Transport::Tcp, Transport::Udp, Transport::Sctp]
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::new(Kind::Invalid, "parse protocol", format_args!("\"{text}\""))
                    .because("there are tcp, udp and sctp")
            })
    }
}

/// One published port; displayed as in `0.0.0.0:8080->80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; `None` for all of them, of both families.
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0 asks for a free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
}

impl PortMapping {
    fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), self.host_port)
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/{}", self.host(), self.container_port, self.transport)
    }
}

/// Ports that are ours as long as the sockets are open.
#[derive(Debug)]
pub struct Reservation {
    /// What was asked for, in order, with the free ports filled in.
    pub ports: Vec<PortMapping>,
    /// One bound socket per port. None listens: should our rules be flushed, a client is refused, not left hanging.
    pub sockets: Vec<OwnedFd>,
}

/// Reserves the host's side of `wanted`, all or nothing; to be called in the host's network namespace.
///
/// Whoever keeps the container alive keeps the sockets. An address of `0.0.0.0` is taken for all of them. Fails with
/// [`Kind::InUse`], naming the holder where it can be found, and with [`Kind::Invalid`] when the host has no such
/// address.
pub fn reserve_ports(wanted: &[PortMapping]) -> Result<Reservation> {
    let mut reservation = Reservation { ports: Vec::new(), sockets: Vec::new() };
    for port in wanted {
        let port = PortMapping { host_ip: port.host_ip.filter(|ip| !ip.is_unspecified()), ..*port };
        let socket = reserve(port.host(), port.transport).map_err(|e| refused(port, e))?;
        let bound = getsockname(&socket).and_then(SocketAddr::try_from).map_err(|e| refused(port, e))?;
        reservation.ports.push(PortMapping { host_port: bound.port(), ..port });
        reservation.sockets.push(socket);
    }
    Ok(reservation)
}

fn reserve(address: SocketAddr, transport: Transport) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, None),
        Transport::Udp => (SocketType::DGRAM, None),
        Transport::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let new = || socket_with(family, kind, SocketFlags::CLOEXEC, protocol);
    let socket = new()?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if address.port() != 0 && transport == Transport::Tcp => {}
        other => return other.map(|()| socket),
    }
    // Perhaps only connections in TIME_WAIT of a server that has ended are in the way. SO_REUSEADDR passes these, but
    // also another reservation made in this way: the kernel lets two sockets share a port while neither listens. So
    // listen, which no other holder survives, then take both back; the port stays bound.
    let socket = new()?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 0)?;
    set_socket_reuseaddr(&socket, false)?;
    shutdown(&socket, Shutdown::Read)?;
    Ok(socket)
}

fn refused(port: PortMapping, errno: Errno) -> Error {
    let error = Error::io("publish port", port, errno);
    match errno {
        Errno::ADDRINUSE => match holder::of(port.host()) {
            Some(holder) => error.because(format_args!("the host's port is in use by {holder}")),
            None => error.because("the host's port is in use"),
        }
        .hint("choose another host port, or leave it out to get a free one"),
        Errno::ADDRNOTAVAIL => error
            .with_kind(Kind::Invalid)
            .because(format_args!("{} is not an address of this host", port.host().ip()))
            .hint("see `ip -brief address` for the host's addresses"),
        Errno::ACCESS => error.hint("ports below net.ipv4.ip_unprivileged_port_start need root"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_new_namespace;
    use std::io::{Read, Write};
    use std::net::{SocketAddrV4, TcpListener, TcpStream};

    fn tcp(host_ip: Option<Ipv4Addr>, host_port: u16) -> PortMapping {
        PortMapping { host_ip: host_ip.map(IpAddr::V4), host_port, container_port: 80, transport: Transport::Tcp }
    }

    #[test]
    fn a_reserved_port_is_refused_to_everybody_and_free_afterwards() {
        in_new_namespace(|_| {
            let held = reserve_ports(&[tcp(None, 0), tcp(Some(Ipv4Addr::LOCALHOST), 8080)]).unwrap();
            let free = held.ports[0].host_port;
            assert_ne!(free, 0);
            for address in
                [SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, free), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080)]
            {
                // std listens with SO_REUSEADDR, as servers do.
                assert_eq!(TcpListener::bind(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
            }
            let e = reserve_ports(&[tcp(Some(Ipv4Addr::UNSPECIFIED), 8080)]).unwrap_err();
            assert_eq!(e.kind(), Kind::InUse);
            let me = std::process::id();
            assert!(
                e.to_string().starts_with("publish port 0.0.0.0:8080->80/tcp: the host's port is in use by"),
                "{e}"
            );
            assert!(e.to_string().ends_with(&format!("(pid {me})")), "{e}");
            assert_eq!(e.first_hint(), Some("choose another host port, or leave it out to get a free one"));
            // Nobody answers there.
            assert_eq!(
                TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).unwrap_err().kind(),
                std::io::ErrorKind::ConnectionRefused
            );
            drop(held);
            reserve_ports(&[tcp(None, free), tcp(None, 8080)]).unwrap();
        });
    }

    #[test]
    fn a_foreign_address_is_said_to_be_foreign() {
        in_new_namespace(|_| {
            let e = reserve_ports(&[tcp(Some(Ipv4Addr::new(192, 0, 2, 9)), 80)]).unwrap_err();
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
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            assert_eq!(bind(&plain, &address), Err(Errno::ADDRINUSE), "the test made no TIME_WAIT");
            let held = reserve_ports(&[tcp(None, port)]).unwrap();
            assert_eq!(reserve_ports(&[tcp(None, port)]).unwrap_err().kind(), Kind::InUse);
            assert!(TcpListener::bind(address).is_err());
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
            drop(held);
        });
    }
}
