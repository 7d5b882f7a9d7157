//! An address of a device that has lost it: the kernel takes the addresses away from a device that moves to another network
//! namespace. From the message that told of it, the one that sets it again. Sources: rtnetlink(7), linux/if_addr.h.

use super::message::{AttributesOf, array, find, u32_of};

/// `RTM_NEWADDR`, with which the kernel tells of an address, and is told to set one.
pub const RTM_NEWADDR: u16 = 20;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// No duplicate detection, no route to the prefix, joined with multicast: what an address was made with. The other flags say
/// what the kernel found out since.
const MADE_WITH: u32 = 0x02 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;
const FOREVER: u32 = u32::MAX;

/// Where an address is set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where it was: all of it.
    Home,
    /// Elsewhere: what is permanent and of global scope.
    Away,
}

/// A message to be sent: its kind, the fixed header of its family, its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The message's type.
    pub kind: u16,
    /// `struct ifaddrmsg`, or that of another family.
    pub header: Vec<u8>,
    /// Types and values.
    pub attributes: Vec<(u16, Vec<u8>)>,
}

/// The number of the device of which the body of a `RTM_NEWADDR` tells.
#[must_use]
pub fn device_of_address(body: &[u8]) -> Option<u32> {
    array(body, 4).map(u32::from_ne_bytes)
}

/// Whether the address does not run out; `None` for what is no body of a `RTM_NEWADDR`.
#[must_use]
pub fn is_permanent(body: &[u8]) -> Option<bool> {
    Some(flags(body)? & IFA_F_PERMANENT != 0)
}

fn flags(body: &[u8]) -> Option<u32> {
    let narrow = u32::from(*body.get(2)?);
    Some(find(body.get(8..)?, IFA_FLAGS).and_then(u32_of).unwrap_or(narrow))
}

/// The message that sets the address of which the body of a `RTM_NEWADDR` told, on device `index`, `passed` seconds later.
/// `None` if it has run out or is of no use at this place.
#[must_use]
pub fn address_again(body: &[u8], index: u32, passed: u64, place: Place) -> Option<Again> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let [family, prefix, _, scope, ..] = array::<8>(body, 0)?;
    if place == Place::Away && (scope != RT_SCOPE_UNIVERSE || !is_permanent(body)?) {
        return None;
    }
    let header = [&[family, prefix, 0, scope][..], &index.to_ne_bytes()].concat();
    let mut attributes = vec![(IFA_FLAGS, (flags(body)? & MADE_WITH).to_ne_bytes().to_vec())];
    for (kind, value) in AttributesOf(body.get(8..)?) {
        match kind {
            IFA_FLAGS => {}
            // Begins with the name of the device.
            IFA_LABEL if place == Place::Away => {}
            IFA_CACHEINFO => attributes.push((kind, lifetime(value, passed)?)),
            _ => attributes.push((kind, value.to_vec())),
        }
    }
    Some(Again { kind: RTM_NEWADDR, header, attributes })
}

/// `struct ifa_cacheinfo` (preferred, valid, two times of no meaning to us), `passed` seconds later; `None` if over.
fn lifetime(value: &[u8], passed: u64) -> Option<Vec<u8>> {
    let passed = u32::try_from(passed).unwrap_or(FOREVER);
    let left = |n: u32| if n == FOREVER { n } else { n.saturating_sub(passed) };
    let (preferred, valid) = (left(u32_of(value)?), left(u32_of(value.get(4..)?)?));
    (valid > 0).then(|| [preferred, valid, 0, 0].map(u32::to_ne_bytes).as_flattened().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.9.8.7/24 with a lifetime.
    fn leased(valid: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0, 0, 7, 0, 0, 0];
        let mut attribute = |kind: u16, value: &[u8]| {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
        };
        attribute(2, &[10, 9, 8, 7]);
        attribute(IFA_FLAGS, &0x200_u32.to_ne_bytes());
        attribute(IFA_CACHEINFO, [valid / 2, valid, 5, 6].map(u32::to_ne_bytes).as_flattened());
        body
    }

    #[test]
    fn an_address_goes_on_running_out() {
        let again = address_again(&leased(100), 9, 30, Place::Home).unwrap();
        assert_eq!(again.header, [2, 24, 0, 0, 9, 0, 0, 0]);
        let left = [20_u32, 70, 0, 0].map(u32::to_ne_bytes).as_flattened().to_vec();
        assert!(again.attributes.contains(&(IFA_CACHEINFO, left)), "{again:?}");
        assert!(again.attributes.contains(&(IFA_FLAGS, 0x200_u32.to_ne_bytes().to_vec())), "{again:?}");
        assert_eq!(address_again(&leased(100), 9, 100, Place::Home), None);
        assert!(address_again(&leased(FOREVER), 9, u64::MAX, Place::Home).is_some());
        assert_eq!(address_again(&leased(100), 9, 0, Place::Away), None, "whoever leased it is at home");
        assert_eq!((device_of_address(&leased(1)), is_permanent(&leased(1))), (Some(7), Some(false)));
    }

    #[test]
    fn shortened_messages_never_panic() {
        let whole = leased(100);
        for cut in 0..whole.len() {
            let body = &whole[..cut];
            let _ = (address_again(body, 1, 0, Place::Home), is_permanent(body), device_of_address(body));
        }
    }
}
