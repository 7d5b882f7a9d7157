//! Namespaces that are there already: opened and looked at by the parent, joined before or after the clone.
//!
//! Without a user namespace the child joins them itself, but for the PID namespace, which applies to the children of
//! whoever joins it. With one, the order matters: what is owned by the runtime's user namespace can only be joined
//! before, what is owned by the container's only after. And nobody comes back from a user namespace. So an intermediate
//! process joins, clones the container's first process as its own sibling, hands over the pidfd, and ends.

use super::trace::{Actor, Mark, Trace};
use super::{bit, clone_hidden};
use crate::plan::NamespacePlan;
use crate::plan::namespaces::name;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::convert::Infallible;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use tare_kernel::process::{self, Child, Namespaces, Parent};
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Kind, Result};

/// A namespace to join.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) kind: NamespaceKind,
    fd: OwnedFd,
}

impl Joined {
    /// Joins it; PID and time apply to the caller's children, too.
    pub(super) fn enter(&self) -> Result<()> {
        process::setns(self.fd.as_fd(), bit(self.kind)).map_err(|e| self.refused(e))
    }

    fn refused(&self, e: std::io::Error) -> Error {
        Error::io("join", format!("{} namespace", name(self.kind)), e)
    }
}

/// The mount namespace last: with it, the paths of the host go.
const ORDER: [NamespaceKind; 8] = [
    NamespaceKind::User,
    NamespaceKind::Pid,
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
    NamespaceKind::Time,
    NamespaceKind::Mount,
];

/// Opens the namespaces to join, in the order of joining.
///
/// # Errors
/// `Kind::Invalid` if a path is not a namespace of its kind, or is the runtime's own where that must not be.
pub(super) fn open(plan: &NamespacePlan) -> Result<Vec<Joined>> {
    let mut out = Vec::with_capacity(plan.join.len());
    for kind in ORDER {
        let Some((_, path)) = plan.join.iter().find(|(k, _)| *k == kind) else { continue };
        let fd = open_one(kind, path)?;
        let own = is_own(kind, fd.as_fd())?;
        let refuse = |why: &str| Err(Error::new(Kind::Invalid, "join namespace", path.display()).because(why));
        if own && kind == NamespaceKind::User {
            return refuse("it is the user namespace that the runtime is in already");
        }
        if own && plan.distinct.contains(&kind) {
            return refuse("it is the host's, and something in it would be changed (a name, a sysctl)");
        }
        // One's own mount namespace is not joined anew: that would throw away the working directory for nothing.
        if !(own && kind == NamespaceKind::Time) {
            out.push(Joined { kind, fd });
        }
    }
    Ok(out)
}

fn open_one(kind: NamespaceKind, path: &Path) -> Result<OwnedFd> {
    // Without waiting: a FIFO would hold up whoever opens it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open namespace", path.display(), e))?;
    let refuse = |why: String| Error::new(Kind::Invalid, "join namespace", path.display()).because(why);
    match process::namespace_kind(fd.as_fd()) {
        Some(found) if found == bit(kind) => Ok(fd),
        Some(found) => {
            let other = ORDER.iter().find(|k| bit(**k) == found).map_or("unknown", |k| name(*k));
            Err(refuse(format!("it is a namespace of the kind {other}, not {}", name(kind))))
        }
        None => Err(refuse("it is not a namespace".to_owned())),
    }
}

