//! Freezing, thawing and killing all of a group at once.
//!
//! Through cgroup2 where there is one: there a frozen process can still be killed, and `cgroup.kill` reaches everybody at
//! once, forks included. On v1 the same needs three steps: freeze, so that nobody forks meanwhile; signal each; thaw, since
//! a frozen process does not die.

use super::files;
use super::group::{Group, Member};
use super::layout::Layout;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

/// Freezing waits for tasks in the kernel, some of them for disks.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether every process of the group `path` stands still; opens only the hierarchy that tells.
///
/// # Errors
/// As [`Group::open`] and [`Group::is_frozen`].
pub fn is_frozen(layout: &Layout, path: &str) -> Result<bool> {
    let tells = layout.unified().or_else(|| layout.with_controller("freezer"));
    Group::open(&Layout::of(tells), path)?.is_frozen()
}

impl Group {
    /// Stops every process of the group and waits until they stand still.
    ///
    /// # Errors
    /// Unsupported on a v1 host without the freezer; State when they do not come to rest within ten seconds: they are
    /// thawed again then.
    pub fn freeze(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        let first = self.set_frozen(true)?;
        while !first.is_frozen()? {
            if Instant::now() >= deadline {
                self.set_frozen(false)?;
                return Err(Error::new(Kind::State, "freeze", self.path())
                    .because("its processes do not come to rest")
                    .hint("one of them waits in the kernel, for a disk or a network file system; try again"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            // v1 can stay FREEZING for ever when a task forked at the wrong moment; asking again helps.
            self.set_frozen(true)?;
        }
        Ok(())
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// As [`Group::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false).map(|_| ())
    }

    /// Whether every process of the group stands still.
    ///
    /// # Errors
    /// Unsupported on a v1 host without the freezer.
    pub fn is_frozen(&self) -> Result<bool> {
        self.freezer()?.is_frozen()
    }

    fn freezer(&self) -> Result<&Member> {
        self.unified().or_else(|| self.with("freezer")).ok_or_else(|| {
            Error::new(Kind::Unsupported, "freeze", self.path())
                .because("this host has neither cgroup2 nor the freezer")
        })
    }

    fn set_frozen(&self, frozen: bool) -> Result<&Member> {
        let member = self.freezer()?;
        let (file, value) = match (member.is_v2(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        files::write(&member.dir, file, value).map_err(|e| Error::io("write cgroup file", file, e))?;
        Ok(member)
    }

    /// Sends SIGKILL to every process of the group and of those below, frozen ones too. Does not wait for their end.
    ///
    /// # Errors
    /// What the kernel refuses; a group that is gone is killed.
    pub fn kill_all(&self) -> Result<()> {
        let v1 = self.v1_for_tasks();
        let Some(unified) = self.unified() else {
            return v1.map_or(Ok(()), |m| self.kill_v1(m));
        };
        // Looked at before the kill, or every dying process would seem to be missing from cgroup2.
        let only_v1 = match v1 {
            Some(m) => {
                let there = files::recursive(m.dir.as_fd())?;
                let known = files::recursive(unified.dir.as_fd())?;
                there.difference(&known).next().is_some()
            }
            None => false,
        };
        match files::write(&unified.dir, "cgroup.kill", "1") {
            Ok(()) | Err(Errno::NODEV | Errno::NOENT) => {}
            Err(e) => return Err(Error::io("kill cgroup", self.path(), e)),
        }
        match v1 {
            // A process that was put into the v1 groups alone.
            Some(m) if only_v1 => self.kill_v1(m),
            _ => Ok(()),
        }
    }

    fn kill_v1(&self, member: &Member) -> Result<()> {
        let freezer = self.with("freezer").filter(|m| !m.is_v2());
        let freeze = |value: &str| freezer.map(|f| files::write(&f.dir, "freezer.state", value));
        let killed = kill_until_none_is_new(member, || {
            freeze("FROZEN");
        });
        freeze("THAWED");
        killed
    }
}

/// Signals everybody, and again as long as somebody new appears: without a freezer a fork can slip through a turn.
fn kill_until_none_is_new(member: &Member, freeze: impl Fn()) -> Result<()> {
    let mut signalled = std::collections::BTreeSet::new();
    for _ in 0..100 {
        freeze();
        let pids = files::recursive(member.dir.as_fd())?;
        let new: Vec<i32> = pids.difference(&signalled).copied().collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            match Pid::from_raw(pid).map(|p| kill_process(p, Signal::KILL)) {
                Some(Err(e)) if e != Errno::SRCH => return Err(Error::io("kill process", pid, e)),
                _ => signalled.insert(pid),
            };
        }
    }
    Ok(())
}

impl Member {
    pub(super) fn is_v2(&self) -> bool {
        self.hierarchy.version == super::Version::V2
    }

    fn is_frozen(&self) -> Result<bool> {
        if self.is_v2() {
            let events = files::read(&self.dir, "cgroup.events")?.unwrap_or_default();
            return Ok(files::keyed(&events, "frozen") == Some(1));
        }
        Ok(files::read(&self.dir, "freezer.state")?.unwrap_or_default().trim() == "FROZEN")
    }
}
