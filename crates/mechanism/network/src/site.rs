//! The names and numbers of one root that no other root has.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tare_model::address::IpNet;

/// The root whose bridge has the plain name.
const DEFAULT_ROOT: &str = "/var/lib/tare";

/// What one root's networks are called in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The nftables table (family inet): `tare`, or `tare-XXXXXX` for other roots than the default. Whatever else
    /// belongs to one root is named likewise.
    pub table: String,
    /// The default network's bridge device: `tare0`, or as the table.
    pub bridge: String,
}

impl Site {
    /// The names of the root at `root` (absolute, without links).
    pub fn of(root: &Path) -> Site {
        if root == Path::new(DEFAULT_ROOT) {
            return Site { table: "tare".to_owned(), bridge: "tare0".to_owned() };
        }
        let name = format!("tare-{}", base32(hash(root.as_os_str().as_bytes()), 6));
        Site { table: name.clone(), bridge: name }
    }
}

/// The bridge device of the further network with this id: `tn-` and 10 letters and digits.
pub fn bridge_name(id: &str) -> String {
    format!("tn-{}", base32(hash(id.as_bytes()), 10))
}

/// What a bridge that is about to be deleted is called meanwhile, so that its name is free at once: `tx-` and 10 letters
/// and digits.
pub(crate) fn aside_name(bridge: &str) -> String {
    format!("tx-{}", base32(hash(bridge.as_bytes()), 10))
}

/// The host's end of a veth pair, from a random token: `tv` and 12 letters and digits.
///
/// Never used twice: the old one disappears some 15 ms after its namespace.
pub fn link_name(token: u64) -> String {
    format!("tv{}", base32(token, 12))
}

/// The IPv4 subnets to try for the root at `root`, best first.
///
/// A bridge holds at most 1,023 ports (`BR_MAX_PORTS`), so a /20 is never the limit. Each root begins at another place,
/// because a root's subnet shows in the host's routes only while its bridge exists.
pub fn subnet_candidates(root: &Path) -> Vec<IpNet> {
    let pools = [Ipv4Addr::new(10, 112, 0, 0), Ipv4Addr::new(172, 16, 0, 0)];
    let start = if root == Path::new(DEFAULT_ROOT) { 0 } else { hash(root.as_os_str().as_bytes()) % 256 };
    let nets = pools.iter().flat_map(|pool| {
        (0..256_u32).map(move |i| pool.to_bits() | (((i + start as u32) % 256) << 12)).map(Ipv4Addr::from_bits)
    });
    nets.filter_map(|address| IpNet::new(address.into(), 20)).collect()
}

/// FNV-1a, 64 bits: names must stay the same in every later version, which std's hashers do not promise.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The low `length` × 5 bits of `value` as lower-case letters and digits.
fn base32(value: u64, length: u32) -> String {
    let digit = |i| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(value >> (5 * i)) as usize & 31]);
    (0..length).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn names_follow_from_the_root() {
        let default = Site::of(Path::new("/var/lib/tare"));
        assert_eq!((default.bridge.as_str(), default.table.as_str()), ("tare0", "tare"));
        let a = Site::of(Path::new("/srv/a"));
        assert_ne!(a.bridge, Site::of(Path::new("/srv/b")).bridge);
        assert_eq!(a, Site::of(Path::new("/srv/a")));
        assert!(a.bridge.len() < 16 && a.bridge.starts_with("tare-"));
        assert_eq!((bridge_name("00").len(), link_name(u64::MAX).len()), (13, 14));
        assert_ne!(bridge_name("00"), bridge_name("01"));
    }

    #[test]
    fn candidates_are_all_private_and_different() {
        for root in ["/var/lib/tare", "/srv/a"] {
            let all = subnet_candidates(Path::new(root));
            assert_eq!(all.len(), 512);
            let private = |n: &IpNet| matches!(n.address(), IpAddr::V4(a) if a.is_private());
            assert!(all.iter().all(|n| private(n) && n.network() == *n));
            assert!(all.iter().enumerate().all(|(i, a)| all[i + 1..].iter().all(|b| !a.overlaps(*b))));
        }
        assert_eq!(subnet_candidates(Path::new("/var/lib/tare"))[0].to_string(), "10.112.0.0/20");
    }
}
