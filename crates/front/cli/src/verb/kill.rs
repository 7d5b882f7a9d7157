use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <KillArgs as Args>::augment_args;

/// Send a signal to the first process of containers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare kill web
  tare kill -s HUP web")]
pub(crate) struct KillArgs {
    /// Name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: KillArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| {
        engine.kill(name, &args.signal)?;
        out::print(name)
    })
}
