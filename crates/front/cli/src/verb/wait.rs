use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <WaitArgs as Args>::augment_args;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare wait job
  test \"$(tare wait job)\" = 0 && echo done")]
pub(crate) struct WaitArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: WaitArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| out::print(engine.wait(name)?.code))
}
