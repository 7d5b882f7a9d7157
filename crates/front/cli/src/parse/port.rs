//! `-p [IP:][HOST]:CONTAINER[/PROTOCOL]`, and `--expose PORT[/PROTOCOL]`; ranges expand.

use super::{bad, not_yet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use tare_engine::request::{PortRequest, Transport};
use tare_model::Result;

const FLAG: &str = "--publish";

/// Parses one `-p` into one request for each port.
pub(crate) fn parse(text: &str) -> Result<Vec<PortRequest>> {
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = check_protocol(text, protocol)?;
    if addresses.contains('[') || addresses.matches(':').count() > 2 {
        return Err(not_yet(FLAG, text, "publishing on IPv6 addresses is not supported yet"));
    }
    if addresses.contains('=') {
        return Err(not_yet(FLAG, text, "the long form (target=…,published=…) is not supported yet")
            .hint("write it as [IP:][HOST_PORT]:CONTAINER_PORT"));
    }
    let fields: Vec<&str> = addresses.split(':').collect();
    let (ip, host, container) = match fields[..] {
        [container] => ("", "", container),
        [host, container] => ("", host, container),
        [ip, host, container] => (ip, host, container),
        _ => return Err(bad(FLAG, text, "expected [IP:][HOST_PORT]:CONTAINER_PORT[/PROTOCOL]")),
    };
    let host_ip = match ip {
        "" => None,
        ip => Some(ip.parse::<Ipv4Addr>().map_err(|_| bad(FLAG, text, format!("{ip:?} is no IPv4 address")))?),
    };
    let container = range(container).map_err(|why| bad(FLAG, text, format!("container port: {why}")))?;
    let host = match host {
        "" | "0" => None,
        host => Some(range(host).map_err(|why| bad(FLAG, text, format!("host port: {why}")))?),
    };
    if let Some(host) = &host
        && host.len() != container.len()
    {
        if container.len() == 1 {
            return Err(not_yet(FLAG, text, "choosing a free port of a range is not supported yet")
                .hint("leave the host port out for any free port"));
        }
        return Err(bad(FLAG, text, "the two ranges have different lengths"));
    }
    let first_host = host.map(|h| *h.start());
    Ok(container
        .clone()
        .map(|port| PortRequest {
            host_ip: host_ip.map(Into::into),
            host_ports: first_host.map(|h| h + (port - container.start())).map(|p| (p, p)),
            container_port: port,
            transport: protocol,
        })
        .collect())
}

/// Parses one `--expose` into `PORT/PROTOCOL` for each port.
pub(crate) fn expose(text: &str) -> Result<Vec<String>> {
    const FLAG: &str = "--expose";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad(FLAG, text, format!("unknown protocol {protocol:?}; there are tcp, udp and sctp")));
    }
    let ports = range(ports).map_err(|why| bad(FLAG, text, why))?;
    Ok(ports.map(|p| format!("{p}/{protocol}")).collect())
}

fn check_protocol(text: &str, protocol: &str) -> Result<Transport> {
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Transport::Tcp),
        p @ ("udp" | "sctp") => {
            Err(not_yet(FLAG, text, format!("publishing {p} ports is not supported yet, only tcp")))
        }
        p => Err(bad(FLAG, text, format!("unknown protocol {p:?}; there is tcp"))),
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |t: &str| {
        t.parse::<u16>()
            .ok()
            .filter(|p| *p > 0 && t.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| format!("{t:?} is no port from 1 to 65535"))
    };
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

    fn one(text: &str) -> (Option<String>, Option<u16>, u16) {
        let mut ports = parse(text).unwrap();
        assert_eq!(ports.len(), 1, "{text}");
        let p = ports.remove(0);
        (p.host_ip.map(|ip| ip.to_string()), p.host_ports.map(|(first, _)| first), p.container_port)
    }

    #[test]
    fn the_usual_forms() {
        assert_eq!(one("80"), (None, None, 80));
        assert_eq!(one("8080:80"), (None, Some(8080), 80));
        assert_eq!(one("8080:80/tcp"), (None, Some(8080), 80));
        assert_eq!(one("127.0.0.1:8080:80"), (Some("127.0.0.1".into()), Some(8080), 80));
        assert_eq!(one("127.0.0.1::80"), (Some("127.0.0.1".into()), None, 80));
        assert_eq!(one(":80"), (None, None, 80));
    }

    #[test]
    fn ranges_expand_in_step() {
        let ports = parse("8000-8002:80-82").unwrap();
        let pairs: Vec<_> = ports.iter().map(|p| (p.host_ports.map(|(first, _)| first), p.container_port)).collect();
        assert_eq!(pairs, [(Some(8000), 80), (Some(8001), 81), (Some(8002), 82)]);
        assert_eq!(parse("80-81").unwrap().len(), 2);
        assert_eq!(expose("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, why) in [
            ("53:53/udp", "publishing udp ports is not supported yet"),
            ("[::1]:80:80", "IPv6"),
            ("0:0", "no port from 1"),
            ("70000:80", "no port from 1"),
            ("a:80", "host port"),
            ("1.2.3:80:80", "no IPv4 address"),
            ("82-80:80-82", "ends before it begins"),
            ("1-2:1-3", "different lengths"),
            ("8000-8010:80", "choosing a free port"),
            ("+80", "no port"),
            ("", "no port"),
            ("80/quic", "unknown protocol"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