/// Whether a namespace is the caller's own.
fn is_own(kind: NamespaceKind, fd: BorrowedFd<'_>) -> Result<bool> {
    let path = Path::new("/proc/self/ns").join(file(kind));
    let own = rustix::fs::stat(&path).map_err(|e| Error::io("look at", path.display(), e))?;
    let other = rustix::fs::fstat(fd).map_err(|e| Error::io("look at", "namespace", e))?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Its name in /proc/PID/ns.
fn file(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// The namespaces in which a process differs from the caller: those that [`super::exec`] has to join.
///
/// # Errors
/// As stat(2), `Kind::NotFound` if it has ended.
pub fn foreign_namespaces(pid: i32) -> Result<Vec<NamespaceKind>> {
    let inode = |who: &str, kind| {
        let path = format!("/proc/{who}/ns/{}", file(kind));
        match rustix::fs::stat(&path) {
            Ok(s) => Ok(Some((s.st_dev, s.st_ino))),
            // A kernel without time namespaces.
            Err(Errno::NOENT) if kind == NamespaceKind::Time => Ok(None),
            Err(e) => Err(Error::io("look at", path, e)),
        }
    };
    let pid = pid.to_string();
    let mut out = Vec::new();
    for kind in ORDER {
        if inode(&pid, kind)? != inode("self", kind)? {
            out.push(kind);
        }
    }
    Ok(out)
}

/// Clones without an intermediate. What is joined is left to the child, but for the PID namespace.
pub(super) fn clone_directly(
    joined: &[Joined],
    create: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> Result<Child> {
    let own = match joined.iter().find(|j| j.kind == NamespaceKind::Pid) {
        Some(pid) => {
            let own = super::open_own_pid_ns()?;
            pid.enter()?;
            Some(own)
        }
        None => None,
    };
    let cloned = clone_hidden(create, cgroup, child);
    if let Some(own) = own {
        process::setns(own.as_fd(), Namespaces::PID).during("return to", "own PID namespace")?;
    }
    cloned.during("clone", "the container's first process")
}

/// Clones through an intermediate that joins everything first: for user namespaces. The child is the caller's, and has
/// joined everything at its birth.
pub(super) fn clone_through(
    joined: &[Joined],
    create: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    trace: &Trace,
    child: impl FnOnce() -> Infallible,
) -> Result<Child> {
    let trace = trace.by(Actor::Intermediate);
    let prepare = |_: BorrowedFd<'_>| {
        trace.point(Mark::Born);
        join_all(joined)?;
        trace.point(Mark::JoinContainer);
        Ok(())
    };
    through_intermediate(None, prepare, create, cgroup, child)
}

/// Clones an intermediate, in `group` if that is given, which prepares itself and then clones the child as the caller's.
/// `prepare` is told the one descriptor that it must leave open.
pub(super) fn through_intermediate(
    group: Option<BorrowedFd<'_>>,
    prepare: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    create: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> Result<Child> {
    let fail = |e| Error::io("clone", "intermediate process", e);
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(fail)?;
    let ours_raw = ours.as_raw_fd();
    let intermediate = clone_hidden(Namespaces::NONE, group, || {
        drop(process::adopt(ours_raw));
        let theirs_raw = theirs.as_raw_fd();
        let cloned = prepare(theirs.as_fd()).and_then(|()| {
            process::clone_again(create, cgroup, Parent::Sibling, || {
                drop(process::adopt(theirs_raw));
                child()
            })
            .during("clone", "a process in the container")
        });
        match cloned {
            Ok(made) => hand_over(&theirs, &made),
            Err(e) => {
                let json = serde_json::to_vec(&e).unwrap_or_default();
                let _ = rustix::net::send(&theirs, &json, SendFlags::NOSIGNAL);
            }
        }
        process::exit_now(0)
    })
    .during("clone", "intermediate process")?;
    drop(theirs);
    let received = take_over(&ours);
    // It ends by itself, now that it has said what it had to.
    while waitid(WaitId::PidFd(intermediate.pidfd.as_fd()), WaitIdOptions::EXITED).err() == Some(Errno::INTR) {}
    received
}

fn join_all(joined: &[Joined]) -> Result<()> {
    let mut later = 0u32;
    for (i, j) in joined.iter().enumerate().filter(|(_, j)| j.kind != NamespaceKind::User) {
        match process::setns(j.fd.as_fd(), bit(j.kind)) {
            Ok(()) => {}
            // Owned by the user namespace that is not joined yet.
            Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => later |= 1 << i,
            Err(e) => return Err(j.refused(e)),
        }
    }
    if let Some(user) = joined.iter().find(|j| j.kind == NamespaceKind::User) {
        user.enter()?;
    }
    joined.iter().enumerate().filter(|(i, _)| later & (1 << i) != 0).try_for_each(|(_, j)| j.enter())
}

fn hand_over(socket: &OwnedFd, child: &Child) {
    let pid = child.pid.as_raw_nonzero().get().to_ne_bytes();
    let fds = [child.pidfd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let _ = sendmsg(socket, &[IoSlice::new(&pid)], &mut control, SendFlags::NOSIGNAL);
}

/// The child holds the other end of the socket for a moment, in which somebody who may trace it could take it and speak for
/// the intermediate: then what was named would be another process.
fn is_own_child(pid: Pid, pidfd: &OwnedFd) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look).is_ok() && waitid(WaitId::Pid(pid), look).is_ok()
}

fn take_over(socket: &OwnedFd) -> Result<Child> {
    let fail = |e| Error::io("clone", "the container's first process", e);
    let mut buffer = [0u8; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut into = [IoSliceMut::new(&mut buffer)];
        match recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other.map_err(fail)?,
        }
    };
    let pidfd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let packet = &buffer[..got.bytes];
    if let Some(pidfd) = pidfd
        && let Ok(pid) = packet.try_into().map(i32::from_ne_bytes)
        && let Some(pid) = Pid::from_raw(pid)
        && is_own_child(pid, &pidfd)
    {
        return Ok(Child { pid, pidfd });
    }
    Err(serde_json::from_slice(packet).unwrap_or_else(|_| {
        Error::new(Kind::System, "clone", "the container's first process")
            .because("the process that was to join its namespaces has ended")
    }))
}
