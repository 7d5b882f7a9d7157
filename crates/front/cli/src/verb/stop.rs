use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <StopArgs as Args>::augment_args;

/// Ask containers to end, and kill those that do not
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare stop web
  tare stop -t 30 -s SIGINT web db")]
pub(crate) struct StopArgs {
    /// Signal to ask with; the container's own if missing
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing; the container's own, or 10
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: StopArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| {
        engine.stop(name, args.signal.as_deref(), args.timeout)?;
        out::print(name)
    })
}
