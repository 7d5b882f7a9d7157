use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Let a frozen container go on
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: ResumeArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "resume", ""))
}
