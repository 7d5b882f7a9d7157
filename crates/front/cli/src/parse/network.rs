//! `--network` in docker's and podman's syntax, and the modes of the other namespaces.
//!
//! Docker: `MODE`, or `name=NETWORK,alias=…,ip=…`. Podman: `MODE`, `NETWORK:ip=…,alias=…`, `NETWORK,NETWORK`.

use super::name_service::domain;
use super::{bad, not_yet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use tare_engine::request::{Attachment, NamespaceMode, NetworkMode};
use tare_model::Result;
use tare_model::address::MacAddress;

const FLAG: &str = "--network";

/// The default network's name.
pub(crate) const DEFAULT: &str = "bridge";

/// One `--network` understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A stack of the container's own, on these networks; none: on the default one.
    Networks(Vec<Attachment>),
    /// No network of tare's.
    Mode(NetworkMode),
}

/// Parses all `--network` flags together.
///
/// # Errors
/// `Kind::Invalid`, also for what excludes each other: a mode and a network, the same network twice.
pub(crate) fn networks(texts: &[String]) -> Result<(NetworkMode, Vec<Attachment>)> {
    let mut all: Vec<Attachment> = Vec::new();
    for text in texts {
        match network(text)? {
            Choice::Mode(mode) if texts.len() == 1 => return Ok((mode, Vec::new())),
            Choice::Mode(_) => return Err(bad(FLAG, text, "it stands alone: there is no other network beside it")),
            Choice::Networks(networks) => {
                for attachment in networks {
                    if all.iter().any(|a| a.network == attachment.network) {
                        return Err(bad(FLAG, text, format!("the network {:?} is there twice", attachment.network)));
                    }
                    all.push(attachment);
                }
            }
        }
    }
    one_name_one_interface(&all)?;
    Ok((NetworkMode::Bridge, all))
}

fn one_name_one_interface(all: &[Attachment]) -> Result<()> {
    let names: Vec<&str> = all.iter().filter_map(|a| a.interface.as_deref()).collect();
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, name)) => Err(bad(FLAG, name, "two networks cannot have one interface")),
        None => Ok(()),
    }
}

/// Parses one `--network`.
fn network(text: &str) -> Result<Choice> {
    let (head, rest) = text.split_once(':').map_or((text, None), |(head, rest)| (head, Some(rest)));
    // An equals sign before the first colon: docker's long form, in whose addresses colons may stand.
    if head.contains('=') {
        return long(text).map(|a| Choice::Networks(vec![a]));
    }
    match (head, rest) {
        ("" | "private", None) => Ok(Choice::Networks(Vec::new())),
        ("host", None) => Ok(Choice::Mode(NetworkMode::Host)),
        ("none", None) => Ok(Choice::Mode(NetworkMode::None)),
        ("host" | "none" | "private", Some(_)) => Err(bad(FLAG, text, format!("{head} takes no options"))),
        ("container", Some(name)) if !name.is_empty() => Ok(Choice::Mode(NetworkMode::Container(name.to_owned()))),
        ("container", Some(_)) => Err(bad(FLAG, text, "the container's name is missing")),
        ("ns", Some(path)) if path.starts_with('/') => Ok(Choice::Mode(NetworkMode::Path(PathBuf::from(path)))),
        ("ns", Some(_)) => Err(bad(FLAG, text, "expected the absolute path of a namespace, as ns:/run/netns/blue")),
        ("slirp4netns" | "pasta", _) => Err(not_yet(FLAG, text, "it is a network without root, and tare runs as root")
            .hint("there are bridge, host, none, container:NAME, ns:PATH and networks of `tare network ls`")),
        (_, None) => head.split(',').map(|name| named(text, name)).collect::<Result<_>>().map(Choice::Networks),
        (name, Some(options)) => {
            let mut attachment = named(text, name)?;
            for option in options.split(',').filter(|o| !o.is_empty()) {
                set(&mut attachment, text, option)?;
            }
            Ok(Choice::Networks(vec![attachment]))
        }
    }
}

fn long(text: &str) -> Result<Attachment> {
    let mut attachment = Attachment::default();
    for field in super::mount::csv(text).map_err(|why| bad(FLAG, text, why))? {
        match field.split_once('=') {
            Some((key, name)) if key.trim().eq_ignore_ascii_case("name") => {
                if !attachment.network.is_empty() {
                    return Err(bad(FLAG, text, "name is there twice"));
                }
                attachment.network = named(text, name)?.network;
            }
            _ => set(&mut attachment, text, &field)?,
        }
    }
    if attachment.network.is_empty() {
        return Err(bad(FLAG, text, "the network's name is missing; add name=NETWORK"));
    }
    Ok(attachment)
}

