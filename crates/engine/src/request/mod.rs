//! What a caller wants, once it is clear what was meant: all fronts meet here.
//!
//! A front turns what was typed or sent into these types; nothing below knows flags, JSON of an API, or defaults of a
//! command line. Everything is plain data, kept in the container's `config.json`, so that `start` repeats what `create`
//! was told.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tare_model::runtime_spec::{LinuxResources, LinuxSeccomp, PosixRlimit};

mod network;

pub use network::{Attachment, Dns, HostAddress, HostEntry, NetworkMode, NetworkRequest, PortRequest};
pub use tare_model::network::{Driver, Route};
pub use tare_network::{Rate, Transport};

/// A container that shall be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRequest {
    /// Its name; made up where absent.
    pub name: Option<String>,
    /// Where its root filesystem comes from.
    pub source: Source,
    /// Replaces the image's CMD; empty keeps it (unless `entrypoint` is given, which drops it).
    pub command: Vec<String>,
    /// Replaces the image's ENTRYPOINT; `Some(vec![])` removes it.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, added to the image's; a bare `NAME` removes it. Later entries win.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers; the image's USER where absent.
    pub user: Option<String>,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
    /// Working directory; made if missing.
    pub workdir: Option<String>,
    /// Host name; the short id where absent.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Labels, over the image's.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations of the runtime specification.
    pub annotations: BTreeMap<String, String>,
    /// Give it a pseudo-terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// Mounts asked for; the image's VOLUMEs are added by the engine.
    pub mounts: Vec<MountRequest>,
    /// The root filesystem is read-only inside.
    pub read_only: bool,
    /// Put a small init before the command that forwards signals and reaps.
    pub init: bool,
    /// Cgroup limits. Device rules are added by the engine.
    pub limits: LinuxResources,
    /// Resource limits.
    pub ulimits: Vec<PosixRlimit>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Size of /dev/shm in bytes; 64 MiB where absent.
    pub shm_size: Option<u64>,
    /// Capabilities added to the default set: `NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set.
    pub cap_drop: Vec<String>,
    /// All capabilities, all devices, no seccomp filter, nothing masked.
    pub privileged: bool,
    /// The rest of what protects the host.
    pub security: Security,
    /// Host devices to give it.
    pub devices: Vec<DeviceRequest>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// PID namespace.
    pub pid: NamespaceMode,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// UTS namespace.
    pub uts: NamespaceMode,
    /// Cgroup namespace.
    pub cgroupns: NamespaceMode,
    /// User namespace.
    pub userns: UserNamespace,
    /// Whose network stack it has.
    pub network: NetworkMode,
    /// The networks of its own stack, in order; none: the default one.
    pub attachments: Vec<Attachment>,
    /// Ports to publish.
    pub ports: Vec<PortRequest>,
    /// Publish every port that it or its image exposes, each on a free one of the host.
    pub publish_all: bool,
    /// Its resolver.
    pub dns: Dns,
    /// More names in its /etc/hosts.
    pub hosts: Vec<HostEntry>,
    /// How fast it may send and receive, over all its networks of one device each.
    pub net_rate: Rate,
    /// Ports it says that it listens on (`port/proto`), over the image's.
    pub expose: Vec<String>,
    /// Name or number of the signal that `stop` sends; the image's, or SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds that `stop` waits before SIGKILL; 10 where absent.
    pub stop_timeout: Option<u32>,
    /// Remove it, and its anonymous volumes, when it ends.
    pub remove: bool,
}

/// Which users of the host a container's users are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespace {
    /// The same: the host's user namespace.
    #[default]
    Host,
    /// None of the host's: a range of ids that no other container has.
    Private {
        /// How many ids, from 0 on; 65,536 where absent.
        size: Option<u32>,
    },
    /// As `Private`, but for one: the caller.
    KeepId {
        /// The caller's user id inside; the same as outside where absent.
        uid: Option<u32>,
        /// The caller's group id inside; the same as outside where absent.
        gid: Option<u32>,
    },
}

/// Where a root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An image: name, id or id prefix.
    Image(String),
    /// A directory of the host, used as it is, for reading and writing.
    Rootfs(PathBuf),
}

impl Default for Source {
    fn default() -> Self {
        Source::Image(String::new())
    }
}

/// One mount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path inside.
    pub target: String,
    /// Not writable inside.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Make a missing source directory instead of failing.
        create: bool,
        /// Propagation of mount events; private where absent.
        propagation: Option<Propagation>,
        /// Also bind what is mounted below the source.
        recursive: bool,
        /// In a user namespace, show owners as the container's ids of the same number.
        #[serde(default)]
        map_ids: bool,
    },
    /// A named volume, made if missing; anonymous where the name is absent.
    Volume {
        /// Its name.
        name: Option<String>,
        /// Fill an empty one with what the image has at the target.
        copy_up: bool,
        /// A directory inside the volume.
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; half of the memory where absent.
        size: Option<u64>,
        /// Permission bits; 1777 where absent.
        mode: Option<u32>,
        /// Further mount options: `exec`, `uid=…`, ….
        options: Vec<String>,
    },
}

impl MountKind {
    /// Whether it shows a container with a user namespace its owners as ids of the same number there.
    pub fn maps_ids(&self) -> bool {
        match self {
            MountKind::Bind { map_ids, .. } => *map_ids,
            MountKind::Volume { .. } => true,
            MountKind::Tmpfs { .. } => false,
        }
    }
}

/// How mount events travel between a bind mount and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Not at all, recursively.
    Rprivate,
    /// Both ways.
    Shared,
    /// Both ways, recursively.
    Rshared,
    /// From the host only.
    Slave,
    /// From the host only, recursively.
    Rslave,
}

/// What protects the host beside capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Nothing of /proc and /sys is masked or read-only.
    pub systempaths_unconfined: bool,
    /// AppArmor profile; an error where the kernel has none.
    pub apparmor: Option<String>,
}

/// Which system call filter a container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// tare's own allow-list.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A given profile.
    Profile(LinuxSeccomp),
}

/// A host device to give to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Path on the host: a device node, or a directory of them.
    pub source: PathBuf,
    /// Path inside.
    pub target: String,
    /// Letters of `rwm`.
    pub access: String,
}

/// Whose namespace of one kind a container lives in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's: its name, id or id prefix.
    Container(String),
}

/// A process to run in a running container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    /// Command and arguments.
    pub command: Vec<String>,
    /// `NAME=value`, added to the container's.
    pub env: Vec<String>,
    /// `user[:group]`; the container's where absent.
    pub user: Option<String>,
    /// Working directory; the container's where absent.
    pub workdir: Option<String>,
    /// Give it a pseudo-terminal.
    pub tty: bool,
    /// Rows and columns of that terminal.
    pub size: Option<(u16, u16)>,
    /// Keep standard input open.
    pub stdin: bool,
    /// All capabilities.
    pub privileged: bool,
    /// Return once it runs.
    pub detach: bool,
}

/// A new image from a container's changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Name of the image, or none.
    pub reference: Option<tare_model::Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// Message in its history.
    pub message: Option<String>,
    /// Dockerfile instructions: `CMD …`, `ENV …`, ….
    pub changes: Vec<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Seconds since 1970 (SOURCE_DATE_EPOCH): the image is of then, and nothing in it is younger.
    pub epoch: Option<i64>,
}

/// How `rm` removes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes, too.
    pub volumes: bool,
}
