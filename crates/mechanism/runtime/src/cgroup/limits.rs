//! OCI resources as writes: one table for v1, one for v2.
//!
//! A row is one limit: its place in the document, the controller, the file and how the value is written. A limit that a
//! version does not have has its row too, with no file: asking for it there is an error that says so. Rows stand in the
//! order of writing (period before quota before burst; memory before memory and swap).
//! Source: Documentation/admin-guide/cgroup-v1/*, cgroup-v2.rst; runtime-spec config-linux.md "Control groups".

use super::convert::{Weights, io_weight, memory_and_swap, swap_max};
use super::layout::{Layout, Version};
use serde::{Deserialize, Serialize};
use tare_model::runtime_spec::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice};
use tare_model::{Error, Kind, Result};

/// A value for a file of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Write {
    /// Whose file it is.
    pub controller: String,
    /// Name of the file.
    pub file: String,
    /// What is written.
    pub value: String,
    /// File and value of the same meaning, where the kernel lacks the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<(String, String)>,
    /// Where the kernel lacks the file, nothing is lost: what it would say holds anyhow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A document, and the scale to which its shares are converted.
pub(super) struct Asked<'a> {
    resources: &'a LinuxResources,
    weights: Weights,
}

impl std::ops::Deref for Asked<'_> {
    type Target = LinuxResources;

    fn deref(&self) -> &LinuxResources {
        self.resources
    }
}

/// A value to write, and what stands for `{}` in the file's name.
struct Value {
    key: String,
    text: String,
    optional: bool,
}

impl Value {
    fn new(text: impl ToString) -> Value {
        Value { key: String::new(), text: text.to_string(), optional: false }
    }

    /// For a value that a kernel without the file has anyhow.
    fn optional(self) -> Value {
        Value { optional: true, ..self }
    }
}

