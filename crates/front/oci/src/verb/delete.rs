use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Remove what is left of a container
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kill what still runs; no failure if there is no such container
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: DeleteArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "delete", ""))
}
