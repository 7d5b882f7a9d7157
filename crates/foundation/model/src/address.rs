//! Addresses of networks: an IP address with its prefix length, and hardware addresses.

use crate::error::Kind;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address with its prefix length, as in `10.112.0.1/20` or `fd00::1/64`; written that way in JSON.
///
/// The prefix is never longer than the address. Ordered by family, then address, then prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// 127.0.0.0/8.
    pub const LOOPBACK_V4: IpNet = IpNet { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };

    /// `address/prefix`; `None` when `prefix` is above 32, or 128 for IPv6. The host part is kept.
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        if prefix > width(address) { None } else { Some(IpNet { address, prefix }) }
    }

    /// The network of this one address: `/32` or `/128`.
    pub const fn host(address: IpAddr) -> Self {
        IpNet { address, prefix: width(address) }
    }

    /// The address as it was given, host part included.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the network part in bits: 0 to 32, or 128 for IPv6.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether this is IPv4.
    pub const fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether this is IPv6.
    pub const fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// The netmask.
    pub fn mask(self) -> IpAddr {
        address_of(!self.host_bits() & all_bits(self.address), self.address)
    }

    /// The network with a host part of zero.
    pub fn network(self) -> IpNet {
        IpNet { address: self.first(), ..self }
    }

    /// The first address: the network's own.
    pub fn first(self) -> IpAddr {
        address_of(number(self.address) & !self.host_bits(), self.address)
    }

    /// The last address: in IPv4 the broadcast address.
    pub fn last(self) -> IpAddr {
        address_of(number(self.address) | self.host_bits(), self.address)
    }

    /// The address `n` after the first one; `None` past the last.
    pub fn nth(self, n: u128) -> Option<IpAddr> {
        (n <= self.host_bits()).then(|| address_of(number(self.first()) + n, self.address))
    }

    /// The first and the last address as numbers: see [`number`].
    pub fn range(self) -> (u128, u128) {
        (number(self.first()), number(self.last()))
    }

    /// Whether `address` belongs to the network; never one of the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        address.is_ipv4() == self.is_ipv4() && (first..=last).contains(&number(address))
    }

    /// Whether all of `other` belongs to the network.
    pub fn includes(self, other: IpNet) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether the two networks share an address; never those of different families.
    pub fn overlaps(self, other: IpNet) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    /// The addresses that hosts may have. In IPv4 neither the network's own nor the broadcast address (RFC 3021: a /31
    /// has neither, a /32 is one host); in IPv6 all but the first one, which is every router's (RFC 4291, 2.6.1).
    pub fn hosts(self) -> impl Iterator<Item = IpAddr> {
        let (first, last) = self.range();
        let small = self.host_bits() <= 1;
        let from = if small { first } else { first + 1 };
        let to = if small || self.is_ipv6() { last } else { last - 1 };
        (from..=to).map(move |n| address_of(n, self.address))
    }

    /// The first address that a host may have: by custom the gateway's. `None` where a network has but one or two.
    pub fn first_host(self) -> Option<IpAddr> {
        if self.host_bits() <= 1 { None } else { self.nth(1) }
    }

    fn host_bits(self) -> u128 {
        let bits = u32::from(width(self.address) - self.prefix);
        1_u128.checked_shl(bits).map_or(u128::MAX, |n| n - 1)
    }
}

/// Addresses of one family that follow one another; as text `10.1.0.5-10.1.0.20`, or a network where they are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// From the first to the last; `None` if that is no range.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<AddressRange> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(AddressRange { first, last })
    }

    /// The first one.
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// The last one.
    pub const fn last(self) -> IpAddr {
        self.last
    }

    /// Whether all of it belongs to a network.
    pub fn is_in(self, net: IpNet) -> bool {
        net.contains(self.first) && net.contains(self.last)
    }

    fn as_net(self) -> Option<IpNet> {
        let same = (number(self.first) ^ number(self.last)).leading_zeros() as u8;
        let net = IpNet::new(self.first, same - (128 - width(self.first)))?;
        (AddressRange::from(net) == self).then_some(net)
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> AddressRange {
        AddressRange { first: net.first(), last: net.last() }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_net() {
            Some(net) => net.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains('/') {
            return text.parse().map(IpNet::into);
        }
        text.split_once('-').and_then(|(first, last)| Self::new(first.parse().ok()?, last.parse().ok()?)).ok_or_else(
            || {
                Error::new(Kind::Invalid, "parse range", format_args!("\"{text}\""))
                    .because("neither a network nor two addresses of one family, the lower one first")
                    .hint("write it as in 10.112.1.0/24 or 10.112.1.10-10.112.1.99")
            },
        )
    }
}

impl TryFrom<String> for AddressRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> String {
        range.to_string()
    }
}

/// Bits of an address of this family.
pub const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number: its octets, the first one the highest.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The address with this number in the family of `like`; a number that IPv4 has no room for loses its upper bits.
pub fn address_of(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

fn all_bits(like: IpAddr) -> u128 {
    if like.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(address, prefix)| {
                let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
                IpNet::new(address.parse().ok()?, prefix.parse().ok().filter(|_| digits)?)
            })
            .ok_or_else(|| {
                Error::new(Kind::Invalid, "parse network", format_args!("\"{text}\""))
                    .because("not an IP address with a prefix length")
                    .hint("write it as in 10.112.0.0/20 or fd12:3456:789a::/64")
            })
    }
}

impl TryFrom<String> for IpNet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<IpNet> for String {
    fn from(net: IpNet) -> String {
        net.to_string()
    }
}

