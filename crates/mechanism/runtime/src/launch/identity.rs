//! Who the process is: limits, groups, user, capabilities, system call filter.

use super::status::Reporter;
use crate::defence::{Defence, stands};
use crate::plan::{IdentityPlan, resource};
use crate::security::capability::{Capabilities, names};
use crate::security::seccomp::Filter;
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};
use tare_kernel::capability::{self, Set};
use tare_model::runtime_spec::PosixRlimit;
use tare_model::{Context, Error, Kind, Result};

const SETGID: u8 = 6;
const SYS_ADMIN: Set = Set::of(&[21]);

/// The end of the parent is this process's end, until something clears it: see PR_SET_PDEATHSIG in prctl(2).
pub(super) fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| Error::io("set", "parent-death signal", e))
}

/// A resource limit with its number.
#[derive(Debug)]
pub(super) struct Limit {
    name: String,
    resource: Resource,
    soft: u64,
    hard: u64,
}

impl Limit {
    pub(super) fn all(limits: &[PosixRlimit]) -> Result<Vec<Limit>> {
        let one = |l: &PosixRlimit| {
            Ok(Limit { name: l.kind.clone(), resource: resource(&l.kind)?, soft: l.soft, hard: l.hard })
        };
        limits.iter().map(one).collect()
    }

    /// setrlimit(2); what root may not raise stays at the hard limit, with a warning.
    pub(super) fn set(&self, reporter: Reporter<'_>) -> Result<()> {
        match rustix::process::setrlimit(self.resource, rlimit(self.soft, self.hard)) {
            Ok(()) => Ok(()),
            Err(Errno::PERM) => {
                let has = rustix::process::getrlimit(self.resource);
                let hard = has.maximum.unwrap_or(u64::MAX).min(self.hard);
                rustix::process::setrlimit(self.resource, rlimit(self.soft.min(hard), hard))
                    .map_err(|e| Error::io("set limit", &self.name, e))?;
                reporter.warn(format!(
                    "{} was lowered to {hard}: raising a hard limit needs CAP_SYS_RESOURCE, which this host's root lacks",
                    self.name
                ));
                Ok(())
            }
            Err(e) => Err(Error::io("set limit", format!("{} {}:{}", self.name, self.soft, self.hard), e)),
        }
    }
}

fn rlimit(soft: u64, hard: u64) -> Rlimit {
    let value = |n: u64| (n != u64::MAX).then_some(n);
    Rlimit { current: value(soft), maximum: value(hard) }
}

/// Raises the hard limits of a child in another user namespace to what the plan asks for: in there nobody may raise one,
/// whatever the host's root may. The values in force stay until the child sets them itself, before it executes. What the
/// caller may not raise either is left for the child to warn about.
///
/// # Errors
/// `Kind::Invalid` for a name that setrlimit(2) does not have.
pub fn raise_ceilings(pid: i32, limits: &[PosixRlimit]) -> Result<()> {
    let pid = Pid::from_raw(pid);
    for limit in Limit::all(limits)? {
        let same = rustix::process::getrlimit(limit.resource);
        if same.maximum.is_some_and(|hard| hard < limit.hard) {
            let _ = rustix::process::prlimit(
                pid,
                limit.resource,
                Rlimit { current: same.current, ..rlimit(limit.soft, limit.hard) },
            );
        }
    }
    Ok(())
}

/// An identity with everything computed that can be before the clone.
#[derive(Debug)]
pub(super) struct Identity {
    plan: IdentityPlan,
    groups: Vec<Gid>,
    /// The bounding set of whoever clones.
    bounding: Set,
}

impl Identity {
    pub(super) fn new(plan: &IdentityPlan) -> Identity {
        Identity {
            plan: plan.clone(),
            groups: plan.groups.iter().map(|g| Gid::from_raw(*g)).collect(),
            bounding: capability::bounding(),
        }
    }

