//! Changing the limits of a group in use.

use super::apply::{apply_set, sets};
use super::attach::hand_down;
use super::devices::Policy;
use super::files;
use super::group::{Group, Member};
use super::layout::{Layout, Version};
use super::limits::{self, Write, relation};
use super::plan::{device_writes, of_hierarchy};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::os::fd::AsFd;
use tare_kernel::bpf;
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Kind, Result};

/// What an update has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// File and value, in the order of writing.
    pub written: Vec<(String, String)>,
    /// Whether a BPF program of device rules has been replaced; on v1 device rules are among `written`.
    pub device_program: bool,
}

impl Group {
    /// Applies the limits that `resources` name; what they do not name stays. A failure half-way leaves the limits before
    /// it in force and says which these are. Limits that are one in two files (memory, memory and swap; period, quota)
    /// change together: when one of them is refused, the others get back what they had.
    ///
    /// # Errors
    /// As [`super::plan`] and [`super::create`]; State for `checkBeforeUpdate` with a limit below the usage.
    pub fn update(&self, resources: &LinuxResources) -> Result<Applied> {
        let layout = Layout { hierarchies: self.members.iter().map(|m| m.hierarchy.clone()).collect() };
        let resources = self.completed(resources)?;
        let writes = limits::writes(&layout, &resources, self.weights)?;
        let policy = Policy::from_rules(&resources.devices)?;
        self.check_usage(&resources)?;
        let mut update = Update::default();
        for m in &self.members {
            let mut own = of_hierarchy(&m.hierarchy, &writes);
            if let (Version::V1, Some(p)) = (m.hierarchy.version, &policy)
                && m.hierarchy.controllers.iter().any(|c| c == "devices")
            {
                let listed = files::read(&m.dir, "devices.list")?.unwrap_or_default();
                own.extend(device_writes(p.v1_change(&listed)));
            }
            update.planned.push((m, own));
        }
        update.run()?;
        if let (Some(p), Some(unified), None) = (&policy, self.unified(), layout.with_controller("devices")) {
            let swap = || bpf::replace_device(unified.dir.as_fd(), bpf::load_device(&p.program())?.as_fd());
            swap().map_err(|e| update.half_way(Error::io("replace device rules", self.path(), e)))?;
            update.applied.device_program = true;
        }
        Ok(update.applied)
    }

    /// Halves of a limit that cgroup2 has as one value, from what is in force: swap is limited there without memory, and
    /// quota and period are one line.
    fn completed<'r>(&self, resources: &'r LinuxResources) -> Result<Cow<'r, LinuxResources>> {
        let mut out = Cow::Borrowed(resources);
        let v2 = |c| self.with(c).filter(|m| m.is_v2());
        if let (Some(m), Some(memory)) = (v2("memory"), &resources.memory)
            && memory.limit.unwrap_or(0) == 0
            && memory.swap.is_some_and(|s| s > 0)
        {
            let limit = files::read(&m.dir, "memory.max")?.and_then(|t| files::number(&t));
            let limit = limit.and_then(|n| i64::try_from(n).ok());
            out.to_mut().memory.get_or_insert_default().limit = limit;
        }
        if let (Some(m), Some(cpu)) = (v2("cpu"), &resources.cpu)
            && cpu.quota.unwrap_or(0) == 0
            && cpu.period.is_some_and(|p| p > 0)
        {
            let quota = files::read(&m.dir, "cpu.max")?.and_then(|t| t.split_whitespace().next()?.parse().ok());
            out.to_mut().cpu.get_or_insert_default().quota = quota;
        }
        Ok(out)
    }

    /// The same for systemd, which wants quota and period on v1 too, and would take the usual period for one that is not
    /// named.
    pub(super) fn with_both_of_quota(&self, mut resources: LinuxResources) -> Result<LinuxResources> {
        let (Some(m), Some(cpu)) = (self.with("cpu"), &mut resources.cpu) else { return Ok(resources) };
        let files = if m.is_v2() { &["cpu.max"][..] } else { &["cpu.cfs_quota_us", "cpu.cfs_period_us"] };
        let mut text = String::new();
        for file in files {
            text += &files::read(&m.dir, file)?.unwrap_or_default();
        }
        let mut words = text.split_whitespace();
        let (quota, period) =
            (words.next().map(|q| q.parse().unwrap_or(-1)), words.next().and_then(|p| p.parse().ok()));
        if cpu.quota.unwrap_or(0) != 0 {
            cpu.period = cpu.period.filter(|&p| p != 0).or(period);
        } else if cpu.period.unwrap_or(0) != 0 {
            cpu.quota = quota;
        }
        Ok(resources)
    }

    fn check_usage(&self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory.as_ref().filter(|m| m.check_before_update == Some(true)) else {
            return Ok(());
        };
        let usage = self.usage()?.memory.map_or(0, |m| m.current);
        for (what, limit) in [("memory", memory.limit), ("memory and swap", memory.swap)] {
            if limit.is_some_and(|l| l > 0 && l.cast_unsigned() < usage) {
                return Err(Error::new(Kind::State, "limit", what)
                    .because(format!("{usage} bytes are in use, more than {}", limit.unwrap_or_default())));
            }
        }
        Ok(())
    }
}

