//! From what was asked for to a network's definition. Pure: what the host has is given.

use super::options::{self, Options};
use super::subnets::{self, Taken};
use crate::request::NetworkRequest;
use std::net::IpAddr;
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Error, Kind, Result};
use tare_network::Occupied;

/// Longest name of a device (IFNAMSIZ without its end).
const DEVICE_NAME: usize = 15;
/// The smallest MTU of IPv4 (RFC 791) and of IPv6 (RFC 8200).
const LEAST_MTU: (u32, u32) = (68, 1280);
const LARGEST_MTU: u32 = 65_535;

/// What a definition depends on beside the request.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The id that the network shall have.
    pub(crate) id: String,
    /// Unix nanoseconds.
    pub(crate) now: i64,
    /// The host's routes and addresses.
    pub(crate) occupied: Vec<Occupied>,
    /// The MTU of the parent device, or of the host's way outside.
    pub(crate) mtu: u32,
    /// IPv4 subnets to choose from.
    pub(crate) candidates: Vec<IpNet>,
    /// Whether the host has a device of the name that the bridge shall have.
    pub(crate) device_exists: bool,
    /// Whether the host has the parent device.
    pub(crate) parent_exists: bool,
}

/// Names that `--network` takes for something else.
const RESERVED: [&str; 8] = ["bridge", "default", "host", "none", "container", "ns", "private", "tare0"];

/// Refuses names that cannot be typed, or mean something else.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let refuse = |why: &str| Error::new(Kind::Invalid, "name network", format!("{name:?}")).because(why);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !begins || !allowed || name.len() > 128 {
        return Err(refuse("names are made of letters, digits, _, . and -, and begin with a letter or digit"));
    }
    if RESERVED.contains(&name) {
        return Err(refuse("the word means something else where networks are named").hint("choose another name"));
    }
    Ok(())
}

/// Decides on a network. `networks`: all that are there; `prefix`: the root's part of IPv6.
///
/// # Errors
/// `Kind::Invalid` for contradictions, `Kind::InUse` naming who has the subnet or device, `Kind::Exhausted` if none is
/// free, `Kind::NotFound` without the parent device.
pub(crate) fn define(request: &NetworkRequest, facts: &Facts, networks: &[Network], prefix: IpNet) -> Result<Network> {
    check_name(&request.name)?;
    let options = options::read(request.driver, &request.options)?;
    let mut network = Network {
        internal: request.internal,
        dns: request.dns,
        servers: request.servers.clone(),
        isolate: options.isolate.unwrap_or(false),
        icc: options.icc.unwrap_or(true),
        masquerade: options.masquerade.unwrap_or(true),
        publish_address: options.publish_address,
        mode: options.mode.clone(),
        parent: request.parent.clone().or_else(|| options.parent.clone()),
        labels: request.labels.clone(),
        options: request.options.clone(),
        created: facts.now,
        ..Network::new(&request.name, &facts.id, request.driver)
    };
    devices(&mut network, request, &options, facts, networks)?;
    network.subnets = subnets(request, &network, facts, networks, prefix)?;
    network.mtu = mtu(&network, options.mtu, facts)?;
    if let Some(address) = network.publish_address
        && address.is_multicast()
    {
        return Err(invalid(&network, "set option", format!("ports cannot be published at {address}")));
    }
    for route in &request.routes {
        let within = network.subnets.iter().any(|s| s.net.contains(route.gateway));
        if !within || route.destination.is_ipv4() != route.gateway.is_ipv4() {
            let why = format!("the next hop {} of {} is in none of its subnets", route.gateway, route.destination);
            return Err(invalid(&network, "set route", why));
        }
    }
    network.routes.clone_from(&request.routes);
    Ok(network)
}

/// Bits of the IPv4 subnet that a network gets: a bridge holds at most 1,023 ports, so a /20 is never the limit.
pub(crate) const V4_BITS: u8 = 20;

/// The subnets with so many bits that a pool has room for, in order; a smaller pool is one.
pub(crate) fn cut(pool: IpNet, bits: u8) -> impl Iterator<Item = IpNet> {
    let pool = pool.network();
    let bits = bits.max(pool.prefix());
    let count = 1_u128 << (bits - pool.prefix()).min(16);
    let size = 1_u128 << (tare_model::address::width(pool.address()) - bits).min(127);
    (0..count).filter_map(move |i| IpNet::new(pool.nth(i * size)?, bits))
}

