//! Arguments that more than a verb's own file is made of: what was typed.

use clap::{ArgMatches, Args};
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// What clap hands to a verb, as the verb's own type.
pub(crate) fn parse<T: clap::FromArgMatches>(matches: &ArgMatches) -> Result<T> {
    T::from_arg_matches(matches).map_err(|e| Error::new(Kind::Invalid, "read the arguments", "").because(e))
}

/// Booleans as Go reads them.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Make a container from a bundle; its program waits for `start`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the first process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File for the id of the first process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Do not use pivot_root(2): for a root filesystem on the initial ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the session keyring of the caller
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Hand down this many descriptors beyond standard error and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Name of the new container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Run a further process in a running container
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Unix socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Working directory inside
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cwd: Option<String>,
    /// Environment variable, NAME=value
    #[arg(short, long, value_name = "VARIABLE")]
    pub(crate) env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User and group by number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Supplementary group by number
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// File with the specification's process object
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return once the program runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File for the id of the process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Refuse new privileges to the process; =false allows them where the container's own process has none
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = |text: &str| boolean(text).ok_or("expected true or false"))]
    pub(crate) no_new_privs: Option<bool>,
    /// Capability to add
    #[arg(short, long, value_name = "NAME")]
    pub(crate) cap: Vec<String>,
    /// Hand down this many descriptors beyond standard error and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Group below the container's own
    #[arg(long, value_name = "[CONTROLLER:]GROUP")]
    pub(crate) cgroup: Vec<String>,
    /// Do not refuse a container that is paused
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
