//! Names for containers' network namespaces, where `ip netns` looks for them; and namespaces that others have named.
//!
//! A container's namespace is pinned by nothing but its processes. On request it gets a name as `ip netns attach` would
//! give it: a file in /run/netns over which the namespace is bound. That pins it, so the name goes before the container's
//! devices are awaited. What was bound stands in the run directory, written before it is done:
//!
//! ```text
//! <run>/containers/<id>/netns/NAME     device and inode number of the namespace: {"device":4,"inode":4026532511}
//! ```
//!
//! Source: ip-netns(8), and ip/ipnetns.c of iproute2 for what it expects of the directory.

use crate::Engine;
use crate::record::{Durable, write_json};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tare_kernel::process::{Namespaces, namespace_kind, pidfd_signal};
use tare_model::{Context, Error, Kind, Result};

/// `NETNS_RUN_DIR` of iproute2, which writes /var/run.
const DIRECTORY: &str = "/run/netns";
/// Of the run directory of a container.
const NAMES: &str = "netns";
/// A name is a file's, and its record is written aside under a longer one.
const LONGEST_NAME: usize = 200;

/// A namespace, known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(stat: &rustix::fs::Stat) -> Identity {
        Identity { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl Engine {
    /// Gives a running container's network namespace a name for `ip netns`; without `name` that of the container. Returns
    /// the path. The name goes with the container's end, or by [`Engine::netns_detach`].
    ///
    /// # Errors
    /// `Kind::State` for one that does not run; `Kind::AlreadyExists` for a name that is taken; `Kind::Invalid` for a
    /// container in the host's network, and for what is no name.
    pub fn netns_attach(&self, container: &str, name: Option<&str>) -> Result<PathBuf> {
        let (process, view) = self.running(container, "name network namespace of container")?;
        let name = name.unwrap_or(&view.name);
        check(name)?;
        let dirs = self.dirs(&view.id);
        if dirs.status()?.is_some_and(|s| s.host_network) {
            return Err(Error::new(Kind::Invalid, "name network namespace of container", container)
                .because("it has none of its own: it is in the host's"));
        }
        let pid = view.pid.unwrap_or_default();
        let namespace = open_namespace(Path::new(&format!("/proc/{pid}/ns/net")))?;
        // Its number may be another process's by now.
        pidfd_signal(process.as_fd(), 0).map_err(|_| {
            Error::new(Kind::State, "name network namespace of container", container).because("it has just ended")
        })?;
        let stat = rustix::fs::fstat(&namespace).map_err(|e| Error::io("look at", "network namespace", e))?;
        let records = dirs.run.join(NAMES);
        std::fs::create_dir_all(&records).during("create", records.display())?;
        if records.join(name).exists() {
            return Err(taken(name).hint(format!("tare network detach-netns {container} {name}")));
        }
        write_json(&records, name, &Identity::of(&stat), Durable::No)?;
        let path = Path::new(DIRECTORY).join(name);
        if let Err(e) = bind(namespace.as_fd(), &path, name) {
            let _ = std::fs::remove_file(records.join(name));
            return Err(e);
        }
        Ok(path)
    }

    /// Takes a name away that [`Engine::netns_attach`] gave; without `name` all of the container's. How many that were.
    ///
    /// # Errors
    /// `Kind::NotFound` for a name that it does not have; what the kernel refuses.
    pub fn netns_detach(&self, container: &str, name: Option<&str>) -> Result<usize> {
        let id = self.store.container(container)?.id;
        let records = self.dirs(&id).run.join(NAMES);
        let Some(name) = name else { return self.detach_all(&id) };
        check(name)?;
        if !records.join(name).exists() {
            return Err(Error::new(Kind::NotFound, "take away network namespace's name", name)
                .because(format!("it was not given to container {container} by tare"))
                .hint("`ip netns list` shows all names; `ip netns delete` takes away those of others"));
        }
        detach(&records, name).map(|()| 1)
    }

    /// All names of a container, which may have ended. Goes on past failures and returns the first.
    pub(crate) fn detach_all(&self, id: &str) -> Result<usize> {
        let records = self.dirs(id).run.join(NAMES);
        let Ok(entries) = std::fs::read_dir(&records) else { return Ok(0) };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let results: Vec<_> = names.map(|name| detach(&records, &name).map(|()| 1)).collect();
        results.into_iter().sum()
    }
}

/// Opens the network namespace that is bound or linked at `path`, and nothing else.
///
/// # Errors
/// `Kind::NotFound`; `Kind::Invalid` for another kind of file.
pub(crate) fn open_namespace(path: &Path) -> Result<OwnedFd> {
    let fd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map_err(|e| {
            Error::io("open network namespace", path.display(), e).hint("`ip netns list` shows those that have a name")
        })?;
    if namespace_kind(fd.as_fd()) == Some(Namespaces::NETWORK) {
        return Ok(fd);
    }
    Err(Error::new(Kind::Invalid, "open network namespace", path.display())
        .because("this is no network namespace")
        .hint("give a path such as /run/netns/NAME or /proc/PID/ns/net"))
}

fn check(name: &str) -> Result<()> {
    let wrong = name.is_empty() || name.len() > LONGEST_NAME || matches!(name, "." | "..");
    if wrong || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Error::new(Kind::Invalid, "name network namespace", format!("{name:?}"))
            .because("a name is that of one file, without blanks"));
    }
    Ok(())
}

