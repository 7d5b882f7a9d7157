//! Changing the limits of a group in use.

use super::attach::apply;
use super::devices::Policy;
use super::files;
use super::group::Group;
use super::layout::{Layout, Version};
use super::limits::{self, Write};
use super::plan::{device_writes, of_hierarchy};
use std::os::fd::AsFd;
use tare_kernel::bpf;
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Kind, Result};

impl Group {
    /// Applies the limits that `resources` name; what they do not name stays. A failure half-way leaves the limits before
    /// it in force, and says which these are.
    ///
    /// # Errors
    /// As [`super::plan`] and [`super::create`]; State for `checkBeforeUpdate` with a limit below the usage.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let layout = Layout { hierarchies: self.members.iter().map(|m| m.hierarchy.clone()).collect() };
        let writes = limits::writes(&layout, resources)?;
        let policy = Policy::from_rules(&resources.devices)?;
        self.check_usage(resources)?;
        let mut done: Vec<String> = Vec::new();
        for m in &self.members {
            let mut own = of_hierarchy(&m.hierarchy, &writes);
            if m.hierarchy.version == Version::V1 {
                self.order_memory(m, &mut own)?;
                if let (Some(p), true) = (&policy, m.hierarchy.controllers.iter().any(|c| c == "devices")) {
                    own.extend(device_writes(p));
                }
            }
            for w in &own {
                apply(m.dir.as_fd(), std::slice::from_ref(w)).map_err(|e| half_way(e, &done))?;
                done.push(format!("{}={}", w.file, w.value));
            }
        }
        if let (Some(p), Some(unified), None) = (&policy, self.unified(), layout.with_controller("devices")) {
            let swap = || bpf::replace_device(unified.dir.as_fd(), bpf::load_device(&p.program())?.as_fd());
            swap().map_err(|e| half_way(Error::io("replace device rules", self.path(), e), &done))?;
        }
        Ok(())
    }

    /// v1 keeps "memory ≤ memory and swap" at every moment, so growing writes the larger one first. The table's order is
    /// that of shrinking.
    fn order_memory(&self, m: &super::group::Member, writes: &mut [Write]) -> Result<()> {
        let at = |file: &str| writes.iter().position(|w| w.file == file);
        let (Some(memory), Some(swap)) = (at("memory.limit_in_bytes"), at("memory.memsw.limit_in_bytes")) else {
            return Ok(());
        };
        let now =
            files::read(&m.dir, "memory.memsw.limit_in_bytes")?.and_then(|t| files::number(&t)).unwrap_or(u64::MAX);
        let wanted = writes[memory].value.parse::<u64>().unwrap_or(u64::MAX);
        if wanted > now {
            writes.swap(memory, swap);
        }
        Ok(())
    }

    fn check_usage(&self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory.as_ref().filter(|m| m.check_before_update == Some(true)) else {
            return Ok(());
        };
        let usage = self.usage()?.memory.map_or(0, |m| m.current);
        match memory.limit {
            Some(limit) if limit > 0 && limit.cast_unsigned() < usage => {
                Err(Error::new(Kind::State, "limit", "memory")
                    .because(format!("{usage} bytes are in use, more than {limit}")))
            }
            _ => Ok(()),
        }
    }
}

fn half_way(e: Error, done: &[String]) -> Error {
    let stands = if done.is_empty() {
        "nothing was changed".to_owned()
    } else {
        format!("in force already: {}", done.join(", "))
    };
    Error::new(e.kind(), "update", format!("limits ({stands})")).caused_by(e)
}
