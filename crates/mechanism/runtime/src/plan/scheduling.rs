//! When and where the process runs, its names turned into numbers: config.md#process, config-linux.md.

use serde::{Deserialize, Serialize};
use tare_model::runtime_spec::{IoPriority, Linux, LinuxMemoryPolicy, LinuxPersonality, Process, Scheduler};
use tare_model::{Error, Kind, Result};

/// A set of CPUs or memory nodes: bit n of word w is number 64 * w + n.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NumberSet(pub Vec<u64>);

impl NumberSet {
    /// Reads the kernel's list format: `0-3,7`.
    ///
    /// # Errors
    /// `Kind::Invalid` for anything else, an empty list, or a number of `limit` or more.
    pub fn parse(what: &'static str, list: &str, limit: usize) -> Result<NumberSet> {
        let bad = |why: String| Error::new(Kind::Invalid, what, format!("{list:?}")).because(why);
        let number = |s: &str| match s.parse::<usize>() {
            Ok(n) if s.bytes().all(|b| b.is_ascii_digit()) => {
                if n < limit {
                    Ok(n)
                } else {
                    Err(bad(format!("{n} is beyond {}", limit - 1)))
                }
            }
            _ => Err(bad(format!("{s:?} is not a number"))),
        };
        let mut words = Vec::new();
        for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (from, to) = match part.split_once('-') {
                Some((from, to)) => (number(from.trim())?, number(to.trim())?),
                None => (number(part)?, number(part)?),
            };
            if from > to {
                return Err(bad(format!("the range {part:?} is backwards")));
            }
            if words.len() <= to / 64 {
                words.resize(to / 64 + 1, 0);
            }
            (from..=to).for_each(|n| words[n / 64] |= 1 << (n % 64));
        }
        if words.is_empty() {
            return Err(bad("it names nothing".into()).hint("write it as in 0-3,7"));
        }
        Ok(NumberSet(words))
    }
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerPlan {
    /// SCHED_….
    pub policy: u32,
    /// SCHED_FLAG_….
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 0, or 1 to 99 for real-time policies.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicyPlan {
    /// MPOL_… and MPOL_F_….
    pub mode: u32,
    /// Empty for the modes without nodes.
    pub nodes: NumberSet,
}

/// Everything about when and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulingPlan {
    /// Policy and priority.
    pub scheduler: Option<SchedulerPlan>,
    /// ioprio_set(2): class above bit 13, level below.
    pub io_priority: Option<u16>,
    /// CPUs before the cgroup is joined; only of a process that joins.
    pub first_cpus: Option<NumberSet>,
    /// CPUs once it is joined; only of a process that joins.
    pub last_cpus: Option<NumberSet>,
    /// Without `last_cpus`: all CPUs of its cpuset, whatever the caller is bound to.
    pub all_cpus: bool,
    /// Where memory comes from.
    pub memory: Option<MemoryPolicyPlan>,
    /// personality(2).
    pub personality: Option<u32>,
}

/// What the kernel takes at most: CONFIG_NR_CPUS of x86, and MAX_NUMNODES.
const CPUS: usize = 8192;
const NODES: usize = 1024;

/// Reads what the process and its container say. Warnings go to `warnings`.
///
/// # Errors
/// `Kind::Invalid` for names and values that the specification does not have, or that contradict each other.
pub(super) fn plan(p: &Process, linux: Option<&Linux>, warnings: &mut Vec<String>) -> Result<SchedulingPlan> {
    let affinity = p.exec_cpuaffinity.clone().unwrap_or_default();
    let cpus = |list: &Option<String>| match list.as_deref().filter(|l| !l.is_empty()) {
        Some(list) => NumberSet::parse("read execCPUAffinity", list, CPUS).map(Some),
        None => Ok(None),
    };
    let first_cpus = cpus(&affinity.initial)?;
    let asked_for = |l: &Linux| l.resources.as_ref()?.cpu.as_ref()?.cpus.as_ref().map(drop);
    Ok(SchedulingPlan {
        // The kernel keeps what a process was bound to over a change of its cpuset.
        all_cpus: first_cpus.is_some() || linux.and_then(asked_for).is_some(),
        scheduler: p.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: p.io_priority.as_ref().map(io_priority).transpose()?,
        first_cpus,
        last_cpus: cpus(&affinity.last)?,
        memory: linux.and_then(|l| l.memory_policy.as_ref()).map(memory).transpose()?,
        personality: match linux.and_then(|l| l.personality.as_ref()) {
            Some(wanted) => Some(personality(wanted, warnings)?),
            None => None,
        },
    })
}

