//! Counters beyond [`super::Usage`], for those who print everything that a group counts.

use super::files::{self, keyed, number};
use super::group::{Group, Member};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_model::Result;

/// What the kernel counts of one thing in a group. What it does not tell is 0; a limit that is none is `u64::MAX` or, on
/// v1, the kernel's own largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counter {
    /// At most.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// The most so far.
    pub peak: u64,
    /// How often the limit was met.
    pub failures: u64,
}

/// The processors and memory nodes of a group, and v1's switches of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpuset {
    /// Numbers of processors.
    pub cpus: Vec<u16>,
    /// Numbers of memory nodes.
    pub mems: Vec<u16>,
    /// v1's other files, by name without `cpuset.`.
    pub switches: BTreeMap<String, i64>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Details {
    /// Nanoseconds on each processor: all, in user mode, in the kernel. v1 only.
    pub each_cpu: [Vec<u64>; 3],
    /// Memory, in bytes.
    pub memory: Counter,
    /// Memory and swap together, in bytes.
    pub memory_and_swap: Counter,
    /// The kernel's memory, in bytes.
    pub kernel: Counter,
    /// Buffers of TCP, in bytes. v1 only.
    pub kernel_tcp: Counter,
    /// memory.stat.
    pub memory_stat: BTreeMap<String, u64>,
    /// Where it may run.
    pub cpuset: Cpuset,
    /// Huge pages in bytes, by size (`2MB`).
    pub huge_pages: BTreeMap<String, Counter>,
}

/// Processors and nodes have numbers below.
const MOST: u16 = 8192;

const SWITCHES: [&str; 9] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

impl Group {
    /// Reads all counters. A controller that this host lacks leaves its part empty.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn details(&self) -> Result<Details> {
        let mut out = Details::default();
        if let Some(m) = self.with("cpuacct").filter(|m| !m.is_v2()) {
            for (file, times) in ["usage_percpu", "usage_percpu_user", "usage_percpu_sys"].iter().zip(&mut out.each_cpu)
            {
                let text = text(m, &format!("cpuacct.{file}"))?;
                *times = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            }
        }
        if let Some(m) = self.with("memory") {
            out.memory_stat = text(m, "memory.stat")?.lines().filter_map(pair).collect();
            if m.is_v2() { memory_v2(m, &mut out)? } else { memory_v1(m, &mut out)? }
        }
        if let Some(m) = self.with("cpuset") {
            out.cpuset = cpuset(m)?;
        }
        if let Some(m) = self.with("hugetlb") {
            out.huge_pages = huge_pages(m)?;
        }
        Ok(out)
    }
}

fn text(m: &Member, file: &str) -> Result<String> {
    Ok(files::read(&m.dir, file)?.unwrap_or_default())
}

fn pair(line: &str) -> Option<(String, u64)> {
    let (key, value) = line.split_once(' ')?;
    Some((key.to_owned(), value.trim().parse().ok()?))
}

fn memory_v1(m: &Member, out: &mut Details) -> Result<()> {
    let value = |file: String| Ok::<_, tare_model::Error>(number(&text(m, &file)?).unwrap_or(0));
    let counter = |prefix: &str| {
        Ok::<_, tare_model::Error>(Counter {
            limit: value(format!("{prefix}limit_in_bytes"))?,
            usage: value(format!("{prefix}usage_in_bytes"))?,
            peak: value(format!("{prefix}max_usage_in_bytes"))?,
            failures: value(format!("{prefix}failcnt"))?,
        })
    };
    out.memory = counter("memory.")?;
    out.memory_and_swap = counter("memory.memsw.")?;
    out.kernel = counter("memory.kmem.")?;
    out.kernel_tcp = counter("memory.kmem.tcp.")?;
    Ok(())
}

/// cgroup2 counts swap alone; together with memory it is what v1 tells.
fn memory_v2(m: &Member, out: &mut Details) -> Result<()> {
    let counter = |current: &str, max: &str, peak: &str, events: &str| {
        Ok::<_, tare_model::Error>(Counter {
            limit: number(&text(m, max)?).unwrap_or(u64::MAX),
            usage: number(&text(m, current)?).unwrap_or(0),
            peak: number(&text(m, peak)?).unwrap_or(0),
            failures: keyed(&text(m, events)?, "max").unwrap_or(0),
        })
    };
    out.memory = counter("memory.current", "memory.max", "memory.peak", "memory.events")?;
    let swap = counter("memory.swap.current", "memory.swap.max", "memory.swap.peak", "memory.swap.events")?;
    out.memory_and_swap = Counter {
        limit: out.memory.limit.saturating_add(swap.limit),
        usage: out.memory.usage + swap.usage,
        peak: 0,
        failures: swap.failures,
    };
    out.kernel.usage = out.memory_stat.get("kernel").copied().unwrap_or(0);
    Ok(())
}

fn cpuset(m: &Member) -> Result<Cpuset> {
    let list = |file: &str| {
        // On cgroup2 an empty list means that of the group above, which only `effective` tells.
        let own = text(m, &format!("cpuset.{file}"))?;
        let text = if own.trim().is_empty() { text(m, &format!("cpuset.{file}.effective"))? } else { own };
        Ok::<_, tare_model::Error>(numbers(&text))
    };
    let mut out = Cpuset { cpus: list("cpus")?, mems: list("mems")?, switches: BTreeMap::new() };
    for name in SWITCHES {
        if let Some(value) = text(m, &format!("cpuset.{name}"))?.trim().parse().ok().filter(|_| !m.is_v2()) {
            out.switches.insert(name.to_owned(), value);
        }
    }
    Ok(out)
}

/// `0-2,7`.
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        Some(from..=to.min(MOST))
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn huge_pages(m: &Member) -> Result<BTreeMap<String, Counter>> {
    let mut out = BTreeMap::new();
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    for kib in sizes
        .filter_map(|e| e.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok())
    {
        let size = match kib {
            k if k >= 1 << 20 => format!("{}GB", k >> 20),
            k if k >= 1 << 10 => format!("{}MB", k >> 10),
            k => format!("{k}KB"),
        };
        let (usage, limit) = if m.is_v2() { ("current", "max") } else { ("usage_in_bytes", "limit_in_bytes") };
        let value = |file: &str| Ok::<_, tare_model::Error>(number(&text(m, &format!("hugetlb.{size}.{file}"))?));
        let failures = match m.is_v2() {
            true => keyed(&text(m, &format!("hugetlb.{size}.events"))?, "max"),
            false => value("failcnt")?,
        };
        if let Some(usage) = value(usage)? {
            let counter = Counter {
                usage,
                limit: value(limit)?.unwrap_or(u64::MAX),
                peak: value("max_usage_in_bytes")?.unwrap_or(0),
                failures: failures.unwrap_or(0),
            };
            out.insert(size, counter);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_pairs_are_read() {
        assert_eq!(numbers("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(numbers("0-65535").len(), usize::from(MOST) + 1);
        assert_eq!(numbers("\n"), []);
        assert_eq!(pair("total_rss 12"), Some(("total_rss".into(), 12)));
        assert_eq!(pair("x"), None);
    }
}
