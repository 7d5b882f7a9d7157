use crate::context::Context;
use crate::state::{self, Container, Status};
use clap::Args;
use rustix::fd::{AsFd, OwnedFd};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tare_model::runtime_spec::{LinuxBlockIo, LinuxCpu, LinuxIntelRdt, LinuxMemory, LinuxPids, LinuxResources, Spec};
use tare_model::{Error, Kind, Result};
use tare_runtime::rdt::{self, RdtPlan};

/// Change the limits of a container
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// File with the specification's resources object; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds of a period
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds of processor time in a period; -1 is unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds of saved-up quota
    #[arg(long, value_name = "N")]
    pub(crate) cpu_burst: Option<u64>,
    /// Weight against others
    #[arg(long, value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Microseconds of a real-time period
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds of real-time scheduling in a period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Processors
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// 1: run only where nothing else wants to
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Bytes of memory; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// Bytes of memory below which the group is spared
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Bytes of memory and swap together; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Number of tasks; 0 or -1 is unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// Intel RDT: schema of the memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: UpdateArgs, context: &Context) -> Result<u8> {
    let mut resources = match &args.resources {
        Some(path) => read(path)?,
        None => args.resources()?,
    };
    if args.kernel_memory.is_some() || args.kernel_memory_tcp.is_some() {
        context.log.warn("limits of kernel memory are obsolete, and were left out");
    }
    let container = Container::load_locked(context, &args.id)?;
    if !matches!(container.status()?, Status::Created | Status::Running | Status::Paused) {
        return Err(Error::new(Kind::State, "update", &args.id).because("container not running"));
    }
    let mut spec = container.spec()?;
    let rdt = args.rdt(&spec)?;
    // Whether usage is looked at first was said when the container was made, unless this update says otherwise.
    let made_with = spec.linux.as_ref().and_then(|l| l.resources.as_ref()?.memory.as_ref()?.check_before_update);
    if let Some(memory) = &mut resources.memory {
        memory.check_before_update = memory.check_before_update.or(made_with);
    }
    if resources != LinuxResources::default() {
        let applied = container.place()?.update(&resources)?;
        for (file, value) in &applied.written {
            context.log.debug(&format!("{file} = {value}"));
        }
    }
    if let Some((plan, root)) = rdt {
        rdt::update(&plan, root.as_fd())?;
    }
    let linux = spec.linux.get_or_insert_default();
    linux.resources = Some(merged(linux.resources.as_ref(), &resources)?);
    let text = serde_json::to_vec(&spec).map_err(|e| Error::new(Kind::Invalid, "write", "config.json").because(e))?;
    state::write(&container.dir, state::CONFIG, &text)?;
    Ok(0)
}

/// The resources of a file, or of standard input.
fn read(path: &Path) -> Result<LinuxResources> {
    let shown = path.display();
    let text =
        if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|e| Error::io("read resources", &shown, e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::new(Kind::Invalid, "read resources", shown)
            .because(e)
            .hint("the file holds the object that stands in config.json as linux.resources")
    })
}

impl UpdateArgs {
    /// What the flags say, in the specification's form.
    fn resources(&self) -> Result<LinuxResources> {
        let memory = LinuxMemory {
            limit: bytes("memory", self.memory.as_deref())?,
            reservation: bytes("memory-reservation", self.memory_reservation.as_deref())?,
            swap: bytes("memory-swap", self.memory_swap.as_deref())?,
            ..LinuxMemory::default()
        };
        let cpu = LinuxCpu {
            shares: self.cpu_share,
            quota: self.cpu_quota,
            burst: self.cpu_burst,
            period: self.cpu_period,
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period,
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            idle: self.cpu_idle,
        };
        Ok(LinuxResources {
            memory: some(memory),
            cpu: some(cpu),
            pids: self.pids_limit.map(|limit| LinuxPids { limit: Some(limit) }),
            block_io: some(LinuxBlockIo { weight: self.blkio_weight, ..LinuxBlockIo::default() }),
            ..LinuxResources::default()
        })
    }
}