/// The network of those who name none.
pub(crate) fn define_default(device: &str, facts: &Facts, networks: &[Network], prefix: IpNet) -> Result<Network> {
    let taken = Taken { occupied: &facts.occupied, networks, parent: None };
    Ok(Network {
        device: Some(device.to_owned()),
        subnets: vec![
            plain(taken.choose(facts.candidates.iter().copied())?),
            plain(taken.choose(subnets::of_prefix(prefix))?),
        ],
        mtu: Some(facts.mtu),
        created: facts.now,
        ..Network::new(super::DEFAULT, &facts.id, Driver::Bridge)
    })
}

fn invalid(network: &Network, operation: &'static str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, operation, &network.name).because(why)
}

fn plain(net: IpNet) -> Subnet {
    Subnet { net, gateway: net.first_host(), range: None, reserved: Vec::new() }
}

/// The bridge's name and the host's device below.
fn devices(
    network: &mut Network,
    request: &NetworkRequest,
    options: &Options,
    facts: &Facts,
    networks: &[Network],
) -> Result<()> {
    let asked = request.device.clone().or_else(|| options.device.clone());
    if network.driver == Driver::Bridge {
        let device = asked.unwrap_or_else(|| tare_network::bridge_name(&network.id));
        check_bridge_name(&device)?;
        if facts.device_exists && !networks.iter().any(|n| n.device.as_deref() == Some(&device)) {
            return Err(Error::new(Kind::InUse, "name bridge", format!("\"{device}\""))
                .because("the host has a device of this name, which is not ours")
                .hint("choose another name; to put a device of the host on the bridge: -o parent=DEVICE"));
        }
        network.device = Some(device);
    } else if asked.is_some() {
        return Err(invalid(network, "name bridge", format!("the driver {} makes none", network.driver)));
    }
    let Some(parent) = &network.parent else {
        return match network.driver {
            Driver::Bridge => Ok(()),
            driver => {
                Err(invalid(network, "create network", format!("the driver {driver} needs a device of the host"))
                    .hint("name one: -o parent=DEVICE; `ip -brief link` lists them"))
            }
        };
    };
    check_device_name(parent)?;
    if parent == "lo" {
        return Err(invalid(network, "create network", "the loopback device cannot be its parent"));
    }
    if !facts.parent_exists {
        return Err(Error::new(Kind::NotFound, "find device", format!("\"{parent}\""))
            .because("the host has no such device")
            .hint("`ip -brief link` lists those that are there"));
    }
    share_parent(network, parent, networks)
}

/// A device is given away whole, put on a bridge, or stood upon; the kernel has no more than one of these at a time.
fn share_parent(network: &Network, parent: &str, networks: &[Network]) -> Result<()> {
    let alone =
        |n: &Network| matches!(n.driver, Driver::Bridge | Driver::Phys) || n.mode.as_deref() == Some("passthru");
    let other = networks.iter().find(|n| {
        n.parent.as_deref() == Some(parent) && (n.driver != network.driver || alone(n) || alone(network))
            || n.device.as_deref() == Some(parent) && network.driver == Driver::Bridge
    });
    match other {
        Some(other) => Err(Error::new(Kind::InUse, "use device", format!("\"{parent}\""))
            .because(format!("network {} ({}) has it", other.name, other.driver))
            .hint("use another device, or remove that network")),
        None => Ok(()),
    }
}

/// Refuses what the kernel takes for no device's name, and what is no single directory below /proc/sys/net.
pub(crate) fn check_device_name(name: &str) -> Result<()> {
    // With a % the kernel looks for a free number in place of what was asked for.
    let allowed = name.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    let special = ["", ".", "..", "all", "default"].contains(&name);
    if !allowed || special || name.len() > DEVICE_NAME {
        return Err(Error::new(Kind::Invalid, "name device", format!("{name:?}"))
            .because(format!("names of devices have 1 to {DEVICE_NAME} characters without spaces, / : and %")));
    }
    Ok(())
}

