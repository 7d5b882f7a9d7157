//! `--dns`, `--dns-search`, `--dns-option`, `--add-host` and `--link`: what a container resolves, and how.

use super::bad;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_engine::request::{Dns, HostAddress, HostEntry};
use tare_model::Result;

/// Parses `--dns`, `--dns-search` and `--dns-option`. A search list of `.` alone is an empty one, as podman and docker
/// have it.
pub(crate) fn dns(servers: &[String], search: &[String], options: &[String]) -> Result<Dns> {
    let mut dns = Dns::default();
    for text in servers {
        dns.servers.push(server("--dns", text)?);
    }
    for text in search {
        let wrong = |why: String| bad("--dns-search", text, why);
        if text == "." {
            if search.len() > 1 {
                return Err(wrong("\".\" means that there are no search domains; it stands alone".into()));
            }
        } else if let Err(why) = domain(text.trim_end_matches('.')) {
            return Err(wrong(why));
        }
        dns.search.push(text.clone());
    }
    for text in options {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(bad("--dns-option", text, "expected one option of resolv.conf, as ndots:2"));
        }
        dns.options.push(text.clone());
    }
    Ok(dns)
}

/// One resolver's address.
pub(crate) fn server(flag: &str, text: &str) -> Result<IpAddr> {
    address(text).ok_or_else(|| bad(flag, text, "a resolver is named by its IP address"))
}

/// Parses one `--add-host`: `NAME:ADDRESS`, `NAME=ADDRESS`, several names with `;` between them.
pub(crate) fn host(text: &str) -> Result<Vec<HostEntry>> {
    const FLAG: &str = "--add-host";
    let expected = || bad(FLAG, text, "expected NAME:ADDRESS, NAME=ADDRESS or NAME:host-gateway");
    let (names, value) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(expected)?;
    let address = match value {
        "host-gateway" => HostAddress::Gateway,
        value => {
            let why = || bad(FLAG, text, format!("{value:?} is neither an IP address nor host-gateway"));
            HostAddress::Ip(address(value).ok_or_else(why)?)
        }
    };
    names
        .split(';')
        .map(|name| {
            domain(name).map_err(|why| bad(FLAG, text, why))?;
            Ok(HostEntry { name: name.to_owned(), address: address.clone() })
        })
        .collect()
}

/// Parses one `--link NAME[:ALIAS]` into the container's name and its names inside: the alias first.
pub(crate) fn link(text: &str) -> Result<(String, Vec<String>)> {
    const FLAG: &str = "--link";
    let text = text.strip_prefix('/').unwrap_or(text);
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    if name.is_empty() {
        return Err(bad(FLAG, text, "the container's name is missing; expected CONTAINER[:ALIAS]"));
    }
    domain(alias).map_err(|why| bad(FLAG, text, why))?;
    let mut names = vec![alias.to_owned()];
    if name != alias {
        names.push(name.to_owned());
    }
    Ok((name.to_owned(), names))
}

/// Whether a text can be a name in a hosts file and in DNS: labels of letters, digits, `-` and `_`.
pub(crate) fn domain(text: &str) -> Result<(), String> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{text:?} is no host name"))
}

/// `--hostname`, which becomes a line of /etc/hosts: any name that is one word.
pub(crate) fn hostname(text: &str) -> Result<String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(super::bad("--hostname", text, "expected one word"));
    }
    Ok(text.to_owned())
}

/// An address, perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let v4 = || plain.parse::<Ipv4Addr>().map(IpAddr::V4);
    v4().or_else(|_| plain.parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let entries = host(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let address = |a: &HostAddress| match a {
            HostAddress::Ip(ip) => ip.to_string(),
            HostAddress::Gateway => "gateway".to_owned(),
            HostAddress::Container(name) => name.clone(),
        };
        entries.iter().map(|e| format!("{} {}", e.name, address(&e.address))).collect()
    }

    #[test]
    fn hosts_in_both_spellings() {
        for (text, expected) in [
            ("db:10.0.0.1", "db 10.0.0.1"),
            ("db=10.0.0.1", "db 10.0.0.1"),
            ("db::1", "db ::1"),
            ("db:::1", "db ::1"),
            ("db=::1", "db ::1"),
            ("db=[2001:db8::1]", "db 2001:db8::1"),
            ("db:[2001:db8::1]", "db 2001:db8::1"),
            ("db.example_1.test=0:0:0:0:0:0:0:1", "db.example_1.test ::1"),
            ("host.docker.internal:host-gateway", "host.docker.internal gateway"),
            ("up=host-gateway", "up gateway"),
        ] {
            // The first colon ends the name, so that of "db::1" leaves ":1".
            if text == "db::1" {
                assert!(host(text).is_err());
                continue;
            }
            assert_eq!(shown(text), [expected], "{text}");
        }
        assert_eq!(shown("a;b:10.0.0.1"), ["a 10.0.0.1", "b 10.0.0.1"]);
        for text in ["", "db", "db:", "=10.0.0.1", ":10.0.0.1", "a b:10.0.0.1", "a;:10.0.0.1", "db:300.0.0.1", "-a=::1"]
        {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resolvers_domains_and_options() {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let d = dns(&texts(&["9.9.9.9", "2620:fe::fe"]), &texts(&["a.test", "b.test."]), &texts(&["ndots:2"])).unwrap();
        assert_eq!((d.servers.len(), d.search.len(), d.options.len()), (2, 2, 1));
        assert_eq!(dns(&[], &texts(&["."]), &[]).unwrap().search, ["."]);
        assert!(dns(&texts(&["dns.example"]), &[], &[]).unwrap_err().to_string().contains("by its IP address"));
        assert!(dns(&[], &texts(&[".", "a"]), &[]).is_err());
        assert!(dns(&[], &texts(&["a b"]), &[]).is_err() && dns(&[], &texts(&["a..b"]), &[]).is_err());
        assert!(dns(&[], &[], &texts(&["ndots: 2"])).is_err() && dns(&[], &[], &texts(&[""])).is_err());
    }

    #[test]
    fn links_have_an_alias_or_their_name() {
        assert_eq!(link("db").unwrap(), ("db".into(), vec!["db".into()]));
        assert_eq!(link("/db:store").unwrap(), ("db".into(), vec!["store".into(), "db".into()]));
        for text in ["", ":store", "db:", "db:a b"] {
            assert!(link(text).is_err(), "{text}");
        }
    }
}
