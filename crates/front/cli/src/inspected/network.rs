//! A network's document, and the network's part of a container's.

use super::NEVER;
use crate::container_row;
use crate::published;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use tare_engine::request::{HostAddress, NetworkMode, PortRequest, RunRequest};
use tare_engine::view::{Container, NetworkInfo, NetworkView, State};
use tare_model::address::IpNet;
use tare_model::network::Subnet;

/// A network's document. Only containers that run are listed, as docker does.
pub(crate) fn network(info: &NetworkInfo) -> Value {
    let n = &info.network;
    let subnet = |s: &Subnet| {
        let mut one = Map::from_iter([("Subnet".to_owned(), json!(s.net))]);
        one.extend(s.range.map(|range| ("IPRange".to_owned(), json!(range))));
        one.extend(s.gateway.map(|gateway| ("Gateway".to_owned(), json!(gateway))));
        if !s.reserved.is_empty() {
            one.insert("Reserved".to_owned(), json!(s.reserved));
        }
        Value::Object(one)
    };
    let member = |place: &NetworkView, name: &str| {
        json!({
            "Name": name,
            "EndpointID": place.link.as_deref().unwrap_or_default(),
            "MacAddress": text(place.mac),
            "IPv4Address": text(own(place, true)),
            "IPv6Address": text(own(place, false)),
            "Interface": place.interface,
            "Aliases": place.aliases,
        })
    };
    let containers: Map<String, Value> =
        info.containers.iter().filter(|c| c.running).map(|c| (c.id.clone(), member(&c.place, &c.name))).collect();
    let stopped: Vec<&str> = info.containers.iter().filter(|c| !c.running).map(|c| c.name.as_str()).collect();
    json!({
        "Name": n.name,
        "Id": n.id,
        "Created": if info.created_at.is_empty() { NEVER } else { &info.created_at },
        "Scope": "local",
        "Driver": n.driver.to_string(),
        "EnableIPv4": n.v4().is_some(),
        "EnableIPv6": n.v6().is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": n.subnets.iter().map(subnet).collect::<Vec<_>>() },
        "Internal": n.internal,
        "Attachable": true,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Stopped": stopped,
        "Options": n.options,
        "Labels": n.labels,
        "Device": n.device,
        "Parent": n.parent,
        "Mode": n.mode,
        "MTU": n.mtu,
        "Isolated": n.isolate,
        "InterContainer": n.icc,
        "Masquerade": n.masquerade,
        "Names": n.dns,
        "Resolvers": n.servers,
        "Routes": n.routes,
        "PublishAddress": n.publish_address,
    })
}

/// What stands below `NetworkSettings`. Without a running process there are no addresses, as in docker's.
pub(super) fn settings(c: &Container) -> Value {
    let running = matches!(c.state, State::Running | State::Paused);
    let first = c.networks.first();
    let mut all = Map::new();
    let place = first.map_or_else(Map::new, |n| addresses(n, running));
    for key in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        let nothing = if key.ends_with("Len") { json!(0) } else { json!("") };
        all.insert(key.to_owned(), place.get(key).cloned().unwrap_or(nothing));
    }
    all.insert("Ports".to_owned(), ports(c));
    all.insert("Networks".to_owned(), Value::Object(networks(c, running)));
    let pid = c.pid.filter(|_| running && c.enter_network.is_some());
    all.insert("SandboxKey".to_owned(), pid.map_or(json!(""), |pid| json!(format!("/proc/{pid}/ns/net"))));
    all.insert("Nsenter".to_owned(), json!(c.enter_network.as_deref().unwrap_or_default()));
    Value::Object(all)
}