/// Refuses beyond that what a chain of the rules could not be named after: a listing of them is to be read again.
fn check_bridge_name(name: &str) -> Result<()> {
    check_device_name(name)?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Err(Error::new(Kind::Invalid, "name device", format!("{name:?}"))
            .because("a bridge's name is made of letters, digits, _ . and -"));
    }
    Ok(())
}

/// The subnets: those given with what belongs to each, and chosen ones for the families that are wanted beside.
fn subnets(
    request: &NetworkRequest,
    network: &Network,
    facts: &Facts,
    networks: &[Network],
    prefix: IpNet,
) -> Result<Vec<Subnet>> {
    let given = |v4: bool| request.subnets.iter().copied().filter(move |net| net.is_ipv4() == v4);
    // A network that stands on the host's own has addresses that others give: IPv6 only where it was asked for.
    let (by_default_v4, by_default_v6) = match network.driver {
        Driver::Bridge => (true, true),
        Driver::Macvlan | Driver::Ipvlan => (given(false).next().is_none(), false),
        Driver::Phys => (false, false),
    };
    let occupied: &[Occupied] = if network.driver == Driver::Bridge { &facts.occupied } else { &[] };
    let taken = Taken { occupied, networks, parent: network.parent.as_deref() };
    let mut subnets = Vec::new();
    for (v4, wish, by_default) in [(true, request.ipv4, by_default_v4), (false, request.ipv6, by_default_v6)] {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let mut nets = given(v4);
        match (nets.next(), wish) {
            (Some(net), Some(false)) => {
                return Err(invalid(network, "use subnet", format!("{net} is given, and {family} is switched off")));
            }
            (Some(net), _) => {
                if let Some(second) = nets.next() {
                    return Err(Error::new(Kind::Unsupported, "use subnet", second)
                        .because(format!("the network has {net} already: one of each family is all it can have"))
                        .hint("make a second network, and connect containers to both"));
                }
                subnets::check_given(net)?;
                taken.check(net)?;
                subnets.push(plain(net));
            }
            (None, wish) if wish.unwrap_or(by_default) => subnets.push(plain(match v4 {
                true => taken.choose(facts.candidates.iter().copied())?,
                false => taken.choose(subnets::of_prefix(prefix))?,
            })),
            (None, _) => {}
        }
    }
    if subnets.is_empty() && network.driver != Driver::Phys {
        return Err(invalid(network, "create network", "it has addresses of neither IPv4 nor IPv6"));
    }
    details(request, network, &mut subnets)?;
    Ok(subnets)
}

/// Gateways, ranges and reserved addresses, each to the subnet that it lies in.
fn details(request: &NetworkRequest, network: &Network, subnets: &mut [Subnet]) -> Result<()> {
    let nowhere = |what: &str, address: &dyn std::fmt::Display| {
        let nets: Vec<_> = request.subnets.iter().map(ToString::to_string).collect();
        let error = invalid(network, "create network", format!("the {what} {address} is in none of its subnets"));
        if nets.is_empty() { error.hint("name the subnet, too: --subnet") } else { error }
    };
    let mut gateways = Vec::new();
    for gateway in &request.gateways {
        let of = |s: &&mut Subnet| s.net.contains(*gateway) && request.subnets.contains(&s.net);
        let subnet = subnets.iter_mut().find(of).ok_or_else(|| nowhere("gateway", gateway))?;
        if gateways.contains(&subnet.net) {
            return Err(invalid(network, "create network", format!("{} has two gateways", subnet.net)));
        }
        check_host(network, "gateway", *gateway, subnet.net)?;
        gateways.push(subnet.net);
        subnet.gateway = Some(*gateway);
    }
    for range in &request.ranges {
        let of = |s: &&mut Subnet| range.is_in(s.net) && request.subnets.contains(&s.net);
        let subnet = subnets.iter_mut().find(of).ok_or_else(|| nowhere("range", range))?;
        if subnet.range.replace(*range).is_some() {
            return Err(invalid(network, "create network", format!("{} has two ranges", subnet.net)));
        }
    }
    for (name, address) in &request.reserved {
        let of = |s: &&mut Subnet| s.net.contains(*address) && request.subnets.contains(&s.net);
        let subnet = subnets.iter_mut().find(of).ok_or_else(|| nowhere("reserved address", address))?;
        check_host(network, "reserved address", *address, subnet.net)?;
        let is_gateway = subnet.gateway == Some(*address) && gateways.contains(&subnet.net);
        if is_gateway || subnet.reserved.contains(address) {
            let why = format!("the address {address} reserved for {name:?} is the gateway's, or reserved twice");
            return Err(invalid(network, "create network", why));
        }
        subnet.reserved.push(*address);
    }
    // Without a way to leave it, a network of these drivers needs no next hop; the host is not on it.
    for subnet in subnets.iter_mut() {
        let chosen = !gateways.contains(&subnet.net);
        if chosen && network.driver != Driver::Bridge && (network.internal || network.driver == Driver::Phys) {
            subnet.gateway = None;
        } else if chosen && subnet.gateway.is_some_and(|g| subnet.reserved.contains(&g)) {
            subnet.gateway = subnet.net.hosts().find(|a| !subnet.reserved.contains(a));
        }
    }
    Ok(())
}

