//! Limits as properties of a transient scope of systemd: org.freedesktop.systemd1(5), systemd.resource-control(5). Pure.

use super::convert::{Weights, io_weight, swap_max};
use super::devices::{Exception, Policy};
use super::layout::{Layout, Mode};
use serde::{Deserialize, Serialize};
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Kind, Result};

/// A scope, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitName {
    /// `PREFIX-NAME.scope`.
    pub name: String,
    /// `NAME.slice`, or `-.slice` for the top.
    pub slice: String,
}

/// A unit to be started, or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitPlan {
    /// Which.
    pub unit: UnitName,
    /// Limits; what any scope of ours has besides stands in [`UnitPlan::fixed`].
    pub properties: Vec<Property>,
}

/// Name and value of a property.
pub type Property = (String, PropertyValue);

/// The types that the properties of scopes have on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertyValue {
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

use PropertyValue::{Bool, Bytes, Number, Numbers, Pairs, Text};

/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;

impl UnitName {
    /// From `SLICE:PREFIX:NAME`; none is `tare-ID.scope` in `system.slice`.
    pub(super) fn parse(path: Option<&str>, id: &str) -> Result<UnitName> {
        let Some(path) = path else {
            return Ok(UnitName { name: format!("tare-{id}.scope"), slice: "system.slice".into() });
        };
        let parts: Vec<&str> = path.split(':').collect();
        let &[slice, prefix, name] = parts.as_slice() else { return Err(not_a_unit(path)) };
        if name.is_empty() || name.contains('/') || prefix.contains('/') || name.ends_with(".slice") {
            return Err(not_a_unit(path));
        }
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let unit = UnitName { name, slice: slice.to_owned() };
        unit.group()?;
        Ok(unit)
    }

    /// Its group: `a-b.slice` lies in `a.slice`.
    pub(super) fn group(&self) -> Result<String> {
        let bad = || {
            Error::new(Kind::Invalid, "read slice", format!("{:?}", self.slice))
                .because("not the name of a slice")
                .hint("a slice is called NAME.slice; dashes divide the names of those above it")
        };
        let stem = self.slice.strip_suffix(".slice").filter(|s| !s.is_empty() && !s.contains('/')).ok_or_else(bad)?;
        let mut path = String::new();
        if stem != "-" {
            if stem.split('-').any(str::is_empty) {
                return Err(bad());
            }
            let dashes = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
            path.extend(dashes.map(|at| format!("/{}.slice", &stem[..at])));
        }
        Ok(format!("{path}/{}", self.name))
    }

    pub(super) fn bare(&self) -> UnitPlan {
        UnitPlan { unit: self.clone(), properties: Vec::new() }
    }

    /// The unit with those limits that systemd knows: it writes the files again at times of its own, and would undo them
    /// otherwise.
    pub(super) fn plan(&self, layout: &Layout, r: &LinuxResources) -> Result<UnitPlan> {
        let mut out = Vec::new();
        let v2 = layout.mode() == Mode::V2;
        cpu(r, v2, &mut out)?;
        memory(r, v2, &mut out)?;
        if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit) {
            push(&mut out, "TasksMax", or_infinity(if limit == 0 { -1 } else { limit }));
        }
        if let Some(weight) = r.block_io.as_ref().and_then(|b| b.weight).filter(|&w| w > 0) {
            let (name, weight) =
                if v2 { ("IOWeight", io_weight(weight)) } else { ("BlockIOWeight", u64::from(weight)) };
            push(&mut out, name, Number(weight));
        }
        if let Some(policy) = Policy::from_rules(&r.devices)? {
            devices(&policy, &mut out);
        }
        if v2 {
            unified(r, &mut out);
        }
        Ok(UnitPlan { unit: self.clone(), properties: out })
    }
}

impl UnitPlan {
    /// What every scope of ours has, and the processes that it begins with.
    pub(super) fn fixed(&self, pid: u32) -> Vec<Property> {
        let mut out = Vec::new();
        push(&mut out, "Description", Text(format!("container {}", self.unit.name.trim_end_matches(".scope"))));
        push(&mut out, "Slice", Text(self.unit.slice.clone()));
        // The groups below are the container's, and the files of this one ours too.
        push(&mut out, "Delegate", Bool(true));
        push(&mut out, "PIDs", Numbers(vec![pid]));
        for what in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            push(&mut out, what, Bool(true));
        }
        // Else it would be stopped at the beginning of the shutdown, before the engine whose container it is.
        push(&mut out, "DefaultDependencies", Bool(false));
        // One that failed is forgotten like any other.
        push(&mut out, "CollectMode", Text("inactive-or-failed".into()));
        out
    }
}

