//! The runtime's own program, out of a container's reach (CVE-2019-5736).
//!
//! A process of the runtime's that enters a container can be seen there as /proc/PID/exe: by that, whoever is root inside
//! might open the runtime's file on the host for writing once it is not executed any more. So a process that is going to
//! put a part of itself into a container first executes itself anew, from a detached read-only mount of its own file:
//! opened for writing by that way, the file answers EROFS. No copy is made.

use crate::defence::{Defence, stands};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tare_kernel::mount::{Attributes, NOSUID, PRIVATE, RDONLY};
use tare_kernel::process::{self, ExecArray};
use tare_model::{Context, Error, Kind, Result};

/// How the runtime's program is kept from being written.
#[derive(Debug)]
pub enum Protection {
    /// It is executed from a read-only mount. The path is that of the file on the host, if it is known.
    ReadOnly(Option<PathBuf>),
    /// It cannot be protected here, and why: the caller is not root, or the kernel is too old. Then only users of the
    /// host's own, in whose namespaces it is read-only by its permissions, can be inside.
    None(Error),
}

const SELF: &str = "/proc/self/exe";
/// Descriptors that are handed over to the next program begin here, beyond those that a caller hands down.
const HIGH: i32 = 200;

/// Executes this program anew from a read-only mount, with the same arguments and environment; returns only in the
/// process that is already executed so, or where that cannot be. To be called first thing, by whoever launches.
///
/// `args`: all of them, the program's name first. Nothing is left open by it.
///
/// # Errors
/// `Kind::Invalid` for an argument with a zero byte, which no process has.
pub fn protect_executable(args: &[OsString]) -> Result<Protection> {
    if !stands(Defence::Executable) {
        return Ok(Protection::None(Error::new(Kind::Unsupported, "protect", SELF).because("this test takes it away")));
    }
    let flags = rustix::fs::statvfs(SELF).map_err(|e| Error::io("look at", SELF, e))?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Protection::ReadOnly(path()));
    }
    Ok(Protection::None(reexecute(args)))
}

fn reexecute(args: &[OsString]) -> Error {
    let attempt = || -> Result<std::convert::Infallible> {
        let argv = ExecArray::new(args.iter().map(|a| a.as_bytes())).during("protect", SELF)?;
        let file = read_only_file().map_err(|e| Error::io("protect", SELF, e))?;
        // Its path on the host cannot be read from the new mount. The original file goes along under the next number.
        let original = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("protect", SELF, e))?;
        let tree = process::dup_inheritable_from(file.as_fd(), HIGH).during("protect", SELF)?;
        let tree = process::adopt(tree).during("protect", SELF)?;
        let kept = process::dup_inheritable_from(original.as_fd(), tree.as_raw_fd() + 1).during("protect", SELF)?;
        let e = Error::io("protect", SELF, process::execveat_as_is(tree.as_fd(), &argv));
        drop(process::adopt(kept));
        Err(e)
    };
    match attempt() {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

fn read_only_file() -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, SELF, flags)?;
    let attributes = Attributes { set: RDONLY | NOSUID, propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false)?;
    Ok(tree)
}

/// The path on the host of the file that is executed, after [`protect_executable`]; before it, /proc/self/exe says it.
fn path() -> Option<PathBuf> {
    let read = |link: String| {
        let target = rustix::fs::readlink(link, Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from(target.to_str().ok()?)))
    };
    // Executed by a descriptor alone, a program is called after it; the next one is the original.
    let Some(number) = process::executed_as()?.strip_prefix("/dev/fd/").and_then(|n| n.parse::<i32>().ok()) else {
        return read(SELF.to_owned());
    };
    let kept = process::adopt(number + 1).ok()?;
    read(format!("/proc/self/fd/{}", kept.as_raw_fd()))
}

/// Whether the descriptors from 3 up that the program is to get (preserve-fds) are all open. Before anything else is
/// opened: what came later would be taken for one of them.
///
/// # Errors
/// `Kind::Invalid`, naming the first that is not open.
pub fn check_preserved(count: u32) -> Result<()> {
    for number in 3..3u64 + u64::from(count) {
        match rustix::fs::readlink(format!("/proc/self/fd/{number}"), Vec::new()) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                return Err(Error::new(Kind::Invalid, "preserve descriptor", number).because("it is not open"));
            }
            Err(e) => return Err(Error::io("preserve descriptor", number, e)),
        }
    }
    Ok(())
}
