//! Who the process is: limits, groups, user, capabilities, system call filter.

use super::status::Reporter;
use crate::plan::IdentityPlan;
use rustix::process::{Gid, Uid};
use tare_kernel::capability::Set;
use tare_kernel::seccomp::SockFilter;
use tare_model::runtime_spec::PosixRlimit;
use tare_model::{Context, Error, Kind, Result};

/// The end of the parent is this process's end, until something clears it: see PR_SET_PDEATHSIG in prctl(2).
pub(super) fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| Error::io("set", "parent-death signal", e))
}

/// setrlimit(2) for each; what root may not raise stays at the hard limit, with a warning.
pub(super) fn set_rlimits(limits: &[PosixRlimit], reporter: Reporter<'_>) -> Result<()> {
    for limit in limits {
        let resource = resource(&limit.kind)?;
        let value = |n: u64| (n != u64::MAX).then_some(n);
        let wanted = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        match rustix::process::setrlimit(resource, wanted) {
            Ok(()) => {}
            Err(rustix::io::Errno::PERM) => {
                let has = rustix::process::getrlimit(resource);
                let hard = has.maximum.unwrap_or(u64::MAX).min(limit.hard);
                let soft = limit.soft.min(hard);
                let lowered = rustix::process::Rlimit { current: value(soft), maximum: value(hard) };
                rustix::process::setrlimit(resource, lowered).map_err(|e| Error::io("set limit", &limit.kind, e))?;
                reporter.warn(format!(
                    "{} was lowered to {hard}: raising a hard limit needs CAP_SYS_RESOURCE, which this host's root lacks",
                    limit.kind
                ));
            }
            Err(e) => return Err(Error::io("set limit", format!("{} {}:{}", limit.kind, limit.soft, limit.hard), e)),
        }
    }
    Ok(())
}

fn resource(name: &str) -> Result<rustix::process::Resource> {
    use rustix::process::Resource as R;
    Ok(match name.strip_prefix("RLIMIT_").unwrap_or(name) {
        "AS" => R::As,
        "CORE" => R::Core,
        "CPU" => R::Cpu,
        "DATA" => R::Data,
        "FSIZE" => R::Fsize,
        "LOCKS" => R::Locks,
        "MEMLOCK" => R::Memlock,
        "MSGQUEUE" => R::Msgqueue,
        "NICE" => R::Nice,
        "NOFILE" => R::Nofile,
        "NPROC" => R::Nproc,
        "RSS" => R::Rss,
        "RTPRIO" => R::Rtprio,
        "RTTIME" => R::Rttime,
        "SIGPENDING" => R::Sigpending,
        "STACK" => R::Stack,
        other => {
            return Err(Error::new(Kind::Invalid, "set limit", other)
                .because("no such resource limit")
                .hint("see ulimit names: nofile, nproc, core, memlock, stack, …"));
        }
    })
}

/// Becomes the user. The order is the kernel's: the filter first unless no-new-privileges allows it last (loading one
/// needs CAP_SYS_ADMIN otherwise); the bounding set while CAP_SETPCAP is there; groups while CAP_SETGID is; the user;
/// then the remaining sets, which setresuid would have cleared but for the keep bit.
pub(super) fn assume(id: &IdentityPlan, filter: Option<&[SockFilter]>, flags: u32) -> Result<()> {
    let load = || match filter {
        Some(program) => tare_kernel::seccomp::load(program, flags).during("load", "system call filter").map(drop),
        None => Ok(()),
    };
    if !id.no_new_privileges {
        load()?;
    }
    if let Some(sets) = &id.capabilities {
        tare_kernel::capability::drop_bounding(&Set(sets.bounding)).during("drop", "capabilities")?;
        rustix::thread::set_keep_capabilities(true).map_err(|e| Error::io("keep", "capabilities", e))?;
    }
    let groups: Vec<Gid> = id.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(|e| Error::io("set", "supplementary groups", e))?;
    let gid = Gid::from_raw(id.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| Error::io("set group", id.gid, e))?;
    let uid = Uid::from_raw(id.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| Error::io("set user", id.uid, e))?;
    if let Some(sets) = &id.capabilities {
        rustix::thread::set_keep_capabilities(false).map_err(|e| Error::io("keep", "capabilities", e))?;
        tare_kernel::capability::set(Set(sets.effective), Set(sets.permitted), Set(sets.inheritable))
            .during("set", "capabilities")?;
        tare_kernel::capability::raise_ambient(&Set(sets.ambient)).during("set", "ambient capabilities")?;
    }
    if let Some(umask) = id.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    } else {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    if id.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|e| Error::io("set", "no-new-privileges", e))?;
        load()?;
    }
    Ok(())
}
