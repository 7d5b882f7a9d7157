use super::Build;
use crate::context::Context;
use crate::errors::{code, each};
use crate::listing::{Listing, Look, Row};
use crate::out::Out;
use clap::Args;
use std::os::fd::AsFd;
use std::time::Duration;
use tare_engine::Engine;
use tare_engine::view::{Counters, State, Stats};
use tare_model::{Result, size};

pub(super) const ARGS: Build = <StatsArgs as Args>::augment_args;

/// Show what running containers use
///
/// On a terminal once a second until interrupted; all that run if none is named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare stats
  tare stats --no-stream web
  tare stats --no-stream --format '{{.Name}} {{.MemUsage}}'
  tare stats --no-stream --format 'table {{.Name}}\\t{{.NetIO}}\\t{{.Interfaces}}'")]
pub(crate) struct StatsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Once instead of again and again
    #[arg(long)]
    no_stream: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const LISTING: Listing = Listing {
    columns: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("Interfaces", "INTERFACES"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    shown: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
    key: "ID",
};

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn main(args: StatsArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let mut before = readings(&engine, &args, context)?;
    let terminal = rustix::termios::isatty(std::io::stdout().as_fd());
    let mut failed = false;
    loop {
        // A share of the processors is a difference of two readings.
        std::thread::sleep(INTERVAL);
        let now = readings(&engine, &args, context)?;
        failed |= now.len() < args.containers.len();
        let rows: Vec<Row> = now.iter().map(|s| row(s, before.iter().find(|b| b.id == s.id), args.no_trunc)).collect();
        let mut out = Out::new();
        if terminal && !args.no_stream {
            out.text("\x1b[2J\x1b[H")?;
        }
        LISTING.print(&mut out, &rows, Look::of(args.format.as_deref(), false))?;
        if args.no_stream {
            return Ok(if failed { code::FAILED } else { 0 });
        }
        before = now;
    }
}

fn readings(engine: &Engine, args: &StatsArgs, context: &Context) -> Result<Vec<Stats>> {
    if args.containers.is_empty() {
        let all = engine.containers(args.all)?;
        let read = |c: tare_engine::view::Container| match c.state {
            // It may have ended since it was listed.
            State::Running | State::Paused => engine.stats(&c.id).ok(),
            State::Created | State::Exited => Some(Stats { id: c.id, name: c.name, ..Stats::default() }),
        };
        return Ok(all.into_iter().filter_map(read).collect());
    }
    let mut all = Vec::new();
    each(&context.verb, &args.containers, |name| {
        all.push(engine.stats(name)?);
        Ok(())
    })?;
    Ok(all)
}

fn row(now: &Stats, before: Option<&Stats>, whole: bool) -> Row {
    let percent = |share: f64| format!("{:.2}%", share * 100.0);
    let cpu = before.map_or(0.0, |b| {
        let time = now.at_ns.saturating_sub(b.at_ns);
        if time == 0 { 0.0 } else { now.cpu_total_ns.saturating_sub(b.cpu_total_ns) as f64 / time as f64 }
    });
    let memory = if now.memory_limit == 0 { 0.0 } else { now.memory as f64 / now.memory_limit as f64 };
    let pair = |f: fn(u64) -> String, a, b| format!("{} / {}", f(a), f(b));
    let interface = |c: &Counters| format!("{} {}", c.interface, pair(size::decimal, c.rx_bytes, c.tx_bytes));
    let interfaces: Vec<String> = now.interfaces.iter().map(interface).collect();
    let id: String = if whole { now.id.clone() } else { now.id.chars().take(12).collect() };
    Row::default()
        .with("Container", id.clone())
        .with("ID", id)
        .with("Name", now.name.clone())
        .with("CPUPerc", percent(cpu))
        .with("MemUsage", pair(size::binary, now.memory, now.memory_limit))
        .with("MemPerc", percent(memory))
        .with("NetIO", pair(size::decimal, now.net_rx, now.net_tx))
        .with("Interfaces", interfaces.join(", "))
        .with("BlockIO", pair(size::decimal, now.block_read, now.block_write))
        .with("PIDs", now.pids.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_from_two_readings() {
        let before = Stats { at_ns: 1_000_000_000, cpu_total_ns: 0, ..Stats::default() };
        let now = Stats {
            id: "a".repeat(64),
            at_ns: 2_000_000_000,
            cpu_total_ns: 500_000_000,
            memory: 64 << 20,
            memory_limit: 128 << 20,
            interfaces: vec![
                Counters { interface: "eth0".into(), rx_bytes: 1500, tx_bytes: 20, ..Counters::default() },
                Counters { interface: "eth1".into(), ..Counters::default() },
            ],
            ..Stats::default()
        };
        let r = row(&now, Some(&before), false);
        assert_eq!((r.fields["CPUPerc"].as_str(), r.fields["MemPerc"].as_str()), (Some("50.00%"), Some("50.00%")));
        assert_eq!(r.fields["MemUsage"], "64MiB / 128MiB");
        assert_eq!(r.fields["Interfaces"], "eth0 1.5kB / 20B, eth1 0B / 0B");
    }
}
