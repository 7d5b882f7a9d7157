use crate::context::Context;
use crate::making::{self, Made, Purpose};
use crate::state;
use clap::Args;
use std::path::PathBuf;
use tare_model::Result;

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

pub(super) fn main(args: CreateArgs, context: &Context) -> Result<u8> {
    context.protect()?;
    let Made { container, launch, .. } = making::make(context, &args, Purpose::Create)?;
    // From here on the process belongs to whoever starts or deletes the container.
    launch.leave();
    state::unlock(&container.dir);
    Ok(0)
}
