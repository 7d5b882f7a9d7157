//! What the flags of networks mean together: [`NetworkArgs`] becomes the network's part of a [`RunRequest`].

use crate::network_args::NetworkArgs;
use crate::parse::{bad, name_service, network, port, rate};
use tare_engine::request::{Attachment, HostAddress, HostEntry, NamespaceMode, NetworkMode, RunRequest};
use tare_model::Result;

/// Fills in the network's part of a request.
///
/// # Errors
/// `Kind::Invalid`, naming the flag: of values, and of flags that cannot both be obeyed.
pub(super) fn fill(args: &NetworkArgs, request: &mut RunRequest) -> Result<()> {
    (request.network, request.attachments) = network::networks(&args.network)?;
    contradictions(args, request)?;
    of_the_first(args, &mut request.attachments)?;
    request.ports = port::parse_all(&args.publish)?;
    request.publish_all = args.publish_all;
    request.expose = super::each(&args.expose, port::expose)?;
    request.dns = name_service::dns(&args.dns, &args.dns_search, &args.dns_option)?;
    request.hosts = super::each(&args.add_host, name_service::host)?;
    for text in &args.link {
        let (container, names) = name_service::link(text)?;
        let address = HostAddress::Container(container);
        request.hosts.extend(names.into_iter().map(|name| HostEntry { name, address: address.clone() }));
    }
    request.net_rate = args.net_rate.as_deref().map(rate::parse).transpose()?.unwrap_or_default();
    Ok(())
}

/// Flags that speak of a container as if it had one network are about its first.
fn of_the_first(args: &NetworkArgs, attachments: &mut Vec<Attachment>) -> Result<()> {
    let given = Attachment {
        network: network::DEFAULT.to_owned(),
        aliases: args.network_alias.iter().map(|t| network::alias("--network-alias", t)).collect::<Result<_>>()?,
        ip: args.ip.as_deref().map(|t| network::ip("--ip", t)).transpose()?,
        ip6: args.ip6.as_deref().map(|t| network::ip6("--ip6", t)).transpose()?,
        mac: args.mac_address.as_deref().map(|t| network::mac("--mac-address", t)).transpose()?,
        link_local: args
            .link_local_ip
            .iter()
            .map(|t| network::link_local("--link-local-ip", t))
            .collect::<Result<_>>()?,
        ..Attachment::default()
    };
    let Some(first) = attachments.first_mut() else {
        if given != (Attachment { network: given.network.clone(), ..Attachment::default() }) {
            attachments.push(given);
        }
        return Ok(());
    };
    let twice = |flag: &str, value: &str| Err(bad(flag, value, "the same is said by --network already"));
    match (&given.ip, first.ip) {
        (Some(ip), Some(_)) => return twice("--ip", &ip.to_string()),
        (ip, other) => first.ip = ip.or(other),
    }
    match (&given.ip6, first.ip6) {
        (Some(ip), Some(_)) => return twice("--ip6", &ip.to_string()),
        (ip, other) => first.ip6 = ip.or(other),
    }
    match (&given.mac, first.mac) {
        (Some(mac), Some(_)) => return twice("--mac-address", &mac.to_string()),
        (mac, other) => first.mac = mac.or(other),
    }
    first.aliases.extend(given.aliases);
    first.link_local.extend(given.link_local);
    Ok(())
}

/// Flags that cannot both be obeyed: what needs a network of the container's own, where it has none.
fn contradictions(args: &NetworkArgs, request: &RunRequest) -> Result<()> {
    let (publishing, own) = match &request.network {
        NetworkMode::Bridge => return Ok(()),
        NetworkMode::Host => {
            ("with --network host nothing needs publishing: its ports are the host's", "the network is the host's")
        }
        NetworkMode::None => ("with --network none nothing can be reached", "there is no network"),
        NetworkMode::Container(_) => (
            "publish it with the container that owns the network",
            "it belongs to the container whose network is shared",
        ),
        NetworkMode::Path(_) => {
            ("tare has no device in a namespace that is given by path", "the namespace given by path is as it is")
        }
    };
    let first = |list: &[String]| list.first().cloned();
    let refuse = |flag: &str, value: Option<String>, why: &str| match value {
        Some(value) => Err(bad(flag, &value, why)),
        None => Ok(()),
    };
    refuse("--publish", first(&args.publish), publishing)?;
    refuse("--publish-all", args.publish_all.then(|| "true".to_owned()), publishing)?;
    for (flag, value) in [
        ("--ip", args.ip.clone()),
        ("--ip6", args.ip6.clone()),
        ("--mac-address", args.mac_address.clone()),
        ("--link-local-ip", first(&args.link_local_ip)),
        ("--network-alias", first(&args.network_alias)),
        ("--link", first(&args.link)),
        ("--net-rate", args.net_rate.clone()),
    ] {
        refuse(flag, value, own)?;
    }
    // Files of the container whose stack is shared are shared as well.
    if matches!(request.network, NetworkMode::Container(_)) {
        for (flag, list) in [
            ("--dns", &args.dns),
            ("--dns-search", &args.dns_search),
            ("--dns-option", &args.dns_option),
            ("--add-host", &args.add_host),
            ("--expose", &args.expose),
        ] {
            refuse(flag, first(list), own)?;
        }
    }
    Ok(())
}