/// An attachment to a network of that name. Which networks there are, the engine knows.
fn named(text: &str, name: &str) -> Result<Attachment> {
    let name = match name {
        "default" => DEFAULT,
        "host" | "none" | "private" | "container" | "ns" => {
            return Err(bad(FLAG, text, format!("{name} is a mode, no network; it stands alone")));
        }
        name => name,
    };
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !fits || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let why = format!("{name:?} is no name of a network: letters, digits, and after the first _ . -");
        return Err(bad(FLAG, text, why));
    }
    Ok(Attachment { network: name.to_owned(), ..Attachment::default() })
}

/// One `KEY=VALUE` of an attachment, docker's keys and podman's.
fn set(a: &mut Attachment, text: &str, field: &str) -> Result<()> {
    let (key, value) = field.split_once('=').unwrap_or((field, ""));
    let key = key.trim().to_ascii_lowercase();
    if value.is_empty() {
        return Err(bad(FLAG, text, format!("{field:?} lacks a value; expected KEY=VALUE")));
    }
    let twice = || bad(FLAG, text, format!("{key} is there twice"));
    let wrong = |why: String| bad(FLAG, text, why);
    match key.as_str() {
        "alias" => a.aliases.push(alias(FLAG, value)?),
        // Podman has one key for both families.
        "ip" => match value.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) if a.ip.replace(ip).is_none() => {}
            Ok(IpAddr::V6(ip)) if a.ip6.replace(ip).is_none() => {}
            Ok(_) => return Err(twice()),
            Err(_) => return Err(wrong(format!("{value:?} is no IP address"))),
        },
        "ip6" => {
            let ip = value.parse::<Ipv6Addr>().map_err(|_| wrong(format!("{value:?} is no IPv6 address")))?;
            if a.ip6.replace(ip).is_some() {
                return Err(twice());
            }
        }
        "mac-address" | "mac" | "mac_address" => {
            if a.mac.replace(mac(FLAG, value)?).is_some() {
                return Err(twice());
            }
        }
        "link-local-ip" => a.link_local.push(link_local(FLAG, value)?),
        "gw-priority" => a.gw_priority = priority(FLAG, value)?,
        "interface_name" | "interface-name" => {
            if a.interface.replace(interface(FLAG, value)?).is_some() {
                return Err(twice());
            }
        }
        "driver-opt" => driver_option(a, FLAG, value)?,
        "host_interface_name" => {
            return Err(wrong("tare names the host's end itself, so that names never meet".into()));
        }
        _ => {
            let known = "alias, ip, ip6, mac-address, link-local-ip, interface-name, gw-priority and driver-opt";
            return Err(wrong(format!("unknown key {key:?}; there are {known}")));
        }
    }
    Ok(())
}

/// `--driver-opt`, and the key of the same name.
pub(crate) fn driver_option(a: &mut Attachment, flag: &str, text: &str) -> Result<()> {
    match text.split_once('=') {
        Some(("com.docker.network.endpoint.ifname", name)) => {
            a.interface = Some(interface(flag, name)?);
            Ok(())
        }
        Some((key, _)) => {
            let why = format!("unknown option {key:?} of an endpoint; there is com.docker.network.endpoint.ifname");
            Err(bad(flag, text, why))
        }
        None => Err(bad(flag, text, "expected NAME=VALUE")),
    }
}

/// A further name of a container on a network.
pub(crate) fn alias(flag: &str, text: &str) -> Result<String> {
    domain(text).map_err(|why| bad(flag, text, why))?;
    Ok(text.to_owned())
}

/// A container's own address of IPv4.
pub(crate) fn ip(flag: &str, text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| bad(flag, text, "expected an IPv4 address"))
}

/// A container's own address of IPv6.
pub(crate) fn ip6(flag: &str, text: &str) -> Result<Ipv6Addr> {
    text.parse().map_err(|_| bad(flag, text, "expected an IPv6 address"))
}