fn scheduler(s: &Scheduler) -> Result<SchedulerPlan> {
    let bad = |why: String| Error::new(Kind::Invalid, "plan scheduler", &s.policy).because(why);
    let policy = match s.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        _ => return Err(bad("no such policy".into()).hint("SCHED_OTHER, FIFO, RR, BATCH, ISO, IDLE or DEADLINE")),
    };
    let real_time = matches!(policy, 1 | 2);
    if !(-20..=19).contains(&s.nice) {
        return Err(bad(format!("nice {} is not within -20 and 19", s.nice)));
    }
    if s.priority != 0 && !real_time {
        return Err(bad("only SCHED_FIFO and SCHED_RR have a priority".into()));
    }
    if real_time && !(1..=99).contains(&s.priority) {
        return Err(bad(format!("priority {} is not within 1 and 99", s.priority)));
    }
    if policy != 6 && (s.runtime, s.deadline, s.period) != (0, 0, 0) {
        return Err(bad("only SCHED_DEADLINE has runtime, deadline and period".into()));
    }
    let flags = s.flags.iter().try_fold(0, |bits, name| match name.as_str() {
        "SCHED_FLAG_RESET_ON_FORK" => Ok(bits | 0x01),
        "SCHED_FLAG_RECLAIM" => Ok(bits | 0x02),
        "SCHED_FLAG_DL_OVERRUN" => Ok(bits | 0x04),
        "SCHED_FLAG_KEEP_POLICY" => Ok(bits | 0x08),
        "SCHED_FLAG_KEEP_PARAMS" => Ok(bits | 0x10),
        "SCHED_FLAG_UTIL_CLAMP_MIN" => Ok(bits | 0x20),
        "SCHED_FLAG_UTIL_CLAMP_MAX" => Ok(bits | 0x40),
        _ => Err(bad(format!("no such flag: {name:?}"))),
    })?;
    Ok(SchedulerPlan {
        policy,
        flags,
        nice: s.nice,
        priority: s.priority.unsigned_abs(),
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
    })
}

fn io_priority(p: &IoPriority) -> Result<u16> {
    let bad = |why: String| Error::new(Kind::Invalid, "plan ioPriority", &p.class).because(why);
    let class = match p.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        _ => return Err(bad("no such class".into()).hint("IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE")),
    };
    match u16::try_from(p.priority) {
        Ok(level) if level <= 7 => Ok(class << 13 | level),
        _ => Err(bad(format!("priority {} is not within 0 and 7", p.priority))),
    }
}

