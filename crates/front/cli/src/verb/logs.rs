use super::Build;
use crate::context::Context;
use crate::{out, time};
use clap::Args;
use jiff::Timestamp;
use std::io::Write;
use tare_engine::LogQuery;
use tare_engine::view::LogLine;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <LogsArgs as Args>::augment_args;

/// Print what a container has written
///
/// Its standard output on standard output, its standard error on standard error. Times are RFC 3339, Unix times, or how
/// long ago: 10m, 1h30m.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare logs web
  tare logs -f --tail 10 web
  tare logs -t --since 10m --until 5m web")]
pub(crate) struct LogsArgs {
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only from this time on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only the last so many lines, or all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// With times
    #[arg(short, long)]
    timestamps: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) fn main(args: LogsArgs, context: &Context) -> Result<u8> {
    let now = Timestamp::now();
    let at = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|t| time::point(flag, t, now).map(|t| format!("{t:.9}"))).transpose()
    };
    let query = LogQuery {
        since: at("--since", &args.since)?,
        until: at("--until", &args.until)?,
        tail: tail(&args.tail)?,
        follow: args.follow,
    };
    let engine = context.engine()?;
    let mut stdout = std::io::stdout().lock();
    let mut stderr = std::io::stderr().lock();
    for line in engine.logs(&args.container, query)? {
        let line = line?;
        let text = words(&line, args.timestamps);
        if line.stderr {
            // Whoever closed standard error does not want these lines.
            drop(stderr.write_all(&text));
        } else {
            stdout.write_all(&text).map_err(out::broken)?;
        }
        if args.follow {
            stdout.flush().map_err(out::broken)?;
        }
    }
    stdout.flush().map_err(out::broken)?;
    Ok(0)
}

fn words(line: &LogLine, timestamps: bool) -> Vec<u8> {
    if !timestamps {
        return line.text.clone();
    }
    [line.time.as_bytes(), b" ", &line.text].concat()
}

fn tail(text: &str) -> Result<Option<usize>> {
    match text {
        "all" | "-1" | "" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            Error::new(Kind::Invalid, "invalid", format!("--tail {text:?}")).because("expected a number, or all")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_and_times() {
        assert_eq!((tail("all").unwrap(), tail("5").unwrap(), tail("0").unwrap()), (None, Some(5), Some(0)));
        assert!(tail("x").is_err());
        let line = LogLine { time: "2026-01-01T00:00:00.000000000Z".into(), stderr: false, text: b"hi\n".to_vec() };
        assert_eq!(words(&line, false), b"hi\n");
        assert_eq!(words(&line, true), b"2026-01-01T00:00:00.000000000Z hi\n");
    }
}
