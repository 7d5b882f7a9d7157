//! What a container uses, as the kernel counts it.

use crate::Engine;
use crate::view::{Counters, Stats};
use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};
use tare_model::{Context, Error, Result};

impl Engine {
    /// Reads what a running container uses now. The process must have one thread, as it visits the network namespace.
    ///
    /// # Errors
    /// `Kind::State` if it does not run.
    pub fn stats(&self, name: &str) -> Result<Stats> {
        let (_pidfd, view) = self.running(name, "read statistics of container")?;
        let group = self.group(&view.cgroup).during("read statistics of container", name)?;
        let usage = group.usage().during("read statistics of container", name)?;
        let now = clock_gettime(ClockId::Boottime);
        let (cpu, memory) = (usage.cpu.unwrap_or_default(), usage.memory.unwrap_or_default());
        let pids = usage.pids.unwrap_or_default();
        let host_memory = host_memory();
        // The host's own traffic is not the container's.
        let interfaces = match (self.dirs(&view.id).status()?, view.pid) {
            (Some(status), Some(pid)) if !status.host_network => traffic(pid)?,
            _ => Vec::new(),
        };
        Ok(Stats {
            id: view.id,
            name: view.name,
            at_ns: now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs(),
            cpu_total_ns: cpu.total,
            cpu_user_ns: cpu.user,
            cpu_system_ns: cpu.system,
            throttled_periods: cpu.throttled_periods,
            throttled_ns: cpu.throttled,
            memory: memory.current.saturating_sub(memory.inactive_file),
            memory_limit: memory.limit.map_or(host_memory, |limit| limit.min(host_memory)),
            pids: pids.current,
            pids_limit: pids.limit,
            block_read: usage.io.iter().map(|d| d.read_bytes).sum(),
            block_write: usage.io.iter().map(|d| d.written_bytes).sum(),
            net_rx: interfaces.iter().map(|d| d.rx_bytes).sum(),
            net_tx: interfaces.iter().map(|d| d.tx_bytes).sum(),
            interfaces,
        })
    }
}

/// What the devices of a process's network namespace have carried, but for loopback.
fn traffic(pid: i32) -> Result<Vec<Counters>> {
    let path = format!("/proc/{pid}/ns/net");
    let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", path, e))?;
    tare_network::counters(rustix::fd::AsFd::as_fd(&netns))
}

/// Bytes of this host's memory.
pub(crate) fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit) * info.totalram
}
