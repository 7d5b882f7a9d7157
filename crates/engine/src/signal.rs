//! Signal names and numbers, as people type them.

use tare_model::{Error, Kind, Result};

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal given as `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
///
/// # Errors
/// `Kind::Invalid` if there is no such signal.
pub fn parse(text: &str) -> Result<i32> {
    let bad = || {
        Error::new(Kind::Invalid, "parse signal", format!("{text:?}"))
            .because("there is no such signal")
            .hint("a name such as TERM or SIGTERM, or a number from 1 to 64")
    };
    if let Ok(n) = text.parse::<i32>() {
        return if (1..=64).contains(&n) { Ok(n) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(i) = NAMES.iter().position(|n| *n == name) {
        return Ok(i as i32 + 1);
    }
    // The C library keeps 32 and 33 to itself: RTMIN is 34 (signal(7)).
    let real_time = |prefix: &str, base: i32, sign: i32| {
        let rest = name.strip_prefix(prefix)?;
        if rest.is_empty() {
            return Some(base);
        }
        let n: i32 = rest[1..].parse().ok()?;
        rest.starts_with(if sign > 0 { '+' } else { '-' }).then_some(base + sign * n)
    };
    match (name, real_time("RTMIN", 34, 1).or_else(|| real_time("RTMAX", 64, -1))) {
        ("IOT", _) => Ok(6),
        ("POLL", _) => Ok(29),
        ("CLD", _) => Ok(17),
        (_, Some(n)) if (34..=64).contains(&n) => Ok(n),
        _ => Err(bad()),
    }
}

/// `SIGTERM` for 15; real-time signals as `SIGRTMIN+n`.
pub fn name(number: i32) -> String {
    match usize::try_from(number - 1).ok().and_then(|i| NAMES.get(i)) {
        Some(n) => format!("SIG{n}"),
        None if number == 34 => "SIGRTMIN".to_owned(),
        None if number > 34 => format!("SIGRTMIN+{}", number - 34),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (text, n) in
            [("TERM", 15), ("SIGKILL", 9), ("9", 9), ("sigusr1", 10), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("SYS", 31)]
        {
            assert_eq!(parse(text).unwrap(), n, "{text}");
        }
        for bad in ["", "0", "65", "FOO", "RTMIN+99", "RTMIN3", "SIG", "-9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!((name(15).as_str(), name(37).as_str()), ("SIGTERM", "SIGRTMIN+3"));
    }
}
