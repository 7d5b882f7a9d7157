use crate::context::Context;
use crate::out::Out;
use crate::pruning::PruningArgs;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove networks that no container is on
///
/// Never the default one. Filters: label, label!, until (a time, or how long ago: 24h).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network prune -f
  tare network prune -f --filter until=24h --filter label=team=a")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pruning: PruningArgs,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let conditions = args.pruning.conditions(&[])?;
    let engine = context.engine()?;
    args.pruning.confirm("This removes all networks that no container is on.")?;
    let removed = engine.network_prune(&|n| conditions.hold(n.created, &n.labels))?;
    let mut out = Out::new();
    removed.iter().try_for_each(|name| out.line(name))?;
    out.finish()?;
    Ok(0)
}