fn check_host(network: &Network, what: &str, address: IpAddr, net: IpNet) -> Result<()> {
    let broadcast = net.is_ipv4() && address == net.last();
    if net.prefix() < if net.is_ipv4() { 31 } else { 127 } && (address == net.first() || broadcast) {
        let why = format!("the {what} {address} is the network's own address, or its broadcast address, in {net}");
        return Err(invalid(network, "create network", why));
    }
    Ok(())
}

/// A bridge has its containers' MTU; other devices have that of the one below, unless told otherwise.
fn mtu(network: &Network, asked: Option<u32>, facts: &Facts) -> Result<Option<u32>> {
    let least = if network.v6().is_some() { LEAST_MTU.1 } else { LEAST_MTU.0 };
    match asked {
        Some(mtu) if !(least..=LARGEST_MTU).contains(&mtu) => {
            Err(invalid(network, "set MTU", format!("{mtu} is not from {least} to {LARGEST_MTU}")))
        }
        None if network.driver == Driver::Bridge => Ok(Some(facts.mtu.max(least))),
        asked => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn facts() -> Facts {
        Facts {
            id: "ab".repeat(32),
            now: 9,
            occupied: vec![
                Occupied { network: net("0.0.0.0/0"), device: "eth0".into() },
                Occupied { network: net("10.112.0.0/20"), device: "eth0".into() },
            ],
            mtu: 1400,
            candidates: vec![net("10.112.0.0/20"), net("10.112.16.0/20"), net("10.112.32.0/20")],
            device_exists: false,
            parent_exists: true,
        }
    }

    fn prefix() -> IpNet {
        net("fd11:2233:4455::/48")
    }

    fn request(change: impl FnOnce(&mut NetworkRequest)) -> NetworkRequest {
        let mut request = NetworkRequest { name: "back".into(), ..NetworkRequest::default() };
        change(&mut request);
        request
    }

    fn made(change: impl FnOnce(&mut NetworkRequest)) -> Result<Network> {
        define(&request(change), &facts(), &[network("old", &["10.112.16.0/20", "fd11:2233:4455::/64"])], prefix())
    }

    fn refused(kind: Kind, change: impl FnOnce(&mut NetworkRequest)) -> String {
        let e = made(change).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        e.to_string()
    }

    fn option(key: &str, value: &str) -> impl FnOnce(&mut NetworkRequest) {
        move |r| drop(r.options.insert(key.to_owned(), value.to_owned()))
    }

    #[test]
    fn what_is_left_out_is_chosen_beside_all_that_is_taken() {
        let n = made(|_| {}).unwrap();
        let nets: Vec<_> = n.subnets.iter().map(|s| (s.net.to_string(), s.gateway.unwrap().to_string())).collect();
        let expected = [("10.112.32.0/20", "10.112.32.1"), ("fd11:2233:4455:1::/64", "fd11:2233:4455:1::1")];
        assert_eq!(nets, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!((n.mtu, n.created, n.driver), (Some(1400), 9, Driver::Bridge));
        assert!(n.device.as_deref().is_some_and(|d| d.starts_with("tn-") && d.len() <= 15), "{:?}", n.device);
        assert!(n.icc && n.masquerade && n.dns && !n.internal && !n.isolate);
        let default = define_default("tare0", &facts(), &[n], prefix()).unwrap();
        assert_eq!((default.name.as_str(), default.device.as_deref()), ("bridge", Some("tare0")));
        assert_eq!(default.v4().unwrap().net, net("10.112.16.0/20"));
        assert_eq!(default.v6().unwrap().net, net("fd11:2233:4455::/64"));
    }

    #[test]
    fn what_is_given_is_taken_as_it_is() {
        let n = made(|r| {
            r.subnets = vec![net("fd00:9::/64"), net("10.9.0.0/16")];
            r.gateways = vec![ip("10.9.0.254")];
            r.ranges = vec![net("10.9.4.0/24").into()];
            r.reserved = [("router".to_owned(), ip("10.9.4.1")), ("six".to_owned(), ip("fd00:9::1"))].into();
            r.internal = true;
            r.device = Some("br-back".into());
            option("mtu", "9000")(r);
            option("host_binding", "127.0.0.1")(r);
        })
        .unwrap();
        let v4 = n.v4().unwrap();
        assert_eq!(
            (v4.net, v4.gateway, v4.range),
            (net("10.9.0.0/16"), Some(ip("10.9.0.254")), Some(net("10.9.4.0/24").into()))
        );
        assert_eq!(v4.reserved, [ip("10.9.4.1")]);
        // The gateway that was not asked for makes way.
        assert_eq!(n.v6().unwrap().gateway, Some(ip("fd00:9::2")));
        assert!(n.subnets[0].net.is_ipv4() && n.internal);
        assert_eq!(
            (n.device.as_deref(), n.mtu, n.publish_address),
            (Some("br-back"), Some(9000), Some(ip("127.0.0.1")))
        );
        let only = |v4, v6| made(|r| (r.ipv4, r.ipv6) = (v4, v6)).map(|n| n.subnets.len());
        assert_eq!(
            (only(None, Some(false)), only(Some(false), None), only(Some(true), Some(true))),
            (Ok(1), Ok(1), Ok(2))
        );
        assert!(only(Some(false), Some(false)).is_err());
    }

    #[test]
    fn conflicts_are_named() {
        let subnet = |text: &str| {
            let subnet = net(text);
            refused(Kind::InUse, |r| r.subnets = vec![subnet])
        };
        assert_eq!(subnet("10.112.16.0/24"), "use subnet 10.112.16.0/24: network old has 10.112.16.0/20");
        assert_eq!(subnet("10.112.0.0/16"), "use subnet 10.112.0.0/16: network old has 10.112.16.0/20");
        assert_eq!(
            subnet("10.112.4.0/24"),
            "use subnet 10.112.4.0/24: the host routes 10.112.0.0/20 through device \"eth0\""
        );
        let e = define(
            &request(|r| r.device = Some("eth0".into())),
            &Facts { device_exists: true, ..facts() },
            &[],
            prefix(),
        );
        assert_eq!(e.unwrap_err().kind(), Kind::InUse);
        let all = Facts { candidates: vec![net("10.112.0.0/20")], ..facts() };
        let e = define(&request(|_| {}), &all, &[], prefix()).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted);
        assert!(e.to_string().contains("10.112.0.0/20: the host routes 10.112.0.0/20 through device \"eth0\""), "{e}");
    }

    #[test]
    fn malformed_wishes_are_refused() {
        for name in ["", "-x", "a b", "a/b", "bridge", "host", "none", "default", "container", "tare0", "x:y"] {
            let e = define(&request(|r| r.name = name.into()), &facts(), &[], prefix()).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid, "{name}");
        }
        let given = |r: &mut NetworkRequest| r.subnets = vec![net("10.9.0.0/24")];
        let with = |change: fn(&mut NetworkRequest)| {
            refused(Kind::Invalid, |r| {
                given(r);
                change(r);
            })
        };
        assert!(with(|r| r.gateways = vec![ip("10.8.0.1")]).contains("gateway 10.8.0.1 is in none of its subnets"));
        assert!(with(|r| r.gateways = vec![ip("10.9.0.255")]).contains("broadcast address"));
        assert!(with(|r| r.gateways = vec![ip("10.9.0.1"), ip("10.9.0.2")]).contains("two gateways"));
        assert!(with(|r| r.ranges = vec![net("10.9.0.0/23").into()]).contains("range 10.9.0.0/23 is in none"));
        let elsewhere = with(|r| r.reserved = [("x".to_owned(), ip("10.7.0.1"))].into());
        assert!(elsewhere.contains("reserved address 10.7.0.1"), "{elsewhere}");
        assert!(
            with(|r| {
                r.gateways = vec![ip("10.9.0.1")];
                r.reserved.insert("x".into(), ip("10.9.0.1"));
            })
            .contains("reserved for \"x\"")
        );
        assert!(with(|r| r.ipv4 = Some(false)).contains("IPv4 is switched off"));
        assert!(with(option_mtu).contains("not from 1280 to 65535"));
        assert!(with(|r| r.device = Some("a/b".into())).contains("1 to 15 characters"));
        assert!(refused(Kind::Invalid, |r| r.gateways = vec![ip("10.9.0.1")]).contains("in none"));
        let two = refused(Kind::Unsupported, |r| r.subnets = vec![net("10.9.0.0/24"), net("10.8.0.0/24")]);
        assert!(two.contains("one of each family"), "{two}");
    }

    fn option_mtu(r: &mut NetworkRequest) {
        option("mtu", "1000")(r);
    }

    #[test]
    fn drivers_that_stand_on_a_device_of_the_host() {
        let on = |driver, change: fn(&mut NetworkRequest)| {
            move |r: &mut NetworkRequest| {
                r.driver = driver;
                r.parent = Some("eth0".into());
                change(r);
            }
        };
        // The parent's own network is what it is for: no conflict with the host's routes.
        let n = made(on(Driver::Macvlan, |r| r.subnets = vec![net("10.112.0.0/20")])).unwrap();
        assert_eq!((n.subnets.len(), n.device, n.mtu), (1, None, None));
        let n = made(on(Driver::Ipvlan, |r| r.subnets = vec![net("fd00:9::/64")])).unwrap();
        assert!(n.v4().is_none() && n.v6().is_some());
        assert_eq!(made(on(Driver::Macvlan, |_| {})).unwrap().subnets.len(), 1);
        assert!(made(on(Driver::Phys, |_| {})).unwrap().subnets.is_empty());
        let bridged = made(on(Driver::Bridge, |r| r.subnets = vec![net("10.112.0.0/20")])).unwrap();
        assert_eq!(bridged.parent.as_deref(), Some("eth0"));
        let internal = made(on(Driver::Macvlan, |r| r.internal = true)).unwrap();
        assert_eq!(internal.v4().unwrap().gateway, None);
        assert!(refused(Kind::Invalid, |r| r.driver = Driver::Macvlan).contains("needs a device of the host"));
        let missing = Facts { parent_exists: false, ..facts() };
        let e = define(&request(on(Driver::Phys, |_| {})), &missing, &[], prefix()).unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string().as_str()),
            (Kind::NotFound, "find device \"eth0\": the host has no such device")
        );
    }

    #[test]
    fn a_parent_is_shared_only_where_the_kernel_shares_it() {
        let with = |driver, mode: Option<&str>| Network {
            parent: Some("eth0".into()),
            mode: mode.map(str::to_owned),
            ..Network::new("first", "00", driver)
        };
        let second = |driver, there: Network| {
            let request = request(|r| {
                r.driver = driver;
                r.parent = Some("eth0".into());
            });
            define(&request, &facts(), &[there], prefix()).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(second(Driver::Macvlan, with(Driver::Macvlan, None)), Ok(()));
        assert_eq!(second(Driver::Ipvlan, with(Driver::Ipvlan, Some("l3"))), Ok(()));
        assert_eq!(
            second(Driver::Ipvlan, with(Driver::Macvlan, None)),
            Err("use device \"eth0\": network first (macvlan) has it".to_owned())
        );
        for there in [with(Driver::Bridge, None), with(Driver::Phys, None), with(Driver::Macvlan, Some("passthru"))] {
            assert!(second(Driver::Macvlan, there.clone()).is_err(), "{there:?}");
        }
        assert!(second(Driver::Phys, with(Driver::Phys, None)).is_err());
    }
}
