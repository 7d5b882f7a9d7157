//! Who holds a port: asked from the kernel's socket tables and /proc, for an error message.
//!
//! Sources: sock_diag(7), proc(5).

use crate::channel::{Channel, Request};
use crate::message::array;
use crate::ports::Transport;
use rustix::fs::readlink;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use tare_kernel::netlink::Protocol;
use tare_model::Result;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `TCPF_LISTEN`, and `TCPF_BOUND_INACTIVE` (since 6.8) for sockets that are bound only, such as reservations.
const TCP_STATES: u32 = 1 << 10 | 1 << 13;

/// Followed by a port's number, the name by which that SCTP port is kept where the kernel has no SCTP sockets: in the
/// abstract namespace of Unix sockets, which is the network namespace's own.
pub(crate) const SCTP_NAME: &str = "tare-sctp-";

/// Name and pid of a process that holds `address`, as in `nginx (pid 123)`; with `both`, that port of the other family
/// as well. `None` where it cannot be found.
pub(crate) fn of(address: SocketAddr, both: bool, transport: Transport) -> Option<String> {
    let wanted = address.ip();
    let overlaps = |a: &IpAddr| {
        // A socket on `::` takes IPv4 as well, unless it was told not to.
        let any6 = *a == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let family = a.is_ipv4() == wanted.is_ipv4();
        both || any6 || family && (a.is_unspecified() || wanted.is_unspecified() || *a == wanted)
    };
    let found = [AF_INET, AF_INET6].into_iter().find_map(|family| {
        let sockets = sockets(family, transport, address.port()).ok()?;
        sockets.iter().filter(|(a, _)| overlaps(a)).find_map(|(_, inode)| process_with(*inode))
    });
    found.or_else(|| sctp_by_name(address.port()).filter(|_| transport == Transport::Sctp))
}

/// Local address and inode of the sockets with this local port; IPv4 addresses written as IPv6 are IPv4 ones.
fn sockets(family: u8, transport: Transport, port: u16) -> Result<Vec<(IpAddr, u32)>> {
    let mut channel = Channel::open(Protocol::SockDiag, None)?;
    // struct inet_diag_req_v2: family, protocol, ext, pad, states, then struct inet_diag_sockid from the source port on
    let mut header = [0; 56];
    header[0] = family;
    header[1] = transport.number();
    let states = if transport == Transport::Tcp { TCP_STATES } else { u32::MAX };
    header[4..8].copy_from_slice(&states.to_ne_bytes());
    header[8..10].copy_from_slice(&port.to_be_bytes());
    let step = "list sockets";
    let request = Request { kind: SOCK_DIAG_BY_FAMILY, flags: 0, header: &header, step, object: "", fine: &[] };
    Ok(channel.dump(&request, |_| {})?.messages().filter_map(|m| parse(m.body, family, port)).collect())
}

/// Reads `struct inet_diag_msg`.
pub(crate) fn parse(body: &[u8], family: u8, port: u16) -> Option<(IpAddr, u32)> {
    let inode = u32::from_ne_bytes(array(body, 68)?);
    let address = match family {
        AF_INET => IpAddr::from(array::<4>(body, 8)?),
        _ => IpAddr::from(array::<16>(body, 8)?).to_canonical(),
    };
    (u16::from_be_bytes(array(body, 4)?) == port).then_some((address, inode))
}

/// Where a port is kept by a name.
fn sctp_by_name(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/unix").ok()?;
    let name = format!("@{SCTP_NAME}{port}");
    let mut words = table.lines().map(str::split_ascii_whitespace);
    // Number, references, protocol, flags, type, state, inode, path.
    let inode = words.find_map(|mut w| {
        let inode = w.nth(6)?;
        (w.next()? == name).then_some(inode)
    })?;
    process_with(inode.parse().ok()?)
}

fn process_with(inode: u32) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| readlink(fd.path(), Vec::new()).is_ok_and(|to| to.as_bytes() == wanted.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        holds(&path).then(|| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim_end())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_new_namespace;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    #[test]
    fn a_listener_is_found_under_both_families() {
        in_new_namespace(|_| {
            let me = format!("(pid {})", std::process::id());
            let of = |ip: IpAddr, port, transport| of(SocketAddr::new(ip, port), false, transport);
            let v4 = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            assert_eq!(of(Ipv4Addr::LOCALHOST.into(), v4, Transport::Tcp), None, "the listener is closed");
            let v6 = TcpListener::bind("[::]:0").unwrap();
            let port = v6.local_addr().unwrap().port();
            assert!(of(Ipv4Addr::LOCALHOST.into(), port, Transport::Tcp).unwrap().ends_with(&me));
            assert!(of(Ipv6Addr::LOCALHOST.into(), port, Transport::Tcp).unwrap().ends_with(&me));
            assert_eq!(of(Ipv6Addr::LOCALHOST.into(), port, Transport::Udp), None);
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = udp.local_addr().unwrap().port();
            assert!(of(Ipv4Addr::UNSPECIFIED.into(), port, Transport::Udp).unwrap().ends_with(&me));
            assert_eq!(of(Ipv4Addr::new(127, 0, 0, 2).into(), port, Transport::Udp), None);
        });
    }

    #[test]
    fn malformed_answers_are_passed_over() {
        let mut body = vec![0; 72];
        body[4..6].copy_from_slice(&80_u16.to_be_bytes());
        body[68..72].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(parse(&body, AF_INET, 80), Some((Ipv4Addr::UNSPECIFIED.into(), 7)));
        assert_eq!(parse(&body, AF_INET6, 80), Some((Ipv6Addr::UNSPECIFIED.into(), 7)));
        assert_eq!(parse(&body, AF_INET, 81), None);
        assert!((0..72).all(|cut| parse(&body[..cut], AF_INET, 80).is_none()));
    }
}