/// A hardware address, written as in `02:74:0a:70:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The locally administered address that belongs to `address`.
    ///
    /// A function of the address, so that neighbours that still remember the last holder of a reused address are
    /// right at once. Of an IPv6 address the interface's half counts, folded to 4 octets.
    pub fn of(address: IpAddr) -> Self {
        let (kind, [a, b, c, d]) = match address {
            IpAddr::V4(v4) => (0x74, v4.octets()),
            IpAddr::V6(v6) => {
                let half = v6.to_bits() as u64;
                (0x76, ((half >> 32) as u32 ^ half as u32).to_be_bytes())
            }
        };
        MacAddress([0x02, kind, a, b, c, d])
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
        let mut parts = text.split([':', '-']);
        let mut octets = [0; 6];
        let read = octets.iter_mut().all(|octet| {
            let part = parts.next().filter(|p| p.len() <= 2).and_then(|p| u8::from_str_radix(p, 16).ok());
            part.inspect(|value| *octet = *value).is_some()
        });
        // The lowest bit of the first octet marks a group address, which no device may have; nor may it have none.
        if !read || parts.next().is_some() || octets[0] & 1 == 1 || octets == [0; 6] {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn arithmetic_of_networks() {
        let n = net("10.112.5.9/20");
        assert_eq!(n.network().to_string(), "10.112.0.0/20");
        assert_eq!((n.last(), n.mask()), (ip("10.112.15.255"), ip("255.255.240.0")));
        assert_eq!(n.hosts().count(), 4094);
        assert_eq!((n.first_host(), n.nth(4095), n.nth(4096)), (Some(ip("10.112.0.1")), Some(n.last()), None));
        assert_eq!(net("0.0.0.0/0").mask(), ip("0.0.0.0"));
        assert!(net("0.0.0.0/0").contains(ip("127.0.0.1")) && !net("0.0.0.0/0").contains(ip("::1")));
        assert!(net("::/0").contains(ip("::1")) && !net("::/0").contains(ip("0.0.0.1")));
        assert_eq!(net("1.2.3.4/32").hosts().collect::<Vec<_>>(), [ip("1.2.3.4")]);
        assert_eq!(net("1.2.3.4/31").hosts().count(), 2);
        assert_eq!((net("1.2.3.4/31").first_host(), net("1.2.3.4/32").first_host()), (None, None));
        assert!(net("10.0.0.0/8").overlaps(n) && n.overlaps(net("10.0.0.0/8")));
        assert!(!n.overlaps(net("10.112.16.0/20")) && !net("::/0").overlaps(n) && !n.overlaps(net("::/0")));
        assert!(net("10.0.0.0/8").includes(n) && !n.includes(net("10.0.0.0/8")) && n.includes(n));
        let six = net("fd00:0:0:1::9/64");
        assert_eq!((six.first(), six.last()), (ip("fd00:0:0:1::"), ip("fd00::1:ffff:ffff:ffff:ffff")));
        assert_eq!(six.hosts().next(), six.first_host());
        assert_eq!(six.mask(), ip("ffff:ffff:ffff:ffff::"));
        assert_eq!(net("::/0").last(), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "/8", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "::1", "x/1"] {
            let e = bad.parse::<IpNet>().unwrap_err();
            assert_eq!(e.first_hint(), Some("write it as in 10.112.0.0/20 or fd12:3456:789a::/64"), "{bad}");
        }
        assert_eq!(serde_json::to_string(&six).unwrap(), "\"fd00:0:0:1::9/64\"");
        assert_eq!(serde_json::from_str::<IpNet>("\"10.112.5.9/20\"").unwrap(), n);
        assert!(serde_json::from_str::<IpNet>("\"10.112.5.9/99\"").is_err());
    }

    #[test]
    fn hardware_addresses_are_read_and_written() {
        let mac = MacAddress::of(ip("10.112.0.2"));
        assert_eq!(mac.to_string(), "02:74:0a:70:00:02");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
        assert_eq!("02-74-0A-70-00-02".parse::<MacAddress>().unwrap(), mac);
        assert_eq!(MacAddress::of(ip("fd00::2")).to_string(), "02:76:00:00:00:02");
        let bad = ["", "02:74:0a:70:00", "02:74:0a:70:00:02:03", "03:00:00:00:00:01", "002:0:0:0:0:1", "x:0:0:0:0:1"];
        for bad in bad.into_iter().chain(["0:0:0:0:0:0"]) {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_networks_or_two_addresses() {
        for text in
            ["10.1.0.0/24", "10.1.0.5-10.1.0.20", "0.0.0.0/0", "10.1.0.7/32", "fd00::5-fd00::7", "fd00::/64", "::/0"]
        {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            assert_eq!(serde_json::from_str::<AddressRange>(&format!("\"{text}\"")).unwrap(), range);
        }
        assert_eq!("10.1.0.0-10.1.0.255".parse::<AddressRange>().unwrap().to_string(), "10.1.0.0/24");
        let range: AddressRange = "10.1.0.5-10.1.0.20".parse().unwrap();
        assert!(range.is_in("10.1.0.0/24".parse().unwrap()) && !range.is_in("10.1.0.0/28".parse().unwrap()));
        for bad in ["", "10.1.0.5", "10.1.0.9-10.1.0.5", "10.1.0.5-fd00::1", "10.1.0.5-", "10.1.0.0/33"] {
            assert_eq!(bad.parse::<AddressRange>().unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