/// Modes of set_mempolicy(2).
const MODES: &[(&str, u32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags that go with them.
const MODE_FLAGS: &[(&str, u32)] =
    &[("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// The names of all modes of a memory policy that a plan takes, and of all their flags.
pub fn memory_policy_names() -> (Vec<&'static str>, Vec<&'static str>) {
    let names = |table: &[(&'static str, u32)]| table.iter().map(|(name, _)| *name).collect();
    (names(MODES), names(MODE_FLAGS))
}

fn memory(m: &LinuxMemoryPolicy) -> Result<MemoryPolicyPlan> {
    let bad = |why: String| Error::new(Kind::Invalid, "plan memoryPolicy", &m.mode).because(why);
    let known = MODES.iter().find(|(name, _)| *name == m.mode);
    let (_, mode) = *known.ok_or_else(|| bad("no such mode".into()))?;
    let flags = m.flags.iter().try_fold(0, |bits, name| match MODE_FLAGS.iter().find(|(known, _)| known == name) {
        Some((_, bit)) => Ok(bits | bit),
        None => Err(bad(format!("no such flag: {name:?}"))),
    })?;
    let nodes = match m.nodes.as_deref().filter(|n| !n.trim().is_empty()) {
        Some(_) if matches!(mode, 0 | 4) => return Err(bad("it takes no nodes".into())),
        Some(list) => NumberSet::parse("read memoryPolicy.nodes", list, NODES)?,
        None if matches!(mode, 2 | 3 | 5 | 6) => return Err(bad("it needs nodes".into())),
        None => NumberSet::default(),
    };
    Ok(MemoryPolicyPlan { mode: mode | flags, nodes })
}

fn personality(p: &LinuxPersonality, warnings: &mut Vec<String>) -> Result<u32> {
    if !p.flags.is_empty() {
        warnings.push(format!("personality flags {:?} were left out: the specification defines none", p.flags));
    }
    match p.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::new(Kind::Invalid, "plan personality", format!("{other:?}"))
            .because("no such domain")
            .hint("LINUX or LINUX32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_kernels() {
        let set = |l: &str| NumberSet::parse("read", l, 256).map(|s| s.0);
        assert_eq!(set("0-3,7").unwrap(), [0x8f]);
        assert_eq!(set("64, 1").unwrap(), [2, 1]);
        for wrong in ["", ",", "a", "1-", "3-1", "+1", "256", "1-2-3", "-1"] {
            assert!(set(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn schedulers_are_checked() {
        let s = |policy: &str, change: fn(&mut Scheduler)| {
            let mut s = Scheduler { policy: policy.into(), ..Default::default() };
            change(&mut s);
            scheduler(&s)
        };
        assert_eq!(s("SCHED_FIFO", |s| s.priority = 5).unwrap().priority, 5);
        assert_eq!(s("SCHED_BATCH", |s| s.nice = -20).unwrap().nice, -20);
        assert_eq!(s("SCHED_DEADLINE", |s| s.flags = vec!["SCHED_FLAG_RECLAIM".into()]).unwrap().flags, 2);
        assert!(s("SCHED_FIFO", |_| ()).is_err());
        assert!(s("SCHED_OTHER", |s| s.priority = 1).is_err());
        assert!(s("SCHED_OTHER", |s| s.nice = 20).is_err());
        assert!(s("SCHED_IDLE", |s| s.runtime = 1).is_err());
        assert!(s("SCHED_OTHER", |s| s.flags = vec!["X".into()]).is_err());
        assert!(s("OTHER", |_| ()).is_err());
    }

    #[test]
    fn the_rest_is_checked() {
        let io = |class: &str, priority| io_priority(&IoPriority { class: class.into(), priority });
        assert_eq!(io("IOPRIO_CLASS_BE", 4).unwrap(), 2 << 13 | 4);
        assert!(io("IOPRIO_CLASS_BE", 8).is_err() && io("IOPRIO_CLASS_NONE", 0).is_err());
        let m = |mode: &str, nodes: Option<&str>, flag: Option<&str>| {
            memory(&LinuxMemoryPolicy {
                mode: mode.into(),
                nodes: nodes.map(str::to_owned),
                flags: flag.into_iter().map(str::to_owned).collect(),
            })
        };
        assert_eq!(m("MPOL_BIND", Some("0"), Some("MPOL_F_STATIC_NODES")).unwrap().mode, 2 | 1 << 15);
        assert!(m("MPOL_BIND", None, None).is_err() && m("MPOL_LOCAL", Some("0"), None).is_err());
        let mut warnings = Vec::new();
        let p = LinuxPersonality { domain: "LINUX32".into(), flags: vec!["X".into()] };
        assert_eq!(personality(&p, &mut warnings).unwrap(), 8);
        assert_eq!(warnings.len(), 1);
    }
}
