//! Taking a container down: its processes, its groups, its directory. It goes on past failures and reports the first.

use crate::context::Context;
use crate::state::{CONFIG, Container, State, open_process, read};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, unlinkat};
use rustix::io::Errno;
use std::time::{Duration, Instant};
use tare_kernel::process::pidfd_signal;
use tare_model::runtime_spec::Spec;
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::{Layout, Place};
use tare_runtime::rdt::{self, RdtGroup};

/// How long a killed process may take to be gone: it may be dying on a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Kills the first process, and waits until it has ended. Its parent may reap it whenever it likes.
pub(crate) fn kill_and_wait(process: &OwnedFd) -> Result<()> {
    match pidfd_signal(process.as_fd(), SIGKILL) {
        Ok(()) => {}
        Err(e) if Errno::from_io_error(&e) == Some(Errno::SRCH) => return Ok(()),
        Err(e) => return Err(Error::io("kill", "the container's first process", e)),
    }
    wait_end(process.as_fd(), PATIENCE)
}

/// Waits until a process has ended.
fn wait_end(process: BorrowedFd<'_>, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                return Err(Error::new(Kind::InUse, "wait for", "the container's first process")
                    .because("it does not end although it was killed")
                    .hint("it waits in the kernel, for a disk or a network file system; try again"));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for", "the container's first process", e)),
        }
    }
}

/// Removes the groups. Whoever is left in them is killed: with the first process gone, nobody of the container may stay,
/// and without a PID namespace of its own nobody else ends them.
fn remove_cgroup(place: &Place, ends_together: bool) -> Result<()> {
    if !ends_together {
        // One look is cheaper than a failed removal with its patience.
        kill_left(place)?;
    }
    match place.remove() {
        // Somebody has entered them from outside.
        Err(e) if e.kind() == Kind::InUse => kill_left(place).and_then(|()| place.remove()),
        result => result,
    }
}

fn kill_left(place: &Place) -> Result<()> {
    match place.open() {
        Ok(group) if group.processes()?.is_empty() => Ok(()),
        Ok(group) => group.kill_all(),
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes the container's own groups of Intel RDT.
fn remove_rdt(group: &RdtGroup) -> Result<()> {
    if *group == RdtGroup::default() {
        return Ok(());
    }
    match rdt::open("removal") {
        Ok(root) => rdt::remove(group, root.as_fd()),
        // Unmounted since: the groups went with it.
        Err(e) if e.kind() == Kind::Unsupported => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes the groups that a `create` may have made before it noted that they are its own. They are only removed if nobody
/// is in them: they may be somebody else's.
pub(crate) fn remove_begun(context: &Context, dir: &OwnedFd, id: &str) {
    let attempt = || -> Option<()> {
        let text = read(dir, CONFIG).ok()??;
        let spec: Spec = serde_json::from_slice(&text).ok()?;
        let path = spec.linux?.cgroups_path;
        let place = Place::decide(Layout::read().ok()?, context.manager(), path.as_deref(), id).ok()?;
        if place.open().ok()?.processes().ok()?.is_empty() {
            place.remove().ok()?;
        }
        Some(())
    };
    // Whatever is in the way, there is nothing of the container's to be told about.
    let _ = attempt();
}

/// Everything of a container but its name, in the order in which nothing can come back.
pub(crate) fn take_down(state: &State) -> Result<()> {
    let killed = match open_process(state.pid, state.start_time) {
        Some(process) => kill_and_wait(&process),
        None => Ok(()),
    };
    let removed =
        state.place.as_ref().map_or(Ok(()), |place| remove_cgroup(place, state.ends_together && state.pid != 0));
    killed.and(removed).and(remove_rdt(&state.rdt))
}

/// Removes a container's directory, the state last: whoever looks meanwhile still finds what is to be removed.
pub(crate) fn remove_directory(context: &Context, dir: &OwnedFd, id: &str) -> Result<()> {
    let path = context.root.join(id);
    let fail = |e: Errno| Error::io("remove", path.display(), e);
    let mut names: Vec<(std::ffi::CString, bool)> = Vec::new();
    for entry in Dir::read_from(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type() == FileType::Directory));
        }
    }
    names.sort_by_key(|(name, _)| name.to_bytes() == b"state.json");
    for (name, is_dir) in names {
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(dir, &name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    match rustix::fs::rmdir(&path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(fail(e)),
    }
}

/// Removes a container that stands still: its groups, its directory, then its poststop hooks, whose failures are only
/// told (runtime.md#lifecycle).
pub(crate) fn delete(context: &Context, container: &Container) -> Result<()> {
    take_down(&container.state)?;
    remove_directory(context, &container.dir, &container.state.id)?;
    crate::hooks::poststop(context, &container.state);
    Ok(())
}
