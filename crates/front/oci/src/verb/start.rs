use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Let the program of a created container run
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: StartArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "start", ""))
}
