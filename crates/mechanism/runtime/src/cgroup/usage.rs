//! What a group uses: one reading table for v1, one for v2.

use super::files::{self, keyed, number};
use super::group::{Group, Member};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_model::Result;

/// What a group and those below it use. A part whose controller this host lacks is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Processor time.
    pub cpu: Option<CpuUsage>,
    /// Tasks.
    pub pids: Option<PidsUsage>,
    /// Block devices, ascending by number.
    pub io: Vec<DeviceIo>,
}

/// Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// In use now, page cache included.
    pub current: u64,
    /// The most that was in use; v2 kernels before 5.19 do not say.
    pub peak: Option<u64>,
    /// The hard limit; none is unlimited.
    pub limit: Option<u64>,
    /// Swap in use, where swap is accounted for.
    pub swap: Option<u64>,
    /// Page cache.
    pub cache: u64,
    /// The part of the cache that can be dropped at once; `current` less this is what docker shows.
    pub inactive_file: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
}

/// Nanoseconds, and counts of periods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuUsage {
    /// User and system together.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Periods in which the quota counted.
    pub periods: u64,
    /// Of these, those in which it was used up.
    pub throttled_periods: u64,
    /// Waited for the next period.
    pub throttled: u64,
}

/// Tasks (threads count).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PidsUsage {
    /// There now.
    pub current: u64,
    /// The limit; none is unlimited.
    pub limit: Option<u64>,
}

/// Transfers of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

impl Group {
    /// Reads what the group uses now.
    ///
    /// # Errors
    /// What the kernel refuses; a group that has gone meanwhile gives zeros.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage {
            memory: self.with("memory").map(memory).transpose()?,
            cpu: self.usage_of_cpu()?,
            pids: self.with("pids").map(pids).transpose()?,
            io: self.io_usage()?,
        })
    }

    pub(super) fn usage_of_cpu(&self) -> Result<Option<CpuUsage>> {
        // cgroup2 counts time in every group, whether the controller is handed down or not; on a hybrid host v1's numbers
        // are the ones with limits.
        let v1 = |c| self.with(c).filter(|m| !m.is_v2());
        match (v1("cpuacct"), v1("cpu"), self.unified()) {
            (None, None, Some(m)) => cpu_v2(m).map(Some),
            (None, None, None) => Ok(None),
            (account, cpu, _) => cpu_v1(account, cpu).map(Some),
        }
    }

    fn io_usage(&self) -> Result<Vec<DeviceIo>> {
        if let Some(m) = self.with("io") {
            return Ok(io_v2(&text(m, "io.stat")?));
        }
        let Some(m) = self.with("blkio") else { return Ok(Vec::new()) };
        Ok(io_v1(
            &text(m, "blkio.throttle.io_service_bytes_recursive")?,
            &text(m, "blkio.throttle.io_serviced_recursive")?,
        ))
    }
}

fn text(m: &Member, file: &str) -> Result<String> {
    Ok(files::read(&m.dir, file)?.unwrap_or_default())
}

struct MemoryFiles {
    current: &'static str,
    peak: &'static str,
    limit: &'static str,
    events: &'static str,
    cache: &'static str,
    inactive_file: &'static str,
}

const MEMORY_V1: MemoryFiles = MemoryFiles {
    current: "memory.usage_in_bytes",
    peak: "memory.max_usage_in_bytes",
    limit: "memory.limit_in_bytes",
    events: "memory.oom_control",
    cache: "total_cache",
    inactive_file: "total_inactive_file",
};

const MEMORY_V2: MemoryFiles = MemoryFiles {
    current: "memory.current",
    peak: "memory.peak",
    limit: "memory.max",
    events: "memory.events",
    cache: "file",
    inactive_file: "inactive_file",
};

