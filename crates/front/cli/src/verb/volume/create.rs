use crate::context::Context;
use crate::out;
use crate::parse::env;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <CreateArgs as Args>::augment_args;

/// Make a volume
///
/// Prints its name. A volume of that name that is there already is no failure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume create data
  tare volume create --label team=a")]
pub(crate) struct CreateArgs {
    /// Label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Name; a random one if missing
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

pub(in crate::verb) fn main(args: CreateArgs, context: &Context) -> Result<u8> {
    let labels = env::labels("--label", args.label)?;
    out::print(context.engine()?.volume_create(args.name.as_deref(), labels)?.name)?;
    Ok(0)
}
