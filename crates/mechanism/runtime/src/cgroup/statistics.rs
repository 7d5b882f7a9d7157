//! Statistics in the shape of runc's `events --stats`, which callers parse: names and units of its document, empty parts
//! left out as it does. From v1's files, or from cgroup2's with the meanings that runc gives them.

use super::files::{self, keyed};
use super::group::{Group, Member};
use serde::Serialize;
use std::collections::BTreeMap;
use tare_model::Result;

/// The `data` of an event of type `stats`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Statistics {
    /// Processor time.
    pub cpu: Cpu,
    /// v1's cpuset; zeros on cgroup2.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by page size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Nothing here comes from cgroups.
    pub intel_rdt: BTreeMap<String, u64>,
    /// None: interfaces are made by others.
    pub network_interfaces: Option<Vec<u64>>,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cpu {
    /// Used.
    pub usage: CpuTime,
    /// Held back by the quota.
    pub throttling: Throttling,
    /// Waiting for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CpuTime {
    /// User and kernel.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// Periods, and nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Throttling {
    /// In which the quota counted.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// In which it was used up.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Held back.
    #[serde(rename = "throttledTime", skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (cgroup2).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pressure {
    /// Some tasks wait.
    pub some: PressureLine,
    /// All tasks wait.
    pub full: PressureLine,
}

/// Percents over 10, 60 and 300 seconds; microseconds in all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct PressureLine {
    /// See the type.
    pub avg10: f64,
    /// See the type.
    pub avg60: f64,
    /// See the type.
    pub avg300: f64,
    /// See the type.
    pub total: u64,
}

/// The files of v1's cpuset.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cpuset {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`; the rest likewise.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// See above.
    pub mem_hardwall: u64,
    /// See above.
    pub mem_exclusive: u64,
    /// See above.
    pub memory_migrate: u64,
    /// See above.
    pub memory_spread_page: u64,
    /// See above.
    pub memory_spread_slab: u64,
    /// See above.
    pub memory_pressure: u64,
    /// See above.
    pub sched_load_balance: u64,
    /// See above; -1 is the system's.
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Memory {
    /// Page cache in bytes.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap.
    pub swap: MemoryEntry,
    /// The kernel's part (v1).
    pub kernel: MemoryEntry,
    /// TCP buffers (v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Bytes, and how often the limit was hit.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MemoryEntry {
    /// No limit: v1's largest number, or that of 64 bits on cgroup2.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// Times that the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// 0: none.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block devices; groups below counted too.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Blkio {
    /// Bytes.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub serviced: Vec<BlkioEntry>,
    /// Waiting for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of operation on one device.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// See the list that it is in.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Hugetlb {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most (v1).
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// Times that the limit was hit.
    pub failcnt: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn zero(n: &u64) -> bool {
    *n == 0
}

impl Group {
    /// Reads the statistics. Parts whose controller is not there are empty.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn statistics(&self) -> Result<Statistics> {
        let mut out = Statistics::default();
        let part = |c: &str| self.with(c).map(Files);
        self.cpu_statistics(&mut out.cpu)?;
        if let Some(f) = part("cpuset").filter(|f| !f.0.is_v2()) {
            out.cpuset = f.cpuset()?;
        }
        if let Some(f) = part("memory") {
            out.memory = if f.0.is_v2() { f.memory_v2()? } else { f.memory_v1()? };
        }
        if let Some(f) = part("pids") {
            out.pids = Pids { current: f.number("pids.current")?, limit: f.limit("pids.max")?.unwrap_or(0) };
        }
        if let Some(f) = part("io") {
            out.blkio = f.io_v2()?;
        } else if let Some(f) = part("blkio") {
            out.blkio = f.io_v1()?;
        }
        if let Some(f) = part("hugetlb") {
            out.hugetlb = f.huge_pages()?;
        }
        Ok(out)
    }

    fn cpu_statistics(&self, out: &mut Cpu) -> Result<()> {
        if let Some(time) = self.usage_of_cpu()? {
            (out.usage.total, out.usage.user, out.usage.kernel) = (time.total, time.user, time.system);
            out.throttling = Throttling {
                periods: time.periods,
                throttled_periods: time.throttled_periods,
                throttled_time: time.throttled,
            };
        }
        if let Some(f) = self.with("cpuacct").map(Files) {
            let numbers = |t: &str| t.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<u64>>();
            out.usage.percpu = numbers(&f.text("cpuacct.usage_percpu")?);
            // A line for each processor after the heading: its number, user, system.
            for line in f.text("cpuacct.usage_all")?.lines().skip(1) {
                if let &[_, user, system] = numbers(line).as_slice() {
                    out.usage.percpu_user.push(user);
                    out.usage.percpu_kernel.push(system);
                }
            }
        } else if let Some(m) = self.unified() {
            out.psi = Files(m).pressure("cpu.pressure")?;
        }
        Ok(())
    }
}

