//! Addresses: networks, hardware addresses, and the choice of a subnet that nobody uses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use tare_model::{Error, Result, error::Kind};

/// An IPv4 address with its prefix length, as in `10.112.0.1/20`; written that way in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// `address/prefix`; `None` when `prefix` is above 32. The host part is kept.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 { None } else { Some(Ipv4Net { address, prefix }) }
    }

    /// The address as it was given, host part included.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The length of the network part in bits, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The network with a host part of zero.
    pub fn network(self) -> Ipv4Net {
        Ipv4Net { address: self.address & self.mask(), ..self }
    }

    /// The last address: the broadcast address of the network.
    pub fn last(self) -> Ipv4Addr {
        self.address | !self.mask()
    }

    /// Whether `address` belongs to the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network().address
    }

    /// Whether the two networks share an address.
    pub fn overlaps(self, other: Ipv4Net) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }

    /// The addresses that hosts may have: neither the network's own nor the broadcast address.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = (self.network().address.to_bits(), self.last().to_bits());
        (first.saturating_add(1)..last).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(address, prefix)| Ipv4Net::new(address.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| {
                Error::new(Kind::Invalid, "parse network", format_args!("\"{text}\""))
                    .because("not an IPv4 address with a prefix length")
                    .hint("write it as in 10.112.0.0/20")
            })
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(net: Ipv4Net) -> String {
        net.to_string()
    }
}

/// A hardware address, written as in `02:74:0a:70:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The locally administered address that belongs to `address`.
    ///
    /// A function of the address, so that neighbours that still remember the last holder of a reused address are
    /// right at once.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        MacAddress([0x02, 0x74, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let mut octets = [0; 6];
        let read = octets.iter_mut().all(|octet| {
            let part = parts.next().filter(|p| p.len() <= 2).and_then(|p| u8::from_str_radix(p, 16).ok());
            part.inspect(|value| *octet = *value).is_some()
        });
        // The lowest bit of the first octet marks a group address, which no device may have.
        if !read || parts.next().is_some() || octets[0] & 1 == 1 {
            return Err(Error::new(Kind::Invalid, "parse hardware address", format_args!("\"{text}\""))
                .because("not six octets of an individual address")
                .hint("write it as in 02:74:0a:70:00:02"));
        }
        Ok(MacAddress(octets))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

/// A network that the host knows a way to, and through which device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupied {
    /// The destination of the route, or an address of the host as a /32.
    pub network: Ipv4Net,
    /// The device of the route; empty for routes without one (blackhole).
    pub device: String,
}

/// The first candidate that overlaps none of the host's routes and addresses.
///
/// A default route occupies nothing. Fails with [`Kind::Exhausted`], naming the conflict of the first candidate.
pub fn choose_subnet(occupied: &[Occupied], candidates: &[Ipv4Net]) -> Result<Ipv4Net> {
    let conflict = |candidate: &Ipv4Net| {
        occupied.iter().find(|other| other.network.prefix > 0 && other.network.overlaps(*candidate))
    };
    if let Some(free) = candidates.iter().find(|candidate| conflict(candidate).is_none()) {
        return Ok(*free);
    }
    let error = Error::new(Kind::Exhausted, "choose subnet", "");
    Err(match candidates.first().and_then(|first| Some((first, conflict(first)?))) {
        Some((first, other)) => error.because(format_args!(
            "all {} candidates overlap routes of this host; {first} overlaps {} on device \"{}\"",
            candidates.len(),
            other.network,
            other.device
        )),
        None => error.because("there are no candidates"),
    }
    .hint("choose a subnet that no route of `ip route` overlaps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn occupied(list: &[&str]) -> Vec<Occupied> {
        list.iter().map(|n| Occupied { network: net(n), device: "eth7".into() }).collect()
    }

    #[test]
    fn arithmetic_of_networks() {
        let n = net("10.112.5.9/20");
        assert_eq!(n.network().to_string(), "10.112.0.0/20");
        assert_eq!(n.last(), Ipv4Addr::new(10, 112, 15, 255));
        assert_eq!(n.hosts().count(), 4094);
        assert_eq!(net("0.0.0.0/0").mask(), Ipv4Addr::UNSPECIFIED);
        assert!(net("0.0.0.0/0").contains(Ipv4Addr::LOCALHOST));
        assert_eq!(net("1.2.3.4/32").hosts().count(), 0);
        assert!(net("10.0.0.0/8").overlaps(n) && n.overlaps(net("10.0.0.0/8")));
        assert!(!n.overlaps(net("10.112.16.0/20")));
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_are_read_and_written() {
        let mac = MacAddress::of(Ipv4Addr::new(10, 112, 0, 2));
        assert_eq!(mac.to_string(), "02:74:0a:70:00:02");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
        for bad in ["", "02:74:0a:70:00", "02:74:0a:70:00:02:03", "03:00:00:00:00:01", "002:0:0:0:0:1", "x:0:0:0:0:1"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_free_subnet_is_chosen_and_a_conflict_is_named() {
        let candidates = [net("10.112.0.0/20"), net("10.112.16.0/20")];
        assert_eq!(choose_subnet(&occupied(&["0.0.0.0/0", "10.112.1.0/24"]), &candidates).unwrap(), candidates[1]);
        let e = choose_subnet(&occupied(&["10.0.0.0/8"]), &candidates).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted);
        assert_eq!(
            e.to_string(),
            "choose subnet: all 2 candidates overlap routes of this host; \
             10.112.0.0/20 overlaps 10.0.0.0/8 on device \"eth7\""
        );
        assert_eq!(e.first_hint(), Some("choose a subnet that no route of `ip route` overlaps"));
    }
}
