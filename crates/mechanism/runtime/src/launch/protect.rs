//! The runtime's own program, out of a container's reach (CVE-2019-5736).
//!
//! A process of the runtime's that enters a container can be seen there as /proc/PID/exe: by that, whoever is root inside
//! might open the runtime's file on the host for writing once it is not executed any more. So a process that is going to
//! put a part of itself into a container first executes itself anew, from a detached read-only mount of its own file:
//! opened for writing by that way, the file answers EROFS. No copy is made.

use super::trace::{self, Mark, Trace};
use crate::defence::{Defence, stands};
use rustix::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
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

/// The descriptor of the read-only mount that this program is executed from; -1 without one. The mount lives on by the
/// program alone.
static TREE: AtomicI32 = AtomicI32::new(-1);

/// Where that file is on the host.
static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// In a child with a mount namespace of its own, before its root: moves the read-only mount onto the file that it shows.
/// There it goes with all other mounts of the host, in the one step that takes those away, and nobody waits for it alone:
/// every descriptor of it can be closed at once. Where it cannot be moved, nothing is lost but that time.
pub(super) fn stow_away() {
    let number = TREE.swap(-1, Ordering::Relaxed);
    if number >= 0
        && let Ok(tree) = process::adopt(number)
        && let Some(place) = PLACE.get()
    {
        let _ = move_mount(&tree, "", CWD, place.as_path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    }
}

/// The first half of [`protect_executable`], which may be called before the arguments are understood: executes this
/// program anew, if it is not protected. What fails is told by the second half.
pub fn reexecute_protected(trace: &Trace) {
    let protected = || rustix::fs::statvfs(SELF).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    if stands(Defence::Executable) && !protected() {
        reexecute(trace);
    }
}

/// Closes the descriptor of the read-only mount, in this process. The last one of those that have it, by clone, waits
/// while the kernel takes the mount out of its tree: up to some milliseconds on a busy machine. So this is called where
/// nobody waits, or by one who is not the last.
pub fn let_go_of_executable() {
    let number = TREE.swap(-1, Ordering::Relaxed);
    if number >= 0 {
        drop(process::adopt(number));
    }
}

/// Executes this program anew from a read-only mount, with the same arguments and environment; returns only in the
/// process that is already executed so, or where that cannot be. To be called first thing, by whoever launches, once. One
/// descriptor stays open: see [`let_go_of_executable`]. What `trace` has recorded goes along, and then stands before the
/// points of the program that is executed.
///
/// # Errors
/// As statvfs(2) of /proc/self/exe: where no /proc is mounted.
pub fn protect_executable(trace: &Trace) -> Result<Protection> {
    if !stands(Defence::Executable) {
        return Ok(Protection::None(Error::new(Kind::Unsupported, "protect", SELF).because("this test takes it away")));
    }
    let flags = rustix::fs::statvfs(SELF).map_err(|e| Error::io("look at", SELF, e))?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Protection::ReadOnly(path(trace)));
    }
    Ok(Protection::None(reexecute(trace)))
}

fn reexecute(trace: &Trace) -> Error {
    let attempt = || -> Result<std::convert::Infallible> {
        let argv = ExecArray::new(std::env::args_os().map(OsString::into_vec)).during("protect", SELF)?;
        let file = read_only_file().map_err(|e| Error::io("protect", SELF, e))?;
        // Its path on the host cannot be read from the new mount. The original file goes along under the next number.
        let original = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("protect", SELF, e))?;
        let tree = process::dup_inheritable_from(file.as_fd(), HIGH).during("protect", SELF)?;
        let tree = process::adopt(tree).during("protect", SELF)?;
        // It goes along: closing the mount's last descriptor takes time, and the next program does it when it has some.
        rustix::io::fcntl_setfd(&tree, FdFlags::empty()).map_err(|e| Error::io("protect", SELF, e))?;
        let kept = process::dup_inheritable_from(original.as_fd(), tree.as_raw_fd() + 1).during("protect", SELF)?;
        trace.point(Mark::ReadOnly);
        let points = hand_over(trace, kept + 1);
        let e = Error::io("protect", SELF, process::execveat_as_is(tree.as_fd(), &argv));
        drop(process::adopt(kept));
        drop(points.map(process::adopt));
        Err(e)
    };
    match attempt() {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

/// Puts the points so far under a descriptor's number; `None` if there are none, or there is no room for them.
fn hand_over(trace: &Trace, number: i32) -> Option<i32> {
    let file = trace.hand_over().ok()??;
    let points = process::dup_inheritable_from(file.as_fd(), number).ok()?;
    if points == number {
        return Some(points);
    }
    drop(process::adopt(points));
    None
}

fn read_only_file() -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, SELF, flags)?;
    let attributes = Attributes { set: RDONLY | NOSUID, propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false)?;
    Ok(tree)
}

