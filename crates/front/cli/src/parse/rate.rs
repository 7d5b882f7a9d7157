//! `--net-rate`: how fast a container may receive and send.

use super::bad;
use tare_engine::request::Rate;
use tare_model::Result;

const FLAG: &str = "--net-rate";

/// Parses `RATE` for both directions, or `in=RATE,out=RATE` (either may be missing: unlimited).
pub(crate) fn parse(text: &str) -> Result<Rate> {
    let mut rate = Rate::default();
    if !text.contains('=') {
        let both = bits(text).map_err(|why| bad(FLAG, text, why))?;
        return Ok(Rate { to_container: Some(both), from_container: Some(both) });
    }
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let place = match key.trim() {
            "in" => &mut rate.to_container,
            "out" => &mut rate.from_container,
            key => return Err(bad(FLAG, text, format!("unknown direction {key:?}; there are in and out"))),
        };
        if place.replace(bits(value.trim()).map_err(|why| bad(FLAG, text, why))?).is_some() {
            return Err(bad(FLAG, text, format!("{} is there twice", key.trim())));
        }
    }
    Ok(rate)
}

/// Units as tc(8) has them: `bit` and its multiples are bits per second, `bps` and its multiples bytes per second; with
/// an `i` they are powers of 1024. A bare number is bits per second.
fn bits(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no rate, as 10mbit, 1.5gbit or 500kbps (bytes)");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = text[end..].to_ascii_lowercase();
    let (scale, each) = match unit.strip_suffix("bit") {
        Some(scale) => (scale, 1.0),
        None if unit.is_empty() => ("", 1.0),
        None => (unit.strip_suffix("bps").ok_or_else(wrong)?, 8.0),
    };
    let scale = match scale {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let rate = number * scale * each;
    // The kernel counts whole bytes per second; below one nothing would ever pass.
    if !(8.0..=1e15).contains(&rate) {
        return Err(format!("{text:?} is outside of 8bit to 1000tbit"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie between 8 and 1e15")]
    Ok(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_tc() {
        for (text, expected) in [
            ("8", 8),
            ("10mbit", 10_000_000),
            ("10MBit", 10_000_000),
            ("1.5gbit", 1_500_000_000),
            ("500kbps", 4_000_000),
            ("1mibit", 1 << 20),
            ("1kibps", 8192),
            ("64000", 64_000),
            ("1tbit", 1_000_000_000_000),
        ] {
            assert_eq!(bits(text), Ok(expected), "{text}");
        }
        for text in ["", "mbit", "10m", "10mb", "-1mbit", "1..2mbit", "0", "7", "1e9", "9999tbit", "inf"] {
            assert!(bits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_rate_is_for_both_directions() {
        let both = Rate { to_container: Some(10_000_000), from_container: Some(10_000_000) };
        assert_eq!(parse("10mbit").unwrap(), both);
        assert_eq!(parse("in=10mbit,out=10mbit").unwrap(), both);
        assert_eq!(parse("out=10mbit").unwrap(), Rate { to_container: None, ..both });
        for text in ["in=", "up=1mbit", "in=1mbit,in=2mbit", "in=1mbit,2mbit", "in=1mbit,"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
