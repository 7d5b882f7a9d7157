//! `-p` in docker's short and long form, and `--expose PORT[/PROTOCOL]`; ranges expand.
//!
//! Short: `[IP:][HOST_PORT]:PORT[/PROTOCOL]`, an IPv6 address in brackets. Long: `target=PORT,published=HOST_PORT,…`.
//! `HOST_PORT` may be a range for one port inside: a free one of it is chosen.

use super::bad;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use tare_engine::request::{PortRequest, Transport};
use tare_model::Result;

const FLAG: &str = "--publish";

/// The parts of one publication, as typed.
struct Typed<'a> {
    ip: &'a str,
    host: &'a str,
    container: &'a str,
    protocol: &'a str,
}

/// Parses one `-p` into one request for each port.
pub(crate) fn parse(text: &str) -> Result<Vec<PortRequest>> {
    meant(text, &if text.contains('=') { long(text)? } else { short(text)? })
}

/// Parses all of them; one that is there twice is there once, two for the same host port are a mistake.
pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<PortRequest>> {
    let mut all: Vec<PortRequest> = Vec::new();
    for text in texts {
        for port in parse(text)? {
            if all.contains(&port) {
                continue;
            }
            if let Some(other) = all.iter().find(|other| same_place(other, &port)) {
                let (host, protocol) = (port.host_ports.map_or(0, |p| p.0), port.transport);
                let why = format!(
                    "host port {host}/{protocol} is published for port {} already; one host port leads to one port inside",
                    other.container_port
                );
                return Err(bad(FLAG, text, why));
            }
            all.push(port);
        }
    }
    Ok(all)
}

/// Whether two requests name the same single port of an address that they share.
fn same_place(a: &PortRequest, b: &PortRequest) -> bool {
    let single = |p: &PortRequest| p.host_ports.filter(|(first, last)| first == last).map(|(first, _)| first);
    let shared = match (a.host_ip, b.host_ip) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())),
    };
    shared && a.transport == b.transport && single(a).is_some() && single(a) == single(b)
}

fn short(text: &str) -> Result<Typed<'_>> {
    let expected = || bad(FLAG, text, "expected [IP:][HOST_PORT]:PORT[/PROTOCOL]");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (ip, ports) = match ports.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']').ok_or_else(|| bad(FLAG, text, "a bracket is not closed"))?;
            // Between brackets stands an IPv6 address, or nothing else could.
            if ip.parse::<Ipv6Addr>().is_err() {
                return Err(bad(FLAG, text, format!("{ip:?} is no IPv6 address")));
            }
            (ip, rest.strip_prefix(':').ok_or_else(expected)?)
        }
        None if ports.matches(':').count() > 2 => {
            return Err(expected().hint("an IPv6 address stands in brackets: [::1]:8080:80"));
        }
        None => match ports.split_once(':').filter(|(_, rest)| rest.contains(':')) {
            Some((ip, rest)) => (ip, rest),
            None => ("", ports),
        },
    };
    let (host, container) = match ports.split_once(':') {
        Some((_, container)) if container.contains(':') => return Err(expected()),
        Some(both) => both,
        // With an address both fields are there, if only as an empty one.
        None if ports.len() == text.split('/').next().unwrap_or(text).len() => ("", ports),
        None => return Err(expected()),
    };
    Ok(Typed { ip, host, container, protocol })
}

fn long(text: &str) -> Result<Typed<'_>> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| bad(FLAG, text, format!("{field:?} is not KEY=VALUE")))?;
        match key.trim() {
            key @ ("target" | "published" | "protocol" | "host_ip") => {
                if fields.insert(key, value.trim()).is_some() {
                    return Err(bad(FLAG, text, format!("{key} is there twice")));
                }
            }
            // Of one host both mean the same.
            "mode" if matches!(value.trim(), "host" | "ingress") => {}
            "mode" => return Err(bad(FLAG, text, format!("mode {value:?} is neither host nor ingress"))),
            // Names of compose, which mean something to others.
            "name" | "app_protocol" => {}
            key => {
                let why = format!("unknown key {key:?}; there are target, published, protocol, host_ip and mode");
                return Err(bad(FLAG, text, why));
            }
        }
    }
    let get = |key: &str| fields.get(key).copied();
    let container = get("target").ok_or_else(|| bad(FLAG, text, "the port inside is missing; add target=PORT"))?;
    let ip = get("host_ip").unwrap_or("");
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    Ok(Typed { ip, host: get("published").unwrap_or(""), container, protocol: get("protocol").unwrap_or("tcp") })
}

