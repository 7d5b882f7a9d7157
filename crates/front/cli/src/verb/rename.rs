use super::Build;
use crate::context::Context;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <RenameArgs as Args>::augment_args;

/// Give a container another name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare rename web web-old")]
pub(crate) struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn main(args: RenameArgs, context: &Context) -> Result<u8> {
    context.engine()?.rename(&args.container, &args.name)?;
    Ok(0)
}
