//! The network of one root: names and numbers that no other root has.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tare_model::address::IpNet;
use tare_model::{Error, Result, error::Kind};

/// The root whose bridge has the plain name.
const DEFAULT_ROOT: &str = "/var/lib/tare";

/// The default network of one root, as kept in its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The bridge device: `tare0`, or `tare-XXXXXX` for other roots than the default.
    pub bridge: String,
    /// The nftables table (family inet): `tare`, or as the bridge.
    pub table: String,
    /// The network; its host part is zero.
    pub subnet: IpNet,
    /// The host's address on the bridge.
    pub gateway: Ipv4Addr,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

impl Instance {
    /// The network of the root at `root` (absolute, without links), with the first host address as gateway.
    pub fn new(root: &Path, subnet: IpNet, mtu: u32) -> Result<Self> {
        let gateway = subnet.first_host().filter(|_| subnet.prefix() <= 29).and_then(v4).ok_or_else(|| {
            Error::new(Kind::Invalid, "plan network", subnet)
                .because("too small for a gateway and containers")
                .hint("use a prefix length of at most 29")
        })?;
        let (bridge, table) = Instance::names(root);
        Ok(Instance { bridge, table, subnet: subnet.network(), gateway, mtu })
    }

    /// The bridge's and the table's name of the root at `root`: what else belongs to one root is named likewise.
    pub fn names(root: &Path) -> (String, String) {
        if root == Path::new(DEFAULT_ROOT) {
            return ("tare0".to_owned(), "tare".to_owned());
        }
        let name = format!("tare-{}", base32(hash(root), 6));
        (name.clone(), name)
    }
}

/// The subnets to try for the root at `root`, best first.
///
/// A bridge holds at most 1,023 ports (`BR_MAX_PORTS`), so a /20 is never the limit. Each root begins at another place,
/// because a root's subnet shows in the host's routes only while its bridge exists.
pub fn subnet_candidates(root: &Path) -> Vec<IpNet> {
    let pools = [Ipv4Addr::new(10, 112, 0, 0), Ipv4Addr::new(172, 16, 0, 0)];
    let start = if root == Path::new(DEFAULT_ROOT) { 0 } else { hash(root) % 256 };
    let nets = pools.iter().flat_map(|pool| {
        (0..256_u32).map(move |i| pool.to_bits() | (((i + start as u32) % 256) << 12)).map(Ipv4Addr::from_bits)
    });
    nets.filter_map(|address| IpNet::new(address.into(), 20)).collect()
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(v4) = address { Some(v4) } else { None }
}

/// FNV-1a, 64 bits: names must stay the same in every later version, which std's hashers do not promise.
fn hash(root: &Path) -> u64 {
    let bytes = root.as_os_str().as_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The low `length` × 5 bits of `value` as lower-case letters and digits.
pub(crate) fn base32(value: u64, length: u32) -> String {
    let digit = |i| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(value >> (5 * i)) as usize & 31]);
    (0..length).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_root() {
        let net = "10.112.0.0/20".parse().unwrap();
        let default = Instance::new(Path::new("/var/lib/tare"), net, 1500).unwrap();
        assert_eq!((default.bridge.as_str(), default.table.as_str()), ("tare0", "tare"));
        assert_eq!(default.gateway, Ipv4Addr::new(10, 112, 0, 1));
        let a = Instance::new(Path::new("/srv/a"), net, 1500).unwrap();
        let b = Instance::new(Path::new("/srv/b"), net, 1500).unwrap();
        assert_ne!(a.bridge, b.bridge);
        assert_eq!(a, Instance::new(Path::new("/srv/a"), net, 1500).unwrap());
        assert!(a.bridge.len() < 16 && a.bridge.starts_with("tare-"));
        let e = Instance::new(Path::new("/x"), "10.0.0.0/30".parse().unwrap(), 1500).unwrap_err();
        assert_eq!(e.first_hint(), Some("use a prefix length of at most 29"));
    }

    #[test]
    fn candidates_are_all_private_and_different() {
        for root in ["/var/lib/tare", "/srv/a"] {
            let all = subnet_candidates(Path::new(root));
            assert_eq!(all.len(), 512);
            assert!(all.iter().all(|n| v4(n.address()).unwrap().is_private() && n.network() == *n));
            assert!(all.iter().enumerate().all(|(i, a)| all[i + 1..].iter().all(|b| !a.overlaps(*b))));
        }
        assert_eq!(subnet_candidates(Path::new("/var/lib/tare"))[0].to_string(), "10.112.0.0/20");
    }
}