fn networks(c: &Container, running: bool) -> Map<String, Value> {
    if c.networks.is_empty() {
        // Docker names the mode as if it were a network, but for another container's.
        let modes = matches!(c.request.network, NetworkMode::Host | NetworkMode::None | NetworkMode::Path(_));
        let name = container_row::network(c);
        return if modes { Map::from_iter([(name, json!({ "IPAddress": "", "MacAddress": "" }))]) } else { Map::new() };
    }
    let short: String = c.id.chars().take(12).collect();
    let one = |n: &NetworkView| {
        let mut all = addresses(n, running);
        let asked = c.request.attachments.iter().find(|a| a.network == n.name || n.id.starts_with(&a.network));
        let configured = asked.filter(|a| a.ip.is_some() || a.ip6.is_some() || !a.link_local.is_empty());
        let configured = configured
            .map(|a| json!({ "IPv4Address": text(a.ip), "IPv6Address": text(a.ip6), "LinkLocalIPs": a.link_local }));
        let names: Vec<&str> =
            [c.name.as_str()].into_iter().chain(n.aliases.iter().map(String::as_str)).chain([short.as_str()]).collect();
        all.extend([
            ("IPAMConfig".to_owned(), json!(configured)),
            ("Links".to_owned(), Value::Null),
            ("Aliases".to_owned(), json!(n.aliases)),
            ("DNSNames".to_owned(), json!(names)),
            ("DriverOpts".to_owned(), Value::Null),
            ("GwPriority".to_owned(), json!(asked.map_or(0, |a| a.gw_priority))),
            ("NetworkID".to_owned(), json!(n.id)),
            ("Interface".to_owned(), json!(n.interface)),
            ("Reserved".to_owned(), json!(n.addresses)),
        ]);
        (n.name.clone(), Value::Object(all))
    };
    c.networks.iter().map(one).collect()
}

