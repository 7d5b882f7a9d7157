//! Looking at containers, and clearing up after those whose supervisor is gone.
//!
//! ```text
//! lock held                              running (or paused: the kernel says so)
//! lock free, never begun                 created
//! lock free, exit recorded               exited
//! lock free, begun, no exit recorded     lost: the supervisor was killed, or the host rebooted.
//!                                        Whoever sees it kills the cgroup, takes down, records.
//! ```

use crate::record::{Dirs, Record, Status, boot_id};
use crate::view::{Container, Exit, State};
use crate::{Engine, time};
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::{self, Parents};
use tare_store::{ContainerRow, Durability};

/// How long killed processes may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// A container's row and record, by name, id or id prefix.
    pub(crate) fn find(&self, name: &str) -> Result<(ContainerRow, Record)> {
        let row = self.store.container(name)?;
        let mut record = self.dirs(&row.id).record().map_err(|e| self.undescribed(&row, e))?;
        record.request.name = Some(row.name.clone());
        Ok((row, record))
    }

    /// Why a container's description cannot be read: it is being made just now, was removed just now, or `e`.
    fn undescribed(&self, row: &ContainerRow, e: Error) -> Error {
        let dirs = self.dirs(&row.id);
        // Its maker holds the lock until the description is there; it may have come by now.
        let is_made = || dirs.is_alive().unwrap_or(false) || dirs.record().is_ok();
        match self.store.container(&row.id) {
            Err(removed) => removed,
            Ok(_) if is_made() => {
                Error::new(Kind::NotFound, "find container", &row.name).because("it is being made just now")
            }
            Ok(_) => e,
        }
    }

    /// All that is known of a container. Clears up after it first if its supervisor is gone.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` if several ids begin so.
    pub fn container(&self, name: &str) -> Result<Container> {
        let row = self.store.container(name)?;
        self.observe(&row)
    }

    /// All containers, newest first; only running ones unless `all`.
    ///
    /// # Errors
    /// State that cannot be read. A container that vanishes meanwhile is left out.
    pub fn containers(&self, all: bool) -> Result<Vec<Container>> {
        let mut out = Vec::new();
        let rows = self.store.containers()?;
        self.sweep_run(&rows);
        for row in rows {
            if !all && !self.dirs(&row.id).is_alive()? && !self.is_lost(&self.dirs(&row.id))? {
                continue;
            }
            match self.observe(&row) {
                Ok(c) if all || matches!(c.state, State::Running | State::Paused) => out.push(c),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }

    pub(crate) fn observe(&self, row: &ContainerRow) -> Result<Container> {
        let dirs = self.dirs(&row.id);
        if !dirs.is_alive()? && self.is_lost(&dirs)? {
            self.recover_one(&row.id, None)?;
            // It may have been one that is removed at its end.
            self.store.container(&row.id)?;
        }
        self.end_left_change(&dirs, &row.id);
        let record = dirs.record().map_err(|e| self.undescribed(row, e))?;
        let mut view = record.view(self, &row.name);
        view.exit = dirs.exit()?;
        view.started_at = dirs.begun()?.map(|b| b.started_at);
        // Its end is recorded before the client is answered; what the supervisor does after that is teardown.
        if view.exit.is_some() {
            view.state = State::Exited;
        } else if dirs.is_alive()?
            && let Some(status) = dirs.status()?
            && status.supervisor_pid > 0
        {
            self.add_status(&mut view, &record, status)?;
            return Ok(view);
        }
        view.networks = self.network_views(&record, None)?;
        Ok(view)
    }

    fn add_status(&self, view: &mut Container, record: &Record, status: Status) -> Result<()> {
        view.state = if self.is_frozen(&status.cgroup) { State::Paused } else { State::Running };
        view.networks = self.network_views(record, Some(&status))?;
        view.pid = Some(status.pid);
        view.supervisor_pid = Some(status.supervisor_pid);
        view.started_at = Some(status.started_at);
        view.exit = None;
        view.ports = status.ports;
        view.warnings = status.warnings;
        if record.request.network != crate::request::NetworkMode::Host {
            view.enter_network = Some(format!("nsenter -t {} -n", status.pid));
        }
        Ok(())
    }

    fn is_frozen(&self, path: &str) -> bool {
        self.layout().and_then(|layout| cgroup::is_frozen(layout, path)).unwrap_or(false)
    }

    /// Whether a start was begun that nobody looks after any more.
    fn is_lost(&self, dirs: &Dirs) -> Result<bool> {
        // A description that was not written out before a power cut: of a container that promised nothing durable.
        // (One that is being made is alive: its maker holds the lock until the description is written.)
        if !dirs.state.join("config.json").exists() {
            return Ok(true);
        }
        match dirs.begun()? {
            // One that was to be removed at its end, and could not be then.
            Some(_) => Ok(dirs.exit()?.is_none() || dirs.record().is_ok_and(|r| r.request.remove)),
            // Who makes or starts one removes the run directory on every way out but being killed.
            None => Ok(dirs.run.exists()),
        }
    }

    /// Removes run directories that no container has: of makers that were killed before they had reserved anything, and
    /// of removers that were killed after they had let go of the name.
    fn sweep_run(&self, rows: &[ContainerRow]) {
        self.sweep_loans();
        let Ok(entries) = std::fs::read_dir(self.config.run.join("containers")) else { return };
        for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
            // One that is being made is alive: its maker holds the lock.
            let dirs = self.dirs(&name);
            if !rows.iter().any(|r| r.id == name) && matches!(dirs.is_alive(), Ok(false)) {
                let _ = self.recover_one(&name, None);
            }
        }
    }

    /// Clears up after every container that lost its supervisor; how many there were.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn recover_all(&self) -> Result<usize> {
        self.sweep_loans();
        let mut count = 0;
        for row in self.store.containers()? {
            let dirs = self.dirs(&row.id);
            if !dirs.is_alive()? && self.is_lost(&dirs)? {
                self.recover_one(&row.id, None)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Clears up after one container, if nobody else does. `failed`: why its start did not succeed, if that is known.
    pub(crate) fn recover_one(&self, id: &str, failed: Option<&Error>) -> Result<()> {
        let dirs = self.dirs(id);
        // A launcher that was killed lets go of its lock a moment after its socket is seen to close. Whoever only looks
        // whether somebody holds the lock holds it for a moment himself.
        let patience = if failed.is_some() { Duration::from_secs(2) } else { Duration::from_millis(50) };
        let Some(lock) = dirs.lock_within(patience)? else { return Ok(()) };
        // Without a row it is no container, whatever its directory says.
        let has_row = !matches!(self.store.container(id), Err(e) if e.kind() == Kind::NotFound);
        let record = dirs.record().ok().filter(|_| has_row);
        let status = dirs.status()?.unwrap_or_else(|| Status { cgroup: self.cgroup_path(id), ..Status::default() });
        let failures = self.take_down(id, &status);
        let begun = dirs.begun().ok().flatten();
        match (&record, begun) {
            (None, _) => {
                // Nothing can be started from it: it is no container any more.
                self.store.release_container(id, Durability::Lazy)?;
                self.store.release_addresses(id)?;
                self.store.remove_container_dir(id)?;
                self.remove_anonymous_volumes(&dirs)?;
            }
            (Some(r), _) if r.request.remove && failed.is_none() => self.forget(r, Durability::Lazy)?,
            (Some(_), Some(begun)) if failed.is_none() => {
                let rebooted = begun.boot_id != boot_id()?;
                dirs.write_exit(&Exit {
                    code: if rebooted { 255 } else { 137 },
                    reason: Some(if rebooted { "host rebooted" } else { "supervisor lost" }.to_owned()),
                    finished_at: time::now(),
                    ..Exit::default()
                })?;
            }
            (Some(_), Some(_)) => {
                let _ = std::fs::remove_file(dirs.state.join("started.json"));
            }
            (Some(_), None) => {}
        }
        dirs.remove_asides();
        let _ = dirs.remove_run();
        drop(lock);
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Those that were made for a container which never came to be.
    pub(crate) fn remove_anonymous_volumes(&self, dirs: &Dirs) -> Result<()> {
        let text = crate::record::read_or_empty(&dirs.run.join(crate::create::ANONYMOUS_VOLUMES));
        for name in serde_json::from_str::<Vec<String>>(&text).unwrap_or_default() {
            match self.store.volume_remove(&name) {
                Err(e) if matches!(e.kind(), Kind::InUse | Kind::NotFound) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Takes down what a status names: processes, ports, devices, cgroup. Goes on past failures and returns them.
    pub(crate) fn take_down(&self, id: &str, status: &Status) -> Vec<Error> {
        let mut failures = Vec::new();
        let mut note = |r: Result<()>| failures.extend(r.err());
        note(self.kill_cgroup(&status.cgroup));
        // What pins the network namespace goes before its devices are awaited.
        note(self.detach_all(id).map(drop));
        self.take_devices_back(id, None).into_iter().for_each(|e| note(Err(e)));
        note(self.withdraw(id, &status.endpoints, &mut None));
        note(self.await_devices(&status.endpoints));
        note(self.remove_cgroup(id));
        note(self.release_bridges(status, None));
        failures
    }

    /// Kills whatever still runs in a container's group.
    pub(crate) fn kill_cgroup(&self, path: &str) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        match self.group(path) {
            Ok(group) => group.kill_all(),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn remove_cgroup(&self, id: &str) -> Result<()> {
        let end = Instant::now() + KILL_PATIENCE;
        let layout = self.layout()?;
        loop {
            // What was killed lets go of its mounts before it leaves the group, and that may have to wait for a disk.
            match cgroup::remove(layout, &self.cgroup_path(id), Parents::RemoveEmpty) {
                Err(e) if e.kind() == Kind::InUse && Instant::now() < end => {}
                other => return other,
            }
        }
    }

    /// Removes every trace of a container that does not run: row, addresses, anonymous volumes, directory.
    pub(crate) fn forget(&self, record: &Record, durability: Durability) -> Result<()> {
        self.release(record, durability)?;
        self.store.release_addresses(&record.id)?;
        self.store.remove_container_dir(&record.id)
    }

    /// Frees the name at once; the rest of [`Engine::forget`] may follow later.
    pub(crate) fn release(&self, record: &Record, durability: Durability) -> Result<()> {
        let anonymous = record.mounts.iter().filter(|m| m.anonymous);
        let volumes: Vec<String> = anonymous.filter_map(|m| m.volume.clone()).collect();
        self.store.release_container_with(&record.id, &volumes, durability)
    }
}
