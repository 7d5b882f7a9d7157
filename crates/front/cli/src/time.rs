//! Times as docker prints and reads them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tare_model::{Error, Kind, Result};

/// Docker's words for a duration: `About a minute`, `3 hours`.
pub(crate) fn words(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a time was, in docker's words without `ago`; empty for a text that is no time.
pub(crate) fn since(rfc3339: &str, now: Timestamp) -> String {
    rfc3339.parse::<Timestamp>().map(|t| words(now.duration_since(t).as_secs())).unwrap_or_default()
}

/// Docker's `CreatedAt`: `2026-01-02 03:04:05 +0000 UTC`.
pub(crate) fn long(rfc3339: &str) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(t) => t.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// A time from Unix nanoseconds, RFC 3339.
pub(crate) fn from_nanos(nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanos)).map(|t| t.to_string()).unwrap_or_default()
}

/// `--since` and `--until`: RFC 3339, a date, a Unix time with fraction, or how long ago (`10m`, `1h30m`).
///
/// # Errors
/// `Kind::Invalid`.
pub(crate) fn point(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp> {
    let bad = || {
        Error::new(Kind::Invalid, "invalid", format!("{flag} {text:?}"))
            .because("expected a time such as 2026-01-02T03:04:05Z, a Unix time, or how long ago, such as 10m")
    };
    if let Ok(t) = text.parse::<Timestamp>() {
        return Ok(t);
    }
    if let Ok(t) = text.parse::<jiff::civil::DateTime>() {
        return t.to_zoned(TimeZone::UTC).map(|z| z.timestamp()).map_err(|_| bad());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is refused by jiff")]
        let nanos = (seconds * 1e9) as i128;
        return Timestamp::from_nanosecond(nanos).map_err(|_| bad());
    }
    let ago = duration(text).ok_or_else(bad)?;
    now.checked_sub(ago).map_err(|_| bad())
}

/// Go's durations: `1h30m`, `10s`, `1.5h`, `200ms`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut nanos = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 86_400e9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    SignedDuration::try_from_secs_f64(nanos / 1e9).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (900 * 86400, "2 years"),
        ] {
            assert_eq!(words(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn points_in_time() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-01-01T10:00:00+01:00", "2026-01-01T09:00:00Z"),
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("2026-01-01T05:00:00", "2026-01-01T05:00:00Z"),
            ("1767225600.5", "2026-01-01T00:00:00.5Z"),
            ("1h30m", "2026-01-01T22:30:00Z"),
            ("10s", "2026-01-01T23:59:50Z"),
        ] {
            assert_eq!(point("--since", text, now).unwrap().to_string(), expected, "{text}");
        }
        for bad in ["", "yesterday", "10", "1x"].iter().filter(|t| **t != "10") {
            assert!(point("--since", bad, now).is_err(), "{bad}");
        }
        assert_eq!(long("2026-01-02T03:04:05.123Z"), "2026-01-02 03:04:05 +0000 UTC");
    }
}