fn not_a_unit(path: &str) -> Error {
    Error::new(Kind::Invalid, "read cgroupsPath", format!("{path:?}"))
        .because("systemd's manager wants SLICE:PREFIX:NAME")
        .hint("for example system.slice:tare:name, or leave out --systemd-cgroup")
}

fn push(out: &mut Vec<Property>, name: &str, value: PropertyValue) {
    out.retain(|(n, _)| n != name);
    out.push((name.to_owned(), value));
}

/// -1 is no limit.
fn or_infinity(limit: i64) -> PropertyValue {
    Number(u64::try_from(limit).unwrap_or(INFINITY))
}

fn cpu(r: &LinuxResources, v2: bool, out: &mut Vec<Property>) -> Result<()> {
    let Some(c) = &r.cpu else { return Ok(()) };
    if let Some(shares) = c.shares.filter(|&s| s > 0) {
        match v2 {
            true => push(out, "CPUWeight", Number(Weights::Oci.weight(shares))),
            false => push(out, "CPUShares", Number(shares)),
        }
    }
    if v2 && c.idle == Some(1) {
        push(out, "CPUWeight", Number(0));
    }
    quota(c.quota.unwrap_or(0), c.period.unwrap_or(0), out);
    for (name, list) in [("AllowedCPUs", &c.cpus), ("AllowedMemoryNodes", &c.mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            push(out, name, Bytes(bits(list)?));
        }
    }
    Ok(())
}

fn quota(quota: i64, period: u64, out: &mut Vec<Property>) {
    if period != 0 {
        push(out, "CPUQuotaPeriodUSec", Number(period));
    }
    if quota != 0 {
        let period = if period == 0 { 100_000 } else { period };
        // systemd keeps whole percents: rounded up, or the groups below could not get the quota that was asked for.
        let per_second =
            u64::try_from(quota).map_or(INFINITY, |q| (q.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000);
        push(out, "CPUQuotaPerSecUSec", Number(per_second));
    }
}

fn memory(r: &LinuxResources, v2: bool, out: &mut Vec<Property>) -> Result<()> {
    let Some(m) = &r.memory else { return Ok(()) };
    if let Some(limit) = m.limit.filter(|&l| l != 0) {
        push(out, if v2 { "MemoryMax" } else { "MemoryLimit" }, or_infinity(limit));
    }
    if !v2 {
        return Ok(());
    }
    if let Some(low) = m.reservation.filter(|&l| l != 0) {
        push(out, "MemoryLow", or_infinity(low));
    }
    // An update of swap alone is the files' matter: it depends on what is in force.
    if m.limit.is_some_and(|l| l != 0)
        && let Some(swap) = swap_max(m.limit, m.swap)?
    {
        push(out, "MemorySwapMax", Number(swap.parse().unwrap_or(INFINITY)));
    }
    Ok(())
}

/// Of the files that the document names itself those that systemd has properties for.
fn unified(r: &LinuxResources, out: &mut Vec<Property>) {
    for (file, value) in &r.unified {
        let value = value.trim();
        let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
        let name = match file.as_str() {
            "cpu.weight" => "CPUWeight",
            "memory.min" => "MemoryMin",
            "memory.low" => "MemoryLow",
            "memory.high" => "MemoryHigh",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.idle" if value == "1" => {
                push(out, "CPUWeight", Number(0));
                continue;
            }
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let limit = words.next().map_or(0, |q| if q == "max" { -1 } else { q.parse().unwrap_or(0) });
                quota(limit, words.next().and_then(|p| p.parse().ok()).unwrap_or(0), out);
                continue;
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                if let Ok(bytes) = bits(value) {
                    push(out, name, Bytes(bytes));
                }
                continue;
            }
            _ => continue,
        };
        if let Some(n) = number() {
            push(out, name, Number(n));
        }
    }
}

/// A list like `0-2,5` as the bits of bytes, the lowest first.
fn bits(list: &str) -> Result<Vec<u8>> {
    let bad = || Error::new(Kind::Invalid, "read list of numbers", format!("{list:?}"));
    let mut out: Vec<u8> = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.trim().parse::<usize>().ok().filter(|&n| n < 1 << 16).ok_or_else(bad);
        for n in number(first)?..=number(last)? {
            if out.len() <= n / 8 {
                out.resize(n / 8 + 1, 0);
            }
            out[n / 8] |= 1 << (n % 8);
        }
    }
    Ok(out)
}