/// An update on its way.
#[derive(Default)]
struct Update<'a> {
    planned: Vec<(&'a Member, Vec<Write>)>,
    applied: Applied,
    /// What a refused set had, written again.
    put_back: Vec<(String, String)>,
    /// Sets that were gone through, refused ones included.
    reached: usize,
}

impl Update<'_> {
    fn run(&mut self) -> Result<()> {
        let planned = std::mem::take(&mut self.planned);
        let result = planned.iter().try_for_each(|(m, writes)| {
            enable(m, writes)?;
            sets(writes).try_for_each(|set| self.set(m, set))
        });
        self.planned = planned;
        result.map_err(|e| self.half_way(e))
    }

    fn set(&mut self, m: &Member, set: &[Write]) -> Result<()> {
        self.reached += set.len();
        let related = set.len() > 1 && relation(&set[0].file).is_some();
        let before: Vec<Write> = if related { in_force(m, set)? } else { Vec::new() };
        let mut written = Vec::new();
        let result = apply_set(m.dir.as_fd(), set, &mut written);
        if result.is_err() && related {
            let changed: Vec<Write> =
                before.into_iter().filter(|w| written.iter().any(|(file, _)| *file == w.file)).collect();
            // Should even that be refused, the message says that the new value stands.
            let _tried = apply_set(m.dir.as_fd(), &changed, &mut self.put_back);
            written.retain(|(file, _)| !self.put_back.iter().any(|(f, _)| f == file));
        }
        self.applied.written.extend(written);
        result
    }

    fn half_way(&self, e: Error) -> Error {
        let list = |pairs: &[(String, String)]| {
            pairs.iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(", ")
        };
        let mut stands = match self.applied.written.as_slice() {
            [] => "nothing was changed".to_owned(),
            written => format!("in force already: {}", list(written)),
        };
        if !self.put_back.is_empty() {
            stands += &format!("; put back: {}", list(&self.put_back));
        }
        let rest: Vec<(String, String)> = self
            .planned
            .iter()
            .flat_map(|(_, writes)| writes)
            .skip(self.reached)
            .map(|w| (w.file.clone(), w.value.clone()))
            .collect();
        if !rest.is_empty() {
            stands += &format!("; not written: {}", list(&rest));
        }
        Error::new(e.kind(), "update", format!("limits ({stands})")).caused_by(e)
    }
}

/// What the files of a set hold, as writes.
fn in_force(m: &Member, set: &[Write]) -> Result<Vec<Write>> {
    let mut out = Vec::new();
    for w in set {
        if let Some(text) = files::read(&m.dir, &w.file)? {
            out.push(Write { value: text.trim().to_owned(), ..w.clone() });
        }
    }
    Ok(out)
}

/// v2: a controller that was not handed down when the group was made, since no limit needed it.
fn enable(m: &Member, writes: &[Write]) -> Result<()> {
    if !m.is_v2() || writes.is_empty() {
        return Ok(());
    }
    let there = files::read(&m.dir, "cgroup.controllers")?.unwrap_or_default();
    let missing = |c: &&String| *c != "cgroup" && !there.split_whitespace().any(|t| t == *c);
    let mut wanted: Vec<String> = writes.iter().map(|w| &w.controller).filter(missing).cloned().collect();
    wanted.dedup();
    let top = files::open_top(&m.hierarchy.mount_point)?;
    hand_down(top.as_fd(), &m.path, &wanted, writes)
}
