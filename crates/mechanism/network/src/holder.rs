//! Who holds a port: asked from the kernel's socket tables and /proc, for an error message.
//!
//! Sources: sock_diag(7), proc(5).

use crate::channel::{Channel, Request};
use crate::message::array;
use rustix::fs::readlink;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tare_kernel::netlink::Protocol;
use tare_model::Result;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `TCPF_LISTEN`, and `TCPF_BOUND_INACTIVE` (since 6.8) for sockets that are bound only, such as reservations.
const STATES: u32 = 1 << 10 | 1 << 13;

/// Name and pid of a process that holds `address`, as in `nginx (pid 123)`. `None` where it cannot be found.
pub(crate) fn of(address: SocketAddr) -> Option<String> {
    [AF_INET, AF_INET6].into_iter().find_map(|family| {
        let sockets = sockets(family, address.port()).ok()?;
        let overlaps =
            |a: &Ipv4Addr| a.is_unspecified() || address.ip().is_unspecified() || IpAddr::V4(*a) == address.ip();
        sockets.iter().filter(|(a, _)| overlaps(a)).find_map(|(_, inode)| process_with(*inode))
    })
}

/// Local address and inode of the TCP sockets with this local port; the IPv6 wildcard counts as the IPv4 one.
fn sockets(family: u8, port: u16) -> Result<Vec<(Ipv4Addr, u32)>> {
    let mut channel = Channel::open(Protocol::SockDiag, None)?;
    // struct inet_diag_req_v2: family, protocol, ext, pad, states, then struct inet_diag_sockid from the source port on
    let mut header = [0; 56];
    header[0] = family;
    header[1] = IPPROTO_TCP;
    header[4..8].copy_from_slice(&STATES.to_ne_bytes());
    header[8..10].copy_from_slice(&port.to_be_bytes());
    let step = "list sockets";
    let request = Request { kind: SOCK_DIAG_BY_FAMILY, flags: 0, header: &header, step, object: "", fine: &[] };
    Ok(channel.dump(&request, |_| {})?.messages().filter_map(|m| parse(m.body, family, port)).collect())
}

/// Reads `struct inet_diag_msg`.
fn parse(body: &[u8], family: u8, port: u16) -> Option<(Ipv4Addr, u32)> {
    let inode = u32::from_ne_bytes(array(body, 68)?);
    let address = match family {
        AF_INET => Ipv4Addr::from(array::<4>(body, 8)?),
        _ => {
            let v6 = std::net::Ipv6Addr::from(array::<16>(body, 8)?);
            if v6.is_unspecified() { Ipv4Addr::UNSPECIFIED } else { v6.to_ipv4_mapped()? }
        }
    };
    (u16::from_be_bytes(array(body, 4)?) == port).then_some((address, inode))
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
    use std::net::{SocketAddrV4, TcpListener};

    #[test]
    fn a_listener_is_found_under_both_families() {
        in_new_namespace(|_| {
            let me = format!("(pid {})", std::process::id());
            let v4 = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            assert_eq!(of(SocketAddrV4::new(Ipv4Addr::LOCALHOST, v4).into()), None, "the listener is closed");
            let v6 = TcpListener::bind("[::]:0").unwrap();
            let port = v6.local_addr().unwrap().port();
            assert!(of(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).unwrap().ends_with(&me));
        });
    }

    #[test]
    fn malformed_answers_are_passed_over() {
        let mut body = vec![0; 72];
        body[4..6].copy_from_slice(&80_u16.to_be_bytes());
        body[68..72].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(parse(&body, AF_INET, 80), Some((Ipv4Addr::UNSPECIFIED, 7)));
        assert_eq!(parse(&body, AF_INET6, 80), Some((Ipv4Addr::UNSPECIFIED, 7)));
        assert_eq!(parse(&body, AF_INET, 81), None);
        assert!((0..72).all(|cut| parse(&body[..cut], AF_INET, 80).is_none()));
    }
}
