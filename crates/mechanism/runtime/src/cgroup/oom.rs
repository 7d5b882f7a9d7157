//! Learning that the kernel killed for want of memory.

use super::files;
use super::group::Group;
use super::layout::Layout;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags, openat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tare_model::{Error, Kind, Result};

/// Becomes readable when the group runs out of memory (v1: eventfd on `memory.oom_control`; v2: inotify on
/// `memory.events`, which changes for other reasons too). What happened is read with [`Group::oom_kills`].
#[derive(Debug)]
pub struct OomEvents {
    fd: OwnedFd,
    /// v1's eventfd ends with the file that it was registered for.
    _control: Option<OwnedFd>,
}

impl OomEvents {
    /// Makes it wait for the next event.
    pub fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|n| n > 0) {}
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// [`Group::oom_kills`] of the group `path`; opens only the hierarchy that tells.
///
/// # Errors
/// As [`Group::open`] and [`Group::oom_kills`].
pub fn oom_kills(layout: &Layout, path: &str) -> Result<u64> {
    let tells = layout.with_controller("memory");
    Group::open(&Layout::of(tells), path)?.oom_kills()
}

impl Group {
    /// How many processes of the group (v2: and of those below) the kernel has killed for want of memory.
    ///
    /// # Errors
    /// Unsupported without the memory controller.
    pub fn oom_kills(&self) -> Result<u64> {
        let m = self.memory()?;
        let text = files::read(&m.dir, if m.is_v2() { "memory.events" } else { "memory.oom_control" })?;
        Ok(text.and_then(|t| files::keyed(&t, "oom_kill")).unwrap_or(0))
    }

    /// A descriptor to poll for [`Group::oom_kills`].
    ///
    /// # Errors
    /// Unsupported without the memory controller.
    pub fn oom_events(&self) -> Result<OomEvents> {
        let m = self.memory()?;
        let failed = |e: rustix::io::Errno| Error::io("watch for want of memory", self.path(), e);
        if m.is_v2() {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(failed)?;
            let path = format!("/proc/self/fd/{}/memory.events", m.dir.as_raw_fd());
            inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY).map_err(failed)?;
            return Ok(OomEvents { fd, _control: None });
        }
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        let control =
            openat(&m.dir, "memory.oom_control", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        files::write(&m.dir, "cgroup.event_control", line).map_err(failed)?;
        Ok(OomEvents { fd, _control: Some(control) })
    }

    fn memory(&self) -> Result<&super::group::Member> {
        self.with("memory").ok_or_else(|| {
            Error::new(Kind::Unsupported, "watch for want of memory", self.path())
                .because("this host has no memory controller")
        })
    }
}
