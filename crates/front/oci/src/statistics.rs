//! What `events` prints of a container: the form of runc's lines, which containerd and others read.
//!
//! Counts that are 0 are left out where runc leaves them out.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tare_model::Result;
use tare_runtime::cgroup::{Counter, Cpuset, Details, Group, Usage};

/// A line about what a group uses.
pub(crate) fn line(id: &str, group: &Group) -> Result<Value> {
    let (usage, details) = (group.usage()?, group.details()?);
    Ok(json!({ "type": "stats", "id": id, "data": data(&usage, &details) }))
}

/// A line about processes killed for want of memory.
pub(crate) fn oom(id: &str) -> Value {
    json!({ "type": "oom", "id": id })
}

fn data(usage: &Usage, details: &Details) -> Value {
    json!({
        "cpu": cpu(usage, details),
        "cpuset": cpuset(&details.cpuset),
        "memory": memory(usage, details),
        "pids": pids(usage),
        "blkio": block_io(usage),
        "hugetlb": huge_pages(&details.huge_pages),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// An object of those values that are not 0, empty, or absent.
fn object<const N: usize>(values: [(&str, Value); N]) -> Value {
    let nothing = |v: &Value| v.is_null() || *v == json!(0) || *v == json!([]) || *v == json!({});
    Value::Object(
        values.into_iter().filter(|(_, v)| !nothing(v)).map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>(),
    )
}

fn cpu(usage: &Usage, details: &Details) -> Value {
    let cpu = usage.cpu.clone().unwrap_or_default();
    let [all, user, kernel] = &details.each_cpu;
    let mut times = object([
        ("total", json!(cpu.total)),
        ("percpu", json!(all)),
        ("percpu_kernel", json!(kernel)),
        ("percpu_user", json!(user)),
    ]);
    times["kernel"] = json!(cpu.system);
    times["user"] = json!(cpu.user);
    let throttling = object([
        ("periods", json!(cpu.periods)),
        ("throttledPeriods", json!(cpu.throttled_periods)),
        ("throttledTime", json!(cpu.throttled)),
    ]);
    json!({ "usage": times, "throttling": throttling })
}

fn cpuset(cpuset: &Cpuset) -> Value {
    let mut out = object([("cpus", json!(cpuset.cpus)), ("mems", json!(cpuset.mems))]);
    let names = [
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
    for name in names {
        out[name] = json!(cpuset.switches.get(name).copied().unwrap_or(0));
    }
    out
}

fn counter(counter: &Counter) -> Value {
    let mut out = object([("usage", json!(counter.usage)), ("max", json!(counter.peak))]);
    out["limit"] = json!(counter.limit);
    out["failcnt"] = json!(counter.failures);
    out
}

fn memory(usage: &Usage, details: &Details) -> Value {
    let mut out =
        object([("cache", json!(usage.memory.as_ref().map_or(0, |m| m.cache))), ("raw", json!(details.memory_stat))]);
    let all = [
        ("usage", &details.memory),
        ("swap", &details.memory_and_swap),
        ("kernel", &details.kernel),
        ("kernelTCP", &details.kernel_tcp),
    ];
    for (name, count) in all {
        out[name] = counter(count);
    }
    out
}

fn pids(usage: &Usage) -> Value {
    let Some(pids) = &usage.pids else { return json!({}) };
    object([("current", json!(pids.current)), ("limit", json!(pids.limit.unwrap_or(0)))])
}

fn block_io(usage: &Usage) -> Value {
    let list = |read: fn(&tare_runtime::cgroup::DeviceIo) -> u64, write: fn(&tare_runtime::cgroup::DeviceIo) -> u64| {
        let entries = usage.io.iter().flat_map(|d| {
            let entry = |op: &str, value| {
                object([
                    ("major", json!(d.major)),
                    ("minor", json!(d.minor)),
                    ("op", json!(op)),
                    ("value", json!(value)),
                ])
            };
            [entry("Read", read(d)), entry("Write", write(d))]
        });
        Value::from(entries.collect::<Vec<_>>())
    };
    object([
        ("ioServiceBytesRecursive", list(|d| d.read_bytes, |d| d.written_bytes)),
        ("ioServicedRecursive", list(|d| d.reads, |d| d.writes)),
    ])
}

fn huge_pages(pages: &BTreeMap<String, Counter>) -> Value {
    let entry = |c: &Counter| {
        let mut out = object([("usage", json!(c.usage)), ("max", json!(c.peak))]);
        out["failcnt"] = json!(c.failures);
        out
    };
    Value::Object(pages.iter().map(|(size, count)| (size.clone(), entry(count))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_where_runc_leaves_them_out() {
        let empty = data(&Usage::default(), &Details::default());
        assert_eq!(empty["cpu"], json!({ "usage": { "kernel": 0, "user": 0 }, "throttling": {} }));
        assert_eq!(empty["memory"]["usage"], json!({ "limit": 0, "failcnt": 0 }));
        assert_eq!((&empty["pids"], &empty["blkio"], &empty["hugetlb"]), (&json!({}), &json!({}), &json!({})));
        let io = tare_runtime::cgroup::DeviceIo { major: 8, read_bytes: 5, ..Default::default() };
        let usage = Usage { io: vec![io], ..Usage::default() };
        let entries = &data(&usage, &Details::default())["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(entries[0], json!({ "major": 8, "op": "Read", "value": 5 }));
    }
}
