//! Networks for tests.

use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};

/// A bridge with these subnets, each with its first host as gateway.
pub(crate) fn network(name: &str, subnets: &[&str]) -> Network {
    let subnet = |text: &&str| {
        let net: IpNet = text.parse().unwrap();
        Subnet { net, gateway: net.first_host(), range: None, reserved: Vec::new() }
    };
    Network {
        device: Some(format!("tn-{name}")),
        subnets: subnets.iter().map(subnet).collect(),
        mtu: Some(1500),
        ..Network::new(
            name,
            &format!("{:0<64}", name.bytes().map(|b| format!("{b:x}")).collect::<String>()),
            Driver::Bridge,
        )
    }
}
