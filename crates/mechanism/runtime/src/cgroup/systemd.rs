//! Transient scopes of systemd: started around a process of ours, changed, stopped.
//!
//! ```text
//! start: fork the keeper ─► StartTransientUnit(PIDs=[keeper]) ─► JobRemoved "done" ─► the group exists
//!        the caller writes limits, clones the container into the group, and drops the keeper, which ends then
//! ```
//!
//! A scope needs a process to begin with, and ends with its last one. The keeper is that process until the container's
//! first one is born in the group: nobody has to be moved, and the limits stand before it begins. One does not: a limit of
//! a single process, which the keeper would use up, comes into force when it is released.

use super::apply::apply;
use super::dbus::{Bus, Call};
use super::limits::Write;
use super::unit::{Property, PropertyValue, UnitPlan};
use rustix::event::poll;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tare_kernel::process::{self, Child, Namespaces};
use tare_model::{Context, Kind, Result};

/// systemd answers within milliseconds, unless it reloads its units.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");

/// A process that does nothing but be in the unit. Ends when this value is dropped, or its owner dies.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    /// What stands in the way of a keeper, and has to wait until it has gone.
    pub(super) later: Later,
}

#[derive(Debug, Default)]
pub(super) struct Later {
    unit: Option<UnitPlan>,
    /// Files of the groups, with their directories.
    pub(super) files: Vec<(OwnedFd, Vec<Write>)>,
}

/// The keeper, and the container's first process.
const ROOM: u64 = 2;

/// Whether this limit leaves no room for a keeper beside the container's first process.
pub(super) fn is_too_narrow(w: &Write) -> bool {
    w.file == "pids.max" && w.value.parse::<u64>().is_ok_and(|n| n < ROOM)
}

impl Keeper {
    /// Ends it, once the container's first process is in the unit, and brings into force what has waited for that.
    ///
    /// # Errors
    /// As for limits of a group in use.
    pub fn release(mut self) -> Result<()> {
        let later = std::mem::take(&mut self.later);
        drop(self);
        if let Some(unit) = &later.unit {
            set_properties(unit)?;
        }
        later.files.iter().try_for_each(|(dir, writes)| apply(dir.as_fd(), writes))
    }