fn memory(m: &Member) -> Result<MemoryUsage> {
    let f = if m.is_v2() { &MEMORY_V2 } else { &MEMORY_V1 };
    let stat = text(m, "memory.stat")?;
    // v1 counts memory and swap together and has swap alone only among its statistics.
    let swap = if m.is_v2() { number(&text(m, "memory.swap.current")?) } else { keyed(&stat, "total_swap") };
    Ok(MemoryUsage {
        current: number(&text(m, f.current)?).unwrap_or(0),
        peak: number(&text(m, f.peak)?),
        limit: number(&text(m, f.limit)?),
        swap,
        cache: keyed(&stat, f.cache).unwrap_or(0),
        inactive_file: keyed(&stat, f.inactive_file).unwrap_or(0),
        oom_kills: keyed(&text(m, f.events)?, "oom_kill").unwrap_or(0),
    })
}

fn pids(m: &Member) -> Result<PidsUsage> {
    Ok(PidsUsage { current: number(&text(m, "pids.current")?).unwrap_or(0), limit: number(&text(m, "pids.max")?) })
}

fn cpu_v1(account: Option<&Member>, cpu: Option<&Member>) -> Result<CpuUsage> {
    let mut usage = CpuUsage::default();
    if let Some(m) = account {
        let value = |file| Ok::<_, tare_model::Error>(number(&text(m, file)?).unwrap_or(0));
        usage.total = value("cpuacct.usage")?;
        usage.user = value("cpuacct.usage_user")?;
        usage.system = value("cpuacct.usage_sys")?;
    }
    if let Some(m) = cpu {
        let stat = text(m, "cpu.stat")?;
        usage.periods = keyed(&stat, "nr_periods").unwrap_or(0);
        usage.throttled_periods = keyed(&stat, "nr_throttled").unwrap_or(0);
        usage.throttled = keyed(&stat, "throttled_time").unwrap_or(0);
    }
    Ok(usage)
}

fn cpu_v2(m: &Member) -> Result<CpuUsage> {
    let stat = text(m, "cpu.stat")?;
    let value = |key| keyed(&stat, key).unwrap_or(0);
    Ok(CpuUsage {
        total: value("usage_usec") * 1000,
        user: value("user_usec") * 1000,
        system: value("system_usec") * 1000,
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled: value("throttled_usec") * 1000,
    })
}

/// Lines `8:0 Read 4096`, once for bytes and once for operations.
fn io_v1(bytes: &str, operations: &str) -> Vec<DeviceIo> {
    let mut devices: BTreeMap<(u32, u32), DeviceIo> = BTreeMap::new();
    let mut each = |text: &str, set: fn(&mut DeviceIo, bool, u64)| {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some((major, minor)), Some(what), Some(n)) =
                (words.next().and_then(device), words.next(), words.next().and_then(|n| n.parse().ok()))
            else {
                continue;
            };
            let entry = devices.entry((major, minor)).or_insert(DeviceIo { major, minor, ..DeviceIo::default() });
            match what {
                "Read" => set(entry, true, n),
                "Write" => set(entry, false, n),
                _ => {}
            }
        }
    };
    each(bytes, |d, read, n| if read { d.read_bytes = n } else { d.written_bytes = n });
    each(operations, |d, read, n| if read { d.reads = n } else { d.writes = n });
    devices.into_values().collect()
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn io_v2(text: &str) -> Vec<DeviceIo> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let mut d = DeviceIo { major, minor, ..DeviceIo::default() };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let n = value.parse().unwrap_or(0);
            match key {
                "rbytes" => d.read_bytes = n,
                "wbytes" => d.written_bytes = n,
                "rios" => d.reads = n,
                "wios" => d.writes = n,
                _ => {}
            }
        }
        Some(d)
    };
    let mut devices: Vec<DeviceIo> = text.lines().filter_map(line).collect();
    devices.sort_by_key(|d| (d.major, d.minor));
    devices
}

fn device(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_of_both_versions() {
        let want = DeviceIo { major: 254, minor: 0, read_bytes: 4096, written_bytes: 8192, reads: 1, writes: 2 };
        let v1 = io_v1(
            "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 8192\nTotal 12288\n",
            "254:0 Read 1\n254:0 Write 2\n254:0 Total 3\nTotal 3\n",
        );
        assert_eq!(v1, std::slice::from_ref(&want));
        assert_eq!(io_v2("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:0\n")[1], want);
        assert_eq!(io_v2(""), []);
    }
}
