use super::checkpoint::{ImageArgs, refusal};
use crate::context::Context;
use clap::Args;
use std::path::PathBuf;
use tare_model::Result;

/// Bring a saved container back
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    image: ImageArgs,
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
    Err(refusal("restore", args.id))
}
