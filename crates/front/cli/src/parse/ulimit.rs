//! `--ulimit NAME=SOFT[:HARD]`.

use super::bad;
use tare_model::Result;
use tare_model::runtime_spec::PosixRlimit;

const FLAG: &str = "--ulimit";
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parses one `--ulimit`; `-1` and `unlimited` are no limit.
pub(crate) fn parse(text: &str) -> Result<PosixRlimit> {
    let (name, values) = text.split_once('=').ok_or_else(|| bad(FLAG, text, "expected NAME=SOFT[:HARD]"))?;
    if !NAMES.contains(&name) {
        return Err(bad(FLAG, text, format!("unknown limit {name:?}; there are {}", NAMES.join(", "))));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(text, soft)?, value(text, hard)?);
    if soft > hard {
        return Err(bad(FLAG, text, format!("the soft limit {soft} is above the hard limit {hard}")));
    }
    Ok(PosixRlimit { kind: format!("RLIMIT_{}", name.to_ascii_uppercase()), hard, soft })
}

fn value(whole: &str, text: &str) -> Result<u64> {
    match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text.parse().map_err(|_| bad(FLAG, whole, format!("{text:?} is no number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_and_hard() {
        let l = parse("nofile=1024:2048").unwrap();
        assert_eq!((l.kind.as_str(), l.soft, l.hard), ("RLIMIT_NOFILE", 1024, 2048));
        let l = parse("core=-1").unwrap();
        assert_eq!((l.soft, l.hard), (u64::MAX, u64::MAX));
        let l = parse("nproc=5:unlimited").unwrap();
        assert_eq!((l.soft, l.hard), (5, u64::MAX));
    }

    #[test]
    fn wrong_limits_are_refused() {
        for (text, why) in [
            ("nofile", "expected NAME"),
            ("files=1", "unknown limit \"files\""),
            ("nofile=2:1", "above the hard limit"),
            ("nofile=-1:5", "above the hard limit"),
            ("nofile=x", "no number"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
