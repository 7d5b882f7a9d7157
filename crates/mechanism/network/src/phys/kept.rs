//! Addresses and routes of a device as the kernel told them, to be set again: on the host as they were, or in a container.
//!
//! Kept as the kernel's own messages, so that nothing of them is lost that this program has no word for.

use crate::channel::{Channel, Request};
use crate::message::{AttributesOf, Message, array, find, u32_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tare_kernel::netlink::kept::{self, Again, Place, RTM_NEWADDR};
use tare_model::Result;

const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_RA: u8 = 9;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;

/// An address or a route: the body of its netlink message. In JSON hexadecimal, after `a` or `r`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    is_route: bool,
    body: Vec<u8>,
}

impl Kept {
    /// The message that sets it on device `index`, `passed` seconds after it was read; `None` if it has run out or is of no
    /// use there.
    pub(super) fn message(&self, index: u32, passed: u64, place: Place) -> Option<Again> {
        if self.is_route { self.route(index, place) } else { kept::address_again(&self.body, index, passed, place) }
    }

    fn route(&self, index: u32, place: Place) -> Option<Again> {
        const MAIN: u8 = 254;
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let mut header = self.body.get(..12)?.to_vec();
        if place == Place::Away && header[4] != MAIN {
            return None;
        }
        let flags = u32_of(&header[8..])? & RTNH_F_ONLINK;
        header[8..].copy_from_slice(&flags.to_ne_bytes());
        let attributes = AttributesOf(self.body.get(12..)?).filter(|(kind, _)| *kind != RTA_CACHEINFO);
        let attributes = attributes.map(|(kind, value)| match kind {
            RTA_OIF => (kind, index.to_ne_bytes().to_vec()),
            _ => (kind, value.to_vec()),
        });
        Some(Again { kind: RTM_NEWROUTE, header, attributes: attributes.collect() })
    }

    fn reaches_through_a_gateway(&self) -> bool {
        let attributes = self.body.get(12..).unwrap_or_default();
        find(attributes, RTA_GATEWAY).or_else(|| find(attributes, RTA_VIA)).is_some()
    }

    fn read_address(message: &Message<'_>, index: u32) -> Option<Kept> {
        let family = *message.body.first()?;
        if message.kind != RTM_NEWADDR || kept::device_of_address(message.body)? != index {
            return None;
        }
        // IPv6 addresses with a lifetime come from advertisements, as they will again.
        let permanent = kept::is_permanent(message.body)?;
        (permanent || family == AF_INET).then(|| Kept { is_route: false, body: message.body.to_vec() })
    }

    fn read_route(message: &Message<'_>, index: u32) -> Option<Kept> {
        let [family, _, _, _, _, protocol, _, kind] = array(message.body, 0)?;
        let flags = u32_of(message.body.get(8..)?)?;
        let attributes = message.body.get(12..)?;
        let ours = find(attributes, RTA_OIF).and_then(u32_of) == Some(index);
        // One over several devices is not this device's alone; the kernel keeps it, without this device.
        let shared = find(attributes, RTA_MULTIPATH).or_else(|| find(attributes, RTA_NH_ID)).is_some();
        let made_by_itself = matches!(protocol, RTPROT_KERNEL | RTPROT_RA) || flags & RTM_F_CLONED != 0;
        let wanted = message.kind == RTM_NEWROUTE
            && matches!(family, AF_INET | AF_INET6)
            && kind == RTN_UNICAST
            && ours
            && !shared
            && !made_by_itself;
        wanted.then(|| Kept { is_route: true, body: message.body.to_vec() })
    }
}

/// All addresses and routes of a device; routes that others need to be reached first.
pub(super) fn of_device(host: &mut Channel, index: u32) -> Result<(Vec<Kept>, Vec<Kept>)> {
    let mut header = [0; 8];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let request =
        Request { kind: RTM_GETADDR, flags: 0, header: &header, step: "list addresses", object: "", fine: &[] };
    let addresses = host.dump(&request, |_| {})?.messages().filter_map(|m| Kept::read_address(&m, index)).collect();
    let request = Request { kind: RTM_GETROUTE, header: &[0; 12], step: "list routes", ..request };
    let mut routes: Vec<Kept> =
        host.dump(&request, |_| {})?.messages().filter_map(|m| Kept::read_route(&m, index)).collect();
    routes.sort_by_key(Kept::reaches_through_a_gateway);
    Ok((addresses, routes))
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::from(if self.is_route { "r" } else { "a" });
        for byte in &self.body {
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("expected a or r, and hexadecimal digits");
        let (is_route, digits) = match text.split_at_checked(1) {
            Some(("a", digits)) => (false, digits),
            Some(("r", digits)) => (true, digits),
            _ => return Err(wrong()),
        };
        let pair = |i: usize| digits.get(i..i + 2).and_then(|d| u8::from_str_radix(d, 16).ok()).ok_or_else(wrong);
        let body = (0..digits.len()).step_by(2).map(pair).collect::<std::result::Result<_, _>>()?;
        Ok(Kept { is_route, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_byte_and_wrong_text_is_refused() {
        let kept = Kept { is_route: false, body: vec![AF_INET, 24, 0, 0, 7, 0, 0, 255] };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(text, "\"a02180000070000ff\"");
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        for wrong in ["\"\"", "\"x00\"", "\"a0\"", "\"a0é\"", "\"rzz\""] {
            assert!(serde_json::from_str::<Kept>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shortened_routes_never_panic() {
        // struct rtmsg and a gateway.
        let whole = [2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, 1];
        for cut in 0..whole.len() {
            let kept = Kept { is_route: true, body: whole[..cut].to_vec() };
            let _ = (kept.message(1, 0, Place::Home), kept.reaches_through_a_gateway());
        }
    }
}
