use crate::context::Context;
use crate::pruning::{self, PruningArgs};
use crate::verb::Build;
use clap::Args;
use tare_engine::Unneeded;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove images without a name, or with -a all that no container uses
///
/// Filters: label, label!, until (a time, or how long ago: 24h; of the image's own date), dangling.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image prune -f
  tare image prune -af --filter until=720h")]
pub(crate) struct PruneArgs {
    /// All that no container was made from
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: PruningArgs,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let conditions = args.pruning.conditions(&["dangling"])?;
    let nameless = conditions.filters().boolean("dangling")?.unwrap_or(!args.all);
    let which = if nameless { Unneeded::Nameless } else { Unneeded::Unused };
    let engine = context.engine()?;
    let text = if nameless { "without a name" } else { "that no container uses" };
    args.pruning.confirm(&format!("This removes all images {text}."))?;
    pruning::print(&engine.image_prune(which, &|i| conditions.hold(i.created, &i.config.config.labels))?)?;
    Ok(0)
}