/// The path on the host of the file that is executed, after [`protect_executable`]; before it, /proc/self/exe says it.
fn path(trace: &Trace) -> Option<PathBuf> {
    // Executed by a descriptor alone, a program is called after it; the next one is the original.
    let kept = match process::executed_as()?.strip_prefix("/dev/fd/").and_then(|n| n.parse::<i32>().ok()) {
        None => return read_path(SELF),
        Some(number) if number < HIGH => return None,
        Some(number) => format!("/proc/self/fd/{}", number + 1),
    };
    // Somebody else may have executed it by a descriptor, and the next one may be anything.
    let (own, other) = (rustix::fs::stat(SELF).ok()?, rustix::fs::stat(kept.as_str()).ok()?);
    if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino) {
        return None;
    }
    let path = read_path(&kept);
    if let Some(path) = &path {
        let _ = PLACE.set(path.clone());
    }
    let number: i32 = kept.rsplit('/').next().and_then(|n| n.parse().ok())?;
    drop(process::adopt(number));
    // Close-on-exec from now on.
    if let Ok(tree) = process::adopt(number - 1) {
        TREE.store(tree.into_raw_fd(), Ordering::Relaxed);
    }
    if trace.is_on()
        && trace::is_handed_over(number + 1)
        && let Ok(points) = process::adopt(number + 1)
    {
        trace.take_over(points.as_fd());
    }
    path
}

fn read_path(link: &str) -> Option<PathBuf> {
    let target = rustix::fs::readlink(link, Vec::new()).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use tare_kernel::process::{Namespaces, Parent};

    const NAME: &str = "launch::protect::tests::the_file_cannot_be_written_afterwards";

    /// In the copy of this test's program: first as it was executed by the test, then as it has executed itself.
    fn in_the_copy() {
        let protection = protect_executable(&Trace::off()).unwrap();
        let Protection::ReadOnly(Some(path)) = &protection else { panic!("{protection:?}") };
        assert!(path.ends_with("copy"), "{path:?}");
        assert_eq!(std::env::vars_os().collect::<Vec<_>>(), [("A".into(), "1".into())]);
        let_go_of_executable();
        // Whoever runs the tests may have left descriptors open, but none of this file.
        let own = rustix::fs::stat(SELF).unwrap();
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let Ok(found) = rustix::fs::stat(entry.unwrap().path()) else { continue };
            assert_ne!((found.st_dev, found.st_ino), (own.st_dev, own.st_ino), "a descriptor was left");
        }
        rustix::io::write(rustix::stdio::stdout(), b"protected").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn the_file_cannot_be_written_afterwards() {
        let executed_as = process::executed_as().unwrap();
        if executed_as.ends_with("copy") || executed_as.starts_with("/dev/fd/") {
            return in_the_copy();
        }
        let dir = std::env::temp_dir().join(format!("tare-protect-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let copy = dir.join("copy");
        std::fs::copy(SELF, &copy).unwrap();
        let path = std::ffi::CString::new(copy.as_os_str().as_bytes()).unwrap();
        let argv = ExecArray::new(["copy", "--exact", NAME, "--nocapture"]).unwrap();
        let envp = ExecArray::new(["A=1"]).unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let child = process::clone_again(Namespaces::NONE, None, Parent::Caller, || {
            rustix::stdio::dup2_stdout(&write).unwrap();
            process::execve(&path, &argv, &envp);
            process::exit_now(127)
        })
        .unwrap();
        drop(write);
        let (mut text, mut buffer) = (String::new(), [0; 256]);
        while !text.contains("protected") {
            let n = rustix::io::read(&read, &mut buffer[..]).unwrap();
            assert_ne!(n, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        // What somebody in a container could do: hold it, wait until it is not executed any more, open it for writing.
        let link = format!("/proc/{}/exe", child.pid.as_raw_nonzero());
        let held = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        process::pidfd_signal(child.pidfd.as_fd(), 9).unwrap();
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        assert_eq!(rustix::fs::open(again, OFlags::RDWR, Mode::empty()).unwrap_err(), Errno::ROFS);
        rustix::fs::open(&copy, OFlags::RDWR, Mode::empty()).expect("the file itself can be written");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
