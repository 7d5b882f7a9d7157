use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// List the containers below the root directory
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

pub(super) fn main(args: ListArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "list", ""))
}
