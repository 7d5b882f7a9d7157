//! Addresses and routes of a device as the kernel told them, to be set again: on the host as they were, or in a container.
//!
//! Kept as the kernel's own messages, so that nothing of them is lost that this program has no word for.

use crate::channel::{Channel, Request};
use crate::message::{AttributesOf, Message, array, find, u32_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tare_model::Result;

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// No duplicate detection, no route to the prefix, joined with multicast: what an address was made with. The other flags say
/// what the kernel found out since.
const MADE_WITH: u32 = 0x02 | 0x200 | 0x400;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_RA: u8 = 9;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;
const FOREVER: u32 = u32::MAX;

/// An address or a route: the body of its netlink message. In JSON hexadecimal, after `a` or `r`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    is_route: bool,
    body: Vec<u8>,
}

/// Where it is set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// All of it.
    Host,
    /// What is of use elsewhere: global and permanent addresses, routes of the main table.
    Container,
}

/// A message to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) kind: u16,
    pub(super) header: Vec<u8>,
    pub(super) attributes: Vec<(u16, Vec<u8>)>,
}

impl Kept {
    /// The message that sets it on device `index`, `passed` seconds after it was read; `None` if it has run out or is of no
    /// use there.
    pub(super) fn message(&self, index: u32, passed: u64, place: Place) -> Option<Again> {
        if self.is_route { self.route(index, place) } else { self.address(index, passed, place) }
    }

    fn address(&self, index: u32, passed: u64, place: Place) -> Option<Again> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let [family, prefix, _, scope, ..] = array::<8>(&self.body, 0)?;
        let permanent = flags_of_address(&self.body)? & IFA_F_PERMANENT != 0;
        if place == Place::Container && (scope != RT_SCOPE_UNIVERSE || !permanent) {
            return None;
        }
        let header = [&[family, prefix, 0, scope][..], &index.to_ne_bytes()].concat();
        let mut attributes = vec![(IFA_FLAGS, (flags_of_address(&self.body)? & MADE_WITH).to_ne_bytes().to_vec())];
        for (kind, value) in AttributesOf(self.body.get(8..)?) {
            match kind {
                IFA_FLAGS => {}
                // Begins with the name of the device.
                IFA_LABEL if place == Place::Container => {}
                IFA_CACHEINFO => attributes.push((kind, lifetime(value, passed)?)),
                _ => attributes.push((kind, value.to_vec())),
            }
        }
        Some(Again { kind: RTM_NEWADDR, header, attributes })
    }

    fn route(&self, index: u32, place: Place) -> Option<Again> {
        const MAIN: u8 = 254;
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let mut header = self.body.get(..12)?.to_vec();
        if place == Place::Container && header[4] != MAIN {
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
        let [family, _, _, _, a, b, c, d] = array(message.body, 0)?;
        if message.kind != RTM_NEWADDR || u32::from_ne_bytes([a, b, c, d]) != index {
            return None;
        }
        // IPv6 addresses with a lifetime come from advertisements, as they will again.
        let permanent = flags_of_address(message.body)? & IFA_F_PERMANENT != 0;
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

fn flags_of_address(body: &[u8]) -> Option<u32> {
    let narrow = u32::from(*body.get(2)?);
    Some(find(body.get(8..)?, IFA_FLAGS).and_then(u32_of).unwrap_or(narrow))
}

/// `struct ifa_cacheinfo` (preferred, valid, two times of no meaning to us), `passed` seconds later; `None` if over.
fn lifetime(value: &[u8], passed: u64) -> Option<Vec<u8>> {
    let passed = u32::try_from(passed).unwrap_or(FOREVER);
    let left = |n: u32| if n == FOREVER { n } else { n.saturating_sub(passed) };
    let (preferred, valid) = (left(u32_of(value)?), left(u32_of(value.get(4..)?)?));
    (valid > 0).then(|| [preferred, valid, 0, 0].map(u32::to_ne_bytes).as_flattened().to_vec())
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

    /// 10.9.8.7/24 with a lifetime.
    fn leased(valid: u32) -> Kept {
        let mut body = vec![AF_INET, 24, 0, 0, 7, 0, 0, 0];
        let mut attribute = |kind: u16, value: &[u8]| {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
        };
        attribute(2, &[10, 9, 8, 7]);
        attribute(IFA_FLAGS, &0x200_u32.to_ne_bytes());
        attribute(IFA_CACHEINFO, [valid / 2, valid, 5, 6].map(u32::to_ne_bytes).as_flattened());
        Kept { is_route: false, body }
    }

    #[test]
    fn an_address_goes_on_running_out() {
        let again = leased(100).message(9, 30, Place::Host).unwrap();
        assert_eq!(again.header, [AF_INET, 24, 0, 0, 9, 0, 0, 0]);
        let left = [20_u32, 70, 0, 0].map(u32::to_ne_bytes).as_flattened().to_vec();
        assert!(again.attributes.contains(&(IFA_CACHEINFO, left)), "{again:?}");
        assert!(again.attributes.contains(&(IFA_FLAGS, 0x200_u32.to_ne_bytes().to_vec())), "{again:?}");
        assert!(leased(100).message(9, 100, Place::Host).is_none());
        assert!(leased(FOREVER).message(9, u64::MAX, Place::Host).is_some());
        assert!(leased(100).message(9, 0, Place::Container).is_none(), "whoever leased it is on the host");
    }

    #[test]
    fn json_keeps_every_byte_and_wrong_text_is_refused() {
        let kept = leased(100);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(text.starts_with("\"a0218"), "{text}");
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        for wrong in ["\"\"", "\"x00\"", "\"a0\"", "\"a0é\"", "\"rzz\""] {
            assert!(serde_json::from_str::<Kept>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shortened_messages_never_panic() {
        let whole = leased(100);
        for cut in 0..whole.body.len() {
            for is_route in [false, true] {
                let kept = Kept { is_route, body: whole.body[..cut].to_vec() };
                let _ = (kept.message(1, 0, Place::Host), kept.reaches_through_a_gateway());
            }
        }
    }
}
