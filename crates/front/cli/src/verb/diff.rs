use super::Build;
use crate::context::Context;
use crate::out::Out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <DiffArgs as Args>::augment_args;

/// List what a container has changed: A added, C changed, D deleted
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare diff web")]
pub(crate) struct DiffArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) fn main(args: DiffArgs, context: &Context) -> Result<u8> {
    let mut out = Out::new();
    for change in context.engine()?.diff(&args.container)? {
        out.line(format_args!("{} {}", change.kind, change.path))?;
    }
    out.finish()?;
    Ok(0)
}
