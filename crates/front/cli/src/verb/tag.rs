use super::Build;
use crate::context::Context;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <TagArgs as Args>::augment_args;

/// Give an image a further name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare tag debian:12 127.0.0.1:5000/team/debian:12")]
pub(crate) struct TagArgs {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The further name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

pub(super) fn main(args: TagArgs, context: &Context) -> Result<u8> {
    context.engine()?.store().tag(&args.image, &args.name.parse()?)?;
    Ok(0)
}
