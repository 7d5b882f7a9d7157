use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Freeze every process of a container
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: PauseArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "pause", ""))
}
