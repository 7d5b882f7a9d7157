//! New instances of filesystems, as detached mounts.
//!
//! fsconfig(2) takes options one by one and says what it dislikes. Some options only the older mount(2) can pass: those
//! longer than fsconfig's 255 bytes (an overlay's `lowerdir` of many layers), and those that a filesystem reads from
//! the whole string alone. Then the string goes to mount(2), on a directory that nobody else can name.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, mount,
    move_mount, open_tree, unmount,
};
use std::ffi::CString;
use tare_kernel::mount::Attributes;
use tare_model::{Error, Kind, Result};

/// The longest string that fsconfig(2) takes.
const LONGEST: usize = 255;

/// A detached copy of a mount, to be moved elsewhere: the way of a bind mount.
///
/// # Errors
/// As open_tree(2); ENOENT if the source is missing.
pub(super) fn clone_tree(dir: impl AsFd, path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(dir, path, flags)
}

/// A new, detached instance of a filesystem. `set`: MOUNT_ATTR_* bits.
///
/// # Errors
/// `Kind::Unsupported` if the kernel lacks the filesystem; else as fsopen(2), with the kernel's own words.
pub(super) fn new_filesystem(kind: &str, name: &str, options: &[String], set: u64) -> Result<OwnedFd> {
    let fail = |e: Errno| match e {
        Errno::NODEV => Error::new(Kind::Unsupported, "mount", kind).because("this kernel has no such filesystem"),
        e => Error::io("mount", kind, e),
    };
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail)?;
    fsconfig_set_string(fs.as_fd(), "source", name)
        .and_then(|()| configure(&fs, options))
        .and_then(|()| fsconfig_create(fs.as_fd()))
        .map_err(|e| described(&fs, kind, options, e))?;
    let attributes = MountAttrFlags::from_bits_retain(set as u32);
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail)
}

/// As [`new_filesystem`], with options that only mount(2) can pass. For a process whose mount namespace is its own and
/// cut off from all others: it mounts something for a moment.
///
/// # Errors
/// As [`new_filesystem`].
pub(super) fn new_filesystem_in_child(kind: &str, name: &str, options: &[String], set: u64) -> Result<OwnedFd> {
    let refused = [Errno::INVAL, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    match new_filesystem(kind, name, options, set) {
        Err(e) if !options.is_empty() && e.errno().is_some_and(|n| refused.contains(&n)) => {
            match by_whole_string(kind, name, options, set) {
                Ok(tree) => Ok(tree),
                // What both refuse is explained by the call that explains.
                Err(Errno::INVAL) => Err(e),
                Err(e) => Err(Error::io("mount", format!("{kind} with options {:?}", options.join(",")), e)),
            }
        }
        other => other,
    }
}

/// Changes the options of the filesystem that is mounted at `point` (fspick(2)).
///
/// # Errors
/// As fsconfig(2), with the kernel's own words; EINVAL if nothing is mounted there.
pub(super) fn reconfigure(point: &OwnedFd, target: &str, options: &[String]) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let fs = fspick(point, "", flags).map_err(|e| Error::io("remount", target, e))?;
    configure(&fs, options)
        .and_then(|()| fsconfig_reconfigure(fs.as_fd()))
        .map_err(|e| described(&fs, target, options, e))
}

fn configure(fs: &OwnedFd, options: &[String]) -> rustix::io::Result<()> {
    for option in options {
        match option.split_once('=') {
            Some((_, value)) if value.len() > LONGEST => return Err(Errno::INVAL),
            Some((key, value)) => fsconfig_set_string(fs.as_fd(), key, value)?,
            None => fsconfig_set_flag(fs.as_fd(), option.as_str())?,
        }
    }
    Ok(())
}

fn described(fs: &OwnedFd, kind: &str, options: &[String], e: Errno) -> Error {
    let error = Error::io("mount", format!("{kind} with options {:?}", options.join(",")), e);
    match kernel_words(fs) {
        Some(words) => error.because(words),
        None => error,
    }
}

/// mount(2) works on paths of this mount namespace. A directory of a new tmpfs, laid over the root directory for the
/// moment, is one that only its descriptor leads to; the result is taken off it as a detached mount.
fn by_whole_string(kind: &str, name: &str, options: &[String], set: u64) -> rustix::io::Result<OwnedFd> {
    let scratch = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(scratch.as_fd())?;
    let scratch = fsmount(scratch.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    rustix::fs::mkdirat(&scratch, "m", Mode::from_raw_mode(0o700))?;
    let point = rustix::fs::openat(&scratch, "m", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    move_mount(&scratch, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let through = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let (words, data): (Vec<&String>, Vec<&String>) = options.iter().partition(|o| flag(o).is_some());
    let flags = words.iter().filter_map(|o| flag(o)).fold(MountFlags::empty(), |all, flag| all | flag);
    let data = data.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let made = mount(name, through(&point), kind, flags, &*data).and_then(|()| {
        let tree = clone_tree(&scratch, "m", false)?;
        let attributes = Attributes { set, propagation: tare_kernel::mount::PRIVATE, ..Default::default() };
        tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(tree)
    });
    unmount(through(&scratch), UnmountFlags::DETACH)?;
    made
}

/// Words of the superblock that mount(2) takes as flags.
fn flag(option: &str) -> Option<MountFlags> {
    Some(match option {
        "ro" => MountFlags::RDONLY,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        "lazytime" => MountFlags::LAZYTIME,
        "mand" => MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
        _ => return None,
    })
}

/// What the kernel wrote into the context's log: lines like `e tmpfs: Bad value for 'size'`.
pub fn kernel_words(fs: &OwnedFd) -> Option<String> {
    let mut buffer = [0u8; 512];
    let mut last = None;
    while let Ok(n) = rustix::io::read(fs, &mut buffer[..]) {
        let line = String::from_utf8_lossy(&buffer[..n]);
        let line = line.trim();
        if let Some(words) = line.strip_prefix("e ") {
            last = Some(words.to_owned());
        }
    }
    last
}

/// Whether files can be given SELinux labels here.
///
/// # Errors
/// `Kind::Unsupported` where a label is among the options and this kernel has no SELinux.
pub(super) fn check_label(target: &str, options: &[String]) -> Result<()> {
    let Some(label) = options.iter().find_map(|o| o.strip_prefix("context=")) else { return Ok(()) };
    if rustix::fs::access("/sys/fs/selinux/enforce", rustix::fs::Access::EXISTS).is_ok() {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "label mount", target)
        .because(format!("{label:?} is a label of SELinux, which this kernel does not run"))
        .hint("leave out mountLabel"))
}
