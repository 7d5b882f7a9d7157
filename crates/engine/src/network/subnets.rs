//! Subnets that nobody else uses: of the host's routes and of all networks of this root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_model::address::IpNet;
use tare_model::network::Network;
use tare_model::{Error, Kind, Result};
use tare_network::Occupied;

/// Bits of the subnet that a network gets of the root's IPv6 prefix.
const V6_BITS: u8 = 64;

/// What means something else to every host: this one, itself, groups, all; a link, and IPv4 written as IPv6, which would
/// be spoken where such an address is asked for.
const SPECIAL: [(IpAddr, u8); 8] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 96),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// Who has a part of a subnet already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    what: String,
    hint: &'static str,
}

/// What is taken, as far as it matters to one new network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken<'a> {
    /// The host's routes and addresses; none for networks that stand on the host's own.
    pub(crate) occupied: &'a [Occupied],
    /// All networks of this root.
    pub(crate) networks: &'a [Network],
    /// A device whose routes do not count: the bridge's own port.
    pub(crate) parent: Option<&'a str>,
}

impl Taken<'_> {
    /// Who has a part of `net`.
    pub(crate) fn conflict(&self, net: IpNet) -> Option<Conflict> {
        let named = self.networks.iter().find_map(|n| Some((n, n.subnets.iter().find(|s| s.net.overlaps(net))?)));
        if let Some((network, subnet)) = named {
            let what = format!("network {} has {}", network.name, subnet.net);
            return Some(Conflict { what, hint: "choose another subnet, or leave it out to have a free one chosen" });
        }
        // The routes of our own bridges say what their networks' definitions have said already.
        let ours = |device: &str| self.networks.iter().any(|n| n.device.as_deref() == Some(device));
        let route = self.occupied.iter().find(|o| {
            o.network.prefix() > 0
                && o.network.overlaps(net)
                && !ours(&o.device)
                && (o.device.is_empty() || Some(o.device.as_str()) != self.parent)
        })?;
        let what = match route.device.as_str() {
            "" => format!("the host has a route for {}, to nowhere", route.network),
            device => format!("the host routes {} through device \"{device}\"", route.network),
        };
        Some(Conflict { what, hint: "choose another subnet, or leave it out to have a free one chosen" })
    }

    /// Refuses a subnet of which somebody has a part.
    pub(crate) fn check(&self, net: IpNet) -> Result<()> {
        match self.conflict(net) {
            Some(conflict) => {
                Err(Error::new(Kind::InUse, "use subnet", net).because(conflict.what).hint(conflict.hint))
            }
            None => Ok(()),
        }
    }

    /// The first of these that is free.
    pub(crate) fn choose(&self, candidates: impl IntoIterator<Item = IpNet>) -> Result<IpNet> {
        let mut first = None;
        let mut count = 0;
        for net in candidates {
            match self.conflict(net) {
                None => return Ok(net),
                Some(conflict) => drop(first.get_or_insert((net, conflict))),
            }
            count += 1;
        }
        let why = first.map_or_else(
            || "there is nothing to choose from".to_owned(),
            |(net, conflict)| format!("all {count} that could be chosen are taken; of {net}: {}", conflict.what),
        );
        Err(Error::new(Kind::Exhausted, "choose subnet", "").because(why).hint(
            "remove networks that are not needed (tare network prune), or name a subnet that no route of `ip route` has",
        ))
    }
}

/// The subnets of a root's IPv6 prefix, in order.
pub(crate) fn of_prefix(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let count = 1_u128 << V6_BITS.saturating_sub(prefix.prefix()).min(32);
    (0..count).filter_map(move |i| IpNet::new(prefix.nth(i << (128 - V6_BITS))?, V6_BITS))
}

