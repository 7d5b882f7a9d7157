//! The files that [`Statistics`] come from.

use super::super::files::{self, keyed};
use super::super::group::{Group, Member};
use super::*;
use tare_model::Result;

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
pub(super) fn list(text: &str) -> Vec<u16> {
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
pub(super) fn blkio_lines(text: &str) -> Vec<BlkioEntry> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        Some(BlkioEntry { major, minor, op: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}
