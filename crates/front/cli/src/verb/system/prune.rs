use crate::context::Context;
use crate::pruning::{self, PruningArgs};
use crate::verb::Build;
use clap::Args;
use tare_engine::{Pruned, Unneeded};
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove everything that is not used
///
/// Containers that do not run, networks that no container is on, images without a name (with -a all that no container uses),
/// with --volumes anonymous volumes that no container uses; and whatever a process that was killed has left behind. Filters:
/// label, label!, until (a time, or how long ago: 24h).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare system prune -f
  tare system prune -af --volumes
  tare system prune -f --filter until=24h")]
pub(crate) struct PruneArgs {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Also anonymous volumes
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    pruning: PruningArgs,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let conditions = args.pruning.conditions(&[])?;
    if args.volumes && !conditions.filters().get("until").is_empty() {
        return Err(Error::new(Kind::Invalid, "invalid", "--filter until")
            .because("it says nothing about volumes, and --volumes is given")
            .hint("prune volumes by themselves: tare volume prune"));
    }
    let engine = context.engine()?;
    let images = if args.all { "all images that no container uses" } else { "all images without a name" };
    let volumes = if args.volumes { ", all anonymous volumes that no container uses" } else { "" };
    args.pruning.confirm(&format!(
        "This removes all containers that do not run, all networks that no container is on, {images}{volumes}, and \
             what nothing refers to."
    ))?;
    let mut pruned = engine.container_prune(&|c| conditions.hold(pruning::nanos(&c.created_at), &c.request.labels))?;
    pruned.networks = engine.network_prune(&|n| conditions.hold(n.created, &n.labels))?;
    if args.volumes {
        let (volumes, bytes) = engine.volume_prune(false, &|v| conditions.filters().labels(&v.labels))?;
        pruned.volumes = volumes;
        pruned.bytes += bytes;
    }
    let which = if args.all { Unneeded::Unused } else { Unneeded::Nameless };
    let images = engine.image_prune(which, &|i| conditions.hold(i.created, &i.config.config.labels))?;
    let left = engine.collect()?;
    let bytes = pruned.bytes + images.bytes + left.bytes;
    let deleted = images.deleted.into_iter().chain(left.layers).collect();
    pruning::print(&Pruned { untagged: images.untagged, deleted, bytes, ..pruned })?;
    Ok(0)
}