/// A further address that is valid on its link only.
pub(crate) fn link_local(flag: &str, text: &str) -> Result<IpAddr> {
    let local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = text.parse::<IpAddr>().ok().filter(local);
    ip.ok_or_else(|| bad(flag, text, "expected a link-local address: of 169.254.0.0/16 or fe80::/10"))
}

/// A hardware address; the separators are colons, hyphens or dots, as Go reads them.
pub(crate) fn mac(flag: &str, text: &str) -> Result<MacAddress> {
    let digits: String = text.chars().filter(|c| !":-.".contains(*c)).collect();
    let plain = if text.contains(':') || digits.len() != 12 || !digits.is_ascii() {
        text.to_owned()
    } else {
        (0..6).map(|i| &digits[2 * i..2 * i + 2]).collect::<Vec<_>>().join(":")
    };
    let octets: Option<MacAddress> = plain.parse().ok();
    octets.ok_or_else(|| bad(flag, text, "expected the six octets of one device, as 02:42:ac:11:00:02"))
}

/// Which network's default route wins: the highest.
pub(crate) fn priority(flag: &str, text: &str) -> Result<i32> {
    text.parse().map_err(|_| bad(flag, text, format!("{text:?} is no priority: a whole number")))
}

/// An interface's name, as the kernel takes it.
pub(crate) fn interface(flag: &str, text: &str) -> Result<String> {
    let fits = (1..=15).contains(&text.len())
        && !matches!(text, "." | ".." | "lo" | "all" | "default")
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    if fits { Ok(text.to_owned()) } else { Err(bad(flag, text, "no name of an interface: at most 15 characters")) }
}

