//! From running to gone: stop, kill, wait, pause, update, rename, remove; and what the supervisor does at the end.

use crate::attach::{Attachment, Frame, SENDS_INPUT, WANTS_OUTPUT};
use crate::record::open_process;
use crate::request::{NamespaceMode, RemoveOptions};
use crate::view::{Container, Exit, State};
use crate::{Engine, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Context, Error, Kind, Result};
use tare_runtime::cgroup::{self, Group};
use tare_store::{ContainerRow, Durability};

/// What a supervisor holds for its container's life.
#[derive(Debug)]
pub(crate) struct Held {
    /// The lock that says *alive*.
    pub(crate) lock: OwnedFd,
    /// The sockets that reserve published ports.
    pub(crate) ports: Vec<OwnedFd>,
    /// The network namespace, if a device of the host is in it.
    pub(crate) namespace: Option<OwnedFd>,
    /// What answers names inside the container's network namespace, and keeps that.
    pub(crate) names: Option<tare_network::dns::Server>,
}

/// A bridge and mounts of layers that nobody uses are kept for so long: making them anew for each of many short containers would
/// cost more than these do.
const LINGER: Duration = Duration::from_millis(250);

/// How long a killed container may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Sends a signal to a container's first process. Returns after SIGKILL when the container has ended.
    ///
    /// # Errors
    /// `Kind::State` if it does not run; `Kind::Invalid` for an unknown signal.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let number = signal::parse(signal)?;
        let (pidfd, view) = self.running(name, "kill container")?;
        let watcher = self.watcher(&view.id);
        match tare_kernel::process::pidfd_signal(pidfd.as_fd(), number) {
            // It ended just now: as good as killed.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            other => other.during("kill container", name),
        }?;
        if number == 9 {
            // A frozen process dies only once it is thawed.
            self.thaw_if_frozen(name)?;
            // `kill` and then `rm` is how scripts end a container.
            if !self.ended_within(&view.id, watcher.as_ref(), KILL_PATIENCE)? {
                return Err(hangs("kill container", name));
            }
        }
        Ok(())
    }

    /// Asks a container to end, and kills it when `timeout` seconds have passed. Returns when it has ended.
    ///
    /// # Errors
    /// As kill(2). A container that does not run is none.
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<u32>) -> Result<()> {
        let (row, record) = self.find(name)?;
        let view = self.observe(&row)?;
        if !matches!(view.state, State::Running | State::Paused) {
            return Ok(());
        }
        let number = signal.map_or(Ok(record.stop_signal), signal::parse)?;
        let seconds = timeout.or(record.request.stop_timeout).unwrap_or(10);
        let Ok((pidfd, _)) = self.running(name, "stop container") else { return Ok(()) };
        let watcher = self.watcher(&record.id);
        let _ = tare_kernel::process::pidfd_signal(pidfd.as_fd(), number);
        if view.state == State::Paused {
            self.thaw_if_frozen(name)?;
        }
        if self.ended_within(&record.id, watcher.as_ref(), Duration::from_secs(seconds.into()))? {
            return Ok(());
        }
        let _ = tare_kernel::process::pidfd_signal(pidfd.as_fd(), 9);
        self.thaw_if_frozen(name)?;
        if self.ended_within(&record.id, watcher.as_ref(), KILL_PATIENCE)? {
            return Ok(());
        }
        Err(hangs("stop container", name))
    }

    /// Waits until a container has ended, and says how.
    ///
    /// # Errors
    /// `Kind::NotFound`. For one that never ran, waits until it has.
    pub fn wait(&self, name: &str) -> Result<Exit> {
        let id = self.store.container(name)?.id;
        loop {
            let view = self.container(&id)?;
            if let (State::Exited, Some(exit)) = (view.state, view.exit) {
                return Ok(exit);
            }
            if let Ok(connection) = Attachment::connect(&self.run_dir(&id).join("attach"), 0) {
                while let Some(frame) = connection.recv()? {
                    if let Frame::Exit(exit) = frame {
                        return Ok(exit);
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Connects to a running container's streams.
    ///
    /// # Errors
    /// `Kind::State` if it does not run.
    pub fn attach(&self, name: &str) -> Result<Attachment> {
        let (_, view) = self.running(name, "attach to container")?;
        if view.state == State::Paused {
            return Err(Error::new(Kind::State, "attach to container", name)
                .because("it is paused")
                .hint(format!("tare unpause {name}")));
        }
        Attachment::connect(&self.run_dir(&view.id).join("attach"), WANTS_OUTPUT | SENDS_INPUT)
    }

    /// Freezes a running container.
    ///
    /// # Errors
    /// `Kind::State` if it does not run or is frozen already.
    pub fn pause(&self, name: &str) -> Result<()> {
        let (_, view) = self.running(name, "pause container")?;
        if view.state == State::Paused {
            return Err(Error::new(Kind::State, "pause container", name).because("it is paused already"));
        }
        self.group(&view.cgroup)?.freeze().during("pause container", name)
    }

    /// Thaws a frozen container.
    ///
    /// # Errors
    /// `Kind::State` if it is not frozen.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let (_, view) = self.running(name, "unpause container")?;
        if view.state != State::Paused {
            return Err(Error::new(Kind::State, "unpause container", name).because("it is not paused"));
        }
        self.group(&view.cgroup)?.thaw().during("unpause container", name)
    }

    /// Changes a container's limits: at once if it runs, and for its next starts.
    ///
    /// # Errors
    /// What the kernel refuses; nothing is recorded then.
    pub fn update(&self, name: &str, limits: &LinuxResources) -> Result<Vec<String>> {
        let mut target = self.target(name, "update container")?;
        let merged = merge(&target.record.request.limits, limits);
        if let Some(status) = &target.status {
            self.group(&status.cgroup)?.update(limits).during("update container", name)?;
        }
        target.record.request.limits = merged;
        target.write_record()?;
        Ok(Vec::new())
    }

    /// Gives a container another name. Durable.
    ///
    /// # Errors
    /// `Kind::AlreadyExists`, `Kind::Invalid`.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let mut target = self.target(name, "rename container")?;
        self.store.rename_container(&target.record.id, new)?;
        target.change.half_done();
        target.record.request.name = Some(new.to_owned());
        for lease in &target.record.leases {
            self.names_file(&lease.network).rename(&target.record.id, new)?;
        }
        target.write_record()?;
        target.change.whole();
        Ok(())
    }

    /// Removes a container and everything of it.
    ///
    /// # Errors
    /// `Kind::InUse` if it runs and `force` is not given.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let row = self.store.container(name)?;
        let dirs = self.dirs(&row.id);
        let Some(lock) = self.lock_for_removal(&row, name, options)? else { return Ok(()) };
        let record = match dirs.record() {
            Ok(record) => record,
            // Removed at its end, by its supervisor.
            Err(_) if !dirs.state.exists() => {
                let _ = dirs.remove_run();
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let result = if options.volumes || record.request.remove {
            self.forget(&record, Durability::Durable)
        } else {
            self.store.release_container(&record.id, Durability::Durable)?;
            self.store.release_addresses(&record.id)?;
            self.store.remove_container_dir(&record.id)
        };
        let _ = dirs.remove_run();
        drop(lock);
        result
    }

    /// The lock of a container that does not run any more; `None` if it has gone meanwhile.
    fn lock_for_removal(&self, row: &ContainerRow, name: &str, options: RemoveOptions) -> Result<Option<OwnedFd>> {
        let dirs = self.dirs(&row.id);
        let end = Instant::now() + KILL_PATIENCE;
        loop {
            let view = match self.observe(row) {
                // A description that cannot be read is no reason to keep a container for ever.
                Err(e) if e.kind() == Kind::Corrupt && options.force => {
                    self.recover_one(&row.id, None)?;
                    self.store.release_container(&row.id, Durability::Durable)?;
                    self.store.release_addresses(&row.id)?;
                    return self.store.remove_container_dir(&row.id).map(|()| None);
                }
                // Recovery may have removed it just now, or its supervisor at its end.
                Err(e) if e.kind() == Kind::NotFound && options.force => return Ok(None),
                Err(_) if !dirs.state.exists() => return Ok(None),
                other => other?,
            };
            if matches!(view.state, State::Running | State::Paused) {
                if !options.force {
                    return Err(Error::new(Kind::InUse, "remove container", name)
                        .because(format!("it is {}", view.state.as_str()))
                        .hint(format!("stop it first (tare stop {name}), or remove it by force (tare rm -f {name})")));
                }
                self.stop(&row.id, Some("KILL"), Some(10))?;
            }
            // It is being started, and will be seen running; or taken down, and then the lock comes free.
            if let Some(lock) = dirs.try_lock()? {
                return Ok(Some(lock));
            }
            if Instant::now() >= end {
                return Err(Error::new(Kind::InUse, "remove container", name).because("its supervisor does not end"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The end, as the supervisor does it. `announce` tells the clients, once name, address and ports are free.
    pub(crate) fn finish(&self, id: &str, mut exit: Exit, held: Held, announce: impl FnOnce(&Exit)) {
        let Held { lock, ports, namespace, names } = held;
        let dirs = self.dirs(id);
        let record = dirs.record().ok();
        let status = dirs.status().ok().flatten().unwrap_or_default();
        // With the first process of a PID namespace the kernel has ended all others; elsewhere they are ended here, before
        // anybody hears of the end.
        let alone = record.as_ref().is_some_and(|r| r.request.pid == NamespaceMode::Private);
        if !alone {
            let _ = self.kill_cgroup(&status.cgroup);
        }
        exit.oom_killed = self.layout().and_then(|l| cgroup::oom_kills(l, &status.cgroup)).is_ok_and(|n| n > 0);
        let mut host = None;
        let _ = self.withdraw(id, &status.endpoints, &mut host);
        drop(ports);
        // What pins the network namespace goes before its devices are awaited.
        let _ = self.detach_all(id);
        // Whoever hears of the end finds the host's devices as they were.
        let _ = self.take_devices_back(id, namespace.as_ref().map(AsFd::as_fd));
        drop(namespace);
        let removed = record.as_ref().filter(|r| r.request.remove);
        let released = removed.is_some_and(|r| self.release(r, Durability::Lazy).is_ok());
        if !released {
            let _ = dirs.write_exit(&exit);
        }
        announce(&exit);
        // Closing these waits for the kernel, as whoever waits for the devices does anyway.
        drop((names, host));
        // Nobody waits for the rest. What fails here is found again: the kernel's objects by the next start of the
        // container, the files by gc.
        let _ = self.remove_cgroup(id);
        let _ = self.await_devices(&status.endpoints);
        if released {
            let _ = self.store.release_addresses(id);
            let _ = self.store.remove_container_dir(id);
        }
        let _ = dirs.remove_run();
        // Whoever waits for the container to be gone need not wait for what others may use.
        drop(lock);
        let since = SystemTime::now();
        if self.holds_layers() || !status.bridges.is_empty() {
            std::thread::sleep(LINGER);
        }
        let _ = self.release_bridges(&status, Some(since));
        self.withdraw_layers();
    }

    /// The pidfd and view of a container that runs.
    pub(crate) fn running(&self, name: &str, operation: &'static str) -> Result<(OwnedFd, Container)> {
        let view = self.container(name)?;
        let stopped = || {
            Error::new(Kind::State, operation, name)
                .because(format!("it is not running ({})", view.state.as_str()))
                .hint(format!("tare start {name}"))
        };
        let (pid, _) = (view.pid.ok_or_else(stopped)?, ());
        let status = self.dirs(&view.id).status()?.ok_or_else(stopped)?;
        let pidfd = open_process(pid, status.pid_start).ok_or_else(stopped)?;
        Ok((pidfd, view))
    }

    pub(crate) fn group(&self, path: &str) -> Result<Group> {
        Group::open(self.layout()?, path)
    }

    fn thaw_if_frozen(&self, name: &str) -> Result<()> {
        let Ok(row) = self.store.container(name) else { return Ok(()) };
        match self.group(&self.cgroup_path(&row.id)) {
            Ok(group) if group.is_frozen().unwrap_or(false) => group.thaw(),
            _ => Ok(()),
        }
    }

    /// A connection that will hear of the end; none if it is over already.
    fn watcher(&self, id: &str) -> Option<Attachment> {
        Attachment::connect(&self.run_dir(id).join("attach"), 0).ok()
    }

    fn ended_within(&self, id: &str, watcher: Option<&Attachment>, limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        let Some(watcher) = watcher else {
            // Nobody listens any more: its end is being recorded just now.
            let ended = || -> Result<bool> {
                let dirs = self.dirs(id);
                Ok(!dirs.is_alive()? || dirs.exit()?.is_some())
            };
            while !ended()? {
                if Instant::now() >= end {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            return Ok(true);
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::from_borrowed_fd(watcher.fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => match watcher.recv()? {
                    Some(Frame::Exit(_)) | None => return Ok(true),
                    Some(_) => {}
                },
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("wait for", "container", e)),
            }
        }
    }
}

fn hangs(operation: &'static str, name: &str) -> Error {
    Error::new(Kind::System, operation, name)
        .because("it was killed, and has not gone after 10 seconds")
        .hint("a process of it hangs in the kernel: look at `ps -o stat,wchan` of its processes")
}

/// The old limits with the new ones over them, field by field.
fn merge(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    let both = (serde_json::to_value(old), serde_json::to_value(new));
    let (Ok(mut old_value), Ok(new_value)) = both else { return new.clone() };
    overlay(&mut old_value, new_value);
    serde_json::from_value(old_value).unwrap_or_else(|_| new.clone())
}

fn overlay(old: &mut serde_json::Value, new: serde_json::Value) {
    match (old, new) {
        (serde_json::Value::Object(old), serde_json::Value::Object(new)) => {
            for (key, value) in new {
                overlay(old.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::{LinuxCpu, LinuxMemory};

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let old = LinuxResources {
            memory: Some(LinuxMemory { limit: Some(1), swap: Some(2), ..Default::default() }),
            ..Default::default()
        };
        let new = LinuxResources {
            memory: Some(LinuxMemory { limit: Some(5), ..Default::default() }),
            cpu: Some(LinuxCpu { shares: Some(7), ..Default::default() }),
            ..Default::default()
        };
        let merged = merge(&old, &new);
        assert_eq!(merged.memory.as_ref().unwrap().limit, Some(5));
        assert_eq!(merged.memory.unwrap().swap, Some(2));
        assert_eq!(merged.cpu.unwrap().shares, Some(7));
    }
}
