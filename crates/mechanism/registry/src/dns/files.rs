//! resolv.conf(5) and hosts(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What resolv.conf says, within the limits that its manual page sets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

impl Config {
    /// The names to ask for, in order: a name with at least `ndots` dots is tried as it stands first.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut all: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let dots = host.bytes().filter(|b| *b == b'.').count();
        let at = if dots >= self.ndots { 0 } else { all.len() };
        all.insert(at, host.to_owned());
        all
    }
}

/// Unknown lines and options are passed over, as the C library does.
pub(super) fn resolv_conf(text: &str) -> Config {
    let mut c = Config { servers: vec![], search: vec![], ndots: 1, timeout: Duration::from_secs(3), attempts: 2 };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let (Some(address), true) = (words.next().and_then(server), c.servers.len() < 3) {
                    c.servers.push(address);
                }
            }
            Some("domain" | "search") => {
                c.search = words.map(|d| d.trim_matches('.').to_owned()).filter(|d| !d.is_empty()).collect();
            }
            Some("options") => words.for_each(|o| option(&mut c, o)),
            _ => {}
        }
    }
    if c.servers.is_empty() && !text.is_empty() {
        c.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    c
}

fn option(c: &mut Config, option: &str) {
    match option.split_once(':').map(|(k, v)| (k, v.parse::<u32>())) {
        Some(("ndots", Ok(n))) => c.ndots = n.min(15) as usize,
        Some(("timeout", Ok(n))) => c.timeout = Duration::from_secs(u64::from(n.clamp(1, 30))),
        Some(("attempts", Ok(n))) => c.attempts = n.clamp(1, 5),
        _ => {}
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, z)| (a, Some(z)));
    match (address.parse::<IpAddr>().ok()?, zone) {
        (IpAddr::V6(ip), Some(zone)) => {
            let index = zone.parse().ok().or_else(|| {
                let text = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?;
                text.trim().parse().ok()
            })?;
            Some(std::net::SocketAddrV6::new(ip, 53, 0, index).into())
        }
        (ip, _) => Some((ip, 53).into()),
    }
}

/// The addresses that hosts(5) gives to this name; `None` if it is not listed.
pub(super) fn hosts(text: &str, name: &str) -> Option<Vec<IpAddr>> {
    let found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let ip = words.next()?.parse().ok()?;
            words.any(|w| w.eq_ignore_ascii_case(name)).then_some(ip)
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let c = resolv_conf(
            "# x\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver nonsense\nsearch a.example b.example.\n\
             options ndots:2 timeout:1 rotate attempts:9\n",
        );
        assert_eq!(c.servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!((c.ndots, c.timeout, c.attempts), (2, Duration::from_secs(1), 5));
        assert_eq!(c.candidates("r.io"), ["r.io.a.example", "r.io.b.example", "r.io"]);
        assert_eq!(c.candidates("x.r.io"), ["x.r.io", "x.r.io.a.example", "x.r.io.b.example"]);
        assert_eq!(c.candidates("r."), ["r"]);
    }

    #[test]
    fn hosts_lists_several_addresses_and_aliases() {
        let text = "127.0.0.1 localhost\n192.0.2.1\tfoo Bar # baz\n2001:db8::1 bar\n";
        assert_eq!(hosts(text, "bar").unwrap().len(), 2);
        assert_eq!(hosts(text, "baz"), None);
    }
}
