//! Which sockets a container's programs wait on: read from /proc/PID/net of its first process.
//!
//! Source: proc_pid_net(5). An address is written as words of 32 bits in the machine's byte order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `TCP_LISTEN`, and `TCP_CLOSE`, which is what an UDP socket without a peer is in.
const TCP_LISTEN: u8 = 0x0a;
const UDP_UNCONNECTED: u8 = 0x07;

/// The addresses at which somebody waits on a port in the network namespace of process `pid`; `file`: `tcp` or `udp`.
/// `None` where that cannot be read.
pub(super) fn addresses(pid: i32, file: &str, port: u16) -> Option<Vec<IpAddr>> {
    let wanted = if file == "tcp" { TCP_LISTEN } else { UDP_UNCONNECTED };
    let mut found = Vec::new();
    for file in [file.to_owned(), format!("{file}6")] {
        // Without IPv6 in the kernel there is no second file.
        match std::fs::read_to_string(format!("/proc/{pid}/net/{file}")) {
            Ok(text) => found.extend(parse(&text, wanted, port)),
            Err(_) if file.ends_with('6') => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

fn parse(text: &str, state: u8, port: u16) -> impl Iterator<Item = IpAddr> {
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, number) = fields.next()?.split_once(':')?;
        let is = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        (is == state && u16::from_str_radix(number, 16).ok()? == port).then(|| address_of(address)).flatten()
    })
}

fn address_of(text: &str) -> Option<IpAddr> {
    let word = |i: usize| {
        let number = u32::from_str_radix(text.get(i * 8..i * 8 + 8)?, 16).ok()?;
        Some(number.to_ne_bytes())
    };
    match text.len() {
        8 => word(0).map(|b| Ipv4Addr::from(b).into()),
        32 => {
            let bytes: Option<Vec<_>> = (0..4).map(word).collect();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes?.concat()).ok()?);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_this_process_are_found() {
        let pid = std::process::id() as i32;
        let four = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = |a: std::io::Result<std::net::SocketAddr>| a.unwrap().port();
        assert_eq!(addresses(pid, "tcp", port(four.local_addr())), Some(vec![Ipv4Addr::LOCALHOST.into()]));
        assert_eq!(addresses(pid, "tcp", port(six.local_addr())), Some(vec![Ipv6Addr::LOCALHOST.into()]));
        assert_eq!(addresses(pid, "udp", port(datagrams.local_addr())), Some(vec![Ipv4Addr::LOCALHOST.into()]));
        // A connection is no listener.
        let client = std::net::TcpStream::connect(four.local_addr().unwrap()).unwrap();
        assert_eq!(addresses(pid, "tcp", port(client.local_addr())), Some(vec![]));
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let text = "  sl  local_address rem_address   st\n   0: 0100007F:0050 00000000:0000 0A\n x\n 1: 01:0050 0 0A\n 2: 0100007F 0 0A";
        assert_eq!(parse(text, 0x0a, 80).count(), usize::from(cfg!(target_endian = "little")));
    }
}