    /// Becomes the user. The order is the kernel's: the bounding set while CAP_SETPCAP is there; groups while CAP_SETGID
    /// is; the user; then the remaining sets, which setresuid would have cleared but for the keep bit.
    ///
    /// `as_user` runs with the user's rights, before the filter. The filter comes last, so that it meets as few calls of
    /// ours as may be: with no-new-privileges nothing but execve. Without, loading one takes CAP_SYS_ADMIN, so that is
    /// held until then even if the process is not to have it, and one capset follows. A listener's descriptor is handed
    /// over right after.
    pub(super) fn assume(
        &self,
        filter: Option<&Filter>,
        reporter: Reporter<'_>,
        as_user: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let id = &self.plan;
        let sets = self.possible(reporter)?;
        self.change_user()?;
        let until_filter = match filter {
            Some(_) if !id.no_new_privileges => SYS_ADMIN,
            _ => Set::EMPTY,
        };
        set_capabilities(&sets, until_filter)?;
        // What leaves the inheritable or the permitted set leaves the ambient one by itself.
        if sets.inheritable != 0 {
            capability::raise_ambient(&Set(sets.ambient)).during("set", "ambient capabilities")?;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(id.umask.unwrap_or(0o022) & 0o777));
        as_user()?;
        if id.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|e| Error::io("set", "no-new-privileges", e))?;
        }
        if let Some(filter) = filter.filter(|_| stands(Defence::Seccomp)) {
            load(filter, reporter)?;
        }
        if !until_filter.without(Set(sets.permitted)).is_empty() {
            set_capabilities(&sets, Set::EMPTY)?;
        }
        Ok(())
    }

    /// Limits the bounding set, and takes from the others what is not ours to give.
    fn possible(&self, reporter: Reporter<'_>) -> Result<Capabilities> {
        let mut sets = self.plan.capabilities;
        if !stands(Defence::Inheritable) {
            sets.inheritable = sets.permitted;
        }
        let has = capability::get().during("read", "capabilities")?.permitted;
        let missing = Set(sets.permitted).without(has);
        if !missing.is_empty() {
            reporter.warn(format!("{} was left out: this host's root lacks it", names(missing).join(" ")));
            for set in [&mut sets.permitted, &mut sets.effective, &mut sets.ambient, &mut sets.inheritable] {
                *set &= !missing.0;
            }
        }
        // In a user namespace of its own a process begins with everything.
        let present = if has.without(self.bounding).is_empty() { self.bounding } else { capability::bounding() };
        capability::drop_known_bounding(present, Set(sets.bounding)).during("drop", "capabilities")?;
        Ok(sets)
    }

    fn change_user(&self) -> Result<()> {
        let id = &self.plan;
        if id.uid != 0 {
            rustix::thread::set_keep_capabilities(true).map_err(|e| Error::io("keep", "capabilities", e))?;
        }
        let unmapped = |operation: &'static str, number: u32, e: Errno| {
            let error = Error::io(operation, number, e);
            if e == Errno::INVAL {
                error.because("the container's user namespace does not map it").hint("take an id that its maps have")
            } else {
                error
            }
        };
        match rustix::thread::set_thread_groups(&self.groups) {
            Ok(()) => {}
            // A namespace made by a user without privileges does not let groups be given up (user_namespaces(7)).
            Err(Errno::PERM)
                if self.groups.is_empty() && capability::get().is_ok_and(|sets| sets.effective.has(SETGID)) => {}
            Err(Errno::INVAL) => {
                return Err(Error::new(Kind::Invalid, "set", "supplementary groups")
                    .because("the container's user namespace does not map all of them"));
            }
            Err(e) => return Err(Error::io("set", "supplementary groups", e)),
        }
        let gid = Gid::from_raw(id.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| unmapped("set group", id.gid, e))?;
        let uid = Uid::from_raw(id.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| unmapped("set user", id.uid, e))
    }
}

fn set_capabilities(sets: &Capabilities, more: Set) -> Result<()> {
    let (effective, permitted) = (Set(sets.effective).or(more), Set(sets.permitted).or(more));
    match capability::set(effective, permitted, Set(sets.inheritable)) {
        // Who has no CAP_SYS_ADMIN to begin with cannot hold it: loading the filter will say so.
        Err(_) if !more.is_empty() => capability::set(Set(sets.effective), Set(sets.permitted), Set(sets.inheritable)),
        other => other,
    }
    .during("set", "capabilities")
}

fn load(filter: &Filter, reporter: Reporter<'_>) -> Result<()> {
    let listener = tare_kernel::seccomp::load(&filter.program, filter.flags).map_err(|e| {
        let errno = Errno::from_io_error(&e);
        let error = Error::io("load", "system call filter", e);
        match errno {
            Some(Errno::ACCESS) => error
                .because("it takes CAP_SYS_ADMIN or no-new-privileges, and there is neither")
                .hint("set process.noNewPrivileges"),
            Some(Errno::INVAL) => error.because("this kernel does not know one of its actions or flags"),
            _ => error,
        }
    })?;
    let Some(listener) = listener else { return Ok(()) };
    let sent = super::listener::hand_over(reporter.0, &listener);
    // It is close-on-exec: closing it now would be one more call for the filter to judge.
    std::mem::forget(listener);
    sent
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
