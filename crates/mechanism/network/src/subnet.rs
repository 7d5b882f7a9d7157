//! The choice of a subnet that nobody uses.

use serde::{Deserialize, Serialize};
use tare_model::address::IpNet;
use tare_model::{Error, Result, error::Kind};

/// A network that the host knows a way to, and through which device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupied {
    /// The destination of the route, or an address of the host as a /32 or /128.
    pub network: IpNet,
    /// The device of the route; empty for routes without one (blackhole).
    pub device: String,
}

/// The first candidate that overlaps none of the host's routes and addresses.
///
/// A default route occupies nothing. Fails with [`Kind::Exhausted`], naming the conflict of the first candidate.
pub fn choose_subnet(occupied: &[Occupied], candidates: &[IpNet]) -> Result<IpNet> {
    let conflict = |candidate: &IpNet| {
        occupied.iter().find(|other| other.network.prefix() > 0 && other.network.overlaps(*candidate))
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

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn occupied(list: &[&str]) -> Vec<Occupied> {
        list.iter().map(|n| Occupied { network: net(n), device: "eth7".into() }).collect()
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