/// Rules by numbers, for which no node need exist. What systemd cannot say (one minor number of any major) is left out:
/// it is denied then.
fn devices(policy: &Policy, out: &mut Vec<Property>) {
    let kind = |e: &Exception| if e.kind == 'b' { "block" } else { "char" };
    let entry = |e: &Exception| {
        let what = match (e.major, e.minor) {
            (None, None) => format!("{}-*", kind(e)),
            (Some(major), None) => format!("{}-{major}", kind(e)),
            (Some(major), Some(minor)) => format!("/dev/{}/{major}:{minor}", kind(e)),
            (None, Some(_)) => return None,
        };
        Some((what, e.access.clone()))
    };
    let (name, list) = match policy.allow_by_default {
        true => ("auto", Vec::new()),
        false => ("strict", policy.exceptions.iter().filter_map(entry).collect()),
    };
    push(out, "DevicePolicy", Text(name.into()));
    // systemd adds a list to what there is; an empty one empties it.
    push(out, "DeviceAllow", Pairs(Vec::new()));
    if !list.is_empty() {
        out.push(("DeviceAllow".to_owned(), Pairs(list)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::{v1, v2};
    use super::*;
    use tare_model::runtime_spec::{LinuxCpu, LinuxMemory, LinuxPids};

    #[test]
    fn slices_expand() {
        let group = |slice: &str| UnitName::parse(Some(&format!("{slice}:p:n")), "id").and_then(|u| u.group());
        assert_eq!(group("a-b-c.slice").unwrap(), "/a.slice/a-b.slice/a-b-c.slice/p-n.scope");
        assert_eq!(group("-.slice").unwrap(), "/p-n.scope");
        assert_eq!(group("").unwrap(), "/system.slice/p-n.scope");
        for bad in ["a", "a--b.slice", "-a.slice", ".slice", "a/b.slice"] {
            assert_eq!(group(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        assert_eq!(UnitName::parse(None, "id").unwrap().name, "tare-id.scope");
        assert_eq!(UnitName::parse(Some("a.slice::n"), "id").unwrap().name, "n.scope");
    }

    #[test]
    fn limits_as_properties() {
        let r = LinuxResources {
            cpu: Some(LinuxCpu {
                shares: Some(1024),
                quota: Some(25_500),
                period: Some(100_000),
                cpus: Some("0-2,9".into()),
                ..LinuxCpu::default()
            }),
            memory: Some(LinuxMemory { limit: Some(100), swap: Some(300), ..LinuxMemory::default() }),
            pids: Some(LinuxPids { limit: Some(-1) }),
            devices: super::super::default_rules(),
            unified: [("memory.high".to_owned(), "max".to_owned())].into(),
            ..LinuxResources::default()
        };
        let unit = UnitName::parse(None, "id").unwrap();
        let plan = unit.plan(&v2("cpu memory pids cpuset"), &r).unwrap();
        let of = |plan: &UnitPlan, name: &str| plan.properties.iter().rfind(|(n, _)| n == name).map(|(_, v)| v.clone());
        assert_eq!(of(&plan, "CPUWeight"), Some(Number(100)));
        assert_eq!(of(&plan, "CPUQuotaPerSecUSec"), Some(Number(260_000)), "whole percents, rounded up");
        assert_eq!(of(&plan, "AllowedCPUs"), Some(Bytes(vec![0b111, 0b10])));
        assert_eq!((of(&plan, "MemoryMax"), of(&plan, "MemorySwapMax")), (Some(Number(100)), Some(Number(200))));
        assert_eq!((of(&plan, "TasksMax"), of(&plan, "MemoryHigh")), (Some(Number(INFINITY)), Some(Number(INFINITY))));
        assert_eq!(of(&plan, "DevicePolicy"), Some(Text("strict".into())));
        let Some(Pairs(allowed)) = of(&plan, "DeviceAllow") else { panic!("{plan:?}") };
        for (what, how) in [("char-*", "m"), ("/dev/char/1:3", "rwm"), ("char-136", "rwm")] {
            assert!(allowed.contains(&(what.into(), how.into())), "{what}: {allowed:?}");
        }
        let plan = unit.plan(&v1(), &r).unwrap();
        assert_eq!((of(&plan, "CPUShares"), of(&plan, "MemoryLimit")), (Some(Number(1024)), Some(Number(100))));
        assert_eq!((of(&plan, "MemorySwapMax"), of(&plan, "CPUWeight")), (None, None));
    }
}
