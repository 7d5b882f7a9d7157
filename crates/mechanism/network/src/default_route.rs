//! The default routes of a container that is connected already: led through another network when one comes or goes.

use crate::channel::{Batch, Channel, Request};
use crate::device::{Device, Link};
use crate::host::missing;
use crate::message::CREATE;
use crate::{Endpoint, EndpointKind, Host};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::net::IpAddr;
use tare_kernel::netlink::Protocol;
use tare_model::Result;

/// `NLM_F_REPLACE`
const REPLACE: u16 = 0x100;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

impl Host {
    /// Leads the default route of one family through an endpoint of the namespace `netns`, away from wherever it led: in
    /// one step, so that there is no moment without a way out.
    pub fn lead_out(&mut self, netns: BorrowedFd<'_>, endpoint: &Endpoint, gateway: IpAddr) -> Result<()> {
        let name = endpoint.interface.as_str();
        let mut inside = Channel::open(Protocol::Route, Some(netns))?;
        let mut batch = inside.batch();
        batch.get_link(Device::Name(name), &[]);
        let found = inside.transact(&batch)?.messages().find_map(|m| Link::parse(&m));
        let index = found.map(|link| link.index).ok_or_else(|| missing(name))?;
        // The other side of a routing ipvlan is the host's device, which has no address there.
        let direct = matches!(&endpoint.kind, EndpointKind::Ipvlan { mode, .. } if mode.routes());
        let mut batch = inside.batch();
        batch.replace_default_route(index, name, gateway, endpoint.metric, direct);
        inside.transact(&batch).map(drop)
    }

    /// Takes the default route of one family out of the namespace `netns`; fine if there is none.
    pub fn lead_nowhere(&mut self, netns: BorrowedFd<'_>, six: bool) -> Result<()> {
        let mut inside = Channel::open(Protocol::Route, Some(netns))?;
        let mut batch = inside.batch();
        batch.delete_default_route(six);
        inside.transact(&batch).map(drop)
    }
}

impl Batch {
    /// Replaces the default route of `gateway`'s family. `direct`: it leads to the device itself.
    fn replace_default_route(&mut self, index: u32, name: &str, gateway: IpAddr, metric: u32, direct: bool) {
        let scope = if direct { RT_SCOPE_LINK } else { 0 };
        self.add(
            &Request {
                kind: RTM_NEWROUTE,
                flags: CREATE | REPLACE,
                header: &[
                    family(gateway.is_ipv6()),
                    0,
                    0,
                    0,
                    RT_TABLE_MAIN,
                    RTPROT_BOOT,
                    scope,
                    RTN_UNICAST,
                    0,
                    0,
                    0,
                    0,
                ],
                step: "lead default route through device",
                object: name,
                fine: &[],
            },
            |a| {
                match gateway {
                    _ if direct => {}
                    IpAddr::V4(v4) => a.bytes(RTA_GATEWAY, &v4.octets()),
                    IpAddr::V6(v6) => a.bytes(RTA_GATEWAY, &v6.octets()),
                }
                a.u32(RTA_OIF, index);
                if metric != 0 {
                    a.u32(RTA_PRIORITY, metric);
                }
            },
        );
    }

    fn delete_default_route(&mut self, six: bool) {
        self.add(
            &Request {
                kind: RTM_DELROUTE,
                flags: 0,
                header: &[family(six), 0, 0, 0, RT_TABLE_MAIN, 0, RT_SCOPE_NOWHERE, 0, 0, 0, 0, 0],
                step: "delete default route",
                object: "",
                fine: &[Errno::SRCH],
            },
            |_| {},
        );
    }
}

fn family(six: bool) -> u8 {
    if six { 10 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{command, in_new_namespace};
    use std::os::fd::AsFd;

    fn endpoint(interface: &str) -> Endpoint {
        let site = crate::Site::of(std::path::Path::new("/srv/a"));
        let mut network = tare_model::network::Network::new("a", "00", tare_model::network::Driver::Bridge);
        network.device = Some("br0".to_owned());
        let plan = crate::EndpointPlan::of(&site, &network, 1, &[]).unwrap();
        Endpoint { interface: interface.to_owned(), ..plan.endpoint() }
    }

    #[test]
    fn the_default_routes_lead_through_one_network_after_another() {
        in_new_namespace(|netns| {
            for (device, v4, v6) in [("one", "10.1.0.2/24", "fd01::2/64"), ("two", "10.2.0.2/24", "fd02::2/64")] {
                command(&["ip", "link", "add", device, "type", "veth", "peer", "name", &format!("{device}x")]);
                command(&["ip", "address", "add", v4, "dev", device]);
                command(&["ip", "address", "add", v6, "dev", device, "nodad"]);
                command(&["ip", "link", "set", device, "up"]);
                command(&["ip", "link", "set", &format!("{device}x"), "up"]);
            }
            command(&["ip", "route", "add", "default", "via", "10.1.0.1"]);
            command(&["ip", "-6", "route", "add", "default", "via", "fd01::1"]);
            let defaults = || {
                command(&["ip", "-4", "-o", "route", "show", "default"])
                    + &command(&["ip", "-6", "-o", "route", "show", "default"])
            };
            let mut host = Host::open().unwrap();
            for gateway in ["10.2.0.1", "fd02::1", "10.2.0.1", "fd02::1"] {
                host.lead_out(netns.as_fd(), &endpoint("two"), gateway.parse().unwrap()).unwrap();
            }
            let there = defaults();
            assert_eq!(there.lines().count(), 2, "{there}");
            assert!(there.contains("via 10.2.0.1 dev two") && there.contains("via fd02::1 dev two"), "{there}");
            host.lead_nowhere(netns.as_fd(), false).unwrap();
            host.lead_nowhere(netns.as_fd(), false).unwrap();
            assert!(!defaults().contains("10.2.0.1") && defaults().contains("fd02::1"), "{}", defaults());
            host.lead_nowhere(netns.as_fd(), true).unwrap();
            assert_eq!(defaults(), "");
            // It comes where none was, too.
            host.lead_out(netns.as_fd(), &endpoint("one"), "10.1.0.1".parse().unwrap()).unwrap();
            assert!(defaults().contains("via 10.1.0.1 dev one"), "{}", defaults());
        });
    }
}