/// The files of one group in one hierarchy.
struct Files<'a>(&'a Member);

impl Files<'_> {
    fn text(&self, file: &str) -> Result<String> {
        Ok(files::read(&self.0.dir, file)?.unwrap_or_default())
    }

    /// 0 where there is no such file.
    fn number(&self, file: &str) -> Result<u64> {
        Ok(self.text(file)?.trim().parse().unwrap_or(0))
    }

    /// None for `max`.
    fn limit(&self, file: &str) -> Result<Option<u64>> {
        Ok(files::number(&self.text(file)?))
    }

    fn cpuset(&self) -> Result<Cpuset> {
        let n = |name: &str| self.number(&format!("cpuset.{name}"));
        Ok(Cpuset {
            cpus: list(&self.text("cpuset.cpus")?),
            cpu_exclusive: n("cpu_exclusive")?,
            mems: list(&self.text("cpuset.mems")?),
            mem_hardwall: n("mem_hardwall")?,
            mem_exclusive: n("mem_exclusive")?,
            memory_migrate: n("memory_migrate")?,
            memory_spread_page: n("memory_spread_page")?,
            memory_spread_slab: n("memory_spread_slab")?,
            memory_pressure: n("memory_pressure")?,
            sched_load_balance: n("sched_load_balance")?,
            sched_relax_domain_level: self.text("cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0),
        })
    }

    fn memory_v1(&self) -> Result<Memory> {
        let entry = |part: &str| {
            let n = |what: &str| self.number(&format!("memory.{part}{what}"));
            Ok::<_, tare_model::Error>(MemoryEntry {
                limit: n("limit_in_bytes")?,
                usage: n("usage_in_bytes")?,
                max: n("max_usage_in_bytes")?,
                failcnt: n("failcnt")?,
            })
        };
        let raw = pairs(&self.text("memory.stat")?);
        Ok(Memory {
            cache: raw.get("cache").copied().unwrap_or(0),
            usage: entry("")?,
            swap: entry("memsw.")?,
            kernel: entry("kmem.")?,
            kernel_tcp: entry("kmem.tcp.")?,
            raw,
            psi: None,
        })
    }

    fn memory_v2(&self) -> Result<Memory> {
        let entry = |part: &str| {
            let n = |what: &str| self.number(&format!("memory.{part}{what}"));
            Ok::<_, tare_model::Error>(MemoryEntry {
                limit: self.limit(&format!("memory.{part}max"))?.unwrap_or(u64::MAX),
                usage: n("current")?,
                max: n("peak")?,
                failcnt: keyed(&self.text(&format!("memory.{part}events"))?, "max").unwrap_or(0),
            })
        };
        let raw = pairs(&self.text("memory.stat")?);
        let (usage, alone) = (entry("")?, entry("swap.")?);
        // v1 counts both together, and readers of this document expect that.
        let swap = MemoryEntry {
            limit: alone.limit.saturating_add(usage.limit),
            usage: alone.usage + usage.usage,
            max: 0,
            failcnt: alone.failcnt,
        };
        let psi = self.pressure("memory.pressure")?;
        let cache = raw.get("file").copied().unwrap_or(0);
        Ok(Memory { cache, usage, swap, raw, psi, ..Memory::default() })
    }

    /// The lines of v1's files: BFQ's, if a device uses it, else those of the throttle, which sees every device.
    fn io_v1(&self) -> Result<Blkio> {
        let of = |file: &str| {
            let bfq = blkio_lines(&self.text(&format!("blkio.bfq.{file}"))?);
            if !bfq.is_empty() {
                return Ok::<_, tare_model::Error>(bfq);
            }
            Ok(blkio_lines(&self.text(&format!("blkio.throttle.{file}"))?))
        };
        Ok(Blkio {
            service_bytes: of("io_service_bytes_recursive")?,
            serviced: of("io_serviced_recursive")?,
            psi: None,
        })
    }

    fn io_v2(&self) -> Result<Blkio> {
        const KEYS: &[(&str, bool, &str)] = &[
            ("rbytes", true, "Read"),
            ("wbytes", true, "Write"),
            ("dbytes", true, "Discard"),
            ("rios", false, "Read"),
            ("wios", false, "Write"),
            ("dios", false, "Discard"),
        ];
        let mut out = Blkio { psi: self.pressure("io.pressure")?, ..Blkio::default() };
        for line in self.text("io.stat")?.lines() {
            let mut words = line.split_whitespace();
            let Some((major, minor)) = words.next().and_then(device) else { continue };
            for (key, value) in words.filter_map(|w| w.split_once('=')) {
                let (Some((_, bytes, op)), Ok(value)) = (KEYS.iter().find(|(k, ..)| *k == key), value.parse()) else {
                    continue;
                };
                let entry = BlkioEntry { major, minor, op: (*op).to_owned(), value };
                if *bytes { &mut out.service_bytes } else { &mut out.serviced }.push(entry);
            }
        }
        Ok(out)
    }

    fn huge_pages(&self) -> Result<BTreeMap<String, Hugetlb>> {
        let v2 = self.0.is_v2();
        let end = if v2 { ".current" } else { ".usage_in_bytes" };
        let mut out = BTreeMap::new();
        for name in files::names(&self.0.dir)? {
            let Some(size) = name.strip_prefix("hugetlb.").and_then(|n| n.strip_suffix(end)) else { continue };
            if size.contains('.') {
                // `2MB.rsvd`: reservations.
                continue;
            }
            let file = |what: &str| format!("hugetlb.{size}.{what}");
            let entry = match v2 {
                true => Hugetlb {
                    usage: self.number(&name)?,
                    max: 0,
                    failcnt: keyed(&self.text(&file("events"))?, "max").unwrap_or(0),
                },
                false => Hugetlb {
                    usage: self.number(&name)?,
                    max: self.number(&file("max_usage_in_bytes"))?,
                    failcnt: self.number(&file("failcnt"))?,
                },
            };
            out.insert(size.to_owned(), entry);
        }
        Ok(out)
    }

    /// None where the kernel does not account for pressure.
    fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        let text = self.text(file)?;
        if text.is_empty() {
            return Ok(None);
        }
        let line = |name: &str| {
            let mut out = PressureLine::default();
            let words = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            for (key, value) in words.split_whitespace().filter_map(|w| w.split_once('=')) {
                let percent = || value.parse().unwrap_or(0.0);
                match key {
                    "avg10" => out.avg10 = percent(),
                    "avg60" => out.avg60 = percent(),
                    "avg300" => out.avg300 = percent(),
                    "total" => out.total = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            out
        };
        Ok(Some(Pressure { some: line("some "), full: line("full ") }))
    }
}

/// Lines `key value`.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    text.lines().filter_map(|l| l.split_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect()
}

/// `0-2,5`.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines `8:0 Read 4096`; the sum at the end is left out.
fn blkio_lines(text: &str) -> Vec<BlkioEntry> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        Some(BlkioEntry { major, minor, op: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_names_are_those_of_runc() {
        let json = serde_json::to_string(&Statistics::default()).unwrap();
        let zeros = r#"{"limit":0,"failcnt":0}"#;
        let want = format!(
            r#"{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}},"memory":{{"usage":{zeros},"swap":{zeros},"kernel":{zeros},"kernelTCP":{zeros}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}},"intel_rdt":{{}},"network_interfaces":null}}"#
        );
        assert_eq!(json, want);
        let entry = BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 };
        assert_eq!(blkio_lines("8:0 Read 4096\nTotal 4096\n"), std::slice::from_ref(&entry));
        let blkio = Blkio { service_bytes: vec![entry], ..Blkio::default() };
        assert_eq!(
            serde_json::to_string(&blkio).unwrap(),
            r#"{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":4096}]}"#
        );
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert!(list("\n").is_empty());
    }
}
