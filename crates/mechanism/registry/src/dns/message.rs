//! The wire format, as much of it as a question for an address needs (RFC 1035 §4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordType {
    A = 1,
    Aaaa = 28,
}

/// What a name server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses, also those of aliases; may be empty.
    Addresses(Vec<IpAddr>),
    /// NXDOMAIN.
    NoSuchName,
    /// Another response code.
    Failed(u8),
}

/// A message that answers the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Whole(Answer),
    /// Did not fit into a datagram.
    Truncated,
}

const HEADER: usize = 12;

/// A recursive question; `None` if the name cannot be one (labels of 1 to 63, 253 bytes in all).
pub(super) fn query(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    if name.is_empty() || name.len() > 253 || !name.is_ascii() {
        return None;
    }
    let mut m = Vec::with_capacity(HEADER + name.len() + 6);
    m.extend(id.to_be_bytes());
    m.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        m.push(length);
        m.extend(label.bytes());
    }
    m.push(0);
    m.extend((kind as u16).to_be_bytes());
    m.extend(1u16.to_be_bytes()); // IN
    Some(m)
}

/// Reads an answer; `None` if it does not answer `query` or is malformed.
pub(super) fn parse(message: &[u8], query: &[u8]) -> Option<Reply> {
    let header = message.get(..HEADER)?;
    let question = query.get(HEADER..)?;
    let echoed = message.get(HEADER..HEADER + question.len())?;
    let is_answer = header[2] & 0x80 != 0 && header[..2] == query[..2] && header[4..6] == [0, 1];
    if !is_answer || !echoed.eq_ignore_ascii_case(question) {
        return None;
    }
    if header[2] & 0x02 != 0 {
        return Some(Reply::Truncated);
    }
    match header[3] & 0x0f {
        0 => {}
        3 => return Some(Reply::Whole(Answer::NoSuchName)),
        code => return Some(Reply::Whole(Answer::Failed(code))),
    }
    let mut at = HEADER + question.len();
    let mut found = Vec::new();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(at + 10..at + 10 + length)?;
        match ([fixed[0], fixed[1]], length) {
            ([0, 1], 4) => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            ([0, 28], 16) => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
        at += 10 + length;
    }
    Some(Reply::Whole(Answer::Addresses(found)))
}

/// Where the name that begins at `at` ends; a pointer ends it and is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            n if n & 0xc0 == 0xc0 => return Some(at + 2),
            n if n & 0xc0 == 0 => at += 1 + usize::from(n),
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer to `query` with these addresses and response code.
    pub(in crate::dns) fn answer(query: &[u8], addresses: &[&str], code: u8) -> Vec<u8> {
        let mut m = query.to_vec();
        m[2] |= 0x80;
        m[3] = code;
        m[7] = u8::try_from(addresses.len()).unwrap();
        for a in addresses {
            let (kind, data) = match a.parse().unwrap() {
                IpAddr::V4(ip) => (1, ip.octets().to_vec()),
                IpAddr::V6(ip) => (28, ip.octets().to_vec()),
            };
            m.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
            m.extend(data);
        }
        m
    }

    #[test]
    fn answers_to_other_questions_are_not_taken() {
        let q = query(7, "registry.example", RecordType::A).unwrap();
        let good = answer(&q, &["192.0.2.1"], 0);
        assert_eq!(parse(&good, &q), Some(Reply::Whole(Answer::Addresses(vec!["192.0.2.1".parse().unwrap()]))));
        assert_eq!(parse(&good, &query(8, "registry.example", RecordType::A).unwrap()), None);
        assert_eq!(parse(&good, &query(7, "registry.exampla", RecordType::A).unwrap()), None);
        assert_eq!(parse(&q, &q), None);
        assert_eq!(parse(&answer(&q, &[], 3), &q), Some(Reply::Whole(Answer::NoSuchName)));
        assert_eq!(parse(&answer(&q, &[], 2), &q), Some(Reply::Whole(Answer::Failed(2))));
    }

    #[test]
    fn no_cut_or_flipped_byte_panics() {
        let q = query(7, "registry.example", RecordType::Aaaa).unwrap();
        let good = answer(&q, &["2001:db8::1", "192.0.2.1"], 0);
        for cut in 0..good.len() {
            parse(&good[..cut], &q);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                parse(&bad, &q);
            }
        }
    }

    #[test]
    fn only_host_names_are_asked_for() {
        let long = "a".repeat(64);
        for bad in ["", "a..b", ".", long.as_str()] {
            assert_eq!(query(1, bad, RecordType::A), None, "{bad}");
        }
    }
}