/// A subnet that was given: refuses what cannot be one.
pub(crate) fn check_given(net: IpNet) -> Result<()> {
    let refuse = |why: &str| Error::new(Kind::Invalid, "use subnet", net).because(why);
    if net.address() != net.first() {
        let right = net.network();
        return Err(refuse("it has a host part").hint(format!("the network that it belongs to is {right}")));
    }
    if let Some(special) = SPECIAL.iter().filter_map(|(a, p)| IpNet::new(*a, *p)).find(|s| s.overlaps(net)) {
        return Err(refuse(&format!("addresses of {special} are not for networks")));
    }
    // A /31 has room for two (RFC 3021), but then a gateway leaves one.
    if net.first_host().is_none() {
        return Err(refuse("it is too small for a gateway and a container"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn route(text: &str, device: &str) -> Occupied {
        Occupied { network: net(text), device: device.to_owned() }
    }

    #[test]
    fn conflicts_name_the_network_or_the_route() {
        let networks = [network("back", &["10.5.0.0/16", "fd00:5::/64"])];
        let device = networks[0].device.clone().unwrap();
        let occupied = [
            route("0.0.0.0/0", "eth0"),
            route("192.168.0.0/24", "eth0"),
            route("172.16.0.0/12", ""),
            route("10.5.0.0/16", &device),
            route("fe80::/64", "eth0"),
        ];
        let taken = Taken { occupied: &occupied, networks: &networks, parent: None };
        let why = |text: &str| taken.check(net(text)).map_err(|e| (e.kind(), e.to_string()));
        let in_use = |text: &str| Err((Kind::InUse, text.to_owned()));
        assert_eq!(why("10.5.7.0/24"), in_use("use subnet 10.5.7.0/24: network back has 10.5.0.0/16"));
        assert_eq!(why("fd00::/16"), in_use("use subnet fd00::/16: network back has fd00:5::/64"));
        assert_eq!(
            why("192.168.0.128/25"),
            in_use("use subnet 192.168.0.128/25: the host routes 192.168.0.0/24 through device \"eth0\"")
        );
        assert_eq!(
            why("172.20.0.0/16"),
            in_use("use subnet 172.20.0.0/16: the host has a route for 172.16.0.0/12, to nowhere")
        );
        assert_eq!(why("10.6.0.0/16"), Ok(()));
        // What is bridged with a device of the host has that one's addresses on purpose.
        let bridged = Taken { parent: Some("eth0"), ..taken };
        assert_eq!(bridged.check(net("192.168.0.0/24")), Ok(()));
    }

    #[test]
    fn the_first_free_one_is_chosen_and_exhaustion_names_a_conflict() {
        let networks = [network("a", &["10.112.0.0/20", "fd00:1:2::/64"])];
        let occupied = [route("10.112.16.0/24", "tun0")];
        let taken = Taken { occupied: &occupied, networks: &networks, parent: None };
        let candidates = [net("10.112.0.0/20"), net("10.112.16.0/20"), net("10.112.32.0/20")];
        assert_eq!(taken.choose(candidates).unwrap(), candidates[2]);
        let e = taken.choose(candidates[..2].to_vec()).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted);
        assert!(e.to_string().ends_with("taken; of 10.112.0.0/20: network a has 10.112.0.0/20"), "{e}");
        assert!(e.first_hint().unwrap().contains("tare network prune"));
        assert_eq!(taken.choose(of_prefix(net("fd00:1:2::/48"))).unwrap(), net("fd00:1:2:1::/64"));
        assert_eq!(of_prefix(net("fd00:1:2::/48")).count(), 65_536);
        assert_eq!(of_prefix(net("fd00:1:2:3::/64")).count(), 1);
    }

    #[test]
    fn given_subnets_are_networks_for_hosts() {
        let e = check_given(net("10.1.2.3/16")).unwrap_err();
        assert_eq!(e.first_hint(), Some("the network that it belongs to is 10.1.0.0/16"));
        for bad in [
            "127.0.0.0/24",
            "0.0.0.0/0",
            "224.0.0.0/8",
            "128.0.0.0/1",
            "255.255.255.0/24",
            "::1:0/112",
            "::ffff:10.0.0.0/104",
            "fe00::/7",
            "8000::/1",
            "10.0.0.0/31",
            "10.0.0.1/32",
            "ff02::/64",
            "fe80::/64",
            "::/0",
            "fd00::1/128",
        ] {
            assert_eq!(check_given(net(bad)).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        for good in ["10.0.0.0/30", "192.0.2.0/24", "169.254.0.0/16", "fd00::/64", "2001:db8::/120"] {
            check_given(net(good)).unwrap();
        }
    }
}
