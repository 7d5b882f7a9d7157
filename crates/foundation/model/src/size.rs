//! Sizes in bytes as people type and read them.

use crate::{Error, Kind};

/// Parses docker's sizes: a number and `b`, `k`, `m`, `g`, `t` (with or without `b` or `ib`); powers of 1024.
///
/// # Errors
/// `Kind::Invalid` for anything else, negative sizes and overflow.
pub fn parse(text: &str) -> Result<u64, Error> {
    let bad = || {
        Error::new(Kind::Invalid, "parse size", format!("{text:?}"))
            .because("expected a number with an optional unit b, k, m, g or t")
            .hint("for example 512m or 2g")
    };
    let t = text.trim();
    let split = t.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(t.len());
    let (number, unit) = t.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    if let Ok(n) = number.parse::<u64>() {
        return n.checked_mul(1 << shift).ok_or_else(bad);
    }
    let n: f64 = number.parse().map_err(|_| bad())?;
    let n = n * (1u64 << shift) as f64;
    if n.is_finite() && n < u64::MAX as f64 { Ok(n as u64) } else { Err(bad()) }
}

/// Decimal units with three significant digits, as docker prints sizes of images: `1.23MB`.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Binary units, as docker prints memory: `1.23MiB`.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut n = bytes as f64;
    let mut i = 0;
    while n >= base && i + 1 < units.len() {
        n /= base;
        i += 1;
    }
    let digits = if i == 0 || n >= 100.0 {
        0
    } else if n >= 10.0 {
        1
    } else {
        2
    };
    let s = format!("{n:.digits$}");
    let s = if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.') } else { &s };
    format!("{s}{}", units[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, n) in
            [("0", 0), ("512", 512), ("1k", 1024), ("1.5m", 1_572_864), ("2GiB", 2 << 30), ("10 MB", 10 << 20)]
        {
            assert_eq!(parse(text).unwrap(), n, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "99999999999999999999", "1.2.3k", "nan"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (decimal(1_234_000).as_str(), decimal(999).as_str(), binary(1 << 20).as_str()),
            ("1.23MB", "999B", "1MiB")
        );
    }
}