/// Parses `--pid`, `--ipc`, `--uts` or `--cgroupns`.
pub(crate) fn namespace(flag: &str, text: &str) -> Result<NamespaceMode> {
    match (text, text.strip_prefix("container:")) {
        ("" | "private", _) => Ok(NamespaceMode::Private),
        ("host", _) => Ok(NamespaceMode::Host),
        // Every private IPC namespace of tare can be joined by another container.
        ("shareable", _) if flag == "--ipc" => Ok(NamespaceMode::Private),
        ("none", _) if flag == "--ipc" => Err(not_yet(flag, text, "a container without /dev/shm is not supported yet")),
        (_, Some("")) => Err(bad(flag, text, "the container's name is missing")),
        (_, Some(name)) => Ok(NamespaceMode::Container(name.to_owned())),
        _ => Err(bad(flag, text, "expected private, host or container:NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<(NetworkMode, Vec<Attachment>)> {
        networks(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    }

    fn names(texts: &[&str]) -> Vec<String> {
        of(texts).unwrap().1.into_iter().map(|a| a.network).collect()
    }

    #[test]
    fn modes() {
        for (text, mode) in [
            ("host", NetworkMode::Host),
            ("none", NetworkMode::None),
            ("container:web", NetworkMode::Container("web".into())),
            ("ns:/run/netns/a:b", NetworkMode::Path("/run/netns/a:b".into())),
        ] {
            assert_eq!(of(&[text]).unwrap(), (mode, vec![]), "{text}");
        }
        for text in ["", "private"] {
            assert_eq!(of(&[text]).unwrap(), (NetworkMode::Bridge, vec![]), "{text}");
        }
        assert_eq!(of(&[]).unwrap(), (NetworkMode::Bridge, vec![]));
    }

    #[test]
    fn networks_are_named_once_or_several_times() {
        assert_eq!(names(&["bridge"]), ["bridge"]);
        assert_eq!(names(&["default"]), ["bridge"]);
        assert_eq!(names(&["back_end.1-x"]), ["back_end.1-x"]);
        assert_eq!(names(&["a", "b:ip=10.0.0.2", "name=c"]), ["a", "b", "c"]);
        assert_eq!(names(&["a,b"]), ["a", "b"]);
    }

    #[test]
    fn both_syntaxes_say_the_same() {
        let full = Attachment {
            network: "net".into(),
            aliases: vec!["a".into(), "b".into()],
            ip: Some(Ipv4Addr::new(10, 0, 0, 9)),
            ip6: Some("fd00::9".parse().unwrap()),
            mac: Some("02:42:0a:00:00:09".parse().unwrap()),
            interface: Some("wan0".into()),
            gw_priority: 5,
            link_local: vec!["169.254.8.8".parse().unwrap(), "fe80::8".parse().unwrap()],
        };
        for text in [
            "name=net,alias=a,alias=b,ip=10.0.0.9,ip6=fd00::9,mac-address=02:42:0a:00:00:09,gw-priority=5,\
             link-local-ip=169.254.8.8,link-local-ip=fe80::8,driver-opt=com.docker.network.endpoint.ifname=wan0",
            "\"alias=a\",name=net,alias=b,\"ip=10.0.0.9\",ip6=fd00::9,mac-address=02-42-0a-00-00-09,gw-priority=5,\
             link-local-ip=169.254.8.8,link-local-ip=fe80::8,interface-name=wan0",
            "net:alias=a,alias=b,ip=10.0.0.9,ip=fd00::9,mac=02:42:0a:00:00:09,interface_name=wan0,gw-priority=5,\
             link-local-ip=169.254.8.8,link-local-ip=fe80::8",
        ] {
            let (mode, all) = of(&[text]).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((mode, all.as_slice()), (NetworkMode::Bridge, std::slice::from_ref(&full)), "{text}");
        }
        assert_eq!(of(&["bridge:"]).unwrap().1[0], Attachment { network: "bridge".into(), ..Attachment::default() });
        assert_eq!(of(&["name=default,gw-priority=-3"]).unwrap().1[0].gw_priority, -3);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (texts, why) in [
            (&["host", "a"][..], "stands alone"),
            (&["a", "none"], "stands alone"),
            (&["none", "none"], "stands alone"),
            (&["a", "name=a"], "\"a\" is there twice"),
            (&["default", "bridge"], "there twice"),
            (&["a,a"], "there twice"),
            (&["host,a"], "host is a mode"),
            (&["name=host"], "host is a mode"),
            (&["container"], "container is a mode"),
            (&["container:"], "name is missing"),
            (&["host:ip=10.0.0.1"], "takes no options"),
            (&["ns:run/x"], "absolute path"),
            (&["slirp4netns:mtu=1500"], "without root"),
            (&["pasta"], "without root"),
            (&["a/b"], "no name of a network"),
            (&["-a"], "no name of a network"),
            (&["alias=x"], "add name=NETWORK"),
            (&["name=a,name=b"], "name is there twice"),
            (&["name=a,"], "is empty"),
            (&["name=a,ip=10.0.0.1,ip=10.0.0.2"], "ip is there twice"),
            (&["name=a,ip=x"], "no IP address"),
            (&["name=a,ip6=10.0.0.1"], "no IPv6 address"),
            (&["name=a,mac-address=01:00:00:00:00:01"], "one device"),
            (&["name=a,mac-address=nonsense"], "one device"),
            (&["name=a,gw-priority=high"], "whole number"),
            (&["name=a,colour=red"], "unknown key \"colour\""),
            (&["name=a,driver-opt=x=y"], "unknown option \"x\""),
            (&["name=a,driver-opt=x"], "expected NAME=VALUE"),
            (&["name=a,link-local-ip=10.0.0.1"], "link-local address"),
            (&["name=a,alias=a b"], "no host name"),
            (&["a:interface_name=0123456789abcdef"], "at most 15"),
            (&["a:interface_name=a/b"], "no name of an interface"),
            (&["a:interface_name=lo"], "no name of an interface"),
            (&["a:host_interface_name=x"], "names the host's end itself"),
            (&["a:ip"], "lacks a value"),
            (&["a:interface_name=e0", "b:interface_name=e0"], "one interface"),
        ] {
            let e = of(texts).unwrap_err().to_string();
            assert!(e.contains(why), "{texts:?}: {e}");
        }
    }

    #[test]
    fn hardware_addresses_have_three_spellings() {
        for text in ["02:42:ac:11:00:02", "02-42-AC-11-00-02", "0242.ac11.0002"] {
            assert_eq!(mac("--mac-address", text).unwrap().to_string(), "02:42:ac:11:00:02");
        }
        for text in ["", "02:42", "0242ac11000", "02:42:ac:11:00:02:03", "03:42:ac:11:00:02", "é2-42-ac-11-00-0"] {
            assert!(mac("--mac-address", text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_of_other_namespaces() {
        assert_eq!(namespace("--pid", "container:x").unwrap(), NamespaceMode::Container("x".into()));
        assert_eq!(namespace("--ipc", "shareable").unwrap(), NamespaceMode::Private);
        assert!(namespace("--pid", "shareable").is_err());
    }
}
