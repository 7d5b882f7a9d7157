//! The name servers that a resolv.conf(5) of the host lists.

use std::net::IpAddr;

/// Where systemd-resolved lists the name servers behind its stub on 127.0.0.53: read it when [`lists_stub_only`].
pub const STUB_RESOLVER_UPSTREAMS: &str = "/run/systemd/resolve/resolv.conf";

/// Whether every name server of the host's resolv.conf is a stub that answers on loopback only.
///
/// Then the caller reads [`STUB_RESOLVER_UPSTREAMS`], if there is one, and passes that text to
/// [`ResolvConf::text`](crate::ResolvConf::text).
pub fn lists_stub_only(host: &str) -> bool {
    let mut servers = name_servers(host).peekable();
    servers.peek().is_some() && servers.all(is_loopback)
}

pub(crate) fn name_servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|keyword| *keyword == "nameserver").and(words.next())
    })
}

pub(crate) fn is_loopback(server: &str) -> bool {
    match server.split('%').next().unwrap_or_default().parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_unspecified(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unspecified(),
        Err(_) => true, // glibc ignores what it cannot read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_only_a_stub_is_recognised() {
        assert!(lists_stub_only("nameserver 127.0.0.53\noptions edns0\n"));
        assert!(lists_stub_only("nameserver ::1\n"));
        assert!(!lists_stub_only(""));
        assert!(!lists_stub_only("# x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n"));
    }
}
