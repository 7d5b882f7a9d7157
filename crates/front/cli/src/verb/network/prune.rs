use crate::asking::confirm;
use crate::context::Context;
use crate::filter::Filters;
use crate::out::Out;
use crate::time;
use crate::verb::Build;
use clap::Args;
use jiff::Timestamp;
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
    /// Only those that satisfy a condition
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let until = filters.get("until").last().map(|t| time::point("--filter until", t, Timestamp::now())).transpose()?;
    let engine = context.engine()?;
    if !args.force {
        confirm("This removes all networks that no container is on.", "prune")?;
    }
    let old = |created: i64| until.is_none_or(|t| i128::from(created) < t.as_nanosecond());
    let removed = engine.network_prune(&|n| old(n.created) && filters.labels(&n.labels))?;
    let mut out = Out::new();
    removed.iter().try_for_each(|name| out.line(name))?;
    out.finish()?;
    Ok(0)
}
