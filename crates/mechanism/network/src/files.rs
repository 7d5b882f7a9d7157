//! What a container's /etc/hosts, /etc/hostname and /etc/resolv.conf say. Text in, text out.

use crate::resolvers::{is_loopback, name_servers};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

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

/// /etc/hosts: the loopback names, the container's own names at each of its addresses, then `extra` (`--add-host`) in
/// order.
///
/// Without an own address (network none) the container's name is one of 127.0.0.1, so that it resolves. A name with dots
/// is followed by its first part, as `hostname -f` wants it.
pub fn hosts_file(own: &[IpAddr], names: &[&str], extra: &[HostsEntry]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        let short = name.split_once('.').map(|(first, _)| first).filter(|first| !first.is_empty());
        for name in std::iter::once(*name).chain(short) {
            if !name.is_empty() && !all.contains(&name) {
                all.push(name);
            }
        }
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    for address in if own.is_empty() { &loopback } else { own }.iter().filter(|_| !all.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{}", all.join(" "));
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

/// Whom a container's resolver asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameServers<'a> {
    /// The server in its network namespace, which knows its networks' names and asks others for the rest.
    Own,
    /// These (`--dns`, where no server of names is run).
    Given(&'a [IpAddr]),
    /// Those of the host that can be reached from another network namespace: not on loopback, not link-local ones that
    /// name a device of the host's (`%eth0`). When none remains, 8.8.8.8 and 8.8.4.4 stand in, as with docker.
    Reachable,
    /// All those of the host: the container is on its network.
    Host,
}

/// What /etc/resolv.conf of a container says, beside what the host's does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvConf<'a> {
    /// Whom to ask.
    pub servers: NameServers<'a>,
    /// Search domains in place of the host's (`--dns-search`); one of `.` for none at all; empty for the host's.
    pub search: &'a [String],
    /// Options in place of the host's (`--dns-option`); empty for the host's.
    pub options: &'a [String],
}

impl ResolvConf<'_> {
    /// The file, from the text of the host's.
    ///
    /// With a server of our own names without a dot are asked for as they are before any search domain is tried
    /// (`ndots:0`), unless an option says otherwise: they may be containers.
    pub fn text(&self, host: &str) -> String {
        if *self == (ResolvConf { servers: NameServers::Host, search: &[], options: &[] }) {
            return host.to_owned();
        }
        let mut text = String::new();
        let mut line = |keyword: &str, value: &str| {
            let _ = writeln!(text, "{keyword} {value}");
        };
        match self.servers {
            NameServers::Own => line("nameserver", &crate::dns::ADDRESS.to_string()),
            NameServers::Given(servers) => servers.iter().for_each(|s| line("nameserver", &s.to_string())),
            NameServers::Host => name_servers(host).for_each(|s| line("nameserver", s)),
            NameServers::Reachable => {
                let usable: Vec<&str> = name_servers(host).filter(|s| !is_loopback(s) && !s.contains('%')).collect();
                let servers = if usable.is_empty() { &FALLBACK[..] } else { &usable[..] };
                servers.iter().for_each(|s| line("nameserver", s));
            }
        }
        let of_host = |keywords: &[&str]| {
            let value = |line: &str| {
                let (keyword, value) = line.trim().split_once(char::is_whitespace)?;
                keywords.contains(&keyword).then(|| value.trim().to_owned())
            };
            host.lines().filter_map(value).collect::<Vec<_>>()
        };
        let search = match self.search {
            // `domain` and `search` exclude each other: the last one counts.
            [] => of_host(&["search", "domain"]).pop().unwrap_or_default(),
            given => given.iter().filter(|d| *d != ".").map(String::as_str).collect::<Vec<_>>().join(" "),
        };
        if !search.is_empty() {
            line("search", &search);
        }
        let mut options = match self.options {
            [] => of_host(&["options"]).join(" "),
            given => given.join(" "),
        };
        if self.servers == NameServers::Own && !options.split_whitespace().any(|o| o.starts_with("ndots:")) {
            options = format!("{options} ndots:0");
        }
        if !options.is_empty() {
            line("options", options.trim_start());
        }
        of_host(&["sortlist"]).iter().for_each(|list| line("sortlist", list));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n\
                        domain old.example\n; note\noptions edns0  trust-ad\nsearch example.org  b.example\n\
                        nameserver 2001:db8::1\noptions timeout:2\n";

    fn text(servers: NameServers<'_>, search: &[&str], options: &[&str], host: &str) -> String {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        ResolvConf { servers, search: &owned(search), options: &owned(options) }.text(host)
    }

    #[test]
    fn resolv_conf_loses_what_is_of_no_use_inside() {
        assert_eq!(
            text(NameServers::Reachable, &[], &[], HOST),
            "nameserver 192.0.2.53\nnameserver 2001:db8::1\nsearch example.org  b.example\n\
             options edns0  trust-ad timeout:2\n"
        );
        assert_eq!(text(NameServers::Host, &[], &[], HOST), HOST);
        let all = text(NameServers::Host, &["."], &[], HOST);
        assert!(all.contains("nameserver 127.0.0.53\n") && all.contains("%eth0") && !all.contains("search"), "{all}");
    }

    #[test]
    fn names_without_dots_are_asked_for_as_they_are_unless_said_otherwise() {
        assert_eq!(
            text(NameServers::Own, &[], &[], HOST),
            "nameserver 127.0.0.11\nsearch example.org  b.example\noptions edns0  trust-ad timeout:2 ndots:0\n"
        );
        assert_eq!(
            text(NameServers::Own, &["."], &["ndots:3", "rotate"], HOST),
            "nameserver 127.0.0.11\noptions ndots:3 rotate\n"
        );
        assert_eq!(
            text(NameServers::Own, &["a.test", "b.test"], &["use-vc"], "options ndots:2\n"),
            "nameserver 127.0.0.11\nsearch a.test b.test\noptions use-vc ndots:0\n"
        );
        assert_eq!(
            text(NameServers::Own, &[], &[], "options ndots:2\nsortlist 10.0.0.0\n"),
            "nameserver 127.0.0.11\noptions ndots:2\nsortlist 10.0.0.0\n"
        );
        assert_eq!(text(NameServers::Own, &[], &[], ""), "nameserver 127.0.0.11\noptions ndots:0\n");
        let given = ["9.9.9.9".parse().unwrap(), "2620:fe::9".parse().unwrap()];
        assert_eq!(
            text(NameServers::Given(&given), &[], &[], "search x\n"),
            "nameserver 9.9.9.9\nnameserver 2620:fe::9\nsearch x\n"
        );
    }

    #[test]
    fn where_only_a_stub_is_listed_public_servers_stand_in() {
        for host in ["nameserver 127.0.0.53\n", "nameserver\nnameserver x.y\n"] {
            assert_eq!(text(NameServers::Reachable, &[], &[], host), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        }
    }

    #[test]
    fn hosts_names_the_container_and_the_added_hosts() {
        let extra = [HostsEntry { address: "10.0.0.9".parse().unwrap(), names: vec!["db".into()] }];
        let own = ["10.112.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = hosts_file(&own, &["web.example.org", "web"], &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.112.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n10.0.0.9\tdb\n"));
        assert!(hosts_file(&[], &["c"], &[]).ends_with("127.0.0.1\tc\n"));
        assert!(hosts_file(&own, &[""], &[]).ends_with("ip6-allrouters\n"));
        assert_eq!(hostname_file("c"), "c\n");
    }
}