/// A host name in a namespace that is another's would be its as well.
pub(super) fn host_name(request: &RunRequest) -> Result<()> {
    let Some(name) = &request.hostname else { return Ok(()) };
    if request.uts != NamespaceMode::Private {
        return Err(bad("--hostname", name, "with --uts it belongs to the namespace that is shared"));
    }
    if matches!(request.network, NetworkMode::Container(_)) {
        return Err(bad("--hostname", name, "it belongs to the container whose network is shared"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tare_engine::request::{Rate, Transport};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        network: NetworkArgs,
    }

    fn of(line: &str) -> Result<RunRequest> {
        let words = line.split(' ').filter(|w| !w.is_empty());
        let line = Line::try_parse_from(std::iter::once("run").chain(words)).expect("the line parses");
        let mut request = RunRequest::default();
        fill(&line.network, &mut request).map(|()| request)
    }

    #[test]
    fn without_flags_it_is_the_default_network() {
        let r = of("").unwrap();
        assert_eq!((r.network, r.attachments, r.ports, r.publish_all), (NetworkMode::Bridge, vec![], vec![], false));
        assert_eq!(r.net_rate, Rate::default());
    }

    #[test]
    fn plain_flags_are_about_the_first_network() {
        let r = of("--network a --net b --ip 10.0.0.9 --ip6 fd00::9 --mac-address 02:00:00:00:00:09 --net-alias x \
                    --network-alias y --link-local-ip fe80::9")
        .unwrap();
        let a = &r.attachments[0];
        assert_eq!((a.network.as_str(), a.aliases.len(), a.link_local.len()), ("a", 2, 1));
        assert!(a.ip.is_some() && a.ip6.is_some() && a.mac.is_some());
        assert_eq!(r.attachments[1], Attachment { network: "b".into(), ..Attachment::default() });
        let r = of("--ip 10.0.0.9").unwrap();
        assert_eq!((r.attachments.len(), r.attachments[0].network.as_str()), (1, "bridge"));
        let r = of("--network name=a,alias=x --network-alias y --ip 10.0.0.9").unwrap();
        assert_eq!(r.attachments[0].aliases, ["x", "y"]);
        assert!(of("--network a:ip=10.0.0.8 --ip 10.0.0.9").unwrap_err().to_string().contains("said by --network"));
    }

    #[test]
    fn names_ports_and_rates() {
        let r = of(
            "-p 53:53/udp -p 8000-8001:80-81 -P --expose 7-8/udp --dns 9.9.9.9 --dns-search a.test --dns-opt ndots:2 \
                    --dns-option rotate --add-host db:10.0.0.1 --add-host up:host-gateway --link web:www \
                    --net-rate in=1mbit,out=2mbit",
        )
        .unwrap();
        assert_eq!((r.ports.len(), r.ports[0].transport, r.publish_all), (3, Transport::Udp, true));
        assert_eq!(r.expose, ["7/udp", "8/udp"]);
        assert_eq!((r.dns.servers.len(), r.dns.search.len(), r.dns.options.len()), (1, 1, 2));
        let hosts: Vec<&str> = r.hosts.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(hosts, ["db", "up", "www", "web"]);
        assert_eq!(r.hosts[2].address, HostAddress::Container("web".into()));
        assert_eq!((r.net_rate.to_container, r.net_rate.from_container), (Some(1_000_000), Some(2_000_000)));
    }

    #[test]
    fn what_cannot_both_be_is_refused() {
        for (line, why) in [
            ("--network host -p 80", "nothing needs publishing"),
            ("--network none -p 80", "nothing can be reached"),
            ("--network container:y -p 80", "owns the network"),
            ("--network ns:/run/x -p 80", "given by path"),
            ("--network host -P", "nothing needs publishing"),
            ("--network host --ip 10.0.0.1", "the network is the host's"),
            ("--network none --ip6 fd00::1", "there is no network"),
            ("--network container:y --mac-address 02:00:00:00:00:01", "whose network is shared"),
            ("--network none --network-alias x", "there is no network"),
            ("--network host --link-local-ip fe80::1", "the network is the host's"),
            ("--network host --link x", "the network is the host's"),
            ("--network host --net-rate 1mbit", "the network is the host's"),
            ("--network container:y --dns 9.9.9.9", "whose network is shared"),
            ("--network container:y --dns-search x", "whose network is shared"),
            ("--network container:y --dns-opt x", "whose network is shared"),
            ("--network container:y --add-host x:10.0.0.1", "whose network is shared"),
            ("--network container:y --expose 80", "whose network is shared"),
            ("--network host --network a", "stands alone"),
            ("-p 80:80 -p 80:81", "one host port leads to one"),
            ("--ip fd00::1", "expected an IPv4 address"),
            ("--ip6 10.0.0.1", "expected an IPv6 address"),
        ] {
            let e = of(line).unwrap_err().to_string();
            assert!(e.contains(why), "{line}: {e}");
        }
        assert!(of("--network host --dns 9.9.9.9 --add-host x:10.0.0.1 --expose 80").is_ok());
    }
}
