use crate::context::Context;
use crate::state::Container;
use crate::{out, statistics};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::Group;

/// Print statistics and out-of-memory events of a container
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Time between two lines of statistics, such as 500ms or 5s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print one line of statistics and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: EventsArgs, context: &Context) -> Result<u8> {
    let interval = duration(&args.interval)?;
    let container = Container::load(context, &args.id)?;
    let stopped = || {
        let why = format!("container with id {} is not running", args.id);
        Error::new(Kind::State, "watch", &args.id).because(why)
    };
    let process = container.process().ok_or_else(stopped)?;
    let group = container.group()?;
    if args.stats {
        out::line(statistics::line(&args.id, &group)?)?;
        return Ok(0);
    }
    watch(&args.id, &group, process.as_fd(), interval)?;
    Ok(0)
}

/// Prints until the first process ends: its descriptor is readable then.
fn watch(id: &str, group: &Group, process: BorrowedFd<'_>, interval: Duration) -> Result<()> {
    let events = match group.oom_events() {
        Ok(events) => Some(events),
        // Without the memory controller nobody is killed for want of memory.
        Err(e) if e.kind() == Kind::Unsupported => None,
        Err(e) => return Err(e),
    };
    let mut kills = events.as_ref().map_or(Ok(0), |_| group.oom_kills())?;
    let mut next = Instant::now() + interval;
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
        fds.extend(events.as_ref().map(|e| PollFd::from_borrowed_fd(e.as_fd(), PollFlags::IN)));
        let left = Timespec::try_from(next.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("watch", id, e)),
        }
        let ended = !fds[0].revents().is_empty();
        if let Some(events) = &events {
            events.drain();
            let now = group.oom_kills()?;
            for _ in kills..now {
                out::line(statistics::oom(id))?;
            }
            // Its removal counts as an event, and takes the count away.
            kills = kills.max(now);
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            out::line(statistics::line(id, group)?)?;
            next = Instant::now() + interval;
        }
    }
}

/// A duration as Go writes it: `500ms`, `1m30s`, `1.5h`.
fn duration(text: &str) -> Result<Duration> {
    let wrong = |why: &str| {
        Error::new(Kind::Invalid, "use", format!("--interval {text}")).because(why).hint("such as 500ms, 5s, or 1m30s")
    };
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (value, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong("not a duration")),
        };
        seconds += value.parse::<f64>().map_err(|_| wrong("not a duration"))? * factor;
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong("not a duration"))?;
    if duration.is_zero() {
        return Err(wrong("duration interval must be greater than 0"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_gos() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("2m0.5s", 120_500)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "0s", "5", "s", "-1s", "1x", "1..s", "99999999999999999999h"] {
            assert_eq!(duration(text).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
