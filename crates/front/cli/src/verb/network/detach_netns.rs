use crate::context::Context;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <DetachArgs as Args>::augment_args;

/// Take away the name of a container's network namespace
///
/// Only names that attach-netns gave.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network detach-netns web
  tare network detach-netns web blue")]
pub(crate) struct DetachArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// One of its names; all if missing
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(in crate::verb) fn main(args: DetachArgs, context: &Context) -> Result<u8> {
    context.engine()?.netns_detach(&args.container, args.name.as_deref())?;
    Ok(0)
}
