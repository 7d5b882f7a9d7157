//! A container's files: what was asked for, what runs, how it ended.
//!
//! ```text
//! <root>/containers/<id>/            written by                    durable
//!   config.json   Record             create                        yes (not for `run --rm`)
//!   started.json  Started            start, before the clone       no
//!   exit.json     Exit               supervisor, or recovery       no
//!   upper/ work/  the container's    create                        as the kernel writes it
//!   log, log.1, log.2                supervisor                    no
//!   hosts hostname resolv.conf       start; bound inside           no
//! <run>/containers/<id>/             gone after a reboot
//!   lock          held by the supervisor for life: alive means held
//!   status.json   Status             start; replaced by rename
//!   attach        socket             supervisor
//! ```

use crate::request::{Attachment, RunRequest};
use crate::view::{Exit, MountView, Port};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tare_model::address::MacAddress;
use tare_model::id_map::IdMaps;
use tare_model::image::RunConfig;
use tare_model::{Context, Digest, Error, Kind, Result};

/// What `create` decided and wrote down. `start` needs nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) created_at: String,
    pub(crate) image_id: Option<Digest>,
    pub(crate) image: String,
    pub(crate) request: RunRequest,
    /// The image's own defaults, as they were then.
    pub(crate) defaults: RunConfig,
    /// Diff IDs, bottom first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) cwd: String,
    pub(crate) hostname: String,
    pub(crate) stop_signal: i32,
    pub(crate) mounts: Vec<Mounted>,
    /// Its places in networks, in the order of the request's attachments; kept until removal.
    #[serde(default)]
    pub(crate) leases: Vec<Lease>,
    /// What the first version had in place of leases: the address on the default network.
    #[serde(default, rename = "address", skip_serializing)]
    pub(crate) first_version_address: Option<Ipv4Addr>,
    /// Capability mask of the bounding set.
    pub(crate) capabilities: u64,
    /// Its ids, if it has a user namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<IdMaps>,
}

impl Record {
    /// Containers of the first version go on with the address that they have. By its name, the default network is found
    /// as by its id.
    fn of_this_version(mut self) -> Record {
        if let Some(address) = self.first_version_address.take() {
            let mac = Some(MacAddress::of(address.into()));
            self.leases.push(Lease { network: "bridge".to_owned(), v4: Some(address), v6: None, mac });
            self.request.attachments.push(Attachment { network: "bridge".to_owned(), ..Attachment::default() });
        }
        self
    }
}

/// What a container has of one network from its creation, or from being connected, to its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The network's id.
    pub(crate) network: String,
    #[serde(default)]
    pub(crate) v4: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) v6: Option<Ipv6Addr>,
    /// Absent where the device brings its own.
    #[serde(default)]
    pub(crate) mac: Option<MacAddress>,
}

/// One mount, its source decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mounted {
    pub(crate) request: crate::request::MountRequest,
    /// The volume's name, for volumes.
    #[serde(default)]
    pub(crate) volume: Option<String>,
    /// The volume belongs to this container alone.
    #[serde(default)]
    pub(crate) anonymous: bool,
    /// The directory or file on the host, for binds and volumes.
    #[serde(default)]
    pub(crate) source: Option<PathBuf>,
}

/// That a start was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) boot_id: String,
    pub(crate) started_at: String,
}

/// What runs, and what must be taken down when it ends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// 0 until the first process exists.
    pub(crate) pid: i32,
    /// Its start time in clock ticks since boot (proc(5), stat field 22): with the pid, an identity.
    pub(crate) pid_start: u64,
    pub(crate) supervisor_pid: i32,
    pub(crate) supervisor_start: u64,
    pub(crate) started_at: String,
    pub(crate) cgroup: String,
    /// In the order in which they were connected.
    #[serde(default)]
    pub(crate) endpoints: Vec<tare_network::Endpoint>,
    /// The bridges that they stand on, with what may pass there: to be restored without asking the store.
    #[serde(default)]
    pub(crate) bridges: Vec<tare_network::BridgePlan>,
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    /// Of whom names are answered inside; `None` if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) naming: Option<Naming>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// Namespaces joined by the first process are the host's or another container's: those not made for it.
    #[serde(default)]
    pub(crate) host_network: bool,
}