fn meant(text: &str, typed: &Typed<'_>) -> Result<Vec<PortRequest>> {
    let transport = transport(typed.protocol).map_err(|why| bad(FLAG, text, why))?;
    let host_ip = match typed.ip {
        "" => None,
        "localhost" => {
            let why = "a name is no address of this host";
            return Err(bad(FLAG, text, why).hint("127.0.0.1 and [::1] are its own"));
        }
        ip => Some(address(ip).map_err(|why| bad(FLAG, text, why))?),
    };
    let container = range(typed.container).map_err(|why| bad(FLAG, text, format!("container port: {why}")))?;
    let host = match typed.host {
        "" | "0" => None,
        host => Some(range(host).map_err(|why| bad(FLAG, text, format!("host port: {why}")))?),
    };
    let host = match host {
        // A free port of the range, for the one inside.
        Some(host) if container.len() == 1 => Host::OneOf(*host.start(), *host.end()),
        Some(host) if host.len() == container.len() => Host::InStep(*host.start()),
        Some(_) => return Err(bad(FLAG, text, "the two ranges have different lengths")),
        None => Host::Free,
    };
    let first = *container.start();
    Ok(container
        .map(|container_port| PortRequest {
            host_ip,
            host_ports: match host {
                Host::Free => None,
                Host::OneOf(first, last) => Some((first, last)),
                Host::InStep(start) => Some(start + (container_port - first)).map(|port| (port, port)),
            },
            container_port,
            transport,
        })
        .collect())
}

/// Which host ports were asked for.
#[derive(Clone, Copy)]
enum Host {
    Free,
    OneOf(u16, u16),
    InStep(u16),
}

fn address(text: &str) -> Result<IpAddr, String> {
    let plain = text.parse::<Ipv4Addr>().map(IpAddr::V4).or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6));
    plain.map_err(|_| format!("{text:?} is no IP address"))
}

/// Parses one `--expose` into `PORT/PROTOCOL` for each port.
pub(crate) fn expose(text: &str) -> Result<Vec<String>> {
    const FLAG: &str = "--expose";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = transport(protocol).map_err(|why| bad(FLAG, text, why))?;
    let ports = range(ports).map_err(|why| bad(FLAG, text, why))?;
    Ok(ports.map(|p| format!("{p}/{protocol}")).collect())
}

/// Parses `PORT[/PROTOCOL]`, as `port CONTAINER` takes it.
pub(crate) fn inside(text: &str) -> Result<(u16, Transport)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let transport = transport(protocol).map_err(|why| bad("port", text, why))?;
    Ok((port(ports).map_err(|why| bad("port", text, why))?, transport))
}

