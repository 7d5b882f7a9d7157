use crate::context::Context;
use clap::Args;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// Bring a saved container back
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Directory of the image files
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) image_path: Option<PathBuf>,
    /// Directory of work files and logs
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Allow connections of Unix sockets to the outside
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// Allow processes of a shell session
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Handle file locks
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: Option<String>,
    /// Namespace whose properties are left out
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// Let memory images share what is equal
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// Bring memory only when it is used
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Return once the program runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File for the id of the first process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Do not become the parent of processes that lose theirs
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Do not use pivot_root(2)
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Security profile, TYPE:NAME
    #[arg(long, value_name = "PROFILE")]
    pub(crate) lsm_profile: Option<String>,
    /// Security context of mounts
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: RestoreArgs, _context: &Context) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "restore", args.id)
        .because("this runtime does not save and restore processes")
        .hint("`features` says so too, in org.opencontainers.runc.checkpoint.enabled; leave the container running, or end it"))
}