impl UpdateArgs {
    /// New schemata for the container's class, and where classes are. Looked for before anything is changed.
    fn rdt(&self, spec: &Spec) -> Result<Option<(RdtPlan, OwnedFd)>> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let (l3, bandwidth) = (given(&self.l3_cache_schema), given(&self.mem_bw_schema));
        if l3.is_none() && bandwidth.is_none() {
            return Ok(None);
        }
        let Some(own) = spec.linux.as_ref().and_then(|l| l.intel_rdt.as_ref()) else {
            return Err(Error::new(Kind::Invalid, "update", "Intel RDT")
                .because("the container was created without linux.intelRdt"));
        };
        let wanted = LinuxIntelRdt {
            clos_id: own.clos_id.clone(),
            l3_cache_schema: l3,
            mem_bw_schema: bandwidth,
            ..LinuxIntelRdt::default()
        };
        let plan = rdt::plan(&wanted, &self.id)?;
        Ok(Some((plan, rdt::open(&rdt::fields(&wanted))?)))
    }
}

fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// A count of bytes as runc takes it: a number, perhaps with a fraction, perhaps with a unit of 1024 (`64m`, `1.5GiB`).
fn bytes(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(-1));
    }
    let wrong = || {
        Error::new(Kind::Invalid, "use", format!("--{flag} {text}"))
            .because(format!("invalid value for {flag}: invalid size: '{text}'"))
            .hint("a number of bytes, or one with a unit: 64m, 1g; -1 is unlimited")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match lower[digits.len()..].trim_start() {
        "" | "b" => 1_u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(wrong()),
    };
    let plain = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).and_then(|n| i64::try_from(n).ok());
    let fraction = || {
        let well_formed = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains('.');
        let value = digits.parse::<f64>().ok().filter(|_| well_formed)? * unit as f64;
        (value < i64::MAX as f64).then_some(value as i64)
    };
    plain.or_else(fraction).map(Some).ok_or_else(wrong)
}

/// The resources that stand after an update: what it does not name stays.
fn merged(before: Option<&LinuxResources>, update: &LinuxResources) -> Result<LinuxResources> {
    let fail = |e: serde_json::Error| Error::new(Kind::Invalid, "merge", "resources").because(e);
    let mut all = serde_json::to_value(before.cloned().unwrap_or_default()).map_err(fail)?;
    lay_over(&mut all, serde_json::to_value(update).map_err(fail)?);
    serde_json::from_value(all).map_err(fail)
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_runc_reads_them() {
        let of = |t| bytes("memory", Some(t)).map(Option::unwrap);
        for (text, value) in [
            ("0", 0),
            ("64m", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("100", 100),
            ("7b", 7),
            ("-1", -1),
            ("1P", 1 << 50),
        ] {
            assert_eq!(of(text).unwrap(), value, "{text}");
        }
        for text in ["64x", "m", "-2", "1e3", "99999999999999999999", ".5g", "inf", "nan", "9000p9"] {
            let e = of(text).unwrap_err();
            assert!(e.to_string().contains("invalid value for memory") && e.first_hint().is_some(), "{text}: {e}");
        }
        assert_eq!(bytes("memory", None).unwrap(), None);
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let read = |text| serde_json::from_str::<LinuxResources>(text).unwrap();
        let before = read(r#"{"memory":{"limit":1,"swap":2},"pids":{"limit":3},"devices":[{"allow":false}]}"#);
        let after = merged(Some(&before), &read(r#"{"memory":{"limit":5},"cpu":{"shares":7}}"#)).unwrap();
        let wanted =
            r#"{"memory":{"limit":5,"swap":2},"pids":{"limit":3},"devices":[{"allow":false}],"cpu":{"shares":7}}"#;
        assert_eq!(after, read(wanted));
        assert_eq!(merged(None, &before).unwrap(), before);
    }
}
