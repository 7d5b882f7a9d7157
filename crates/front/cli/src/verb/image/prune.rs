use crate::asking::confirm;
use crate::context::Context;
use crate::pruning::{self, Conditions};
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
    /// Only those that satisfy a condition
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let conditions = Conditions::parse(&args.filter, &["dangling"])?;
    let nameless = conditions.filters().boolean("dangling")?.unwrap_or(!args.all);
    let which = if nameless { Unneeded::Nameless } else { Unneeded::Unused };
    let engine = context.engine()?;
    if !args.force {
        let text = if nameless { "without a name" } else { "that no container uses" };
        confirm(&format!("This removes all images {text}."), "prune")?;
    }
    pruning::print(&engine.image_prune(which, &|i| conditions.hold(i.created, &i.config.config.labels))?)?;
    Ok(0)
}
