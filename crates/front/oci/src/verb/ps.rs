use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// List the processes of a container
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Options for ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
}

pub(super) fn main(args: PsArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "ps", ""))
}
