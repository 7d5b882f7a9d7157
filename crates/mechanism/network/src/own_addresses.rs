//! The host's own addresses: where a published port may be asked for.

use crate::Host;
use crate::channel::Request;
use crate::message::{array, find, u32_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tare_model::Result;

const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `RT_SCOPE_UNIVERSE`, `RT_SCOPE_SITE`: addresses with which others can do something.
const SCOPES: [u8; 2] = [0, 200];

impl Host {
    /// The host's addresses that are valid beyond one link, each with the name of its device.
    pub fn own_addresses(&mut self) -> Result<Vec<(String, IpAddr)>> {
        let links = self.route.links(None)?;
        let request = Request {
            kind: RTM_GETADDR,
            flags: 0,
            // struct ifaddrmsg: family, prefix length, flags, scope, index; 0 for all families
            header: &[0; 8],
            step: "list addresses",
            object: "",
            fine: &[],
        };
        let answers = self.route.dump(&request, |_| {})?;
        let named = answers.messages().filter_map(|message| {
            let (index, address) = parse(message.body)?;
            Some((links.iter().find(|link| link.index == index)?.name.clone(), address))
        });
        Ok(named.collect())
    }
}

/// Device and address of a `RTM_NEWADDR` message.
pub(crate) fn parse(body: &[u8]) -> Option<(u32, IpAddr)> {
    let [family, _, _, scope] = array(body, 0)?;
    if !SCOPES.contains(&scope) {
        return None;
    }
    let attributes = body.get(8..)?;
    // Of a point-to-point device the other one is the peer's.
    let value = find(attributes, IFA_LOCAL).or_else(|| find(attributes, IFA_ADDRESS))?;
    let address = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from(array::<4>(value, 0)?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(array::<16>(value, 0)?)),
        _ => return None,
    };
    Some((u32_of(body.get(4..)?)?, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{command, in_new_namespace};

    #[test]
    fn addresses_of_both_families_come_with_their_devices_and_loopback_does_not() {
        in_new_namespace(|_| {
            command(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
            command(&["ip", "link", "set", "up0", "up"]);
            command(&["ip", "address", "add", "192.0.2.1/24", "dev", "up0"]);
            command(&["ip", "address", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "up1"]);
            command(&["ip", "address", "add", "2001:db8::1/64", "dev", "up0", "nodad"]);
            let mut found = Host::open().unwrap().own_addresses().unwrap();
            found.sort();
            let said: Vec<_> = found.iter().map(|(device, address)| format!("{device} {address}")).collect();
            assert_eq!(said, ["up0 192.0.2.1", "up0 2001:db8::1", "up1 198.51.100.1"]);
        });
    }

    #[test]
    fn malformed_answers_are_passed_over() {
        let mut body = vec![AF_INET, 24, 0, 0, 7, 0, 0, 0, 8, 0, IFA_LOCAL as u8, 0, 192, 0, 2, 1];
        assert_eq!(parse(&body), Some((u32::from_ne_bytes([7, 0, 0, 0]), [192, 0, 2, 1].into())));
        assert!((0..body.len()).all(|cut| parse(&body[..cut]).is_none()));
        body[0] = AF_INET6;
        assert_eq!(parse(&body), None);
    }
}
