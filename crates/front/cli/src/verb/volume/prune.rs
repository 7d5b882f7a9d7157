use crate::asking::confirm;
use crate::context::Context;
use crate::filter::Filters;
use crate::pruning;
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
    /// Only those that satisfy a condition
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "all"])?;
    let all = args.all || filters.boolean("all")?.unwrap_or(false);
    let engine = context.engine()?;
    if !args.force {
        let which = if all { "all" } else { "all anonymous" };
        confirm(&format!("This removes {which} volumes that no container uses, and what they hold."), "prune")?;
    }
    let (volumes, bytes) = engine.volume_prune(all, &|v| filters.labels(&v.labels))?;
    pruning::print(&Pruned { volumes, bytes, ..Pruned::default() })?;
    Ok(0)
}