/// What the server of a container's names needs to know, beside its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Naming {
    /// At least those that the container is on.
    pub(crate) networks: Vec<NamedNetwork>,
    /// Who is asked for other names; none for the host's servers.
    #[serde(default)]
    pub(crate) servers: Vec<std::net::IpAddr>,
}

/// A network as its containers know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedNetwork {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether names of its containers are answered.
    pub(crate) names: bool,
    /// Whether it leads nowhere else: then nobody outside is asked on its behalf.
    pub(crate) internal: bool,
}

impl NamedNetwork {
    pub(crate) fn of(network: &tare_model::network::Network) -> NamedNetwork {
        NamedNetwork {
            id: network.id.clone(),
            name: network.name.clone(),
            names: network.dns,
            internal: network.internal,
        }
    }
}

impl Mounted {
    pub(crate) fn view(&self) -> MountView {
        use crate::request::MountKind as K;
        let kind = match self.request.kind {
            K::Bind { .. } => "bind",
            K::Volume { .. } => "volume",
            K::Tmpfs { .. } => "tmpfs",
        };
        let propagation = match &self.request.kind {
            K::Bind { propagation: Some(p), .. } => {
                serde_json::to_value(p).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
            }
            K::Bind { .. } => "rprivate".to_owned(),
            _ => String::new(),
        };
        MountView {
            kind: kind.to_owned(),
            name: self.volume.clone(),
            source: self.source.as_ref().map(|s| s.display().to_string()).unwrap_or_default(),
            target: self.request.target.clone(),
            writable: !self.request.read_only,
            propagation,
        }
    }
}

/// The two directories of one container.
#[derive(Debug, Clone)]
pub(crate) struct Dirs {
    /// `<root>/containers/<id>`.
    pub(crate) state: PathBuf,
    /// `<run>/containers/<id>`.
    pub(crate) run: PathBuf,
}

impl Dirs {
    pub(crate) fn record(&self) -> Result<Record> {
        let path = self.state.join("config.json");
        let record: Option<Record> = read_json(&path)?;
        record.map(Record::of_this_version).ok_or_else(|| {
            Error::new(Kind::Corrupt, "read", path.display())
                .because("the container's description is missing")
                .hint("remove the container: tare rm -f ID")
        })
    }

    pub(crate) fn begun(&self) -> Result<Option<Begun>> {
        read_json(&self.state.join("started.json"))
    }

    pub(crate) fn exit(&self) -> Result<Option<Exit>> {
        read_json(&self.state.join("exit.json"))
    }

    pub(crate) fn status(&self) -> Result<Option<Status>> {
        read_json(&self.run.join("status.json"))
    }

    pub(crate) fn write_status(&self, status: &Status) -> Result<()> {
        write_json(&self.run, "status.json", status, Durable::No)
    }

