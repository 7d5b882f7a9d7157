//! The flags that make a container: of `run` and `create`.

use crate::network_args::NetworkArgs;
use crate::parse::limits::LimitArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// A container as typed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ContainerArgs {
    /// Name of the container; made up if missing
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Remove the container, and its anonymous volumes, when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a pseudo-terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment variable; a bare NAME takes the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]", allow_hyphen_values = true)]
    pub(crate) env: Vec<String>,
    /// File of environment variables, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory; made if missing
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(crate) workdir: Option<String>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Further group, name or number
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Replaces the image's entrypoint; empty: none
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) entrypoint: Option<String>,
    /// Small init before the command, which forwards signals and reaps
    #[arg(long)]
    pub(crate) init: bool,
    /// Label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// File of labels, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Annotation of the runtime specification
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds that stop waits before it kills
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u32>,
    /// File that receives the container's id; must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: PullPolicy,
    /// Say nothing of pulling
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Directory to run in, instead of an image
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) rootfs: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) more_limits: MoreLimitArgs,
    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,
    /// Image, command and its arguments; no flags of tare after the image
    #[arg(value_name = "IMAGE [COMMAND [ARGUMENT...]]", trailing_var_arg = true, hide = true)]
    pub(crate) words: Vec<String>,
}

/// When `run` and `create` pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Even if the image is here
    Always,
    /// If the image is not here
    #[default]
    Missing,
    /// Fail if the image is not here
    Never,
}

/// Flags of mounts and devices.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileArgs {
    /// Host directory or named volume; options ro, nocopy, rshared, ...
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// type=bind|volume|tmpfs,src=...,dst=...,ro,create,...
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(crate) mount: Vec<String>,
    /// Memory at a directory; options size, mode, noexec, ...
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// The root filesystem is read-only inside
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Size of /dev/shm; 64m if missing
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Host device
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub(crate) device: Vec<String>,
}

/// Limits of processes, which only a new container takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct MoreLimitArgs {
    /// Resource limit, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// How gladly the kernel kills it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,
    /// How gladly it is swapped out, 0 to 100 (cgroup v1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1..=100))]
    pub(crate) memory_swappiness: Option<i64>,
    /// At the memory limit processes wait instead of being killed (cgroup v1)
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
}

/// Flags of isolation.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct IsolationArgs {
    /// Capability to add, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to take away, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// All capabilities and devices, no system call filter, nothing masked
    #[arg(long)]
    pub(crate) privileged: bool,
    /// no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Kernel parameter of its namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// PID namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// IPC namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// UTS namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Cgroup namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// User namespace: host, private[:size=N] or keep-id[:uid=N,gid=N]
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
}
