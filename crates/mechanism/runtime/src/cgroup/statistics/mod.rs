//! Statistics in the shape of runc's `events --stats`, which callers parse: names and units of its document, empty parts
//! left out as it does. From v1's files, or from cgroup2's with the meanings that runc gives them.

mod read;

use serde::Serialize;
use std::collections::BTreeMap;

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

#[cfg(test)]
mod tests {
    use super::read::{blkio_lines, list};
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