fn transport(protocol: &str) -> Result<Transport, String> {
    protocol.parse().map_err(|_| format!("unknown protocol {protocol:?}; there are tcp, udp and sctp"))
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|p| *p > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| format!("{text:?} is no port from 1 to 65535"))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {text} ends before it begins"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as one line: `IP|* FIRST-LAST|free PORT/PROTOCOL`.
    fn shown(p: &PortRequest) -> String {
        let ip = p.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
        let host = match p.host_ports {
            None => "free".to_owned(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        format!("{ip} {host} {}/{}", p.container_port, p.transport)
    }

    #[test]
    fn one_port_in_every_form() {
        for (text, expected) in [
            ("80", "* free 80/tcp"),
            ("8080:80", "* 8080 80/tcp"),
            ("8080:80/tcp", "* 8080 80/tcp"),
            ("8080:80/TCP", "* 8080 80/tcp"),
            ("53:53/udp", "* 53 53/udp"),
            ("5000/sctp", "* free 5000/sctp"),
            ("127.0.0.1:8080:80", "127.0.0.1 8080 80/tcp"),
            ("0.0.0.0:8080:80", "0.0.0.0 8080 80/tcp"),
            ("127.0.0.1::80", "127.0.0.1 free 80/tcp"),
            (":80", "* free 80/tcp"),
            ("0:80", "* free 80/tcp"),
            ("::80", "* free 80/tcp"),
            ("[::1]:8080:80", "::1 8080 80/tcp"),
            ("[::]:53:53/udp", ":: 53 53/udp"),
            ("[2001:db8::1]::80", "2001:db8::1 free 80/tcp"),
            ("8000-8010:80", "* 8000-8010 80/tcp"),
            ("127.0.0.1:8000-8010:80/udp", "127.0.0.1 8000-8010 80/udp"),
            ("target=80", "* free 80/tcp"),
            ("target=80,published=8080", "* 8080 80/tcp"),
            ("published=8080,target=80,protocol=udp,mode=host", "* 8080 80/udp"),
            ("target=80,published=8080,host_ip=::1", "::1 8080 80/tcp"),
            ("target=80,published=8080,host_ip=[::1],name=web,app_protocol=http", "::1 8080 80/tcp"),
            ("target=80,published=8000-8010,mode=ingress", "* 8000-8010 80/tcp"),
        ] {
            let ports = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(ports.iter().map(shown).collect::<Vec<_>>(), [expected], "{text}");
        }
    }

    #[test]
    fn ranges_expand_in_step() {
        let all = |text: &str| parse(text).unwrap().iter().map(shown).collect::<Vec<_>>();
        assert_eq!(all("8000-8002:80-82"), ["* 8000 80/tcp", "* 8001 81/tcp", "* 8002 82/tcp"]);
        assert_eq!(all("[::1]:53-54:53-54/udp"), ["::1 53 53/udp", "::1 54 54/udp"]);
        assert_eq!(all("80-81"), ["* free 80/tcp", "* free 81/tcp"]);
        assert_eq!(all("127.0.0.1::80-81"), ["127.0.0.1 free 80/tcp", "127.0.0.1 free 81/tcp"]);
        assert_eq!(all("65534-65535:65534-65535"), ["* 65534 65534/tcp", "* 65535 65535/tcp"]);
        assert_eq!(expose("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
        assert_eq!(expose("9/SCTP").unwrap(), ["9/sctp"]);
        assert_eq!(inside("53/udp").unwrap(), (53, Transport::Udp));
        assert_eq!(inside("80").unwrap(), (80, Transport::Tcp));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, why) in [
            ("0:0", "no port from 1"),
            ("70000:80", "no port from 1"),
            ("a:80", "host port"),
            ("80:", "container port"),
            ("127.0.0.1:80:", "container port"),
            ("1.2.3:80:80", "no IP address"),
            ("localhost:80:80", "a name is no address"),
            ("::1:80:80", "expected [IP:]"),
            ("[::1:80:80", "not closed"),
            ("[::1]80:80", "expected [IP:]"),
            ("[::1]:80", "expected [IP:]"),
            ("[1.2.3.4]:80:80", "no IPv6 address"),
            ("[::1]:1:2:3", "expected [IP:]"),
            ("82-80:80-82", "ends before it begins"),
            ("1-2:1-3", "different lengths"),
            ("+80", "no port"),
            ("-80", "no port"),
            ("", "no port"),
            ("80/quic", "unknown protocol"),
            ("80/", "unknown protocol"),
            ("published=80", "the port inside is missing"),
            ("target=80,colour=red", "unknown key \"colour\""),
            ("target=80,target=81", "there twice"),
            ("target=80,mode=x", "neither host nor ingress"),
            ("target=80,udp", "not KEY=VALUE"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
        assert!(parse("::1:80:80").unwrap_err().first_hint().unwrap().contains("in brackets"));
        assert!(expose("80/quic").is_err() && expose("").is_err() && expose("9-8").is_err());
        assert!(inside("80-81").is_err() && inside("x").is_err());
    }

    #[test]
    fn one_host_port_leads_to_one_port() {
        let all = |texts: &[&str]| parse_all(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(all(&["80:80", "80:80/tcp", "80:80/udp"]).unwrap().len(), 2);
        assert_eq!(all(&["127.0.0.1:80:80", "127.0.0.2:80:81", "[::1]:80:82"]).unwrap().len(), 3);
        assert_eq!(all(&["80", "80", "81"]).unwrap().len(), 2);
        for texts in [["80:80", "80:81"], ["127.0.0.1:80:80", "80:81"], ["0.0.0.0:80:80", "127.0.0.1:80:81"]] {
            let e = all(&texts).unwrap_err().to_string();
            assert!(e.contains("host port 80/tcp is published for port 80 already"), "{texts:?}: {e}");
        }
        assert_eq!(all(&["0.0.0.0:80:80", "[::]:80:81"]).unwrap().len(), 2);
    }
}
