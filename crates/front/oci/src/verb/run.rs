use super::create::CreateArgs;
use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Create and start a container, and wait for its end
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return once the program runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not delete the container when its program has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not become the parent of processes that lose theirs
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

pub(super) fn main(args: RunArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "run", ""))
}
