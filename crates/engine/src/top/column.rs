//! The columns of ps(1) that are known here.

use super::process::Process;
use crate::record::read_or_empty;
use crate::{stats, time};
use std::collections::BTreeMap;
use std::path::Path;

/// What can be asked for, for hints.
pub(super) const NAMES: &str = "pid, nspid, ppid, pgid, sid, user, uid, group, gid, comm, args, %cpu, c, %mem, rss, \
                                vsz, stat, s, tty, time, etime, etimes, stime, start, nlwp, ni, pri";

/// One column; those with several names keep the title of the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Pid,
    InnerPid,
    Ppid,
    ProcessGroup,
    Session,
    User(&'static str),
    Uid,
    Group,
    Gid,
    Comm,
    Args(&'static str),
    CpuPercent,
    Usage,
    MemoryPercent,
    ResidentSize,
    VirtualSize,
    State(&'static str),
    Tty(&'static str),
    Time,
    Elapsed,
    ElapsedSeconds,
    Start(&'static str),
    Threads,
    Nice,
    Priority,
}

/// What columns need beside the process.
#[derive(Debug)]
pub(super) struct Facts {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
    memory: u64,
    ticks: u64,
    /// Seconds since boot, and since 1970.
    uptime: f64,
    now: i64,
}

impl Facts {
    pub(super) fn read() -> Facts {
        let names = |path: &str| {
            let text = read_or_empty(Path::new(path));
            let entry = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((fields.nth(1)?.parse().ok()?, name))
            };
            // The first name of a number counts, as with getpwuid(3).
            text.lines().rev().filter_map(entry).collect()
        };
        let clock = |id| rustix::time::clock_gettime(id);
        let up = clock(rustix::time::ClockId::Boottime);
        Facts {
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
            memory: stats::host_memory(),
            ticks: rustix::param::clock_ticks_per_second().max(1),
            uptime: up.tv_sec as f64 + up.tv_nsec as f64 / 1e9,
            now: clock(rustix::time::ClockId::Realtime).tv_sec,
        }
    }

    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks as f64
    }

    /// Since its start.
    fn elapsed(&self, p: &Process) -> f64 {
        (self.uptime - self.seconds(p.start)).max(0.0)
    }

    fn cpu_share(&self, p: &Process) -> f64 {
        let elapsed = self.elapsed(p);
        if elapsed < 0.01 { 0.0 } else { 100.0 * self.seconds(p.user_time + p.system_time) / elapsed }
    }
}

impl Column {
    pub(super) fn named(name: &str) -> Option<Column> {
        Some(match name {
            "pid" => Column::Pid,
            "nspid" | "cpid" => Column::InnerPid,
            "ppid" => Column::Ppid,
            "pgid" | "pgrp" => Column::ProcessGroup,
            "sid" | "sess" | "session" => Column::Session,
            "user" | "euser" | "uname" => Column::User("USER"),
            "uid" | "euid" => Column::Uid,
            "group" | "egroup" => Column::Group,
            "gid" | "egid" => Column::Gid,
            "comm" | "ucmd" | "ucomm" => Column::Comm,
            "args" | "command" => Column::Args("COMMAND"),
            "cmd" => Column::Args("CMD"),
            "%cpu" | "pcpu" => Column::CpuPercent,
            "c" => Column::Usage,
            "%mem" | "pmem" => Column::MemoryPercent,
            "rss" | "rssize" | "rsz" => Column::ResidentSize,
            "vsz" | "vsize" => Column::VirtualSize,
            "stat" => Column::State("STAT"),
            "s" | "state" => Column::State("S"),
            "tty" | "tt" => Column::Tty("TT"),
            "tname" => Column::Tty("TTY"),
            "time" | "cputime" => Column::Time,
            "etime" => Column::Elapsed,
            "etimes" => Column::ElapsedSeconds,
            "stime" => Column::Start("STIME"),
            "start" | "start_time" => Column::Start("START"),
            "nlwp" | "thcount" => Column::Threads,
            "ni" | "nice" => Column::Nice,
            "pri" => Column::Priority,
            _ => return None,
        })
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Pid => "PID",
            Column::InnerPid => "NSPID",
            Column::Ppid => "PPID",
            Column::ProcessGroup => "PGID",
            Column::Session => "SID",
            Column::Uid => "UID",
            Column::Group => "GROUP",
            Column::Gid => "GID",
            Column::Comm => "COMMAND",
            Column::CpuPercent => "%CPU",
            Column::Usage => "C",
            Column::MemoryPercent => "%MEM",
            Column::ResidentSize => "RSS",
            Column::VirtualSize => "VSZ",
            Column::Time => "TIME",
            Column::Elapsed | Column::ElapsedSeconds => "ELAPSED",
            Column::Threads => "NLWP",
            Column::Nice => "NI",
            Column::Priority => "PRI",
            Column::User(t) | Column::Args(t) | Column::State(t) | Column::Tty(t) | Column::Start(t) => t,
        }
    }

    pub(super) fn text(self, p: &Process, facts: &Facts) -> String {
        match self {
            Column::Pid => p.pid.to_string(),
            Column::InnerPid => p.inner_pid.to_string(),
            Column::Ppid => p.ppid.to_string(),
            Column::ProcessGroup => p.group.to_string(),
            Column::Session => p.session.to_string(),
            Column::User(_) => facts.users.get(&p.uid).cloned().unwrap_or_else(|| p.uid.to_string()),
            Column::Uid => p.uid.to_string(),
            Column::Group => facts.groups.get(&p.gid).cloned().unwrap_or_else(|| p.gid.to_string()),
            Column::Gid => p.gid.to_string(),
            Column::Comm => p.comm.clone(),
            Column::Args(_) if p.args.is_empty() => format!("[{}]", p.comm),
            Column::Args(_) => p.args.join(" "),
            Column::CpuPercent => format!("{:.1}", facts.cpu_share(p)),
            Column::Usage => format!("{}", facts.cpu_share(p).min(99.0) as u64),
            Column::MemoryPercent => format!("{:.1}", 100.0 * p.resident as f64 / facts.memory.max(1) as f64),
            Column::ResidentSize => (p.resident / 1024).to_string(),
            Column::VirtualSize => (p.virtual_size / 1024).to_string(),
            Column::State("S") => p.state.to_string(),
            Column::State(_) => state(p),
            Column::Tty(_) => terminal(p.tty),
            Column::Time => clock(facts.seconds(p.user_time + p.system_time) as u64),
            Column::Elapsed => elapsed(facts.elapsed(p) as u64),
            Column::ElapsedSeconds => (facts.elapsed(p) as u64).to_string(),
            Column::Start(_) => started(facts.now - facts.elapsed(p) as i64, facts.now),
            Column::Threads => p.threads.to_string(),
            Column::Nice => p.nice.to_string(),
            // ps turns the kernel's number around: higher is better.
            Column::Priority => (39 - p.priority).to_string(),
        }
    }
}

/// The state and its marks: see "PROCESS STATE CODES" of ps(1).
fn state(p: &Process) -> String {
    let mut text = String::from(p.state);
    let marks = [
        (p.nice < 0, '<'),
        (p.nice > 0, 'N'),
        (p.locked, 'L'),
        (p.session == p.pid, 's'),
        (p.threads > 1, 'l'),
        (p.foreground == p.group && p.tty != 0, '+'),
    ];
    text.extend(marks.iter().filter(|(set, _)| *set).map(|(_, mark)| mark));
    text
}

/// The name of a terminal by its device number, laid out as in proc_pid_stat(5).
fn terminal(number: u32) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

/// `[DD-]HH:MM:SS`.
fn clock(seconds: u64) -> String {
    let (days, s) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if days > 0 { format!("{days:02}-{time}") } else { time }
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(seconds: u64) -> String {
    let long = clock(seconds);
    if seconds < 3600 { long[3..].to_owned() } else { long }
}

/// The time of day within a day of now, the date otherwise.
fn started(at: i64, now: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time::rfc3339(at, 0);
    if now - at < 86_400 {
        return text[11..16].to_owned();
    }
    let month = text[5..7].parse::<usize>().map_or(0, |m| m - 1);
    format!("{}{}", MONTHS[month % 12], &text[8..10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_and_times_read_as_with_ps() {
        assert_eq!(
            [0, 0x8800, 0x8803, 0x0401, 0x0440, 0x0501].map(terminal),
            ["?", "pts/0", "pts/3", "tty1", "ttyS0", "console"]
        );
        assert_eq!(clock(3_725), "01:02:05");
        assert_eq!(clock(90_061), "01-01:01:01");
        assert_eq!((elapsed(65).as_str(), elapsed(3_600).as_str()), ("01:05", "01:00:00"));
        assert_eq!(started(1_700_000_000, 1_700_000_100), "22:13");
        assert_eq!(started(1_700_000_000, 1_800_000_000), "Nov14");
    }
}