/// The values of a limit in a document: none where it is not asked for, several where a file takes a line per device.
type Format = fn(&Asked<'_>) -> Result<Vec<Value>>;

struct Row {
    /// Name in the OCI document, for messages.
    limit: &'static str,
    controller: &'static str,
    /// None: this version has no such limit.
    file: Option<&'static str>,
    format: Format,
    /// Another file of the same meaning, for kernels that lack the first.
    fallback: Option<(&'static str, Format)>,
}

const fn row(limit: &'static str, controller: &'static str, file: &'static str, format: Format) -> Row {
    Row { limit, controller, file: Some(file), format, fallback: None }
}

const fn none(limit: &'static str, controller: &'static str, format: Format) -> Row {
    Row { limit, controller, file: None, format, fallback: None }
}

const fn either(mut row: Row, file: &'static str, format: Format) -> Row {
    row.fallback = Some((file, format));
    row
}

const V1: &[Row] = &[
    row("cpu.cpus", "cpuset", "cpuset.cpus", |r| some(cpu(r).and_then(|c| text(c.cpus.as_ref())))),
    row("cpu.mems", "cpuset", "cpuset.mems", |r| some(cpu(r).and_then(|c| text(c.mems.as_ref())))),
    row("cpu.shares", "cpu", "cpu.shares", |r| some(cpu(r).and_then(|c| c.shares).filter(|&s| s > 0))),
    row("cpu.idle", "cpu", "cpu.idle", |r| some(cpu(r).and_then(|c| c.idle))),
    row("cpu.realtimePeriod", "cpu", "cpu.rt_period_us", |r| {
        some(cpu(r).and_then(|c| c.realtime_period).filter(|&p| p > 0))
    }),
    row("cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", |r| {
        some(cpu(r).and_then(|c| c.realtime_runtime).filter(|&p| p != 0))
    }),
    row("cpu.period", "cpu", "cpu.cfs_period_us", |r| some(cpu(r).and_then(|c| c.period).filter(|&p| p > 0))),
    row("cpu.quota", "cpu", "cpu.cfs_quota_us", |r| some(cpu(r).and_then(|c| c.quota).filter(|&q| q != 0))),
    row("cpu.burst", "cpu", "cpu.cfs_burst_us", |r| some(cpu(r).and_then(|c| c.burst))),
    row("memory.limit", "memory", "memory.limit_in_bytes", |r| {
        some(memory(r).and_then(|m| m.limit).filter(|&l| l != 0))
    }),
    row("memory.swap", "memory", "memory.memsw.limit_in_bytes", |r| {
        let Some(m) = memory(r) else { return Ok(Vec::new()) };
        // Lifting the limit of memory lifts that of both, where the kernel accounts for swap.
        match (m.limit.unwrap_or(0), m.swap.unwrap_or(0)) {
            (..0, 0) => Ok(vec![Value::new(-1).optional()]),
            _ => some(memory_and_swap(m.limit, m.swap)?),
        }
    }),
    row("memory.reservation", "memory", "memory.soft_limit_in_bytes", |r| {
        some(memory(r).and_then(|m| m.reservation).filter(|&l| l != 0))
    }),
    row("memory.kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", |r| {
        some(memory(r).and_then(|m| m.kernel_tcp).filter(|&l| l != 0))
    }),
    row("memory.swappiness", "memory", "memory.swappiness", |r| some(memory(r).and_then(|m| m.swappiness))),
    row("memory.disableOOMKiller", "memory", "memory.oom_control", |r| {
        some(memory(r).and_then(|m| m.disable_oomkiller).map(u8::from))
    }),
    // Kernels of today have no other than hierarchical accounting: they refuse 0, or have no such file.
    row("memory.useHierarchy", "memory", "memory.use_hierarchy", |r| {
        Ok(memory(r)
            .and_then(|m| m.use_hierarchy)
            .map(|h| Value { optional: h, ..Value::new(u8::from(h)) })
            .into_iter()
            .collect())
    }),
    row("pids.limit", "pids", "pids.max", pids_max),
    either(
        row("blockIO.weight", "blkio", "blkio.weight", |r| some(io(r).and_then(|b| b.weight).filter(|&w| w > 0))),
        "blkio.bfq.weight",
        |r| some(io(r).and_then(|b| b.weight)),
    ),
    row("blockIO.leafWeight", "blkio", "blkio.leaf_weight", |r| {
        some(io(r).and_then(|b| b.leaf_weight).filter(|&w| w > 0))
    }),
    either(
        row("blockIO.weightDevice", "blkio", "blkio.weight_device", weight_devices),
        "blkio.bfq.weight_device",
        weight_devices,
    ),
    row("blockIO.weightDevice.leafWeight", "blkio", "blkio.leaf_weight_device", leaf_weight_devices),
    row("blockIO.throttleReadBpsDevice", "blkio", "blkio.throttle.read_bps_device", |r| {
        v1_throttle(r, |b| &b.throttle_read_bps_device)
    }),
    row("blockIO.throttleWriteBpsDevice", "blkio", "blkio.throttle.write_bps_device", |r| {
        v1_throttle(r, |b| &b.throttle_write_bps_device)
    }),
    row("blockIO.throttleReadIOPSDevice", "blkio", "blkio.throttle.read_iops_device", |r| {
        v1_throttle(r, |b| &b.throttle_read_iops_device)
    }),
    row("blockIO.throttleWriteIOPSDevice", "blkio", "blkio.throttle.write_iops_device", |r| {
        v1_throttle(r, |b| &b.throttle_write_iops_device)
    }),
    row("hugepageLimits", "hugetlb", "hugetlb.{}.limit_in_bytes", huge_pages),
    row("hugepageLimits", "hugetlb", "hugetlb.{}.rsvd.limit_in_bytes", reserved_huge_pages),
    row("network.classID", "net_cls", "net_cls.classid", |r| some(r.network.as_ref().and_then(|n| n.class_id))),
    row("network.priorities", "net_prio", "net_prio.ifpriomap", priorities),
    row("rdma", "rdma", "rdma.max", rdma),
];

const V2: &[Row] = &[
    row("cpu.cpus", "cpuset", "cpuset.cpus", |r| some(cpu(r).and_then(|c| text(c.cpus.as_ref())))),
    row("cpu.mems", "cpuset", "cpuset.mems", |r| some(cpu(r).and_then(|c| text(c.mems.as_ref())))),
    row("cpu.shares", "cpu", "cpu.weight", |r| {
        some(cpu(r).and_then(|c| c.shares).filter(|&s| s > 0).map(|s| r.weights.weight(s)))
    }),
    row("cpu.idle", "cpu", "cpu.idle", |r| some(cpu(r).and_then(|c| c.idle))),
    row("cpu.quota", "cpu", "cpu.max", cpu_max),
    row("cpu.burst", "cpu", "cpu.max.burst", |r| some(cpu(r).and_then(|c| c.burst))),
    none("cpu.realtimePeriod", "cpu", |r| some(cpu(r).and_then(|c| c.realtime_period).filter(|&p| p > 0))),
    none("cpu.realtimeRuntime", "cpu", |r| some(cpu(r).and_then(|c| c.realtime_runtime).filter(|&p| p != 0))),
    row("memory.limit", "memory", "memory.max", |r| {
        some(memory(r).and_then(|m| m.limit).filter(|&l| l != 0).map(or_max))
    }),
    row("memory.swap", "memory", "memory.swap.max", |r| {
        let Some(m) = memory(r) else { return Ok(Vec::new()) };
        // Without swap in the kernel there is none to use, and none to limit.
        let value = |v: String| Value { optional: v == "max" || v == "0", ..Value::new(v) };
        Ok(swap_max(m.limit, m.swap)?.map(value).into_iter().collect())
    }),
    row("memory.reservation", "memory", "memory.low", |r| {
        some(memory(r).and_then(|m| m.reservation).filter(|&l| l != 0).map(or_max))
    }),
    none("memory.kernelTCP", "memory", |r| some(memory(r).and_then(|m| m.kernel_tcp).filter(|&l| l != 0))),
    none("memory.swappiness", "memory", |r| some(memory(r).and_then(|m| m.swappiness))),
    none("memory.disableOOMKiller", "memory", |r| some(memory(r).and_then(|m| m.disable_oomkiller).filter(|&d| d))),
    none("memory.useHierarchy", "memory", |r| some(memory(r).and_then(|m| m.use_hierarchy).filter(|&h| !h))),
    row("pids.limit", "pids", "pids.max", pids_max),
    either(
        // BFQ's file has v1's scale; io.weight belongs to the iocost controller.
        row("blockIO.weight", "io", "io.bfq.weight", |r| some(io(r).and_then(|b| b.weight).filter(|&w| w > 0))),
        "io.weight",
        |r| some(io(r).and_then(|b| b.weight).map(|w| format!("default {}", io_weight(w)))),
    ),
    none("blockIO.leafWeight", "io", |r| some(io(r).and_then(|b| b.leaf_weight).filter(|&w| w > 0))),
    either(row("blockIO.weightDevice", "io", "io.bfq.weight", weight_devices), "io.weight", |r| {
        io(r).map_or(Ok(Vec::new()), |b| {
            lines(
                b.weight_device.iter().filter_map(|d| {
                    Some(format!("{}:{} {}", d.major, d.minor, io_weight(d.weight.filter(|&w| w > 0)?)))
                }),
            )
        })
    }),
    none("blockIO.weightDevice.leafWeight", "io", leaf_weight_devices),
    row("blockIO.throttleReadBpsDevice", "io", "io.max", |r| v2_throttle(r, "rbps", |b| &b.throttle_read_bps_device)),
    row("blockIO.throttleWriteBpsDevice", "io", "io.max", |r| v2_throttle(r, "wbps", |b| &b.throttle_write_bps_device)),
    row("blockIO.throttleReadIOPSDevice", "io", "io.max", |r| {
        v2_throttle(r, "riops", |b| &b.throttle_read_iops_device)
    }),
    row("blockIO.throttleWriteIOPSDevice", "io", "io.max", |r| {
        v2_throttle(r, "wiops", |b| &b.throttle_write_iops_device)
    }),
    row("hugepageLimits", "hugetlb", "hugetlb.{}.max", huge_pages),
    row("hugepageLimits", "hugetlb", "hugetlb.{}.rsvd.max", reserved_huge_pages),
    none("network.classID", "net_cls", |r| some(r.network.as_ref().and_then(|n| n.class_id))),
    none("network.priorities", "net_prio", priorities),
    row("rdma", "rdma", "rdma.max", rdma),
];

/// v1's controllers and what they are called on v2, where that differs or they have none there: blkio became io; cpuacct
/// is part of cpu; devices became BPF programs; freezer and perf_event became part of every group; net_cls and net_prio
/// were left out, since BPF can see a socket's group.
const ON_V2: &[(&str, &str)] = &[("blkio", "io")];

/// The writes that `resources` need on this host.
///
/// # Errors
/// Unsupported for a limit whose controller this host lacks or whose version has none; Invalid for values that cannot be.
pub(super) fn writes(layout: &Layout, resources: &LinuxResources, weights: Weights) -> Result<Vec<Write>> {
    let asked = Asked { resources, weights };
    no_less_than_none(resources)?;
    let mut out = Vec::new();
    // By the v1 table first, since every limit stands in it; what cgroup2 has is then taken from the v2 table.
    for r in V1 {
        let h = layout.with_controller(r.controller);
        if h.is_some_and(|h| h.version == Version::V1) {
            out.extend(r.writes(&asked)?);
        } else if h.is_none() && !on_v2(layout, r.controller) && !(r.format)(&asked)?.is_empty() {
            return Err(lacking(r.limit, r.controller, "the controller is not there"));
        }
    }
    for r in V2 {
        if layout.with_controller(r.controller).is_some_and(|h| h.version == Version::V2) {
            match r.file {
                Some(_) => out.extend(r.writes(&asked)?),
                None if (r.format)(&asked)?.is_empty() => {}
                None => return Err(lacking(r.limit, r.controller, "cgroup2 has none")),
            }
        }
    }
    unified(layout, resources, &mut out)?;
    Ok(out)
}

/// -1 stands for no limit, and other negative numbers for nothing.
fn no_less_than_none(r: &LinuxResources) -> Result<()> {
    let Some(m) = &r.memory else { return Ok(()) };
    for (what, limit) in [("memory.limit", m.limit), ("memory.swap", m.swap), ("memory.reservation", m.reservation)] {
        if let Some(limit) = limit.filter(|&l| l < -1) {
            return Err(Error::new(Kind::Invalid, "limit", format!("{what} to {limit}"))
                .hint("-1 is no limit; any other has to be positive"));
        }
    }
    Ok(())
}

/// Files that the kernel checks against each other, or that are one limit in two files: their rows stand together, they
/// are written in the order that the kernel takes, and an update changes all of them or none.
pub(super) fn relation(file: &str) -> Option<u8> {
    Some(match file {
        "cpuset.cpus" | "cpuset.mems" => 0,
        "cpu.shares" | "cpu.weight" | "cpu.idle" => 1,
        "cpu.rt_period_us" | "cpu.rt_runtime_us" => 2,
        "cpu.cfs_period_us" | "cpu.cfs_quota_us" | "cpu.cfs_burst_us" | "cpu.max" | "cpu.max.burst" => 3,
        "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes" | "memory.max" | "memory.swap.max" => 4,
        _ => return None,
    })
}

fn on_v2(layout: &Layout, controller: &str) -> bool {
    let name = ON_V2.iter().find(|(v1, _)| *v1 == controller).map_or(controller, |(_, v2)| v2);
    layout.with_controller(name).is_some()
}

/// Files of cgroup2 that the document names itself.
fn unified(layout: &Layout, resources: &LinuxResources, out: &mut Vec<Write>) -> Result<()> {
    for (file, value) in &resources.unified {
        let controller = file.split('.').next().unwrap_or_default();
        if file.contains('/') || !file.contains('.') {
            return Err(Error::new(Kind::Invalid, "limit unified", format!("{file:?}"))
                .because("not the name of a cgroup file"));
        }
        let there =
            layout.unified().is_some_and(|u| controller == "cgroup" || u.controllers.iter().any(|c| c == controller));
        if !there {
            return Err(lacking(&format!("unified {file}"), controller, "cgroup2 does not have the controller here"));
        }
        out.push(Write { controller: controller.into(), file: file.clone(), value: value.clone(), ..Write::default() });
    }
    Ok(())
}

/// "No such limit on this host".
pub(super) fn lacking(limit: &str, controller: &str, why: &str) -> Error {
    Error::new(Kind::Unsupported, "limit", limit)
        .because(format!("no such limit on this host ({controller}: {why})"))
        .hint("leave the limit out; `tare info` lists the controllers of this host")
}

impl Row {
    fn writes(&self, resources: &Asked<'_>) -> Result<Vec<Write>> {
        let Some(file) = self.file else { return Ok(Vec::new()) };
        let values = (self.format)(resources)?;
        let others = match self.fallback {
            Some((_, format)) if !values.is_empty() => format(resources)?,
            _ => Vec::new(),
        };
        let write = |(i, v): (usize, Value)| Write {
            controller: self.controller.into(),
            file: file.replace("{}", &v.key),
            value: v.text,
            optional: v.optional,
            fallback: self.fallback.and_then(|(f, _)| Some((f.to_owned(), others.get(i)?.text.clone()))),
        };
        Ok(values.into_iter().enumerate().map(write).collect())
    }
}

fn cpu(r: &LinuxResources) -> Option<&tare_model::runtime_spec::LinuxCpu> {
    r.cpu.as_ref()
}

fn memory(r: &LinuxResources) -> Option<&tare_model::runtime_spec::LinuxMemory> {
    r.memory.as_ref()
}

fn io(r: &LinuxResources) -> Option<&LinuxBlockIo> {
    r.block_io.as_ref()
}

#[expect(clippy::unnecessary_wraps, reason = "the table's rows have one type, and some can fail")]
fn some<T: ToString>(value: Option<T>) -> Result<Vec<Value>> {
    Ok(value.map(Value::new).into_iter().collect())
}

#[expect(clippy::unnecessary_wraps, reason = "the table's rows have one type, and some can fail")]
fn lines(values: impl Iterator<Item = String>) -> Result<Vec<Value>> {
    Ok(values.map(Value::new).collect())
}

fn text(value: Option<&String>) -> Option<String> {
    value.filter(|s| !s.is_empty()).cloned()
}

/// v2 writes "no limit" as a word.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

fn pids_max(r: &Asked<'_>) -> Result<Vec<Value>> {
    some(r.pids.as_ref().and_then(|p| p.limit).map(|l| if l <= 0 { "max".into() } else { l.to_string() }))
}

/// Quota and period in one file; the kernel keeps the period where only the quota is written.
fn cpu_max(r: &Asked<'_>) -> Result<Vec<Value>> {
    let Some(c) = cpu(r) else { return Ok(Vec::new()) };
    let period = c.period.filter(|&p| p > 0);
    let quota = c.quota.filter(|&q| q != 0);
    if quota.is_none() && period.is_none() {
        return Ok(Vec::new());
    }
    let quota = quota.map_or_else(|| "max".into(), or_max);
    some(Some(match period {
        Some(p) => format!("{quota} {p}"),
        None => quota,
    }))
}

fn weight_devices(r: &Asked<'_>) -> Result<Vec<Value>> {
    by_device(r, |d| d.weight)
}

fn leaf_weight_devices(r: &Asked<'_>) -> Result<Vec<Value>> {
    by_device(r, |d| d.leaf_weight)
}

fn by_device(r: &LinuxResources, of: fn(&LinuxWeightDevice) -> Option<u16>) -> Result<Vec<Value>> {
    let line = |d: &LinuxWeightDevice| Some(format!("{}:{} {}", d.major, d.minor, of(d).filter(|&w| w > 0)?));
    io(r).map_or(Ok(Vec::new()), |b| lines(b.weight_device.iter().filter_map(line)))
}

fn v1_throttle(r: &LinuxResources, of: fn(&LinuxBlockIo) -> &Vec<LinuxThrottleDevice>) -> Result<Vec<Value>> {
    io(r).map_or(Ok(Vec::new()), |b| lines(of(b).iter().map(|d| format!("{}:{} {}", d.major, d.minor, d.rate))))
}

fn v2_throttle(
    r: &LinuxResources,
    key: &str,
    of: fn(&LinuxBlockIo) -> &Vec<LinuxThrottleDevice>,
) -> Result<Vec<Value>> {
    // v1's way to lift a limit is 0, which v2 would refuse.
    let rate = |n: u64| if n == 0 { "max".to_owned() } else { n.to_string() };
    io(r).map_or(Ok(Vec::new()), |b| {
        lines(of(b).iter().map(|d| format!("{}:{} {key}={}", d.major, d.minor, rate(d.rate))))
    })
}

fn huge_pages(r: &Asked<'_>) -> Result<Vec<Value>> {
    let value = |h: &tare_model::runtime_spec::LinuxHugepageLimit| {
        if h.page_size.is_empty() || !h.page_size.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::new(Kind::Invalid, "limit hugepageLimits", format!("{:?}", h.page_size))
                .because("not a page size")
                .hint("sizes are written as the kernel does: 64KB, 2MB, 1GB"));
        }
        Ok(Value { key: h.page_size.clone(), ..Value::new(h.limit) })
    };
    r.hugepage_limits.iter().map(value).collect()
}

/// The same for pages that are reserved and not yet touched, since 5.7: a mapping beyond the limit then fails at once,
/// and not by SIGBUS later.
fn reserved_huge_pages(r: &Asked<'_>) -> Result<Vec<Value>> {
    Ok(huge_pages(r)?.into_iter().map(Value::optional).collect())
}

fn priorities(r: &Asked<'_>) -> Result<Vec<Value>> {
    r.network
        .as_ref()
        .map_or(Ok(Vec::new()), |n| lines(n.priorities.iter().map(|p| format!("{} {}", p.name, p.priority))))
}

fn rdma(r: &Asked<'_>) -> Result<Vec<Value>> {
    lines(r.rdma.iter().map(|(device, l)| {
        let part = |key: &str, n: Option<u32>| n.map(|n| format!(" {key}={n}")).unwrap_or_default();
        format!("{device}{}{}", part("hca_handle", l.hca_handles), part("hca_object", l.hca_objects))
    }))
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
