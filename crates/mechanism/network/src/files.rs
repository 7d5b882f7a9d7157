//! What a container's /etc/hosts, /etc/hostname and /etc/resolv.conf say. Text in, text out.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Where systemd-resolved lists the name servers behind its stub on 127.0.0.53: read it when [`lists_stub_only`].
pub const STUB_RESOLVER_UPSTREAMS: &str = "/run/systemd/resolve/resolv.conf";

/// Name servers for a host that lists none which a container could reach; docker's choice too.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// A line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The address.
    pub address: IpAddr,
    /// The names of it, the canonical one first.
    pub names: Vec<String>,
}

/// /etc/hosts: the loopback names, the container's own name at `own`, then `extra` (`--add-host`) in order.
///
/// Without an own address (network none) the container's name is one of 127.0.0.1, so that it resolves.
pub fn hosts_file(own: Option<IpAddr>, names: &[&str], extra: &[HostsEntry]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if !names.is_empty() {
        let address = own.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    for entry in extra {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    text
}

/// /etc/hostname.
pub fn hostname_file(name: &str) -> String {
    format!("{name}\n")
}

/// Whether every name server of the host's resolv.conf is a stub that answers on loopback only.
///
/// Then the caller reads [`STUB_RESOLVER_UPSTREAMS`], if there is one, and passes that text to [`resolv_conf`].
pub fn lists_stub_only(host: &str) -> bool {
    let mut servers = name_servers(host).peekable();
    servers.peek().is_some() && servers.all(is_loopback)
}

/// /etc/resolv.conf for a container with a network namespace of its own, from the text of the host's.
///
/// `search`, `domain`, `options` and `sortlist` lines are kept. Name servers on loopback, and link-local ones that name
/// a device of the host's (`%eth0`), mean nothing inside and are left out; when none remains, 8.8.8.8 and 8.8.4.4 stand
/// in, as with docker. A container on the host's network gets the host's text unchanged instead.
pub fn resolv_conf(host: &str) -> String {
    let mut text = String::new();
    for line in host.lines() {
        let keyword = line.split_whitespace().next().unwrap_or_default();
        if matches!(keyword, "search" | "domain" | "options" | "sortlist") {
            text.push_str(line.trim());
            text.push('\n');
        }
    }
    let usable: Vec<&str> = name_servers(host).filter(|s| !is_loopback(s) && !s.contains('%')).collect();
    let servers = if usable.is_empty() { &FALLBACK[..] } else { &usable[..] };
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

pub(crate) fn name_servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|keyword| *keyword == "nameserver").and(words.next())
    })
}

fn is_loopback(server: &str) -> bool {
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
    fn resolv_conf_loses_what_is_of_no_use_inside() {
        let host = "# made by x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n\
                    ; note\noptions edns0  trust-ad\nsearch example.org\nnameserver 2001:db8::1\n";
        assert_eq!(
            resolv_conf(host),
            "options edns0  trust-ad\nsearch example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::1\n"
        );
        assert!(!lists_stub_only(host));
    }

    #[test]
    fn a_host_with_only_a_stub_is_recognised_and_has_a_fallback() {
        assert!(lists_stub_only("nameserver 127.0.0.53\noptions edns0\n"));
        assert!(lists_stub_only("nameserver ::1\n"));
        assert!(!lists_stub_only(""));
        assert_eq!(resolv_conf("nameserver 127.0.0.53\n"), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert_eq!(resolv_conf("nameserver\nnameserver x.y\n"), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn hosts_names_the_container_and_the_added_hosts() {
        let extra = [HostsEntry { address: "10.0.0.9".parse().unwrap(), names: vec!["db".into()] }];
        let text = hosts_file(Some("10.112.0.2".parse().unwrap()), &["0123456789ab", "web"], &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.112.0.2\t0123456789ab web\n10.0.0.9\tdb\n"));
        assert!(hosts_file(None, &["c"], &[]).ends_with("127.0.0.1\tc\n"));
        assert_eq!(hostname_file("c"), "c\n");
    }
}
