use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <UnpauseArgs as Args>::augment_args;

/// Let frozen containers go on
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare unpause web")]
pub(crate) struct UnpauseArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: UnpauseArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| {
        engine.unpause(name)?;
        out::print(name)
    })
}
