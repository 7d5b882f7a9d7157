use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <PauseArgs as Args>::augment_args;

/// Freeze all processes of containers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare pause web")]
pub(crate) struct PauseArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: PauseArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| {
        engine.pause(name)?;
        out::print(name)
    })
}
