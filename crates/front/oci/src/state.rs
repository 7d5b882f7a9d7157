//! A container's directory below the root: its state, its lock, and whether it is alive.
//!
//! The directory is made by `create` and is the container's name: making it is what fails when the name is taken.
//! A lock (flock) on the directory is held by whoever changes the container: `create`, `start`, `delete`, `update`.
//! `state.json` is written once the process exists, aside and renamed; a directory without it is one that `create` is
//! still filling, or that a killed `create` has left.

use crate::context::Context;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags, accessat, flock, openat, renameat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tare_model::runtime_spec::{Hooks, NamespaceKind, Spec};
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::{self, Group, Place};
use tare_runtime::rdt::RdtGroup;

pub(crate) const STATE: &str = "state.json";
pub(crate) const CONFIG: &str = "config.json";
/// The socket at which the created container waits.
pub(crate) const GATE: &str = "gate";
/// The same while `start` is at work: whether it has passed, only the socket itself can tell.
pub(crate) const PASSING: &str = "gate.passing";

/// What `state.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of the bundle's configuration.
    pub(crate) oci_version: String,
    /// Its name.
    pub(crate) id: String,
    /// The first process, in the PID namespace of `create`; 0 until it exists.
    pub(crate) pid: i32,
    /// Its start time in clock ticks since boot: a pid is used again.
    pub(crate) start_time: u64,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    /// Absolute, on the host.
    pub(crate) rootfs: PathBuf,
    /// RFC 3339 with nanoseconds.
    pub(crate) created: String,
    /// The user who created it.
    pub(crate) owner: u32,
    /// Its groups, with the hierarchies as they were found at `create`, so that nobody has to look for them again; absent
    /// where it has none of its own.
    pub(crate) place: Option<Place>,
    /// With a PID namespace made for it, the end of its first process is the end of all.
    #[serde(default)]
    pub(crate) ends_together: bool,
    /// It was made with the session keyring of whoever made it: then further processes keep their callers', too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) keyring_inherited: bool,
    /// Namespaces that it does not share with the caller of `create`.
    pub(crate) namespaces: Vec<NamespaceKind>,
    /// What was made for it of Intel RDT.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) rdt: RdtGroup,
    /// Of the bundle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Of the kinds that come after `create`.
    #[serde(default)]
    pub(crate) hooks: Hooks,
    /// Who gets the notify descriptor of the system call filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<Agent>,
}

/// `linux.seccomp.listenerPath` and `listenerMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// A Unix socket.
    pub(crate) path: String,
    /// Passed on as it is.
    pub(crate) metadata: Option<String>,
}

/// The specification's states, and paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// `create` is at work.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container that has a state.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its directory.
    pub(crate) dir: OwnedFd,
    /// What is known of it.
    pub(crate) state: State,
}

/// A container's name must be one that is a plain file name everywhere.
///
/// # Errors
/// `Kind::Invalid`.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() {
        return Err(Error::new(Kind::Invalid, "use container id", "").because("container id cannot be empty"));
    }
    if id.len() > 1024 || id == "." || id == ".." || !id.chars().all(plain) {
        return Err(Error::new(Kind::Invalid, "use container id", format!("{id:?}"))
            .because("invalid container ID format: letters, digits, and _ + - . are allowed"));
    }
    Ok(())
}

/// Opens the directory of a container, which may lack a state.
///
/// # Errors
/// `Kind::NotFound`, in the words that callers look for.
pub(crate) fn open_dir(context: &Context, id: &str) -> Result<OwnedFd> {
    check_id(id)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = context.root.join(id);
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| match e {
        Errno::NOENT => missing(id),
        e => Error::io("open", path.display(), e),
    })
}

/// The error for a container that is not there.
pub(crate) fn missing(id: &str) -> Error {
    Error::new(Kind::NotFound, "find container", id).because("container does not exist")
}

/// Waits for the lock of a container's directory. It lasts until the descriptor, and each copy of it, is closed, or
/// until [`unlock`].
///
/// # Errors
/// `Kind::NotFound` if the directory was removed meanwhile.
pub(crate) fn lock(dir: &OwnedFd, id: &str) -> Result<()> {
    rustix::io::retry_on_intr(|| flock(dir, FlockOperation::LockExclusive)).map_err(|e| Error::io("lock", id, e))?;
    let stat = rustix::fs::fstat(dir).map_err(|e| Error::io("lock", id, e))?;
    if stat.st_nlink == 0 { Err(missing(id)) } else { Ok(()) }
}

/// Gives the lock back, also for processes that have inherited it.
pub(crate) fn unlock(dir: &OwnedFd) {
    // It cannot fail on a descriptor that is open.
    let _ = flock(dir, FlockOperation::Unlock);
}

impl Container {
    /// Finds a container that has a state.
    ///
    /// # Errors
    /// `Kind::NotFound` for a name that nobody has, or whose `create` has only begun.
    pub(crate) fn load(context: &Context, id: &str) -> Result<Container> {
        let dir = open_dir(context, id)?;
        Container::in_dir(dir, id)
    }

    /// Finds a container and waits for its lock; the state is the one that stands once it is held.
    ///
    /// # Errors
    /// As [`Container::load`].
    pub(crate) fn load_locked(context: &Context, id: &str) -> Result<Container> {
        let dir = open_dir(context, id)?;
        lock(&dir, id)?;
        Container::in_dir(dir, id)
    }

