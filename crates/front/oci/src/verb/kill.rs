use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Send a signal to the first process of a container
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal every process of the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Name, with or without SIG, or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub(crate) signal: String,
}

pub(super) fn main(args: KillArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "kill", ""))
}
