use crate::asking::confirm;
use crate::context::Context;
use crate::out::Out;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove volumes that no container uses
///
/// Anonymous ones, unless told otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume prune -f
  tare volume prune -af")]
pub(crate) struct PruneArgs {
    /// Named ones too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    if !args.force {
        let which = if args.all { "all" } else { "all anonymous" };
        confirm(&format!("This removes {which} volumes that no container uses, and what they hold."), "prune")?;
    }
    let removed = engine.volume_prune(args.all)?;
    let mut out = Out::new();
    removed.iter().try_for_each(|name| out.line(name))?;
    out.finish()?;
    Ok(0)
}