    fn new() -> Result<Keeper> {
        let parent = rustix::process::getpid();
        let child = process::clone(Namespaces::NONE, None, || {
            let _unheard = set_parent_process_death_signal(Some(Signal::KILL));
            // A parent that died before it was asked to tell does not any more.
            if rustix::process::getppid() == Some(parent) {
                // Copies of others' descriptors, pipes among them, would keep these open.
                if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                    let _closed = process::close_all_from(0, null.as_fd());
                }
                while poll(&mut [], None).is_err() {}
            }
            process::exit_now(0)
        })
        .during("clone", "first process of the unit")?;
        Ok(Keeper { child, later: Later::default() })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _killed = process::pidfd_signal(self.child.pidfd.as_fd(), Signal::KILL.as_raw());
        let _reaped = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn bus() -> Result<Bus> {
    Bus::systemd(PATIENCE)
}

/// Starts the unit with its limits around a keeper, and waits until its group exists.
///
/// # Errors
/// Unsupported when systemd does not run here; InUse when there is such a unit; else systemd's words.
pub(super) fn start(plan: &UnitPlan) -> Result<Keeper> {
    let mut keeper = Keeper::new()?;
    let pid = keeper.child.pid.as_raw_nonzero().get().unsigned_abs();
    let roomy = with_room(plan);
    let plan = match roomy {
        Some((ref begin, later)) => {
            keeper.later.unit = Some(later);
            begin
        }
        None => plan,
    };
    let mut bus = bus()?;
    match bus.job(start_call(plan, pid)) {
        // A unit of this name that failed earlier, and that nobody has looked at since.
        Err(e) if e.kind() == Kind::InUse && reset_failed(&mut bus, &plan.unit.name).is_ok() => {
            bus.job(start_call(plan, pid))
        }
        other => other,
    }
    .during("start unit", &plan.unit.name)?;
    settle(&mut bus, &plan.unit.name).during("start unit", &plan.unit.name)?;
    Ok(keeper)
}

/// The plan with room for the keeper, and what has to be set when it has gone; none where there is room.
fn with_room(plan: &UnitPlan) -> Option<(UnitPlan, UnitPlan)> {
    let narrow =
        |(name, value): &Property| name == "TasksMax" && matches!(value, PropertyValue::Number(n) if *n < ROOM);
    let at = plan.properties.iter().position(narrow)?;
    let mut begin = plan.clone();
    let mut later = plan.unit.bare();
    let value = std::mem::replace(&mut begin.properties[at].1, PropertyValue::Number(ROOM));
    later.properties.push(("TasksMax".to_owned(), value));
    Some((begin, later))
}

pub(super) fn start_call(plan: &UnitPlan, pid: u32) -> Call {
    let mut call = Call::new(MANAGER, "StartTransientUnit");
    call.body.text(&plan.unit.name).text("replace");
    call.body.array("(sv)", |body| {
        for p in plan.fixed(pid).iter().chain(&plan.properties) {
            property(body, p);
        }
    });
    // Further units: none.
    call.body.array("(sa(sv))", |_| {});
    call
}

/// Changes limits of a running unit, until the next boot. When it returns, systemd has written those files that it writes.
///
/// # Errors
/// As [`start`].
pub(super) fn set_properties(plan: &UnitPlan) -> Result<()> {
    if plan.properties.is_empty() {
        return Ok(());
    }
    let mut call = Call::new(MANAGER, "SetUnitProperties");
    // true: not to be written to disk.
    call.body.text(&plan.unit.name).boolean(true);
    call.body.array("(sv)", |body| plan.properties.iter().for_each(|p| property(body, p)));
    let mut bus = bus()?;
    bus.call(call).during("change unit", &plan.unit.name)?;
    settle(&mut bus, &plan.unit.name).during("change unit", &plan.unit.name)
}

/// Waits until systemd has written to groups what it has in mind, of this unit and of others that it touches: it answers
/// first and writes then, but before it looks at the next call. On v1 it also moves processes of units whose controllers
/// change, such as the caller's, in which the container's first process begins.
fn settle(bus: &mut Bus, name: &str) -> Result<()> {
    let mut next = Call::new(MANAGER, "GetUnit");
    next.body.text(name);
    bus.call(next).map(|_| ())
}

/// Stops the unit and waits for it; one that is not there is stopped.
///
/// # Errors
/// As [`start`].
pub(super) fn stop(plan: &UnitPlan) -> Result<()> {
    let mut bus = bus()?;
    let mut call = Call::new(MANAGER, "StopUnit");
    call.body.text(&plan.unit.name).text("replace");
    match bus.job(call) {
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        r => r.during("stop unit", &plan.unit.name),
    }?;
    // Gone already as a rule: only a failed one is kept, by a systemd that does not know CollectMode.
    let _forgotten = reset_failed(&mut bus, &plan.unit.name);
    Ok(())
}

fn reset_failed(bus: &mut Bus, name: &str) -> Result<()> {
    let mut call = Call::new(MANAGER, "ResetFailedUnit");
    call.body.text(name);
    bus.call(call).map(|_| ())
}

fn property(body: &mut super::dbus::Body, (name, value): &Property) {
    body.structure(|s| {
        s.text(name);
        match value {
            PropertyValue::Bool(b) => s.variant("b", |v| {
                v.boolean(*b);
            }),
            PropertyValue::Number(n) => s.variant("t", |v| {
                v.u64(*n);
            }),
            PropertyValue::Text(t) => s.variant("s", |v| {
                v.text(t);
            }),
            PropertyValue::Bytes(bytes) => s.variant("ay", |v| {
                v.array("y", |a| {
                    bytes.iter().for_each(|b| {
                        a.byte(*b);
                    })
                });
            }),
            PropertyValue::Numbers(numbers) => s.variant("au", |v| {
                v.array("u", |a| {
                    numbers.iter().for_each(|n| {
                        a.u32(*n);
                    })
                });
            }),
            PropertyValue::Pairs(pairs) => s.variant("a(ss)", |v| {
                v.array("(ss)", |a| {
                    pairs.iter().for_each(|(x, y)| {
                        a.structure(|p| {
                            p.text(x).text(y);
                        })
                    })
                });
            }),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::v2;
    use super::super::unit::UnitName;
    use super::*;
    use std::os::unix::net::UnixStream;
    use tare_model::Error;
    use tare_model::runtime_spec::{LinuxCpu, LinuxResources};

    /// The reference implementation checks every byte of a message that it passes on, and hangs up on a wrong one. Here it
    /// has nobody to pass it on to, and says so.
    #[test]
    fn a_real_bus_takes_the_messages() {
        let path = format!("/tmp/tare-bus-{}", std::process::id());
        #[expect(clippy::disallowed_methods, reason = "the daemon is what the test is about")]
        let daemon = std::process::Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", &format!("--address=unix:path={path}")])
            .stderr(std::process::Stdio::null())
            .spawn();
        struct Ended(std::process::Child, String);
        impl Drop for Ended {
            fn drop(&mut self) {
                let _gone = (self.0.kill(), self.0.wait(), std::fs::remove_file(&self.1));
            }
        }
        let Ok(daemon) = daemon else { return };
        let _ended = Ended(daemon, path.clone());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(e) if std::time::Instant::now() > deadline => panic!("{e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut bus = Bus::over(stream, Duration::from_secs(5)).unwrap();
        bus.hello().unwrap();
        let resources = LinuxResources {
            cpu: Some(LinuxCpu { cpus: Some("0-3".into()), shares: Some(5), ..LinuxCpu::default() }),
            devices: super::super::default_rules(),
            ..LinuxResources::default()
        };
        let unit = UnitName::parse(None, "x").unwrap();
        let e = bus.call(start_call(&unit.plan(&v2("cpu cpuset"), &resources).unwrap(), 1)).unwrap_err();
        let answered = |e: &Error| e.to_string().contains("org.freedesktop.DBus.Error.");
        assert!(answered(&e), "{e}");
        let e = bus.call(start_call(&unit.bare(), 1)).unwrap_err();
        assert!(answered(&e), "{e}");
    }

    #[test]
    fn the_keeper_has_room_until_it_goes() {
        let unit = UnitName::parse(None, "x").unwrap();
        let of = |limit| {
            let pids = Some(tare_model::runtime_spec::LinuxPids { limit: Some(limit) });
            unit.plan(&v2("pids"), &LinuxResources { pids, ..LinuxResources::default() }).unwrap()
        };
        let tasks = |n| vec![("TasksMax".to_owned(), PropertyValue::Number(n))];
        let (begin, later) = with_room(&of(1)).unwrap();
        assert_eq!((begin.properties, later.properties), (tasks(2), tasks(1)));
        assert_eq!((with_room(&of(2)), with_room(&of(-1)), with_room(&unit.bare())), (None, None, None));
    }

    #[test]
    fn without_systemd_the_error_says_what_to_leave_out() {
        if !std::path::Path::new("/run/systemd/system").exists() {
            let e = Bus::systemd(PATIENCE).err().unwrap();
            assert_eq!(e.kind(), Kind::Unsupported);
            assert!(e.first_hint().unwrap().contains("--systemd-cgroup"));
        }
    }
}
