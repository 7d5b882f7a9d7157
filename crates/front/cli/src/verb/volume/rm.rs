use crate::context::Context;
use crate::errors::each;
use crate::out;
use crate::verb::Build;
use clap::Args;
use tare_model::{Kind, Result};

pub(in crate::verb) const ARGS: Build = <RmArgs as Args>::augment_args;

/// Remove volumes and what they hold
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume rm data")]
pub(crate) struct RmArgs {
    /// Names that do not exist are no failure
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub(in crate::verb) fn main(args: RmArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.volumes, |name| match engine.volume_remove(name, args.force) {
        Err(e) if args.force && e.kind() == Kind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => out::print(name),
    })
}