    pub(crate) fn write_exit(&self, exit: &Exit) -> Result<()> {
        write_json(&self.state, "exit.json", exit, Durable::No)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Takes the lock, without waiting; `None` if somebody holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<OwnedFd>> {
        make_private(&self.run)?;
        let path = self.run.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
            // Whoever held it has removed the directory just now.
            Err(rustix::io::Errno::NOENT) => return self.try_lock(),
            other => other.map_err(|e| Error::io("open", path.display(), e))?,
        };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            // Whoever removed the directory meanwhile removed this lock's name: a lock that nobody can find is none.
            Ok(()) if is_at(&fd, &path) => Ok(Some(fd)),
            Ok(()) => self.try_lock(),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::io("lock", path.display(), e)),
        }
    }

    /// Removes the run directory. For whoever holds the lock: it goes last, since others may take it anew as soon as its
    /// name is gone, and what they then put here must stay.
    pub(crate) fn remove_run(&self) -> Result<()> {
        let lock = self.run.join("lock");
        for entry in std::fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let path = entry.path();
            if path != lock {
                let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
                let removed = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.during("remove", path.display())?;
            }
        }
        let _ = std::fs::remove_file(&lock);
        match std::fs::remove_dir(&self.run) {
            // Gone, or somebody is at work in it again.
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
                Ok(())
            }
            other => other.during("remove", self.run.display()),
        }
    }

    /// Removes what writers of files who were killed have left beside them. For whoever may write here.
    pub(crate) fn remove_asides(&self) {
        for entry in std::fs::read_dir(&self.state).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_aside =
                name.to_str().and_then(|n| n.strip_prefix('.')?.rsplit_once('.')).is_some_and(|(name, pid)| {
                    !name.is_empty() && !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())
                });
            if is_aside {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Takes the lock, waiting so long at most.
    pub(crate) fn lock_within(&self, patience: Duration) -> Result<Option<OwnedFd>> {
        let end = Instant::now() + patience;
        loop {
            let lock = self.try_lock()?;
            if lock.is_some() || Instant::now() >= end {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the supervisor lives: its lock is held.
    pub(crate) fn is_alive(&self) -> Result<bool> {
        let path = self.run.join("lock");
        let fd = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(e) => return Err(Error::io("open", path.display(), e)),
        };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(e) => Err(Error::io("probe lock", path.display(), e)),
        }
    }
}

/// Makes a directory and those above it as far as they are missing, for root alone: whoever reaches the socket in it can
/// write to a container.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    loop {
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
            // It was there, and whoever was done with it removed it before it could be looked at.
            Err(e)
                if e.kind() == std::io::ErrorKind::AlreadyExists
                    && std::fs::symlink_metadata(path).map_or(true, |m| m.is_dir()) => {}
            other => return other.during("make", path.display()),
        }
    }
}

pub(crate) fn is_at(fd: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(fd), rustix::fs::stat(path)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// Whether a file must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

/// Reads a JSON file; `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(b) => b,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path.display(), e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(v) => Ok(Some(v)),
        // What was not synced before a power cut may be there, and empty.
        Err(_) if bytes.iter().all(|b| *b == 0) => Ok(None),
        Err(e) => Err(Error::new(Kind::Corrupt, "read", path.display()).because(e)),
    }
}

/// Writes a JSON file: aside, then renamed.
pub(crate) fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T, durable: Durable) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| Error::new(Kind::Invalid, "serialise", name).because(e))?;
    write_file(dir, name, &text, durable)
}

/// Writes a file: aside, then renamed.
pub(crate) fn write_file(dir: &Path, name: &str, content: &[u8], durable: Durable) -> Result<()> {
    use std::io::Write;
    let aside = dir.join(format!(".{name}.{}", std::process::id()));
    let path = dir.join(name);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(content)?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        std::fs::rename(&aside, &path)?;
        if durable == Durable::Yes {
            std::fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&aside);
        Error::io("write", path.display(), e)
    })
}

/// This boot's identity (/proc/sys/kernel/random/boot_id).
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).during("read", path)?.trim().to_owned())
}

/// Start time of a process in clock ticks since boot; `None` if there is no such process.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and parentheses: fields are counted behind its last one.
    stat[stat.rfind(')')? + 2..].split(' ').nth(19)?.parse().ok()
}

/// A pidfd of the process that had this pid and start time, if it still is there.
pub(crate) fn open_process(pid: i32, start: u64) -> Option<OwnedFd> {
    let raw = rustix::process::Pid::from_raw(pid)?;
    let fd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()).ok()?;
    (start_time(pid)? == start).then_some(fd)
}

/// Reads a small file whole; empty if it is not there.
pub(crate) fn read_or_empty(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