/// Docker's fields of a place in a network.
fn addresses(n: &NetworkView, running: bool) -> Map<String, Value> {
    let shown = |net: Option<IpNet>| net.filter(|_| running);
    let (v4, v6) = (shown(own(n, true)), shown(own(n, false)));
    let gateway = |v4: bool| n.gateways.iter().copied().find(|g| g.is_ipv4() == v4 && running);
    let ip = |net: Option<IpNet>| text(net.map(IpNet::address));
    let prefix = |net: Option<IpNet>| json!(net.map_or(0, IpNet::prefix));
    Map::from_iter(
        [
            ("EndpointID", json!(n.link.as_deref().unwrap_or_default())),
            ("Gateway", json!(text(gateway(true)))),
            ("IPAddress", json!(ip(v4))),
            ("IPPrefixLen", prefix(v4)),
            ("IPv6Gateway", json!(text(gateway(false)))),
            ("GlobalIPv6Address", json!(ip(v6))),
            ("GlobalIPv6PrefixLen", prefix(v6)),
            ("MacAddress", json!(text(n.mac))),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    )
}

/// The container's own address of one family; addresses of the link come after it.
fn own(n: &NetworkView, v4: bool) -> Option<IpNet> {
    let local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let family = || n.addresses.iter().copied().filter(|a| a.is_ipv4() == v4);
    family().find(|a| !local(a.address())).or_else(|| family().next())
}

fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// `Ports`: what is published, at each address; what is only exposed is null.
fn ports(c: &Container) -> Value {
    let mut ports: Map<String, Value> = Map::new();
    for p in &c.ports {
        for ip in published::hosts(p) {
            let entry = json!({ "HostIp": ip.to_string(), "HostPort": p.host_port.to_string() });
            push(&mut ports, format!("{}/{}", p.container_port, p.transport), entry);
        }
    }
    for exposed in &c.request.expose {
        ports.entry(exposed.clone()).or_insert(Value::Null);
    }
    Value::Object(ports)
}

/// The network's part of `HostConfig`.
pub(super) fn host_config(r: &RunRequest) -> Map<String, Value> {
    let hosts: Vec<String> = r
        .hosts
        .iter()
        .filter_map(|h| match &h.address {
            HostAddress::Ip(ip) => Some(format!("{}:{ip}", h.name)),
            HostAddress::Gateway => Some(format!("{}:host-gateway", h.name)),
            HostAddress::Container(_) => None,
        })
        .collect();
    let links: Vec<String> = r
        .hosts
        .iter()
        .filter_map(|h| match &h.address {
            HostAddress::Container(name) => Some(format!("{name}:{}", h.name)),
            HostAddress::Ip(_) | HostAddress::Gateway => None,
        })
        .collect();
    let marks = r.limits.network.clone().unwrap_or_default();
    Map::from_iter(
        [
            ("NetworkMode", json!(mode(r))),
            ("PortBindings", bindings(&r.ports)),
            ("PublishAllPorts", json!(r.publish_all)),
            ("Dns", json!(r.dns.servers)),
            ("DnsOptions", json!(r.dns.options)),
            ("DnsSearch", json!(r.dns.search)),
            ("ExtraHosts", json!(hosts)),
            ("Links", json!(links)),
            ("NetRate", json!({ "In": r.net_rate.to_container, "Out": r.net_rate.from_container })),
            ("NetClass", json!(marks.class_id)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    )
}

/// The mode, or the first network's name.
fn mode(r: &RunRequest) -> String {
    match (&r.network, r.attachments.first()) {
        (NetworkMode::Bridge, Some(first)) if !first.network.is_empty() => first.network.clone(),
        (mode, _) => container_row::mode(mode),
    }
}

fn bindings(ports: &[PortRequest]) -> Value {
    let mut map = Map::new();
    for p in ports {
        let host_port = p.host_ports.map_or_else(String::new, |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        });
        let entry = json!({ "HostIp": text(p.host_ip), "HostPort": host_port });
        push(&mut map, format!("{}/{}", p.container_port, p.transport), entry);
    }
    Value::Object(map)
}

fn push(map: &mut Map<String, Value>, key: String, entry: Value) {
    match map.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.push(entry),
        other => *other = json!([entry]),
    }
}

/// A network as `network create` makes it, with one container that runs and one that does not.
#[cfg(test)]
pub(crate) fn example() -> NetworkInfo {
    use tare_engine::view::NetworkMember;
    use tare_model::network::{Driver, Network};
    let subnet = |net: &str, gateway: &str| Subnet {
        net: net.parse().expect("it is one"),
        gateway: Some(gateway.parse().expect("it is one")),
        range: None,
        reserved: Vec::new(),
    };
    let member = |name: &str, running, addresses: &[&str]| NetworkMember {
        id: name.repeat(16),
        name: name.to_owned(),
        running,
        place: NetworkView {
            name: "back".into(),
            id: "abcd".repeat(16),
            interface: "eth0".into(),
            link: running.then(|| "tv0".to_owned()),
            addresses: addresses.iter().map(|a| a.parse().expect("it is one")).collect(),
            gateways: Vec::new(),
            mac: Some("02:74:0a:07:00:02".parse().expect("it is one")),
            aliases: vec!["db".into()],
        },
    };
    let text = r#"{ "name": "back", "id": "", "driver": "bridge", "created": 0 }"#;
    let plain: Network = serde_json::from_str(text).expect("the least that a network needs");
    NetworkInfo {
        network: Network {
            id: "abcd".repeat(16),
            driver: Driver::Bridge,
            device: Some("tn-abcdefghij".into()),
            subnets: vec![subnet("10.7.0.0/24", "10.7.0.1"), subnet("fd00:7::/64", "fd00:7::1")],
            labels: [("team".to_owned(), "a".to_owned())].into(),
            ..plain
        },
        created_at: "2026-01-01T00:00:00Z".into(),
        is_default: false,
        containers: vec![
            member("web1", true, &["169.254.8.8/16", "10.7.0.2/24", "fd00:7::2/64"]),
            member("web2", false, &["10.7.0.3/24"]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    #[test]
    fn a_networks_document_is_dockers() {
        let doc = network(&example());
        for (template, expected) in [
            ("{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.EnableIPv6}}", "back bridge local false true"),
            ("{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}", "10.7.0.0/24 10.7.0.1 fd00:7::/64 fd00:7::1 "),
            ("{{(index .IPAM.Config 0).Subnet}}", "10.7.0.0/24"),
            (
                "{{len .Containers}} {{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}}",
                "1 web1 10.7.0.2/24 fd00:7::2/64",
            ),
            ("{{range .Stopped}}{{.}}{{end}}", "web2"),
            ("{{index .Labels \"team\"}} {{.Device}}", "a tn-abcdefghij"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&doc).unwrap(), expected, "{template}");
        }
    }
}
