//! Published ports as `ps` and `port` print them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_engine::view::Port;

/// The addresses of the host at which a port is reached: one that names none stands for both families, as docker has it.
pub(crate) fn hosts(port: &Port) -> Vec<IpAddr> {
    match port.host_ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// `0.0.0.0:8080`, `[::]:8080`.
pub(crate) fn place(ip: IpAddr, ports: impl std::fmt::Display) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{ports}"),
        IpAddr::V6(ip) => format!("[{ip}]:{ports}"),
    }
}

/// A port that is published at one address, or (without one) only exposed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    container: u16,
    ip: Option<String>,
    host: u16,
    protocol: String,
}

/// The column PORTS: in docker's order and with docker's rule for ranges, which joins neighbours whose port is the same
/// outside and inside. `exposed`: `PORT/PROTOCOL`.
pub(crate) fn column(ports: &[Port], exposed: &[String]) -> String {
    let mut entries: Vec<Entry> = Vec::new();
    for port in ports {
        entries.extend(hosts(port).into_iter().map(|ip| Entry {
            container: port.container_port,
            ip: Some(ip.to_string()),
            host: port.host_port,
            protocol: port.transport.to_string(),
        }));
    }
    for text in exposed {
        let (container, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let Ok(container) = container.parse() else { continue };
        if !ports.iter().any(|p| p.container_port == container && p.transport.as_str() == protocol) {
            entries.push(Entry { container, ip: None, host: 0, protocol: protocol.to_owned() });
        }
    }
    entries.sort();
    entries.dedup();
    let (mut done, mut mapped) = (Vec::new(), Vec::new());
    // What is being gathered, by address and protocol, and when it was first met.
    let mut groups: BTreeMap<(Option<String>, String), (usize, u16, u16)> = BTreeMap::new();
    for (order, entry) in entries.into_iter().enumerate() {
        if let Some(ip) = entry.ip.as_ref().filter(|_| entry.host != entry.container) {
            mapped.push(format!("{}->{}/{}", quoted(ip, entry.host), entry.container, entry.protocol));
            continue;
        }
        let key = (entry.ip, entry.protocol);
        match groups.get_mut(&key) {
            Some((_, _, last)) if entry.container == last.saturating_add(1) => *last = entry.container,
            Some((_, first, last)) => {
                done.push(group(&key, *first, *last));
                (*first, *last) = (entry.container, entry.container);
            }
            None => drop(groups.insert(key, (order, entry.container, entry.container))),
        }
    }
    let mut rest: Vec<_> = groups.into_iter().collect();
    rest.sort_by_key(|(_, (order, ..))| *order);
    done.extend(rest.iter().map(|(key, (_, first, last))| group(key, *first, *last)));
    done.extend(mapped);
    done.join(", ")
}

fn group((ip, protocol): &(Option<String>, String), first: u16, last: u16) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match ip {
        Some(ip) => format!("{}->{ports}/{protocol}", quoted(ip, &ports)),
        None => format!("{ports}/{protocol}"),
    }
}

fn quoted(ip: &str, ports: impl std::fmt::Display) -> String {
    if ip.contains(':') { format!("[{ip}]:{ports}") } else { format!("{ip}:{ports}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::port;

    fn ports(texts: &[&str]) -> Vec<Port> {
        let parsed = texts.iter().flat_map(|t| port::parse(t).expect("it parses"));
        parsed
            .map(|p| Port {
                host_ip: p.host_ip,
                host_port: p.host_ports.expect("a port is named").0,
                container_port: p.container_port,
                transport: p.transport,
            })
            .collect()
    }

    #[test]
    fn the_column_is_dockers() {
        let exposed = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        for (texts, expose, expected) in [
            (&[][..], &[][..], ""),
            (&[], &["80/tcp", "53/udp"], "53/udp, 80/tcp"),
            (&[], &["80/tcp", "81/tcp", "82/tcp", "90/tcp"], "80-82/tcp, 90/tcp"),
            (&["8080:80"], &["80/tcp"], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (&["80:80"], &[], "0.0.0.0:80->80/tcp, [::]:80->80/tcp"),
            (&["127.0.0.1:80-82:80-82"], &[], "127.0.0.1:80-82->80-82/tcp"),
            (&["80-82:80-82"], &[], "0.0.0.0:80-82->80-82/tcp, [::]:80-82->80-82/tcp"),
            (&["127.0.0.1:8000-8001:80-81"], &[], "127.0.0.1:8000->80/tcp, 127.0.0.1:8001->81/tcp"),
            (&["127.0.0.1:53:53/udp", "127.0.0.1:53:53"], &[], "127.0.0.1:53->53/tcp, 127.0.0.1:53->53/udp"),
            (&["[::1]:80:80"], &["443/tcp"], "[::1]:80->80/tcp, 443/tcp"),
            (
                &["127.0.0.1:80:80", "127.0.0.1:81:81", "127.0.0.1:90:90"],
                &[],
                "127.0.0.1:80-81->80-81/tcp, 127.0.0.1:90->90/tcp",
            ),
        ] {
            assert_eq!(column(&ports(texts), &exposed(expose)), expected, "{texts:?} {expose:?}");
        }
    }
}