    /// What stands in a directory that is open.
    ///
    /// # Errors
    /// As [`Container::load`].
    pub(crate) fn in_dir(dir: OwnedFd, id: &str) -> Result<Container> {
        let text = read(&dir, STATE)?.ok_or_else(|| missing(id))?;
        let state = serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Corrupt, "read", STATE).because(e).during("find container", id))?;
        Ok(Container { dir, state })
    }

    /// Writes the state, whole or not at all. Not synced: it is of this boot only.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn store(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.state).map_err(|e| Error::new(Kind::Invalid, "write", STATE).because(e))?;
        write(&self.dir, STATE, &text)
    }

    /// The first process, if it is alive.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        open_process(self.state.pid, self.state.start_time)
    }

    /// Where it stands.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn status(&self) -> Result<Status> {
        if self.state.pid == 0 {
            // Its `create` is at work as long as it holds the lock; what a killed one has left will never run.
            return Ok(if is_locked(&self.dir) { Status::Creating } else { Status::Stopped });
        }
        if self.process().is_none() {
            return Ok(Status::Stopped);
        }
        if self.is_frozen()? {
            return Ok(Status::Paused);
        }
        let exists = |name: &str| accessat(&self.dir, name, Access::EXISTS, AtFlags::empty()).is_ok();
        let waits = exists(GATE) || (exists(PASSING) && self.listens());
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// Whether the process still waits at its gate: it does not listen any more once it has become the program.
    fn listens(&self) -> bool {
        let connect = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            rustix::net::connect(&socket, &crate::handover::through(&self.dir, PASSING)?)
        };
        connect().is_ok()
    }

    /// Whether every process of it stands still.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        let Some(place) = &self.state.place else { return Ok(false) };
        match cgroup::is_frozen(place.layout(), place.path()) {
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Unsupported) => Ok(false),
            result => result,
        }
    }

    /// Where its groups are.
    ///
    /// # Errors
    /// `Kind::NotFound` if it has none.
    pub(crate) fn place(&self) -> Result<&Place> {
        let none = || Error::new(Kind::NotFound, "open cgroup", &self.state.id).because("the container has none");
        self.state.place.as_ref().ok_or_else(none)
    }

    /// Its group.
    ///
    /// # Errors
    /// `Kind::NotFound` if it has none or it is gone.
    pub(crate) fn group(&self) -> Result<Group> {
        self.place()?.open()
    }

    /// The configuration as it was at `create`.
    ///
    /// # Errors
    /// `Kind::Corrupt` if it is not there or is none.
    pub(crate) fn spec(&self) -> Result<Spec> {
        let text = read(&self.dir, CONFIG)?.unwrap_or_default();
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Corrupt, "read", CONFIG).because(e).during("use container", &self.state.id))
    }

    /// The state in the form that the specification gives it (runtime.md#state), with runc's additions.
    pub(crate) fn document(&self, status: Status) -> serde_json::Value {
        let state = &self.state;
        let pid = if status == Status::Stopped { 0 } else { state.pid };
        let mut document = serde_json::json!({
            "ociVersion": state.oci_version,
            "id": state.id,
            "pid": pid,
            "status": status.word(),
            "bundle": state.bundle,
            "rootfs": state.rootfs,
            "created": state.created,
            "owner": owner(state.owner),
        });
        if !state.annotations.is_empty() {
            document["annotations"] = serde_json::json!(state.annotations);
        }
        document
    }
}

/// A user's name, or the number where it has none.
fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    named.unwrap_or(number)
}

/// Whether somebody holds a container's lock.
fn is_locked(dir: &OwnedFd) -> bool {
    // By a description of its own: a lock is not held against whoever holds it.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(own) = openat(dir, ".", flags, Mode::empty()) else { return false };
    flock(&own, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// The start time of a process in clock ticks since boot: field 22 of proc_pid_stat(5).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), flags, Mode::empty()).ok()?;
    // 52 numbers and a name of at most 64 bytes: the kernel gives the whole line at once.
    let mut line = [0; 2048];
    let length = rustix::io::read(&file, &mut line).ok()?;
    let stat = String::from_utf8_lossy(&line[..length]);
    // The name may hold spaces and parentheses: fields are counted behind its last one.
    let rest = stat.get(stat.rfind(')')? + 2..)?;
    // One that has ended and waits for its parent is not alive.
    if rest.starts_with(['Z', 'X']) { None } else { rest.split(' ').nth(19)?.parse().ok() }
}

/// A pidfd of the process that had this pid and start time, if it is alive.
pub(crate) fn open_process(pid: i32, start: u64) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (start_time(pid)? == start).then_some(fd)
}

/// A file of a container's directory, if it is there.
pub(crate) fn read(dir: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>> {
    let fd = match openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::io("open", name, e)),
    };
    let mut bytes = Vec::with_capacity(8 << 10);
    loop {
        bytes.reserve(4 << 10);
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("read", name, e)),
        }
    }
}

/// Writes a file aside and renames it. Whoever writes holds the lock, so one name aside is enough.
pub(crate) fn write(dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<()> {
    let aside = format!(".{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fail = |e: Errno| Error::io("write", name, e);
    let fd = openat(dir, &aside, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
    std::io::Write::write_all(&mut std::fs::File::from(fd), bytes).map_err(|e| Error::io("write", name, e))?;
    renameat(dir, &aside, dir, name).map_err(fail)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
