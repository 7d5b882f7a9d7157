//! Who reaches whom: networks of every kind, both families, with and without br_netfilter.

use super::*;
use std::net::Ipv6Addr;

/// A host with an outside machine and networks that the tests name.
struct Site3 {
    lab: Lab,
    outside6: Ipv6Addr,
    token: u64,
}

struct Member {
    netns: OwnedFd,
    v4: IpAddr,
    v6: IpAddr,
    endpoint: Endpoint,
}
