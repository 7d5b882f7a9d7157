use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Print what this runtime knows of the specification as JSON
#[derive(Debug, Args)]
pub(crate) struct FeaturesArgs {}

pub(super) fn main(args: FeaturesArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "features", ""))
}
