//! A time namespace of the container's own. clone3(2) would fix the offsets at 0, so the child makes it: unshared for
//! its children, offsets written, then joined.

use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_kernel::process::{self, Namespaces};
use tare_model::{Context, Error, Kind, Result};

/// Makes it and enters it. Before the child changes its user: the file belongs to whoever made the process.
pub(super) fn enter_new(offsets: &[String]) -> Result<()> {
    process::unshare(Namespaces::TIME).during("make", "time namespace")?;
    if !offsets.is_empty() {
        write(offsets)?;
    }
    let path = "/proc/self/ns/time_for_children";
    let made = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", path, e))?;
    process::setns(made.as_fd(), Namespaces::TIME).during("enter", "time namespace")
}

fn write(offsets: &[String]) -> Result<()> {
    let text = offsets.join("\n");
    let fail = |e: Errno| {
        let error = Error::io("set time offsets", format!("{text:?}"), e);
        match e {
            Errno::RANGE => error.with_kind(Kind::Invalid).because("the clock would be before 0, or after 146 years"),
            _ => error,
        }
    };
    let path = "/proc/self/timens_offsets";
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    rustix::io::write(file, text.as_bytes()).map(drop).map_err(fail)
}
