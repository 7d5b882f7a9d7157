use crate::context::Context;
use crate::pruning::{self, PruningArgs};
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove containers that do not run
///
/// Filters: label, label!, until (a time, or how long ago: 24h). Volumes stay.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare container prune -f
  tare container prune -f --filter until=24h --filter label!=keep")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pruning: PruningArgs,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let conditions = args.pruning.conditions(&[])?;
    let engine = context.engine()?;
    args.pruning.confirm("This removes all containers that do not run, and what they have changed.")?;
    let pruned = engine.container_prune(&|c| conditions.hold(pruning::nanos(&c.created_at), &c.request.labels))?;
    pruning::print(&pruned)?;
    Ok(0)
}
