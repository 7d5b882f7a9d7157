use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Print the state of a container as JSON
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: StateArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "state", ""))
}