fn taken(name: &str) -> Error {
    Error::new(Kind::AlreadyExists, "name network namespace", name).because("the name is taken")
}

fn bind(namespace: BorrowedFd<'_>, path: &Path, name: &str) -> Result<()> {
    let fail = |e: Errno| Error::io("name network namespace", path.display(), e);
    make_directory()?;
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => drop(fd),
        Err(Errno::EXIST) => {
            return Err(taken(name).hint("choose another, or free this one: ip netns delete NAME"));
        }
        Err(e) => return Err(fail(e)),
    }
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    mount(source, path, "none", MountFlags::BIND, None).map_err(|e| {
        let _ = rustix::fs::unlink(path);
        fail(e)
    })
}

/// As `ip netns add` leaves it: a mount of its own that is shared, so that a name which goes here goes in every mount
/// namespace, and none of them keeps the network alive.
fn make_directory() -> Result<()> {
    let fail = |e: Errno| Error::io("prepare", DIRECTORY, e);
    match rustix::fs::mkdir(DIRECTORY, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(fail(e)),
    }
    let share = || mount_change(DIRECTORY, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match share() {
        Err(Errno::INVAL) => {
            mount_bind_recursive(DIRECTORY, DIRECTORY).map_err(fail)?;
            share().map_err(fail)
        }
        other => other.map_err(fail),
    }
}

/// Unbinds and removes a name, unless it has become another namespace's; then its record.
fn detach(records: &Path, name: &str) -> Result<()> {
    let record = records.join(name);
    let identity = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
    let path = Path::new(DIRECTORY).join(name);
    let fail = |e: Errno| Error::io("take away network namespace's name", path.display(), e);
    while let Ok(stat) = rustix::fs::stat(&path) {
        let bound = identity == Some(Identity::of(&stat));
        // Made, and whoever made it was killed before the namespace was bound.
        let bare = stat.st_size == 0 && stat.st_mode & 0o7777 == 0 && is_plain(&stat);
        if bound {
            unmount(&path, UnmountFlags::DETACH).map_err(fail)?;
        } else {
            if bare {
                rustix::fs::unlink(&path).map_err(fail)?;
            }
            break;
        }
    }
    std::fs::remove_file(&record).during("remove", record.display())
}

fn is_plain(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for wrong in ["", ".", "..", "a/b", "/", &"a".repeat(201)] {
            assert_eq!(check(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
        check("web.1_x-y").unwrap();
    }

    #[test]
    fn only_a_network_namespace_is_one() {
        open_namespace(Path::new("/proc/self/ns/net")).unwrap();
        for wrong in ["/proc/self/ns/mnt", "/etc/passwd", "/dev/null"] {
            let error = open_namespace(Path::new(wrong)).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{wrong}");
            assert!(error.first_hint().unwrap().contains("/run/netns"));
        }
        let missing = open_namespace(Path::new("/run/netns/no-such-name")).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.first_hint().unwrap().contains("ip netns list"));
    }

    #[test]
    fn a_name_is_given_and_taken_and_what_is_anothers_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let namespace = tare_kernel::netlink::new_network_namespace().unwrap();
        let identity = Identity::of(&rustix::fs::fstat(&namespace).unwrap());
        let name = format!("tare-test-{}", std::process::id());
        let path = Path::new(DIRECTORY).join(&name);
        let attach = || {
            write_json(dir.path(), &name, &identity, Durable::No).unwrap();
            bind(namespace.as_fd(), &path, &name).unwrap();
        };
        attach();
        assert_eq!(Identity::of(&rustix::fs::stat(&path).unwrap()), identity);
        assert_eq!(bind(namespace.as_fd(), &path, &name).unwrap_err().kind(), Kind::AlreadyExists);
        detach(dir.path(), &name).unwrap();
        assert!(!path.exists() && !dir.path().join(&name).exists());
        // Killed between the two steps.
        write_json(dir.path(), &name, &identity, Durable::No).unwrap();
        drop(rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CREATE, Mode::empty()).unwrap());
        detach(dir.path(), &name).unwrap();
        assert!(!path.exists());
        // Taken away by `ip netns delete`, and given to another by somebody else.
        let other = tare_kernel::netlink::new_network_namespace().unwrap();
        bind(other.as_fd(), &path, &name).unwrap();
        write_json(dir.path(), &name, &identity, Durable::No).unwrap();
        detach(dir.path(), &name).unwrap();
        assert!(path.exists());
        unmount(&path, UnmountFlags::DETACH).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
