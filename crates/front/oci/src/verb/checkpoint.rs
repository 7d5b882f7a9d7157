use crate::context::Context;
use clap::Args;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// What both ways have: where the images lie, and what they hold
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
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
}

/// Save the state of a running container
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Directory of earlier images, relative to the image directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// Descriptor that is told when pages can be fetched
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) status_fd: i32,
    /// Page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// Save memory only
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: CheckpointArgs, _context: &Context) -> Result<u8> {
    Err(refusal("checkpoint", args.id))
}

/// Neither is there.
pub(super) fn refusal(verb: &'static str, id: String) -> Error {
    Error::new(Kind::Unsupported, verb, id).because("this runtime does not save and restore processes").hint(
        "`features` says so too, in org.opencontainers.runc.checkpoint.enabled; leave the container running, or end it",
    )
}
