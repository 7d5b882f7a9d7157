use crate::context::Context;
use crate::filter::Filters;
use crate::pruning::{self, PruningArgs};
use crate::verb::Build;
use clap::Args;
use tare_engine::Pruned;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove volumes that no container uses
///
/// Anonymous ones, unless told otherwise. Filters: label, label!, all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume prune -f
  tare volume prune -af --filter label!=keep")]
pub(crate) struct PruneArgs {
    /// Named ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: PruningArgs,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let filters = Filters::parse(&args.pruning.filter, &["label", "label!", "all"])?;
    let all = args.all || filters.boolean("all")?.unwrap_or(false);
    let engine = context.engine()?;
    let which = if all { "all" } else { "all anonymous" };
    args.pruning.confirm(&format!("This removes {which} volumes that no container uses, and what they hold."))?;
    let (volumes, bytes) = engine.volume_prune(all, &|v| filters.labels(&v.labels))?;
    pruning::print(&Pruned { volumes, bytes, ..Pruned::default() })?;
    Ok(0)
}
