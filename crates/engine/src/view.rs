//! What callers are told: plain data that fronts print, filter and serialise.

use crate::request::RunRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_model::Digest;
use tare_model::address::{IpNet, MacAddress};
use tare_model::network::Network;
use tare_network::Transport;

pub use tare_network::Counters;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process ended.
    Exited,
}

impl State {
    /// docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Paused => "paused",
            State::Exited => "exited",
        }
    }
}

/// How a container's last run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// Exit code as docker gives it: 0 to 255; 128 + n for signal n.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed something in it for lack of memory.
    pub oom_killed: bool,
    /// Why it could not start or was lost, in words: `supervisor lost`, `host rebooted`, ….
    pub reason: Option<String>,
    /// RFC 3339 with nanoseconds, UTC.
    pub finished_at: String,
}

/// A published port as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Host address; absent for all addresses of both families.
    pub host_ip: Option<IpAddr>,
    /// Host port.
    pub host_port: u16,
    /// Port inside.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
}

/// A container's place in one network: as it is while the container runs, as it will be otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    /// The network's name.
    pub name: String,
    /// The network's id.
    pub id: String,
    /// The device inside; empty while it does not run, unless asked for by name.
    pub interface: String,
    /// The host's end of a veth pair, while it runs.
    pub link: Option<String>,
    /// Its addresses there, with the prefix length of the subnet.
    pub addresses: Vec<IpNet>,
    /// Next hops of its default routes through this network.
    pub gateways: Vec<IpAddr>,
    /// Hardware address.
    pub mac: Option<MacAddress>,
    /// Further names of it there.
    pub aliases: Vec<String>,
}

/// A network, and who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// How it is defined.
    #[serde(flatten)]
    pub network: Network,
    /// RFC 3339 with nanoseconds, UTC.
    pub created_at: String,
    /// It is the default network, which is never removed.
    pub is_default: bool,
    /// The containers with an address or a place in it, running or not, by name.
    pub containers: Vec<NetworkMember>,
}

/// One container of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMember {
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Whether it runs, and so is connected just now.
    pub running: bool,
    /// Its place.
    pub place: NetworkView,
}

/// One mount as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountView {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// A volume's name.
    pub name: Option<String>,
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub target: String,
    /// Writable inside.
    pub writable: bool,
    /// Propagation.
    pub propagation: String,
}

/// All that is known of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub created_at: String,
    /// The image's id; none for `--rootfs`.
    pub image_id: Option<Digest>,
    /// The image as it was named, or the rootfs directory.
    pub image: String,
    /// What was asked for, completed with the image's defaults.
    pub request: RunRequest,
    /// argv as it runs: entrypoint and command together.
    pub args: Vec<String>,
    /// Environment as it runs.
    pub env: Vec<String>,
    /// Where it is in its life.
    pub state: State,
    /// Process id of its first process on the host, while it runs.
    pub pid: Option<i32>,
    /// Process id of its supervisor, while it runs.
    pub supervisor_pid: Option<i32>,
    /// When it was last started, RFC 3339.
    pub started_at: Option<String>,
    /// How the last run ended.
    pub exit: Option<Exit>,
    /// Its networks, in the order in which they were asked for. Empty without a stack of its own.
    pub networks: Vec<NetworkView>,
    /// What to type on the host to be in its network stack, while it runs.
    pub enter_network: Option<String>,
    /// Published ports, while it runs.
    pub ports: Vec<Port>,
    /// Mounts beside the system's own.
    pub mounts: Vec<MountView>,
    /// Directories of the read-only layers, top first.
    pub lowers: Vec<String>,
    /// Directory of its own changes; none for `--rootfs`.
    pub upper: Option<String>,
    /// Its log's path.
    pub log_path: String,
    /// Path of its cgroup below each hierarchy's mount.
    pub cgroup: String,
    /// Names of capabilities in the bounding set.
    pub capabilities: Vec<String>,
    /// Warnings of the last start: limits that had to be lowered, ….
    pub warnings: Vec<String>,
}

/// Labels, the image's and the request's merged.
pub type Labels = BTreeMap<String, String>;

/// One namespace of a process, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// `pid`, `net`, `mnt`, `ipc`, `uts`, `user`, `cgroup`, `time`, ….
    pub kind: String,
    /// Inode number: the namespace's identity.
    pub inode: u64,
    /// Whether it is the one of the host's first process (of the caller's view).
    pub host: bool,
    /// Whether other processes outside of the container (or process tree) are in it, and which (a few).
    pub shared_with: Vec<Sharer>,
}

/// Who else is in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharer {
    /// Process id.
    pub pid: i32,
    /// Its command name.
    pub command: String,
    /// The container it belongs to, if it is one of ours.
    pub container: Option<String>,
}

/// A reading of a container's resource use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Container id.
    pub id: String,
    /// Container name.
    pub name: String,
    /// Nanoseconds since boot when it was read.
    pub at_ns: u64,
    /// Processor time used, nanoseconds.
    pub cpu_total_ns: u64,
    /// Of it in user mode.
    pub cpu_user_ns: u64,
    /// Of it in the kernel.
    pub cpu_system_ns: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// Time for which it was throttled, nanoseconds.
    pub throttled_ns: u64,
    /// Memory in use without reclaimable page cache, bytes.
    pub memory: u64,
    /// Its limit; the host's memory where none is set.
    pub memory_limit: u64,
    /// Tasks.
    pub pids: u64,
    /// Their limit.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_write: u64,
    /// Bytes received.
    pub net_rx: u64,
    /// Bytes sent.
    pub net_tx: u64,
    /// What each device of its own has carried, loopback apart.
    pub interfaces: Vec<Counters>,
}

/// A change of a container's filesystem against its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute path inside.
    pub path: String,
    /// `A` added, `C` changed, `D` deleted.
    pub kind: char,
}

/// One line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// From standard error.
    pub stderr: bool,
    /// The bytes, line end included where there was one.
    pub text: Vec<u8>,
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    /// Its labels.
    pub labels: Labels,
    /// Its directory on the host.
    pub mountpoint: String,
    /// Made by a container without a name, for itself.
    pub anonymous: bool,
    /// Ids of the containers that use it.
    pub used_by: Vec<String>,
}
